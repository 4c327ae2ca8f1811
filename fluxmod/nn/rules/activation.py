"""Activations with parameters."""

from __future__ import annotations

from fluxmod.nn._activation import PReLU

from ._leaf import Leaf, Rule

RULES: dict[type, Rule] = {PReLU: (Leaf("weight", "weight"),)}
