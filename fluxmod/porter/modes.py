"""One body for training and evaluation: where they differ, ``if self.training`` decides."""

from __future__ import annotations

import ast
import re
from typing import Any

from .words import Body

__all__ = ["folds", "join_modes"]


def join_modes(body: Body, train: Body) -> None:
    """One body for both modes; where they differ, the mode decides."""
    body.rngs = body.rngs or train.rngs
    if body.lines == train.lines:
        return
    offset = len(body.literals)
    lines = list(train.lines)
    for index in reversed(range(len(train.literals))):
        lines = [x.replace(f"_number_{index}_", f"_number_t{index}_") for x in lines]
    numbers = {f"_number_t{i}_": n for i, (_, n) in enumerate(train.literals)}
    own = dict(body.literals)
    common = 0
    for a, b in zip(body.lines, lines, strict=False):
        if _spelled(a, own) != _spelled(b, numbers):
            break
        common += 1
    if common == len(body.lines) == len(lines):
        return
    for index in range(len(train.literals)):
        lines = [x.replace(f"_number_t{index}_", f"_number_{offset + index}_") for x in lines]
    body.literals += [(f"_number_{offset + i}_", n) for i, (_, n) in enumerate(train.literals)]
    body.attrs.update(train.attrs)
    body.obstacles += train.obstacles
    head, rest = body.lines[:common], body.lines[common:]
    other = lines[common:]
    numbers = dict(body.literals)
    for nested, named in ((rest, other), (other, rest)):
        if folds([_spelled(x, numbers) for x in nested], [_spelled(x, numbers) for x in named]):
            body.lines = [*head, *named]
            return
    tail: list[str] = []
    while rest and other and _spelled(rest[-1], numbers) == _spelled(other[-1], numbers):
        tail.insert(0, rest.pop())
        other.pop()
    if tail:
        body.lines = [*head, *_branches(rest, other), *tail]
    elif len(rest) <= len(other):
        body.lines = [*head, "if not self.training:", *(f"    {x}" for x in rest), *other]
    else:
        body.lines = [*head, "if self.training:", *(f"    {x}" for x in other), *rest]


def _branches(evaluation: list[str], training: list[str]) -> list[str]:
    """What only one mode does, under the mode."""
    lines = []
    if training:
        lines += ["if self.training:", *(f"    {x}" for x in training)]
    if evaluation:
        lines += ["else:" if training else "if not self.training:"]
        lines += [f"    {x}" for x in evaluation]
    return lines


def folds(nested: list[str], named: list[str]) -> bool:
    """Whether two texts are the same but for values that one of them names before their one use."""
    named = list(named)
    for index, line in enumerate(nested):
        while index < len(named) and not _same_code(named[index], line):
            folded = _folded(named, index)
            if folded is None or len(named) == len(nested):
                return False
            named[index : index + 2] = [folded]
    return len(named) == len(nested)


def _folded(lines: list[str], index: int) -> str | None:
    """The next line with the value that this one names, if it is the name's one use."""
    assigned = re.fullmatch(r"(\w+) = (.+)", lines[index])
    if assigned is None or index + 1 == len(lines):
        return None
    name, value = assigned.groups()
    use = lines[index + 1]
    later = [] if use.startswith(f"{name} = ") else lines[index + 2 :]
    places = list(re.finditer(rf"(?<![\w.]){name}\b(?! ?=[^=])", use))
    if len(places) != 1 or any(re.search(rf"\b{name}\b", x) for x in later):
        return None
    start, end = places[0].span()
    return f"{use[:start]}({value}){use[end:]}"


def _same_code(first: str, second: str) -> bool:
    """Whether two lines parse alike, whatever their brackets."""
    if first == second:
        return True
    try:
        trees = [ast.dump(ast.parse(line)) for line in (first, second)]
    except SyntaxError:
        return False
    return trees[0] == trees[1]


def _spelled(line: str, numbers: dict[str, Any]) -> str:
    for mark, number in numbers.items():
        line = line.replace(mark, repr(number))
    return line
