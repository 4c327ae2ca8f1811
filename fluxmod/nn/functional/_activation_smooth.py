"""Activations made of exponentials, and the gated linear unit."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._activation import elementwise

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "logsigmoid",
    "mish",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
    "tanhshrink",
]

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def _elu(x: jax.Array, alpha: float, scale: float = 1.0) -> jax.Array:
    """``scale * alpha * expm1(x)`` up to 0, ``scale * x`` above."""
    low = x <= 0
    # the branch not taken must not overflow: its gradient would be 0 * inf
    bent = _expm1(jnp.where(low, x, 0)) * (alpha * scale)
    return jnp.where(low, bent, x * scale)


@jax.custom_jvp
def _expm1(x: jax.Array) -> jax.Array:
    """``jnp.expm1``, whose own derivative, its value plus one, cancels far below zero."""
    return jnp.expm1(x)


@_expm1.defjvp
def _expm1_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return _expm1(primals[0]), tangents[0] * jnp.exp(primals[0])


@elementwise()
def elu(input: jax.Array, alpha: float = 1.0, inplace: bool = False) -> jax.Array:
    """Compute x above 0 and ``alpha * (exp(x) - 1)`` below; ``torch.nn.functional.elu``.

    >>> elu(jnp.array([-50.0, 0.0, 2.0])).tolist()
    [-1.0, 0.0, 2.0]

    Source: torch.nn.functional.elu, PyTorch 2.13 documentation; Clevert et al., 2015.
    """
    return _elu(input, alpha)


@elementwise()
def selu(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Compute the self-normalising elu; the twin of ``torch.nn.functional.selu``.

    >>> [f"{y:.4f}" for y in selu(jnp.array([-50.0, 0.0, 2.0]))]
    ['-1.7581', '0.0000', '2.1014']

    Source: torch.nn.functional.selu, PyTorch 2.13 documentation; Klambauer et al., 2017.
    """
    return _elu(input, _SELU_ALPHA, _SELU_SCALE)


@elementwise()
def celu(input: jax.Array, alpha: float = 1.0, inplace: bool = False) -> jax.Array:
    """Compute the elu with slope 1 at 0 for every alpha; ``torch.nn.functional.celu``.

    Raises:
        ValueError: ``alpha`` is 0.

    >>> celu(jnp.array([-50.0, 0.0, 2.0]), 0.5).tolist()
    [-0.5, 0.0, 2.0]

    Source: torch.nn.functional.celu, PyTorch 2.13 documentation; Barron, 2017.
    """
    if alpha == 0:
        raise ValueError("celu: alpha must not be 0, it divides the input.")
    return _celu(input, alpha)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _celu(x: jax.Array, alpha: float) -> jax.Array:
    return jnp.where(x <= 0, alpha * jnp.expm1(x * (1 / alpha)), x)


@_celu.defjvp
def _celu_jvp(
    alpha: float, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # torch rounds alpha to float32 in its gradient, in every dtype
    inverse = 1 / float(np.float32(alpha))
    (x,), (tangent,) = primals, tangents
    slope = jnp.where(x <= 0, alpha * inverse * jnp.exp(jnp.where(x <= 0, x, 0) * inverse), 1)
    return _celu(x, alpha), tangent * slope


@elementwise()
def gelu(input: jax.Array, approximate: str = "none") -> jax.Array:
    """Multiply by the normal distribution function; the twin of ``torch.nn.functional.gelu``.

    Args:
        approximate: 'none' is exact, 'tanh' the older approximation (Flax's default).

    Raises:
        ValueError: any other ``approximate``.

    >>> [f"{y:.4f}" for y in gelu(jnp.array([-1.0, 0.0, 1.0]))]
    ['-0.1587', '0.0000', '0.8413']

    Source: torch.nn.functional.gelu, PyTorch 2.13 documentation; Hendrycks and Gimpel, 2016.
    """
    if approximate == "none":
        return input * 0.5 * lax.erfc(input * -math.sqrt(0.5))
    if approximate != "tanh":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}.")
    inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
    return 0.5 * input * (1 + jnp.tanh(inner))


@elementwise()
def silu(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Compute ``x * sigmoid(x)``; the twin of ``torch.nn.functional.silu``.

    >>> [f"{y:.4f}" for y in silu(jnp.array([-1.0, 0.0, 1.0]))]
    ['-0.2689', '0.0000', '0.7311']

    Source: torch.nn.functional.silu, PyTorch 2.13 documentation; Elfwing et al., 2017.
    """
    return input * jax.nn.sigmoid(input)


@elementwise()
def mish(input: jax.Array, inplace: bool = False) -> jax.Array:
    """Compute ``x * tanh(softplus(x))``; the twin of ``torch.nn.functional.mish``.

    >>> [f"{y:.4f}" for y in mish(jnp.array([-1.0, 0.0, 1.0]))]
    ['-0.3034', '0.0000', '0.8651']

    Source: torch.nn.functional.mish, PyTorch 2.13 documentation; Misra, 2019.
    """
    return input * jnp.tanh(jnp.logaddexp(input, 0))


@elementwise(integers="promote")
def sigmoid(input: jax.Array) -> jax.Array:
    """Compute ``1 / (1 + exp(-x))``; the twin of ``torch.nn.functional.sigmoid``.

    >>> sigmoid(jnp.array([0.0])).tolist()
    [0.5]

    Source: torch.sigmoid, PyTorch 2.13 documentation.
    """
    return jax.nn.sigmoid(input)


@elementwise(integers="promote")
def tanh(input: jax.Array) -> jax.Array:
    """Compute the hyperbolic tangent; the twin of ``torch.nn.functional.tanh``.

    >>> tanh(jnp.array([0.0])).tolist()
    [0.0]

    Source: torch.tanh, PyTorch 2.13 documentation.
    """
    return jnp.tanh(input)


@elementwise()
def softplus(input: jax.Array, beta: float = 1.0, threshold: float = 20.0) -> jax.Array:
    """Compute ``log(1 + exp(beta * x)) / beta``; the twin of ``torch.nn.functional.softplus``.

    Args:
        threshold: above it ``beta * x`` is taken as is.

    >>> [f"{y:.4f}" for y in softplus(jnp.array([0.0, 21.0]))]
    ['0.6931', '21.0000']

    Source: torch.nn.functional.softplus, PyTorch 2.13 documentation.
    """
    scaled = input * beta
    linear = scaled > threshold
    return jnp.where(linear, input, jnp.log1p(jnp.exp(jnp.where(linear, 0, scaled))) / beta)


@elementwise(integers="promote")
def softsign(input: jax.Array) -> jax.Array:
    """Compute ``x / (1 + |x|)``; the twin of ``torch.nn.functional.softsign``.

    >>> softsign(jnp.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]

    Source: torch.nn.functional.softsign, PyTorch 2.13 documentation.
    """
    if jnp.issubdtype(input.dtype, jnp.complexfloating):
        return input / (1 + jnp.abs(input))
    return input / (1 + lax.stop_gradient(jnp.sign(input)) * input)


@elementwise()
def logsigmoid(input: jax.Array) -> jax.Array:
    """Compute ``log(sigmoid(x))`` without overflow; ``torch.nn.functional.logsigmoid``.

    >>> logsigmoid(jnp.array([-1000.0])).tolist()
    [-1000.0]

    Source: torch.nn.functional.logsigmoid, PyTorch 2.13 documentation.
    """
    return -jnp.logaddexp(-input, 0)


@elementwise(integers="promote")
def tanhshrink(input: jax.Array) -> jax.Array:
    """Compute ``x - tanh(x)``; the twin of ``torch.nn.functional.tanhshrink``.

    >>> tanhshrink(jnp.array([0.0])).tolist()
    [0.0]

    Source: torch.nn.functional.tanhshrink, PyTorch 2.13 documentation.
    """
    return input - jnp.tanh(input)


@elementwise()
def glu(input: jax.Array, dim: int = -1) -> jax.Array:
    """Gate one half of an axis with the other; the twin of ``torch.nn.functional.glu``.

    Args:
        dim: the axis to halve, counted in the array given.

    Raises:
        IndexError: no such axis.
        ValueError: an axis of odd size; a scalar.

    >>> glu(jnp.array([[8.0, 0.0]])).tolist()
    [[4.0]]

    Source: torch.nn.functional.glu, PyTorch 2.13 documentation; Dauphin et al., 2016.
    """
    if input.ndim == 0:
        raise ValueError("glu: expected an axis to halve, got a scalar.")
    if not -input.ndim <= dim < input.ndim:
        raise IndexError(f"glu: dim={dim} is out of range for shape {tuple(input.shape)}.")
    if input.shape[dim] % 2:
        raise ValueError(f"glu: axis {dim} must have an even size, got shape {tuple(input.shape)}.")
    value, gate = jnp.split(input, 2, axis=dim)
    return value * jax.nn.sigmoid(gate)
