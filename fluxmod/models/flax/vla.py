"""A small vision-language-action model (sketched in note 003)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod import nn

__all__ = ["ActionHead", "LanguageModel", "VLAModel", "VisionEncoder"]

# N batch, P patches (side by side), T instruction tokens, D width, A action chunk


class VisionEncoder(nn.Module):
    """Patch embedding, positions and pre-norm transformer blocks.

    Shape:
        image: (N, image_size, image_size, 3); returns (N, P, dim), P = (image_size / patch_size)^2.
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 8,
        dim: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        patches = (image_size // patch_size) ** 2
        self.conv1 = nn.Conv2d(3, dim, patch_size, stride=patch_size, rngs=rngs)
        self.position_embedding = nn.Parameter(
            0.02 * jax.random.normal(rngs.params(), (patches, dim))
        )
        self.blocks = nn.ModuleList(
            _block(dim, num_heads, dropout, rngs=rngs) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        x = self.conv1(image)  # (N, H, W, D)
        x = x.reshape(x.shape[0], -1, x.shape[-1])  # (N, P, D)
        x = x + self.position_embedding[...]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class LanguageModel(nn.Module):
    """A causal transformer over [image tokens, instruction tokens].

    Shape:
        image_tokens: (N, P, dim); tokens: (N, T) integers; returns (N, T, dim).
    """

    def __init__(
        self,
        vocab_size: int = 32,
        max_tokens: int = 16,
        dim: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.token_embedding = nn.Embedding(vocab_size, dim, rngs=rngs)
        self.position_embedding = nn.Parameter(
            0.02 * jax.random.normal(rngs.params(), (max_tokens, dim))
        )
        self.blocks = nn.ModuleList(
            _block(dim, num_heads, dropout, rngs=rngs) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, rngs=rngs)

    def __call__(self, image_tokens: jax.Array, tokens: jax.Array) -> jax.Array:
        words = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]
        x = jnp.concatenate([image_tokens, words], axis=1)  # (N, P + T, D)
        length = x.shape[1]
        mask = jnp.triu(jnp.ones((length, length), bool), 1)
        for block in self.blocks:
            x = block(x, src_mask=mask)
        return self.norm(x[:, image_tokens.shape[1] :])


class ActionHead(nn.Module):
    """Map the last token's vector to a chunk of continuous actions.

    Shape:
        x: (N, dim); returns (N, chunk, action_dim).
    """

    def __init__(
        self, dim: int = 64, chunk: int = 4, action_dim: int = 7, *, rngs: nnx.Rngs
    ) -> None:
        self.chunk = chunk
        self.action_dim = action_dim
        self.fc1 = nn.Linear(dim, dim, rngs=rngs)
        self.activation = nn.GELU()
        self.fc2 = nn.Linear(dim, chunk * action_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.fc2(self.activation(self.fc1(x)))
        return x.reshape(x.shape[0], self.chunk, self.action_dim)


class VLAModel(nn.Module):
    """Vision encoder, language model and action head: an image and an instruction become actions.

    Shape:
        image: (N, image_size, image_size, 3); tokens: (N, T) integers, T <= max_tokens;
        returns (N, chunk, action_dim).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 8,
        vocab_size: int = 32,
        max_tokens: int = 16,
        dim: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        chunk: int = 4,
        action_dim: int = 7,
        dropout: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.vision_encoder = VisionEncoder(
            image_size, patch_size, dim, depth, num_heads, dropout, rngs=rngs
        )
        self.language_model = LanguageModel(
            vocab_size, max_tokens, dim, depth, num_heads, dropout, rngs=rngs
        )
        self.action_head = ActionHead(dim, chunk, action_dim, rngs=rngs)

    def __call__(self, image: jax.Array, tokens: jax.Array) -> jax.Array:
        image_tokens = self.vision_encoder(image)  # (N, P, D)
        x = self.language_model(image_tokens, tokens)  # (N, T, D)
        return self.action_head(x[:, -1])


def _block(
    dim: int, num_heads: int, dropout: float, *, rngs: nnx.Rngs
) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        dim,
        num_heads,
        dim_feedforward=4 * dim,
        dropout=dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
        rngs=rngs,
    )
