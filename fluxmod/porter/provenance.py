"""Where the sizes of a result come from."""

from __future__ import annotations

from typing import Any

from .ir import Op, Value, tree_values
from .lower import ELEMENTWISE

__all__ = ["source_of"]


def source_of(value: Value, axis: int) -> tuple[Value, int] | None:
    """The operand, and its axis, that an axis of a result has its size from; None if unknown."""
    op = value.producer
    if not isinstance(op, Op) or not isinstance(op.out, Value):
        return None
    if op.name in ELEMENTWISE or op.target in ELEMENTWISE:
        for each in tree_values(op.args):
            if each.rank == value.rank and each.shape[axis] == value.shape[axis]:
                return each, axis
    if op.name in ("stack", "cat") and value.order is None:
        dim = (op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)) % value.rank
        first = op.args[0][0]
        if axis != dim:
            return first, axis - (op.name == "stack" and axis > dim)
    if op.name == "unsqueeze" and value.order is None and axis != op.args[1] % value.rank:
        return op.args[0], axis - (axis > op.args[1] % value.rank)
    if op.target == "fluxmod.getitem" and value.order is None and op.args[0].order is None:
        return _behind(op.args[0], op.args[1], axis)
    return None


def _behind(value: Value, entries: Any, axis: int) -> tuple[Value, int] | None:
    """The axis that a subscript leaves as it is."""
    ours = theirs = 0
    for entry in entries:
        if entry is None:
            if theirs == axis:
                return None
            theirs += 1
        elif isinstance(entry, slice):
            if theirs == axis:
                return (value, ours) if entry == slice(None) else None
            ours, theirs = ours + 1, theirs + 1
        elif isinstance(entry, int):
            ours += 1
        else:
            return None  # an index, an ellipsis
    return value, ours + axis - theirs
