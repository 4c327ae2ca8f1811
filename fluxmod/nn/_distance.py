"""Similarity of and distance between vectors."""

from __future__ import annotations

import jax

from fluxmod.nn import functional as F

from ._module import Module

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(Module):
    """Return the cosine of the angle between vectors; the twin of ``torch.nn.CosineSimilarity``.

    Args:
        dim: the axis of the vectors, counted in the arrays given.
        eps: the least norm to divide by.

    >>> import jax.numpy as jnp
    >>> CosineSimilarity()(jnp.array([[2.0, 0.0]]), jnp.array([[3.0, 0.0]])).tolist()
    [1.0]

    Source: torch.nn.CosineSimilarity, PyTorch 2.13 documentation.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim = dim
        self.eps = eps

    def __call__(self, x1: jax.Array, x2: jax.Array) -> jax.Array:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """Return the distance of vectors along the last axis; ``torch.nn.PairwiseDistance``.

    Args:
        p: which norm.
        eps: added to the difference.
        keepdim: leave the last axis, with size 1.

    >>> import jax.numpy as jnp
    >>> PairwiseDistance(eps=0.0)(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])).tolist()
    [5.0]

    Source: torch.nn.PairwiseDistance, PyTorch 2.13 documentation.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def __call__(self, x1: jax.Array, x2: jax.Array) -> jax.Array:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
