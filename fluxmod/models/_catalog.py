"""The rows of the notes: every model and layer, how to build it and what to feed it.

Read by the parity suite, the command line and the benchmarks. Imports neither framework.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np

from fluxmod._paths import nearest

__all__ = ["CATALOG", "Entry", "Input", "entry"]


@dataclass(frozen=True, slots=True)
class Input:
    """One argument in torch's layout; "N" in the shape stands for the batch size.

    ``high`` makes integers below it, ``pattern`` a named mask; otherwise values are N(0, 1).

    >>> Input(("N", 3)).make(4, np.random.default_rng(0)).shape
    (4, 3)
    """

    shape: tuple[int | str, ...]
    high: int | None = None
    pattern: str | None = None

    def make(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """Draw an array for a batch of this size."""
        shape = tuple(batch if size == "N" else int(size) for size in self.shape)
        if self.pattern == "causal":
            return np.triu(np.ones(shape, bool), 1)
        if self.pattern == "padding":
            lengths = rng.integers(1, shape[-1] + 1, shape[:-1])
            return np.arange(shape[-1]) >= lengths[..., None]
        if self.high is not None:
            return rng.integers(0, self.high, shape)
        return rng.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: a class or function of that name in ``fluxmod.models`` or in ``nn``.

    ``loss`` names the criterion the notes train it with, ``target`` its labels.
    """

    name: str
    note: str
    target_path: str
    args: tuple[Any, ...] = ()
    kwargs: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    inputs: tuple[Input, ...] = ()
    keywords: MappingProxyType[str, Input] = field(default_factory=lambda: MappingProxyType({}))
    call: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    loss: str = "MSELoss"
    classes: int | None = None
    batches: tuple[int, int] = (3, 5)

    @property
    def is_layer(self) -> bool:
        """Whether the row is a single layer of ``nn`` rather than a model."""
        return self.target_path.startswith("nn.")

    def torch(self) -> Any:
        """Build the torch module."""
        package = "torch" if self.is_layer else "fluxmod.models.torch"
        return _find(package, self.target_path)(*self.args, **self.kwargs)

    def flax(self, rngs: Any) -> Any:
        """Build the Flax module."""
        package = "fluxmod" if self.is_layer else "fluxmod.models.flax"
        build = _find(package, self.target_path)
        if _takes_rngs(build):
            return build(*self.args, **self.kwargs, rngs=rngs)
        return build(*self.args, **self.kwargs)

    def make(self, batch: int, seed: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Draw positional and keyword arguments in torch's layout."""
        rng = np.random.default_rng([seed, batch])
        args = tuple(spec.make(batch, rng) for spec in self.inputs)
        named = {name: spec.make(batch, rng) for name, spec in self.keywords.items()}
        return args, {**self.call, **named}


def entry(name: str) -> Entry:
    """Return the row of that name (upper or lower case).

    Raises:
        ValueError: no such row; the message lists those that are close, or all.

    >>> entry("SimpleCNN").note
    '001'
    """
    by_name = {row.name.lower(): row for row in CATALOG}
    if name.lower() not in by_name:
        names = [row.name for row in CATALOG]
        close = nearest(name, names) or names
        raise ValueError(f"models: no model is called {name!r}; there is {', '.join(close)}.")
    return by_name[name.lower()]


def _find(package: str, path: str) -> Any:
    module, _, name = f"{package}.{path}".rpartition(".")
    return getattr(import_module(module), name)


def _takes_rngs(build: Any) -> bool:
    import inspect

    function = build.__init__ if inspect.isclass(build) else build
    return "rngs" in inspect.signature(function).parameters


def _named(**kwargs: Any) -> MappingProxyType[str, Any]:
    return MappingProxyType(kwargs)


_IMAGE = Input(("N", 1, 28, 28))
_VLA_SIZES = {"image_size": 20, "patch_size": 5, "vocab_size": 19, "max_tokens": 9, "dim": 24}

CATALOG: tuple[Entry, ...] = (
    Entry("Model", "000, 004", "Model", inputs=(Input(("N", 1, 13, 11)),)),
    Entry("MLP", "000", "MLP", (7,), inputs=(Input(("N", 7)),)),
    Entry("SimpleCNN", "001", "SimpleCNN", inputs=(_IMAGE,), loss="CrossEntropyLoss", classes=10),
    Entry(
        "NeuralNetwork",
        "002",
        "NeuralNetwork",
        inputs=(Input(("N", 28, 28)),),
        loss="CrossEntropyLoss",
        classes=10,
    ),
    Entry(
        "seq_modules",
        "002",
        "seq_modules",
        inputs=(Input(("N", 28, 28)),),
        loss="CrossEntropyLoss",
        classes=10,
    ),
    Entry("Predictor", "002", "Predictor", inputs=(_IMAGE,)),
    Entry("SimpleModel", "003", "SimpleModel", (6, 4), inputs=(Input(("N", 6)),)),
    Entry("mlp_256_128_64", "003", "mlp", inputs=(Input(("N", 256)),)),
    Entry("Linear", "003", "nn.Linear", (6, 4), inputs=(Input(("N", 6)),)),
    Entry("ReLU", "003", "nn.ReLU", inputs=(Input(("N", 6)),)),
    Entry("Embedding", "003", "nn.Embedding", (11, 5), inputs=(Input(("N", 7), high=11),)),
    Entry("LayerNorm", "003", "nn.LayerNorm", (6,), inputs=(Input(("N", 4, 6)),)),
    Entry("Dropout", "003", "nn.Dropout", (0.3,), inputs=(Input(("N", 6)),)),
    Entry("Conv2d", "003", "nn.Conv2d", (3, 8, 3), inputs=(Input(("N", 3, 9, 7)),)),
    Entry(
        "MultiheadAttention",
        "003",
        "nn.MultiheadAttention",
        (12, 3),
        _named(batch_first=True, dropout=0.1),
        inputs=(Input(("N", 4, 12)), Input(("N", 7, 12)), Input(("N", 7, 12))),
        keywords=_named(key_padding_mask=Input(("N", 7), pattern="padding")),
    ),
    Entry(
        "VLAModel",
        "003",
        "VLAModel",
        kwargs=_named(**_VLA_SIZES, chunk=3, dropout=0.1),
        inputs=(Input(("N", 3, 20, 20)), Input(("N", 7), high=19)),
    ),
    Entry("exercise1_TwoLayerMLP", "003", "TwoLayerMLP", (6, 8, 3), inputs=(Input(("N", 6)),)),
    Entry("exercise4_sequential", "003", "sequential_mlp", (6, 8, 3), inputs=(Input(("N", 6)),)),
    Entry("exercise5_DropoutNet", "003", "DropoutNet", (6,), inputs=(Input(("N", 6)),)),
    Entry("exercise6_TwoParts", "003", "TwoParts", (6, 8, 3), inputs=(Input(("N", 6)),)),
    Entry("Liner", "004", "Liner", (6, 4), inputs=(Input(("N", 6)),)),
    Entry(
        "Liner_bias_False", "004", "Liner", (6, 4), _named(bias=False), inputs=(Input(("N", 6)),)
    ),
)
"""Every row of the notes' models, exercises and layer table."""
