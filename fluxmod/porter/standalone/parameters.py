"""Parameters of helper functions: what every call gives alike, and what nothing reads, goes.

Functions with torch's names keep torch's parameters.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from typing import Any

from .definitions import Definition, module
from .simplify import is_pure, loaded, replace

__all__ = ["settle"]

_PUBLIC = ("fluxmod.nn", "fluxmod.nn.functional", "fluxmod.nn.ops", "fluxmod.nn.random")


def settle(definitions: dict[str, Definition], others: Iterable[Definition]) -> None:
    """Remove parameters of helpers; ``others`` may call them too."""
    everything = (*definitions.values(), *others)
    nodes = [node for definition in everything for node in definition.nodes]
    calls: dict[str, list[ast.Call]] = {}
    named: dict[str, int] = {}
    for each in (n for node in nodes for n in ast.walk(node)):
        if isinstance(each, ast.Name) and ":" in each.id:
            named[each.id] = named.get(each.id, 0) + 1
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and ":" in each.func.id:
            calls.setdefault(each.func.id, []).append(each)
    for key, definition in definitions.items():
        function = definition.node
        if not isinstance(function, ast.FunctionDef) or len(definition.nodes) > 1:
            continue
        if function.decorator_list or definition.name in _public() or key not in calls:
            continue
        if named[key] == len(calls[key]) and not any(map(_is_open, calls[key])):
            if function.args.vararg is None and function.args.kwarg is None:
                _settle(function, calls[key])


@functools.cache
def _public() -> frozenset[str]:
    return frozenset(name for each in _PUBLIC for name in module(each).public)


def _is_open(call: ast.Call) -> bool:
    """Whether a call spreads something over the parameters."""
    return any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    )


def _settle(function: ast.FunctionDef, calls: list[ast.Call]) -> None:
    for name, default in list(_parameters(function.args)):
        given = [_given(function.args, call, name, default) for call in calls]
        same = {ast.dump(g) if isinstance(g, ast.Constant) else None for g in given}
        body = ast.Module(function.body, [])
        stored = {
            n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        read = name in loaded(body)
        if read and (None in same or len(same) > 1 or name in stored):
            continue
        if not read and (name in stored or not all(map(is_pure, given))):
            continue
        if read:
            replace(body, {name: given[0]})
        for call in calls:
            _remove_argument(function.args, call, name)
        _remove_parameter(function, name)


def _parameters(args: ast.arguments) -> Iterator[tuple[str, Any]]:
    """Names and defaults."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    yield from ((a.arg, d) for a, d in zip(plain, defaults, strict=True))
    yield from ((a.arg, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True))


def _place(args: ast.arguments, name: str) -> int | None:
    plain = [a.arg for a in (*args.posonlyargs, *args.args)]
    return plain.index(name) if name in plain else None


def _given(args: ast.arguments, call: ast.Call, name: str, default: Any) -> Any:
    """What a call gives for a parameter."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    place = _place(args, name)
    return call.args[place] if place is not None and place < len(call.args) else default


def _remove_argument(args: ast.arguments, call: ast.Call, name: str) -> None:
    place = _place(args, name)
    call.keywords = [k for k in call.keywords if k.arg != name]
    if place is not None and place < len(call.args):
        del call.args[place]


def _remove_parameter(function: ast.FunctionDef, name: str) -> None:
    args = function.args
    place = _place(args, name)
    function.body = [node for node in function.body if not _deletes(node, name)] or [ast.Pass()]
    if place is None:
        index = [a.arg for a in args.kwonlyargs].index(name)
        del args.kwonlyargs[index], args.kw_defaults[index]
        return
    plain = [*args.posonlyargs, *args.args]
    first = len(plain) - len(args.defaults)
    if place >= first:
        del args.defaults[place - first]
    for group in (args.posonlyargs, args.args):
        group[:] = [a for a in group if a.arg != name]


def _deletes(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Delete) and {getattr(t, "id", "") for t in node.targets} == {name}
