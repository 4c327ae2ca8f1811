"""Convolutions: torch (O, I/g, *k) is Flax (*k, I/g, O)."""

from __future__ import annotations

from fluxmod import nn

from ._leaf import Leaf, Rule

_BIAS = Leaf("bias", "bias")

RULES: dict[type, Rule] = {
    nn.Conv1d: (Leaf("weight", "kernel", perm=(2, 1, 0)), _BIAS),
    nn.Conv2d: (Leaf("weight", "kernel", perm=(2, 3, 1, 0)), _BIAS),
    nn.Conv3d: (Leaf("weight", "kernel", perm=(2, 3, 4, 1, 0)), _BIAS),
}
