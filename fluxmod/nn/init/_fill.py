"""Fillings without chance: constants and identities."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ._fans import Filled, checked, places

__all__ = ["constant_", "dirac_", "eye_", "ones_", "zeros_"]


def constant_(variable: Filled, val: float) -> Filled:
    """Fill with one number and return the Variable; the twin of ``torch.nn.init.constant_``.

    >>> from flax import nnx
    >>> constant_(nnx.Param(jnp.zeros(2)), 0.5)[...].tolist()
    [0.5, 0.5]

    Source: torch.nn.init.constant_, PyTorch 2.13 documentation.
    """
    array = checked(variable, "constant_")
    variable[...] = jnp.full(array.shape, val, array.dtype)
    return variable


def ones_(variable: Filled) -> Filled:
    """Fill with ones; the twin of ``torch.nn.init.ones_``."""
    return constant_(variable, 1.0)


def zeros_(variable: Filled) -> Filled:
    """Fill with zeros; the twin of ``torch.nn.init.zeros_``."""
    return constant_(variable, 0.0)


def eye_(variable: Filled) -> Filled:
    """Fill a matrix with the identity; the twin of ``torch.nn.init.eye_``.

    Raises:
        ValueError: another number of axes than 2.

    >>> from flax import nnx
    >>> eye_(nnx.Param(jnp.ones((2, 3))))[...].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    Source: torch.nn.init.eye_, PyTorch 2.13 documentation.
    """
    array = checked(variable, "eye_", (2, 2))
    variable[...] = jnp.eye(array.shape[0], array.shape[1], dtype=array.dtype)
    return variable


def dirac_(variable: Filled, groups: int = 1, *, in_axis: int = -2, out_axis: int = -1) -> Filled:
    """Fill a convolution's kernel so that it hands its input on; ``torch.nn.init.dirac_``.

    Args:
        groups: the convolution's; each group of channels is handed on.
        in_axis, out_axis: as in ``fan_in_and_fan_out``.

    Raises:
        ValueError: another number of axes than 3 to 5; outputs that ``groups`` does not divide.

    >>> from flax import nnx
    >>> dirac_(nnx.Param(jnp.ones((3, 1, 1))))[...].ravel().tolist()
    [0.0, 1.0, 0.0]

    Source: torch.nn.init.dirac_, PyTorch 2.13 documentation.
    """
    array = checked(variable, "dirac_", (3, 5))
    order = places(array, in_axis, out_axis, "dirac_")
    outputs, inputs, *window = (array.shape[i] for i in order)
    if groups < 1 or outputs % groups:
        raise ValueError(f"dirac_: groups={groups} must divide the {outputs} outputs.")
    filled = np.zeros((outputs, inputs, *window), np.float32)
    share = outputs // groups
    channel = np.arange(min(share, inputs))
    for group in range(groups):
        centre = tuple(int(size) // 2 for size in window)
        at: Any = (group * share + channel, channel, *centre)
        filled[at] = 1
    variable[...] = jnp.asarray(filled.transpose(np.argsort(order)), array.dtype)
    return variable
