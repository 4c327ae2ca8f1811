"""Statements that torch's source skips where a mask chooses nothing: ``if mask.any(): ...``."""

from __future__ import annotations

import ast
from types import FrameType

import torch

from .ir import plain_name
from .sites import function_of, source_at

__all__ = ["guarded", "mask_asked"]

_COUNTS = ("sum", "count_nonzero")


def mask_asked(node: torch.fx.Node) -> tuple[torch.fx.Node, bool] | None:
    """The mask whose true entries are asked for, and the answer if there are some.

    ``mask.any()``, ``mask.sum() > 0`` and ``mask.sum() == 0`` ask for them.
    """
    name, source = plain_name(node.target), node.args[0] if node.args else None
    answer = True
    if name in ("gt", "ne", "eq") and node.args[1:] == (0,) and isinstance(source, torch.fx.Node):
        if plain_name(source.target) not in _COUNTS or len(source.args) > 1:
            return None
        name, answer, source = "any", name != "eq", source.args[0]
    whole = name == "any" and isinstance(source, torch.fx.Node) and not node.meta["val"].dim()
    if not whole or source.meta["val"].dtype != torch.bool:  # type: ignore[union-attr]
        return None
    return source, answer  # type: ignore[return-value]


def guarded(frame: FrameType, answer: bool) -> range | None:
    """The lines that run because a question has that answer, and would not if it had the other.

    The question has to be the whole test of an ``if`` without ``else``, whose body runs, or is a
    single ``continue`` that does not: then it is the rest of the loop's body. An error that is not
    raised is no statement.
    """
    function, site = function_of(frame.f_code), source_at(frame)
    if function is None or site is None:
        return None
    for block in _blocks(function):
        for index, statement in enumerate(block):
            if not isinstance(statement, ast.If) or statement.orelse:
                continue
            test = statement.test
            negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
            if site is not statement and site not in ast.walk(test) or isinstance(test, ast.BoolOp):
                continue
            if answer != negated:
                return _lines(statement.body)
            rest = block[index + 1 :]
            (first, *others) = statement.body
            if isinstance(first, ast.Raise):
                return range(0)
            skips = isinstance(first, ast.Continue) and not others
            return _lines(rest) if skips and rest else None
    return range(0) if isinstance(site, ast.Assert) else None


def _blocks(function: ast.AST) -> list[list[ast.stmt]]:
    return [
        block
        for node in ast.walk(function)
        for block in (getattr(node, "body", None), getattr(node, "orelse", None))
        if isinstance(block, list)
    ]


def _lines(block: list[ast.stmt]) -> range:
    return range(block[0].lineno, (block[-1].end_lineno or block[-1].lineno) + 1)
