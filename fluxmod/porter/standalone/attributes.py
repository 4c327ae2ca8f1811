"""Attributes of layers that have one value in the whole file are that value."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from .definitions import Definition, flax_bases

__all__ = ["settle_attributes"]

_SET_BY_FLAX = {"deterministic", "use_running_average"}  # by train(), eval() and nnx.view
Definitions = dict[str, Definition]
Stores = dict[str, list[tuple[str, Any]]]


def settle_attributes(
    found: Definitions, own: Definitions, family: Callable[[str], set[str]]
) -> None:
    """Put None, True, False and words in the place of attributes that are nothing else."""
    stores: Stores = {}
    for definition in (*found.values(), *own.values()):
        for name, owner, value in _stores(definition):
            stores.setdefault(name, []).append((owner, value))
    for definition in found.values():
        if not isinstance(definition.node, ast.ClassDef):
            continue
        related = family(definition.key)
        values = {
            name: places
            for name, places in stores.items()
            if name not in _SET_BY_FLAX
            and not any(name in _known_to_flax(key) for key in related)
            and not any(not owner for owner, _ in places)
        }
        _Replacer(values, related).visit(definition.node)
    read = {
        node.attr
        for definition in (*found.values(), *own.values())
        for each in definition.nodes
        for node in ast.walk(each)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    for definition in found.values():
        if isinstance(definition.node, ast.ClassDef):
            _drop_stores(definition, read)


def _stores(definition: Definition) -> Iterator[tuple[str, str, Any]]:
    """Each attribute that is set: its name, whose it is ("" unknown), what it is set to."""
    for top in definition.nodes:
        seen: set[int] = set()
        if isinstance(top, ast.ClassDef):
            for node in ast.walk(top):
                target = _target(node)
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    seen.add(id(target))
                    yield target.attr, definition.key, getattr(node, "value", None)
            for member in top.body:
                if isinstance(target := _target(member), ast.Name):
                    yield target.id, definition.key, getattr(member, "value", None)
        for node in ast.walk(top):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if id(node) not in seen:
                    yield node.attr, "", None


def _target(node: Any) -> Any:
    """The one target of a plain assignment."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return node.targets[0]
    return node.target if isinstance(node, ast.AnnAssign) and node.value is not None else None


@functools.cache
def _known_to_flax(key: str) -> frozenset[str]:
    """What a class's Flax base is given when it is made, and so may keep."""
    makers = [vars(c)["__init__"] for c in flax_bases(key) if "__init__" in vars(c)]
    return frozenset(name for make in makers for name in inspect.signature(make).parameters)


class _Replacer(ast.NodeTransformer):
    def __init__(self, values: Stores, related: set[str]) -> None:
        self.values = values
        self.related = related

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        self.generic_visit(node)
        owner = ast.unparse(node.value)
        if not isinstance(node.ctx, ast.Load) or owner not in ("self", "type(self)"):
            return node
        given = [v for place, v in self.values.get(node.attr, ()) if place in self.related]
        if not given or len(set(map(ast.dump, given))) > 1:
            return node
        value = given[0]
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "staticmethod":
            return copy.deepcopy(value.args[0])
        private = node.attr.startswith("_") and isinstance(value, ast.Constant)
        return value if private or _is_switch(value) else node


def _is_switch(node: Any) -> bool:
    return isinstance(node, ast.Constant) and (
        node.value is None or isinstance(node.value, bool | str)
    )


def _drop_stores(definition: Definition, read: set[str]) -> None:
    """Leave out the setting of a constant that nothing reads."""

    def is_dead(node: Any) -> bool:
        target = _target(node)
        return (
            isinstance(target, ast.Attribute)
            and ast.unparse(target.value) == "self"
            and target.attr not in read
            and target.attr not in _SET_BY_FLAX
            and _is_switch(node.value)
        )

    for member in definition.node.body:
        if isinstance(member, ast.FunctionDef):
            member.body = [n for n in member.body if not is_dead(n)] or [ast.Pass()]
