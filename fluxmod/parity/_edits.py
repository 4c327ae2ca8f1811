"""Edits of one place in a function's source: the mistakes people make when they port code."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

__all__ = ["definition_of", "edits"]

_RENAMED = {
    "rsqrt": "sqrt",
    "exp": "expm1",
    "log": "log1p",
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "mean": "sum",
    "sum": "mean",
    "tanh": "sin",
    "erf": "tanh",
    "erfc": "erf",
    "triu": "tril",
    "relu": "abs",
    "sigmoid": "tanh",
    "silu": "gelu",
    "gelu": "silu",
    "softplus": "relu",
    "log_sigmoid": "sigmoid",
    "softmax": "log_softmax",
    "log_softmax": "softmax",
}
"""Calls that are confused with another, or whose confusion changes every value."""


def edits(tree: ast.Module) -> Iterator[tuple[ast.Module, str, int]]:
    """Yield copies of a function's tree with one edit each, the edit in words, and its line.

    An added or subtracted term is dropped, a sign turned, a product turned into a quotient, a
    constant moved, a function replaced by a neighbour. Guards (``if ...: raise``) are left alone:
    they compute nothing.

    >>> tree = ast.parse("def f(x, b):\\n    return x * 2 + b")
    >>> [what for _, what, _ in edits(tree)]
    ['x * 2 + b  ->  x * 2', 'x * 2 + b  ->  x * 2 - b', 'x * 2  ->  x / 2', '2  ->  3']
    """
    places = [node for node in _computing_nodes(tree) if list(_variants(node))]
    for index in range(len(places)):
        count = len(list(_variants(places[index])))
        for variant in range(count):
            twin = copy.deepcopy(tree)
            target = [node for node in _computing_nodes(twin) if list(_variants(node))][index]
            replacement = list(_variants(target))[variant]
            what = f"{ast.unparse(target)}  ->  {ast.unparse(replacement)}"
            line = getattr(target, "lineno", 1)
            _Replace(target, replacement).visit(twin)
            yield twin, " ".join(what.split("\n")), line


class _Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return self.new
        self.generic_visit(node)
        return node


def definition_of(tree: ast.Module) -> ast.FunctionDef:
    """Return the function that a parsed source defines."""
    (definition,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return definition


def _computing_nodes(tree: ast.Module) -> Iterator[ast.AST]:
    """Expressions of a function body in order, without guards, subscripts, defaults and text."""
    for statement in definition_of(tree).body:
        yield from _walk(statement)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.If) and any(isinstance(s, ast.Raise) for s in node.body):
        for statement in node.orelse:
            yield from _walk(statement)
        return
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Subscript, ast.arguments)):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _variants(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Add, ast.Sub)):
            yield node.left
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield ast.BinOp(node.left, other, node.right)
        elif isinstance(node.op, ast.Mult):
            yield ast.BinOp(node.left, ast.Div(), node.right)
        elif isinstance(node.op, ast.Div):
            yield ast.BinOp(node.left, ast.Mult(), node.right)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield ast.Constant(node.value * 1.25 or 0.125)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        renamed = _RENAMED.get(node.func.attr)
        if renamed and _names_a_module(node.func.value):
            function = ast.Attribute(node.func.value, renamed, ast.Load())
            yield ast.Call(function, node.args, node.keywords)


def _names_a_module(node: ast.expr) -> bool:
    """Whether an expression is a dotted name such as ``jnp`` or ``jax.nn``, and no array."""
    root = node
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in ("jax", "jnp", "lax", "F", "np", "math")
