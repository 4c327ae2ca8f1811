"""A port as one file that needs jax and flax alone: what it uses of ``fluxmod.nn`` is in it."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from flax import nnx

from fluxmod._errors import PortError
from fluxmod.porter.style import formatted, statement

from .definitions import Definition, Module, binds, is_doc, module, parse
from .layout import rendered
from .shake import Shaken, references
from .weights import loader

__all__ = ["standalone_text"]

_BLOCKS = (ast.FunctionDef, ast.ClassDef)
_HEAD = '''"""{origin}

The layers are those of fluxmod.nn {version} (Apache-2.0), reduced to what this model uses; they
take what torch takes, and do not check it. Weights with torch's names:

    model = {make}
    load(model, "{file}.safetensors")
"""
'''


def standalone_text(model: nnx.Module, text: str, name: str) -> str:
    """The source of a port without ``fluxmod``.

    The definitions in use are read from the package's own source, never kept as copies; the same
    model gives the same text.
    """
    source = parse("port", text)
    shaken = Shaken(source)
    layers, same = _without_twins(_ordered(shaken))
    own = _unique(shaken.own.values())
    nodes = [node for d in (*layers, *own) for node in d.nodes]
    outside = {"jnp", "nnx", *(name for node in nodes for name in _outside(node))}
    names = _names(layers, own, outside)
    names |= {key: names[twin] for key, twin in same.items()}
    for node in nodes:
        _rename(node, names)
    load = loader(model, lambda cls: names.get(_key_of(cls), cls.__name__))
    constructor = rf"(def {name}|class {name}\b(?s:.*?)def __init__)\([^)]*\brngs\b"
    takes_rngs = re.search(constructor, text)
    make = f"{name}({'rngs=nnx.Rngs(0)' if takes_rngs else ''})"
    origin = re.sub(r"\s+", " ", source.doc)
    head = _HEAD.format(origin=origin, version=_version(), make=make, file=name.lower())
    public = sorted([*source.public, "load"])
    front = [head, "from __future__ import annotations", "", *_imports(layers, source, outside)]
    lines = [*front, *statement(f"__all__ = {public}", 0), "", "", *_top(nodes), "", "", load]
    return formatted("\n".join(lines))


def _version() -> str:
    from fluxmod import __version__

    return __version__


def _outside(node: ast.AST) -> Iterator[str]:
    """The imported names in a tree."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and each.id.startswith("@"):
            yield each.id[1:]


def _key_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _unique(definitions: Iterable[Definition]) -> list[Definition]:
    found = {d.key: d for d in definitions}
    return list(found.values())


def _ordered(shaken: Shaken) -> list[Definition]:
    """Definitions before those that use them; what runs on import is there before it is used."""
    owners = {k: d for d in shaken.found.values() for k in _keys(d)}
    found: dict[str, Definition] = {}
    open_: set[str] = set()

    def visit(definition: Definition) -> None:
        if definition.key in found or definition.key in open_:
            return
        open_.add(definition.key)
        for part in (_eager, references):
            for node in definition.nodes:
                for key in part(node):
                    if key in owners:
                        visit(owners[key])
        found[definition.key] = definition

    for own in _unique(shaken.own.values()):
        for node in own.nodes:
            for key in references(node):
                if key in owners:
                    visit(owners[key])
    return list(found.values())


def _without_twins(
    definitions: list[Definition],
) -> tuple[list[Definition], dict[str, str]]:
    """Leave out what another file defines in the same words, such as the name of a type."""
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for definition in definitions:
        if isinstance(definition.node, ast.Assign):
            text = f"{definition.name} = {ast.dump(definition.node.value)}"
            same[definition.key] = first.setdefault(text, definition.key)
    same = {key: twin for key, twin in same.items() if key != twin}
    return [d for d in definitions if d.key not in same], same


def _eager(node: Any) -> Iterator[str]:
    """What a statement needs when the file is imported."""
    if isinstance(node, ast.FunctionDef):
        defaults = [d for d in (*node.args.defaults, *node.args.kw_defaults) if d is not None]
        parts: list[ast.AST] = [*node.decorator_list, *defaults]
    elif isinstance(node, ast.ClassDef):
        yield from (key for member in node.body for key in _eager(member))
        parts = [*node.bases, *node.decorator_list]
    else:
        parts = [node]
    yield from (key for part in parts for key in references(part))


def _keys(definition: Definition) -> list[str]:
    """The keys of all that a definition binds."""
    owner = definition.key.partition(":")[0]
    return [f"{owner}:{n.rpartition(':')[2]}" for node in definition.nodes for n in binds(node)]


def _names(layers: list[Definition], own: list[Definition], outside: set[str]) -> dict[str, str]:
    """What each definition is called: as in fluxmod, unless that name is taken."""
    taken = {"load", "_IN_TORCH", *outside, *dir(builtins)}
    names = {key: key.partition(":")[2] for d in own for key in _keys(d)}
    taken |= set(names.values())
    hidden = set(_hidden([*layers, *own]))
    for key in (key for d in layers for key in _keys(d)):
        owner, _, name = key.partition(":")
        *package, file = owner.split(".")
        chosen = name
        if name in taken or key in hidden:
            chosen = f"Torch{name}" if name[0].isupper() else f"{package[-1]}_{name}"
            if file[0] != "_":
                chosen = f"{file}_{name}"
            if name[0] == "_":
                chosen = f"_{file.strip('_')}{name}"
        while chosen in taken:
            chosen += "_"
        taken.add(chosen)
        names[key] = chosen
    return names


def _hidden(definitions: list[Definition]) -> Iterator[str]:
    """Definitions that are used where a variable has their name."""
    for function in (f for d in definitions for n in d.nodes for f in ast.walk(n)):
        if isinstance(function, ast.FunctionDef):
            local = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
            local |= {n for node in ast.walk(function) for n in binds(node)}
            yield from (k for k in references(function) if k.partition(":")[2] in local)


def _rename(node: ast.AST, names: dict[str, str]) -> None:
    """Give every name the form that it has in the file."""
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            each.id = names.get(each.id, each.id.removeprefix("@"))
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        node.name = names[getattr(node, "key", node.name)]


def _imports(layers: list[Definition], source: Module, outside: set[str]) -> list[str]:
    """The imports of what is used, grouped and ordered as a linter wants them."""
    texts: dict[str, str] = {"jnp": "import jax.numpy as jnp", "nnx": "from flax import nnx"}
    for owner in (*(module(d.key.partition(":")[0]) for d in layers), source):
        for name, text in owner.outside.items():
            if name in outside and texts.setdefault(name, text) != text:
                raise PortError(f"standalone: {name!r} is imported as two things in {owner.name}.")
    groups: dict[int, list[str]] = {}
    for text in _joined(texts[name] for name in outside):
        package = text.split()[1].partition(".")[0]
        known = {"jax": 1, "flax": 1, "numpy": 1}.get(package, 2)
        groups.setdefault(0 if package in sys.stdlib_module_names else known, []).append(text)
    lines: list[str] = []
    for _, group in sorted(groups.items()):
        lines += [*sorted(group, key=lambda t: (t.startswith("from"), t.lower())), ""]
    return lines


def _joined(texts: Iterable[str]) -> list[str]:
    """Imports from one module in one line."""
    found: dict[str, list[str]] = {}
    for text in sorted(texts):
        head, _, name = text.partition(" import ")
        found.setdefault(head, []).extend([name] if name else [])
    return [f"{h} import {', '.join(sorted(n, key=_rank))}" if n else h for h, n in found.items()]


def _rank(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


def _top(nodes: list[Any]) -> list[str]:
    """The statements of a file, two empty lines around functions and classes."""
    lines: list[str] = []
    before: Any = None
    for node in nodes:
        if before is not None:
            block = isinstance(before, _BLOCKS) or isinstance(node, _BLOCKS)
            lines += ["", ""] if block else [] if is_doc(node) else [""]
        lines += rendered([node])
        before = node
    return lines
