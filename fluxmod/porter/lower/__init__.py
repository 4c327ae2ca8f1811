"""Operators to expressions, one file per family."""

from __future__ import annotations

from fluxmod.porter.ir import plain_name

from . import (  # noqa: F401 - they register
    arrays,
    create,
    elementwise,
    index,
    layers,
    linalg,
    losses,
    rare,
    reduce,
    shape,
)
from ._table import DTYPES as DTYPES
from ._table import ELEMENTWISE as ELEMENTWISE
from ._table import TABLE as TABLE
from ._table import Rule as Rule
from ._table import Scope as Scope
from .special import ALIASES as ALIASES

__all__ = ["ALIASES", "DTYPES", "ELEMENTWISE", "TABLE", "Rule", "Scope", "rule_of"]


def rule_of(target: str) -> Rule | None:
    """The rule of an operator: by name and overload, or by name."""
    if target in TABLE:
        return TABLE[target]
    plain = plain_name(target)
    return TABLE.get(plain) or TABLE.get(target.rpartition(".")[0])
