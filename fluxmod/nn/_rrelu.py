"""Leaky ReLU with slopes that are drawn."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from fluxmod.nn import functional as F

from ._activation import Elementwise, shown
from ._random import RandomSource

__all__ = ["RReLU"]


class RReLU(Elementwise):
    """Scale what is not positive by slopes from U(lower, upper); the twin of ``torch.nn.RReLU``.

    In evaluation mode every slope is their mean.

    Args:
        inplace: accepted and shown as torch does; arrays are never changed in place.
        rngs: source of the 'dropout' stream; may also be given to the call. Without any, training
            mode raises.

    Raises:
        ValueError: ``lower`` above ``upper``, or training without random numbers, when called.

    >>> import jax.numpy as jnp
    >>> layer = RReLU(0.25, 0.75, rngs=nnx.Rngs(0))
    >>> slopes = -layer(-jnp.ones(99))
    >>> 0.25 <= slopes.min() < slopes.max() <= 0.75
    Array(True, dtype=bool)
    >>> layer.eval(); layer(-jnp.ones(2)).tolist()
    [-0.5, -0.5]

    Source: torch.nn.RReLU, PyTorch 2.13 documentation; Xu et al., 2015.
    """

    def __init__(
        self,
        lower: float = 1.0 / 8,
        upper: float = 1.0 / 3,
        inplace: bool = False,
        *,
        rngs: RandomSource = None,
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.inplace = inplace
        # one stream of its own, as nnx.Dropout has
        stream: Any = rngs.dropout if isinstance(rngs, nnx.Rngs) else rngs
        self.rngs: Any = nnx.data(None) if stream is None else stream.fork()

    def __call__(
        self,
        input: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: RandomSource = None,
    ) -> jax.Array:
        training = self.training if deterministic is None else not deterministic
        source = self.rngs if rngs is None else rngs
        return F.rrelu(input, self.lower, self.upper, training, rngs=source)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(f"lower={self.lower}", f"upper={self.upper}", inplace=self.inplace)
