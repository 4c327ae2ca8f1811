"""MultiheadAttention."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F

from ._check import check_floating
from ._init import xavier_uniform
from ._linear import Linear
from ._module import Module
from ._random import RandomSource

__all__ = ["MultiheadAttention"]


_WEIGHTS = (
    "in_proj_kernel",
    "in_proj_bias",
    "bias_k",
    "bias_v",
    "q_proj_kernel",
    "k_proj_kernel",
    "v_proj_kernel",
)


class NonDynamicallyQuantizableLinear(Linear):
    """A ``Linear`` under the name that torch prints for ``MultiheadAttention.out_proj``."""


class MultiheadAttention(Module):
    """Attend with several heads; the twin of ``torch.nn.MultiheadAttention``.

    Shape:
        query: (L, N, embed_dim), key: (S, N, kdim), value: (S, N, vdim); N comes first with
        ``batch_first``, and all may come without N. Returns the output in query's shape, and the
        weights averaged over the heads (N, L, S), or per head (N, num_heads, L, S), or None.

    Args:
        dropout: probability of dropping an attention weight in training mode.
        add_bias_kv: append a learned row to the projected key and value.
        add_zero_attn: append a row of zeros to them.
        rngs: source of the 'params' keys and of the 'dropout' stream.

    Differs from torch: ``in_proj_kernel`` (or ``q_proj_kernel``, ``k_proj_kernel`` and
    ``v_proj_kernel``, when kdim or vdim differ from embed_dim) is the transpose of torch's weight.
    A float mask may be narrower than the query. torch's inference-only fast path, which returns
    other values for queries that are padding, is not mirrored.

    Raises:
        ValueError: sizes that are not positive or not divisible; arrays or masks that do not fit.
        TypeError: a mask is neither bool nor floating.

    >>> attention = MultiheadAttention(8, num_heads=2, batch_first=True, rngs=nnx.Rngs(0))
    >>> attention.in_proj_kernel.shape, attention.out_proj.kernel.shape
    ((8, 24), (8, 8))
    >>> x = jnp.ones((3, 5, 8))
    >>> out, weights = attention(x, x, x)
    >>> out.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))

    Source: torch.nn.MultiheadAttention, PyTorch 2.13 documentation; Vaswani et al., 2017.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim and num_heads must be positive and embed_dim "
                f"divisible by num_heads, got embed_dim={embed_dim} and num_heads={num_heads}."
            )
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.head_dim = embed_dim // num_heads
        self.add_zero_attn = add_zero_attn
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        self._make_projections(bias, rngs)
        self._make_rows(add_bias_kv, rngs)
        self.rngs = nnx.data(rngs.dropout.fork() if dropout > 0 else None)

    def _make_projections(self, bias: bool, rngs: nnx.Rngs) -> None:
        """Xavier-uniform kernels, zero biases; the output kernel is a Linear's own."""
        width, dtype = self.embed_dim, self.param_dtype
        packed = self.kdim == self.vdim == width

        def kernel(present: bool, inputs: int, outputs: int) -> Any:
            if not present:
                return nnx.data(None)
            shape = (inputs, outputs)
            return nnx.Param(xavier_uniform(rngs.params(), shape, dtype, inputs, outputs))

        self.in_proj_kernel = kernel(packed, width, 3 * width)
        self.q_proj_kernel = kernel(not packed, width, width)
        self.k_proj_kernel = kernel(not packed, self.kdim, width)
        self.v_proj_kernel = kernel(not packed, self.vdim, width)
        self.in_proj_bias = nnx.Param(jnp.zeros(3 * width, dtype)) if bias else nnx.data(None)
        self.out_proj = NonDynamicallyQuantizableLinear(
            width,
            width,
            bias,
            dtype=self.dtype,
            param_dtype=dtype,
            precision=self.precision,
            rngs=rngs,
        )
        if self.out_proj.bias is not None:
            self.out_proj.bias.set_value(jnp.zeros(width, dtype))

    def _make_rows(self, present: bool, rngs: nnx.Rngs) -> None:
        """Learned extra key and value, Xavier-normal in torch's (1, 1, E): variance 1 / E."""
        shape, scale = (1, 1, self.embed_dim), 1.0 / math.sqrt(self.embed_dim)

        def row() -> Any:
            if not present:
                return nnx.data(None)
            return nnx.Param(scale * jax.random.normal(rngs.params(), shape, self.param_dtype))

        self.bias_k = row()
        self.bias_v = row()

    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        key_padding_mask: jax.Array | None = None,
        need_weights: bool = True,
        attn_mask: jax.Array | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        deterministic: bool | None = None,
        rngs: RandomSource = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Return the attention's output and its weights, or None in their place.

        Args:
            key_padding_mask: (N, S) or (S,); **True means: leave out**; floats are added.
            need_weights: return the weights; without them a query that may attend to nothing gets
                zeros instead of NaN.
            attn_mask: (L, S) or (N * num_heads, L, S); **True means: leave out**; floats are added.
            average_attn_weights: average the returned weights over the heads.
            is_causal: a promise that ``attn_mask`` is the causal mask.
        """
        for x in (query, key, value):
            check_floating(x, "MultiheadAttention")
        training = self.training if deterministic is None else not deterministic
        weights, self_attention = self._weights(), query is key is value
        promoted: Any = dtypes.promote_dtype(
            (query, key, value, *weights.values()), dtype=self.dtype
        )
        query, key, value, *arrays = promoted
        if self_attention:
            key = value = query  # one array still, by which the function knows
        return F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            **dict(zip(weights, arrays, strict=True)),
            add_zero_attn=self.add_zero_attn,
            dropout_p=self.dropout,
            training=training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=self.in_proj_kernel is None,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            batch_first=self.batch_first,
            precision=self.precision,
            rngs=self.rngs if rngs is None else rngs,
        )

    def _weights(self) -> dict[str, Any]:
        """Return the arrays under the function's argument names; absent ones are None."""
        named = {name: getattr(self, name) for name in _WEIGHTS}
        named |= {"out_proj_kernel": self.out_proj.kernel, "out_proj_bias": self.out_proj.bias}
        return {name: None if v is None else v[...] for name, v in named.items()}
