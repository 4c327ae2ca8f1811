"""Parameters as one vector, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Any]) -> jax.Array:
    """Flatten parameters, in the order and the layout given, into one vector.

    For a whole model ``jax.flatten_util.ravel_pytree(nnx.state(model, nnx.Param))`` does it too.

    Args:
        parameters: Variables or arrays.

    >>> from fluxmod import nn
    >>> layer = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> parameters_to_vector([layer.kernel, layer.bias]).shape
    (9,)

    Source: torch.nn.utils.parameters_to_vector, PyTorch 2.13 documentation.
    """
    return jnp.concatenate([jnp.ravel(p[...]) for p in parameters])


def vector_to_parameters(vec: jax.Array, parameters: Iterable[nnx.Variable[Any]]) -> None:
    """Write a vector's pieces into Variables, in their order.

    Raises:
        TypeError: ``vec`` is no array.
        ValueError: the vector is not as long as the parameters together; nothing is written.

    >>> from fluxmod import nn
    >>> layer = nn.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> vector_to_parameters(jnp.arange(3.0), [layer.kernel, layer.bias])
    >>> layer.kernel[...].tolist(), layer.bias[...].tolist()
    ([[0.0], [1.0]], [2.0])

    Source: torch.nn.utils.vector_to_parameters, PyTorch 2.13 documentation.
    """
    if not hasattr(vec, "dtype"):
        raise TypeError(f"vector_to_parameters: expected an array, got {type(vec).__name__}.")
    every = list(parameters)
    sizes = [math.prod(p.shape) for p in every]
    if vec.shape != (sum(sizes),):
        raise ValueError(
            f"vector_to_parameters: expected shape ({sum(sizes)},) for {len(every)} parameters, "
            f"got {tuple(vec.shape)}."
        )
    start = 0
    for parameter, size in zip(every, sizes, strict=True):
        piece = vec[start : start + size].reshape(parameter.shape)
        parameter.set_value(piece.astype(parameter.dtype))
        start += size
