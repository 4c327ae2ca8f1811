"""``as_strided`` where it lays overlapping windows along an axis."""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch

from .traced import hinted

__all__ = ["as_windows"]

Axis = tuple[Any, Any]  # size and stride


def as_windows(record: Any) -> tuple[int, int, int, int] | None:
    """Axis, number of axes that it is made of, size and step of the windows; None for other views.

    Strides are those of torch's memory, which need not be in the order of the axes.
    """
    given = record.args[0].meta["val"]
    made: torch.Tensor = record.node.meta["val"]
    if given.storage_offset() != made.storage_offset():
        return None
    old, new = (list(zip(t.shape, t.stride(), strict=True)) for t in (given, made))
    axis = 0
    while axis < min(len(old), len(new)) and _same(old[axis], new[axis]):
        axis += 1
    for merged in range(1, len(old) - axis + 1):
        found = _window(old[axis : axis + merged], new[axis : axis + 2])
        behind = old[axis + merged :], new[axis + 2 :]
        if found and len(behind[0]) == len(behind[1]) and all(map(_same, *behind)):
            return (axis, merged, *found)
    return None


def _window(old: list[Axis], new: list[Axis]) -> tuple[int, int] | None:
    """Size and step of windows along what the axes are together, if that is one axis."""
    pairs = zip(old, old[1:], strict=False)
    if len(new) != 2 or any(
        _form(stride) != _form(size) * _form(inner) for (_, stride), (size, inner) in pairs
    ):
        return None
    unit, (count, jump), (size, stride) = old[-1][1], *new
    step = sympy.simplify(_form(jump) / _form(unit))
    if (
        not step.is_Integer
        or step <= 0
        or _form(stride) != _form(unit)
        or not isinstance(size, int)
    ):
        return None
    length = math.prod(hinted(each) for each, _ in old)
    step = int(step)
    return (size, step) if hinted(count) == (length - size) // step + 1 else None


def _same(left: Axis, right: Axis) -> bool:
    return all(_form(a) == _form(b) for a, b in zip(left, right, strict=True))


def _form(number: Any) -> Any:
    return number.node.expr if isinstance(number, torch.SymInt) else sympy.Integer(number)
