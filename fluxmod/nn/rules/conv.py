"""Convolutions: torch (O, I/g, *k) is Flax (*k, I/g, O).

Transposed ones are (I, O/g, *k) in torch and (*k, O/g, I) in Flax: the same permutation.
"""

from __future__ import annotations

from fluxmod.nn._conv import Conv1d, Conv2d, Conv3d
from fluxmod.nn._conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

from ._leaf import Leaf, Rule

_BIAS = Leaf("bias", "bias")

_1D = (Leaf("weight", "kernel", perm=(2, 1, 0)), _BIAS)
_2D = (Leaf("weight", "kernel", perm=(2, 3, 1, 0)), _BIAS)
_3D = (Leaf("weight", "kernel", perm=(2, 3, 4, 1, 0)), _BIAS)

RULES: dict[type, Rule] = {
    Conv1d: _1D,
    Conv2d: _2D,
    Conv3d: _3D,
    ConvTranspose1d: _1D,
    ConvTranspose2d: _2D,
    ConvTranspose3d: _3D,
}
