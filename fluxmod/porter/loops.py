"""Runs of equal statements over the children of a list become a loop."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

__all__ = ["rolled", "unpacked"]

_CHILD = re.compile(r"(self(?:\.\w+|\[\"\w+\"\])+)\[(\d+)\]")
_UNPACK = re.compile(r"^(\w+) = (\w+)\[(\d+)\]$")
_FIRST = re.compile(r"^(\w+)((?:, \w+)*) = (self[\w.\[\]\"]*)\[(\d+)\]\((\w+)\b(.*)$")
_NUMBERED = re.compile(r"^(\w+?(?:s|x|z|ch|sh)(?=es$)|\w+(?=s$)|\w+(?=_list$))(?:s|es|_list)$")


def rolled(lines: list[str], module: torch.nn.Module) -> list[str]:
    """Replace each run by ``for child in self.children:``."""
    lines = _seeded(lines)
    for path in _lists(lines):
        while (run := _find(lines, path)) is not None:
            start, length, count, offset, others = run
            lines = _loop(lines, path, start, length, count, offset, others, module)
    return lines


def _seeded(lines: list[str]) -> list[str]:
    """``h = x`` ahead of calls that go on with ``h``, so that the first is like the others."""
    out = list(lines)
    for i in range(len(lines) - 1, 0, -1):
        one, two = _FIRST.match(out[i - 1]), _FIRST.match(out[i])
        if not one or not two or one[5] == one[1] or one[1] in re.findall(r"\w+", one[6]):
            continue
        follows = int(two[4]) == int(one[4]) + 1 and two[5] == one[1]
        if follows and (one[1], one[2], one[3], one[6]) == (two[1], two[2], two[3], two[6]):
            call = f"{one[1]}{one[2]} = {one[3]}[{one[4]}]({one[1]}{one[6]}"
            out[i - 1 : i] = [f"{one[1]} = {one[5]}", call]
    return out


def unpacked(lines: list[str]) -> list[str]:
    """``q = qkv[0]``, ``k = qkv[1]``, ... on one line."""
    out: list[str] = []
    i = 0
    while i < len(lines):
        first = _UNPACK.match(lines[i])
        names: list[str] = []
        while i + len(names) < len(lines):
            match = _UNPACK.match(lines[i + len(names)])
            if not match or not first or match[2] != first[2] or int(match[3]) != len(names):
                break
            if match[1] in (first[2], *names):
                break
            names.append(match[1])
        if len(names) > 1 and first:
            items = ", ".join(f"{first[2]}[{k}]" for k in range(len(names)))
            out.append(f"{', '.join(names)} = {items}")
            i += len(names)
        else:
            out.append(lines[i])
            i += 1
    return out


def _lists(lines: list[str]) -> Iterator[str]:
    seen: dict[str, set[int]] = {}
    for line in lines:
        for path, index in _CHILD.findall(line):
            seen.setdefault(path, set()).add(int(index))
    yield from (path for path, found in seen.items() if len(found) > 1)


def _find(lines: list[str], path: str) -> tuple[int, int, int, int, list[str]] | None:
    """Where a run starts, its length, how many rounds, the first index, and lists in step."""
    mentions = [
        (i, int(index))
        for i, line in enumerate(lines)
        for p, index in _CHILD.findall(line)
        if p == path
    ]
    firsts: dict[int, int] = {}
    for place, index in mentions:
        firsts.setdefault(index, place)
    indices = sorted(firsts)
    for first in indices:
        if first + 1 not in firsts:
            continue
        length = firsts[first + 1] - firsts[first]
        if length <= 0:
            continue
        for lead in range(length):
            start = firsts[first] - lead
            if start < 0:
                break
            count, others = 1, [path]
            while _equal(lines, start, length, count, first, others, path):
                count += 1
            if count > 1 and count >= 2:
                return start, length, count, first, others
    return None


def _equal(
    lines: list[str], start: int, length: int, count: int, first: int, others: list[str], path: str
) -> bool:
    """Whether the next round says the same as the first, with the index moved on."""
    one = lines[start : start + length]
    two = lines[start + count * length : start + (count + 1) * length]
    if len(two) < length or not any(f"{path}[{first + count}]" in line for line in two):
        return False
    for a, b in zip(one, two, strict=True):
        parts = _CHILD.findall(a)
        moved = a
        for other, index in parts:
            if int(index) == first:
                if f"{other}[{first + count}]" in b and other not in others:
                    others.append(other)
                if other in others:
                    moved = moved.replace(f"{other}[{first}]", f"{other}[{first + count}]")
        if moved != b:
            return False
    return True


def _loop(
    lines: list[str], path: str, start: int, length: int, count: int, first: int,
    others: list[str], module: torch.nn.Module,
) -> list[str]:  # fmt: skip
    taken = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", " ".join(lines)))
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    names: dict[str, str] = {}
    for other in others:
        names[other] = _singular(other, taken | set(names.values()), alone=len(others) == 1)
    body = []
    for line in lines[start : start + length]:
        for other, name in names.items():
            line = line.replace(f"{other}[{first}]", name)
        body.append(f"    {line}")
    sources = []
    for other in others:
        size = _size(module, other)
        whole = first == 0 and size == count
        low = str(first) if first else ""
        high = str(first + count) if size != first + count else ""
        sources.append(other if whole else f"{other}[{low}:{high}]")
    targets = ", ".join(names.values())
    source = sources[0] if len(sources) == 1 else f"zip({', '.join(sources)}, strict=True)"
    head = f"{indent}for {targets} in {source}:"
    return [*lines[:start], head, *body, *lines[start + length * count :]]


def _size(module: torch.nn.Module, path: str) -> int:
    found: torch.nn.Module = module
    for name in re.findall(r"\w+", path)[1:]:
        found = getattr(found, name)
    return len(found)  # type: ignore[arg-type]


def _singular(path: str, taken: set[str], *, alone: bool) -> str:
    """A name for one of a list: no variable of the function, and none of the loop's others."""
    name = re.findall(r"\w+", path)[-1]
    match = _NUMBERED.match(name)
    base = match[1] if match else "layer" if alone else name
    if name == "layers" or base in taken or base in ("h", "self"):
        base = "layer" if "layer" not in taken else "block"
    if base in taken:
        base = name
    while base in taken:
        base = f"{base}_"
    return base
