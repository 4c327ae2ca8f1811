"""Children that some instances of a class lack: an ``if`` in its constructor."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from . import leaves
from .constructors import ANY, Entry, Init, Unknown, element, followed, init_of, recover
from .leaves import Leaf
from .specs import Instance, Listing, is_spec, left_out, unspecified
from .words import Unported

if TYPE_CHECKING:
    from .classes import ClassCode

__all__ = ["branches", "chain", "chain_node", "has_steps", "settle_locals"]

MOST_CONDITIONS = 5


def branches(code: ClassCode, specs: list[Any], name: str) -> list[str] | None:
    """The statements that set such an attribute.

    None where every instance has the child, and where the constructor cannot tell its arguments.
    """
    for way in (_unused, _alone, _in_list):
        kept = dict(code.columns), dict(code.used), dict(code.said), dict(code.local)
        try:
            if (lines := way(code, specs, name)) is not None:
                return lines
        except (Unknown, Unported):
            code.columns, code.used, code.said, code.local = kept
    return None


@contextmanager
def _filling(code: ClassCode) -> Iterator[None]:
    """Arguments that nothing reads may have any value."""
    code.filling = True
    try:
        yield
    finally:
        code.filling = False


def _unused(code: ClassCode, specs: list[Any], name: str) -> list[str] | None:
    """A child without weights that torch always makes and that some instances never call."""
    children = [i.module._modules.get(name) for i in code.instances]
    if None not in specs or name in code.init.conditions or None in children:
        return None
    if any(f"self.{name} is " in line for line in code.group.lines):
        return None  # whether it is called depends on its being there
    twin = next(s for s in specs if s is not None)
    pairs = zip(specs, children, strict=True)
    filled = [_like(twin, child) if s is None else s for s, child in pairs]
    with _filling(code):
        return [f"self.{name} = {code.build(filled, code.init.of_attribute(name), name)}"]


def _like(spec: Any, module: Any) -> Any:
    """What a module is that was not called, as its twin in another instance is."""
    if isinstance(spec, Leaf) and (leaf := leaves.match(module)) is not None:
        return leaf
    if not isinstance(spec, Instance) or any(map(is_spec, spec.args.values())):
        raise Unknown
    cls: Any = type(module)
    known = recover(module, init_of(cls))
    args = {name: known.get(name, ANY) for name in spec.args}
    return Instance(module, spec.path, group=spec.group, args=args)


def _alone(code: ClassCode, specs: list[Any], name: str) -> list[str] | None:
    """A child that is there or not."""
    has = [left_out(s) is None for s in specs]
    without = {text for s in specs if (text := left_out(s)) is not None}
    if len(without) != 1 or not any(has):
        return None
    test, node = code.init.conditions.get(name, (None, code.init.of_attribute(name)))
    code.learn(test, has)
    made = code.build(_filled(specs, has), node, name)
    condition = _condition(code, test, has, f"layer{name}" if name.isdigit() else name)
    if name.isdigit():  # an element of the list that the class is
        return [f"self.{name} = {made} if {condition} else nn.Identity()"]
    lines = [f"if {condition}:", f"    self.{name} = {made}"]
    return [*lines, "else:", f"    self.{name} = {without.pop()}"]


def _filled(specs: Sequence[Any], has: list[bool]) -> list[Any]:
    """The specs, with one of unknown numbers where there is none."""
    rest = unspecified([s for s, here in zip(specs, has, strict=True) if here])
    if rest is None:
        raise Unknown
    return [s if here else rest for s, here in zip(specs, has, strict=True)]


def _condition(code: ClassCode, test: ast.expr | None, has: list[bool], name: str) -> str:
    """torch's condition where it tells the instances apart, an argument of our own otherwise."""
    text = None if test is None else code.proposal(test, has)
    if text is not None:
        return text
    if isinstance(test, ast.Name):
        name = test.id
    flag = code.column(name if name in code.init.parameters else f"has_{name}", has)
    code.flags.add(flag)
    return flag


# --- lists filled step by step


@dataclass
class _Step:
    """Elements that are added together, and whether each instance has them."""

    test: ast.expr | None
    entries: list[Entry]
    has: list[bool]

    def rows(self, places: list[Iterator[Any]]) -> Iterator[list[Any]]:
        """The next child of every instance for each element, None where it lacks the step."""
        for _ in self.entries:
            yield [next(p) if here else None for p, here in zip(places, self.has, strict=True)]


def _in_list(code: ClassCode, specs: list[Any], name: str) -> list[str] | None:
    """A container whose length differs, from a list that torch's constructor fills."""
    if name.isdigit() or not all(isinstance(s, Listing) and not s.named for s in specs):
        return None
    if len({tuple(s.children) for s in specs}) == 1:
        return None
    variable = _variable(code.init.of_attribute(name))
    lines = _listed(code, [[*s.children.values()] for s in specs], variable, name)
    if lines is None:
        return None
    star = "" if specs[0].kind == "ModuleList" else "*"
    return [*lines, f"self.{name} = nn.{specs[0].kind}({star}{variable})"]


def chain(code: ClassCode) -> list[str] | None:
    """The constructor of a Sequential of its own class whose length differs."""
    children = _children(code.instances)
    if len({len(each) for each in children}) == 1:
        return None
    variable = _variable(code.init.base)
    lines = _listed(code, children, variable, "layer")
    return None if lines is None else [*lines, f"super().__init__(*{variable})"]


def chain_node(code: ClassCode, index: int) -> ast.expr | None:
    """The expression of a layer in ``super().__init__(*layers)`` or ``super().__init__(a, b)``."""
    if _variable(code.init.base) is None:
        return element(code.init.base, index, str(index))
    steps = _chain_steps(code.init, code.instances) or []
    taken = [e for s in steps if all(s.has) for e in s.entries]
    return taken[index].value if index < len(taken) else None


def has_steps(cls: type, instances: list[Instance]) -> bool:
    """Whether a Sequential's constructor tells the layers of all instances apart."""
    numbered = all(n.isdigit() for i in instances for n in i.attributes)
    return numbered and bool(_chain_steps(init_of(cls), instances))


def _chain_steps(init: Init, instances: list[Instance]) -> list[_Step] | None:
    return _steps(init, _children(instances), init.lists.get(_variable(init.base) or "", []))


def _children(instances: list[Instance]) -> list[list[Any]]:
    return [[*i.attributes.values()] for i in instances]


def _listed(
    code: ClassCode, children: list[list[Any]], variable: str | None, name: str
) -> list[str] | None:
    """The statements that fill a list with the children of every instance."""
    steps = _steps(code.init, children, code.init.lists.get(variable or "", []))
    if steps is None:
        return None
    with _filling(code):
        return _statements(code, steps, children, variable or "", name)


def _statements(
    code: ClassCode, steps: list[_Step], children: list[list[Any]], variable: str, name: str
) -> list[str]:
    lines: list[str] = []
    places = [iter(each) for each in children]
    for number, step in enumerate(steps):
        code.learn(step.test, step.has)
        texts = []
        for entry, row in zip(step.entries, step.rows(places), strict=True):
            texts.append(code.build(_filled(row, step.has), entry.value, f"{name}{number}"))
        if all(step.has):
            lines.append(f"{variable} {'+=' if lines else '='} [{', '.join(texts)}]")
            continue
        if not lines:
            lines.append(f"{variable} = []")
        lines.append(f"if {_condition(code, step.test, step.has, f'{name}{number}')}:")
        one = len(texts) == 1
        add = f".append({texts[0]})" if one else f" += [{', '.join(texts)}]"
        lines.append(f"    {variable}{add}")
    return lines


def _variable(node: ast.expr | None) -> str | None:
    """The list in ``Sequential(*layers)`` or ``ModuleList(layers)``."""
    if not isinstance(node, ast.Call) or len(node.args) != 1:
        return None
    given = node.args[0]
    given = given.value if isinstance(given, ast.Starred) else given
    return given.id if isinstance(given, ast.Name) else None


def _steps(init: Init, children: list[list[Any]], entries: list[Entry]) -> list[_Step] | None:
    """The steps that give every instance its children; None where they cannot be told."""
    steps: list[_Step] = []
    for entry in entries:
        if not steps or steps[-1].test is not entry.test:
            steps.append(_Step(entry.test, [], []))
        steps[-1].entries.append(entry)
    for each in children:
        fitting = [choice for choice in _choices(steps) if _fits(init, steps, choice, each)]
        if len(fitting) != 1:
            return None
        for step, here in zip(steps, fitting[0], strict=True):
            step.has.append(here)
    steps = [step for step in steps if any(step.has)]
    places = [iter(each) for each in children]
    alike = (
        unspecified([child for child in row if child is not None]) is not None
        for step in steps
        for row in step.rows(places)
    )
    return steps if all(alike) else None


def _choices(steps: list[_Step]) -> Iterator[tuple[bool, ...]]:
    """Every way in which conditions may hold."""
    if sum(step.test is not None for step in steps) > MOST_CONDITIONS:
        return iter(())
    return itertools.product(*((True,) if s.test is None else (True, False) for s in steps))


def _fits(init: Init, steps: list[_Step], choice: tuple[bool, ...], children: list[Any]) -> bool:
    """Whether steps that are taken or not give children of these classes."""
    taken = [e for s, here in zip(steps, choice, strict=True) if here for e in s.entries]
    return len(taken) == len(children) and all(
        _is_made_by(init, child, entry.value) for child, entry in zip(children, taken, strict=True)
    )


def _is_made_by(init: Init, child: Any, node: ast.expr) -> bool:
    if isinstance(child, Leaf):
        kind = child.given or getattr(torch.nn, child.name, None)
    else:
        kind = child.group.cls if isinstance(child, Instance) else None
    return kind is not None and followed(node, init, kind) is not None


# --- names of torch's own


def settle_locals(code: ClassCode) -> None:
    """Keep a name that is read more than once; put others in their place."""
    for name in list(code.local)[::-1]:
        text = code.local.pop(name)
        mention = re.compile(rf"(?<![\w.]){name}\b(?!\s*=[^=])")
        texts = [*code.lines, *code.local.values()]
        count = sum(len(mention.findall(each)) for each in texts)
        if count > 1:
            code.local = {name: text, **code.local}
            continue
        code.lines = [_put(line, name, text) for line in code.lines]
        code.local = {k: _put(v, name, text) for k, v in code.local.items()}


class _Put(ast.NodeTransformer):
    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> Any:
        return self.value if node.id == self.name else node


def _put(text: str, name: str, value: str) -> str:
    """An expression or a statement with another one in the place of a name."""
    if not re.search(rf"\b{name}\b", text):
        return text
    indent = text[: len(text) - len(text.lstrip())]
    block = text.rstrip().endswith(":")
    tree = ast.parse(f"{text.strip()}\n    pass" if block else text.strip())
    done = ast.unparse(_Put(name, ast.parse(value, mode="eval").body).visit(tree))
    return indent + (done.removesuffix("\n    pass") if block else done)
