"""Linear, Bilinear, Embedding."""

from __future__ import annotations

from flax import nnx

from fluxmod.nn._embedding import EmbeddingBag
from fluxmod.nn._linear import Bilinear

from ._leaf import Leaf, Rule

RULES: dict[type, Rule] = {
    nnx.Linear: (
        Leaf("weight", "kernel", perm=(1, 0)),  # (out, in) -> (in, out)
        Leaf("bias", "bias"),
    ),
    Bilinear: (Leaf("weight", "kernel"), Leaf("bias", "bias")),
    EmbeddingBag: (Leaf("weight", "embedding"),),
    nnx.Embed: (Leaf("weight", "embedding"),),
}
