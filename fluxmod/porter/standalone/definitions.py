"""Definitions of ``fluxmod.nn`` as syntax trees whose names say where they come from.

A name that stands for a definition becomes ``module:name``, one that stands for something
imported from outside becomes ``@name``; names of functions' own variables stay. So a tree can be
moved into another file, and what it needs can be read off.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

__all__ = ["Definition", "Module", "binds", "find", "flax_bases", "inner_names", "is_doc", "module"]

_PRAGMA = re.compile(r"\s*# (type: ignore|noqa)\b.*$")
Function = (ast.FunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Definition:
    """A name at the top of a file: its statements, and those that complete it (``defjvp``)."""

    key: str
    nodes: list[Any]

    @property
    def name(self) -> str:
        """The name without the module."""
        return self.key.partition(":")[2]

    @property
    def node(self) -> Any:
        """The statement that binds the name."""
        return self.nodes[0]


@dataclass
class Module:
    """A file: its definitions in order, and what it imports."""

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    inside: dict[str, tuple[str, str]] = field(default_factory=dict)  # from fluxmod: module, name
    outside: dict[str, str] = field(default_factory=dict)  # the import of a name, as text
    public: tuple[str, ...] = ()
    doc: str = ""

    def resolve(self, name: str) -> str | None:
        """What a global name stands for: ``module:name``, ``module:`` for a module, ``@name``."""
        if name in self.definitions:
            return f"{self.name}:{name}"
        if name in self.outside:
            return f"@{name}"
        if name not in self.inside:
            return None
        owner, inner = self.inside[name]
        return _member(owner, inner)


def _member(owner: str, name: str) -> str | None:
    """What ``owner.name`` is: a definition, wherever it was imported from, or a module."""
    source = module(owner)
    if name in source.definitions or source.inside.get(name, (owner, name)) != (owner, name):
        return source.resolve(name)
    return f"{owner}.{name}:" if f"{owner}.{name}" in sys.modules else source.resolve(name)


@functools.cache
def module(name: str) -> Module:
    """Read a module of this package."""
    return parse(name, inspect.getsource(import_module(name)))


def parse(name: str, text: str) -> Module:
    """Read a file's text."""
    tree = ast.parse(text)
    found = Module(name, doc=ast.get_docstring(tree) or "")
    _attach_layout(tree, text)
    package = name if "__path__" in _names(name) else name.rpartition(".")[0]
    last = ""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            _read_import(node, package, found)
            continue
        owner = _completed(node, found, last)
        if owner:
            found.definitions[owner].append(node)
            if isinstance(node, ast.FunctionDef):
                found.definitions[node.name] = found.definitions[owner]
            continue
        for each in binds(node):
            if each == "__all__":
                found.public = tuple(ast.literal_eval(getattr(node, "value", ast.List([]))))
                last = ""
            else:
                found.definitions[each] = [node]
                last = each
    return found


def _names(name: str) -> dict[str, Any]:
    return vars(import_module(name)) if name.startswith("fluxmod") else {}


def _read_import(node: Any, package: str, found: Module) -> None:
    base = getattr(node, "module", None) or ""
    if getattr(node, "level", 0):
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    for alias in node.names:
        name = alias.asname or alias.name
        if base == "__future__":
            continue
        if base.partition(".")[0] == "fluxmod":
            found.inside[name] = (base, alias.name)
        else:
            tail = f" as {alias.asname}" if alias.asname else ""
            head = f"from {base} import " if base else "import "
            found.outside[name] = f"{head}{alias.name}{tail}"


def _completed(node: ast.stmt, found: Module, last: str) -> str:
    """The definition that a statement completes: ``@f.defjvp``, ``f.defvjp(...)``, a docstring."""
    calls: list[Any] = []
    if isinstance(node, ast.FunctionDef):
        calls = node.decorator_list
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        calls = [node.value.func]
    elif is_doc(node):
        kept = last and not isinstance(found.definitions[last][0], ast.FunctionDef | ast.ClassDef)
        return last if kept else ""
    for call in calls:
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
            if call.value.id in found.definitions:
                return call.value.id
    return ""


def is_doc(node: Any) -> bool:
    """Whether a statement is a text alone."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def binds(node: ast.AST) -> list[str]:
    """The names that a statement gives a value."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return [n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)]


def find(key: str) -> Definition:
    """The definition of a key, its names qualified and its documentation shortened."""
    owner, _, name = key.partition(":")
    source = module(owner)
    return qualified(source, name)


def qualified(source: Module, name: str) -> Definition:
    """One definition of a file; a copy, free to be changed."""
    nodes = source.definitions[name]
    first = next(iter(binds(nodes[0])))
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.key = f"{source.name}:{node.name}"  # type: ignore[union-attr]
    copies = [_Qualifier(source).visit(copy.deepcopy(node)) for node in nodes]
    for node in copies:
        _shorten(node, whole=not source.name.startswith("fluxmod"))
    return Definition(f"{source.name}:{first}", copies)


def _shorten(node: ast.AST, *, whole: bool) -> None:
    """Keep of each docstring what the code does and for which shapes, or all of it."""
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.ClassDef) and is_doc(each.body[0]):
            doc: Any = each.body[0]
            first, *others = inspect.cleandoc(doc.value.value).split("\n\n")
            kept = [part for part in others if whole or part.startswith("Shape:")]
            doc.value.value = "\n\n".join([first, *kept])


class _Qualifier(ast.NodeTransformer):
    """Give every global name its origin."""

    def __init__(self, source: Module) -> None:
        self.source = source
        self.frames: list[tuple[bool, set[str]]] = []  # of a class, names

    def _is_local(self, name: str) -> bool:
        inner = len(self.frames) - 1
        return any(
            name in names and (not of_class or place == inner)
            for place, (of_class, names) in enumerate(self.frames)
        )

    def visit_Name(self, node: ast.Name) -> Any:
        """A name alone."""
        if not self._is_local(node.id):
            node.id = self.source.resolve(node.id) or node.id
        return node

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """``F.relu``: a member of a module of this package is one name."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id.endswith(":"):
            found = _member(node.value.id[:-1], node.attr)
            if found is not None:
                return ast.copy_location(ast.Name(found, node.ctx), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Decorators, defaults and types belong outside, the body inside."""
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        node.args = self.visit(node.args)
        node.returns = node.returns and self.visit(node.returns)
        return self._inside(node, False, inner_names(node))

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """Names of a class are seen in its body alone, not in its methods."""
        node.decorator_list = [self.visit(d) for d in node.decorator_list]
        node.bases = [self.visit(b) for b in node.bases]
        return self._inside(node, True, _assigned(node.body))

    def _inside(self, node: Any, of_class: bool, names: set[str]) -> Any:
        self.frames.append((of_class, names))
        node.body = [self.visit(s) for s in node.body]
        self.frames.pop()
        return node

    def visit_Lambda(self, node: ast.Lambda) -> Any:
        """Arguments are names of its own."""
        node.args = self.visit(node.args)
        self.frames.append((False, inner_names(node)))
        node.body = self.visit(node.body)
        self.frames.pop()
        return node

    def generic_visit(self, node: ast.AST) -> Any:
        """A comprehension's variables are names of its own."""
        if not isinstance(node, _COMPREHENSIONS):
            return super().generic_visit(node)
        self.frames.append((False, inner_names(node)))
        super().generic_visit(node)
        self.frames.pop()
        return node


def _arguments(args: ast.arguments) -> list[ast.arg]:
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    return given + [a for a in (args.vararg, args.kwarg) if a is not None]


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _assigned(body: Iterable[ast.AST]) -> set[str]:
    """The names that a body binds in its own scope."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        if isinstance(node, _COMPREHENSIONS):
            walrus = [n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
            found |= {t.id for t in walrus}
        elif not isinstance(node, (*Function, ast.ClassDef)):
            found |= _assigned(ast.iter_child_nodes(node))
    return found


def inner_names(node: ast.AST) -> set[str]:
    """The names that a function, or a comprehension, has for itself."""
    if isinstance(node, Function):
        inside = _assigned(node.body) if isinstance(node, ast.FunctionDef) else set()
        return {a.arg for a in _arguments(node.args)} | inside
    if isinstance(node, _COMPREHENSIONS):
        return {name for loop in node.generators for name in _stored(loop.target)}
    return set()


def _attach_layout(tree: ast.Module, text: str) -> None:
    """Give every statement the lines that it has, to be printed where nothing changes."""
    lines = text.split("\n")
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
        and not lines[token.start[0] - 1][: token.start[1]].strip()
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt | ast.ExceptHandler):
            continue
        each: Any = node
        first = start = min([each.lineno, *(d.lineno for d in getattr(each, "decorator_list", []))])
        while start - 1 in comments and _indent(lines[start - 2]) == each.col_offset:
            start -= 1
        each.comments = [line.strip() for line in lines[start - 1 : first - 1]]
        each.gap = start > 1 and not lines[start - 2].strip()
        end = each.end_lineno
        if body := getattr(each, "body", None):
            end = min([body[0].lineno, *(d.lineno for d in getattr(body[0], "decorator_list", []))])
            end -= 1
            while end in comments or not lines[end - 1].strip():
                end -= 1
        kept = [_PRAGMA.sub("", line) for line in lines[each.lineno - 1 : end]]
        each.lines = [line[each.col_offset :] for line in kept]
        if isinstance(node, ast.If):
            each.lines[0] = each.lines[0].removeprefix("el")
        each.was = ast.dump(head(each))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def head(node: Any) -> Any:
    """A statement without the blocks and the decorators that it holds."""
    if not hasattr(node, "body") and not hasattr(node, "decorator_list"):
        return node
    bare = copy.copy(node)
    for name in ("body", "orelse", "finalbody", "handlers", "decorator_list"):
        if isinstance(getattr(bare, name, None), list):
            setattr(bare, name, [])
    return bare


def flax_bases(key: str) -> list[type]:
    """The classes of Flax that one of ours extends."""
    owner, _, name = key.partition(":")
    if not owner.startswith("fluxmod."):
        return []
    cls = getattr(import_module(owner), name)
    return [c for c in cls.__mro__ if c.__module__.startswith("flax.")]
