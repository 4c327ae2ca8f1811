"""Calls with the same code share a class, also those that differ in an optional child."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from .ir import Size
from .modes import folds
from .optional import has_steps
from .specs import Instance
from .words import Body, literal

__all__ = ["Group", "Telling", "group_instances", "merge_calls", "same_code", "telling"]

_MARK = re.compile(r"_number_(\d+)_")


@dataclass(eq=False)
class Group:
    """Instances that share one class."""

    cls: type
    instances: list[Instance]
    lines: list[str]
    signature: list[tuple[str, str | None, str]]
    name: str = ""
    parameters: dict[str, str | None] = field(default_factory=dict)  # name -> default's text
    needs_rngs: bool = False

    @property
    def body(self) -> Body | None:
        """The body of the first instance that was called."""
        return next((b for i in self.instances for b in i.bodies), None)


def group_instances(instances: list[Instance]) -> list[Group]:
    """Put instances with the same code together, in the order in which classes are needed."""
    groups: dict[Any, Group] = {}
    for instance in instances:
        body = instance.bodies[0] if instance.bodies else None
        lines = body.lines if body else []
        signature = body.signature if body else []
        names = tuple(instance.attributes)
        key = (
            type(instance.module),
            instance.base and instance.base.name,
            tuple(lines),
            tuple(signature),
            names,
            tuple(body.attrs) if body else (),
        )
        if key not in groups:
            groups[key] = Group(type(instance.module), [], list(lines), list(signature))
        groups[key].instances.append(instance)
        instance.group = groups[key]
    merged = _merge_optional(list(groups.values()))
    _name(merged)
    return merged


def _merge_optional(groups: list[Group]) -> list[Group]:
    """Join classes that differ in words alone, in a child that some lack, or by an attribute."""
    for joined in (_chained, _reworded, _joined, _flagged):
        kept: list[Group] = []
        for group in groups:
            if not any(g.cls is group.cls and joined(g, group) for g in kept):
                kept.append(group)
        groups = kept
    return groups


def _chained(first: Group, second: Group) -> bool:
    """Try to make one class of two Sequentials that differ in the layers they have."""
    both = first.instances + second.instances
    chains = all(isinstance(i.module, torch.nn.Sequential) and not i.bodies for i in both)
    if not chains or first.cls is torch.nn.Sequential or not has_steps(first.cls, both):
        return False
    first.instances = both
    for instance in both:
        instance.group = first
    return True


def _reworded(first: Group, second: Group) -> bool:
    """Try to make one class of two, where one names a value that the other nests."""
    if [*first.instances[0].attributes] != [*second.instances[0].attributes]:
        return False
    texts = _texts(first, second)
    if texts is None:
        return False
    for nested, named in (texts, texts[::-1]):
        if folds(nested, named):
            _unite(first, second, named)
            return True
    return False


def _flagged(first: Group, second: Group) -> bool:
    """Try to make one class of two that an attribute of the module tells apart."""
    sets = [set(g.instances[0].attributes) for g in (first, second)]
    texts = _texts(first, second)
    told = _flag(first, second)
    if texts is None or told is None or not (sets[0] <= sets[1] or sets[1] <= sets[0]):
        return False
    name, condition, first_meets_it = told
    on, off = texts if first_meets_it else texts[::-1]
    # the constructor follows the first instance, which has all children
    _unite(first, second, branched(on, off, condition), second_leads=sets[0] < sets[1])
    leader = first.instances[0]
    leader.bodies[0].attrs[name] = getattr(leader.module, name)
    return True


def _texts(first: Group, second: Group) -> tuple[list[str], list[str]] | None:
    """The lines of two groups with numbers in place, None where one has no such single text."""
    if first.signature != second.signature:
        return None
    bodies = [[b for i in g.instances for b in i.bodies[:1]] for g in (first, second)]
    if not all(bodies):
        return None
    texts = [_spelled_out(each) for each in bodies]
    return None if texts[0] is None or texts[1] is None else (texts[0], texts[1])


def _unite(first: Group, second: Group, lines: list[str], *, second_leads: bool = False) -> None:
    """The first group takes the second's instances; both have these lines."""
    first.lines = lines
    first.instances = first.instances + second.instances
    if second_leads:
        first.instances = first.instances[::-1]
    body = first.instances[0].bodies[0]
    for each in (b for i in first.instances for b in i.bodies[:1]):
        body.attrs.update(each.attrs)
        body.rngs = body.rngs or each.rngs
        each.lines, each.literals = list(lines), []
    for instance in first.instances:
        instance.group = first


def _flag(first: Group, second: Group) -> tuple[str, str, bool] | None:
    """An attribute that forward reads and that tells two groups apart.

    A bool with one value in each, or a number that is zero in one of them alone.

    Returns:
        its name, a condition, and whether it is the first group that meets the condition.
    """
    try:
        source = inspect.getsource(first.instances[0].module.forward)
    except (OSError, TypeError):
        return None
    for name in re.findall(r"\bself\.(\w+)", source):
        values = [[vars(i.module).get(name) for i in g.instances] for g in (first, second)]
        kinds = {type(v) for each in values for v in each}
        if name == "training" or len(kinds) != 1 or not kinds <= {bool, float, int}:
            continue
        truths = [{bool(v) for v in each} for each in values]
        if truths not in ([{True}, {False}], [{False}, {True}]):
            continue
        if kinds == {bool}:
            return name, f"self.{name}", truths[0] == {True}
        zero = values[0][0] if truths[0] == {False} else values[1][0]
        return name, f"self.{name} == {literal(zero)}", truths[0] == {False}
    return None


def _spelled_out(bodies: list[Body]) -> list[str] | None:
    """Lines with their numbers in place, None where the instances' numbers differ."""
    found = [_in_place(body) for body in bodies]
    return found[0] if all(lines == found[0] for lines in found) else None


def _in_place(body: Body) -> list[str]:
    """The lines of a body with its numbers in place."""
    numbers = dict(body.literals)
    return [_MARK.sub(lambda m: literal(numbers[m[0]]), line) for line in body.lines]


def branched(on: list[str], off: list[str], condition: str) -> list[str]:
    """What two texts share once, the rest under a condition."""
    on, off = list(on), list(off)
    head: list[str] = []
    tail: list[str] = []
    while on and off and on[0] == off[0]:
        head.append(on.pop(0))
        off.pop(0)
    while on and off and on[-1] == off[-1]:
        tail.insert(0, on.pop())
        off.pop()
    lines = []
    nested = [f"    {x}" for x in on]
    same = off[1 : 1 + len(on)] == nested and not any(map(_continues, off[1 + len(on) :][:1]))
    if on and on[-1].startswith("return ") and off[0].startswith("if ") and same:
        return [*head, f"{off[0][:-1]} or {condition}:", *off[1:], *tail]
    if on:
        lines += [f"if {condition}:", *nested]
    if off and on and on[-1].startswith("return "):
        lines += off
    elif off and on and off[0].startswith("if ") and all(_continues(x) for x in off[1:]):
        lines += [f"el{off[0]}", *off[1:]]
    elif off:
        lines += ["else:" if on else f"if not {condition}:", *(f"    {x}" for x in off)]
    return [*head, *lines, *tail]


def _continues(line: str) -> bool:
    """Whether a line belongs to the statement that began above it."""
    return line.startswith((" ", "else:", "elif ", ")", "]", "}"))


def same_code(first: Body, second: Body) -> bool:
    """Whether two calls do the same, numbers included."""
    alike = first.lines == second.lines and first.signature == second.signature
    return alike and [n for _, n in first.literals] == [n for _, n in second.literals]


@dataclass(frozen=True)
class Telling:
    """The argument that tells the calls of one module apart, where they do different things.

    By its value: ``rotary(x, positions, layer_type="sliding_attention")``; by one place of it:
    ``position_embedding(shape)``; or by whether it is given: ``attention(x, mask=None)``.
    """

    name: str
    place: int | None = None
    absent: bool = False

    def of(self, body: Body) -> Any:
        """What a call says; None where that decides nothing."""
        value = _arguments_of(body).get(self.name)
        if self.absent:
            return value is None
        if self.place is not None:
            value = value[self.place] if isinstance(value, (list, tuple)) else None
            value = value.value if isinstance(value, Size) else value
        return value if type(value) in (str, int, bool, float) else None

    def condition(self, said: Any) -> str:
        """The test for a call that says this."""
        if self.absent:
            return f"{self.name} is {'' if said else 'not '}None"
        place = "" if self.place is None else f"[{self.place}]"
        return f"{self.name}{place} == {literal(said)}"


def telling(bodies: list[Body]) -> Telling | None:
    """What tells the calls of one module apart, None where they do the same or nothing does."""
    if all(same_code(bodies[0], other) for other in bodies[1:]):
        return None
    for each in _candidates(_arguments_of(bodies[0])):
        said = [each.of(body) for body in bodies]
        if None in said or len(set(said)) < 2:
            continue
        pairs = list(zip(said, bodies, strict=True))
        if all(a != b or same_code(x, y) for a, x in pairs for b, y in pairs):
            return each
    return None


def _candidates(arguments: dict[str, Any]) -> Iterator[Telling]:
    """By value first, then by a place, then by presence."""
    yield from (Telling(name) for name in arguments)
    for name, value in arguments.items():
        if isinstance(value, (list, tuple)):
            yield from (Telling(name, place) for place in range(len(value)))
    yield from (Telling(name, absent=True) for name in arguments)


def _arguments_of(body: Body) -> dict[str, Any]:
    """What forward was called with, by name, defaults included."""
    call = body.call
    bound = inspect.signature(type(call.module).forward).bind(
        call.module, *call.args, **call.kwargs
    )
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def merge_calls(bodies: list[Body], told: Telling | None) -> None:
    """Make one text of the calls of one module, with what tells them apart as condition."""
    if told is None or not bodies:
        return
    variants: dict[Any, Body] = {}
    for body in bodies:
        variants.setdefault(told.of(body), body)
    if len({tuple(body.signature) for body in bodies}) > 1:
        return
    *conditions, (_, last) = variants.items()
    lines = _spelled_out([last]) or []
    for said, body in reversed(conditions):
        lines = branched(_spelled_out([body]) or [], lines, told.condition(said))
    for body in bodies:
        body.attrs.update({k: v for each in bodies for k, v in each.attrs.items()})
        body.rngs = any(each.rngs for each in bodies)
    for body in bodies:
        body.lines, body.literals = list(lines), []


def _joined(first: Group, second: Group) -> bool:
    """Try to make one class of two; the first takes the second's instances."""
    names = [set(g.instances[0].attributes) for g in (first, second)]
    for full, part, extra in (
        (first, second, names[0] - names[1]),
        (second, first, names[1] - names[0]),
    ):
        if len(extra) != 1 or (names[0] ^ names[1]) != extra or full.signature != part.signature:
            continue
        child = next(iter(extra))
        arguments = [name for name, _, _ in full.signature]
        lines = _with_condition(full.lines, part.lines, child, arguments)
        if lines is not None:
            marks = [_MARK.findall("\n".join(g.lines)) for g in (full, part)]
            if len(marks[0]) != len(marks[1]):
                continue
            first.lines = lines
            first.instances = first.instances + second.instances
            first.instances.sort(key=lambda i: bool(i.attributes.get(child)) is False)
            for instance in first.instances:
                instance.group = first
            return True
    return False


def _renumbered(lines: list[str]) -> list[str]:
    seen: dict[str, str] = {}

    def one(match: re.Match[str]) -> str:
        return seen.setdefault(match[0], f"_number_{len(seen)}_")

    return [_MARK.sub(one, line) for line in lines]


def _with_condition(
    full: list[str], part: list[str], child: str, names: list[str]
) -> list[str] | None:
    """The lines with the child's call made conditional, if that gives both variants.

    Without the child its argument stands for its result, or another of the call's (``names``).
    """
    call = re.compile(rf"self\.{child}\((\w+)\)")
    places = [i for i, line in enumerate(full) if f"self.{child}" in line]
    if len(places) != 1 or not (found := call.search(full[places[0]])):
        return None
    place, given = places[0], found[1]
    line = full[place]
    target, _, right = line.partition(" = ")
    if right == found[0] and target == given:
        without = full[:place] + full[place + 1 :]
        if _renumbered(without) == _renumbered(part):
            block = [f"if self.{child} is not None:", f"    {line}"]
            return [*full[:place], *block, *full[place + 1 :]]
    if right == found[0]:
        before, after = full[:place], full[place + 1 :]
        for other in dict.fromkeys([given, *names]):
            kept = not any(re.match(rf"\s*{other}\b[^=(]* = ", x) for x in after)
            put = [re.sub(rf"\b{target}\b", other, x) for x in after]
            if (kept and _renumbered(before + put) == _renumbered(part)) or (
                _renumbered([*before, f"{target} = {other}", *after]) == _renumbered(part)
            ):
                chosen = f"{target} = {other} if self.{child} is None else {found[0]}"
                return [*before, chosen, *after]
    nested = re.compile(rf"(?<![\w\])])\({re.escape(found[0])}\)")  # in brackets of its own
    plain_line = nested.sub(given, line).replace(found[0], given)
    if _renumbered([*full[:place], plain_line, *full[place + 1 :]]) == _renumbered(part):
        chosen = line.replace(found[0], f"({given} if self.{child} is None else {found[0]})")
        return [*full[:place], chosen, *full[place + 1 :]]
    return None


def _name(groups: list[Group]) -> None:
    """torch's class names; a second class of one name gets a number."""
    taken: dict[str, int] = {}
    for group in groups:
        name = group.cls.__name__.lstrip("_") or "Model"
        if group.cls.__module__.startswith("torch.nn."):
            name = f"Tied{name}" if name in ("Linear", "Embedding") else name
        if group.instances[0].is_function:
            group.name = "build"
            continue
        if name in ("Module", "Sequential", "ModuleList"):
            name = "Model"
        taken[name] = taken.get(name, 0) + 1
        group.name = name if taken[name] == 1 else f"{name}{taken[name]}"
