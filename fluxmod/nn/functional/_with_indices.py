"""torch's names of the poolings that always return places too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp  # noqa: F401 - used by the doctests

from ._adaptive_pooling import adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d
from ._pooling import max_pool1d, max_pool2d, max_pool3d

__all__ = [
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d_with_indices",
    "max_pool1d_with_indices",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
]

Size = int | Sequence[int]


def max_pool1d_with_indices(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Do what ``max_pool1d(return_indices=True)`` does, whatever ``return_indices`` says.

    >>> len(max_pool1d_with_indices(jnp.ones((1, 4, 1)), 2))
    2

    Source: torch.nn.functional.max_pool1d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def adaptive_max_pool1d_with_indices(
    input: jax.Array, output_size: Any, return_indices: bool = False
) -> Any:
    """Do what ``adaptive_max_pool1d(return_indices=True)`` does.

    >>> len(adaptive_max_pool1d_with_indices(jnp.ones((1, 4, 1)), 2))
    2

    Source: torch.nn.functional.adaptive_max_pool1d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return adaptive_max_pool1d(input, output_size, True)


def max_pool2d_with_indices(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Do what ``max_pool2d(return_indices=True)`` does, whatever ``return_indices`` says.

    >>> len(max_pool2d_with_indices(jnp.ones((1, 4, 4, 1)), 2))
    2

    Source: torch.nn.functional.max_pool2d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def adaptive_max_pool2d_with_indices(
    input: jax.Array, output_size: Any, return_indices: bool = False
) -> Any:
    """Do what ``adaptive_max_pool2d(return_indices=True)`` does.

    >>> len(adaptive_max_pool2d_with_indices(jnp.ones((1, 4, 4, 1)), 2))
    2

    Source: torch.nn.functional.adaptive_max_pool2d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return adaptive_max_pool2d(input, output_size, True)


def max_pool3d_with_indices(
    input: jax.Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Do what ``max_pool3d(return_indices=True)`` does, whatever ``return_indices`` says.

    >>> len(max_pool3d_with_indices(jnp.ones((1, 4, 4, 4, 1)), 2))
    2

    Source: torch.nn.functional.max_pool3d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def adaptive_max_pool3d_with_indices(
    input: jax.Array, output_size: Any, return_indices: bool = False
) -> Any:
    """Do what ``adaptive_max_pool3d(return_indices=True)`` does.

    >>> len(adaptive_max_pool3d_with_indices(jnp.ones((1, 4, 4, 4, 1)), 2))
    2

    Source: torch.nn.functional.adaptive_max_pool3d_with_indices, PyTorch 2.13.
    """
    del return_indices
    return adaptive_max_pool3d(input, output_size, True)
