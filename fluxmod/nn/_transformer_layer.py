"""One layer of a Transformer's encoder or decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F

from ._attention import MultiheadAttention
from ._dropout import Dropout
from ._layernorm import LayerNorm
from ._linear import Linear
from ._module import Module

__all__ = ["TransformerDecoderLayer", "TransformerEncoderLayer"]

Activation = Callable[[jax.Array], jax.Array]


def activation_of(activation: str | Activation) -> Activation:
    """Return the function behind torch's names 'relu' and 'gelu'; anything callable is kept."""
    named: dict[str, Activation] = {"relu": F.relu, "gelu": F.gelu}
    if not isinstance(activation, str):
        return activation
    if activation not in named:
        raise ValueError(
            f"Transformer: activation must be 'relu', 'gelu' or a callable, got {activation!r}."
        )
    return named[activation]


class TransformerEncoderLayer(Module):
    """Self-attention and a feed-forward block; the twin of ``torch.nn.TransformerEncoderLayer``.

    Shape:
        src: (S, N, d_model), (N, S, d_model) with ``batch_first``, or (S, d_model); returned alike.

    Args:
        activation: 'relu', 'gelu' (exact), a function, or a module, which then is a child.
        norm_first: normalise before each block instead of after its residual sum.
        rngs: source of the 'params' keys and of the 'dropout' streams.

    Differs from torch: none with gradients enabled. Under ``no_grad`` in evaluation mode torch may
    take a fast path that gives zeros at padded positions; that is not mirrored.

    >>> layer = TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3, 8))).shape
    (5, 3, 8)

    Source: torch.nn.TransformerEncoderLayer, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        types = {"dtype": dtype, "param_dtype": param_dtype}
        options = {**types, "bias": bias, "precision": precision, "rngs": rngs}
        norm = {**types, "bias": bias, "eps": layer_norm_eps}
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout=dropout, batch_first=batch_first, **options
        )
        self.linear1 = Linear(d_model, dim_feedforward, **options)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.linear2 = Linear(dim_feedforward, d_model, **options)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, **norm)
        self.norm2 = LayerNorm(d_model, **norm)
        self.dropout1 = Dropout(dropout, rngs=rngs)
        self.dropout2 = Dropout(dropout, rngs=rngs)
        self.activation = activation_of(activation)

    def __call__(
        self,
        src: jax.Array,
        src_mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        is_causal: bool = False,
    ) -> jax.Array:
        """Apply the layer; masks as in ``nn.MultiheadAttention``."""
        masks = (src_mask, src_key_padding_mask, is_causal)
        x = src
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), *masks)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(x + self._sa_block(x, *masks))
        return self.norm2(x + self._ff_block(x))

    def _sa_block(
        self, x: jax.Array, mask: jax.Array | None, padding: jax.Array | None, is_causal: bool
    ) -> jax.Array:
        x, _ = self.self_attn(x, x, x, padding, False, mask, is_causal=is_causal)
        return self.dropout1(x)

    def _ff_block(self, x: jax.Array) -> jax.Array:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerDecoderLayer(Module):
    """Self-attention, attention to the encoder's output, and a feed-forward block.

    The twin of ``torch.nn.TransformerDecoderLayer``.

    Shape:
        tgt: (T, N, d_model), memory: (S, N, d_model); N first with ``batch_first``, or both without
        N. Returns tgt's shape.

    Args:
        activation: 'relu', 'gelu' (exact), a function, or a module, which then is a child.
        norm_first: normalise before each block instead of after its residual sum.
        rngs: source of the 'params' keys and of the 'dropout' streams.

    >>> layer = TransformerDecoderLayer(8, nhead=2, dim_feedforward=16, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((5, 3, 8)), jnp.ones((7, 3, 8))).shape
    (5, 3, 8)

    Source: torch.nn.TransformerDecoderLayer, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        types = {"dtype": dtype, "param_dtype": param_dtype}
        options = {**types, "bias": bias, "precision": precision, "rngs": rngs}
        attention = {**options, "dropout": dropout, "batch_first": batch_first}
        norm = {**types, "bias": bias, "eps": layer_norm_eps}
        self.self_attn = MultiheadAttention(d_model, nhead, **attention)
        self.multihead_attn = MultiheadAttention(d_model, nhead, **attention)
        self.linear1 = Linear(d_model, dim_feedforward, **options)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.linear2 = Linear(dim_feedforward, d_model, **options)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, **norm)
        self.norm2 = LayerNorm(d_model, **norm)
        self.norm3 = LayerNorm(d_model, **norm)
        self.dropout1 = Dropout(dropout, rngs=rngs)
        self.dropout2 = Dropout(dropout, rngs=rngs)
        self.dropout3 = Dropout(dropout, rngs=rngs)
        self.activation = activation_of(activation)

    def __call__(
        self,
        tgt: jax.Array,
        memory: jax.Array,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> jax.Array:
        """Apply the layer; masks as in ``nn.MultiheadAttention``."""
        own = (tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        cross = (memory_mask, memory_key_padding_mask, memory_is_causal)
        x = tgt
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), *own)
            x = x + self._mha_block(self.norm2(x), memory, *cross)
            return x + self._ff_block(self.norm3(x))
        x = self.norm1(x + self._sa_block(x, *own))
        x = self.norm2(x + self._mha_block(x, memory, *cross))
        return self.norm3(x + self._ff_block(x))

    def _sa_block(
        self, x: jax.Array, mask: jax.Array | None, padding: jax.Array | None, is_causal: bool
    ) -> jax.Array:
        x, _ = self.self_attn(x, x, x, padding, False, mask, is_causal=is_causal)
        return self.dropout1(x)

    def _mha_block(
        self,
        x: jax.Array,
        memory: jax.Array,
        mask: jax.Array | None,
        padding: jax.Array | None,
        is_causal: bool,
    ) -> jax.Array:
        x, _ = self.multihead_attn(x, memory, memory, padding, False, mask, is_causal=is_causal)
        return self.dropout2(x)

    def _ff_block(self, x: jax.Array) -> jax.Array:
        return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))
