"""What Python asks of a tensor's values, where the answer does not depend on any input.

A mask of ones has no zero in it, whatever the model is given; a number that was put into a tensor
comes out of it; a guard against overflow passes; a mask that may be left out can also be kept.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from .ir import plain_name
from .sites import function_of, source_at

__all__ = ["assumption", "decide", "shortcut"]

_RANDOM = ("bernoulli", "exponential", "multinomial", "normal", "rand", "uniform", "dropout")
_GUARDS = {("all", "isfinite"): True, ("any", "isinf"): False, ("any", "isnan"): False}


class _Unknown(Exception):
    """An answer, not a fault."""


def decide(node: torch.fx.Node, attributes: Mapping[torch.fx.Node, Any]) -> Any:
    """The tensor that a node of a trace holds at every call of the model, None where inputs decide.

    Where sizes take part, it has to be the same at other sizes too.
    """
    if (passed := _guard(node)) is not None:
        return torch.tensor(passed)
    try:
        first, second = (_Evaluator(attributes, extra)(node) for extra in (0, 3))
    except _Unknown:
        return None
    with _disable_current_modes():
        return first if first.shape == second.shape and torch.equal(first, second) else None


def assumption(node: torch.fx.Node) -> str | None:
    """What a decision takes for granted that torch does not; None if it is certain."""
    name, first = _name(node), node.args[0] if node.args else None
    if name in ("logical_not", "bitwise_not") and isinstance(first, torch.fx.Node):
        return assumption(first)
    if _guard(node) is None:
        return None
    if name in ("lt", "le"):
        rate = node.args[1]
        return f"torch leaves a layer out at random, with {rate}; the port keeps it" * bool(rate)
    return "a guard against infinite values is taken to pass"


def _guard(node: Any) -> bool | None:
    """``isfinite(x).all()`` holds; ``rand() < 0`` does not."""
    name, first = _name(node), node.args[0] if node.args else None
    if not isinstance(first, torch.fx.Node):
        return None
    if name in ("lt", "le") and _name(first) == "rand" and first.meta["val"].dim() == 0:
        return False if isinstance(node.args[1], (int, float)) else None  # LayerDrop keeps it
    if name in ("logical_not", "bitwise_not"):
        inner = _guard(first)
        return None if inner is None else not inner
    return _GUARDS.get((name, _name(first)))


def shortcut(node: torch.fx.Node, frame: FrameType) -> tuple[bool, str] | None:
    """The answer that keeps an array which torch's source leaves out where it changes nothing.

    ``if not mask.any(): mask = None``, and ``None if mask.all() else mask``: the mask works as well
    where it hides nothing. Returns the answer and the array's name, None at any other question.
    """
    function, site = function_of(frame.f_code), source_at(frame)
    if function is None or site is None or _name(node) not in ("any", "all"):
        return None
    for choice in ast.walk(function):
        for array, test, if_true in _left_out(choice):
            parts = test.values if isinstance(test, ast.BoolOp) else [test]
            about = [part for part in parts if _is_about(part, array)]
            if len(about) == 1 and (choice is site or site in ast.walk(about[0])):
                negated = isinstance(about[0], ast.UnaryOp) and isinstance(about[0].op, ast.Not)
                return if_true == negated, ast.unparse(array)
    return None


def _left_out(choice: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """The array that a choice sets to None, its test, and whether it does so if the test holds."""
    if isinstance(choice, ast.IfExp):
        if _is_none(choice.body):
            yield choice.orelse, choice.test, True
        if _is_none(choice.orelse):
            yield choice.body, choice.test, False
    elif isinstance(choice, ast.If) and len(choice.body) == 1 and not choice.orelse:
        if isinstance(done := choice.body[0], ast.Assign) and _is_none(done.value):
            yield done.targets[0], choice.test, True


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_about(part: ast.expr, array: ast.expr) -> bool:
    """Whether a question is ``any`` or ``all`` of an array, or of what the array is made from."""
    words = {ast.unparse(node) for node in ast.walk(part) if isinstance(node, ast.expr)}
    names = {ast.unparse(n) for n in ast.walk(array) if isinstance(n, (ast.Name, ast.Attribute))}
    return bool(names & words) and any(word.endswith((".any", ".all")) for word in words)


def _name(node: torch.fx.Node) -> str:
    return plain_name(node.target)


class _Evaluator:
    """Computes what a node holds from constants and sizes, the sizes made larger by ``extra``."""

    def __init__(self, attributes: Mapping[torch.fx.Node, Any], extra: int) -> None:
        self.attributes = attributes
        self.extra = extra
        self.known: dict[torch.fx.Node, Any] = {}

    def __call__(self, node: torch.fx.Node) -> Any:
        if node not in self.known:
            self.known[node] = self.compute(node)
        return self.known[node]

    def compute(self, node: torch.fx.Node) -> Any:
        if isinstance(size := node.meta.get("val"), torch.SymInt):
            return self.size(size)
        if node in self.attributes:
            return self.attributes[node]
        if node.meta.get("repeated"):  # stands for the result of a call that was not traced
            raise _Unknown
        known = isinstance(node.target, torch._ops.OpOverload) and node.op == "call_function"
        if not known or any(word in str(node.target) for word in _RANDOM):
            raise _Unknown
        args, kwargs = tree_map(self.argument, (node.args, dict(node.kwargs)))
        kwargs = {k: v for k, v in kwargs.items() if k != "device"}
        with _disable_current_modes():
            return node.target(*args, **kwargs)  # type: ignore[operator]

    def argument(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.fx.Node):
            return self(leaf)
        return self.size(leaf) if isinstance(leaf, torch.SymInt) else leaf

    def size(self, size: torch.SymInt) -> int:
        env, form = size.node.shape_env, size.node.expr
        hints = env.backed_var_to_val if hasattr(env, "backed_var_to_val") else env.var_to_val
        if not form.free_symbols <= hints.keys():
            raise _Unknown
        return int(form.xreplace({s: hints[s] + self.extra for s in form.free_symbols}))
