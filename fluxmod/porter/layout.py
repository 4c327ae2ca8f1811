"""The order of axes of every array: channels last where convolutions want it.

A value carries the torch axis that each of its Flax axes is. Convolutions, poolings and norms over
maps take and give channels-last arrays by the declaration of their layer; elementwise operators
keep what they get; permutations that only bring a map into or out of channels-last order cost
nothing; everything else works in torch's order. What remains is one explicit transpose at each
genuine boundary.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from .axes import MAPS, PERMUTES, REDUCE, RESHAPES, axis_place, demand, named_axes
from .ir import Call, Op, Size, Value, calls_of, map_tree, tree_values
from .leaves import Leaf
from .orders import (
    declared,
    extent,
    last,
    moved_pairs,
    permutation,
    plain_or,
    regroup,
    sizes_of,
    vector_behind,
)
from .partition import is_chain, replace

__all__ = ["assign"]


def assign(graph: Any, elementwise: frozenset[str], *, torch: bool) -> None:
    """Set the order of every value, rewrite axes, and insert the transposes that remain.

    Args:
        graph: the call tree and the model's inputs; changed in place.
        elementwise: names of operators that keep the order of their operands.
        torch: keep torch's order at the model's boundary.
    """
    root: Call = graph.root
    wanted, regrouped = demand(root, elementwise)
    for value in graph.inputs:
        if not torch and id(value) in wanted and value.rank > 2:
            value.order = last(value.rank)
    if root.leaf is None:
        calls = Counter(id(c.module) for c in calls_of(root) if c.leaf is None)
        work = _Layout(elementwise, wanted, regrouped, {m for m, n in calls.items() if n > 1})
        work.call(root)
        if torch:
            work.items, work.where = root.items, root.index
            root.out = work.plain(root.out)


class _Layout:
    def __init__(
        self,
        elementwise: frozenset[str],
        wanted: set[int],
        regrouped: set[int],
        repeated: set[int],
    ) -> None:
        self.repeated = repeated  # modules that are called more than once
        self.agreed: dict[int, list[tuple[int, ...]]] = {}  # the layouts of what they are given
        self.regrouped = regrouped
        self.elementwise = elementwise
        self.wanted = wanted
        self.items: list[Any] = []
        self.made: dict[tuple[int, Any, int], Value] = {}
        self.where = 0

    def call(self, call: Call) -> None:
        saved = self.items, self.where
        self.items, self.where = [], call.index
        for item in call.items:
            if not isinstance(item, Call):
                self.op(item)
                self.items.append(item)
            elif item.leaf is not None:
                self.leaf(item)
                self.items.append(item)
            else:
                self.enter(item)
                self.agree(item)
                self.call(item)
                self.items.append(item)
        call.items = self.items
        self.items, self.where = saved

    def enter(self, call: Call) -> None:
        """Bring a Sequential's argument into the order that its first layer wants, out here."""
        inside, deeper = [], call
        while is_chain(deeper.module) and len(deeper.args) == 1 and deeper.items:
            inside.append(deeper)
            first = deeper.items[0]
            if not isinstance(first, Call) or first.args != deeper.args:
                return
            deeper = first
            if first.leaf is not None:
                value = first.args[0]
                if not isinstance(value, Value) or first.leaf.axes().elementwise:
                    return
                order = declared(first.leaf.axes().of_input(0), value.rank)
                if order is not None:
                    moved = self.ordered(value, order)
                    for each in [*inside, first]:
                        each.args = (moved,)
                return

    def agree(self, call: Call) -> None:
        """Give every call of a module its arrays in one layout: its code is written once."""
        if id(call.module) not in self.repeated:
            return
        given = list({id(v): v for v in tree_values((call.args, call.kwargs))}.values())
        known = self.agreed.get(id(call.module))
        if known is None:
            wanted = [id(v) in self.wanted and v.rank > 2 for v in given]
            known = [
                (last(v.rank) or v.layout) if w else v.layout
                for v, w in zip(given, wanted, strict=True)
            ]
            self.agreed[id(call.module)] = known
        if [len(layout) for layout in known] != [v.rank for v in given]:
            return  # another form, and other code
        for value, layout in zip(given, known, strict=True):
            moved = self.ordered(value, plain_or(layout))
            if moved is not value:
                replace([call], value, moved)
                for inner in calls_of(call):
                    if inner.leaf is None and inner.index in value.names:
                        moved.names[inner.index] = value.names[inner.index]

    # --- bringing values into an order

    def ordered(self, value: Value, order: tuple[int, ...] | None) -> Value:
        """The value with its axes in that order: itself, or a transpose inserted here."""
        if value.layout == (order or tuple(range(value.rank))):
            return value
        key = (id(value), order, self.where)
        if key not in self.made:
            target = order or tuple(range(value.rank))
            if (spread := self.spread(value, target)) is not None:
                self.made[key] = spread
                return spread
            perm = tuple(value.layout.index(axis) for axis in target)
            out = Value(value.shape, value.dtype, value.dynamic, order=order)
            plain = [value.shape[a] for a in value.layout]
            moving = [a for a in perm if plain[a] != 1 or value.symbols[value.layout[a]]]
            if moving == sorted(moving) and [value.shape[a] for a in target] == plain:
                return value  # only axes of size one would move
            if moving == sorted(moving) and value.rank > 1:
                sizes = tuple(extent(value, a) for a in target)
                op = Op("reshape.default", (value, list(sizes)), {}, out)
            else:
                op = Op("permute.default", (value, list(perm)), {}, out)
            out.producer = op
            self.items.append(op)
            self.made[key] = out
        return self.made[key]

    def spread(self, value: Value, target: tuple[int, ...]) -> Value | None:
        """``x[:, :, None, None]`` as ``x[:, None, None]``: new axes go where they are wanted."""
        op = value.producer
        if not isinstance(op, Op) or value.order is not None:
            return None
        if op.target == "fluxmod.getitem":
            entries = list(op.args[1])
        elif op.name == "unsqueeze" and isinstance(op.args[1], int):
            entries = [slice(None)] * op.args[0].rank
            entries.insert(op.args[1] % value.rank, None)
        else:
            return None
        base = op.args[0]
        if base.order is not None or any(e is not None and e != slice(None) for e in entries):
            return None
        kept = [a for a in target if entries[a] is not None]
        if None not in entries or kept != sorted(kept):
            return None
        out = Value(value.shape, value.dtype, value.dynamic, order=plain_or(target))
        moved = [entries[a] for a in target]
        out.producer = Op("fluxmod.getitem", (base, moved), {}, out, op.where)
        self.items.append(out.producer)
        return out

    def plain(self, tree: Any) -> Any:
        """Every value of a tree in torch's order."""
        return map_tree(lambda v: self.ordered(v, None) if isinstance(v, Value) else v, tree)

    # --- layers

    def leaf(self, call: Call) -> None:
        leaf: Leaf = call.leaf
        axes = leaf.axes()
        outs = list(tree_values(call.out))
        first = next(tree_values(call.args), None)
        if first is not None and self.special(call, leaf, first, outs):
            return
        if axes.elementwise or leaf.name == "Identity":
            for out in outs:
                out.order = first.order if first is not None else None
            return
        call.args = tuple(
            map_tree(
                lambda v, i=i: (
                    self.ordered(v, declared(axes.of_input(i), v.rank))
                    if isinstance(v, Value)
                    else v
                ),
                tree,
            )
            for i, tree in enumerate(call.args)
        )
        call.kwargs = {
            k: map_tree(
                lambda v, k=k: (
                    self.ordered(v, declared(axes.of_input(k), v.rank))
                    if isinstance(v, Value)
                    else v
                ),
                tree,
            )
            for k, tree in call.kwargs.items()
        }
        for index, out in enumerate(outs):
            out.order = declared(axes.of_output(index), out.rank)

    def special(self, call: Call, leaf: Leaf, value: Value, outs: list[Value]) -> bool:
        """Layers that work in either order, told so by an argument."""
        args = dict(leaf.args)
        if leaf.name == "Flatten":
            start = args.get("start_dim", 1) % value.rank
            end = args.get("end_dim", -1) % value.rank
            if value.order is None:
                if value.rank in (4, 5):
                    call.leaf = Leaf(leaf.name, args | {"channels_last": False})
                return True
            if value.order != last(value.rank) or start < 1:
                return False
            if (start, end) == (1, value.rank - 1):
                if value.rank not in (4, 5):
                    call.leaf = Leaf(leaf.name, args | {"channels_last": True})
                return True
            if start >= 2 and end == value.rank - 1:
                call.leaf = Leaf(leaf.name, {"end_dim": value.rank - 2})
                outs[0].order = last(outs[0].rank)
                return True
            return False
        if leaf.name == "Unflatten":
            if outs[0].rank in (4, 5) and args.get("dim", 0) % value.rank == 1:
                if id(outs[0]) in self.wanted:
                    outs[0].order = last(outs[0].rank)
                else:
                    call.leaf = Leaf(leaf.name, args | {"channels_last": False})
                return True
            return False
        if value.order is None:
            return False
        axes = leaf.axes()
        same = axes.elementwise or axes == type(axes)()
        if "dim" in args and isinstance(args["dim"], int) and same:
            dim = value.order.index(args["dim"] % value.rank)
            dim = -1 if dim == value.rank - 1 else dim
            call.leaf = Leaf(leaf.name, args | {"dim": dim})
            for out in outs:
                out.order = value.order
            return True
        shape = args.get("normalized_shape")
        if isinstance(shape, tuple) and len(shape) == value.rank - 1 and len(shape) > 1:
            if value.order == last(value.rank):
                flax = (*shape[1:], shape[0])
                call.leaf = Leaf(
                    leaf.name, args | {"normalized_shape": flax, "channels_last": True}
                )
                outs[0].order = value.order
                return True
        return False

    # --- operators

    def op(self, op: Op) -> None:
        name = op.name
        outs = list(tree_values(op.out))
        values = list(tree_values((op.args, op.kwargs)))
        if not outs:
            return
        if op.target == "fluxmod.store":
            op.args = (op.args[0], self.ordered(op.args[1], None))
            return
        if op.target == "fluxmod.same":
            outs[0].order = values[0].order
            return
        if name in self.elementwise or op.target in self.elementwise:
            self.broadcast(op, outs, values)
        elif name in MAPS:
            self.on_map(op, outs)
        elif op.target == "fluxmod.getitem":
            self.subscript(op, outs[0])
        elif op.target == "fluxmod.write_back":
            op.args = self.plain(op.args)
        elif name in PERMUTES:
            self.permute(op, outs[0])
        elif all(v.order is None for v in values) and name not in (*RESHAPES, "unsqueeze"):
            return
        elif name in ("cat", "stack") and self.join(op, outs[0]):
            return
        elif (dims := named_axes(op)) is not None:
            self.along(op, outs, dims)
        elif name in RESHAPES:
            self.reshape(op, outs[0])
        elif name == "unsqueeze":
            self.unsqueeze(op, outs[0])
        elif name in ("expand", "expand_as", "repeat", "tile"):
            self.expand(op, outs[0])
        elif name in ("constant_pad_nd", "pad"):
            self.pad(op, outs[0])
        elif name in REDUCE and name not in ("argmax", "argmin", "squeeze"):
            return  # one number of all axes
        else:
            op.args, op.kwargs = self.plain(op.args), self.plain(op.kwargs)

    def broadcast(self, op: Op, outs: list[Value], values: list[Value]) -> None:
        rank = outs[0].rank
        orders = [v.order for v in values if v.rank == rank and v.order is not None]
        if not orders:
            if any(v.order is not None for v in values):
                op.args, op.kwargs = self.plain(op.args), self.plain(op.kwargs)
            return
        order = orders[0]
        op.args = map_tree(lambda v: self.aligned(v, order), op.args)
        op.kwargs = map_tree(lambda v: self.aligned(v, order), op.kwargs)
        for out in outs:
            out.order = order

    def aligned(self, value: Any, order: tuple[int, ...]) -> Any:
        """A value that broadcasts against an array of that order."""
        if not isinstance(value, Value) or value.rank == 0:
            return value
        if value.rank == len(order):
            return self.ordered(value, order)
        value = self.ordered(value, None)
        if (vector := vector_behind(value)) is not None and order[-1] == len(order) - value.rank:
            return vector  # ``weight[:, None, None]`` of torch is ``weight`` with channels last
        missing = len(order) - value.rank
        axes = [a - missing for a in order]
        while axes and axes[0] < 0:
            axes.pop(0)
        sizes = [(extent(value, a) if a >= 0 else 1) for a in axes]
        out = Value(
            tuple(value.shape[a] if a >= 0 else 1 for a in axes), value.dtype, producer=None
        )
        present = [a for a in axes if a >= 0 and value.shape[a] != 1]
        if present == sorted(present):
            if tuple(out.shape) == value.shape or not present[1:] and out.shape[-1:] == value.shape:
                return value
            op = Op("reshape.default", (value, list(sizes)), {}, out)
        elif min(axes) >= 0:
            op = Op("permute.default", (value, axes), {}, out)
        else:
            moved = self.ordered(value, tuple(a for a in axes if a >= 0))
            op = Op("reshape.default", (moved, list(sizes)), {}, out)
        if value.rank == 1 and len(present) == 1 and out.shape[-1] == value.shape[0]:
            return value
        out.producer = op
        self.items.append(op)
        return out

    def on_map(self, op: Op, outs: list[Value]) -> None:
        value = op.args[0]
        order = last(value.rank)
        spatial = re.match(r"(?:conv|adaptive|avg|max)\w*?_?([123])d", op.name)
        if spatial and value.rank == int(spatial[1]) + 1:  # no batch axis
            order = (*range(1, value.rank), 0)
        op.args = (self.ordered(value, order), *self.plain(op.args[1:]))
        for out in outs:
            columns = last(out.rank) if op.name in ("im2col", "col2im") else None
            out.order = order if len(order) == out.rank else columns

    def axis(self, value: Value, dim: int) -> int:
        """The Flax axis of a torch axis; counted from the end where it is the last."""
        if value.order is None:
            return dim
        place = value.order.index(dim % value.rank)
        return -1 if place == value.rank - 1 else place

    def join(self, op: Op, out: Value) -> bool:
        values = list(op.args[0])
        orders = [v.order for v in values if v.order is not None]
        dim = op.args[1] if len(op.args) > 1 else op.kwargs.get("dim", 0)
        if op.name == "stack":
            op.args, op.kwargs = self.plain(op.args), self.plain(op.kwargs)
            return True
        order = orders[0]
        moved = [self.ordered(v, order) if v.rank == len(order) else v for v in values]
        out.order = order
        op.args, op.kwargs = (moved, self.axis(out, dim)), {}
        return True

    def along(self, op: Op, outs: list[Value], dims: Any) -> None:
        """Operators over one or several axes."""
        value = op.args[0]
        args = list(op.args)
        axes = [d % value.rank for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
        moved: Any = sorted(self.axis(value, a) % value.rank for a in axes)
        if op.name in ("roll", "flip"):
            moved = [self.axis(value, a) % value.rank for a in axes]
        if not isinstance(dims, (list, tuple)):
            moved = self.axis(value, axes[0])
        op.kwargs.pop("dims", None)
        place = axis_place(op.name)
        if "dim" in op.kwargs or len(args) <= place:
            op.kwargs["dim"] = moved
        else:
            args[place] = moved
        op.args = tuple(args)
        for out in outs:
            if out.rank == value.rank:
                out.order = value.order
            else:
                kept = [a for a in value.layout if a not in axes]
                ranks = {a: i for i, a in enumerate(sorted(kept))}
                out.order = plain_or(tuple(ranks[a] for a in kept))

    def permute(self, op: Op, out: Value) -> None:
        value = op.args[0]
        perm = permutation(op)
        inverse = {axis: i for i, axis in enumerate(perm)}
        order = tuple(inverse[a] for a in value.layout)
        free = order == tuple(range(value.rank))
        if not free and value.order is None:
            free = order == last(value.rank) and (value.rank > 3 or id(out) in self.wanted)
        if free:
            op.target, op.args, op.kwargs = "fluxmod.same", (value,), {}
            out.order = plain_or(order)
            return
        op.target, op.kwargs = "permute.default", {}
        swapped = [i for i, a in enumerate(perm) if i != a]
        places = [value.layout.index(a) for a in swapped]
        if id(out) in self.regrouped and len(places) == 2 and abs(places[0] - places[1]) == 1:
            op.target, op.args = "swapaxes.default", (value, *sorted(places))
            out.order = value.order  # a shuffle of channels: they stay last
            return
        if value.order is None and len(perm) > 1:
            if len(swapped) == 2:
                op.target, op.args = "swapaxes.default", (value, *swapped)
                return
        op.args = (value, [order.index(i) for i in range(value.rank)])

    def subscript(self, op: Op, out: Value) -> None:
        value, entries = op.args
        if any(isinstance(e, Value) for e in entries):
            op.args = self.plain(op.args)
            return
        if value.order is None and None in entries and id(out) in self.wanted:
            target = last(out.rank)
            rest = [e for e in entries if not (isinstance(e, (int, Size)))]
            moved = [a for a in target if rest[a] is not None]
            if moved == sorted(moved) and len(rest) == len(entries):
                op.args = (value, [rest[a] for a in target])
                out.order = target
            return
        if value.order is None:
            return
        if None in entries:
            op.args = self.plain(op.args)
            return
        op.args = (value, [entries[a] for a in value.order])
        kept = [a for a in value.order if isinstance(entries[a], slice)]
        ranks = {a: i for i, a in enumerate(sorted(kept))}
        out.order = plain_or(tuple(ranks[a] for a in kept))

    def unsqueeze(self, op: Op, out: Value) -> None:
        value = op.args[0]
        new = op.args[1] % out.rank
        for order in (last(out.rank), tuple(range(out.rank))):
            if (
                order != tuple(range(out.rank))
                and value.order is None
                and id(out) not in self.wanted
            ):
                continue
            rest = tuple(a - (a > new) for a in order if a != new)
            if rest == value.layout:
                out.order = plain_or(order)
                place = order.index(new)
                op.args = (
                    value,
                    op.args[1] if value.order is None and out.order is None else place,
                )
                return
        op.args = self.plain(op.args)

    def expand(self, op: Op, out: Value) -> None:
        value = op.args[0]
        if value.rank != out.rank or value.order is None:
            op.args = self.plain(op.args)
            return
        order = value.order
        out.order = order
        if op.name == "expand_as":
            op.args = (value, self.ordered(op.args[1], order))
        else:
            sizes = op.args[1]
            op.args = (value, [sizes[a] for a in order])

    def pad(self, op: Op, out: Value) -> None:
        value, amounts, *rest = op.args
        op.args = (value, moved_pairs(amounts, value, 0), *rest)
        if hinted := op.hints.get("sizes"):
            op.hints = {"sizes": moved_pairs(hinted, value, None)}
        out.order = value.order

    def reshape(self, op: Op, out: Value) -> None:
        value = op.args[0]
        sizes = list(out.shape)
        wants = id(out) in self.wanted and out.rank > 2
        if value.order is None:
            target = last(out.rank)
            moved = [a for a in target if sizes[a] != 1 or out.symbols[a]]
            if wants and moved == sorted(moved):
                self.resize(op, value, out, target)
            return
        rank = value.rank
        flat = [math.prod(value.shape[1:])] == sizes[1:] and out.rank == 2
        if flat and value.order == last(rank) and value.shape[0] == sizes[0]:
            op.target, op.args, op.kwargs = "fluxmod.flatten", (value,), {}
            return
        order = regroup(value, sizes)
        if order is None:
            op.args = (self.ordered(value, None), *op.args[1:])
            return
        self.resize(op, value, out, order)

    def resize(self, op: Op, value: Value, out: Value, order: tuple[int, ...]) -> None:
        """A reshape of the Flax array, with the sizes in its order."""
        sizes = sizes_of(op, out)
        op.target, op.kwargs = "reshape.default", {}
        op.args = (value, [sizes[a] for a in order])
        hinted = op.hints.get("sizes")
        if hinted:
            op.hints["sizes"] = [hinted[a] for a in order]
        else:
            op.hints = {}
        out.order = plain_or(order)
