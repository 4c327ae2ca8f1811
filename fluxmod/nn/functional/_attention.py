"""Scaled dot-product attention in torch's layout, with zeros for rows that attend to nothing."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from fluxmod.nn._lowering import fused_attention
from fluxmod.nn._random import RandomSource

from ._dropout import dropout
from ._half import compute_dtype

__all__ = ["scaled_dot_product_attention"]

# L queries, S keys, D head width, Dv value width, H heads


def scaled_dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    precision: Any = None,
    rngs: RandomSource = None,
) -> jax.Array:
    """Compute ``softmax(query @ key^T * scale + mask) @ value``.

    The twin of ``torch.nn.functional.scaled_dot_product_attention``. A row without any position to
    attend to gives zeros, and its gradient is zero. Half precision takes the softmax in float32.
    On a GPU, half precision without mask and dropout is cuDNN's fused kernel, which has neither
    forward-mode nor second derivatives; ``jax.default_matmul_precision("highest")`` keeps it out.

    Shape:
        query: (*, H, L, D); key: (*, H, S, D); value: (*, H, S, Dv); returns (*, H, L, Dv). Leading
        axes broadcast.

    Args:
        attn_mask: broadcasts to (*, H, L, S); **True means: attend** (the opposite of
            ``nn.MultiheadAttention``); floats are added to the scores.
        dropout_p: probability of dropping an attention weight; as in torch there is no mode here.
        is_causal: position i attends to positions up to i, counted from the top left.
        scale: 1 / sqrt(D) unless given.
        enable_gqa: key and value may have fewer heads; each serves H / H_kv query heads.
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs``; needed when 0 < dropout_p < 1.

    Raises:
        ValueError: shapes do not fit, or both ``attn_mask`` and ``is_causal`` are given.
        TypeError: dtypes differ, or the mask is neither bool nor floating.

    >>> q, k = jnp.ones((2, 4, 3, 8)), jnp.ones((2, 4, 5, 8))
    >>> scaled_dot_product_attention(q, k, k).shape
    (2, 4, 3, 8)
    >>> nothing = jnp.zeros((3, 5), bool)
    >>> scaled_dot_product_attention(q, k, k, nothing).max().item()
    0.0

    Source: torch.nn.functional.scaled_dot_product_attention, PyTorch 2.13 documentation.
    """
    _check(query, key, value, attn_mask, is_causal, enable_gqa)
    if attn_mask is None and dropout_p == 0 and (enable_gqa or query.shape[:-2] == key.shape[:-2]):
        factor = _scale(query) if scale is None else scale
        fused = fused_attention(query, key, value, is_causal=is_causal, scale=factor)
        if fused is not None:
            return fused
    if enable_gqa:
        key = jnp.repeat(key, query.shape[-3] // key.shape[-3], axis=-3)
        value = jnp.repeat(value, query.shape[-3] // value.shape[-3], axis=-3)
    scores = attention_scores(query, key, scale, precision)
    if is_causal:
        attn_mask = jnp.tri(scores.shape[-2], scores.shape[-1], dtype=jnp.bool_)
    if attn_mask is not None:
        scores = scores + _broadcast_mask(attn_mask, scores)
    weights = safe_softmax(scores).astype(value.dtype)
    weights = dropout(weights, dropout_p, rngs=rngs, same_order=True)
    return _matmul(weights, value, precision=precision)


def attention_scores(
    query: jax.Array, key: jax.Array, scale: float | None = None, precision: Any = None
) -> jax.Array:
    """Return ``query @ key^T * scale``; half precision gives float32 scores.

    >>> attention_scores(jnp.ones((3, 4)), jnp.ones((5, 4))).tolist()[0]
    [2.0, 2.0, 2.0, 2.0, 2.0]
    """
    if scale is None:
        scale = _scale(query)
    scores = _matmul(
        query,
        jnp.swapaxes(key, -1, -2),
        precision=precision,
        preferred_element_type=compute_dtype(query.dtype),
    )
    return scores * scale


def _scale(query: jax.Array) -> float:
    return 1.0 / math.sqrt(max(query.shape[-1], 1))


@jax.custom_jvp
def safe_softmax(scores: jax.Array) -> jax.Array:
    """Softmax over the last axis in which a row of nothing but -inf gives zeros, not NaN.

    >>> safe_softmax(jnp.array([[0.0, 0.0], [-jnp.inf, -jnp.inf]])).tolist()
    [[0.5, 0.5], [0.0, 0.0]]

    Source: ``_safe_softmax`` of torch's attention.
    """
    top = jnp.max(scores, axis=-1, keepdims=True, initial=-jnp.inf)
    powers = jnp.exp(scores - jnp.where(jnp.isneginf(top), jnp.zeros_like(top), top))
    total = jnp.sum(powers, axis=-1, keepdims=True)
    return powers / jnp.where(total == 0, jnp.ones_like(total), total)


@safe_softmax.defjvp
def _safe_softmax_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    weights = safe_softmax(*primals)
    inner = jnp.sum(weights * tangents[0], axis=-1, keepdims=True)
    return weights, weights * (tangents[0] - inner)


def additive(mask: jax.Array, dtype: Any, *, keep: bool) -> jax.Array:
    """Turn a mask into what is added to the scores: 0 or -inf for bools, floats as they are.

    Args:
        keep: the bool that means "attend": True in the function, False in the layers.

    >>> additive(jnp.array([True, False]), jnp.float32, keep=False).tolist()
    [-inf, 0.0]
    """
    if mask.dtype == jnp.bool_:
        return jnp.where(mask if keep else ~mask, 0.0, -jnp.inf).astype(dtype)
    return mask.astype(dtype)


def mask_problem(mask: jax.Array, name: str, dtype: Any) -> str | None:
    """Say what is wrong with a mask's dtype for queries of ``dtype``, or return None.

    >>> mask_problem(jnp.zeros(3, jnp.int32), "attn_mask", jnp.float32)
    'attn_mask must be bool or floating, got int32'
    """
    if mask.dtype == jnp.bool_:
        return None
    if not jnp.issubdtype(mask.dtype, jnp.floating):
        return f"{name} must be bool or floating, got {mask.dtype}"
    used = compute_dtype(dtype)
    if jnp.promote_types(mask.dtype, used) != used:
        return f"{name} must be no wider than the query's {jnp.dtype(dtype)}, got {mask.dtype}"
    return None


def _matmul(a: jax.Array, b: jax.Array, **options: Any) -> jax.Array:
    """Multiply matrices whose leading axes broadcast, ranks may differ."""
    rank = max(a.ndim, b.ndim)
    a, b = (x.reshape((1,) * (rank - x.ndim) + x.shape) for x in (a, b))
    return jnp.matmul(a, b, **options)


def _broadcast_mask(mask: jax.Array, scores: jax.Array) -> jax.Array:
    try:
        whole = jnp.broadcast_shapes(mask.shape, scores.shape)
    except ValueError:
        whole = ()
    if whole != scores.shape:
        raise ValueError(
            f"scaled_dot_product_attention: attn_mask must broadcast to the scores' shape "
            f"{scores.shape}, got {mask.shape}."
        )
    mask = mask.reshape((1,) * (scores.ndim - mask.ndim) + mask.shape)
    return additive(mask, scores.dtype, keep=True)


def _check(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    is_causal: bool,
    enable_gqa: bool,
) -> None:
    """Raise one error that lists everything wrong with the arguments."""
    who = "scaled_dot_product_attention"
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    least = 3 if enable_gqa else 2
    if min(query.ndim, key.ndim, value.ndim) < least:
        raise ValueError(f"{who}: expected arrays of at least {least} axes, got {shapes}.")
    kinds = []
    if not (query.dtype == key.dtype == value.dtype and jnp.issubdtype(query.dtype, jnp.floating)):
        kinds.append(
            f"query, key and value must have one floating dtype, got {query.dtype}, {key.dtype} "
            f"and {value.dtype}"
        )
    elif mask is not None and (problem := mask_problem(mask, "attn_mask", query.dtype)):
        kinds.append(problem)
    if kinds:
        raise TypeError(f"{who}: {'; '.join(kinds)}.")
    problems = []
    if query.shape[-1] != key.shape[-1]:
        problems.append("query and key differ in width (last axis)")
    if key.shape[-2] != value.shape[-2]:
        problems.append("key and value differ in length (axis -2)")
    if enable_gqa and any(x.shape[-3] == 0 or query.shape[-3] % x.shape[-3] for x in (key, value)):
        problems.append("the heads of key and value (axis -3) must divide the heads of query")
    if mask is not None and is_causal:
        problems.append("attn_mask and is_causal exclude each other; put the triangle in the mask")
    if problems:
        raise ValueError(f"{who}: {'; '.join(problems)}. Got {shapes}.")
