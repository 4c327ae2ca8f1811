"""Embedding tables."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F

from ._module import Module

__all__ = ["Embedding"]


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
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx={padding_idx} must be within the "
                    f"num_embeddings={num_embeddings} rows."
                )
            padding_idx %= num_embeddings

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

    def __call__(self, input: jax.Array) -> jax.Array:  # type: ignore[override]  # torch's name
        table = self.embedding[...]
        if self.max_norm is not None:
            scaled = self._renormalised(jax.lax.stop_gradient(table), input)
            self.embedding[...] = scaled
            # the values of the scaled table, the gradient of the stored one: torch scales in place
            table = scaled + (table - jax.lax.stop_gradient(table))
        table = table if self.dtype is None else table.astype(self.dtype)
        return F.embedding(input, table, self.padding_idx, self.scale_grad_by_freq)

    def _renormalised(self, table: jax.Array, input: jax.Array) -> jax.Array:
        """Scale the used rows whose norm exceeds ``max_norm``."""
        norms = jnp.linalg.norm(table, ord=self.norm_type, axis=-1, keepdims=True)
        rows = input.reshape(-1)
        # a negative index would wrap around and scale a row that no one asked for
        rows = jnp.where(rows < 0, self.num_embeddings, rows)
        used = jnp.zeros(self.num_embeddings, bool).at[rows].set(True, mode="drop")
        scale = jnp.where(norms > self.max_norm, self.max_norm / (norms + 1e-7), 1)
        return jnp.where(used[:, None], table * scale.astype(table.dtype), table)

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
