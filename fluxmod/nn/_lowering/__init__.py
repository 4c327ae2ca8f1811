"""How an operation is computed on this platform; same numbers, different formulations."""

from __future__ import annotations

from .conv import conv_general as conv_general
from .windows import Windows as Windows
from .windows import window_max as window_max
from .windows import window_sum as window_sum

__all__ = ["Windows", "conv_general", "window_max", "window_sum"]
