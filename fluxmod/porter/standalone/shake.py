"""Which definitions and methods a source needs, and what of them remains.

The file is a closed world: what is not in it is not there. So a class of which nothing makes an
object has none, a context variable that nothing sets has its default, and an argument that every
call of a helper gives the same value is that value.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Iterator
from typing import Any

from .attributes import settle_attributes
from .definitions import Definition, Module, binds, find, flax_bases, is_doc, qualified
from .parameters import settle
from .simplify import Known, is_hollow, simplify

__all__ = ["Shaken", "references"]

_PROTOCOL = {
    "__init__", "__init_subclass__", "__post_init__", "__call__", "__getitem__", "__iter__",
    "__len__", "__contains__", "__hash__", "__enter__", "__exit__",
}  # fmt: skip
_OF_LISTS = {name for kind in (list, dict, set, tuple, str) for name in dir(kind)}
_LISTS = (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Set, ast.SetComp, ast.Tuple)
Definitions = dict[str, Definition]


def references(node: ast.AST) -> Iterator[str]:
    """The keys of the definitions that a tree names."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and ":" in each.id:
            yield each.id


class Shaken:
    """The definitions that a source needs, reduced to what it needs of them."""

    def __init__(self, source: Module) -> None:
        self.source = source
        self._bases_of: dict[str, list[str]] = {}
        self._families: dict[tuple[str, int], set[str]] = {}
        born: set[str] = set()
        while True:  # with the objects that were seen to be made
            self._families.clear()
            self.own = {
                f"{source.name}:{name}": qualified(source, name) for name in source.definitions
            }
            self.found: Definitions = {}
            self.born = born
            self._shrink()
            if (seen := set(self._made())) <= born:
                return
            born = born | seen

    def _shrink(self) -> None:
        self._reach()
        while True:
            before = self._state()
            known = self._known()
            for owner, function in self._functions():
                known.hollow_method = functools.partial(self._is_hollow_method, owner)
                simplify(function, known)
            settle(self.found, self.own, self._bases)
            settle_attributes(self.found, self.own, self._family)
            self._reach()
            if self._state() == before:
                return

    def _state(self) -> list[str]:
        nodes = [n for d in (*self.own.values(), *self.found.values()) for n in d.nodes]
        return [ast.dump(node) for node in nodes]

    def _functions(self) -> Iterator[tuple[str, Any]]:
        """Every function and method, with the class that it belongs to."""
        for definition in self.found.values():
            for node in definition.nodes:
                inner = node.body if isinstance(node, ast.ClassDef) else [node]
                owner = definition.key if isinstance(node, ast.ClassDef) else ""
                yield from ((owner, each) for each in inner if isinstance(each, ast.FunctionDef))

    def _known(self) -> Known:
        known = Known(unborn=self._is_unborn)
        for key, definition in self.found.items():
            if isinstance(definition.node, ast.FunctionDef) and is_hollow(definition.node):
                known.hollow.add(key)
            if (default := _context_default(definition.node)) is not None:
                known.unset[key] = default
        for definition in (*self.found.values(), *self.own.values()):
            for node in (n for each in definition.nodes for n in ast.walk(each)):
                if isinstance(node, ast.Attribute) and node.attr == "set":
                    known.unset.pop(getattr(node.value, "id", ""), None)
        return known

    def _is_unborn(self, key: str) -> bool:
        if ":" not in key or key in self.own:
            return False
        return isinstance(find(key).node, ast.ClassDef) and key not in self.born

    def _made(self) -> Iterator[str]:
        """Classes that are named elsewhere than in ``isinstance`` and in types."""
        for definition in (*self.own.values(), *self.found.values()):
            for node in definition.nodes:
                for key in references(_without_types(node)):
                    if isinstance(find_any(self, key).node, ast.ClassDef):
                        yield key

    # classes

    def _bases(self, key: str) -> list[str]:
        if key not in self._bases_of:
            node = find_any(self, key).node
            own = [k for b in getattr(node, "bases", []) for k in references(b)]
            self._bases_of[key] = own + [k for base in own for k in self._bases(base)]
        return self._bases_of[key]

    def _family(self, key: str) -> set[str]:
        """A class, those it extends, and those that extend it."""
        place = (key, len(self.found))
        if place not in self._families:
            below = {k for k in (*self.own, *self.found) if key in self._bases(k)}
            above = {b for k in (key, *below) for b in self._bases(k)}
            self._families[place] = {key, *below, *above}
        return self._families[place]

    def _is_hollow_method(self, owner: str, name: str) -> bool:
        if not owner:
            return False
        methods = [
            node
            for key in self._family(owner)
            for node in getattr(find_any(self, key, kept=True).node, "body", [])
            if isinstance(node, ast.FunctionDef) and node.name == name
        ]
        return bool(methods) and all(map(is_hollow, methods))

    # reachability

    def _reach(self) -> None:
        """Drop definitions and members that nothing uses; fetch those that are missing."""
        self._families.clear()
        before, self.found = self.found, {}
        members: dict[str, list[Any]] = {key: [] for key in self.own}
        used: set[tuple[str, str]] = set()
        while True:
            fresh = [
                part
                for key in list(members)
                for part in self._newly_used(key, find_any(self, key), used, members[key])
            ]
            if not fresh:
                break
            for owner, node in fresh:
                used |= set(_attributes(node, owner))
                for key in references(node):
                    if key not in self.own and key not in members:
                        definition = before.get(key) or find(key)
                        definition = before.get(definition.key, definition)
                        self.found.setdefault(definition.key, definition)
                        members.setdefault(definition.key, [])
        for key, nodes in members.items():
            _keep(find_any(self, key), nodes)

    def _newly_used(
        self, key: str, definition: Definition, used: set[tuple[str, str]], seen: list[Any]
    ) -> list[Any]:
        """Parts of a definition that are needed and were not before."""
        fresh: list[Any] = []
        if seen and not isinstance(definition.node, ast.ClassDef):
            return fresh
        for node in definition.nodes:
            if not isinstance(node, ast.ClassDef):
                parts = [node]
            else:
                parts = [*node.bases, *node.decorator_list]
                parts += [m for m in node.body if self._is_used(key, node, m, used)]
            fresh += [part for part in parts if not any(part is s for s in seen)]
        seen += fresh
        return [(key if isinstance(definition.node, ast.ClassDef) else "", p) for p in fresh]

    def _is_used(self, key: str, cls: ast.ClassDef, member: Any, used: set[Any]) -> bool:
        if is_doc(member):
            return True
        decorators = [ast.unparse(d) for d in getattr(member, "decorator_list", [])]
        if "@typing.overload" in decorators or "@overload" in decorators:
            return False
        if isinstance(member, ast.AnnAssign) and cls.decorator_list:
            return True  # a field
        names = binds(member)
        if any(n in _PROTOCOL or n in _flax_members(key) for n in names):
            return True
        family = self._family(key)
        return any(n == name and o in ("", *family) for n in names for name, o in used)


def find_any(shaken: Shaken, key: str, *, kept: bool = False) -> Definition:
    """A definition, of the source or of this package."""
    found = shaken.own.get(key) or shaken.found.get(key)
    if found is None and kept:
        return Definition(key, [ast.Pass()])
    return found or find(key)


def _keep(definition: Definition, nodes: list[Any]) -> None:
    """Leave in a class the members that are used."""
    cls = definition.node
    if isinstance(cls, ast.ClassDef):
        body = [m for m in cls.body if any(m is node for node in nodes)]
        cls.body = body or [ast.Pass()]


@functools.cache
def _flax_members(key: str) -> frozenset[str]:
    """Names of a class that Flax has too, and so may use."""
    return frozenset(n for c in flax_bases(key) for n in vars(c) if not n.startswith("__"))


def _attributes(node: ast.AST, owner: str) -> Iterator[tuple[str, str]]:
    """The attributes that a tree reads, with the class whose they are if that can be seen."""
    lists = _lists(node)
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load):
            root = each.value
            if isinstance(root, ast.Name) and root.id in ("self", "cls") and owner:
                yield each.attr, owner
            elif isinstance(root, ast.Call) and ast.unparse(root) in ("super()", "type(self)"):
                yield each.attr, owner
            elif isinstance(root, ast.Name) and (
                root.id.startswith("@") or (each.attr in _OF_LISTS and root.id in lists)
            ):
                continue
            else:
                yield each.attr, ""


def _lists(node: ast.AST) -> set[str]:
    """Names of plain lists and dictionaries."""
    return {
        name
        for each in ast.walk(node)
        if isinstance(each, ast.Assign | ast.AnnAssign) and isinstance(each.value, _LISTS)
        for name in binds(each)
    }


def _context_default(node: Any) -> ast.expr | None:
    """The default of a context variable."""
    value = getattr(node, "value", None)
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "@ContextVar":
        found = [k.value for k in value.keywords if k.arg == "default"]
        return found[0] if found else None
    return None


def _without_types(node: ast.AST) -> ast.AST:
    """A tree without annotations and ``isinstance``."""

    class Bare(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> Any:
            node.annotation = None
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
            node.returns = None
            return self.generic_visit(node)

        def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
            return self.generic_visit(ast.Expr(node.value)) if node.value else None

        def visit_Call(self, node: ast.Call) -> Any:
            self.generic_visit(node)
            if isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                node.args = node.args[:1]
            return node

    return Bare().visit(copy.deepcopy(node))
