"""A small vision-language-action model (sketched in note 003)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ActionHead", "LanguageModel", "VLAModel", "VisionEncoder"]

# N batch, P patches (side by side), T instruction tokens, D width, A action chunk


class VisionEncoder(nn.Module):
    """Patch embedding, positions and pre-norm transformer blocks.

    Shape:
        image: (N, 3, image_size, image_size); returns (N, P, dim), P = (image_size / patch_size)^2.
    """

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 8,
        dim: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        patches = (image_size // patch_size) ** 2
        self.conv1 = nn.Conv2d(3, dim, patch_size, stride=patch_size)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(patches, dim))
        self.blocks = nn.ModuleList(_block(dim, num_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Return one vector per patch."""
        x = self.conv1(image).flatten(2).transpose(1, 2)  # (N, P, D)
        x = x + self.position_embedding
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
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, dim)
        self.position_embedding = nn.Parameter(0.02 * torch.randn(max_tokens, dim))
        self.blocks = nn.ModuleList(_block(dim, num_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, image_tokens: Tensor, tokens: Tensor) -> Tensor:
        """Return one vector per instruction token."""
        words = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]
        x = torch.cat([image_tokens, words], dim=1)  # (N, P + T, D)
        length = x.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for block in self.blocks:
            x = block(x, src_mask=mask)
        return self.norm(x[:, image_tokens.shape[1] :])


class ActionHead(nn.Module):
    """Map the last token's vector to a chunk of continuous actions.

    Shape:
        x: (N, dim); returns (N, chunk, action_dim).
    """

    def __init__(self, dim: int = 64, chunk: int = 4, action_dim: int = 7) -> None:
        super().__init__()
        self.chunk = chunk
        self.action_dim = action_dim
        self.fc1 = nn.Linear(dim, dim)
        self.activation = nn.GELU()
        self.fc2 = nn.Linear(dim, chunk * action_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the actions."""
        x = self.fc2(self.activation(self.fc1(x)))
        return x.view(x.shape[0], self.chunk, self.action_dim)


class VLAModel(nn.Module):
    """Vision encoder, language model and action head: an image and an instruction become actions.

    Shape:
        image: (N, 3, image_size, image_size); tokens: (N, T) integers, T <= max_tokens;
        returns (N, chunk, action_dim).
    """

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
    ) -> None:
        super().__init__()
        self.vision_encoder = VisionEncoder(image_size, patch_size, dim, depth, num_heads, dropout)
        self.language_model = LanguageModel(vocab_size, max_tokens, dim, depth, num_heads, dropout)
        self.action_head = ActionHead(dim, chunk, action_dim)

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        """Return the chunk of actions."""
        image_tokens = self.vision_encoder(image)  # (N, P, D)
        x = self.language_model(image_tokens, tokens)  # (N, T, D)
        return self.action_head(x[:, -1])


def _block(dim: int, num_heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        dim,
        num_heads,
        dim_feedforward=4 * dim,
        dropout=dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
