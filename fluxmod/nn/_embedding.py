"""Embedding tables."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F
from fluxmod.nn.functional._embedding import limited

from ._module import Module

__all__ = ["Embedding", "EmbeddingBag"]


class Embedding(Module, nnx.Embed):
    """Map integer indices to vectors; the twin of ``torch.nn.Embedding`` and an ``nnx.Embed``.

    In compiled code an index outside the table gives NaN; elsewhere, and inside
    ``fluxmod.checked``, it raises as in torch.
    With ``max_norm``, rows that a call uses are scaled in place to that norm, in both modes,
    as in torch.

    Shape:
        x: integers of any shape; returns (*x, embedding_dim).

    Args:
        padding_idx: index of a row that starts at zero and gets no gradient.
        max_norm: largest ``norm_type``-norm a used row may have.
        scale_grad_by_freq: divide gradients by how often an index occurs in the batch.
        sparse: accepted for the signature; JAX gradients are dense.

    Raises:
        ValueError: ``padding_idx`` outside the table; negative sizes.
        TypeError: indices that are not integers.
        IndexError: indices outside the table, where their values are known.

    >>> table = Embedding(10, 3, padding_idx=0, rngs=nnx.Rngs(0))
    >>> table.embedding.shape, table(jnp.array([[1, 0]])).shape
    ((10, 3), (1, 2, 3))

    Source: torch.nn.Embedding, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if min(num_embeddings, embedding_dim) < 0:
            raise ValueError(
                f"Embedding: sizes must not be negative, got num_embeddings={num_embeddings}, "
                f"embedding_dim={embedding_dim}."
            )
        padding_idx = _padding(padding_idx, num_embeddings, "Embedding")

        def init(key: Any, shape: tuple[int, ...], dtype: Any, *_: Any) -> jax.Array:
            table = jax.random.normal(key, shape, dtype)
            return table if padding_idx is None else table.at[padding_idx].set(0)

        super().__init__(
            num_embeddings, embedding_dim, param_dtype=param_dtype, embedding_init=init, rngs=rngs
        )
        self.dtype = dtype  # nnx.Embed would freeze it to the parameter's dtype
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """Build a layer around a table (num_embeddings, dim); frozen unless ``freeze`` is False.

        >>> layer = Embedding.from_pretrained(jnp.ones((5, 3)))
        >>> layer.embedding.shape, layer.embedding.get_metadata("requires_grad")
        ((5, 3), False)
        """
        table = _table(embeddings, "Embedding")
        layer = cls(
            table.shape[0],
            table.shape[1],
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            param_dtype=table.dtype,
            rngs=nnx.Rngs(0),
        )
        layer.embedding = nnx.Param(table, requires_grad=not freeze)
        return layer

    def __call__(self, input: jax.Array) -> jax.Array:  # type: ignore[override]  # torch's name
        table = self.embedding[...]
        if self.max_norm is not None:
            table = limited(table, input, self.max_norm, self.norm_type)
            self.embedding[...] = jax.lax.stop_gradient(table)
        table = table if self.dtype is None else table.astype(self.dtype)
        return F.embedding(
            input, table, self.padding_idx, scale_grad_by_freq=self.scale_grad_by_freq
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        text = f"{self.num_embeddings}, {self.features}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        if self.sparse:
            text += ", sparse=True"
        return text


class EmbeddingBag(Module):
    """Sum, average or take the maximum of rows, bag by bag; the twin of ``torch.nn.EmbeddingBag``.

    Shape:
        x: integers (B, N), or (T) with offsets (B), or (B + 1) with ``include_last_offset``;
        per_sample_weights: x's shape; returns (B, embedding_dim).

    Args:
        max_norm: largest ``norm_type``-norm a used row may have; rows are scaled in place.
        scale_grad_by_freq: divide gradients by how often an index occurs in the input.
        mode: 'sum', 'mean' or 'max'.
        sparse: accepted for the signature; JAX gradients are dense.
        include_last_offset: the last offset is the end of the last bag.
        padding_idx: index of a row that starts at zero and counts for nothing.

    Raises:
        ValueError: ``padding_idx`` outside the table; negative sizes; and as in
            ``F.embedding_bag``.
        TypeError: indices that are not integers.
        IndexError: indices outside the table, where their values are known.

    >>> bags = EmbeddingBag(10, 3, mode="sum", rngs=nnx.Rngs(0))
    >>> bags(jnp.array([1, 2, 4, 5, 4]), jnp.array([0, 3])).shape
    (2, 3)

    Source: torch.nn.EmbeddingBag, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if min(num_embeddings, embedding_dim) < 0:
            raise ValueError(
                f"EmbeddingBag: sizes must not be negative, got num_embeddings={num_embeddings}, "
                f"embedding_dim={embedding_dim}."
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.padding_idx = _padding(padding_idx, num_embeddings, "EmbeddingBag")
        table = jax.random.normal(rngs.params(), (num_embeddings, embedding_dim), param_dtype)
        if self.padding_idx is not None:
            table = table.at[self.padding_idx].set(0)
        self.embedding = nnx.Param(table)
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset
        self.dtype = dtype
        self.param_dtype = param_dtype

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """Build a layer around a table (num_embeddings, dim); frozen unless ``freeze`` is False.

        >>> layer = EmbeddingBag.from_pretrained(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
        >>> layer(jnp.array([[1, 0]])).tolist()
        [[2.0, 4.0]]
        """
        table = _table(embeddings, "EmbeddingBag")
        layer = cls(
            table.shape[0],
            table.shape[1],
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            include_last_offset,
            padding_idx,
            param_dtype=table.dtype,
            rngs=nnx.Rngs(0),
        )
        layer.embedding = nnx.Param(table, requires_grad=not freeze)
        return layer

    def __call__(
        self,
        input: jax.Array,
        offsets: jax.Array | None = None,
        per_sample_weights: jax.Array | None = None,
    ) -> jax.Array:
        table = self.embedding[...]
        if self.max_norm is not None:
            table = limited(table, input, self.max_norm, self.norm_type)
            self.embedding[...] = jax.lax.stop_gradient(table)
        return F.embedding_bag(
            input,
            table if self.dtype is None else table.astype(self.dtype),
            offsets,
            scale_grad_by_freq=self.scale_grad_by_freq,
            mode=self.mode,
            sparse=self.sparse,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            text += f", scale_grad_by_freq={self.scale_grad_by_freq}"
        text += f", mode={self.mode!r}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        return text


def _padding(padding_idx: int | None, size: int, who: str) -> int | None:
    """Count from the start, or refuse."""
    if padding_idx is None:
        return None
    if not -size <= padding_idx < size:
        raise ValueError(
            f"{who}: padding_idx={padding_idx} must be within the num_embeddings={size} rows."
        )
    return padding_idx % size


def _table(embeddings: Any, who: str) -> jax.Array:
    table = jnp.asarray(embeddings)
    if table.ndim != 2:
        raise ValueError(f"{who}: expected a table of 2 axes, got shape {tuple(table.shape)}.")
    return table
