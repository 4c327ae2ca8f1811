"""Weight rules by class: one row each, both directions from it.

A class without a rule keeps its variables' names and axes as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from . import activation, attention, conv, linear, norm, recurrent
from ._leaf import Leaf as Leaf
from ._leaf import Rule as Rule

__all__ = ["RULES", "Leaf", "Rule", "leaves_of"]


def _merge(*families: Any) -> Mapping[type, Rule]:
    """Join the families' tables; a class with two rules is an error naming both."""
    table: dict[type, Rule] = {}
    owner: dict[type, str] = {}
    for family in families:
        for cls, rule in family.RULES.items():
            if cls in table:
                raise RuntimeError(
                    f"{cls.__name__} has two weight rules: in {owner[cls]} and {family.__name__}."
                )
            table[cls] = rule
            owner[cls] = family.__name__
    return MappingProxyType(table)


RULES = _merge(activation, attention, conv, linear, norm, recurrent)


def leaves_of(module: Any) -> tuple[Leaf, ...]:
    """Return the rule of a layer, found by its class or the nearest base class that has one.

    >>> from flax import nnx
    >>> from fluxmod import nn
    >>> [leaf.torch for leaf in leaves_of(nn.Linear(2, 3, rngs=nnx.Rngs(0)))]
    ['weight', 'bias']
    """
    for cls in type(module).__mro__:
        if cls in RULES:
            rule = RULES[cls]
            return rule(module) if callable(rule) else rule
    return ()
