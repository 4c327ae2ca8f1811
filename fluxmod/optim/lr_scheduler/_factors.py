"""Schedulers that multiply the rate, and those whose factor is a function of the user's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from ._base import LRScheduler, table, time

__all__ = [
    "ConstantLR",
    "ExponentialLR",
    "Factor",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "StepLR",
]

Lambda = Callable[[Any], Any]


class Factor(LRScheduler):
    """A scheduler whose rate is that at the start times a factor that knows nothing of it."""

    lr: float

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        return self.lr * self.scale(count)

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        raise NotImplementedError


@dataclass(frozen=True)
class LambdaLR(LRScheduler):
    """The rate times ``lr_lambda(count)``; the twin of ``LambdaLR`` in ``torch.optim``.

    Args:
        lr: the rate to start from.
        lr_lambda: is traced under ``jax.jit``; one that branches on the count needs
            ``total_steps``.
        total_steps: evaluate so many steps at once, beforehand; after them the rate is NaN.

    >>> LambdaLR(0.5, lambda count: 0.5**count)(2).item()
    0.125

    Source: torch.optim.lr_scheduler.LambdaLR, PyTorch 2.13 documentation.
    """

    lr: float
    lr_lambda: Lambda
    total_steps: int | None = field(default=None, kw_only=True)

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        if self.total_steps is None:
            return self.lr * jnp.asarray(self.lr_lambda(count), jnp.result_type(float))
        return table([self.following(0.0, n) for n in range(self.total_steps + 1)], count)

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        del lr
        return self.lr * float(self.lr_lambda(count))

    def extra_state(self, count: int) -> dict[str, Any]:
        """What a class of torch keeps beside the common part."""
        del count
        return {"lr_lambdas": [None]}


@dataclass(frozen=True)
class MultiplicativeLR(Factor):
    """The rate before times ``lr_lambda(count)``; ``MultiplicativeLR`` of ``torch.optim``.

    Args:
        lr: the rate to start from.
        lr_lambda: is traced under ``jax.jit``; one that branches on the count needs
            ``total_steps``.
        total_steps: multiply so many steps beforehand; after them the rate is NaN. Without it
            every step multiplies all factors so far.

    >>> MultiplicativeLR(1.0, lambda count: 0.5, total_steps=10)(3).item()
    0.125

    Source: torch.optim.lr_scheduler.MultiplicativeLR, PyTorch 2.13 documentation.
    """

    lr: float
    lr_lambda: Lambda
    total_steps: int | None = field(default=None, kw_only=True)

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        if self.total_steps is not None:
            factors = map(float, map(self.lr_lambda, range(1, self.total_steps + 1)))
            return table([*itertools.accumulate(factors, lambda a, b: a * b, initial=1.0)], count)
        return jax.lax.fori_loop(
            1,
            count + 1,
            lambda n, f: f * jnp.asarray(self.lr_lambda(n), f.dtype),
            jnp.ones((), jnp.result_type(float)),
        )

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        return lr * float(self.lr_lambda(count)) if count else lr

    def extra_state(self, count: int) -> dict[str, Any]:
        """What a class of torch keeps beside the common part."""
        del count
        return {"lr_lambdas": [None]}


@dataclass(frozen=True)
class StepLR(Factor):
    """Multiply by ``gamma`` every ``step_size`` steps; ``StepLR`` of ``torch.optim``.

    >>> [round(StepLR(1.0, step_size=2)(n).item(), 3) for n in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]

    Source: torch.optim.lr_scheduler.StepLR, PyTorch 2.13 documentation.
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        return self.gamma ** time(count // self.step_size)

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        return lr if count == 0 or count % self.step_size else lr * self.gamma


@dataclass(frozen=True)
class MultiStepLR(Factor):
    """Multiply by ``gamma`` at each milestone; ``MultiStepLR`` of ``torch.optim``.

    >>> [round(MultiStepLR(1.0, [1, 3])(n).item(), 3) for n in range(4)]
    [1.0, 0.1, 0.1, 0.01]

    Source: torch.optim.lr_scheduler.MultiStepLR, PyTorch 2.13 documentation.
    """

    lr: float
    milestones: Iterable[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(sorted(self.milestones)))

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        passed = sum((count >= m for m in self.milestones), jnp.zeros((), count.dtype))
        return self.gamma ** time(passed)

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        times = tuple(self.milestones).count(count)
        return lr * self.gamma**times if times else lr


@dataclass(frozen=True)
class ConstantLR(Factor):
    """A smaller rate for the first ``total_iters`` steps; ``ConstantLR`` of ``torch.optim``.

    Raises:
        ValueError: ``factor`` outside [0, 1].

    >>> [ConstantLR(1.0, 0.5, total_iters=2)(n).item() for n in range(4)]
    [0.5, 0.5, 1.0, 1.0]

    Source: torch.optim.lr_scheduler.ConstantLR, PyTorch 2.13 documentation.
    """

    lr: float
    factor: float = 1.0 / 3
    total_iters: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.factor <= 1:
            raise ValueError(f"ConstantLR: expected a factor in [0, 1], got {self.factor}.")

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        # with no steps at all torch's rate stays small, and a factor of 0 is never undone
        ends = self.total_iters if self.total_iters > 0 else jnp.inf
        late = 1.0 if self.factor else jnp.nan
        return jnp.where(time(count) >= ends, late, time(jnp.asarray(self.factor)))

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        if count == 0:
            return lr * self.factor
        return lr * (1.0 / self.factor) if count == self.total_iters else lr


@dataclass(frozen=True)
class LinearLR(Factor):
    """From a smaller rate to the full one in a line; ``LinearLR`` of ``torch.optim``.

    Raises:
        ValueError: ``start_factor`` outside (0, 1], or ``end_factor`` outside [0, 1].

    >>> [LinearLR(1.0, 0.5, total_iters=2)(n).item() for n in range(4)]
    [0.5, 0.75, 1.0, 1.0]

    Source: torch.optim.lr_scheduler.LinearLR, PyTorch 2.13 documentation.
    """

    lr: float
    start_factor: float = 1.0 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.start_factor <= 1:
            text = f"LinearLR: expected a start_factor in (0, 1], got {self.start_factor}."
            raise ValueError(text)
        if not 0 <= self.end_factor <= 1:
            raise ValueError(f"LinearLR: expected an end_factor in [0, 1], got {self.end_factor}.")

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        way = jnp.minimum(time(count), self.total_iters) / max(self.total_iters, 1)
        return self.start_factor + (self.end_factor - self.start_factor) * way

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        if count == 0:
            return lr * self.start_factor
        if count > self.total_iters:
            return lr
        gain = self.end_factor - self.start_factor
        return lr * (1.0 + gain / (self.total_iters * self.start_factor + (count - 1) * gain))


@dataclass(frozen=True)
class ExponentialLR(Factor):
    """Multiply by ``gamma`` every step; ``ExponentialLR`` of ``torch.optim``.

    >>> ExponentialLR(1.0, 0.5)(3).item()
    0.125

    Source: torch.optim.lr_scheduler.ExponentialLR, PyTorch 2.13 documentation.
    """

    lr: float
    gamma: float

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        return self.gamma ** time(count)

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        return lr * self.gamma if count else lr


@dataclass(frozen=True)
class PolynomialLR(Factor):
    """To zero within ``total_iters`` steps, by a power; ``PolynomialLR`` of ``torch.optim``.

    >>> [PolynomialLR(1.0, total_iters=2)(n).item() for n in range(4)]
    [1.0, 0.5, 0.0, 0.0]

    Source: torch.optim.lr_scheduler.PolynomialLR, PyTorch 2.13 documentation.
    """

    lr: float
    total_iters: int = 5
    power: float = 1.0

    def scale(self, count: jax.Array) -> jax.Array:
        """Return what the rate at the start is multiplied with."""
        if self.total_iters <= 0:
            return jnp.ones((), jnp.result_type(float))
        left = time(jnp.maximum(self.total_iters - count, 0))  # in integers: never below zero
        return (left / self.total_iters) ** self.power

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        if count == 0 or count > self.total_iters:
            return lr
        now, before = (1.0 - n / self.total_iters for n in (count, count - 1))
        return float(lr * (now / before) ** self.power)
