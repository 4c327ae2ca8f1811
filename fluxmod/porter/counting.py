"""Runs of equal statements, which may differ in numbers going up, become a loop over a range."""

from __future__ import annotations

import re

__all__ = ["LEAST", "counted"]

_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")
LEAST = 4
"""Rounds that make a loop; fewer read better one by one."""

_LONGEST = 12
"""Statements of one round."""


def counted(lines: list[str]) -> list[str]:
    """Replace each run of rounds by ``for i in range(...):``.

    >>> counted([f"x = x.at[{k}].set(y[{k + 1}] * {k + 2})" for k in range(5)])
    ['for i in range(5):', '    x = x.at[i].set(y[i + 1] * (i + 2))']
    """
    forms = [_NUMBER.sub("0", line) for line in lines]
    out: list[str] = []
    start = 0
    while start < len(lines):
        found = _run(lines, forms, start)
        if found is None:
            out.append(lines[start])
            start += 1
        else:
            length, count = found
            rounds = [lines[start + k * length : start + (k + 1) * length] for k in range(count)]
            out += _loop(rounds, lines)
            start += length * count
    return out


def _run(lines: list[str], forms: list[str], start: int) -> tuple[int, int] | None:
    """The length of a round and the number of rounds, where a loop begins."""
    for length in range(1, min(_LONGEST, (len(lines) - start) // LEAST) + 1):
        count = 1
        while forms[start : start + length] == forms[start + count * length :][:length]:
            count += 1
        while count >= LEAST:
            rounds = [lines[start + k * length : start + (k + 1) * length] for k in range(count)]
            if _step(rounds) or all(each == rounds[0] for each in rounds):
                return length, count
            count -= 1
    return None


def _numbers(lines: list[str]) -> list[int]:
    return [int(n) for line in lines for n in _NUMBER.findall(line)]


def _step(rounds: list[list[str]]) -> int:
    """By how much the numbers go up that do; 0 if none does, or not all by as much."""
    columns = zip(*(_numbers(lines) for lines in rounds), strict=True)
    steps = {tuple(b - a for a, b in zip(c, c[1:], strict=False)) for c in columns}
    moving = {step for step in steps if any(step)}
    if len(moving) != 1 or len(set(step := moving.pop())) > 1:
        return 0
    return max(step[0], 0)


def _loop(rounds: list[list[str]], around: list[str]) -> list[str]:
    first, second = _numbers(rounds[0]), _numbers(rounds[1])
    moving = [a != b for a, b in zip(first, second, strict=True)]
    moved = [a for a, moves in zip(first, moving, strict=True) if moves]
    indent = rounds[0][0][: len(rounds[0][0]) - len(rounds[0][0].lstrip())]
    if not moved:
        head = f"{indent}for _ in range({len(rounds)}):"
        return [head, *(f"    {line}" for line in rounds[0])]
    low, step, count = max(moved, key=moved.count), _step(rounds), len(rounds)
    taken = set(re.findall(r"\b[a-z]\b", " ".join(around)))
    index = next(name for name in ("i", "j", "k", "index") if name not in taken)
    bounds = [str(low + count * step)]
    if low or step > 1:
        bounds.insert(0, str(low))
    head = f"{indent}for {index} in range({', '.join([*bounds, *([str(step)] * (step > 1))])}):"
    place = iter(range(len(first)))

    def shown(match: re.Match[str]) -> str:
        at = next(place)
        if not moving[at]:
            return match[0]
        offset = first[at] - low
        if not offset:
            return index
        text = f"{index} {'+' if offset > 0 else '-'} {abs(offset)}"
        before, after = match.string[: match.start()], match.string[match.end() :]
        alone = re.search(r"[\[(:,] ?$", before) and re.match(r"[\]),:]", after)
        return text if alone else f"({text})"

    return [head, *(f"    {_NUMBER.sub(shown, line)}" for line in rounds[0])]
