"""The planted-bug survey: every layer type in a small network, every bug checked.

``python -m parity_tests.parity.planted docs/planted-bugs.md`` runs all and writes the table.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx

from fluxmod import convert, nn, parity
from fluxmod.parity._flax import outputs_in_place
from fluxmod.parity._torch import run_torch
from fluxmod.parity.mutate import Mutation, executed_lines, mutations
from parity_tests.nn.twins import undrawn

OPTIONS = dict(levels=("L0", "L1"), batches=(3,))
SOURCE_EDITS = 6
"""Source edits per layer, spread evenly over those that can be made."""


class Build:
    """Builds layers of either framework from one definition."""

    def __init__(self, framework: str) -> None:
        self.module = torch.nn if framework == "torch" else nn
        self.rngs = nnx.Rngs(0)

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        cls = getattr(self.module, name)
        if self.module is nn and "rngs" in inspect.signature(cls.__init__).parameters:
            kwargs["rngs"] = self.rngs
        return cls(*args, **kwargs)

    def array(self, values: list[float]) -> Any:
        return torch.tensor(values) if self.module is torch.nn else np.array(values, np.float32)

    def chain(self, *layers: Any) -> Any:
        return self.module.Sequential(*layers)


def images(b: Build) -> Any:
    return b.chain(
        b("Conv2d", 2, 4, 3, padding=1),
        b("BatchNorm2d", 4),
        b("LeakyReLU", 0.1),
        b("Conv2d", 4, 6, 3, padding=1, dilation=2, groups=2, padding_mode="reflect"),
        b("MaxPool2d", 2),
        b("Dropout2d", 0.3),
        b("AvgPool2d", 3, stride=2, padding=1, count_include_pad=False),
        b("AdaptiveAvgPool2d", (3, 2)),
        b("Flatten"),
        b("Linear", 36, 8),
        b("LayerNorm", 8),
        b("GELU"),
        b("Dropout", 0.3),
        b("Linear", 8, 8),
        b("Softmax", dim=-1),
    )


def sequences(b: Build) -> Any:
    return b.chain(
        b("Conv1d", 3, 6, 3, padding=2, dilation=2),
        b("BatchNorm1d", 6),
        b("SiLU"),
        b("Dropout1d", 0.3),
        b("MaxPool1d", 2),
        b("AvgPool1d", 3, stride=2, padding=1),
        b("ELU", 0.7),
        b("AdaptiveMaxPool1d", 4),
    )


def volumes(b: Build) -> Any:
    return b.chain(
        b("Conv3d", 2, 4, (2, 3, 3), padding=1),
        b("BatchNorm3d", 4),
        b("ReLU"),
        b("Dropout3d", 0.3),
        b("MaxPool3d", 2),
        b("AvgPool3d", 2, stride=(1, 1, 2)),
        b("AdaptiveAvgPool3d", 2),
    )


def activations(b: Build) -> Any:
    return b.chain(
        b("Hardswish"),
        b("Softplus", 1.5, 4.0),
        b("Linear", 7, 9),
        b("Tanh"),
        b("Linear", 9, 9),
        b("Sigmoid"),
        b("Linear", 9, 9),
        b("PReLU"),
        b("Linear", 9, 9),
        b("Mish"),
        b("LogSoftmax", dim=-1),
    )


def text(b: Build) -> Any:
    return b.chain(
        b("Embedding", 11, 12, padding_idx=2, scale_grad_by_freq=True),
        b(
            "TransformerEncoderLayer",
            12,
            3,
            10,
            0.1,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        ),
        b("TransformerEncoderLayer", 12, 3, 10, 0.1, batch_first=True),
        b("Linear", 12, 5),
    )


class TorchPair(torch.nn.Module):
    def __init__(self, b: Build) -> None:
        super().__init__()
        self.bilinear = b("Bilinear", 3, 4, 6)
        self.decoder = b("TransformerDecoderLayer", 6, 2, 8, 0.1, batch_first=True)
        self.attention = b("MultiheadAttention", 6, 2, 0.1, batch_first=True)

    def forward(self, x: Any, y: Any) -> Any:
        z = self.bilinear(x, y)
        z = self.decoder(z, z * 0.5)
        out, weights = self.attention(z, z, z)
        return out, weights


class FlaxPair(nn.Module):
    def __init__(self, b: Build) -> None:
        self.bilinear = b("Bilinear", 3, 4, 6)
        self.decoder = b("TransformerDecoderLayer", 6, 2, 8, 0.1, batch_first=True)
        self.attention = b("MultiheadAttention", 6, 2, 0.1, batch_first=True)

    def __call__(self, x: Any, y: Any) -> Any:
        z = self.bilinear(x, y)
        z = self.decoder(z, z * 0.5)
        out, weights = self.attention(z, z, z)
        return out, weights


class TorchLosses(torch.nn.Module):
    def __init__(self, b: Build) -> None:
        super().__init__()
        _losses(self, b)

    def forward(self, logits: Any, labels: Any, targets: Any) -> Any:
        return _evaluate(self, logits, labels, targets)


class FlaxLosses(nn.Module):
    def __init__(self, b: Build) -> None:
        _losses(self, b)

    def __call__(self, logits: Any, labels: Any, targets: Any) -> Any:
        return _evaluate(self, logits, labels, targets)


def _losses(self: Any, b: Build) -> None:
    weight = [0.5, 1.0, 2.0, 3.0, 0.7]
    self.cross_entropy = b("CrossEntropyLoss", b.array(weight), ignore_index=1, label_smoothing=0.1)
    self.nll = b("NLLLoss", b.array(weight), ignore_index=3)
    self.mse = b("MSELoss")
    self.l1 = b("L1Loss")
    self.smooth = b("SmoothL1Loss", beta=0.7)
    self.logits = b("BCEWithLogitsLoss", pos_weight=b.array(weight))
    self.sigmoid = b("Sigmoid")
    self.bce = b("BCELoss")
    self.log_softmax = b("LogSoftmax", dim=-1)


def _evaluate(self: Any, logits: Any, labels: Any, targets: Any) -> Any:
    return (
        self.cross_entropy(logits, labels),
        self.nll(self.log_softmax(logits), labels),
        self.mse(logits, targets),
        self.l1(logits, targets),
        self.smooth(logits, targets),
        self.logits(logits, targets),
        self.bce(self.sigmoid(logits), targets),
    )


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


_RAMP = np.linspace(-6.3, 7.1, 21)
"""Values on every piece of the activations."""


def _chain(build: Callable[[Build], Any]) -> tuple[Any, Any]:
    return build(Build("torch")), build(Build("flax"))


NETS: dict[str, tuple[Callable[[], tuple[Any, Any]], tuple[np.ndarray, ...]]] = {
    "images": (lambda: _chain(images), (_normal(3, 2, 11, 9),)),
    "sequences": (lambda: _chain(sequences), (_normal(3, 3, 13),)),
    "volumes": (lambda: _chain(volumes), (_normal(3, 2, 5, 6, 7),)),
    "activations": (
        lambda: _chain(activations),
        (np.linspace(-6.3, 7.1, 21, dtype=np.float32).reshape(3, 7),),
    ),
    "text": (
        lambda: _chain(text),
        (np.array([[2, 5, 5, 0, 7], [1, 2, 9, 3, 3], [4, 4, 8, 2, 6]]),),
    ),
    "pair": (
        lambda: (TorchPair(Build("torch")), FlaxPair(Build("flax"))),
        (_normal(3, 5, 3), _normal(3, 5, 4)),
    ),
    "losses": (
        lambda: (TorchLosses(Build("torch")), FlaxLosses(Build("flax"))),
        (3 * _normal(6, 5), np.array([0, 1, 2, 3, 4, 2]), np.abs(_normal(6, 5)) % 1),
    ),
}

EQUIVALENT: tuple[tuple[str, str, str], ...] = (
    ("BatchNorm", "in: count = x.size", "the branch for an array without channels"),
    ("Conv2d", "torch_padding=(1, 1)", "padding modes other than zeros read the padded pairs"),
    ("Flatten", "input.ndim == 0", "the branch for scalars"),
    ("Flatten", "5  ->  6", "the branch for volumes; the input is an image"),
    ("Flatten", "2  ->  3", "the branch for arrays of rank 3; the input is an image"),
    ("BCEWithLogitsLoss", "1.0  ->  1.25   in: factor", "the branch without pos_weight"),
    ("MultiheadAttention", "(None,) * 3", "the branch without packed projections"),
    ("PReLU", "in: axis = -1 if channels_last else 1", "the branch for channels on axis 1"),
    ("PReLU", "input.ndim in (4, 5)", "there is one slope for all channels"),
    ("PReLU", "if input.ndim > 1 else 1", "there is one slope for all channels"),
    ("Softplus", "jnp.where(linear, 0, scaled)", "a value that the outer mask hides"),
    ("Embedding", "norm_type", "no max_norm is given"),
    ("SmoothL1Loss", "in: if beta == 0", "beta is not 0 here"),
    ("AvgPool3d", "count_include_pad", "there is no padding to count"),
)
"""Edits that change no result: the layer's name begins so, the words hold this, the reason."""


@dataclass(frozen=True)
class Finding:
    """What became of one planted bug."""

    net: str
    mutation: Mutation
    caught: bool
    located: str | None
    error: float

    @property
    def equivalent(self) -> str | None:
        """Why an edit that was not caught could not change any result."""
        if self.caught:
            return None
        return next(
            (
                reason
                for layer, words, reason in EQUIVALENT
                if self.mutation.layer.startswith(layer) and words in self.mutation.what
            ),
            None,
        )

    @property
    def found(self) -> bool:
        return self.caught and self.located == self.mutation.path


def build(net: str) -> tuple[Any, Any]:
    """Both models of a net, weights converted."""
    torch.manual_seed(0)
    with undrawn():
        theirs, ours = NETS[net][0]()
    convert.to_flax(theirs, ours)
    return theirs, ours


def planted(net: str) -> list[Mutation]:
    """The bugs planted in a net: all arguments and weights, and a spread of source edits."""
    theirs, ours = build(net)
    run = run_torch(
        theirs,
        NETS[net][1],
        {},
        dtype=torch.float64,
        seed=0,
        training=True,
        record_calls=True,
    )
    chosen: list[Mutation] = []
    for path, module in nn.named_modules(ours):
        lines = executed(module, run.calls[path]) if path in run.calls else frozenset()
        every = list(mutations(ours, path, lines))
        source = [m for m in every if m.kind == "source"]
        step = max(len(source) // SOURCE_EDITS, 1)
        chosen += [m for m in every if m.kind != "source"] + source[::step][:SOURCE_EDITS]
    return chosen


def executed(module: Any, call: Any) -> Any:
    """Lines that a layer runs on torch's own input, in evaluation mode."""
    axes = module.axes

    def forward() -> None:
        outputs_in_place(module, call.args, call.kwargs, training=False, axes=axes, masks=())

    return executed_lines(forward)


def survey(net: str, bugs: list[Mutation]) -> Iterator[Finding]:
    """Plant each bug and check."""
    theirs, ours = build(net)
    options = parity.Options(**OPTIONS, axes=ours.axes)
    for index, bug in enumerate(bugs):
        if index % 25 == 0:
            jax.clear_caches()  # thousands of compiled programs exhaust the memory maps
        report = parity.check(theirs, bug.apply(ours), *NETS[net][1], options=options)
        worst = max((row.error for row in report.failures), default=0.0)
        yield Finding(net, bug, not report.passed, report.located, worst)


def table(findings: list[Finding]) -> str:
    """The survey as a page."""
    counted = [f for f in findings if f.equivalent is None]
    caught, found = sum(f.caught for f in counted), sum(f.found for f in counted)
    layers = sorted({f.mutation.layer for f in counted})
    lines = [
        "# Planted bugs",
        "",
        (
            "Written by `python -m parity_tests.parity.planted docs/planted-bugs.md`. Each row is "
            "one change made mechanically at one module: a constructor argument, a weight, or a "
            "line of source. *Located* means that the first fault the report names is that module."
        ),
        "",
        (
            f"**{len(counted)} bugs in {len(layers)} layer types: {caught} caught, {found} "
            f"located.** {len(findings) - len(counted)} further edits change no result and are "
            "listed at the end."
        ),
        "",
        "| net | layer | kind | bug | caught | located | worst error |",
        "|---|---|---|---|---|---|---|",
    ]
    for f in counted:
        what = f.mutation.what.replace("|", "\\|")
        where = "yes" if f.found else (f"no: {f.located or 'the root'}" if f.caught else "-")
        lines.append(
            f"| {f.net} | {f.mutation.layer} | {f.mutation.kind} | `{what}` | "
            f"{'yes' if f.caught else '**no**'} | {where} | {f.error:.0e} |"
        )
    rest = [f for f in findings if f.equivalent is not None]
    if rest:
        lines += ["", "## Edits that change no result", ""]
        lines += [f"- {f.mutation.layer}, `{f.mutation.what}`: {f.equivalent}" for f in rest]
    return "\n".join(lines) + "\n"


def main(path: str, *nets: str) -> None:
    """Run the whole survey, or some nets of it, and write the page."""
    findings: list[Finding] = []
    for net in nets or NETS:
        for finding in survey(net, planted(net)):
            findings.append(finding)
            mark = "found" if finding.found else ("caught" if finding.caught else "SURVIVED")
            print(f"{net:12} {mark:9} {finding.mutation}  at {finding.located!r}", flush=True)
    Path(path).write_text(table(findings), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
