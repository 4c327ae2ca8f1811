"""Steps that were traced one by one, with a list of what each gives, become a loop that fills it.

``h = self.cell(x[:, 0], h)``, ``y = self.out(h)``, ``h = self.cell(x[:, 1], h)``, ... and
``jnp.stack([y, y2, y3, y4])`` is how a loop over the steps of a sequence is traced.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

import torch

from .counting import LEAST, counted
from .style import expression

__all__ = ["collected"]

_FIRST = re.compile(r"(?<=[\[ ]):(\d+)(?=[\],])")  # x[:, :1]
_GIVEN = -1  # an argument, or a module
_FILL = re.compile(r"\w+\.append\(")
_WRITTEN = re.compile(r"(?<=[\[ ])0:(\d+)(?=[\],])")  # x[:, 0:1]


def collected(lines: list[str], module: torch.nn.Module) -> list[str]:
    """Statements with runs of equal steps as loops, what they give in a list.

    >>> steps = ["h = f(x[:, 0], h)", "y = g(h)"]
    >>> steps += [f"h = f(x[:, {k}], h)\\ny{k} = g(h)" for k in (1, 2, 3)]
    >>> steps = "\\n".join([*steps, "return stack([y, y1, y2, y3])"]).split("\\n")
    >>> print("\\n".join(collected(steps, torch.nn.Module())))
    outputs = []
    for i in range(4):
        h = f(x[:, i], h)
        outputs.append(g(h))
    return stack(outputs)
    """
    plain = counted(lines)
    names = list(_names(module, lines)) if any(map(_lists, lines)) else []
    every = _filled(lines, names)
    alone = (_filled(lines, names, number) for number in every[1] if len(every[1]) > 1)
    for steps, filled in chain([every], alone):
        if not filled:
            continue
        looped = counted(steps)
        starts = [_start(looped, name) for name in filled.values()]
        if None not in starts and len(looped) < len(plain):
            for name in filled.values():
                looped.insert(_start(looped, name) or 0, f"{name} = []")
            return [_WRITTEN.sub(r":\1", line) for line in looped]
    return plain


def _filled(
    lines: list[str], names: list[str], only: int | None = None
) -> tuple[list[str], dict[int, str]]:
    """Statements that fill all lists that can be filled, or one; by number, their names."""
    filled: dict[int, str] = {}
    skipped = 0
    while found := [(at, each) for at, x in enumerate(lines) for each in _lists(x)][skipped:]:
        number = skipped + len(filled)
        tried = only in (None, number) and len(filled) < len(names)
        steps = _Steps(lines, *found[0], names[len(filled)]).run() if tried else None
        if steps is None:
            skipped += 1
        else:
            lines, filled[number] = steps, names[len(filled)]
    return lines, filled


@lru_cache(maxsize=4096)
def _lists(line: str) -> list[ast.List]:
    statement = _parsed(line)
    nodes = ast.walk(statement) if statement is not None else ()
    return [n for n in nodes if isinstance(n, ast.List) and len(n.elts) >= LEAST]


@lru_cache(maxsize=4096)
def _parsed(line: str) -> ast.stmt | None:
    """A statement of the function itself; not one that a branch or a loop is made of."""
    if line.startswith(" ") or line.endswith(":"):
        return None
    return ast.parse(line).body[0]


def _names(module: torch.nn.Module, lines: list[str]) -> Iterator[str]:
    """What torch's source calls its lists; then names that nothing has."""
    try:
        source = inspect.getsource(type(module).forward)
    except (OSError, TypeError):
        source = ""
    found = re.findall(r"\b(\w+)(?:\.append\(| \+= \[)", source)
    names = dict.fromkeys((*found, "outputs", *(f"outputs{number}" for number in range(2, 99))))
    text = "\n".join(lines)
    yield from (name for name in names if not re.search(rf"\b{name}\b", text))


def _start(lines: list[str], name: str) -> int | None:
    """Where the list has to be there: ahead of the loop that fills it; None if none does."""
    fills = [i for i, line in enumerate(lines) if line.lstrip().startswith(f"{name}.append(")]
    if not any(lines[i].startswith(" ") for i in fills):
        return None
    while lines[fills[0]].startswith(" "):
        fills[0] -= 1
    return fills[0]


class _Steps:
    """Statements of which one has a list: each element is put into it where it is made."""

    def __init__(self, lines: list[str], at: int, found: ast.List, name: str) -> None:
        text = lines[at].encode()
        before, after = text[: found.col_offset].decode(), text[found.end_col_offset :].decode()
        self.lines, self.last, self.rest = lines[:at], f"{before}{name}{after}", lines[at + 1 :]
        self.elements, self.name = found.elts, name

    def run(self) -> list[str] | None:
        """The statements, a list shorter; None where they cannot be put so."""
        place, base = 0, ""
        for number, element in enumerate(self.elements, 1):
            made = self._put(element, place, base, number == len(self.elements))
            if made is None:
                return None
            place, base = made
        self._complete()
        lines = [_FIRST.sub(r"0:\1", line) for line in self.lines]
        return [*lines, self.last, *self.rest]

    def _put(self, element: ast.expr, place: int, base: str, last: bool) -> tuple[int, str] | None:
        """Add an element where it is made; the place behind it, and the name it is made under."""
        places = {name: self._made(name) for name in _loaded(element)}
        made = max((at for at in places.values() if at is not None), default=_GIVEN)
        names = sorted(name for name, at in places.items() if at == made)
        if None in places.values() or made < place:
            return None
        end = made + 1
        while end < len(self.lines) and _FILL.match(self.lines[end]):
            end += 1
        if _calls(element) and not (last and end == len(self.lines)):
            return None  # layers may draw numbers: they are called in the order they were
        name, text = names[0], expression(element)
        alone = len([at for at in places.values() if at != _GIVEN]) == 1
        once = alone and len(re.findall(rf"\b{name}\b", text)) == 1 and _begins(element, name)
        match = re.fullmatch(rf"{name} = (.+)", self.lines[made])
        if match and once and not base and not self._is_read(name, made):
            tree = _Put(name, _expression(match[1])).visit(_expression(text))
            self.lines[made] = f"{self.name}.append({expression(tree)})"
            return made + 1, base
        if alone and base and name != base:
            if not self._rename(made, name, base):
                return None
            text, name = re.sub(rf"\b{name}\b", base, text), base
        self.lines.insert(end, f"{self.name}.append({text})")
        return end + 1, name if alone else base

    def _after(self, made: int) -> list[str]:
        return [*self.lines[made + 1 :], self.last]

    def _is_read(self, name: str, made: int) -> bool:
        """Whether a statement after the one that sets a variable may read it."""
        if self._is_later(name):
            return True
        return any(name in _reads(line) for line in self._after(made))

    def _is_later(self, name: str) -> bool:
        """Whether what a name stands for at the list may be read after it."""
        again = name in _sets(self.last)
        return not again and any(re.search(rf"\b{name}\b", line) for line in self.rest)

    def _made(self, name: str) -> int | None:
        """The last statement that sets a name, or that none does; None where a branch might."""
        for at in range(len(self.lines) - 1, -1, -1):
            if _parsed(self.lines[at]) is None:
                if any(re.search(rf"\b{name}\b", line) for line in self.lines[: at + 1]):
                    return None
                return _GIVEN
            if name in _sets(self.lines[at]):
                return at
        return _GIVEN

    def _rename(self, made: int, name: str, base: str) -> bool:
        """Call what a statement makes as what the first round made; whether that is possible."""
        lines = self._after(made)
        if self._is_later(base):
            return False
        later = self._is_later(name)
        if later and (base in _sets(self.last) or not all(map(_parsed, self.rest))):
            return False
        if later and any(name in _sets(line) for line in self.rest):
            return False
        end = next((i for i, x in enumerate(lines) if name in _sets(x)), len(lines) - 1)
        read = [i for i, x in enumerate(lines[: end + 1]) if name in _reads(x)]
        reset = next((i for i, x in enumerate(lines) if base in _sets(x)), len(lines))
        other = any(base in _reads(x) for x in lines[: reset + 1])
        if other or max(read, default=0) > reset:
            return False
        targets, equals, value = self.lines[made].partition(" = ")
        self.lines[made] = re.sub(rf"\b{name}\b", base, targets) + equals + value
        for i in read:
            lines[i] = _renamed(lines[i], name, base)
        self.lines[made + 1 :], self.last = lines[:-1], lines[-1]
        self.rest = [_renamed(x, name, base) if later else x for x in self.rest]
        return True

    def _complete(self) -> None:
        """``y, h = self.cell(x)`` for ``y = self.cell(x)[0]``, as the other rounds have it."""
        pairs = [line.partition(" = ")[::2] for line in self.lines]
        whole = {_child(value): names for names, value in pairs if ", " in names}
        for at, (target, value) in enumerate(pairs):
            if not value.endswith("[0]") or (child := _child(value)) not in whole or not child:
                continue
            first, *others = whole[child].split(", ")
            if first == target and not any(self._is_read(other, at) for other in others):
                self.lines[at] = f"{whole[child]} = {value.removesuffix('[0]')}"


def _child(value: str) -> str:
    """The path of the child that an expression calls, and nothing else."""
    match = re.match(r"\(*(self\.[\w.]+(?:\[\d+\])?)\(", value)
    return match[1] if match else ""


def _calls(node: ast.expr) -> bool:
    """Whether an expression calls a layer."""
    calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return any("self" in {n.id for n in ast.walk(f) if isinstance(n, ast.Name)} for f in calls)


class _Put(ast.NodeTransformer):
    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == self.name else node


def _begins(node: ast.expr, name: str) -> bool:
    """Whether an expression is a variable, or its entries or a method of it."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Call):
            node = node.func
        elif isinstance(node, (ast.Subscript, ast.Attribute)):
            node = node.value
        else:
            return False
    return node.id == name


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@lru_cache(maxsize=4096)
def _reads(line: str) -> frozenset[str]:
    """The variables that a statement reads."""
    return _loaded(_parsed(line))


@lru_cache(maxsize=4096)
def _sets(line: str) -> frozenset[str]:
    return _named(_parsed(line), ast.Store)


def _loaded(node: ast.AST | None) -> frozenset[str]:
    return _named(node, ast.Load) - {"self"}


def _named(node: ast.AST | None, context: type[ast.expr_context]) -> frozenset[str]:
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)] if node is not None else []
    return frozenset(n.id for n in names if isinstance(n.ctx, context))


def _renamed(line: str, name: str, base: str) -> str:
    """A statement that reads another variable; what it sets stays."""
    targets, equals, value = line.partition(" = ")
    if not equals:
        targets, value = "", line
    return targets + equals + re.sub(rf"(?<![\w.]){name}\b(?! ?=[^=])", base, value)
