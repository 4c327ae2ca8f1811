"""Equal calls become one class; what varies between them becomes constructor arguments."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import numpy as np
import torch

from fluxmod._paths import join

from . import paths
from .arrays import as_numbers, band_value, buffer_value, shape_nodes
from .constructors import (
    Init,
    Unknown,
    argument,
    element,
    equal,
    evaluate,
    followed,
    init_of,
    recover,
    repetitions,
    same,
)
from .groups import Group
from .leaves import Leaf
from .lower import DTYPES
from .scan import Run
from .specs import Alias, Array, Instance, Listing
from .tables import Tables, short_code
from .words import Body, Unported, container, literal, safe

__all__ = ["ClassCode", "is_spec"]


_ABSENT = object()
_FEATURES = ("num_features", "num_channels", "normalized_shape")  # of the convolution before


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
        self.columns: dict[str, list[Any]] = {}
        self.used: dict[str, None] = {}
        self.local: dict[str, str] = {}
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
            self.columns, self.used, self.local, self.constants = {}, {}, {}, {}
            self.lines = self.statements()
            if collecting:
                self.take_defaults()
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
                elif has_arrays_after(first, name):
                    lines.append(f"self.{name} = nnx.data(None)  # shared: the model sets it")
                continue
            node = self.init.of_attribute(name)
            shown = f"layer{name}" if name.isdigit() else name
            lines.append(f"self.{name} = {self.attribute(specs, node, shown)}")
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
                if base in vars(self.group.cls) and base not in self.init.attributes:
                    self.constants[base] = values[0]
                    continue
                node = self.init.of_attribute(base)
                numbers.append(f"self.{shown} = {self.value(values, node, shown)}")
            numbers += self.marks(body)
            if body.rngs:
                lines.append("self.rngs = rngs.dropout.fork()")
                self.group.needs_rngs = True
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
            return self.array(specs, node)
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
        made = self.array([s or present[0] for s in specs], node)
        has = [s is not None for s in specs]
        held = [vars(instance.module) for instance in self.instances]
        flags = (k for k, v in held[0].items() if isinstance(v, bool) and k != "training")
        flag = next((k for k in flags if [h.get(k) for h in held] == has), f"has_{name}")
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
            arguments = {}
            constructor: Any = vars(group.cls).get("__init__", group.cls.__init__)  # type: ignore[misc]
            for parameter in group.parameters:
                inner = argument(node, constructor, parameter)
                values = [s.args[parameter] for s in specs]
                arguments[parameter] = self.value(values, inner, parameter)
            return self.construct(group.name, arguments, group.parameters, group.needs_rngs)
        if isinstance(spec, Alias):
            if (text := self.shared(specs)) is not None:
                self.resolved.update(s.place for s in specs)
                return text
            raise Unported(f"the shared module {spec.path} is created in several places")
        raise Unported(f"cannot build {spec!r}")

    def construct(
        self, name: str, arguments: dict[str, str], defaults: dict[str, str | None], rngs: bool
    ) -> str:
        """A call of another generated class."""
        shown, keyword = [], False
        for parameter, text in arguments.items():
            if text == defaults.get(parameter):
                keyword = True
                continue
            by_name = keyword or defaults.get(parameter) is not None
            shown.append(f"{parameter}={text}" if by_name else text)
        if rngs:
            shown.append("rngs=rngs")
            self.group.needs_rngs = True
        return f"{name}({', '.join(shown)})"

    def layer(self, specs: list[Leaf], node: ast.expr | None) -> str:
        """A call of a layer of ``fluxmod.nn``, or of a class that the user put in its place."""
        first = specs[0]
        torch_class = None if first.given else getattr(torch.nn, first.name, None)
        signature = first.signature
        if node is not self.init.base:
            node = followed(node, self.init, torch_class) if torch_class else None
        shown, keyword = [], False
        ordered = {k: None for k in signature if any(k in s.args for s in specs)}
        ordered |= {k: None for s in specs for k in s.args}
        for key in ordered:
            default = signature[key].default if key in signature else inspect.Parameter.empty
            values = [s.args.get(key, default) for s in specs]
            inner = argument(node, torch_class.__init__, key) if torch_class else None
            text = "out_channels"
            if inner is not None or key not in _FEATURES or self.columns.get(text) != values:
                text = self.value(values, inner, key)
            required = default is inspect.Parameter.empty
            keyword = keyword or not required
            if key == "kernel_size" and required:
                by_name = True
                keyword = True
            else:
                by_name = keyword
            shown.append(f"{key}={text}" if by_name else text)
        if first.takes_rngs:
            shown.append("rngs=rngs")
            self.group.needs_rngs = True
        return f"{first.text}({', '.join(shown)})"

    def listing(self, specs: list[Listing], node: ast.expr | None, name: str) -> str:
        """A call of a container; equal children in a row become a loop."""
        kind = specs[0].kind
        texts: list[str] = []
        for index, key in enumerate(specs[0].children):
            children = [s.children[key] for s in specs]
            inner = element(node, index, key)
            if isinstance(children[0], Array):
                texts.append(self.array(children, inner))
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

    def array(self, specs: list[Array], node: ast.expr | None) -> str:
        """A parameter or buffer with its first value."""
        tensor = specs[0].tensor
        shapes = [tuple(s.tensor.shape) for s in specs]
        if len({len(s) for s in shapes}) > 1:
            raise Unported(f"{specs[0].path} has different ranks in instances of one class")
        proposals = shape_nodes(node, len(shapes[0]))
        sizes = [
            self.value([s[a] for s in shapes], proposals[a], f"size{a}")
            for a in range(len(shapes[0]))
        ]
        shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        dtype = (
            "" if tensor.dtype == torch.float32 else DTYPES[tensor.dtype].replace("int64", "int32")
        )
        if specs[0].kind == "parameter":
            text = self.first_value(tensor, shape, dtype, node)
            frozen = "" if tensor.requires_grad else ", requires_grad=False"
            return f"nn.Parameter({text}{frozen})"
        persistent = "" if specs[0].persistent else ", persistent=False"
        if not specs[0].persistent:
            text = self.table(specs, sizes)
        else:
            text = self.first_value(tensor, shape, dtype, None)
        kept = ', torch_dtype="int64"' if tensor.dtype == torch.int64 else ""
        return f"nn.Buffer({text}{persistent}{kept})"

    def table(self, specs: list[Array], sizes: list[str]) -> str:
        """A constant that no checkpoint has: short code for it, or a function as torch has it."""
        if any(s.tensor.is_meta for s in specs):
            raise Unported(
                f"{specs[0].path} is on the meta device and in no checkpoint; make it on the CPU"
            )
        name = specs[0].path.rpartition(".")[2]
        try:
            texts = [buffer_value(s.tensor, sizes) for s in specs]
            if len(set(texts)) == 1:
                return texts[0]
            tables = [short_code(text) for text in texts]
        except Unported:
            tables = [t for s in specs if (t := self.tables.of(s.path)) is not None]
        if len(tables) < len(specs) or len({t.lines for t in tables}) > 1:
            try:
                tables = [short_code(band_value(s.tensor, sizes)) for s in specs]
            except Unported:
                return self.unknown_table(specs, name, sizes)
        parameters: list[str] = []
        arguments: list[str] = []
        body = list(tables[0].lines)
        columns: dict[Any, str] = {}
        for index, number in enumerate(tables[0].numbers):
            values = [t.numbers[index] for t in tables]
            text = literal(number)
            if any(not same(v, number) for v in values):
                text = f"{'size' if isinstance(number, int) else 'factor'}{len(columns)}"
                text = columns.setdefault((type(number), tuple(values)), text)
                if len(columns) > len(parameters):
                    parameters.append(f"{text}: {type(number).__name__}")
                    arguments.append(self.value(values, None, f"{name}_{text}"))
            body = [line.replace(f"_number_{index}_", text) for line in body]
        if len(body) == 1 and not parameters:
            return body[0].removeprefix("return ")
        return f"{self.tables.function(name, parameters, body)}({', '.join(arguments)})"

    def unknown_table(self, specs: list[Array], name: str, sizes: list[str]) -> str:
        """A table whose computation torch's source does not show.

        A short one stands as numbers. Others are NaN in the file, loudly, and have torch's values
        in the model that ``port`` returns.
        """
        equal = all(torch.equal(s.tensor, specs[0].tensor) for s in specs)
        try:
            if equal:
                return as_numbers(specs[0].tensor)
        except Unported:
            pass
        tensor = specs[0].tensor
        if not tensor.is_floating_point():
            raise Unported(
                f"the table {name} is not saved, and its code was not found; register it as a "
                "persistent buffer"
            )
        self.tables.notes.append(
            f"{specs[0].path}: no checkpoint has it and its computation was not found; the written "
            "file has NaN there until the table is set. Register it as a persistent buffer."
        )
        dtype = "" if tensor.dtype == torch.float32 else f", {DTYPES[tensor.dtype]}"
        shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        return f"jnp.full({shape}, jnp.nan{dtype})"

    def first_value(self, tensor: torch.Tensor, shape: str, dtype: str, node: Any) -> str:
        """An array of that shape: torch's distribution where the source shows it."""
        comma = f", {dtype}" if dtype else ""
        shown = shape[1:-2] if shape.endswith(",)") else shape
        if tensor.device.type == "meta" or not tensor.numel():
            return f"jnp.zeros({shown}{comma})"
        first = tensor.detach().reshape(-1)[0]
        if bool((tensor.detach() == first).all()):
            value = first.item()
            if tensor.dtype == torch.float32:
                value = float(str(np.float32(value)))
            if value == 0:
                return f"jnp.zeros({shown}{comma})"
            if value == 1:
                return f"jnp.ones({shown}{comma})"
            if tensor.dim():
                return f"jnp.full({shown}, {literal(value)}{comma})"
            return f"jnp.array({literal(value)}{comma})"
        if tensor.dtype.is_floating_point and node is not None:
            scale = next(
                (
                    ast.unparse(n.left)
                    for n in ast.walk(node)
                    if isinstance(n, ast.BinOp)
                    and isinstance(n.op, ast.Mult)
                    and isinstance(n.left, ast.Constant)
                ),
                "",
            )
            if "randn" in ast.unparse(node):
                self.group.needs_rngs = True
                factor = f"{scale} * " if scale else ""
                return f"{factor}jax.random.normal(rngs.params(), {shape}{comma})"
        return f"jnp.zeros({shown}{comma})"

    # --- values

    def value(self, values: list[Any], node: ast.expr | None, name: str) -> str:
        """An argument: the source's expression, a literal, or a constructor argument."""
        if any(is_spec(v) for v in values):
            if any(v is None for v in values):
                return self.column(name, values)
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
        if all(same(v, values[0]) for v in values):
            return literal(values[0])
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
                votes.setdefault(key, []).append(value)

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
        return ast.unparse(rendered)

    def render(self, node: ast.expr) -> ast.expr:
        """The expression with this class's own names."""
        code = self

        class Rename(ast.NodeTransformer):
            def visit_Name(self, n: ast.Name) -> Any:
                if n.id in code.init.parameters:
                    code.used[n.id] = None
                elif n.id in code.init.locals:
                    return code.render(code.init.locals[n.id])
                return n

            def visit_Attribute(self, n: ast.Attribute) -> Any:
                if isinstance(n.value, ast.Name) and n.value.id == "self":
                    if n.attr in code.init.attributes and n.attr not in vars(code.group.cls):
                        return code.render(code.init.attributes[n.attr])
                    code.constants[n.attr] = getattr(code.group.cls, n.attr)
                    return n
                if isinstance(n.value, ast.Name) and n.value.id in code.init.parameters:
                    values = [env.get(ast.unparse(n)) for env in code.env]
                    if any(v is None for v in values):
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
        self.columns[name] = values
        return name

    def is_taken(self, name: str, values: list[Any]) -> bool:
        """Whether a name stands for something else: another column, or torch's own argument."""
        known = self.columns.get(name)
        if known is None and name in self.init.parameters and all(name in e for e in self.env):
            known = [env[name] for env in self.env]
        if known is None:
            return name in self.used
        return not all(a is b or same(a, b) for a, b in zip(known, values, strict=True))


def is_spec(value: Any) -> bool:
    """Whether a value is a module to build."""
    return isinstance(value, (Leaf, Instance, Listing))


def has_arrays_after(attributes: dict[str, Any], name: str) -> bool:
    """Whether parameters or buffers follow a name: then its place must be kept for it."""
    names = list(attributes)
    return any(isinstance(attributes[n], Array) for n in names[names.index(name) + 1 :])


def kind_of(spec: Any) -> Any:
    """What decides whether two specs can share one line of code."""
    if isinstance(spec, Leaf):
        return ("layer", spec.name)
    if isinstance(spec, Instance):
        return ("class", id(spec.group))
    if isinstance(spec, Listing):
        return ("list", spec.kind)
    return (type(spec).__name__,)


def attribute_of(module: Any, dotted: str) -> Any:
    """A dotted attribute."""
    for name in dotted.split("."):
        module = getattr(module, name)
    return tuple(module) if isinstance(module, list) else module
