"""SWALR: from the rate of now to the one at which weights are averaged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from fluxmod.optim.lr_scheduler import LRScheduler
from fluxmod.optim.lr_scheduler._base import time

__all__ = ["SWALR"]


@dataclass(frozen=True)
class SWALR(LRScheduler):
    """Anneal from one rate to ``swa_lr`` and stay; the twin of ``torch.optim.swa_utils.SWALR``.

    torch starts from whatever rate the optimizer has when this scheduler is first stepped; here
    ``lr`` is that rate: ``SequentialLR([main, SWALR(float(main(start)), 0.05)], [start])``.

    Raises:
        ValueError: an unknown ``anneal_strategy``, or ``anneal_epochs`` is no integer from 0 on.

    >>> schedule = SWALR(1.0, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> [schedule(n).item() for n in range(4)]
    [1.0, 0.75, 0.5, 0.5]

    Source: torch.optim.swa_utils.SWALR, PyTorch 2.13 documentation.
    """

    lr: float
    swa_lr: float
    anneal_epochs: int = 10
    anneal_strategy: Literal["cos", "linear"] = "cos"

    def __post_init__(self) -> None:
        if self.anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"SWALR: expected anneal_strategy 'cos' or 'linear', got {self.anneal_strategy!r}."
            )
        if not isinstance(self.anneal_epochs, int) or self.anneal_epochs < 0:
            raise ValueError(
                f"SWALR: expected anneal_epochs of at least 0, got {self.anneal_epochs}."
            )

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        if self.anneal_epochs == 0:
            return jnp.full((), self.swa_lr, jnp.result_type(float))
        way = time(jnp.clip(count, 0, self.anneal_epochs)) / self.anneal_epochs
        alpha = jnp.sin(jnp.pi / 2 * way) ** 2 if self.anneal_strategy == "cos" else way
        return self.swa_lr * alpha + self.lr * (1 - alpha)

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        count = count if self.anneal_epochs else max(1, count)
        before, now = (
            self._alpha(max(0.0, min(1.0, n / max(1, self.anneal_epochs))))
            for n in (count - 1, count)
        )
        start = self.swa_lr if before == 1 else (lr - before * self.swa_lr) / (1 - before)
        return self.swa_lr * now + start * (1 - now)

    def _alpha(self, way: float) -> float:
        return (1 - math.cos(math.pi * way)) / 2 if self.anneal_strategy == "cos" else way
