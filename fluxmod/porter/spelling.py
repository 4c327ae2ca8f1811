"""Operators as the rules know them: one form for what torch has several of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import lower
from .ir import Op, Size
from .recording import OpRecord
from .rows import bound
from .strided import as_windows
from .traced import hinted

__all__ = ["respell"]

_TRANSPOSED = ("mT", "mH", "matrix_H", "adjoint")
_NEW = ("new_zeros", "new_ones", "new_full", "new_empty")


def respell(op: Op, record: OpRecord, uncast: Callable[[Any], Any]) -> None:
    """Give an operator the name and the arguments that a rule has.

    Args:
        op: with its arguments as values; changed in place.
        record: what was traced.
        uncast: the value of a node before the call that it was handed to cast it.
    """
    if op.name == "as_strided" and (found := as_windows(record)):
        op.target, op.args, op.hints = "fluxmod.windows", (op.args[0], *found), {}
    if op.name in ("index", "masked_select") and bound(record.node, hinted) is not None:
        mask = op.args[1][0] if op.name == "index" else op.args[1]
        op.target, op.args, op.hints = "fluxmod.rows", (op.args[0], mask), {}
    if op.name == "nonzero_numpy" or op.name == "where" and len(op.args) == 1:
        op.target, op.hints = "fluxmod.places", {}
    if op.name == "type_as":
        like = uncast(record.args[1])
        op.target, op.args = "to.dtype", (op.args[0], like.dtype)
        op.hints = {"args": [None, Size(like.dtype, ("dtype", like))]}
    if op.target == "randint.default":  # without the lower bound
        op.target, op.args = "randint.low", (0, *op.args)
        op.hints = {**op.hints, "args": [None, *op.hints.get("args", ())]}
    if op.name in lower.ALIASES:
        op.target = f"{lower.ALIASES[op.name]}.{op.target.partition('.')[2]}"
    if op.name in _TRANSPOSED and (op.name == "mT" or not op.out.dtype.is_complex):
        op.target, op.args = "transpose.int", (op.args[0], op.out.rank - 2, op.out.rank - 1)
    if op.name in _NEW and ("dtype" in op.kwargs or not op.out.dtype.is_floating_point):
        # nothing of the array but its dtype, which is said
        op.target, op.args = op.target.removeprefix("new_"), op.args[1:]
        op.hints = {**op.hints, "args": (op.hints.get("args") or [])[1:]}
