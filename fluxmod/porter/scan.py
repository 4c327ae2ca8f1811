"""``Options(scan=True)``: a loop over equal blocks becomes ``nnx.scan`` over stacked parameters.

Works on the text of one class, after loops were found. A list is stacked if all of its blocks are
built by one expression and everything that touches it is a loop whose rounds do the same, or one
call of a Sequential. Otherwise the loop stays, and a note says why.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fluxmod._paths import join

from . import paths
from .ir import Call, Value, map_tree
from .leaves import Leaf
from .loops import is_read, singular
from .specs import Instance, Listing
from .words import container

__all__ = ["Run", "Stacks"]


@dataclass(frozen=True)
class Run:
    """How a list is built that ends in equal blocks: all of it, one block, how many, the others."""

    expression: str
    block: str
    count: str
    kind: str = ""
    others: tuple[str, ...] = ()

    @property
    def start(self) -> int:
        """The first of the equal blocks."""
        return len(self.others)

    def stacked(self, made: str) -> str:
        """The expression with the equal blocks as one, which ``made`` builds."""
        if not self.others:
            return made
        return container(self.kind, [*self.others, made])


class _Stays(Exception):
    """Why a loop stays as it is."""


class Stacks:
    """What of one class is stacked; rewrites the lines of its constructor and of its call."""

    def __init__(self, code: Any, lines: list[str], others: list[Any]) -> None:
        self.code = code
        self.lines = lines
        self.others = others  # the other classes
        self.paths: list[str] = []
        self.notes: list[str] = []
        instance = code.group.instances[0]
        for path, listing in _lists(instance.attributes):
            try:
                self.stack(instance, path, listing)
            except _Stays as reason:
                last = list(listing.children.values())[-1]
                if isinstance(last, Leaf) and id(listing) not in code.runs:
                    continue  # nobody takes Linear(4, 8), Linear(8, 2) for a stack
                place = join(instance.path, path)
                self.notes.append(f"{place} stays a loop, without scan: {reason}.")

    def stack(self, instance: Instance, path: str, listing: Listing) -> None:
        """Stack one list, or raise without having changed anything."""
        run: Run | None = self.code.runs.get(id(listing))
        if run is None:
            raise _Stays("its blocks are not built alike")
        if run.kind not in ("", "ModuleList", "Sequential"):
            raise _Stays(f"it is a {run.kind}")
        name = paths.expression(instance.module, path)
        built = [i for i, line in enumerate(self.code.lines) if run.expression in line]
        top = f"self.{path.partition('.')[0]} = "
        built = [i for i in built if self.code.lines[i].startswith(top)]
        if len(built) != 1 or self.code.lines[built[0]].count(run.expression) != 1:
            raise _Stays("another class builds its blocks")
        mention = re.compile(rf"{re.escape(name)}(?![\w])")
        last = path.rpartition(".")[2]
        self.check_others(path)
        if any(mention.search(line) for i, line in enumerate(self.code.lines) if i not in built):
            raise _Stays("its blocks share something with the rest of the model")
        for body in (b for i in self.code.group.instances for b in i.bodies):
            _same_rounds(body.call, join(body.call.path, path), listing, run.start)
        kind = _kind(listing)
        lines = self.rewritten(name, mention, kind, f"scan_{last}", run.start)
        maker = f"make_{last}"
        rngs = re.search(r"\brngs\b", run.block) is not None
        head = ["@nnx.split_rngs(splits={})", "@nnx.vmap"] if rngs else ["@nnx.vmap(axis_size={})"]
        make = [
            *(line.format(run.count) for line in head),
            f"def {maker}({'rngs: nnx.Rngs' if rngs else ''}) -> {kind}:",
            f"    return {run.block}",
            "",
        ]
        made = f"{maker}({'rngs' if rngs else ''})"
        line = self.code.lines[built[0]].replace(run.expression, run.stacked(made))
        gap = [""] if built[0] else []
        self.code.lines[built[0] : built[0] + 1] = [*gap, *make, line]
        self.lines = lines
        self.paths.append(f"{path}.{run.start}" if run.start else path)

    def check_others(self, path: str) -> None:
        """Refuse a list that another class reaches into."""
        for instance in self.code.group.instances:
            place = join(instance.path, path)
            for code in self.others:
                for body in (b for i in code.group.instances for b in i.bodies):
                    inside = body.call.path.startswith(f"{place}.")
                    if not inside and any(
                        c.path.startswith(f"{place}.") for c in _below(body.call)
                    ):
                        raise _Stays("another class calls its blocks")
                for other in code.group.instances:
                    if (rest := paths.relative(place, other.path)) is None:
                        continue
                    name = paths.expression(other.module, rest)
                    if any(f"{name}[" in line for line in code.lines):
                        raise _Stays("its blocks share something with the rest of the model")

    def rewritten(
        self, name: str, mention: re.Pattern[str], kind: str, function: str, start: int
    ) -> list[str]:
        """The lines of the call with each use of the equal blocks as a scan."""
        lines = list(self.lines)
        stack, source = (f"{name}[{start}]", f"{name}[{start}:]") if start else (name, name)
        single = re.compile(rf"{re.escape(name)}\[(\d+)\]")
        places = [
            i
            for i, line in enumerate(lines)
            if any(int(n) >= start for n in single.findall(line))
            or mention.search(single.sub("", line))
        ]
        if not places:
            raise _Stays("it is called as a part of another list")
        for place in reversed(places):
            line, scan = lines[place], function if place == places[-1] else f"{function}_{place}"
            end = place + 1
            head = re.fullmatch(rf"( *)for (\w+) in {re.escape(source)}:", line)
            if head:
                while end < len(lines) and lines[end].startswith(f"{head[1]}    "):
                    end += 1
                loop = _Loop(head[2], lines[place + 1 : end], lines[end:])
                new = loop.scan(scan, stack, kind)
                if lines[end : end + 1] == [f"{head[1]}return {', '.join(loop.carried)}"]:
                    new[-1] = f"return {new[-1].partition(' = ')[2]}"
                    end += 1
            elif line.count(name) == 1 and f"{name}(" in line:
                block = singular(name, set())
                new = [*_scan(scan, block, kind, ["x"], [], f"{block}(x)"), ""]
                new.append(_called(line.strip(), name, f"{scan}({stack}, ", start))
            else:
                raise _Stays("it is not called block after block, from the first to the last")
            indent = " " * (len(line) - len(line.lstrip()))
            first = place == 0 or lines[place - 1].rstrip().endswith(":")
            new = [*([] if first else [""]), *new]
            lines[place:end] = [f"{indent}{each}" if each else "" for each in new]
        return [line for i, line in enumerate(lines) if line or lines[i - 1 : i] != [""]]


def _called(line: str, name: str, scan: str, start: int) -> str:
    """The line with the call of a Sequential as calls of its first blocks and a scan."""
    before, _, after = line.partition(f"{name}(")
    depth, end = 1, 0
    while depth:
        depth += {"(": 1, ")": -1}.get(after[end], 0)
        end += 1
    inner = after[: end - 1]
    for index in range(start):
        inner = f"{name}[{index}]({inner})"
    return f"{before}{scan}{inner}{after[end - 1 :]}"


class _Loop:
    """The body of a loop over blocks: what goes from round to round."""

    def __init__(self, block: str, body: list[str], after: list[str]) -> None:
        self.block = block
        self.body = textwrap.dedent("\n".join(body)).split("\n")
        self.statements = ast.parse("\n".join(self.body)).body
        set_names: set[str] = set()
        for statement in self.statements:
            if not isinstance(statement, ast.Assign):
                raise _Stays("a round has branches")
            set_names |= _stored(statement)
        carried: dict[str, None] = {}
        done: set[str] = set()
        for statement in self.statements:
            carried |= dict.fromkeys(n for n in _loaded(statement) if n in set_names - done)
            done |= _stored(statement)
        self.carried = list(carried)
        if not carried:
            raise _Stays("no round goes on with what the one before it made")
        for name in sorted(set_names - set(carried)):
            if is_read(name, after):
                raise _Stays(f"{name}, which a round makes, is needed after the loop")
        self.check()

    def check(self) -> None:
        """Refuse what a scan cannot have inside: other modules, sizes that nobody vouches for."""
        passed: set[str] = set()
        for node in ast.walk(ast.Module(self.statements, [])):
            if isinstance(node, ast.Attribute) and node.attr == "rngs":
                raise _Stays("a round draws from the random stream of the whole")
            if isinstance(node, ast.Call):
                root = _root(node.func)
                if root == "self":
                    raise _Stays(f"a round also calls {ast.unparse(node.func)}")
                if root == self.block:
                    given = [*node.args, *(k.value for k in node.keywords)]
                    passed |= {each.id for each in given if isinstance(each, ast.Name)}
        for name in self.carried:
            if name not in passed:
                raise _Stays(f"{name} goes from round to round and into no block")

    def scan(self, function: str, name: str, kind: str) -> list[str]:
        """The function of one round, and the call that goes through all of them."""
        *lines, last = self.body
        result = ", ".join(self.carried)
        target, _, value = last.partition(" = ")
        if target != result or len(self.carried) > 1:
            lines, value = self.body, result
        head = _scan(function, self.block, kind, self.carried, lines, value)
        given = result if len(self.carried) == 1 else f"({result})"
        return [*head, "", f"{result} = {function}({name}, {given})"]


def _scan(
    function: str, block: str, kind: str, carried: list[str], lines: list[str], value: str
) -> list[str]:
    """The text of the function of one round."""
    one = len(carried) == 1
    argument = f"{carried[0]}: jax.Array" if one else "carry: tuple[jax.Array, ...]"
    returns = "jax.Array" if one else "tuple[jax.Array, ...]"
    unpacked = [] if one else [f"{', '.join(carried)} = carry"]
    return [
        "@nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)",
        f"def {function}({block}: {kind}, {argument}) -> {returns}:",
        *(f"    {line}" for line in [*unpacked, *lines]),
        f"    return {value}",
    ]


def _lists(attributes: dict[str, Any]) -> Iterator[tuple[str, Listing]]:
    """Lists that end in two or more blocks of one class, by path."""
    for name, spec in attributes.items():
        if not isinstance(spec, Listing):
            continue
        classes = [_class_of(child) for child in spec.children.values()]
        if len(classes) > 1 and classes[-1] == classes[-2] is not None and not spec.named:
            yield name, spec
        else:
            yield from ((f"{name}.{rest}", found) for rest, found in _lists(spec.children))


def _class_of(spec: Any) -> Any:
    if isinstance(spec, Instance):
        return type(spec.module)
    return spec.name if isinstance(spec, Leaf) else None


def _kind(listing: Listing) -> str:
    last = list(listing.children.values())[-1]
    return str(last.text if isinstance(last, Leaf) else last.group.name)


def _same_rounds(call: Call, path: str, listing: Listing, start: int) -> None:
    """Refuse blocks whose arguments or results differ in size, type or order of axes."""
    rounds: dict[str, list[Any]] = {}
    for inner in _below(call):
        key = inner.path[len(path) + 1 :] if inner.path.startswith(f"{path}.") else ""
        number, _, rest = key.partition(".")
        if number in listing.children and int(number) >= start:
            rounds.setdefault(number, []).append(
                (rest, map_tree(_type, (inner.args, inner.kwargs)), map_tree(_type, inner.out))
            )
    if list(rounds) != list(listing.children)[start:]:
        raise _Stays("its blocks are not called one after another")
    first = rounds[str(start)]
    if any(other != first for other in rounds.values()):
        raise _Stays("the sizes or types of what its blocks take or give differ")
    if _is_sequential(call, path) and any(args[0][0] != out for _, args, out in first):
        raise _Stays("the sizes or types of what its blocks take or give differ")


def _is_sequential(call: Call, path: str) -> bool:
    return any(each.path == path and each.chain for each in _below(call))


def _below(call: Call) -> Iterator[Call]:
    """Calls made in a class's text: also within what is called as a Sequential."""
    for item in call.items:
        if isinstance(item, Call):
            yield item
            if item.chain:
                yield from _below(item)


def _type(leaf: Any) -> Any:
    if isinstance(leaf, Value):
        free = tuple("" if symbol.isdecimal() else symbol for symbol in leaf.symbols)
        return ("array", leaf.shape, leaf.dtype, free, leaf.layout)
    return leaf if isinstance(leaf, (int, float, str, bool, type(None), torch.dtype)) else "other"


def _stored(statement: ast.stmt) -> set[str]:
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _loaded(statement: ast.stmt) -> list[str]:
    return [
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]


def _root(node: ast.expr) -> str:
    """The name that ``self.a.b[0]`` starts with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
