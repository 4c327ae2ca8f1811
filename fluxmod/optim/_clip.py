"""Gradient clipping, as gradient transformations to put in front of an optimizer."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._family import check_rate, wide

__all__ = ["clip_grad_norm", "clip_grad_value", "total_norm"]


def total_norm(grads: Any, norm_type: float = 2.0) -> jax.Array:
    """Return the norm of all gradients taken as one vector.

    >>> total_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}).item()
    5.0

    Source: torch.nn.utils.get_total_norm.
    """
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(grads)]
    if not leaves:
        return jnp.zeros(())
    dtype = jnp.result_type(jnp.float32, *leaves)
    norms = [jnp.linalg.norm(leaf.astype(dtype), norm_type) for leaf in leaves if leaf.size]
    return jnp.linalg.norm(jnp.stack(norms), norm_type) if norms else jnp.zeros((), dtype)


def clip_grad_norm(max_norm: float, norm_type: float = 2.0) -> optax.GradientTransformation:
    """Scale all gradients so that their norm is at most ``max_norm``; ``clip_grad_norm_``.

    ``g * min(1, max_norm / (norm + 1e-6))``, as torch has it and optax (without 1e-6) has not.

    Raises:
        ValueError: ``max_norm`` below zero.

    >>> tx = optax.chain(clip_grad_norm(1.0), optax.sgd(1.0))
    >>> grads = {"w": jnp.array([3.0, 4.0])}
    >>> [round(x, 3) for x in tx.update(grads, tx.init(grads))[0]["w"].tolist()]
    [-0.6, -0.8]

    Source: torch.nn.utils.clip_grad_norm_, PyTorch 2.13 documentation.
    """
    check_rate("clip_grad_norm", max_norm=max_norm)
    if not (norm_type > 0 or math.isinf(norm_type)):
        raise ValueError(f"clip_grad_norm: norm_type must be above 0, got {norm_type}.")

    def scale(grads: Any, params: Any = None) -> Any:
        del params
        factor = jnp.minimum(max_norm / (total_norm(grads, norm_type) + 1e-6), 1.0)
        return jax.tree.map(lambda g: (g * wide(factor, g)).astype(g.dtype), grads)

    return optax.stateless(scale)


def clip_grad_value(clip_value: float) -> optax.GradientTransformation:
    """Bring every element of the gradients into [-clip_value, clip_value]; ``clip_grad_value_``.

    Raises:
        ValueError: ``clip_value`` below zero.

    >>> tx = clip_grad_value(1.0)
    >>> tx.update({"w": jnp.array([-3.0, 0.5])}, tx.init({}))[0]["w"].tolist()
    [-1.0, 0.5]

    Source: torch.nn.utils.clip_grad_value_, PyTorch 2.13 documentation.
    """
    check_rate("clip_grad_value", clip_value=clip_value)
    return optax.clip(clip_value)
