"""What is asked of nodes and records of a trace."""

from __future__ import annotations

from typing import Any

import torch

from fluxmod._errors import UnsupportedOpError
from fluxmod._paths import join

from .ir import Call, Size, Value, tree_values
from .recording import CallRecord, OpRecord
from .specs import plain_tensors
from .words import Obstacle, refused

__all__ = [
    "as_size",
    "cast_back",
    "current_like",
    "hinted",
    "is_known",
    "is_random",
    "node_dtype",
    "paths_of",
    "refusal",
    "same_memory",
    "takes_arguments",
    "values_made",
    "writes_in_place",
]


def is_known(number: Any) -> bool:
    """Whether a number that was read from a tensor is one while tracing, whatever the input."""
    if isinstance(number, torch.SymInt):
        return number.node.hint is not None
    return isinstance(number, (bool, int, float))


def is_random(node: torch.fx.Node) -> bool:
    """Whether an operator draws random numbers; dropout does in training mode alone."""
    tags = getattr(node.target, "tags", ())
    asleep = "dropout" in str(node.target) and node.args[2:3] == (False,)
    return torch.Tag.nondeterministic_seeded in tags and not asleep


def node_dtype(node: torch.fx.Node) -> torch.dtype:
    """The dtype of a traced tensor; a float's for what is none."""
    val = node.meta.get("val")
    return val.dtype if isinstance(val, torch.Tensor) else torch.float32


def current_like(value: Value) -> Value:
    """A new value of the same kind."""
    return Value(value.shape, value.dtype, value.dynamic)


def as_size(number: Any) -> Any:
    """A number with an expression for it."""
    return number if isinstance(number, Size) else Size(number, ("lit",))


def hinted(size: Any) -> int:
    """A size, the example's where it is free."""
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)


def values_made(item: Any) -> Any:
    """The values that an item of a call makes."""
    yield from tree_values(item.out)
    if isinstance(item, Call):
        for inner in item.items:
            yield from values_made(inner)


def same_memory(node: torch.fx.Node, source: Any) -> bool:
    """Whether two nodes stand for the same memory."""
    a = node.meta.get("val")
    b = source.meta.get("val") if isinstance(source, torch.fx.Node) else None
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return False
    if torch._C._functorch.is_batchedtensor(a) or torch._C._functorch.is_batchedtensor(b):
        return False  # within ``vmap``, whose arrays have no memory that can be asked for
    return bool(a.untyped_storage()._cdata == b.untyped_storage()._cdata)


def cast_back(record: OpRecord) -> Any:
    """The array whose dtype a cast asks for, None where the source does not say."""
    hints = [*record.hints.get("args", ()), *record.hints.get("kwargs", {}).values()]
    return next((h for h in hints if isinstance(h, Size) and h.form[0] == "dtype"), None)


def writes_in_place(record: OpRecord) -> bool:
    """Whether an operator changes its first argument."""
    target = record.node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    name = target._schema.name.partition("::")[2]
    first = target._schema.arguments[:1]
    if not first or first[0].alias_info is None or not first[0].alias_info.is_write:
        return False
    return (
        name.endswith("_")
        and not name.endswith("__")
        and isinstance(record.args[0] if record.args else None, torch.fx.Node)
    )


def paths_of(module: torch.nn.Module) -> dict[int, tuple[str, ...]]:
    """Every name of every parameter and buffer, and of tensors that are plain attributes."""
    found: dict[int, tuple[str, ...]] = {}
    states = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
        *((join(path, k), v) for path, m in module.named_modules() for k, v in plain_tensors(m)),
    ]
    for path, tensor in states:
        found[id(tensor)] = (*found.get(id(tensor), ()), path)
    return found


def takes_arguments(leaf: Any, record: CallRecord) -> bool:
    """Whether the twin takes the arguments of this call."""
    return leaf.name != "Identity" or len(record.args) == 1


def refusal(builder: Any, record: OpRecord, what: str) -> UnsupportedOpError:
    """The error for an operator that cannot be written, with its module and line."""
    obstacle = Obstacle(builder.current.path, what, record.where)
    return refused(builder.trace.root.module, [obstacle])
