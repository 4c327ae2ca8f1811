"""Parameters: what every call gives alike, and what nothing reads, goes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .definitions import Definition
from .simplify import is_pure, loaded, replace

__all__ = ["settle"]


Definitions = dict[str, Definition]


@dataclass
class Called:
    """A function or a constructor, with every call of it; ``own`` are those of the source."""

    function: ast.FunctionDef
    calls: list[ast.Call] = field(default_factory=list)
    own: list[ast.Call] = field(default_factory=list)
    open: bool = False  # there may be other calls
    bound: int = 0  # arguments that no call gives: self

    @property
    def parameters(self) -> list[ast.arg]:
        """What a call gives by position."""
        args = self.function.args
        return [*args.posonlyargs, *args.args][self.bound :]


def settle(found: Definitions, own: Definitions, bases: Callable[[str], list[str]]) -> None:
    """Remove parameters of functions and constructors where all calls can be seen.

    What the source itself gives stays a parameter, and functions that it calls keep all of them.
    """
    table = _table(found, bases)
    for definitions, calls_of in ((found, "calls"), (own, "own")):
        for definition in definitions.values():
            for node in definition.nodes:
                owner = definition.key if isinstance(node, ast.ClassDef) else ""
                _collect(node, owner, table, bases, calls_of)
    for called in {id(c): c for c in table.values()}.values():
        args = called.function.args
        calls = [*called.calls, *called.own]
        if called.open or not calls or any(map(_is_open, calls)) or args.vararg or args.kwarg:
            continue
        if called.own and not called.bound:
            continue
        _settle(called)


def _table(found: Definitions, bases: Callable[[str], list[str]]) -> dict[str, Called]:
    """What a call of each name runs: the function, or the constructor of the class."""
    table: dict[str, Called] = {}
    for key, definition in found.items():
        function = definition.node
        if isinstance(function, ast.FunctionDef):
            completed = bool(function.decorator_list) or len(definition.nodes) > 1
            table[key] = Called(function, open=completed)
        elif isinstance(function, ast.ClassDef):
            for member in function.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    table[key] = Called(member, bound=1)
    for key in found:
        for base in bases(key) if key not in table else ():
            if base in table and table[base].bound:
                table[key] = table[base]
                break
    return table


def _collect(
    tree: ast.AST,
    owner: str,
    table: dict[str, Called],
    bases: Callable[[str], list[str]],
    calls_of: str,
) -> None:
    """Note the calls in a tree, and which names are used otherwise."""
    plain = {id(b) for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for b in c.bases}
    above = [table[base] for base in bases(owner) if base in table] if owner else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
            if text == "super().__init__" and above:
                above[0].calls.append(node)
            elif text in ("type(self)", "cls"):
                _open(owner, table)
            elif text == "isinstance":
                plain |= {id(n) for n in ast.walk(node.args[1])}
            elif isinstance(node.func, ast.Name) and node.func.id in table:
                plain.add(id(node.func))
                getattr(table[node.func.id], calls_of).append(node)
        elif isinstance(node, ast.Assign) and ast.unparse(node.value) == "type(self)":
            _open(owner, table)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            plain |= {id(n) for n in ast.walk(node.annotation)}
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            plain |= {id(n) for n in ast.walk(node.returns)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in table and id(node) not in plain:
            if isinstance(node.ctx, ast.Load):
                table[node.id].open = True


def _open(owner: str, table: dict[str, Called]) -> None:
    if owner in table:
        table[owner].open = True


def _is_open(call: ast.Call) -> bool:
    """Whether a call spreads something over the parameters."""
    return any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    )


def _settle(called: Called) -> None:
    function, calls = called.function, [*called.calls, *called.own]
    for name, default in list(_parameters(function.args))[called.bound :]:
        if any(_given(called, call, name, None) is not None for call in called.own):
            continue
        given = [_given(called, call, name, default) for call in calls]
        same = {ast.dump(g) if isinstance(g, ast.Constant) else None for g in given}
        body = ast.Module(function.body, [])
        stored = {
            n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        read = name in loaded(body)
        if read and (None in same or len(same) > 1 or name in stored):
            continue
        if called.own and read and not _is_switch(given[0]):
            continue
        if not read and (name in stored or not all(g is None or is_pure(g) for g in given)):
            continue
        if read:
            replace(body, {name: given[0]})
        for call in calls:
            _remove_argument(called, call, name)
        _remove_parameter(function, name)


def _is_switch(node: Any) -> bool:
    """None, True, False or a word: what decides between ways, not how much."""
    return node.value is None or isinstance(node.value, bool | str)


def _parameters(args: ast.arguments) -> Iterator[tuple[str, Any]]:
    """Names and defaults."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    yield from ((a.arg, d) for a, d in zip(plain, defaults, strict=True))
    yield from ((a.arg, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True))


def _place(called: Called, name: str) -> int | None:
    plain = [a.arg for a in called.parameters]
    return plain.index(name) if name in plain else None


def _given(called: Called, call: ast.Call, name: str, default: Any) -> Any:
    """What a call gives for a parameter."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    place = _place(called, name)
    return call.args[place] if place is not None and place < len(call.args) else default


def _remove_argument(called: Called, call: ast.Call, name: str) -> None:
    place = _place(called, name)
    call.keywords = [k for k in call.keywords if k.arg != name]
    if place is not None and place < len(call.args):
        del call.args[place]


def _remove_parameter(function: ast.FunctionDef, name: str) -> None:
    args = function.args
    function.body = [node for node in function.body if not _deletes(node, name)] or [ast.Pass()]
    only = [a.arg for a in args.kwonlyargs]
    if name in only:
        index = only.index(name)
        del args.kwonlyargs[index], args.kw_defaults[index]
        return
    plain = [a.arg for a in (*args.posonlyargs, *args.args)]
    place = plain.index(name)
    first = len(plain) - len(args.defaults)
    if place >= first:
        del args.defaults[place - first]
    for group in (args.posonlyargs, args.args):
        group[:] = [a for a in group if a.arg != name]


def _deletes(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Delete) and {getattr(t, "id", "") for t in node.targets} == {name}
