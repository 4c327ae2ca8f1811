"""Small parts of the writer: what a body is, constants as text, names for the nameless."""

from __future__ import annotations

import inspect
import keyword
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fluxmod._errors import UnsupportedOpError

from .ir import Call, Op, Size, Value, tree_values
from .lower import DTYPES

__all__ = [
    "RESERVED",
    "Body",
    "NeedsName",
    "Obstacle",
    "Unported",
    "container",
    "axes_of",
    "by_name",
    "handed_over",
    "identity",
    "is_fixed",
    "is_same",
    "literal",
    "pick",
    "plain",
    "rate",
    "refused",
    "safe",
    "size_forms",
    "size_values",
    "suggestion",
    "symbols_in",
]

RESERVED = {"self", "jax", "jnp", "nn", "nnx", "F", "ops", "random", *keyword.kwlist}
_NAMES = {
    "cat": "x",
    "to": "x",
    "type_as": "x",
    "add": "x",
    "mul": "x",
    "matmul": "scores",
    "mean": "mean",
    "softmax": "weights",
    "flatten": "x",
    "reshape": "x",
    "view": "x",
    "permute": "x",
    "getitem": "part",
    "flatten_map": "x",
    "write_back": "x",
    "arange": "positions",
    "triu": "mask",
    "tril": "mask",
}


@dataclass(frozen=True)
class Obstacle:
    """One thing that cannot be ported: where it is and what to do."""

    path: str
    what: str
    where: str
    hint: str = ""


def refused(module: torch.nn.Module, obstacles: Sequence[Obstacle]) -> UnsupportedOpError:
    """The one error for everything that stands in the way, each thing once with its places."""
    seen: dict[tuple[str, str], list[str]] = {}
    for o in obstacles:
        seen.setdefault((o.what, o.where), []).append(o.path or "the model itself")
    lines = [
        f"  {what}\n    in {', '.join(dict.fromkeys(where_in))[:200]}\n    at {where}"
        for (what, where), where_in in seen.items()
    ]
    return UnsupportedOpError(
        f"port: {type(module).__name__} has {len(seen)} obstacle(s):\n" + "\n".join(lines)
    )


class Unported(Exception):
    """Raised inside the porter; carries obstacles until all have been found."""


class NeedsName(Exception):
    """A value was written inside another expression and is needed twice: write again."""


@dataclass
class Body:
    """The text of ``__call__`` of one module call, and what it needs from ``__init__``."""

    call: Call
    signature: list[tuple[str, str | None, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)  # plain numbers read from self
    literals: list[tuple[str, Any]] = field(default_factory=list)
    rngs: bool = False
    children: dict[str, Call] = field(default_factory=dict)
    obstacles: list[Obstacle] = field(default_factory=list)
    modules: dict[int, str] = field(default_factory=dict)  # those that are arguments: their names


def plain(constant: Any) -> str:
    """A Python constant as source; strings in double quotes."""
    if isinstance(constant, str):
        return '"' + constant.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(constant, torch.dtype):
        return DTYPES[constant]
    if isinstance(constant, (torch.device, torch.SymInt)):
        return "None"
    if isinstance(constant, np.generic) or (
        type(constant) in (torch.Tensor, np.ndarray) and not constant.ndim
    ):
        return repr(constant.item())
    if isinstance(constant, (torch.Tensor, np.ndarray)):
        raise Unported("a tensor that is neither parameter nor buffer")
    return repr(constant)


def by_name(call: Call) -> dict[str, Any]:
    """What a call gives to forward, under the names that the written method has for it."""
    found: dict[str, Any] = {}
    bound = inspect.signature(call.module.forward).bind(*call.args, **call.kwargs)
    for name, tree in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            found |= {f"{safe(name)}{i}": branch for i, branch in enumerate(tree)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            found |= tree
        else:
            found[safe(name)] = tree
    return found


def handed_over(call: Call, tree: Any) -> bool:
    """Whether an argument is a module of somebody else's that the call runs."""
    if not isinstance(tree, torch.nn.Module):
        return False
    key = identity(tree)
    if any(identity(m) == key for m in call.module.modules()):
        return False
    return any(isinstance(item, Call) and _runs(item, key) for item in call.items)


def _runs(call: Call, key: int) -> bool:
    inner = (item for item in call.items if isinstance(item, Call))
    return identity(call.module) == key or any(_runs(item, key) for item in inner)


def identity(module: torch.nn.Module) -> int:
    """What a module has in common with the stand-ins that torch's tracer makes of it."""
    return id(vars(module))


def safe(name: str) -> str:
    """A name that shadows nothing the file uses."""
    return f"{name}_" if name in RESERVED else name


def pick(text: str, tree: Any, value: Value) -> str:
    """The text of one value inside a nested result."""
    if tree is value:
        return text
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, branch in branches:
        if any(v is value for v in tree_values(branch)):
            shown = f'"{key}"' if isinstance(key, str) else key
            return pick(f"{text}[{shown}]", branch, value)
    raise KeyError(text)


def suggestion(item: Any) -> str:
    """A name for a value that the source leaves unnamed."""
    if isinstance(item, Call):
        last = [p for p in item.path.split(".") if p.isidentifier()]
        return safe(last[-1]) if last and item.leaf is None else "x"
    name = item.target.removeprefix("fluxmod.") if item.name == "fluxmod" else item.name
    return _NAMES.get(name, name if name.isidentifier() and not name.startswith("__") else "x")


def symbols_in(tree: Any) -> Iterator[Size]:
    """The symbolic sizes that Python passes along in a tree of arguments."""
    if isinstance(tree, Size):
        if isinstance(tree.value, torch.SymInt) and tree.value.node.maybe_as_int() is None:
            yield tree
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            yield from symbols_in(branch)


def is_fixed(tree: Any) -> bool:
    """Whether an argument holds neither arrays nor symbolic sizes: a call has it baked in."""
    return not any(True for _ in tree_values(tree)) and not any(True for _ in symbols_in(tree))


def size_forms(item: Any) -> list[tuple[Any, ...]]:
    """All expressions for sizes in an item's arguments and hints."""
    found: list[tuple[Any, ...]] = []

    def visit(leaf: Any) -> None:
        if isinstance(leaf, Size):
            found.append(leaf.form)
            for part in leaf.form:
                visit(part)
        elif isinstance(leaf, (tuple, list)):
            for part in leaf:
                visit(part)
        elif isinstance(leaf, dict):
            for part in leaf.values():
                visit(part)
        elif isinstance(leaf, slice):
            visit((leaf.start, leaf.stop, leaf.step))

    visit((item.args, item.kwargs))
    if isinstance(item, Op):
        visit({k: v for k, v in (item.hints or {}).items() if k in ("sizes", "args", "kwargs")})
    return found


def axes_of(value: Value, items: list[Any]) -> set[int]:
    """The axes whose size some items read."""
    forms = (form for item in items for form in size_forms(item))
    return {form[2] for form in forms if form[0] == "dim" and form[1] is value}


def size_values(item: Any) -> list[Value]:
    """Arrays whose shape an item reads."""
    return [f[1] for f in size_forms(item) if f[0] in ("dim", "dtype")]


def container(kind: str, parts: list[str]) -> str:
    """The call that makes a container of modules or parameters."""
    inner = ", ".join(parts)
    return f"nn.{kind}([{inner}])" if kind.endswith("List") else f"nn.{kind}({inner})"


def literal(value: Any) -> str:
    """A constant as source."""
    if isinstance(value, float) and not math.isfinite(value):
        return "jnp.inf" if value > 0 else "-jnp.inf" if value < 0 else "jnp.nan"
    if isinstance(value, tuple):
        inner = ", ".join(literal(v) for v in value)
        return f"({inner}{',' if len(value) == 1 else ''})"
    return plain(value)


def rate(op: Op) -> Any:
    """The dropout probability of an attention operator."""
    return op.args[4] if len(op.args) > 4 else op.kwargs.get("dropout_p", 0.0)


def is_same(item: Any) -> bool:
    """Whether an operator gives its argument another name and does nothing else."""
    return getattr(item, "target", "") == "fluxmod.same"
