"""Modules that extend a layer of ``torch.nn``: a class of their own around the layer's operator.

``class BatchNormAct2d(nn.BatchNorm2d)``, whose ``forward`` normalises and then activates, is
written as such a class too: ``super().__call__`` stands for the layer's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fluxmod import nn

from . import leaves
from .capture import Trace
from .ir import plain_name
from .leaves import Leaf
from .recording import CallRecord, OpRecord

__all__ = ["OWN", "Base", "find", "part_of"]

_OPERATORS = {
    "BatchNorm1d": "batch_norm",
    "BatchNorm2d": "batch_norm",
    "BatchNorm3d": "batch_norm",
    "Conv1d": "conv1d",
    "Conv2d": "conv2d",
    "Conv3d": "conv3d",
    "GroupNorm": "group_norm",
    "LayerNorm": "layer_norm",
    "Linear": "linear",
    "RMSNorm": "rms_norm",
}
OWN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""What such a layer holds."""


@dataclass(frozen=True)
class Base:
    """The layer that a module's class extends; ``whole``: its forward does nothing else."""

    leaf: Leaf
    whole: bool


def find(root: torch.nn.Module, traces: list[Trace]) -> dict[int, Base]:
    """The modules whose calls all contain the operator of the layer that their class extends."""
    calls: dict[int, list[tuple[CallRecord, Trace]]] = {}
    uses: dict[int, int] = {}
    for trace in traces:
        for record in _records(trace.root):
            calls.setdefault(id(record.module), []).append((record, trace))
            for tensor in _states(record.items, trace):
                uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    shared = _shared(root)
    found: dict[int, Base] = {}
    for module in root.modules():
        leaf = _extended(module) if id(module) in calls else None
        own = {id(t) for name in OWN if (t := getattr(module, name, None)) is not None}
        if leaf is None or own & shared:
            continue
        parts = [(part_of(record, trace), trace) for record, trace in calls[id(module)]]
        inside = [t for part, trace in parts for t in _states(part, trace) if id(t) in own]
        if all(part for part, _ in parts) and len(inside) == sum(uses.get(t, 0) for t in own):
            whole = all(
                _is_whole(record, part)
                for (record, _), (part, _) in zip(calls[id(module)], parts, strict=True)
            )
            found[id(module)] = Base(leaf, whole)
    for trace in traces:
        for record in _records(trace.root):
            if record.repeats is not None:
                for name, module in record.repeats.module.named_modules():
                    if id(module) in found:
                        found[id(record.module.get_submodule(name))] = found[id(module)]
    return found


def part_of(record: CallRecord, trace: Trace) -> list[OpRecord]:
    """The operators of a call that are the layer's, its main one last; none if that is not there.

    BatchNorm counts its batches besides.
    """
    base = _base(record.module)
    wanted = _OPERATORS.get(base.__name__ if base else "")
    steps = [item for item in record.items if isinstance(item, OpRecord)]
    main = [s for s in steps if _name(s) == wanted and _fits(s, record.module, trace)]
    if len(main) != 1:
        return []
    counter = getattr(record.module, "num_batches_tracked", None)
    if wanted != "batch_norm" or not trace.training or counter is None:
        return main
    counts = [s for s in steps if _name(s) == "add_" and trace.states.get(s.args[0]) is counter]
    return [*counts, *main] if len(counts) == 1 and counts[0].args[1:] == (1,) else []


def _records(record: CallRecord) -> Iterator[CallRecord]:
    yield record
    for item in record.items:
        if isinstance(item, CallRecord):
            yield from _records(item)


def _states(items: list[Any], trace: Trace) -> Iterator[torch.Tensor]:
    """The parameters and buffers that operators read, once for each time."""
    for item in items:
        for node in item.node.all_input_nodes if isinstance(item, OpRecord) else ():
            if (tensor := trace.states.get(node)) is not None:
                yield tensor


def _shared(root: torch.nn.Module) -> set[int]:
    """Parameters and buffers that have more than one name."""
    count: dict[int, int] = {}
    for states in (root.named_parameters, root.named_buffers):
        for _, tensor in states(remove_duplicate=False):
            count[id(tensor)] = count.get(id(tensor), 0) + 1
    return {key for key, number in count.items() if number > 1}


def _base(module: torch.nn.Module) -> type | None:
    """The nearest class of ``torch.nn`` among a module's bases."""
    for cls in type(module).__mro__:
        if cls.__module__.startswith("torch.nn.modules"):
            return cls
    return None


def _extended(module: torch.nn.Module) -> Leaf | None:
    """The layer that a module's class derives from, if it replaces what that computes."""
    base = _base(module)
    if base is None or base.__name__ not in _OPERATORS or not hasattr(nn, base.__name__):
        return None
    hooks = module._forward_hooks or module._forward_pre_hooks
    if hooks or "forward" in vars(module) or hasattr(module, "parametrizations"):
        return None
    if leaves.match(module) is not None or getattr(module, "padding_mode", "zeros") != "zeros":
        return None
    return leaves.by_name(base.__name__, module)


def _name(record: OpRecord) -> str:
    return plain_name(record.node.target)


def _fits(record: OpRecord, module: torch.nn.Module, trace: Trace) -> bool:
    """Whether an operator is given what the module holds, under the operator's own names."""
    schema: Any = record.node.target._schema  # type: ignore[union-attr]
    given = dict(zip([a.name for a in schema.arguments], record.args, strict=False))
    given |= record.kwargs
    for argument in schema.arguments[1:]:
        name = argument.name
        if name.startswith("cudnn"):
            continue
        value = given.get(name, argument.default_value)
        if name == "training":
            if value != (trace.training or module.running_mean is None):
                return False
        elif isinstance(value, torch.fx.Node):
            if trace.states.get(value) is not getattr(module, name, None):
                return False
        elif not _equal(value, getattr(module, name, None)):
            return False
    return True


def _equal(value: Any, held: Any) -> bool:
    """Whether an operator's setting is the module's: [1, 1] is (1, 1) and 1."""
    if isinstance(value, (list, tuple)):
        held = tuple(held) if isinstance(held, (list, tuple)) else (held,) * len(value)
        return tuple(value) == held
    return bool(value == held)


def _is_whole(record: CallRecord, part: list[OpRecord]) -> bool:
    """Whether a call is its layer's operator on its only argument, and nothing else."""
    plain = len(record.args) == 1 and not record.kwargs and len(record.items) == len(part)
    return plain and part[-1].args[0] is record.args[0] and record.out is part[-1].node
