"""How many numbers go into and come out of a weight, and how much a nonlinearity takes away."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import nnx

__all__ = ["calculate_gain", "fan_in_and_fan_out"]

Filled = nnx.Variable[Any]


def checked(variable: Filled, who: str, ranks: tuple[int, int] = (0, 64)) -> jax.Array:
    """The array that a Variable holds; its rank must lie between the two given."""
    if not isinstance(variable, nnx.Variable):
        raise TypeError(
            f"{who}: expected an nnx.Variable such as layer.kernel, got "
            f"{type(variable).__name__}. An array never changes in JAX; what holds it does."
        )
    array: jax.Array = variable[...]
    low, high = ranks
    if not low <= array.ndim <= high:
        wanted = f"{low}" if low == high else f"{low} to {high}" if high < 64 else f"at least {low}"
        raise ValueError(f"{who}: expected {wanted} axes, got shape {tuple(array.shape)}.")
    return array


def places(array: jax.Array, in_axis: int, out_axis: int, who: str) -> tuple[int, ...]:
    """torch's order of the axes, as positions here: out, in, then all others."""
    rank = array.ndim
    if not (-rank <= in_axis < rank and -rank <= out_axis < rank) or in_axis % rank == (
        out_axis % rank
    ):
        raise ValueError(
            f"{who}: in_axis={in_axis} and out_axis={out_axis} must be two axes of shape "
            f"{tuple(array.shape)}."
        )
    first = (out_axis % rank, in_axis % rank)
    return (*first, *(axis for axis in range(rank) if axis not in first))


def fan_in_and_fan_out(
    variable: Filled, *, in_axis: int = -2, out_axis: int = -1
) -> tuple[int, int]:
    """Return how many numbers one output is made of, and how many outputs one input goes into.

    The twin of torch's ``_calculate_fan_in_and_fan_out``. All other axes are a kernel's window.

    Args:
        in_axis, out_axis: where torch's axes 1 and 0 are: -2 and -1 in every kernel (*, in, out).
            See the module's text for weights that are stored in another order.

    Raises:
        ValueError: fewer than 2 axes; axes that are not two of them.

    >>> import jax.numpy as jnp
    >>> fan_in_and_fan_out(nnx.Param(jnp.zeros((3, 3, 16, 32))))
    (144, 288)

    Source: torch.nn.init, PyTorch 2.13 documentation.
    """
    who = "fan_in_and_fan_out"
    array = checked(variable, who, (2, 64))
    outputs, inputs, *window = (array.shape[i] for i in places(array, in_axis, out_axis, who))
    return inputs * math.prod(window), outputs * math.prod(window)


_LINEAR = {"linear", "sigmoid"} | {
    f"conv{kind}{nd}d" for nd in (1, 2, 3) for kind in ("", "_transpose")
}
_GAINS = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor for the weights in front of a nonlinearity; ``torch.nn.init``'s twin.

    Args:
        nonlinearity: a function's name in ``nn.functional``.
        param: the negative slope of 'leaky_relu', 0.01 unless given.

    Raises:
        ValueError: an unknown name; a slope that is no number.

    >>> calculate_gain("leaky_relu", 1.0)
    1.0

    Source: torch.nn.init.calculate_gain, PyTorch 2.13 documentation.
    """
    if nonlinearity in _LINEAR:
        return 1
    if nonlinearity in _GAINS:
        return _GAINS[nonlinearity]
    if nonlinearity != "leaky_relu":
        known = ", ".join(sorted({*_LINEAR, *_GAINS, "leaky_relu"}))
        raise ValueError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}; known: {known}.")
    slope = 0.01 if param is None else param
    if isinstance(slope, bool) or not isinstance(slope, (int, float)):
        raise ValueError(
            f"calculate_gain: the slope of leaky_relu must be a number, got {slope!r}."
        )
    return math.sqrt(2 / (1 + slope**2))
