"""Several schedulers: one after the other, or one on top of the other."""

from __future__ import annotations

import bisect
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from ._base import LRScheduler, table
from ._factors import ConstantLR, Factor, MultiplicativeLR

__all__ = ["ChainedScheduler", "SequentialLR"]


def _checked(who: str, schedulers: Any) -> tuple[LRScheduler, ...]:
    made = tuple(schedulers)
    if not made:
        raise ValueError(f"{who}: expected at least one scheduler, got none.")
    for index, scheduler in enumerate(made):
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(
                f"{who}: expected schedulers of fluxmod.optim.lr_scheduler that are functions of "
                f"the step, got {type(scheduler).__name__} at index {index}."
            )
    return made


@dataclass(frozen=True)
class SequentialLR(LRScheduler):
    """Each scheduler until its milestone, then the next from its own start; ``torch.optim``'s.

    Raises:
        ValueError: no schedulers, or not one milestone fewer than schedulers.
        TypeError: a part that is no scheduler of the step, such as ReduceLROnPlateau.

    >>> warm, fall = ConstantLR(1.0, 0.5, total_iters=9), ConstantLR(1.0, 1.0)
    >>> schedule = SequentialLR([warm, fall], milestones=[2])
    >>> [schedule(n).item() for n in range(4)]
    [0.5, 0.5, 1.0, 1.0]

    Source: torch.optim.lr_scheduler.SequentialLR, PyTorch 2.13 documentation.
    """

    schedulers: Sequence[LRScheduler]
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        made, milestones = _checked("SequentialLR", self.schedulers), tuple(self.milestones)
        if len(milestones) != len(made) - 1:
            raise ValueError(
                f"SequentialLR: expected one milestone fewer than schedulers, got {len(made)} "
                f"schedulers and {len(milestones)} milestones."
            )
        # torch starts all but the first by their closed form, in which a factor for no steps is 1
        later = [
            replace(s, factor=1.0) if isinstance(s, ConstantLR) and s.total_iters <= 0 else s
            for s in made[1:]
        ]
        object.__setattr__(self, "schedulers", (made[0], *later))
        object.__setattr__(self, "milestones", milestones)

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        value = self.schedulers[0].at(count)
        for scheduler, milestone in zip(self.schedulers[1:], self.milestones, strict=True):
            since = jnp.maximum(count - milestone, 0)
            here = scheduler.at(since)
            if isinstance(scheduler, MultiplicativeLR):  # torch goes on from the rate it finds
                found = self._before(milestone) * float(scheduler.lr_lambda(0))
                here = here / scheduler.lr * found
            value = jnp.where(count >= milestone, here, value)
        return value

    def _before(self, count: int) -> float:
        """The rate of the step before ``count``, on the way there."""
        rate = 0.0
        for n in range(count):
            rate = self.following(rate, n)
        return rate

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        index = bisect.bisect_right(self.milestones, count)
        start = self.milestones[index - 1] if index else 0
        scheduler = self.schedulers[index]
        if count == start:
            if index and isinstance(scheduler, MultiplicativeLR):
                return lr * float(scheduler.lr_lambda(0))
            lr = getattr(scheduler, "lr", lr)
        return scheduler.following(lr, count - start)

    def extra_state(self, count: int) -> dict[str, Any]:
        """What a class of torch keeps beside the common part."""
        starts = [0, *self.milestones]
        ends = [*self.milestones, None]
        parts = []
        for scheduler, start, end in zip(self.schedulers, starts, ends, strict=True):
            made = count - start if end is None or count < end else end - 1 - start
            parts.append(scheduler.state_dict(max(made, 0)))
            if made < 0:  # built and taken back, not started
                parts[-1]["last_epoch"] = -1
        return {"_schedulers": parts}


@dataclass(frozen=True)
class ChainedScheduler(LRScheduler):
    """All schedulers in every step, each on what the one before left; ``torch.optim``'s.

    Schedulers that only multiply (all but cosines, cycles and LambdaLR) have a product for a closed
    form; ``lr`` is the first one's. Others change the rate by what it is, step by step, and need
    ``total_steps``: how far to go beforehand; after that the rate is NaN.

    Raises:
        ValueError: no schedulers, or ``total_steps`` is missing.
        TypeError: a part that is no scheduler of the step, such as ReduceLROnPlateau.

    >>> from fluxmod.optim.lr_scheduler import ExponentialLR, StepLR
    >>> schedule = ChainedScheduler([ExponentialLR(1.0, 0.5), StepLR(1.0, 2)])
    >>> [round(schedule(n).item(), 4) for n in range(4)]
    [1.0, 0.5, 0.025, 0.0125]

    Source: torch.optim.lr_scheduler.ChainedScheduler, PyTorch 2.13 documentation.
    """

    schedulers: Sequence[LRScheduler]
    total_steps: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        made = _checked("ChainedScheduler", self.schedulers)
        object.__setattr__(self, "schedulers", made)
        others = [type(s).__name__ for s in made if not isinstance(s, Factor)]
        if others and len(made) > 1 and self.total_steps is None:
            raise ValueError(
                f"ChainedScheduler: {', '.join(others)} changes the rate by what it is, so that "
                "the steps must be gone through: pass total_steps, the number of steps to come."
            )

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        if len(self.schedulers) == 1:
            return self.schedulers[0].at(count)
        if self.total_steps is not None:
            return table(self._rates(self.total_steps), count)
        factors = [s.scale(count) for s in self.schedulers if isinstance(s, Factor)]
        return self._start * functools.reduce(operator.mul, factors)

    @property
    def _start(self) -> float:
        first = next((s for s in self.schedulers if hasattr(s, "lr")), None)
        return getattr(first, "lr", 0.0)

    def _rates(self, steps: int) -> list[float]:
        """The rates of so many steps and the one after, as torch goes from each to the next."""
        rates, lr = [], self._start
        for count in range(steps + 1):
            lr = self.following(lr, count)
            rates.append(lr)
        return rates

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        for scheduler in self.schedulers:
            lr = scheduler.following(lr, count)
        return lr

    def state_dict(self, count: Any) -> dict[str, Any]:
        """Return what torch's scheduler of this class must load to go on after ``count`` steps."""
        rate = [float(self(count))]
        parts = [{**s.state_dict(count), "_last_lr": rate} for s in self.schedulers]
        return {"_last_lr": rate, "_schedulers": parts}
