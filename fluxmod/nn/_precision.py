"""Mixed precision: layers compute in one dtype, parameters keep theirs."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

__all__ = ["compute_in"]

M = TypeVar("M", bound=nnx.Module)


def compute_in(model: M, dtype: Any) -> M:
    """Let every layer of a model compute in ``dtype``, in place; return the model.

    Flax's ``dtype`` of every layer that has one, set in one go: a layer casts its inputs and its
    parameters when it is called. Parameters, gradients, optimizer state and running statistics
    keep their dtypes, and norms take their means in float32. What a model computes between its
    layers follows from what they return, as JAX promotes it. Cast what the model returns before a
    loss sums it: ``logits.astype(jnp.float32)``.

    Args:
        model: any ``nnx.Module``, layers of flax.nnx among them.
        dtype: a floating dtype, ``jnp.bfloat16``; None: that of inputs and parameters again.

    Raises:
        TypeError: the dtype is not a floating one; no layer is changed.

    >>> from fluxmod import nn
    >>> model = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.BatchNorm1d(4))
    >>> out = compute_in(model, jnp.bfloat16)(jnp.ones((2, 3)))
    >>> str(out.dtype), str(model[0].kernel.dtype), str(model[1].mean.dtype)
    ('bfloat16', 'float32', 'float32')

    Source: ``dtype`` and ``param_dtype`` of the layers of flax.nnx; torch.autocast.
    """
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"compute_in: expected a floating dtype such as jnp.bfloat16, got {np.dtype(dtype)}."
        )
    for _, module in nnx.iter_modules(model):
        if _takes_dtype(type(module)):
            module.dtype = dtype  # type: ignore[attr-defined]
    return model


@cache
def _takes_dtype(kind: type) -> bool:
    """Whether it is a layer of fluxmod or of flax.nnx with a dtype to compute in."""
    layers = [c for c in kind.__mro__ if c.__module__.startswith(("fluxmod.nn.", "flax.nnx.nn."))]
    made = [vars(c)["__init__"] for c in layers if "__init__" in vars(c)]
    return any("dtype" in inspect.signature(init).parameters for init in made)
