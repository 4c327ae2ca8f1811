"""What the porter works on: a tree of module calls over single-assignment values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = [
    "Call",
    "Op",
    "Param",
    "Size",
    "Value",
    "calls_of",
    "children_of",
    "map_tree",
    "nodes_of",
    "ops_below",
    "plain_name",
    "tree_values",
]


@dataclass(eq=False, slots=True, repr=False)
class Value:
    """One array: its shape at the traced sizes, its dtype, and the names torch's source has for it.

    ``order`` says which torch axis each axis of the Flax array is; ``None`` is torch's own order.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    dynamic: tuple[str, ...] = ()  # the symbol of each axis whose size is not fixed, or ""
    names: dict[int, list[str]] = field(default_factory=dict)
    order: tuple[int, ...] | None = None
    producer: Any = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbol of each axis, "" where its size is fixed."""
        return self.dynamic or ("",) * len(self.shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def layout(self) -> tuple[int, ...]:
        """The order of axes, always spelled out."""
        return tuple(range(self.rank)) if self.order is None else self.order


@dataclass(eq=False, slots=True)
class Param:
    """A parameter, buffer or constant tensor: where it lives, under each of its names."""

    paths: tuple[str, ...]
    tensor: torch.Tensor
    kind: str  # "parameter", "buffer" or "constant"


@dataclass(frozen=True, slots=True)
class Size:
    """A number with the expression that torch's source has for it.

    ``form`` is one of ``("dim", Value, axis)``, ``("attr", dotted path)``, ``("lit",)``,
    ``("op", symbol, left, right)``, ``("neg", operand)``, ``("call", name, operands)``.
    """

    value: Any
    form: tuple[Any, ...]


@dataclass(eq=False, slots=True, repr=False)
class Op:
    """One operator: ``aten`` name with overload, arguments, result, and where torch wrote it."""

    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any  # a Value, or a list of them
    where: str = ""
    hints: dict[Any, Any] = field(default_factory=dict)
    call_text: str = ""
    flow: bool = True  # False: gradients do not flow (torch.no_grad)
    modes: tuple[Op, Op] | None = None  # the same operator in evaluation and in training mode

    @property
    def name(self) -> str:
        """The operator without namespace and overload."""
        return plain_name(self.target)


@dataclass(eq=False, slots=True, repr=False)
class Call:
    """One call of a module: what went in under forward's names, what came out, what it did."""

    index: int
    path: str
    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any = None
    items: list[Any] = field(default_factory=list)
    parent: Call | None = None
    leaf: Any = None  # a leaves.Leaf when the module has a twin
    where: str = ""
    names: dict[str, Any] = field(default_factory=dict)  # forward's argument names -> trees
    chain: bool = False  # a plain Sequential: its children are called one after another
    flow: bool = True  # as of an operator
    own: bool = False  # the part of the layer that the module's class extends: super().__call__


def plain_name(target: Any) -> str:
    """An operator's name without ``aten`` and without its overload."""
    return str(target).removeprefix("aten.").partition(".")[0]


def tree_values(tree: Any) -> Iterator[Value]:
    """Yield the values in nested tuples, lists, dicts and numbers."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, Size):
        if tree.form[0] == "dim":
            yield tree.form[1]
        else:
            yield from tree_values(tree.form[1:])
    elif isinstance(tree, dict):
        for branch in tree.values():
            yield from tree_values(branch)
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            yield from tree_values(branch)
    elif isinstance(tree, slice):
        yield from tree_values((tree.start, tree.stop, tree.step))


def map_tree(function: Any, tree: Any) -> Any:
    """Rebuild a tree with ``function`` applied to every leaf."""
    if isinstance(tree, dict):
        return {key: map_tree(function, branch) for key, branch in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, branch) for branch in tree))
    if type(tree) in (tuple, list):
        return type(tree)(map_tree(function, branch) for branch in tree)
    if isinstance(tree, list):
        return [map_tree(function, branch) for branch in tree]
    if isinstance(tree, slice):
        return slice(*(map_tree(function, s) for s in (tree.start, tree.stop, tree.step)))
    return function(tree)


def nodes_of(tree: Any) -> list[Any]:
    """The nodes of torch's graph in a tree."""
    found: list[Any] = []
    map_tree(lambda leaf: found.append(leaf) if isinstance(leaf, torch.fx.Node) else None, tree)
    return found


def children_of(call: Call) -> Iterator[Call]:
    """Yield the calls made directly by a call, in order."""
    return (item for item in call.items if isinstance(item, Call))


def calls_of(call: Call) -> Iterator[Call]:
    """Yield a call and the calls in it, each before those in it."""
    yield call
    for item in call.items:
        if isinstance(item, Call):
            yield from calls_of(item)


def ops_below(call: Call) -> Iterator[Any]:
    """Yield operators and leaf calls in the order of execution."""
    if call.leaf is not None:
        yield call
    for item in call.items:
        if isinstance(item, Call) and item.leaf is None:
            yield from ops_below(item)
        else:
            yield item
