"""Arrays whose number of rows depends on values: ``x[mask]``, and what a mixture of experts does.

A compiled program needs sizes beforehand. Such an array gets as many rows as there could be, and
those after the last have no meaning. That is right as long as every operator treats the rows
alone, and only the meaningful ones are written back: what this file makes sure of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch

from .axes import PERMUTES, RESHAPES, named_axes
from .ir import Call, Op, Size, Value, calls_of, plain_name, tree_values
from .lower import ELEMENTWISE
from .words import Obstacle

__all__ = ["bound", "is_open", "mixed_rows", "open_axes", "open_symbols"]

_OPEN = re.compile(r"\bu\d+\b")
_LAYERS = ("Linear", "LayerNorm", "RMSNorm")
_MAPS = ("Conv1d", "Conv2d", "Conv3d")
_PASS = ("detach", "same", "clone", "alias", "to", "_to_copy", "type_as", "native_dropout")
_MADE = ("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty")
_PLACES = ("nonzero", "nonzero_numpy")
_PRODUCTS = ("matmul", "mm", "bmm", "addmm", "linear")
_STEPS = ("unbind", "select", "squeeze", "unsqueeze", *RESHAPES, *_PASS)


def is_open(size: Any) -> bool:
    """Whether a size of a traced array depends on values."""
    return isinstance(size, torch.SymInt) and size.node.hint is None


def bound(node: torch.fx.Node, hinted: Callable[[Any], int]) -> int | None:
    """How many rows an operator can give at most; None where it is not known."""
    name, arguments = plain_name(node.target), list[Any](node.args)
    if name in _PLACES or name == "where" and len(arguments) == 1:
        chooses = arguments[0].meta["val"]
    elif name == "index" and len(entries := _entries(arguments[1])) == 1:
        chooses = entries[0].meta["val"]
    elif name == "masked_select" and _shape(arguments[0]) == _shape(arguments[1]):
        chooses = arguments[1].meta["val"]
    else:
        return None
    if name == "index" and chooses.dtype != torch.bool:
        return None
    return None if any(map(is_open, chooses.shape)) else math.prod(map(hinted, chooses.shape))


def _entries(index: Any) -> list[Any]:
    """The entries of a subscript up to the last that is one."""
    entries = list(index)
    while entries and entries[-1] is None:
        entries.pop()
    return entries


def _shape(node: Any) -> list[str]:
    return [str(size) for size in node.meta["val"].shape]


def open_symbols(size: Any) -> set[str]:
    """The numbers of rows that a size, or a question about sizes, is made of."""
    return set(_OPEN.findall(str(size)))


def open_axes(value: Value) -> list[int]:
    """The axes whose size depends on values."""
    return [axis for axis, symbol in enumerate(value.symbols) if open_symbols(symbol)]


def mixed_rows(root: Call) -> list[Obstacle]:
    """Every place where rows without meaning would count."""
    found = []
    for call in calls_of(root):
        for item in call.items:
            if isinstance(item, Op):
                right = not _touches_rows(item) or _operator(item)
            else:
                right = item.leaf is None or not _touches_rows(item) or _layer(item)
            if not right:
                name = item.target if isinstance(item, Op) else item.leaf.name
                what = (
                    f"{name} among rows whose number depends on values: a compiled program has as "
                    "many as there could be. Rewrite it with a mask or with torch.where"
                )
                found.append(Obstacle(call.path, what, item.where))
    if any(open_axes(v) for v in tree_values(root.out)):
        found.append(Obstacle("", "returns rows whose number depends on values", ""))
    return found


def _touches_rows(item: Any) -> bool:
    trees = (item.args, item.kwargs, item.out)
    return bool(_numbers(item)) or any(open_axes(v) for v in tree_values(trees))


def _numbers(item: Any) -> list[Size]:
    """The numbers among the arguments that depend on how many rows there are."""
    return [size for size in _sizes((item.args, item.kwargs)) if open_symbols(size.value)]


def _sizes(tree: Any) -> Iterator[Size]:
    if isinstance(tree, Size):
        yield tree
    elif isinstance(tree, dict):
        yield from _sizes(list(tree.values()))
    elif isinstance(tree, (tuple, list)):
        for branch in tree:
            yield from _sizes(branch)
    elif isinstance(tree, slice):
        yield from _sizes((tree.start, tree.stop, tree.step))


def _layer(call: Call) -> bool:
    """Whether a layer treats the rows alone."""
    values = [v for v in tree_values((call.args, call.kwargs)) if open_axes(v)]
    name, module = call.leaf.name, cast("Any", call.module)
    if call.leaf.axes().elementwise or name == "Embedding":
        return True
    if name in _MAPS:
        return all(open_axes(v) == [0] and v.rank == int(name[4]) + 2 for v in values)
    if name in _LAYERS:
        mixed = 1 if name == "Linear" else len(module.normalized_shape)
        return all(max(open_axes(v)) < v.rank - mixed for v in values)
    return False


def _name(op: Op) -> str:
    return op.target.removeprefix("fluxmod.") if op.name == "fluxmod" else op.name


def _operator(op: Op) -> bool:
    """Whether an operator treats the rows alone, or writes the meaningful ones."""
    name = _name(op)
    values = [v for v in tree_values(op.args) if open_axes(v)]
    outs = list(tree_values(op.out))
    if name in _MADE:
        return True
    if name in ("expand", "expand_as"):
        return len(open_axes(op.args[0])) <= 1
    if name in (*RESHAPES, "squeeze", "unsqueeze"):
        return _in_order(op.args[0], outs[0])
    if _numbers(op):
        return False
    if name in ELEMENTWISE or name in _PASS or name in PERMUTES:
        return True
    if name in ("nonzero", "places", "rows"):
        return not any(open_axes(v) for v in values)
    if name in ("index", "index_select", "embedding", "gather", "slice"):
        return _reads(op, name)
    if name in ("index_put", "index_add", "index_copy", "index_fill"):
        return _writes(op, name)
    if name == "split_rows":
        return not open_axes(op.args[0])
    if name == "join_rows":
        return all(open_axes(piece) == [0] for piece in op.args[0])
    if name == "masked_scatter":
        return open_axes(op.args[2]) == [0] and len(values) == 1
    if name in ("cat", "stack"):
        dim = op.kwargs.get("dim", op.args[1] if len(op.args) > 1 else 0)
        joined = values if name == "cat" else outs
        return not any(dim % outs[0].rank in open_axes(v) for v in joined)
    if name in _PRODUCTS:
        return _product(op, name, outs[0])
    if name in ("layer_norm", "rms_norm"):
        return max(open_axes(op.args[0])) < op.args[0].rank - len(op.args[1])
    if (dims := named_axes(op)) is not None:
        axes = dims if isinstance(dims, (list, tuple)) else [dims]
        return not any(axis % v.rank in open_axes(v) for v in values for axis in axes)
    return False


def _in_order(value: Value, out: Value) -> bool:
    """Whether the rows of an array are, one by one, those of what it is regrouped to."""
    before, after = open_axes(value), open_axes(out)
    if len(before) != 1 or len(after) != 1:
        return False
    same = value.symbols[before[0]] == out.symbols[after[0]]
    lead = math.prod(value.shape[: before[0]]), math.prod(out.shape[: after[0]])
    return same and lead[0] == lead[1]


def _reads(op: Op, name: str) -> bool:
    """Rows may say which entries are read; they may not be picked from by place."""
    source, entries = op.args[:2]
    axes = open_axes(source)
    if name == "index":
        return all(a >= len(entries) or entries[a] is None for a in axes)
    return not axes or (name != "embedding" and entries % source.rank not in axes)


def _writes(op: Op, name: str) -> bool:
    """Rows are written where a mask is true, or at places that ``nonzero`` gave."""
    base, new = op.args[0], op.args[3] if name != "index_put" else op.args[2]
    if open_axes(base):
        return False
    if name != "index_put":
        index = op.args[2]
        fits = (
            not isinstance(new, Value) or op.args[1] % base.rank in open_axes(new) or not new.rank
        )
        return bool(open_axes(index)) and _is_place(index) and fits
    entries = [e for e in op.args[1] if e is not None]
    if len(entries) == 1 and entries[0].dtype == torch.bool:
        return op.args[1][0] is entries[0] and isinstance(new, Value) and open_axes(new)[:1] == [0]
    places = [e for e in entries if open_axes(e)]
    rows = not isinstance(new, Value) or open_axes(new) in ([], [0])
    return bool(places) and all(map(_is_place, places)) and rows


def _is_place(index: Any) -> bool:
    """Whether places come from ``nonzero`` as they are: those without meaning are behind the end.

    A place that was computed with, or read from an array, may be inside of it.
    """
    while isinstance(index, Value) and isinstance(index.producer, Op):
        op = index.producer
        name = _name(op)
        if name in ("nonzero", "places"):
            return True
        if name not in _STEPS:
            return False
        index = op.args[0]
    return False


def _product(op: Op, name: str, out: Value) -> bool:
    """Whether rows are outside of the axes that a product sums over."""
    left, right = op.args[1:3] if name == "addmm" else op.args[:2]
    inner = right.rank - 1 if name == "linear" or right.rank == 1 else right.rank - 2
    summed = left.rank - 1 in open_axes(left) or inner in open_axes(right)
    return not summed and len(open_axes(out)) == 1
