"""Dropout layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from fluxmod.nn import functional as F

from ._axes import ELEMENTWISE, Axes, Channel
from ._module import Module
from ._random import RandomSource

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


class _Dropout(Module, nnx.Dropout):  # type: ignore[misc]  # never None here
    """Shared by the dropout layers; ``_function`` is the function of the same name."""

    _function: Callable[..., jax.Array]

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rngs: RandomSource = None) -> None:
        if not 0.0 <= p <= 1.0:
            raise ValueError(
                f"{type(self).__name__}: probability has to be between 0 and 1, got {p}."
            )
        stream: Any = rngs
        super().__init__(p, rngs=stream)
        self.inplace = inplace

    @property
    def p(self) -> float:
        """Probability of dropping; ``rate`` in Flax."""
        return float(self.rate)

    def __call__(
        self,
        input: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: RandomSource = None,
    ) -> jax.Array:
        training = self.training if deterministic is None else not deterministic
        source: Any = self.rngs if rngs is None else rngs
        return type(self)._function(input, self.rate, training, rngs=source)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"p={self.rate}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero elements with probability ``p`` in training mode; the twin of ``torch.nn.Dropout``.

    Shape:
        x: any; returns the same shape, kept values scaled by 1 / (1 - p).

    Args:
        rngs: source of the 'dropout' stream; may also be given to the call. Without any, training
            mode raises.
        inplace: accepted and shown as torch does; arrays are never changed in place.

    Raises:
        ValueError: ``p`` outside [0, 1]; training without random numbers.

    >>> import jax.numpy as jnp
    >>> drop = Dropout(0.5, rngs=nnx.Rngs(0))
    >>> sorted(set(drop(jnp.ones(99)).tolist()))
    [0.0, 2.0]
    >>> drop.eval(); drop(jnp.ones(2)).tolist()
    [1.0, 1.0]

    Source: torch.nn.Dropout, PyTorch 2.13 documentation.
    """

    _function = staticmethod(F.dropout)

    @property
    def axes(self) -> Axes:
        """Any order, kept."""
        return ELEMENTWISE


class Dropout1d(_Dropout):
    """Zero whole channels of (N, L, C); the twin of ``torch.nn.Dropout1d``.

    >>> print(Dropout1d(0.2))
    Dropout1d(p=0.2, inplace=False)

    Source: torch.nn.Dropout1d, PyTorch 2.13 documentation.
    """

    _function = staticmethod(F.dropout1d)

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the length."""
        return Axes(inputs=(Channel(-2),), output=Channel(-2))


class Dropout2d(_Dropout):
    """Zero whole channels of (N, H, W, C); the twin of ``torch.nn.Dropout2d``.

    >>> print(Dropout2d(0.2))
    Dropout2d(p=0.2, inplace=False)

    Source: torch.nn.Dropout2d, PyTorch 2.13 documentation.
    """

    _function = staticmethod(F.dropout2d)

    @property
    def axes(self) -> Axes:
        """torch has the channels on axis 1, also for inputs of rank 3."""
        return Axes(inputs=(Channel(1),), output=Channel(1))


class Dropout3d(_Dropout):
    """Zero whole channels of (N, D, H, W, C); the twin of ``torch.nn.Dropout3d``.

    >>> print(Dropout3d(0.2))
    Dropout3d(p=0.2, inplace=False)

    Source: torch.nn.Dropout3d, PyTorch 2.13 documentation.
    """

    _function = staticmethod(F.dropout3d)

    @property
    def axes(self) -> Axes:
        """torch has the channels in front of the spatial axes."""
        return Axes(inputs=(Channel(-4),), output=Channel(-4))


class AlphaDropout(_Dropout):
    """Set elements to SELU's least value, mean and variance kept; ``torch.nn.AlphaDropout``.

    Arguments and errors as in ``Dropout``.

    >>> print(AlphaDropout(0.2))
    AlphaDropout(p=0.2, inplace=False)

    Source: torch.nn.AlphaDropout, PyTorch 2.13 documentation; Klambauer et al., 2017.
    """

    _function = staticmethod(F.alpha_dropout)

    @property
    def axes(self) -> Axes:
        """Any order, kept."""
        return ELEMENTWISE


class FeatureAlphaDropout(_Dropout):
    """Do ``AlphaDropout`` to whole channels of (N, *, C); ``torch.nn.FeatureAlphaDropout``.

    >>> print(FeatureAlphaDropout(0.2))
    FeatureAlphaDropout(p=0.2, inplace=False)

    Source: torch.nn.FeatureAlphaDropout, PyTorch 2.13 documentation.
    """

    _function = staticmethod(F.feature_alpha_dropout)

    @property
    def axes(self) -> Axes:
        """torch has the channels on axis 1."""
        return Axes(inputs=(Channel(1),), output=Channel(1))
