"""Activations with parameters."""

from __future__ import annotations

from fluxmod import nn

from ._leaf import Leaf, Rule

RULES: dict[type, Rule] = {nn.PReLU: (Leaf("weight", "weight"),)}
