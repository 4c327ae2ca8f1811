"""What the schedulers share: a schedule of the number of steps, and torch's recursion behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["LRScheduler", "count_of", "table", "time"]


class LRScheduler:
    """A learning rate as a function of the number of steps made; traced under ``jax.jit``.

    A scheduler of torch changes the rate that its optimizer holds; one of these is that rate, to be
    given as ``lr``: ``optim.SGD(lr=StepLR(0.1, 30))``. In place of torch's optimizer stands the
    rate that scheduling starts from. torch's ``last_epoch`` is the ``count`` of the optimizer's
    state, and it is the caller of torch who chooses between steps and epochs: for epochs, count
    them by ``lambda count: schedule(count // steps_per_epoch)``.

    Schedulers with equal arguments are equal, so that nothing is compiled twice.
    """

    def __call__(self, count: Any) -> jax.Array:
        """Return the rate of the step that follows ``count`` steps."""
        return self.at(jnp.asarray(count).astype(jnp.result_type(int)))

    def at(self, count: jax.Array) -> jax.Array:
        """Return the rate, ``count`` being an array of the widest integers."""
        raise NotImplementedError

    def following(self, lr: float, count: int) -> float:
        """Return the rate that torch makes of the one before; ``count`` 0 is the first."""
        raise NotImplementedError

    def state_dict(self, count: Any) -> dict[str, Any]:
        """Return what torch's scheduler of this class must load to go on after ``count`` steps.

        >>> from fluxmod.optim.lr_scheduler import ExponentialLR
        >>> ExponentialLR(1.0, gamma=0.5).state_dict(2)
        {'last_epoch': 2, '_step_count': 3, '_last_lr': [0.25]}
        """
        count = int(count)
        return {
            "last_epoch": count,
            "_step_count": count + 1,
            "_last_lr": [float(self(count))],
            **self.extra_state(count),
        }

    def extra_state(self, count: int) -> dict[str, Any]:
        """What a class of torch keeps beside the common part."""
        del count
        return {}


def count_of(state_dict: Mapping[str, Any]) -> int:
    """Return the number of steps that a torch scheduler's ``state_dict()`` has made.

    It is the ``step`` that ``convert.optimizer_to_flax`` asks for.

    >>> count_of({"last_epoch": 7, "_step_count": 8})
    7
    """
    if "last_epoch" in state_dict:
        return int(state_dict["last_epoch"])
    return count_of(state_dict["_schedulers"][0])


def time(count: jax.Array) -> jax.Array:
    """The count as the widest float there is."""
    return count.astype(jnp.result_type(float))


def table(values: Any, count: jax.Array) -> jax.Array:
    """Look a rate up; beyond the end it is NaN, which shows, and not the last one, which would
    not."""
    known = jnp.asarray(np.asarray(values, np.float64), jnp.result_type(float))
    return known.at[count].get(mode="fill", fill_value=jnp.nan)
