"""What to check and how; everything has a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fluxmod import optim
from fluxmod.nn import Axes

from .criteria import CRITERIA

__all__ = ["LEVELS", "OPTIMIZERS", "OptimizerPair", "Options"]

LEVELS = ("L0", "L1", "L2", "L4", "L5")
"""The levels that run everywhere; L3 is added for an accelerator, L6 on request."""


@dataclass(frozen=True, slots=True)
class OptimizerPair:
    """The same optimizer in both frameworks: built for torch's parameters, and as optax has it."""

    name: str
    torch: Callable[[Any], torch.optim.Optimizer]
    flax: Callable[[], Any]


OPTIMIZERS = (
    OptimizerPair(
        "SGD",
        lambda params: torch.optim.SGD(params, lr=1e-3, momentum=0.9),
        lambda: optim.SGD(lr=1e-3, momentum=0.9),
    ),
    OptimizerPair(
        "Adam", lambda params: torch.optim.Adam(params, lr=1e-3), lambda: optim.Adam(lr=1e-3)
    ),
    OptimizerPair(
        "AdamW", lambda params: torch.optim.AdamW(params, lr=1e-3), lambda: optim.AdamW(lr=1e-3)
    ),
)
"""The pairs that the training level runs."""


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of ``parity.check``.

    Args:
        axes: how the model's axes differ from torch's, for a model that does not say.
        levels: which levels to run.
        seed: of weights, inputs and dropout; a report names it.
        kwargs: forward arguments that are called ``options`` in the model's own signature.
        inputs: makes ``(args, kwargs)`` for a batch size; without it the arguments given are
            used, and enlarged for the second batch.
        batches: the batch sizes when ``inputs`` is given; one number runs one batch only.
        loss: a criterion of ``torch.nn`` and ``fluxmod.nn`` for the training level.
        target: its target in torch's layout; drawn when None and ``loss`` is "MSELoss".
        optimizers: the pairs that the training level runs.
        device: "cpu", or "gpu" to add L3.
        per_module: replay every submodule on torch's own inputs, so that a fault is located.
    """

    axes: Axes | None = None
    levels: tuple[str, ...] = LEVELS
    seed: int = 0
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[int], tuple[tuple[Any, ...], dict[str, Any]]] | None = None
    batches: tuple[int, ...] = (3, 5)
    loss: str = "MSELoss"
    target: Callable[[int], Any] | None = None
    optimizers: tuple[OptimizerPair, ...] = OPTIMIZERS
    device: str = "cpu"
    per_module: bool = True

    def __post_init__(self) -> None:
        unknown = [level for level in self.levels if level not in CRITERIA]
        if unknown:
            raise ValueError(f"parity.Options: no level {unknown}; there are {list(CRITERIA)}.")
        if self.device not in ("cpu", "gpu"):
            raise ValueError(f"parity.Options: device is 'cpu' or 'gpu', got {self.device!r}.")
