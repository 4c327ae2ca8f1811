"""Schedulers that go up and down: cosines and cycles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from ._base import LRScheduler, time

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"]


@dataclass(frozen=True)
class CosineAnnealingLR(LRScheduler):
    """Down to ``eta_min`` along half a cosine, and up again; ``torch.optim``'s.

    >>> [round(CosineAnnealingLR(1.0, T_max=2)(n).item(), 3) for n in range(5)]
    [1.0, 0.5, 0.0, 0.5, 1.0]

    Source: torch.optim.lr_scheduler.CosineAnnealingLR, PyTorch 2.13 documentation.
    """

    lr: float
    T_max: int
    eta_min: float = 0.0

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        # the count within the period keeps its digits; 1 + cos would lose them near the end
        half = jnp.pi * time(count % (2 * self.T_max)) / (2 * self.T_max)
        return self.eta_min + (self.lr - self.eta_min) * jnp.cos(half) ** 2

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        if count == 0:
            return lr
        if (count - 1 - self.T_max) % (2 * self.T_max) == 0:
            return lr + (self.lr - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        now, before = (1 + math.cos(math.pi * n / self.T_max) for n in (count, count - 1))
        return now / before * (lr - self.eta_min) + self.eta_min


@dataclass(frozen=True)
class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosines to ``eta_min``, each ``T_mult`` times as long, from the full rate; ``torch.optim``'s.

    Raises:
        ValueError: ``T_0`` or ``T_mult`` is no integer of at least 1.

    >>> schedule = CosineAnnealingWarmRestarts(1.0, T_0=2, T_mult=2)
    >>> [round(schedule(n).item(), 3) for n in range(5)]
    [1.0, 0.5, 1.0, 0.854, 0.5]

    Source: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, PyTorch 2.13 documentation.
    """

    lr: float
    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        for name in ("T_0", "T_mult"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"CosineAnnealingWarmRestarts: expected an integer {name} of at least 1, got "
                    f"{value}."
                )

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        now, length = self._place(count)
        half = jnp.pi * time(now) / (2 * time(length))
        return self.eta_min + (self.lr - self.eta_min) * jnp.cos(half) ** 2

    def _place(self, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Steps since the last restart, and how many there are until the next; in integers, as a
        logarithm may come out on the wrong side."""
        if self.T_mult == 1:
            return count % self.T_0, jnp.full_like(count, self.T_0)
        most = jnp.iinfo(count.dtype).max
        begin = length = jnp.zeros_like(count)
        start, size = 0, self.T_0
        while start <= most and size <= most:
            reached = count >= start
            begin = jnp.where(reached, start, begin)
            length = jnp.where(reached, size, length)
            start, size = start + size, size * self.T_mult
        return count - begin, length

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        del lr
        start, size = 0, self.T_0
        while count >= start + size:
            start, size = start + size, size * self.T_mult
        cosine = 1 + math.cos(math.pi * (count - start) / size)
        return self.eta_min + (self.lr - self.eta_min) * cosine / 2

    def extra_state(self, count: int) -> dict[str, Any]:
        """What a class of torch keeps beside the common part."""
        now, length = self._place(jnp.asarray(count))
        return {"T_cur": int(now), "T_i": int(length)}


@dataclass(frozen=True)
class CyclicLR(LRScheduler):
    """Between two rates in triangles; the twin of ``CyclicLR`` in ``torch.optim``.

    Differs from torch: the rate alone is in this schedule. With ``cycle_momentum`` torch changes
    the optimizer's momentum too; ``momentum(count)`` is that, a schedule of its own, and is given
    to the optimizer beside the rate: ``SGD(lr=cycle, momentum=cycle.momentum)``.

    Args:
        scale_fn: a function of the cycle or the step, by ``scale_mode``; it is traced under
            ``jax.jit`` and ``mode`` is then not looked at.

    Raises:
        ValueError: ``mode`` is unknown and there is no ``scale_fn``.

    >>> cycle = CyclicLR(0.0, 1.0, step_size_up=2)
    >>> [cycle(n).item() for n in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    >>> round(cycle.momentum(2).item(), 3)
    0.8

    Source: torch.optim.lr_scheduler.CyclicLR, PyTorch 2.13 documentation; Smith, 2017.
    """

    base_lr: float
    max_lr: float
    step_size_up: int = 2000
    step_size_down: int | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0
    scale_fn: Callable[[Any], Any] | None = None
    scale_mode: Literal["cycle", "iterations"] = "cycle"
    cycle_momentum: bool = True
    base_momentum: float = 0.8
    max_momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.mode not in ("triangular", "triangular2", "exp_range") and self.scale_fn is None:
            raise ValueError(
                "CyclicLR: expected mode 'triangular', 'triangular2' or 'exp_range', or a "
                f"scale_fn, got {self.mode!r}."
            )

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        return self.base_lr + (self.max_lr - self.base_lr) * self._height(count)

    def momentum(self, count: Any) -> jax.Array:
        """Return the momentum (of Adam the first beta) of the step that follows ``count`` steps."""
        if not self.cycle_momentum:
            raise ValueError("CyclicLR: with cycle_momentum=False there is no momentum to give.")
        fall = self.max_momentum - self.base_momentum
        return self.max_momentum - fall * self._height(jnp.asarray(count))

    def _height(self, count: jax.Array) -> jax.Array:
        up = float(self.step_size_up)
        total = up + (up if self.step_size_down is None else float(self.step_size_down))
        ratio, x = up / total, (time(count) % total) / total
        height = jnp.where(x <= ratio, x / ratio, (x - 1) / (ratio - 1))
        cycle = jnp.floor(time(count) / total) + 1
        if self.scale_fn is not None:
            return height * self.scale_fn(cycle if self.scale_mode == "cycle" else count)
        if self.mode == "triangular2":
            return height / 2.0 ** (cycle - 1)
        return height * self.gamma ** time(count) if self.mode == "exp_range" else height

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        del lr
        return float(self(count))

    def extra_state(self, count: int) -> dict[str, Any]:
        """What a class of torch keeps beside the common part."""
        del count
        return {"_scale_fn_custom": None}


@dataclass(frozen=True)
class OneCycleLR(LRScheduler):
    """Up to ``max_lr`` and down to nearly nothing, once; ``OneCycleLR`` of ``torch.optim``.

    After ``total_steps`` torch raises; here the rate is NaN, as compiled code cannot raise. The
    momentum is a schedule of its own, as in ``CyclicLR``.

    Raises:
        ValueError: neither ``total_steps`` nor both of ``epochs`` and ``steps_per_epoch``, or no
            positive integers; ``pct_start`` outside [0, 1]; an unknown ``anneal_strategy``; a phase
            without any step.

    >>> cycle = OneCycleLR(1.0, total_steps=10)
    >>> [round(cycle(n).item(), 3) for n in (0, 2, 9)]
    [0.04, 1.0, 0.0]

    Source: torch.optim.lr_scheduler.OneCycleLR, PyTorch 2.13 documentation; Smith and Topin, 2018.
    """

    max_lr: float
    total_steps: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    pct_start: float = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        counts: dict[str, Any] = {"total_steps": self.total_steps}
        if self.total_steps is None:
            counts = {"epochs": self.epochs, "steps_per_epoch": self.steps_per_epoch}
        if not all(isinstance(n, int) and n > 0 for n in counts.values()):
            raise ValueError(
                "OneCycleLR: expected a positive integer total_steps, or epochs and "
                f"steps_per_epoch, got {counts}."
            )
        if not isinstance(self.pct_start, float) or not 0 <= self.pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected a float in [0, 1], got {self.pct_start}.")
        if self.anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got "
                f"{self.anneal_strategy!r}."
            )
        if any(end == start for start, end in self._phases()):
            raise ValueError(
                f"OneCycleLR: with {self._total} steps and pct_start={self.pct_start} a phase has "
                "no steps. Change one of them."
            )

    @property
    def _total(self) -> int:
        return self.total_steps or self.epochs * self.steps_per_epoch  # type: ignore[operator]

    def _phases(self) -> list[tuple[float, float]]:
        ends = [float(self.pct_start * self._total) - 1]
        ends += [float(2 * self.pct_start * self._total) - 2] if self.three_phase else []
        ends += [self._total - 1]
        return list(zip([0.0, *ends[:-1]], ends, strict=True))

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        start = self.max_lr / self.div_factor
        least = start / self.final_div_factor
        middle = [start] if self.three_phase else []
        return self._along([start, self.max_lr, *middle, least], count)

    def momentum(self, count: Any) -> jax.Array:
        """Return the momentum (of Adam the first beta) of the step that follows ``count`` steps."""
        if not self.cycle_momentum:
            raise ValueError("OneCycleLR: with cycle_momentum=False there is no momentum to give.")
        high, low = self.max_momentum, self.base_momentum
        return self._along([high, low, high, *([high] if self.three_phase else [])], count)

    def _along(self, corners: list[float], count: Any) -> jax.Array:
        """Anneal from corner to corner; NaN after the last step."""
        now = time(jnp.asarray(count))
        phases = list(zip(self._phases(), corners[:-1], corners[1:], strict=True))
        value = jnp.asarray(jnp.nan, now.dtype)
        for last, ((start, end), a, b) in reversed([*enumerate(phases, 1 - len(phases))]):
            gone, left = (now - start) / (end - start), (end - now) / (end - start)
            if self.anneal_strategy == "cos":
                here = b + (a - b) * jnp.cos(jnp.pi / 2 * gone) ** 2
            else:
                here = a * left + b * gone
            value = jnp.where(now <= (end if last else self._total), here, value)
        return value

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        del lr
        return float(self(count))
