"""Sequences of several lengths; the twin of ``torch.nn.utils``."""

from __future__ import annotations

from . import rnn as rnn

__all__ = ["rnn"]
