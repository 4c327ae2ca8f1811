"""Moving a model to a dtype or a device; torch's ``Module.to``."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from ._check import x64_enabled
from ._module import named_modules

__all__ = ["to"]

M = TypeVar("M", bound=nnx.Module)


def to(module: M, device: Any = None, dtype: Any = None) -> M:
    """Move a module's arrays to a device or sharding, and its floats to a dtype, in place.

    The twin of ``torch.nn.Module.to``, for any ``nnx.Module``: ``to(model, dtype=jnp.bfloat16)``
    is torch's ``model.bfloat16()``, ``to(model, jax.devices("gpu")[0])`` its ``model.cuda()``.
    Integers, booleans and random keys keep their dtype.

    Args:
        device: a ``jax.Device`` or ``jax.sharding.Sharding``.
        dtype: a floating dtype; float64 needs ``jax.enable_x64(True)``.

    Returns:
        The module itself.

    Raises:
        TypeError: ``dtype`` is not floating, or is float64 without x64.

    >>> from fluxmod import nn
    >>> nn.to(nn.Linear(2, 3, rngs=nnx.Rngs(0)), dtype=jnp.bfloat16).kernel.dtype
    dtype(bfloat16)

    Source: torch.nn.Module.to, PyTorch 2.13 documentation.
    """
    if dtype is not None:
        _check(dtype)
    seen: set[int] = set()
    for _, node in named_modules(module):
        if dtype is not None and hasattr(node, "param_dtype"):
            node.param_dtype = dtype
        for variable in (v for v in vars(node).values() if isinstance(v, nnx.Variable)):
            if id(variable) not in seen:
                seen.add(id(variable))
                variable.set_value(_moved(variable.get_value(), device, dtype))
    return module


def _check(dtype: Any) -> None:
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"to: dtype must be floating, got {dtype!r}.")
    if jnp.dtype(dtype) == jnp.float64 and not x64_enabled():
        raise TypeError("to: float64 needs x64; call it inside jax.enable_x64(True).")


def _moved(value: Any, device: Any, dtype: Any) -> Any:
    if dtype is not None and jnp.issubdtype(value.dtype, jnp.floating):
        value = value.astype(dtype)
    return value if device is None else jax.device_put(value, device)
