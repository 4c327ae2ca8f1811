"""GPT, ported from torch by fluxmod."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["CausalSelfAttention", "GPT", "GPTBlock", "TiedLinear"]


class CausalSelfAttention(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.CausalSelfAttention``.

    Shape:
        x: (N, *, 16); returns (N, *, 16).
    """

    def __init__(
        self, n_embd: int, n_head: int, block_size: int, dropout: float, *, rngs: nnx.Rngs
    ) -> None:
        self.n_head = n_head
        self.bias = nn.Buffer(
            jnp.tril(jnp.ones((block_size, block_size))).reshape(1, 1, block_size, block_size)
        )
        self.c_attn = nn.Linear(n_embd, 3 * n_embd, rngs=rngs)
        self.c_proj = nn.Linear(n_embd, n_embd, rngs=rngs)
        self.attn_dropout = nn.Dropout(dropout, rngs=rngs)
        self.resid_dropout = nn.Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        q, k, v = jnp.split(self.c_attn(x), 3, axis=2)
        B, T, C = x.shape
        k = k.reshape(B, T, self.n_head, C // self.n_head).swapaxes(1, 2)
        q = q.reshape(B, T, self.n_head, C // self.n_head).swapaxes(1, 2)
        v = v.reshape(B, T, self.n_head, C // self.n_head).swapaxes(1, 2)
        att = q @ k.swapaxes(2, 3) * (1.0 / math.sqrt(k.shape[-1]))
        att = jnp.where(self.bias[..., :T, :T] == 0, -jnp.inf, att)
        att = F.softmax(att, dim=-1)
        att = self.attn_dropout(att)
        y = att @ v
        y = y.swapaxes(1, 2).reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class GPTBlock(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.GPTBlock``.

    Shape:
        x: (N, *, 16); returns (N, *, 16).
    """

    def __init__(
        self, n_embd: int, n_head: int, block_size: int, dropout: float, *, rngs: nnx.Rngs
    ) -> None:
        self.ln_1 = nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention(n_embd, n_head, block_size, dropout, rngs=rngs)
        self.ln_2 = nn.LayerNorm(n_embd)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(n_embd, 4 * n_embd, rngs=rngs),
                "c_proj": nn.Linear(4 * n_embd, n_embd, rngs=rngs),
                "dropout": nn.Dropout(dropout, rngs=rngs),
            }
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["dropout"](
            self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))
        )


class TiedLinear(nn.Module):
    """The port of ``torch.nn.modules.linear.Linear``.

    Shape:
        input: (N, *, 16); returns (N, *, 23).
    """

    def __call__(self, input: jax.Array) -> jax.Array:
        return F.linear(input, self.weight[...].T)


class GPT(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.GPT``.

    Shape:
        idx: (N, *); returns (N, *, 23).
    """

    def __init__(
        self,
        vocab_size: int = 23,
        block_size: int = 12,
        n_layer: int = 3,
        n_head: int = 2,
        n_embd: int = 16,
        dropout: float = 0.1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab_size, n_embd, rngs=rngs),
                "wpe": nn.Embedding(block_size, n_embd, rngs=rngs),
                "drop": nn.Dropout(dropout, rngs=rngs),
                "h": nn.ModuleList(
                    GPTBlock(n_embd, n_head, block_size, dropout, rngs=rngs) for _ in range(n_layer)
                ),
                "ln_f": nn.LayerNorm(n_embd),
            }
        )
        self.lm_head = TiedLinear()
        self.lm_head.weight = self.transformer["wte"].embedding

    def __call__(self, idx: jax.Array) -> jax.Array:
        t = idx.shape[1]
        pos = jnp.arange(t)
        tok_emb = self.transformer["wte"](idx)
        pos_emb = self.transformer["wpe"](pos)
        x = self.transformer["drop"](tok_emb + pos_emb)
        for layer in self.transformer["h"]:
            x = layer(x)
        x = self.transformer["ln_f"](x)
        return self.lm_head(x)
