"""MultiheadAttention: every projection is the transpose of torch's weight."""

from __future__ import annotations

from fluxmod.nn._attention import MultiheadAttention

from ._leaf import Leaf, Rule

RULES: dict[type, Rule] = {
    MultiheadAttention: (
        Leaf("in_proj_weight", "in_proj_kernel", perm=(1, 0)),  # (3 E, E) -> (E, 3 E): q, k, v
        Leaf("q_proj_weight", "q_proj_kernel", perm=(1, 0)),
        Leaf("k_proj_weight", "k_proj_kernel", perm=(1, 0)),
        Leaf("v_proj_weight", "v_proj_kernel", perm=(1, 0)),
        Leaf("in_proj_bias", "in_proj_bias"),
        Leaf("bias_k", "bias_k"),
        Leaf("bias_v", "bias_v"),
    ),
}
