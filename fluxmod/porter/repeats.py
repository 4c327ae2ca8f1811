"""Calls that do what an earlier call did are not traced again.

Forty-eight equal blocks are traced once. A call repeats an earlier one if its module has the same
classes, attributes and shapes of weights below it, and its arguments the same sizes: then torch's
Python would run the same way. Calls that write into what they are given, return it, use what
others hold or change attributes are always traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.utils._pytree as pytree
from torch.fx import _symbolic_trace
from torch.nn.utils.parametrize import ParametrizationList

from . import leaves
from .ir import Call, Op, Param, Size, Value, map_tree, nodes_of
from .words import identity

__all__ = ["Repeats", "cloned"]

_OWN = frozenset(vars(torch.nn.Module()))
_PLAIN = (int, float, bool, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


class Repeats:
    """What has been traced so far, by what decides how Python runs."""

    def __init__(self, root: torch.nn.Module, repeating: bool = True) -> None:
        self.root = root
        self.repeating = repeating
        self.watching = False  # whether anything here has touched the tracing
        self.paths: dict[int, str] = {}
        self.several: set[int] = set()  # modules and tensors that are held in more than one place
        tensors: dict[int, str] = {}
        self.shapes: dict[str, Any] = {}
        for path, module in root.named_modules(remove_duplicate=False):
            if self.paths.setdefault(id(module), path) != path:
                self.several.add(id(module))
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    where = f"{path}.{name}"
                    self.shapes[where] = tensor if tensor is None else _described(tensor)
                    if tensor is not None and tensors.setdefault(id(tensor), where) != where:
                        self.several.add(id(module))
                        self.several.add(
                            id(root.get_submodule(tensors[id(tensor)].rpartition(".")[0]))
                        )
        self.traced: dict[Any, list[tuple[dict[Any, Any], Any]]] = {}
        self.outs: dict[int, Any] = {}
        self.reads: list[set[tuple[int, str]]] = []
        self.aside: dict[int, dict[str, Any]] = {}
        self.held: list[Any] = []

    # --- numbers that count the modules, such as layer_idx

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take numbers that differ between modules of a class out of sight, to see who asks."""
        counting = list(self._counting()) if self.repeating else []
        self.watching = bool(counting)
        if not counting:  # then nobody's lookup of attributes is touched
            yield
            return
        for module, names in counting:
            self.aside[identity(module)] = {name: vars(module).pop(name) for name in names}
        missing = torch.nn.Module.__getattr__

        def look(module: Any, name: str) -> Any:
            kept = self.aside.get(identity(module), {})
            if name not in kept:
                return missing(module, name)
            for reads in self.reads:
                reads.add((identity(module), name))
            return kept[name]

        try:
            # torch.fx puts its own lookup in the place of the first, and asks the second
            with (
                mock.patch.object(torch.nn.Module, "__getattr__", look),
                mock.patch.object(_symbolic_trace, "_orig_module_getattr", look),
            ):
                yield
        finally:
            for module in self.root.modules():
                vars(module).update(self.aside.pop(identity(module), {}))

    def _counting(self) -> Iterator[tuple[torch.nn.Module, list[str]]]:
        by_class: dict[type, list[torch.nn.Module]] = {}
        for module in self.root.modules():
            if leaves.torch_base(type(module)) is None:
                by_class.setdefault(type(module), []).append(module)
        for modules in by_class.values():
            values: dict[str, set[Any]] = {}
            for module in modules:
                for name, value in vars(module).items():
                    if name not in _OWN and type(value) in (int, float, str):
                        values.setdefault(name, set()).add(value)
            differing = {name for name, found in values.items() if len(found) > 1}
            for module in modules:
                if names := sorted(differing & {*vars(module)}):
                    yield module, names

    # --- what decides

    def key(self, module: torch.nn.Module, args: Any, kwargs: Any, node_of: Any) -> Any:
        """All that a call depends on but weights and the numbers set aside; None: trace it."""
        if not self.repeating or not any(True for _ in module.children()):
            return None
        if isinstance(module, ParametrizationList):  # runs where a weight is looked up
            return None
        structure = self.structure(module)
        given, spec = pytree.tree_flatten((args, kwargs))
        if structure is None:
            return None
        shown: list[Any] = []
        nodes: list[Any] = []
        for leaf in given:
            if isinstance(leaf, torch.Tensor):
                node = node_of(leaf)
                if node is None or node.op == "get_attr":
                    return None
                nodes.append(node)
                sizes = (str(tuple(leaf.shape)), str(leaf.stride()), leaf.dtype, leaf.requires_grad)
                shown.append((sizes, nodes.index(node)))
            elif isinstance(leaf, torch.SymInt):
                shown.append(str(leaf))
            else:
                self.held.append(leaf)
                shown.append(_shown(leaf))
        modes = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
        return (structure, tuple(shown), str(spec), modes)

    def structure(self, module: torch.nn.Module) -> Any:
        """The classes, attributes and shapes below a module; None where a part is shared."""
        rows: list[Any] = []
        for name, each in module.named_modules(remove_duplicate=False):
            path = self.paths.get(id(each))
            if path is None or id(each) in self.several or _hooked(each):
                return None
            attributes = tuple(
                (k, _shown(v)) for k, v in sorted(vars(each).items()) if k not in _OWN
            )
            tensors = [(n, self.shapes[f"{path}.{n}"]) for n in (*each._parameters, *each._buffers)]
            aside = tuple(self.aside.get(identity(each), ()))
            rows.append((name, type(each), each.training, attributes, tuple(tensors), aside))
        return tuple(rows)

    # --- asking and learning

    @contextmanager
    def reading(self) -> Iterator[set[tuple[int, str]]]:
        """Collect who asks for which number that was set aside."""
        reads: set[tuple[int, str]] = set()
        self.reads.append(reads)
        try:
            yield reads
        finally:
            self.reads.pop()

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Look at numbers without asking for them as forward does."""
        reads, self.reads = self.reads, []
        try:
            yield
        finally:
            self.reads = reads

    def find(self, key: Any, module: torch.nn.Module) -> Any:
        """The record of an earlier call that this one repeats."""
        for read, record in self.traced.get(key, ()):
            if all(self._value(module, *place) == value for place, value in read.items()):
                for (path, name), _ in read.items():
                    for reads in self.reads:
                        reads.add((identity(module.get_submodule(path)), name))
                self.watching = True
                return record
        return None

    def _value(self, module: torch.nn.Module, path: str, name: str) -> Any:
        return self.aside[identity(module.get_submodule(path))][name]

    def outputs(self, record: Any) -> Any:
        """New tensors like those that the earlier call returned."""

        def new(tensor: Any) -> Any:
            if not isinstance(tensor, torch.Tensor):
                return tensor
            if tensor.is_contiguous():
                return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
            size, stride = tensor.size(), tensor.stride()
            return torch.empty_strided(size, stride, dtype=tensor.dtype, device=tensor.device)

        return pytree.tree_map(new, self.outs[id(record)])

    def learn(self, key: Any, record: Any, reads: set[tuple[int, str]], out: Any) -> None:
        """Remember a call that was traced, if another may repeat it."""
        inside = {identity(m): n for n, m in record.module.named_modules()}
        structure = self.structure(record.module)
        if structure != key[0] or any(owner not in inside for owner, _ in reads):
            return
        if not _plain_result(out) or not _self_contained(record):
            return
        self.outs[id(record)] = out
        values = {(inside[owner], name): self.aside[owner][name] for owner, name in reads}
        self.traced.setdefault(key, []).append((values, record))


def _described(tensor: torch.Tensor) -> Any:
    return (tuple(tensor.shape), tensor.dtype, tensor.requires_grad, type(tensor))


def _hooked(module: torch.nn.Module) -> bool:
    own = vars(module)
    return any(own[name] for name in _OWN & {*own} if "forward" in name)


def _shown(value: Any) -> Any:
    """A value that compares equal where Python would take the same way; others by identity."""
    if isinstance(value, _PLAIN):
        return (type(value).__name__, value)
    if type(value) in (tuple, list, set, frozenset):
        return (type(value).__name__, *(_shown(v) for v in value))
    if type(value) is dict:
        return ("dict", *((_shown(k), _shown(v)) for k, v in value.items()))
    return ("object", id(value))


def _plain_result(out: Any) -> bool:
    """Whether a result is made of distinct tensors in plain containers."""
    found, _ = pytree.tree_flatten(out)
    tensors = [t for t in found if isinstance(t, torch.Tensor)]
    plain = all(t is None or isinstance(t, torch.Tensor) for t in found)
    containers = isinstance(out, torch.Tensor) or type(out) in (tuple, list, dict)
    return plain and containers and len({id(t) for t in tensors}) == len(tensors) > 0


def _self_contained(record: Any) -> bool:
    """Whether a call reads only its arguments and its own weights, and writes to neither."""
    below = f"{record.path}."
    given = {id(n): n for n in nodes_of((record.args, record.kwargs))}
    made: set[int] = set()
    memory = {_memory(n) for n in given.values()}
    for call, op in _ops(record):
        if not call.path.startswith(below) and call is not record:
            return False
        target = op.node.target
        for node in nodes_of((op.args, op.kwargs)):
            if id(node) in made or id(node) in given or node.op in ("placeholder", "get_attr"):
                continue
            if not isinstance(node.meta.get("val"), torch.SymInt):
                return False
        made.add(id(op.node))
        if isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable:
            leaf = leaves.match(call.module) is not None
            if not leaf and any(
                _memory(n) in memory or n.op in ("placeholder", "get_attr")
                for n in nodes_of(op.args[:1])
            ):
                return False
    results = nodes_of(record.out)
    states = {
        _memory(n) for _, op in _ops(record) for n in nodes_of(op.args) if n.op != "call_function"
    }
    return all(id(n) in made and _memory(n) not in memory | states for n in results)


def _ops(record: Any) -> Iterator[tuple[Any, Any]]:
    for item in record.items:
        if hasattr(item, "node"):
            yield record, item
        else:
            yield from _ops(item)


def _memory(node: Any) -> Any:
    val = node.meta.get("val")
    return val.untyped_storage()._cdata if isinstance(val, torch.Tensor) else id(node)


def cloned(call: Call, fresh: Call, states: dict[str, Value]) -> Call:
    """Do in ``fresh`` what ``call`` does, with its own arguments, weights and values.

    Args:
        call: the normalised call that was traced.
        fresh: the call that repeats it; its arguments are set, the rest is filled in.
        states: parameters and buffers by path.
    """
    offset = fresh.index - call.index
    last = _last(call)
    values: dict[int, Value] = {}

    def rename(old: Value, new: Value) -> None:
        for index, names in list(old.names.items()):
            if call.index <= index <= last:
                new.names.setdefault(index + offset, list(names))

    def path(old: str) -> str:
        return fresh.path + old[len(call.path) :]

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Size):
            return Size(leaf.value, map_tree(one, leaf.form))
        if not isinstance(leaf, Value):
            return leaf
        if id(leaf) not in values:
            values[id(leaf)] = leaf
            if isinstance(leaf.producer, Param):
                for place in leaf.producer.paths:
                    if place.startswith(f"{call.path}.") and path(place) in states:
                        values[id(leaf)] = states[path(place)]
            rename(leaf, values[id(leaf)])
        return values[id(leaf)]

    def made(producer: Any) -> Any:
        def new(leaf: Any) -> Any:
            if not isinstance(leaf, Value):
                return leaf
            value = Value(leaf.shape, leaf.dtype, leaf.dynamic, producer=producer)
            values[id(leaf)] = value
            rename(leaf, value)
            return value

        return new

    def items(source: Call, target: Call) -> None:
        for item in source.items:
            if isinstance(item, Op):
                op = Op(
                    item.target, map_tree(one, item.args), map_tree(one, item.kwargs), None,
                    item.where, map_tree(one, item.hints), item.call_text, item.flow,
                )  # fmt: skip
                op.out = map_tree(made(op), item.out)
                target.items.append(op)
                continue
            below = item.path[len(call.path) + 1 :]
            inner = Call(
                item.index + offset, path(item.path), fresh.module.get_submodule(below),
                map_tree(one, item.args), map_tree(one, item.kwargs),
                parent=target, leaf=item.leaf, where=item.where, flow=item.flow, own=item.own,
            )  # fmt: skip
            if item.leaf is None:
                items(item, inner)
                inner.out = map_tree(one, item.out)
            else:
                inner.out = map_tree(made(inner), item.out)
            target.items.append(inner)

    for old, new in zip(
        _values((call.args, call.kwargs)), _values((fresh.args, fresh.kwargs)), strict=True
    ):
        values[id(old)] = new
        rename(old, new)
    items(call, fresh)
    fresh.out = map_tree(one, call.out)
    return fresh


def _values(tree: Any) -> list[Value]:
    found: list[Value] = []
    map_tree(lambda leaf: found.append(leaf) if isinstance(leaf, Value) else None, tree)
    return found


def _last(call: Call) -> int:
    return max([call.index, *(_last(item) for item in call.items if isinstance(item, Call))])
