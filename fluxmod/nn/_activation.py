"""Activation layers made of straight pieces, and PReLU."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F

from ._axes import ELEMENTWISE, Axes, Channel
from ._module import Module

__all__ = [
    "Elementwise",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "PReLU",
    "ReLU",
    "ReLU6",
    "Softshrink",
    "Threshold",
    "shown",
]


def shown(*parts: str, inplace: bool = False) -> str:
    """Join the arguments that are printed; ``inplace`` only when it is set, as torch does."""
    return ", ".join([*parts, "inplace=True"] if inplace else parts)


class Elementwise(Module):
    """Base of layers that map every element by itself."""

    @property
    def axes(self) -> Axes:
        """Any order, kept."""
        return ELEMENTWISE


class ReLU(Elementwise):
    """Zero what is negative; the twin of ``torch.nn.ReLU``.

    Args:
        inplace: accepted and shown as torch does; arrays are never changed in place. So in all
            activations.

    >>> ReLU()(jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]

    Source: torch.nn.ReLU, PyTorch 2.13 documentation.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.relu(input)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(inplace=self.inplace)


class Hardtanh(Elementwise):
    """Limit to [min_val, max_val], gradient zero at both bounds; the twin of ``torch.nn.Hardtanh``.

    Args:
        min_value, max_value: deprecated names of ``min_val`` and ``max_val``.

    Raises:
        ValueError: ``max_val`` not above ``min_val``.

    >>> Hardtanh(-2, 2)(jnp.array([-3.0, 0.5, 3.0])).tolist()
    [-2.0, 0.5, 2.0]

    Source: torch.nn.Hardtanh, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        if min_value is not None:
            warnings.warn("Hardtanh: min_value is now min_val.", FutureWarning, stacklevel=2)
            min_val = min_value
        if max_value is not None:
            warnings.warn("Hardtanh: max_value is now max_val.", FutureWarning, stacklevel=2)
            max_val = max_value
        if max_val <= min_val:
            raise ValueError(f"Hardtanh: max_val={max_val} must be greater than min_val={min_val}.")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        bounds = f"min_val={self.min_val}", f"max_val={self.max_val}"
        return shown(*bounds, inplace=self.inplace)


class ReLU6(Hardtanh):
    """Limit to [0, 6]; the twin of ``torch.nn.ReLU6``.

    >>> ReLU6()(jnp.array([-3.0, 5.0, 7.0])).tolist()
    [0.0, 5.0, 6.0]

    Source: torch.nn.ReLU6, PyTorch 2.13 documentation.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(inplace=self.inplace)


class LeakyReLU(Elementwise):
    """Scale what is not positive; the twin of ``torch.nn.LeakyReLU``.

    >>> LeakyReLU(0.5)(jnp.array([-2.0, 3.0])).tolist()
    [-1.0, 3.0]

    Source: torch.nn.LeakyReLU, PyTorch 2.13 documentation.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return shown(f"negative_slope={self.negative_slope}", inplace=self.inplace)


class PReLU(Module):
    """Scale what is not positive by learnt slopes; the twin of ``torch.nn.PReLU``.

    Shape:
        x: any for one slope; else (N, num_parameters), (N, num_parameters, L) or a feature map
            (N, *, num_parameters) of rank 4 or 5; returns the same shape.

    Args:
        num_parameters: 1, or the number of channels.
        init: first value of every slope.
        channels_last: the channels, on axis 1 in torch, are on the last axis here. ``None`` means
            True for arrays of rank 4 and 5 and False otherwise: a Conv1d map (N, L, C) needs True.

    Raises:
        ValueError: the channel axis has another size than ``weight``.

    >>> layer = PReLU(3)
    >>> layer.weight.shape, layer(-jnp.ones((1, 5, 2, 3)))[0, 0, 0].tolist()
    ((3,), [-0.25, -0.25, -0.25])

    Source: torch.nn.PReLU, PyTorch 2.13 documentation; He et al., 2015.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        channels_last: bool | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        del rngs  # nothing random: accepted so that every layer is built alike
        self.num_parameters = num_parameters
        self.init = init
        self.channels_last = channels_last
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.weight = nnx.Param(jnp.full(num_parameters, init, param_dtype))

    @property
    def axes(self) -> Axes:
        """One slope fits any order; several belong to torch's axis 1."""
        if self.num_parameters == 1:
            return ELEMENTWISE
        if self.channels_last is False:
            return Axes()
        channel = Channel(1, min_rank=2 if self.channels_last else 4)
        return Axes(inputs=(channel,), output=channel)

    def __call__(self, input: jax.Array) -> jax.Array:
        input, weight = dtypes.promote_dtype((input, self.weight[...]), dtype=self.dtype)
        return F.prelu(input, weight, channels_last=self.channels_last)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return f"num_parameters={self.num_parameters}"


class Threshold(Elementwise):
    """Replace what is not above ``threshold`` by ``value``; the twin of ``torch.nn.Threshold``.

    >>> Threshold(0.5, 20)(jnp.array([0.5, 1.0])).tolist()
    [20.0, 1.0]

    Source: torch.nn.Threshold, PyTorch 2.13 documentation.
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        values = f"threshold={self.threshold}", f"value={self.value}"
        return shown(*values, inplace=self.inplace)


class Hardswish(Elementwise):
    """Compute ``x * relu6(x + 3) / 6``; the twin of ``torch.nn.Hardswish``.

    >>> Hardswish()(jnp.array([-3.0, 0.0, 3.0])).tolist()
    [-0.0, 0.0, 3.0]

    Source: torch.nn.Hardswish, PyTorch 2.13 documentation; Howard et al., 2019.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.hardswish(input)


class Hardsigmoid(Elementwise):
    """Compute ``relu6(x + 3) / 6``; the twin of ``torch.nn.Hardsigmoid``.

    >>> Hardsigmoid()(jnp.array([-3.0, 0.0, 3.0])).tolist()
    [0.0, 0.5, 1.0]

    Source: torch.nn.Hardsigmoid, PyTorch 2.13 documentation.
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.hardsigmoid(input)


class Hardshrink(Elementwise):
    """Zero [-lambd, lambd]; the twin of ``torch.nn.Hardshrink``.

    >>> Hardshrink()(jnp.array([-1.0, 0.5, 1.0])).tolist()
    [-1.0, 0.0, 1.0]

    Source: torch.nn.Hardshrink, PyTorch 2.13 documentation.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return str(self.lambd)


class Softshrink(Elementwise):
    """Move towards zero by ``lambd``; the twin of ``torch.nn.Softshrink``.

    Raises:
        ValueError: a negative ``lambd``, when called.

    >>> Softshrink()(jnp.array([-1.0, 0.5, 1.0])).tolist()
    [-0.5, 0.0, 0.5]

    Source: torch.nn.Softshrink, PyTorch 2.13 documentation.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return str(self.lambd)
