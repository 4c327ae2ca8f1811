"""Calls with the same code share a class, also those that differ in an optional child."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .specs import Instance
from .words import Body

__all__ = ["Group", "group_instances"]

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
    optional: dict[str, None] = field(default_factory=dict)

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
    """Join classes that differ only in a child that some instances do not have."""
    kept: list[Group] = []
    for group in groups:
        partner = next((g for g in kept if g.cls is group.cls and _joined(g, group)), None)
        if partner is None:
            kept.append(group)
    return kept


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
        lines = _with_condition(full.lines, part.lines, child)
        if lines is not None:
            marks = [_MARK.findall("\n".join(g.lines)) for g in (full, part)]
            if len(marks[0]) != len(marks[1]):
                continue
            first.lines = lines
            first.instances = first.instances + second.instances
            first.instances.sort(key=lambda i: bool(i.attributes.get(child)) is False)
            first.optional = {**first.optional, **second.optional, child: None}
            for instance in first.instances:
                instance.group = first
            return True
    return False


def _renumbered(lines: list[str]) -> list[str]:
    seen: dict[str, str] = {}

    def one(match: re.Match[str]) -> str:
        return seen.setdefault(match[0], f"_number_{len(seen)}_")

    return [_MARK.sub(one, line) for line in lines]


def _with_condition(full: list[str], part: list[str], child: str) -> list[str] | None:
    """The lines with the child's call made conditional, if that gives both variants."""
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
        after = [re.sub(rf"\b{target}\b", given, x) for x in full[place + 1 :]]
        if _renumbered(full[:place] + after) == _renumbered(part):
            chosen = f"{target} = {given} if self.{child} is None else {found[0]}"
            return [*full[:place], chosen, *full[place + 1 :]]
        if _renumbered([*full[:place], f"{target} = {given}", *full[place + 1 :]]) == _renumbered(
            part
        ):
            chosen = f"{target} = {given} if self.{child} is None else {found[0]}"
            return [*full[:place], chosen, *full[place + 1 :]]
    plain_line = line.replace(found[0], given)
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
