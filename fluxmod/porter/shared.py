"""A layer that one list holds several times gets a name before the list is made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from .words import Unported

__all__ = ["named_first"]


def named_first(line: str) -> list[str]:
    """``self.net = nn.Sequential(a, b, self.net[0])`` with ``shared = a`` in front of it.

    Raises:
        Unported: the layer is made in a loop.
    """
    made = re.match(r"self\.\w+ = |super\(\).__init__\(", line)
    if made is None or "self" not in line[made.end() :]:
        return [line]
    statement: Any = ast.parse(line).body[0]
    root = "self"
    if isinstance(statement, ast.Assign):
        root = ast.unparse(statement.targets[0])
    lines: list[str] = []
    while (place := next(_places(statement.value, root), None)) is not None:
        name = f"shared{len(lines) + 1}" if lines else "shared"
        owner, index = _owner(statement.value, _indices(ast.parse(place, mode="eval").body))
        lines.append(f"{name} = {ast.unparse(owner[index])}")
        owner[index] = ast.Name(name)
        statement.value = _Renamed(place, name).visit(statement.value)
    return [*lines, ast.unparse(statement)] if lines else [line]


def _places(node: ast.AST, root: str) -> Iterator[str]:
    """Elements of what is being made that an expression reads."""
    if _is_within(node, root):
        yield ast.unparse(node)
        return
    for child in ast.iter_child_nodes(node):
        yield from _places(child, root)


def _is_within(node: ast.AST, root: str) -> bool:
    """Whether an expression is an element of what is being made."""
    while isinstance(node, ast.Subscript):
        node = node.value
        if ast.unparse(node) == root:
            return True
    return False


def _indices(node: ast.expr) -> list[Any]:
    found: list[Any] = []
    while isinstance(node, ast.Subscript):
        found.insert(0, ast.literal_eval(node.slice))
        node = node.value
    return found


def _owner(value: Any, indices: list[Any]) -> tuple[list[ast.expr], int]:
    """The list of expressions that an element stands in, and its place there."""
    for depth, index in enumerate(indices):
        elements: Any = value.args if isinstance(value, ast.Call) else []
        if len(elements) == 1 and isinstance(elements[0], ast.List):
            elements = elements[0].elts
        if len(elements) == 1 and isinstance(elements[0], ast.Dict):
            keys = [ast.literal_eval(key) for key in elements[0].keys if key is not None]
            elements, index = elements[0].values, keys.index(index)
        if any(isinstance(e, ast.Starred) for e in elements[: index + 1]) or index >= len(elements):
            raise Unported("a layer that a loop makes is held by the same list again")
        if depth == len(indices) - 1:
            return elements, index
        value = elements[index]
    raise Unported("a layer is its own part")


class _Renamed(ast.NodeTransformer):
    """Writes a name for an expression."""

    def __init__(self, place: str, name: str) -> None:
        self.place, self.name = place, name

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if ast.unparse(node) == self.place:
            return ast.Name(self.name)
        return self.generic_visit(node)
