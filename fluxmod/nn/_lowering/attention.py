"""Attention by the vendor's fused kernel, where that computes the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["fused_attention"]

MOST_WIDTH = 128
"""Head widths that cuDNN takes on every card it has the kernel for."""
STRICT = ("highest", "float32")


def fused_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, *, is_causal: bool, scale: float
) -> jax.Array | None:
    """Attention without mask and dropout by cuDNN, or None where it is no match.

    cuDNN takes half precision on NVIDIA cards from Ampere on, adds in float32 as torch does, and
    never writes the scores. It knows no forward-mode derivatives and no second ones:
    ``jax.default_matmul_precision("highest")`` keeps to XLA's products.

    Shape:
        query: (*, H, L, D); key, value: (*, H_kv, S, D), H_kv dividing H; returns (*, H, L, D).
    """
    if not _is_match(query, key, value):
        return None
    lead = query.shape[:-3]
    # jax.nn has lines before heads, and one axis of examples
    q, k, v = (jnp.swapaxes(x.reshape(-1, *x.shape[-3:]), 1, 2) for x in (query, key, value))
    out = jax.nn.dot_product_attention(
        q, k, v, is_causal=is_causal, scale=scale, implementation="cudnn"
    )
    return jnp.swapaxes(out, 1, 2).reshape(*lead, *query.shape[-3:])


def _is_match(query: jax.Array, key: jax.Array, value: jax.Array) -> bool:
    width = query.shape[-1]
    config: Any = jax.config  # whose annotations leave its settings out
    return (
        query.dtype in (jnp.float16, jnp.bfloat16)
        and query.ndim >= 3
        and query.shape[:-3] == key.shape[:-3] == value.shape[:-3]
        and key.shape == value.shape
        and 0 not in (*query.shape, *key.shape)
        and query.shape[-3] % key.shape[-3] == 0
        and width <= MOST_WIDTH
        and width % 8 == 0
        and config.jax_default_matmul_precision not in STRICT
        and _has_kernel()
    )


def _has_kernel() -> bool:
    """Whether the default device is an NVIDIA card that cuDNN's attention runs on."""
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    return float(device.compute_capability) >= 8.0
