"""The file: imports, classes, documentation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from fluxmod import nn

from .classes import ClassCode
from .collecting import collected
from .groups import Group
from .ir import Value, tree_values
from .leaves import Leaf
from .loops import rolled, unpacked
from .orders import last
from .scan import Stacks
from .shared import named_first
from .specs import is_spec
from .style import WIDTH, formatted, statement
from .words import Body, by_name

__all__ = ["axes_of", "module_text"]

_SPACE = {3: "L", 4: "H, W", 5: "D, H, W"}
_SIZE_OR_DTYPE = re.compile(r" *(\w+) = [\w.]+\.(?:dtype|shape\[-?\d+\])")
_EITHER = re.compile(r"^if (.+):\n    (self\.\w+) = (.+)\nelse:\n    \2 = (\w+)$", re.MULTILINE)
_MARK = re.compile(r"_number_\d+_")


def module_text(
    codes: list[ClassCode],
    origin: str,
    functions: dict[str, list[str]],
    further: Callable[[str], list[str]] = lambda body: [],
    *,
    scan: bool = False,
) -> str:
    """The whole file; ``further`` says what else a text has to import.

    With ``scan`` loops over equal blocks become ``nnx.scan``.
    """
    classes = [class_text(code, codes if scan else None) for code in codes]
    helpers = [_helper_text(name, lines) for name, lines in functions.items()]
    body = "\n\n\n".join([*helpers, *classes])
    names = sorted(code.group.name for code in codes)
    listed = f"__all__ = {names}"
    imports = ["import jax"] if re.search(r"\bjax\.", body) else []
    if re.search(r"\bmath\.", body):
        imports = ["import math", "", *imports]
    if re.search(r"\bjnp\.", body):
        imports.append("import jax.numpy as jnp")
    if re.search(r"\bnnx\.", body):
        imports.append("from flax import nnx")
    own = ["from fluxmod import nn"]
    if re.search(r"\bF\.", body):
        own.append("from fluxmod.nn import functional as F")
    for name in ("ops", "random"):
        if re.search(rf"(?<!\.)\b{name}\.\w+\(", body):
            own.append(f"from fluxmod.nn import {name}")
    own = sorted([*own, *further(body)], key=str.lower)
    parts = [f'"""{origin}"""', "", "from __future__ import annotations", "", *imports, ""]
    return formatted("\n".join([*parts, *own, "", listed, "", "", body, ""]))


def _helper_text(name: str, lines: list[str]) -> str:
    """A function that computes a table."""
    head, *body = lines
    text = [head.format(name), f'    """The table ``{name[1:]}``, as torch computes it."""']
    for line in _looped(body, torch.nn.Module()):
        text += statement(line, 4)
    return "\n".join(text)


def class_text(code: ClassCode, stacking: list[ClassCode] | None = None) -> str:
    """One class; ``stacking`` are all of them where loops are to become scans."""
    group = code.group
    body = group.body
    if group.instances[0].is_function:
        return _function_text(code)
    numbered = [line for line in code.lines if re.match(r"self\.\d+ = ", line)]
    layer = group.instances[0].base
    called = _called(code) if body is not None else []
    stacked: list[str] = []
    if stacking is not None:
        stacks = Stacks(code, called, [each for each in stacking if each is not code])
        called, stacked = stacks.lines, stacks.paths
        code.tables.notes.extend(stacks.notes)
    chain = body is None and isinstance(group.instances[0].module, torch.nn.Sequential)
    base = f"nn.{layer.name}" if layer else "nn.Sequential" if numbered or chain else "nn.Module"
    filled = any(line.startswith("super().__init__(") for line in code.lines)
    if chain and not numbered and not filled:
        pairs = [line.removeprefix("self.").partition(" = ") for line in code.lines]
        parts = ", ".join(f'"{name}": {value}' for name, _, value in pairs)
        code.lines = [f"super().__init__({{{parts}}})"]
    elif numbered:
        parts = ", ".join(line.partition(" = ")[2] for line in numbered)
        others = [line for line in code.lines if line not in numbered]
        code.lines = [f"super().__init__({parts})", *others]
    lines = [f"class {group.name}({base}):", *_docstring(group, body), ""]
    axes = axes_of(body) if body is not None else None
    if axes is not None:
        lines += [*statement(f"axes = {_axes_text(axes)}", 4), ""]
    elif (layer is not None and layer.axes() != nn.SAME) or (body and base == "nn.Sequential"):
        lines += ["    axes = nn.SAME", ""]
    if stacked:
        shown = ", ".join(f'"{path}"' for path in stacked)
        lines += [f"    stacked = ({shown}{',' if len(stacked) == 1 else ''})", ""]
    if code.constants:
        lines += [f"    {name} = {value!r}" for name, value in code.constants.items()] + [""]
    if code.lines:
        lines.append(_signature(group))
        for name, text in code.local.items():
            lines += statement(f"{name} = {text}", 8)
        for line in _chosen(code.lines):
            for each in named_first(line):
                lines += statement(each, 8)
        lines.append("")
    if body is not None:
        lines.append(_call_signature(group, body))
        for line in called:
            lines += statement(line, 8)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines)


def _chosen(lines: list[str]) -> list[str]:
    """Statements with ``self.x = a if test else None`` on one line, where there is room."""
    text = "\n".join(lines)
    for match in reversed(list(_EITHER.finditer(text))):
        test, name, made, other = match.groups()
        line = f"{name} = {made} if {test} else {other}"
        if len(line) + 8 <= WIDTH:
            text = f"{text[: match.start()]}{line}{text[match.end() :]}"
    return text.split("\n") if lines else []


def _called(code: ClassCode) -> list[str]:
    """The statements of the call."""
    replaced = _read([_substitute(line, code) for line in code.group.lines])
    return _looped(replaced, code.group.instances[0].module)


def _read(lines: list[str]) -> list[str]:
    """Statements without sizes and dtypes that were named and turned out to be numbers."""
    words = Counter(word for line in lines for word in set(re.findall(r"\w+", line)))
    return [
        line
        for line in lines
        if not ((found := _SIZE_OR_DTYPE.fullmatch(line)) and words[found[1]] == 1)
    ]


def _looped(lines: list[str], module: torch.nn.Module) -> list[str]:
    """Statements with what repeats itself as loops."""
    return collected(rolled(unpacked(lines), module), module)


def _function_text(code: ClassCode) -> str:
    """A model that is one layer or container, as a function that builds it."""
    head = (
        "def build(*, rngs: nnx.Rngs) -> nn.Module:"
        if code.group.needs_rngs
        else "def build() -> nn.Module:"
    )
    origin = f"{code.group.cls.__module__}.{code.group.cls.__qualname__}"
    value = code.lines[-1].partition(" = ")[2]
    lines = [head, f'    """The port of a ``{origin}``."""', *statement(f"return {value}", 4)]
    return "\n".join(lines)


def _substitute(line: str, code: ClassCode) -> str:
    table = getattr(code, "replacements", {})
    line = _MARK.sub(lambda m: table.get(m[0], m[0]), line).replace("[...][", "[")
    return re.sub(r"self\.(\w+(?:\.\w+)+)\b", lambda m: _flat_attr(m, code), line)


def _flat_attr(match: re.Match[str], code: ClassCode) -> str:
    """``self.config.size``, of what is no module here, as ``self.config_size``."""
    parts = match[1].split(".")
    body = code.group.body
    read = {path.partition("[")[0] for path in body.attrs} if body is not None else set()
    if isinstance(code.group.instances[0].attributes.get(parts[0]), Leaf):
        return match[0]  # our own classes keep what they read
    for end in range(len(parts), 1, -1):
        if ".".join(parts[:end]) in read:
            return ".".join(["self", "_".join(parts[:end]), *parts[end:]])
    return match[0]


def _docstring(group: Group, body: Body | None) -> list[str]:
    origin = f"{group.cls.__module__}.{group.cls.__qualname__}".replace("__main__.", "")
    origin = origin.replace(".<locals>", "")
    first = [f'    """The port of ``{origin}``.']
    if len(first[0]) > WIDTH - 3:
        module, _, name = origin.rpartition(".")
        first = [f'    """The port of ``{name}``, from', f"    ``{module}``."]
    if body is None:
        return [*first[:-1], f'{first[-1]}"""']
    given = [
        f"{name}: {_shape(body, name)}" for name, _, _ in group.signature if _shape(body, name)
    ]
    outs = list(tree_values(body.call.out))
    back = ", ".join(_letters(v) for v in outs[:4]) + (", ..." if len(outs) > 4 else "")
    text = "; ".join(given)
    text = f"{text}; returns {back}." if text else f"returns {back}."
    lines = [*first, "", "    Shape:"]
    words = text.split(" ")
    line = "       "
    for word in words:
        if len(line) + len(word) + 1 > WIDTH:
            lines.append(line)
            line = "       "
        line += f" {word}"
    return [*lines, line, '    """']


def _shape(body: Body, name: str) -> str:
    value = _argument(body, name)
    return _letters(value) if isinstance(value, Value) else ""


def _argument(body: Body, name: str) -> Any:
    call = body.call
    return call.names[name] if name in call.names else by_name(call).get(name)


def _letters(value: Value) -> str:
    """A shape as text: maps by letters, others by the sizes traced, N where the batch is free."""
    if value.order == last(value.rank) and value.rank in _SPACE:
        return f"(N, {_SPACE[value.rank]}, C)"
    sizes = [
        ("N" if axis == 0 else "*") if value.symbols[axis] else str(value.shape[axis])
        for axis in value.layout
    ]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def axes_of(body: Body) -> nn.Axes | None:
    """The declaration of a class whose arguments or results are channels-last."""
    call = body.call

    def entry(value: Any) -> nn.Channel | None:
        if isinstance(value, Value) and value.order is not None:
            return nn.Channel(value.order[-1], min_rank=0)
        if isinstance(value, (tuple, list)) and value:  # the arrays of a list move alike
            entries = [entry(each) for each in value]
            return entries[0] if all(e == entries[0] for e in entries) else None
        return None

    inputs = [entry(tree) for tree in call.args]
    while inputs and inputs[-1] is None:
        inputs.pop()
    keywords = {k: e for k, v in call.kwargs.items() if (e := entry(v)) is not None}
    outs = [entry(v) for v in tree_values(call.out)]
    if not inputs and not keywords and not any(outs):
        return None
    output: Any = None
    if any(outs):
        output = outs[0] if all(o == outs[0] for o in outs) else tuple(outs)
    return nn.Axes(inputs=tuple(inputs), output=output, keywords=keywords)


def _axes_text(axes: nn.Axes) -> str:
    def one(entry: nn.Channel | None) -> str:
        return "None" if entry is None else f"nn.Channel({entry.axis})"

    parts = []
    if axes.inputs:
        inner = ", ".join(one(e) for e in axes.inputs)
        parts.append(f"inputs=({inner}{',' if len(axes.inputs) == 1 else ''})")
    if isinstance(axes.output, tuple):
        parts.append(f"output=({', '.join(one(e) for e in axes.output)})")
    elif axes.output is not None:
        parts.append(f"output={one(axes.output)}")
    if axes.keywords:
        pairs = ", ".join(f'"{k}": {one(e)}' for k, e in axes.keywords.items())
        parts.append(f"keywords={{{pairs}}}")
    return f"nn.Axes({', '.join(parts)})"


def _signature(group: Group) -> str:
    parts = []
    for name, default in group.parameters.items():
        hint = _hint([i.args.get(name) for i in group.instances])
        if default is None:
            parts.append(f"{name}{hint}")
        else:
            parts.append(f"{name}{hint} = {default}" if hint else f"{name}={default}")
    if group.needs_rngs:
        parts += ["*", "rngs: nnx.Rngs"]
    return _definition("__init__", parts, "None")


def _hint(values: list[Any]) -> str:
    """The type of a constructor argument, as its values show it."""
    kinds = {type(v).__name__ for v in values}
    if "NoneType" in kinds and len(kinds) == 2 and not any(map(is_spec, values)):
        other = _hint([v for v in values if v is not None])
        return f"{other} | None" if other else ""
    if kinds and kinds <= {"Leaf", "Instance", "Listing", "Alias", "NoneType"}:
        return ": nn.Module | None" if "NoneType" in kinds else ": nn.Module"
    if kinds == {"int", "float"}:
        return ": float"
    if kinds == {"tuple"}:
        inner = _hint([part for value in values for part in value]).removeprefix(": ")
        return f": tuple[{inner}, ...]" if inner else ": tuple"
    return f": {kinds.pop()}" if kinds in ({"int"}, {"float"}, {"bool"}, {"str"}) else ""


def _call_signature(group: Group, body: Body) -> str:
    parts, star = [], False
    seen_default = False
    for name, default, kind in group.signature:
        if kind == "keyword" and not star:
            parts.append("*")
            star = True
        value = _argument(body, name)
        hint = ": jax.Array" if isinstance(value, Value) else ""
        if default is not None or (seen_default and not star):
            seen_default = True
            union = " | None" if hint and default == "None" else ""
            gap = " = " if hint else "="
            parts.append(f"{name}{hint}{union}{gap}{default or 'None'}")
        else:
            parts.append(f"{name}{hint}")
    out = body.call.out
    returns = "jax.Array" if isinstance(out, Value) else ""
    if isinstance(out, tuple):
        inner = ["jax.Array" if isinstance(o, Value) else "None" if o is None else "" for o in out]
        returns = f"tuple[{', '.join(inner)}]" if all(inner) else ""
    if isinstance(out, dict):
        returns = "dict[str, jax.Array]" if all(isinstance(v, Value) for v in out.values()) else ""
    return _definition("__call__", parts, returns)


def _definition(name: str, parts: list[str], returns: str) -> str:
    arrow = f" -> {returns}" if returns else ""
    return f"    def {name}({', '.join(['self', *parts])}){arrow}:"
