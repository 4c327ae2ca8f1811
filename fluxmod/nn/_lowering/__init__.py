"""How an operation is computed on this platform; same numbers, different formulations."""

from __future__ import annotations

from .attention import fused_attention as fused_attention
from .conv import conv_general as conv_general
from .conv_transposed import TransposedShape as TransposedShape
from .conv_transposed import conv_transposed as conv_transposed
from .products import rows_times as rows_times
from .windows import Windows as Windows
from .windows import window_max as window_max
from .windows import window_sum as window_sum

__all__ = [
    "TransposedShape",
    "Windows",
    "conv_general",
    "conv_transposed",
    "fused_attention",
    "rows_times",
    "window_max",
    "window_sum",
]
