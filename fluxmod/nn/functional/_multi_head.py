"""Multi-head attention: projections, masks in the sense of torch's layer, weights on request."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fluxmod.nn._random import RandomSource

from ._attention import additive, attention_scores, mask_problem, scaled_dot_product_attention
from ._dropout import dropout
from ._half import compute_dtype
from ._linear import linear

__all__ = ["multi_head_attention_forward"]

# L queries, S keys, N batch, H heads, D head width, E = H * D


def multi_head_attention_forward(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_kernel: jax.Array | None,
    in_proj_bias: jax.Array | None,
    bias_k: jax.Array | None,
    bias_v: jax.Array | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_kernel: jax.Array,
    out_proj_bias: jax.Array | None,
    training: bool = True,
    key_padding_mask: jax.Array | None = None,
    need_weights: bool = True,
    attn_mask: jax.Array | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_kernel: jax.Array | None = None,
    k_proj_kernel: jax.Array | None = None,
    v_proj_kernel: jax.Array | None = None,
    static_k: jax.Array | None = None,
    static_v: jax.Array | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
    precision: Any = None,
    rngs: RandomSource = None,
) -> tuple[jax.Array, jax.Array | None]:
    """Attend with several heads; the arithmetic of ``nn.MultiheadAttention``.

    The twin of ``torch.nn.functional.multi_head_attention_forward``, with its arguments. A query
    that may attend to nothing gives NaN with ``need_weights=True`` and zeros (before the output
    projection) with ``need_weights=False``, as in torch.

    Shape:
        query: (L, N, E), key: (S, N, E_k), value: (S, N, E_v), all with N first if ``batch_first``,
        or all without N; returns query's shape, and weights (N, L, S), or per head (N, H, L, S),
        or None.

    Args:
        in_proj_kernel: (E, 3 E), the transpose of torch's weight; the others are (inputs, E).
        key_padding_mask: (N, S) or (S,); **True means: leave out**; floats are added.
        attn_mask: (L, S) or (N * H, L, S); **True means: leave out**; floats are added.
        static_k, static_v: (N * H, S, D), used in place of the projected key or value.
        is_causal: a promise that ``attn_mask`` is the causal mask.
        rngs: a key, an ``nnx.RngStream`` or ``nnx.Rngs``; needed when training and dropping.

    Raises:
        ValueError: shapes do not fit, or ``is_causal`` comes without ``attn_mask``.
        TypeError: a mask is neither bool nor floating.

    >>> x = jnp.ones((5, 2, 8))
    >>> out, weights = multi_head_attention_forward(
    ...     x, x, x, 8, 2, jnp.ones((8, 24)), None, None, None, False, 0.0, jnp.eye(8), None
    ... )
    >>> out.shape, weights.shape
    ((5, 2, 8), (2, 5, 5))

    Source: torch.nn.functional.multi_head_attention_forward, PyTorch 2.13 documentation.
    """
    kernels: Any = (q_proj_kernel, k_proj_kernel, v_proj_kernel)
    if use_separate_proj_weight:
        in_proj_kernel = None
    else:
        kernels = (None,) * 3 if in_proj_kernel is None else jnp.split(in_proj_kernel, 3, axis=1)
    batched, statics = query.ndim == 3, (static_k, static_v)
    use_position = is_causal and key_padding_mask is None and not need_weights
    _check_ranks(query, key, value, attn_mask, key_padding_mask, is_causal)
    inputs = tuple(_batch_first(x, batch_first) for x in (query, key, value))
    _check_sizes(inputs, embed_dim_to_check, num_heads, kernels, (bias_k, bias_v), statics)
    masks = (None if use_position else attn_mask, key_padding_mask)
    _check_masks(inputs, masks, num_heads, static_k)

    packed = in_proj_kernel if query is key is value else None
    projected = _project(inputs, kernels, packed, in_proj_bias, precision)
    q, k, v = _heads(projected, (bias_k, bias_v), statics, num_heads)
    if add_zero_attn:
        k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))) for x in (k, v))
    mask = _merged_mask(masks, q, k)
    rate = dropout_p if training else 0.0
    weights = None
    if need_weights:
        out, weights = _explicit(q, k, v, mask, rate, precision, rngs)
    else:
        out = scaled_dot_product_attention(
            q, k, v, mask, rate, use_position, precision=precision, rngs=rngs
        )
    out = jnp.swapaxes(out, 1, 2).reshape(*inputs[0].shape)  # (N, L, E)
    out = linear(out, out_proj_kernel, out_proj_bias, precision=precision)
    if weights is not None:
        weights = weights.mean(axis=1) if average_attn_weights else weights
        weights = weights if batched else weights[0]
    return _as_given(out, batched, batch_first), weights


def _explicit(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None,
    rate: float,
    precision: Any,
    rngs: RandomSource,
) -> tuple[jax.Array, jax.Array]:
    """Attention that also returns its weights (after dropout); NaN for fully masked queries."""
    scores = attention_scores(q, k, None, precision)  # (N, H, L, S)
    scores = scores if mask is None else scores + mask
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    batch, heads, *rest = weights.shape
    flat = weights.reshape(batch * heads, *rest)  # torch draws the mask in this shape
    weights = dropout(flat, rate, rngs=rngs, same_order=True).reshape(weights.shape)
    return jnp.matmul(weights, v, precision=precision), weights


def _project(
    inputs: tuple[jax.Array, ...],
    kernels: Any,
    packed: jax.Array | None,
    bias: jax.Array | None,
    precision: Any,
) -> list[jax.Array]:
    """Project query, key and value; in self-attention by one product with the packed kernel."""
    if packed is not None:
        return jnp.split(linear(inputs[0], packed, bias, precision=precision), 3, axis=-1)
    biases = (None,) * 3 if bias is None else jnp.split(bias, 3)
    return [
        linear(x, kernel, b, precision=precision)
        for x, kernel, b in zip(inputs, kernels, biases, strict=True)
    ]


def _heads(
    projected: list[jax.Array],
    rows: tuple[jax.Array | None, ...],
    statics: tuple[jax.Array | None, ...],
    num_heads: int,
) -> list[jax.Array]:
    """Append ``rows`` to key and value, and split (N, L, E) into (N, H, L, D)."""
    heads = []
    for x, row, static in zip(projected, (None, *rows), (None, *statics), strict=True):
        if static is not None:
            heads.append(static.reshape(x.shape[0], num_heads, *static.shape[1:]))
            continue
        if row is not None:
            last = jnp.broadcast_to(row.reshape(1, 1, -1), (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([x, last], axis=1)
        width = x.shape[-1] // num_heads
        heads.append(jnp.swapaxes(x.reshape(*x.shape[:2], num_heads, width), 1, 2))
    return heads


def _merged_mask(
    masks: tuple[jax.Array | None, ...], q: jax.Array, k: jax.Array
) -> jax.Array | None:
    """Add both masks as (N or 1, H or 1, L or 1, S); appended keys are never masked."""
    batch, heads = q.shape[:2]
    dtype = compute_dtype(q.dtype)
    merged: jax.Array | None = None
    for mask, kind in zip(masks, ("attention", "padding"), strict=True):
        if mask is None:
            continue
        mask = additive(mask, dtype, keep=False)
        appended = k.shape[2] - mask.shape[-1]
        mask = jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, appended)])
        if kind == "padding":
            mask = mask.reshape(batch, 1, 1, k.shape[2])
        elif mask.ndim == 2:
            mask = mask[None, None]
        else:
            mask = mask.reshape(batch, heads, *mask.shape[1:])
        merged = mask if merged is None else merged + mask
    return merged


def _batch_first(x: jax.Array, batch_first: bool) -> jax.Array:
    if x.ndim == 2:
        return x[None]
    return x if batch_first else jnp.swapaxes(x, 0, 1)


def _as_given(x: jax.Array, batched: bool, batch_first: bool) -> jax.Array:
    if not batched:
        return x[0]
    return x if batch_first else jnp.swapaxes(x, 0, 1)


def _check_ranks(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None,
    padding: jax.Array | None,
    is_causal: bool,
) -> None:
    problems = []
    if query.ndim not in (2, 3):
        problems.append(f"query must have 3 axes, or 2 without the batch, got shape {query.shape}")
    for name, x, ranks in (
        ("key", key, (query.ndim,)),
        ("value", value, (query.ndim,)),
        ("key_padding_mask", padding, (query.ndim - 1,)),
        ("attn_mask", attn_mask, (2, 3)),
    ):
        if x is not None and x.ndim not in ranks:
            wanted = " or ".join(map(str, ranks))
            problems.append(f"{name} must have {wanted} axes, got shape {x.shape}")
    if is_causal and attn_mask is None:
        problems.append(
            "is_causal is a promise about attn_mask, which is missing; make one with "
            "nn.Transformer.generate_square_subsequent_mask"
        )
    _refuse(ValueError, problems)


def _check_sizes(
    inputs: tuple[jax.Array, ...],
    embed_dim: int,
    num_heads: int,
    kernels: Any,
    rows: tuple[jax.Array | None, ...],
    statics: tuple[jax.Array | None, ...],
) -> None:
    """Check what the arrays and weights must share; ``inputs`` are (N, L, E) here."""
    if any(kernel is None for kernel in kernels):
        _refuse(ValueError, ["in_proj_kernel or all of q_, k_ and v_proj_kernel must be given"])
    problems = []
    query, key, value = inputs
    if embed_dim % num_heads:
        problems.append(f"embed_dim {embed_dim} must be divisible by num_heads {num_heads}")
    widths = (embed_dim, kernels[1].shape[0], kernels[2].shape[0])
    for name, x, width in zip(("query", "key", "value"), inputs, widths, strict=True):
        if x.shape[-1] != width:
            problems.append(f"{name} must have {width} features (last axis), got {x.shape[-1]}")
    if key.shape[1] != value.shape[1]:
        problems.append(f"key and value differ in length: {key.shape[1]} and {value.shape[1]}")
    if not query.shape[0] == key.shape[0] == value.shape[0]:
        sizes = ", ".join(str(x.shape[0]) for x in inputs)
        problems.append(f"query, key and value must have one batch size, got {sizes}")
    if (rows[0] is None) != (rows[1] is None):
        problems.append("bias_k and bias_v go together")
    batch_heads, width = query.shape[0] * num_heads, embed_dim // num_heads
    for name, static, row in zip(("static_k", "static_v"), statics, rows, strict=True):
        if static is None:
            continue
        if (static.ndim, static.shape[0], static.shape[-1]) != (3, batch_heads, width):
            problems.append(f"{name} must be ({batch_heads}, S, {width}), got {static.shape}")
        if row is not None:
            problems.append(f"{name} excludes bias_{name[-1]}")
    _refuse(ValueError, problems)


def _check_masks(
    inputs: tuple[jax.Array, ...],
    masks: tuple[jax.Array | None, ...],
    num_heads: int,
    static_k: jax.Array | None,
) -> None:
    query, key, _ = inputs
    batch, targets = query.shape[:2]
    sources = key.shape[1] if static_k is None else static_k.shape[1]
    named = [(n, m) for n, m in zip(("attn_mask", "key_padding_mask"), masks, strict=True)]
    found = (mask_problem(m, n, query.dtype) for n, m in named if m is not None)
    _refuse(TypeError, [problem for problem in found if problem])
    attention, padding = masks
    problems = []
    if attention is not None:
        lead = () if attention.ndim == 2 else (batch * num_heads,)
        if attention.shape != (*lead, targets, sources):
            wanted = (*lead, targets, sources)
            problems.append(f"attn_mask must be {wanted}, got {attention.shape}")
    if padding is not None and padding.shape not in ((batch, sources), (sources,)):
        problems.append(f"key_padding_mask must be {(batch, sources)}, got {padding.shape}")
    _refuse(ValueError, problems)


def _refuse(error: type[Exception], problems: list[str]) -> None:
    if problems:
        raise error(f"MultiheadAttention: {'; '.join(problems)}.")
