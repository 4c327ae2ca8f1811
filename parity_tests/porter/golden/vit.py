"""VisionTransformer, ported from torch by fluxmod."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["Attention", "Block", "Mlp", "PatchEmbed", "VisionTransformer"]


class PatchEmbed(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.PatchEmbed``.

    Shape:
        x: (N, H, W, C); returns (N, 16, 24).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(
        self, patch_size: int = 4, in_chans: int = 3, embed_dim: int = 24, *, rngs: nnx.Rngs
    ) -> None:
        self.proj = nn.Conv2d(
            in_chans, embed_dim, kernel_size=patch_size, stride=patch_size, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.proj(x)
        return x.reshape(x.shape[0], -1, x.shape[-1])


class Attention(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.Attention``.

    Shape:
        x: (N, 17, 24); returns (N, 17, 24).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, rngs=rngs)
        self.attn_drop = nn.Dropout(attn_drop, rngs=rngs)
        self.proj = nn.Linear(dim, dim, rngs=rngs)
        self.proj_drop = nn.Dropout(proj_drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        B, N, C = x.shape
        qkv = (
            self.qkv(x)
            .reshape(B, N, 3, self.num_heads, C // self.num_heads)
            .transpose(2, 0, 3, 1, 4)
        )
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = q @ k.swapaxes(2, 3) * self.scale
        attn = F.softmax(attn, dim=-1)
        attn = self.attn_drop(attn)
        x = (attn @ v).swapaxes(1, 2).reshape(B, N, C)
        x = self.proj(x)
        return self.proj_drop(x)


class Mlp(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.Mlp``.

    Shape:
        x: (N, 17, 24); returns (N, 17, 24).
    """

    def __init__(
        self, in_features: int, hidden_features: int, drop: float = 0.0, *, rngs: nnx.Rngs
    ) -> None:
        self.fc1 = nn.Linear(in_features, hidden_features, rngs=rngs)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, in_features, rngs=rngs)
        self.drop = nn.Dropout(drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.fc1(x)
        x = self.act(x)
        x = self.drop(x)
        x = self.fc2(x)
        return self.drop(x)


class Block(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.Block``.

    Shape:
        x: (N, 17, 24); returns (N, 17, 24).
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float = 4.0, drop: float = 0.0, *, rngs: nnx.Rngs
    ) -> None:
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads=num_heads, proj_drop=drop, rngs=rngs)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.VisionTransformer``.

    Shape:
        x: (N, H, W, C); returns (N, 10).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(
        self,
        patch_size: int = 4,
        in_chans: int = 3,
        num_classes: int = 10,
        embed_dim: int = 24,
        depth: int = 3,
        num_heads: int = 3,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.1,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.cls_token = nn.Parameter(jnp.zeros((1, 1, embed_dim)))
        self.pos_embed = nn.Parameter(jnp.zeros((1, 17, embed_dim)))
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim, rngs=rngs)
        self.pos_drop = nn.Dropout(p=drop_rate, rngs=rngs)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, drop_rate, rngs=rngs) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        B = x.shape[0]
        x = self.patch_embed(x)
        cls_tokens = jnp.broadcast_to(self.cls_token[...], (B, *self.cls_token.shape[1:]))
        x = jnp.concatenate([cls_tokens, x], axis=1)
        x = x + self.pos_embed[...]
        x = self.pos_drop(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0])
