"""GCN, ported from torch by fluxmod."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["GCN", "GraphConvolution"]


class GraphConvolution(nn.Module):
    """The port of ``parity_tests.porter.models.misc.GraphConvolution``.

    Shape:
        input: (N, 5); source: (N,); target: (N,); returns (N, 6).
    """

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs) -> None:
        self.weight = nn.Parameter(jax.random.normal(rngs.params(), (in_features, out_features)))
        self.bias = nn.Parameter(jnp.zeros(out_features))

    def __call__(self, input: jax.Array, source: jax.Array, target: jax.Array) -> jax.Array:
        support = input @ self.weight[...]
        output = jnp.zeros_like(support)
        output = output.at[target].add(support[source])
        return output + self.bias[...]


class GCN(nn.Module):
    """The port of ``parity_tests.porter.models.misc.GCN``.

    Shape:
        x: (N, 5); source: (N,); target: (N,); returns (N, 3).
    """

    def __init__(
        self,
        nfeat: int = 5,
        nhid: int = 6,
        nclass: int = 3,
        dropout: float = 0.5,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.dropout = dropout
        self.gc1 = GraphConvolution(nfeat, nhid, rngs=rngs)
        self.gc2 = GraphConvolution(nhid, nclass, rngs=rngs)
        self.rngs = rngs.dropout.fork()

    def __call__(self, x: jax.Array, source: jax.Array, target: jax.Array) -> jax.Array:
        x = F.relu(self.gc1(x, source, target))
        x = F.dropout(x, self.dropout, self.training, rngs=self.rngs)
        x = self.gc2(x, source, target)
        return F.log_softmax(x, dim=1)
