"""Equal calls become one class; what varies between them becomes constructor arguments."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import replace
from typing import Any

import torch

from fluxmod._paths import join

from . import held, optional, paths
from .constructors import (
    ANY,
    Init,
    Unknown,
    argument,
    element,
    equal,
    evaluate,
    followed,
    free_names,
    init_of,
    recover,
    repetitions,
    same,
    solved,
)
from .groups import Group
from .leaves import Leaf
from .scan import Run
from .specs import (
    Alias,
    Array,
    Instance,
    Listing,
    has_state,
    is_set_late,
    is_spec,
    is_within_itself,
    kind_of,
)
from .tables import Tables
from .words import Body, Unported, container, literal, safe

__all__ = ["ClassCode"]

_RNGS = re.compile(r"(?<!\.)\brngs\b")
_FEATURES = ("num_features", "num_channels", "normalized_shape")  # of the convolution before
_SIZES = (*_FEATURES, "in_channels", "out_channels", "in_features", "out_features")


class ClassCode:
    """Writes ``__init__`` of a group, and works out what each instance passes to it."""

    def __init__(self, group: Group, tables: Tables, *, is_root: bool) -> None:
        self.group = group
        self.tables = tables
        self.is_root = is_root
        self.init: Init = init_of(group.cls)
        self.instances = group.instances
        self.env = [recover(i.module, self.init) for i in self.instances]
        self.votes: list[dict[str, list[Any]]] = [
            {name: [value] for name, value in env.items()} for env in self.env
        ]
        self.seen: list[dict[str, Any]] = [{} for _ in self.instances]  # values of locals
        self.columns: dict[str, list[Any]] = {}
        self.used: dict[str, None] = {}
        self.said: dict[str, list[Any]] = {}  # expressions that were written, and their values
        self.flags: set[str] = set()  # arguments that say whether a child is there
        self.filling = False  # whether an argument that nothing reads may have any value
        self.local: dict[str, str] = {}  # torch's own names within the constructor
        self.constants: dict[str, Any] = {}
        self.lines: list[str] = []
        self.obstacles: list[str] = []
        self.collecting = True
        self.resolved: set[str] = set()
        self.runs: dict[int, Run] = {}  # lists of equal blocks, by identity

    def run(self) -> None:
        """Collect what the source says first, then write."""
        for round_ in range(3):
            self.collecting = collecting = round_ < 2
            if round_ == 1:
                for votes in self.votes:
                    for name in self.init.fallbacks:
                        votes.pop(name, None)
            self.columns, self.used, self.said, self.constants = {}, {}, {}, {}
            self.local, self.flags = {}, set()
            self.lines = self.statements()
            if collecting:
                self.take_defaults()
        optional.settle_locals(self)
        self.group.needs_rngs = any(_RNGS.search(line) for line in self.lines)
        self.finish()

    def take_defaults(self) -> None:
        """Settle each argument on the value that most places show; an attribute may have moved."""
        for env, votes in zip(self.env, self.votes, strict=True):
            for name, values in votes.items():
                best = max(values[::-1], key=lambda v: sum(same(v, other) for other in values))
                env[name] = best
        if self.group.body is None:  # a Sequential: its arguments are told by its layers alone
            return
        for name, parameter in self.init.parameters.items():
            default = parameter.default
            if isinstance(default, (int, float, bool, str, tuple)):
                for env in self.env:
                    env.setdefault(name, default)

    def finish(self) -> None:
        """Fix the constructor's signature and each instance's arguments."""
        names = [n for n in self.init.parameters if n in self.used]
        names += [n for n in self.used if n not in names]
        for name in names:
            values = self.columns.get(name) or [
                env.get(name, env.get(self.dotted(name))) for env in self.env
            ]
            for instance, value in zip(self.instances, values, strict=True):
                instance.args[name] = value
            default: str | None = None
            parameter = self.init.parameters.get(name)
            if any(is_spec(v) for v in values):
                default = "None" if any(v is None for v in values) else None
            elif name in self.flags:
                default = "False"
            elif self.is_root and len(self.instances) == 1:
                default = literal(values[0])
            elif parameter is not None and isinstance(
                parameter.default, (int, float, bool, str, tuple, type(None))
            ):
                if parameter.default is not None or any(v is None for v in values):
                    default = literal(parameter.default)
            self.group.parameters[name] = default
        required = {n: d for n, d in self.group.parameters.items() if d is None}
        optional = {n: d for n, d in self.group.parameters.items() if d is not None}
        self.group.parameters = required | optional

    def dotted(self, name: str) -> str:
        """The dotted name, ``config.hidden_size``, behind an argument."""
        return next((k for env in self.env for k in env if k.endswith(f".{name}")), name)

    # --- statements

    def statements(self) -> list[str]:
        """The lines of ``__init__``."""
        lines: list[str] = []
        body = self.group.body
        is_chain = body is None and isinstance(self.instances[0].module, torch.nn.Sequential)
        if is_chain and (steps := optional.chain(self)) is not None:
            return steps
        names: dict[str, None] = {}
        if (layer := self.instances[0].base) is not None:
            layers = [i.base for i in self.instances if i.base is not None]
            built = self.layer(layers, self.init.base)
            lines.append(built.replace(f"{layer.text}(", "super().__init__(", 1))
        for instance in self.instances:
            names.update(dict.fromkeys(instance.attributes))
        first = self.instances[0].attributes
        for name in first if len(first) == len(names) else names:
            specs = [i.attributes.get(name) for i in self.instances]
            if all(isinstance(s, Alias) for s in specs):
                if (text := self.shared(specs)) is not None:
                    lines.append(f"self.{name} = {text}")
                    self.resolved.update(join(i.path, name) for i in self.instances)
                elif any(has_state_after(i, name) for i in self.instances):
                    lines.append(f"self.{name} = nnx.data(None)  # shared: the model sets it")
                continue
            node = self.init.of_attribute(name)
            if is_chain and name.isdigit():
                node = optional.chain_node(self, int(name))
            if (array := next((s for s in specs if isinstance(s, Array)), None)) is not None:
                specs = [
                    own(array, i.module, name, s) if isinstance(s, Alias) else s
                    for s, i in zip(specs, self.instances, strict=True)
                ]
            shown = f"layer{name}" if name.isdigit() else name
            if (branches := optional.branches(self, specs, name)) is not None:
                lines += branches
                continue
            text = self.attribute(specs, node, shown)
            late = is_set_late([s for s in specs if isinstance(s, Alias)])
            lines.append(f"self.{name} = nnx.data({text})" if late else f"self.{name} = {text}")
        numbers: list[str] = []
        if body is not None:
            for path in body.attrs:
                if path == "math" or path.partition("[")[0] in first:
                    continue
                base = path.partition("[")[0]
                shown = base.replace(".", "_")
                if any(line.startswith(f"self.{shown} = ") for line in numbers):
                    continue
                values = [attribute_of(i.module, base) for i in self.instances]
                of_class = base in vars(self.group.cls) and base not in self.init.attributes
                if of_class and all(same(v, values[0]) for v in values):
                    self.constants[base] = values[0]
                    continue
                node = self.init.of_attribute(base)
                numbers.append(f"self.{shown} = {self.value(values, node, shown)}")
            numbers += self.marks(body)
            if body.rngs:
                lines.append("self.rngs = rngs.dropout.fork()")
        return [*lines[:1], *numbers, *lines[1:]] if layer is not None else numbers + lines

    def marks(self, body: Body) -> list[str]:
        """Numbers of the body that differ between instances become attributes."""
        lines = []
        self.replacements: dict[str, str] = {}
        shown = "\n".join(self.group.lines)
        for index, (mark, number) in enumerate(body.literals):
            if mark not in shown:
                continue
            values = []
            for instance in self.instances:
                other = instance.bodies[0].literals if instance.bodies else body.literals
                values.append(other[index][1] if index < len(other) else number)
            if all(type(v) is type(number) and v == number for v in values):
                self.replacements[mark] = literal(number)
                continue
            name = f"size{index}" if isinstance(number, int) else f"factor{index}"
            lines.append(f"self.{name} = {self.value(values, None, name)}")
            self.replacements[mark] = f"self.{name}"
        return lines

    def attribute(self, specs: list[Any], node: ast.expr | None, name: str) -> str:
        """The right-hand side of one assignment."""
        if any(s is None for s in specs):
            return self.optional(specs, node, name)
        if isinstance(specs[0], Array):
            return held.array(self, specs, node)
        return self.build(specs, node, name)

    def shared(self, specs: list[Any]) -> str | None:
        """A part held twice within one instance, as the attribute that has it already."""
        texts = set()
        for spec, instance in zip(specs, self.instances, strict=True):
            rest = paths.relative(spec.path, instance.path)
            if rest is None:
                return None
            texts.add(paths.expression(instance.module, rest))
        return texts.pop() if len(texts) == 1 else None

    def optional(self, specs: list[Any], node: ast.expr | None, name: str) -> str:
        """A child that some instances do not have is an argument, an array made where asked for."""
        present = [s for s in specs if s is not None]
        if not all(isinstance(s, Array) for s in present):
            return self.column(name, specs)
        made = held.array(self, [s or present[0] for s in specs], node)
        has = [s is not None for s in specs]
        tables = [vars(instance.module) for instance in self.instances]
        flags = (k for k, v in tables[0].items() if isinstance(v, bool) and k != "training")
        flag = next((k for k in flags if [t.get(k) for t in tables] == has), f"has_{name}")
        return f"{made} if {self.value(has, None, flag)} else None"

    def build(self, specs: list[Any], node: ast.expr | None, name: str) -> str:
        """A module: a layer, a list, or an instance of another class."""
        kinds = {kind_of(s) for s in specs}
        if len(kinds) > 1:
            return self.column(name, specs)
        spec = specs[0]
        if isinstance(spec, Leaf):
            return self.layer(specs, node)
        if isinstance(spec, Listing):
            sizes = {tuple(s.children) for s in specs}
            if len(sizes) > 1 or any(
                len({kind_of(s.children[k]) for s in specs}) > 1 for k in spec.children
            ):
                return self.column(name, specs)
            return self.listing(specs, node, name)
        if isinstance(spec, Instance):
            group: Group = spec.group
            node = followed(node, self.init, group.cls)
            arguments, placed = {}, set()
            constructor: Any = vars(group.cls).get("__init__", group.cls.__init__)  # type: ignore[misc]
            for parameter in group.parameters:
                inner = argument(node, constructor, parameter)
                values = [s.args[parameter] for s in specs]
                arguments[parameter] = self.value(values, inner, parameter)
                if _is_placed(inner, node):
                    placed.add(parameter)
            return self.construct(group, arguments, placed)
        if isinstance(spec, Alias):
            if (text := self.shared(specs)) is not None:
                self.resolved.update(s.place for s in specs)
                return text
            raise Unported(f"the shared module {spec.path} is created in several places")
        raise Unported(f"cannot build {spec!r}")

    def construct(self, group: Group, arguments: dict[str, str], placed: set[str]) -> str:
        """A call of another generated class; torch's call gives those ``placed`` without names."""
        shown, keyword = [], False
        for parameter, text in arguments.items():
            default = group.parameters.get(parameter)
            if text == default:
                keyword = True
                continue
            keyword = keyword or (default is not None and parameter not in placed)
            shown.append(f"{parameter}={text}" if keyword else text)
        if group.needs_rngs:
            shown.append("rngs=rngs")
        return f"{group.name}({', '.join(shown)})"

    def layer(self, specs: list[Leaf], node: ast.expr | None) -> str:
        """A call of a layer of ``fluxmod.nn``, or of a class that the user put in its place."""
        first = specs[0]
        torch_class = None if first.given else getattr(torch.nn, first.name, None)
        signature = first.signature
        if node is not self.init.base:
            node = followed(node, self.init, torch_class) if torch_class else None
        shown: list[str] = []
        keyword = False
        order = list(signature)
        ordered = {k: None for k in order if any(k in s.args for s in specs)}
        ordered |= {k: None for s in specs for k in s.args}
        for key in ordered:
            default = signature[key].default if key in signature else inspect.Parameter.empty
            values = [s.args.get(key, default) for s in specs]
            inner = argument(node, torch_class.__init__, key) if torch_class else None
            text = "out_channels"
            if inner is not None or key not in _FEATURES or self.columns.get(text) != values:
                text = self.value(values, inner, key)
            required = default is inspect.Parameter.empty and key != "kernel_size"
            placed = _is_placed(inner, node) and key == order[len(shown)]
            keyword = keyword or not (required or placed)
            shown.append(f"{key}={text}" if keyword else text)
        if first.takes_rngs:
            shown.append("rngs=rngs")
        return f"{first.text}({', '.join(shown)})"

    def listing(self, specs: list[Listing], node: ast.expr | None, name: str) -> str:
        """A call of a container; equal children in a row become a loop."""
        kind = specs[0].kind
        texts: list[str] = []
        for index, key in enumerate(specs[0].children):
            children = [s.children[key] for s in specs]
            inner = element(node, index, key)
            if isinstance(children[0], Array):
                texts.append(held.array(self, children, inner))
            else:
                texts.append(self.build(children, inner, f"{name}{index}"))
        if specs[0].named:
            pairs = ", ".join(f'"{k}": {t}' for k, t in zip(specs[0].children, texts, strict=True))
            return f"nn.{kind}({{{pairs}}})"
        if not texts:
            return f"nn.{kind}()"
        runs: list[list[Any]] = []
        for text in texts:
            if runs and runs[-1][0] == text:
                runs[-1][1] += 1
            else:
                runs.append([text, 1])
        if len(runs) == 1 and runs[0][1] > 1:
            count = self.value([runs[0][1]] * len(specs), repetitions(node), "depth")
            loop = f"{runs[0][0]} for _ in range({count})"
            plain = kind in ("ModuleList", "ParameterList")
            whole = f"nn.{kind}({loop})" if plain else f"nn.{kind}(*({loop}))"
            self.runs[id(specs[0])] = Run(whole, runs[0][0], count)
            return whole
        parts = []
        for text, count in runs:
            if count > 2:
                parts.append(f"*({text} for _ in range({count}))")
            else:
                parts += [text] * count
        whole = container(kind, parts)
        last, count = runs[-1]
        if count > 1:
            self.runs[id(specs[0])] = Run(whole, last, str(count), kind, tuple(texts[:-count]))
        return whole

    # --- values

    def value(self, values: list[Any], node: ast.expr | None, name: str) -> str:
        """An argument: the source's expression, a literal, or a constructor argument."""
        if any(is_spec(v) for v in values):
            if any(v is None for v in values):
                return self.column(name, values)
            if all(isinstance(v, Alias) for v in values):
                pairs = zip(values, self.instances, strict=True)
                early = [is_within_itself(alias, i.path) for alias, i in pairs]
                if all(early):
                    return "None"  # the model sets it
                if any(early) or self.shared(values) is None:
                    return self.column(name, values)  # who holds both gives it
            return self.build(values, node, name)
        if isinstance(node, ast.Name) and node.id in self.init.fallbacks:
            text = self.proposal(self.init.fallbacks[node.id], values)
            if text is not None:
                return text
        if self.collecting and node is not None:
            self.collect(node, values)
        if node is not None and not isinstance(node, ast.Constant):
            text = self.proposal(node, values)
            if text is not None:
                return text
        known = [v for v in values if v is not ANY]
        if len(known) < len(values) and (text := self.told(name, values)) is not None:
            return text
        if all(same(v, known[0]) for v in known):
            return literal(known[0])
        if len(known) < len(values) and not self.collecting:
            if not self.filling:
                raise Unknown
            values = [known[0] if v is ANY else v for v in values]
        named = isinstance(node, ast.Name) and node.id in self.init.locals
        return self.column(node.id if named else name, values)  # type: ignore[union-attr]

    def collect(self, node: ast.expr, values: list[Any]) -> None:
        """A bare name or ``config.name`` tells that argument's value."""
        key = None
        if isinstance(node, ast.Name) and node.id in self.init.parameters:
            key = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in self.init.parameters:
                key = ast.unparse(node)
        if key is not None:
            for votes, value in zip(self.votes, values, strict=True):
                if value is not ANY:
                    votes.setdefault(key, []).append(value)
            return
        for place, value in enumerate(values):
            if value is not ANY:
                if isinstance(node, ast.Name):
                    self.seen[place][node.id] = value
                self.solve(place, node, value)

    def solve(self, place: int, node: ast.expr, value: Any) -> None:
        """``round(inp * expand_ratio)`` tells one instance's ratio where ``inp`` is known."""
        env = self.env[place] | {n: v[0] for n, v in self.votes[place].items()}
        names = free_names(node, self.init)
        unknown = [n for n in names if n not in self.votes[place]]
        if len(unknown) == 1 and names - env.keys() <= {unknown[0]}:
            found = solved(node, unknown[0], value, env, self.init)
            if found is not None:
                self.votes[place].setdefault(unknown[0], []).append(found)

    def learn(self, test: ast.expr | None, has: list[bool]) -> None:
        """``if a != b`` says of an instance without the child that ``a`` is ``b``."""
        if isinstance(test, ast.Name) and test.id in self.init.parameters:
            if isinstance(self.init.parameters[test.id].default, bool):
                self.collect(test, has)
        if not isinstance(test, ast.Compare) or len(test.ops) != 1:
            return
        sides = test.left, test.comparators[0]
        for place, here in enumerate(has):
            if not isinstance(test.ops[0], ast.Eq if here else ast.NotEq):
                continue
            env = self.env[place] | self.seen[place]
            env |= {n: v[0] for n, v in self.votes[place].items()}
            for known, other in (sides, sides[::-1]):
                try:
                    self.solve(place, other, evaluate(known, env, self.init))
                except Unknown:
                    continue

    def told(self, name: str, values: list[Any]) -> str | None:
        """An expression of this constructor that says a child's size, where not all have it."""
        env = self.env
        given = {n: [e[n] for e in env] for n in self.init.parameters if all(n in e for e in env)}
        for text, said in {**self.said, **given, **self.columns}.items():
            if text == name or name in _SIZES:
                if all(same(a, b) for a, b in zip(said, values, strict=True)):
                    if text in given:
                        self.used[text] = None
                    return text
        return None

    def proposal(self, node: ast.expr, values: list[Any]) -> str | None:
        """The source's expression, if it has the right value for every instance."""
        try:
            found = [evaluate(node, env, self.init) for env in self.env]
        except Unknown:
            return None
        if not all(equal(a, b) for a, b in zip(found, values, strict=True)):
            return None
        try:
            rendered = self.render(node)
        except Unknown:
            return None
        text = ast.unparse(rendered)
        if not any(v is ANY for v in values):
            self.said[text] = values
        return text

    def render(self, node: ast.expr) -> ast.expr:
        """The expression with this class's own names."""
        code = self

        class Rename(ast.NodeTransformer):
            def visit_Name(self, n: ast.Name) -> Any:
                if n.id in code.init.parameters:
                    if n.id in code.columns and code.is_other(n.id):
                        raise Unknown  # ``config.size`` has the name of the argument ``size``
                    code.used[n.id] = None
                elif n.id in code.columns:
                    raise Unknown  # a column of our own has torch's name
                elif n.id in code.init.locals:
                    inner = code.render(code.init.locals[n.id])
                    if isinstance(inner, (ast.Name, ast.Constant, ast.Attribute)):
                        return inner
                    code.local[n.id] = ast.unparse(inner)
                return n

            def visit_Attribute(self, n: ast.Attribute) -> Any:
                if isinstance(n.value, ast.Name) and n.value.id == "self":
                    if n.attr in code.init.attributes and n.attr not in vars(code.group.cls):
                        return code.render(code.init.attributes[n.attr])
                    value = getattr(code.group.cls, n.attr)
                    if not isinstance(value, (int, float, str, tuple)):
                        raise Unknown  # a property: each instance has its own
                    code.constants[n.attr] = value
                    return n
                if isinstance(n.value, ast.Name) and n.value.id in code.init.parameters:
                    values = [env.get(ast.unparse(n)) for env in code.env]
                    if any(v is None for v in values) or code.is_taken(n.attr, values):
                        raise Unknown
                    code.used[n.attr] = None
                    code.columns[n.attr] = values
                    return ast.Name(n.attr)
                raise Unknown

            def visit_Call(self, n: ast.Call) -> Any:
                if isinstance(n.func, ast.Attribute):
                    raise Unknown
                n.args = [self.visit(a) for a in n.args]
                return n

        return Rename().visit(ast.parse(ast.unparse(node), mode="eval").body)

    def column(self, name: str, values: list[Any]) -> str:
        """A constructor argument of our own; equal columns of one name share it."""
        base, number = (name := safe(name)), 2
        while self.is_taken(name, values):
            name = f"{base}{number}"
            number += 1
        self.used[name] = None
        self.columns[name] = self.said[name] = values
        return name

    def is_other(self, name: str) -> bool:
        """Whether a column of our own has the name of torch's argument, and other values."""
        pairs = zip(self.columns[name], self.env, strict=True)
        return not all(name in env and same(value, env[name]) for value, env in pairs)

    def is_taken(self, name: str, values: list[Any]) -> bool:
        """Whether a name stands for something else: another column, or torch's own argument."""
        if name in self.local:
            return True
        known = self.columns.get(name)
        if known is None and name in self.init.parameters and all(name in e for e in self.env):
            known = [env[name] for env in self.env]
        if known is None:
            return name in self.used
        return not all(a is b or same(a, b) for a, b in zip(known, values, strict=True))


def _is_placed(inner: ast.expr | None, node: ast.expr | None) -> bool:
    """Whether a call gives an argument by its place."""
    return isinstance(node, ast.Call) and inner in node.args


def has_state_after(instance: Instance, name: str) -> bool:
    """Whether parameters or buffers that it makes follow a name: then its place must be kept."""
    names = list(instance.attributes)
    after = {n: instance.attributes[n] for n in names[names.index(name) + 1 :]}
    made = [n for n, spec in after.items() if is_spec(spec) and not isinstance(spec, Alias)]
    children = (getattr(instance.module, n, None) for n in made)
    return any(isinstance(spec, Array) for spec in after.values()) or any(
        isinstance(child, torch.nn.Module) and has_state(child) for child in children
    )


def own(like: Array, module: torch.nn.Module, name: str, alias: Alias) -> Array:
    """An array that some instances share and others hold: each makes its own, the model ties it."""
    return replace(like, tensor=getattr(module, name), path=alias.place)


def attribute_of(module: Any, dotted: str) -> Any:
    """A dotted attribute."""
    for name in dotted.split("."):
        module = getattr(module, name)
    return tuple(module) if isinstance(module, list) else module
