"""How an operation is computed on this platform; same numbers, different formulations."""

from __future__ import annotations

from .conv import conv_general as conv_general

__all__ = ["conv_general"]
