"""A softmax over very many classes: frequent ones at once, rare ones in clusters behind them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ._checked import check_indices
from ._container import ModuleList, Sequential
from ._linear import Linear
from ._module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class ASMoutput(NamedTuple):
    """What the layer returns: log-probabilities of the targets, and their negative mean."""

    output: jax.Array
    loss: jax.Array


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of targets among many classes; ``torch.nn.AdaptiveLogSoftmaxWithLoss``.

    Classes are sorted by frequency. The head has those below the first cutoff and one entry for
    each cluster behind it; a cluster's classes share a smaller layer.

    Shape:
        input: (N, in_features) or (in_features); target: (N) or a scalar; returns
        ``(output, loss)``: the target's shape and a scalar.

    Args:
        cutoffs: where a new cluster begins; increasing, between 1 and ``n_classes - 1``.
        div_value: each cluster's width is that of the one before divided by this.

    Raises:
        ValueError: cutoffs that do not fit; shapes that do not fit.
        IndexError: targets outside [0, n_classes), where they are known; in compiled code NaN.

    Differs from torch: every cluster is computed for every row, because which rows a cluster needs
    is known from the values alone.

    >>> layer = AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10], rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((3, 8)), jnp.array([0, 7, 19])).output.shape
    (3,)
    >>> layer.log_prob(jnp.ones((3, 8))).shape
    (3, 20)

    Source: torch.nn.AdaptiveLogSoftmaxWithLoss, PyTorch 2.13 documentation; Grave et al., 2016.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        cutoffs = list(cutoffs)
        ordered = all(a < b for a, b in pairwise([0, *cutoffs, n_classes]))
        if not cutoffs or not ordered or any(int(c) != c for c in cutoffs):
            raise ValueError(
                f"AdaptiveLogSoftmaxWithLoss: cutoffs must be increasing integers between 1 and "
                f"n_classes - 1 = {n_classes - 1}, at least one, got {cutoffs}."
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = (*cutoffs, n_classes)
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = cutoffs[0]
        self.n_clusters = len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        types = {"dtype": dtype, "param_dtype": param_dtype, "precision": precision}
        self.head = Linear(in_features, self.head_size, bias=head_bias, rngs=rngs, **types)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            width = int(in_features // (div_value ** (i + 1)))
            self.tail.append(
                Sequential(
                    Linear(in_features, width, bias=False, rngs=rngs, **types),
                    Linear(width, high - low, bias=False, rngs=rngs, **types),
                )
            )

    def __call__(self, input: jax.Array, target: jax.Array) -> ASMoutput:
        who = "AdaptiveLogSoftmaxWithLoss"
        if target.ndim > 1 or input.ndim != target.ndim + 1 or input.shape[:-1] != target.shape:
            raise ValueError(
                f"{who}: expected input (N, {self.in_features}) with target (N), or "
                f"({self.in_features}) with a scalar, got shapes {tuple(input.shape)} and "
                f"{tuple(target.shape)}."
            )
        check_indices(target, self.n_classes, who, "targets")
        rows, labels = (input, target) if target.ndim else (input[None], target[None])
        head = jax.nn.log_softmax(self.head(rows), -1)
        output = _picked(head, labels)
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            of_cluster = jax.nn.log_softmax(self.tail[i](rows), -1)
            found = head[:, self.shortlist_size + i] + _picked(of_cluster, labels - low)
            output = jnp.where((labels >= low) & (labels < high), found, output)
        output = jnp.where((labels < 0) | (labels >= self.n_classes), jnp.nan, output)
        return ASMoutput(output if target.ndim else output[0], jnp.mean(-output))

    def log_prob(self, input: jax.Array) -> jax.Array:
        """Return the log-probabilities of all classes: (N, in_features) gives (N, n_classes)."""
        head = jax.nn.log_softmax(self.head(input), -1)
        parts = [head[:, : self.shortlist_size]]
        for i in range(self.n_clusters):
            of_cluster = jax.nn.log_softmax(self.tail[i](input), -1)
            parts.append(of_cluster + head[:, self.shortlist_size + i, None])
        return jnp.concatenate(parts, -1)

    def predict(self, input: jax.Array) -> jax.Array:
        """Return the most probable class of each row: (N, in_features) gives (N)."""
        best = jnp.argmax(self.head(input), -1)
        return jnp.where(best < self.shortlist_size, best, jnp.argmax(self.log_prob(input), -1))


def _picked(log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Each row's entry; labels beyond the row pick any, which no one uses."""
    labels = jnp.clip(labels, 0, log_p.shape[1] - 1)
    return jnp.take_along_axis(log_p, labels[:, None], 1)[:, 0]
