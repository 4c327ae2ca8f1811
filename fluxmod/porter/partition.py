"""Cleaning up the call tree: fused subscripts, dead code, chains of children."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .ir import Call, Op, Param, Size, Value, map_tree, tree_values

__all__ = [
    "attach_sizes",
    "choose_results",
    "direct_values",
    "effects",
    "fuse_subscripts",
    "is_chain",
    "lift",
    "mark_chains",
    "outer_inputs",
    "pair_modes",
    "prune",
    "replace",
    "same_number",
    "simplify_writes",
    "stores",
]

_END = 2**62
_INDEXING = ("slice", "select", "unsqueeze", "index")
_SIZES = {
    "view": 1,
    "reshape": 1,
    "_unsafe_view": 1,
    "expand": 1,
    "repeat": 1,
    "tile": 1,
    "zeros": 0,
    "ones": 0,
    "full": 0,
    "empty": 0,
    "new_zeros": 1,
    "new_ones": 1,
    "new_full": 1,
    "randn": 0,
    "rand": 0,
    "randint": 2,
    "unflatten": 2,
    "roll": 1,
    "layer_norm": 1,
    "rms_norm": 1,
    "new_empty": 1,
    "affine_grid_generator": 1,
    "pad": 1,
    "constant_pad_nd": 1,
}
_DRAWS = (
    "dropout",
    "bernoulli",
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "multinomial",
    "normal",
    "uniform",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "exponential",
    "randint",
    "randperm",
)


def effects(item: Any) -> bool:
    """Whether the order of an item matters: it draws random numbers or changes a buffer."""
    if isinstance(item, Call):
        return True
    return item.target.startswith("fluxmod.store") or item.name in _DRAWS


def prune(call: Call) -> None:
    """Remove operators and whole calls that nothing uses."""
    used: set[int] = {id(v) for v in tree_values(call.out)}
    _prune(call, used)


def _prune(call: Call, used: set[int]) -> None:
    kept: list[Any] = []
    stored: set[int] = set()
    for item in reversed(call.items):
        if isinstance(item, Call):
            outs = {id(v) for v in tree_values(item.out)}
            if not outs & used and not any(stores(i) for i in item.items):
                continue
            if item.leaf is None:
                _prune(item, used | outs)
                used |= {id(v) for sub in item.items for v in _uses(sub)}
            used |= {id(v) for v in tree_values((item.args, item.kwargs))}
            kept.append(item)
            continue
        outs = {id(v) for v in tree_values(item.out)}
        if item.target == "fluxmod.store":
            if id(item.args[0]) in stored:  # written again further down
                replace([call, *kept], item.out, item.args[1])
                used |= {id(v) for v in tree_values(item.args[1])}
                continue
            stored.add(id(item.args[0]))
        elif not outs & used:
            continue
        used |= {id(v) for v in _uses(item)}
        kept.append(item)
    call.items = kept[::-1]


def replace(items: list[Any], old: Value, new: Value) -> None:
    """Let every reader of one value read another."""

    def one(leaf: Any) -> Any:
        return new if leaf is old else leaf

    for item in items:
        item.args, item.kwargs = map_tree(one, item.args), map_tree(one, item.kwargs)
        if isinstance(item, Call):
            item.out = map_tree(one, item.out)
            replace(item.items, old, new)


def stores(item: Any) -> bool:
    """Whether an item changes a buffer."""
    if isinstance(item, Call):
        return any(stores(i) for i in item.items)
    return item.target == "fluxmod.store"


def _uses(item: Any) -> list[Value]:
    if isinstance(item, Call):
        inner = [v for sub in item.items for v in _uses(sub)]
        return [*tree_values((item.args, item.kwargs)), *inner, *tree_values(item.out)]
    return list(tree_values((item.args, item.kwargs)))


def lift(root: Call) -> None:
    """Let calls return what is used outside of them: a hook may have handed it on."""
    makers: dict[int, Call] = {}
    missing: dict[int, tuple[Call, dict[int, Value]]] = {}

    def enter(call: Call) -> None:
        for item in call.items:
            if isinstance(item, Call) and item.leaf is None:
                enter(item)
            else:
                makers.update((id(v), call) for v in tree_values(item.out))

    def used(call: Call) -> None:
        for item in call.items:
            check(call, item.args, item.kwargs)
            if isinstance(item, Call) and item.leaf is None:
                used(item)
        check(call, call.out)

    def check(call: Call, *trees: Any) -> None:
        around = [call, *_around(call)]
        for value in direct_values(trees):
            maker = makers.get(id(value))
            while maker is not None and maker not in around:
                if all(value is not v for v in tree_values(maker.out)):
                    missing.setdefault(maker.index, (maker, {}))[1][id(value)] = value
                maker = maker.parent

    enter(root)
    used(root)
    for call, values in missing.values():
        extra = tuple(values.values())
        if isinstance(call.out, dict):
            call.out = {**call.out, "intermediates": extra}
        else:
            call.out = (*(call.out if isinstance(call.out, tuple) else (call.out,)), extra)


def _around(call: Call) -> Iterator[Call]:
    while call.parent is not None:
        yield (call := call.parent)


def fuse_subscripts(call: Call) -> None:
    """Make ``x[:, 1:, 0]`` one operator again, where the source has one subscript."""
    uses: dict[int, int] = {}
    _count(call, uses)
    _fuse(call, uses)


_VERBS = {"add": "add", "mul": "multiply"}
_HALVES = {"max": "argmax", "min": "argmin", "sort": "argsort"}


def simplify_writes(call: Call) -> None:
    """Say what a write through a view means: ``x.at[i].add(y)``, ``x.at[i].set(0.0)``."""
    uses: dict[int, int] = {}
    _count(call, uses)
    _simplify(call, uses)


def _simplify(call: Call, uses: dict[int, int]) -> None:
    for item in list(call.items):
        if isinstance(item, Call):
            _simplify(item, uses)
            continue
        if item.target != "fluxmod.write_back" or item.args[2].partition(".")[0] not in _INDEXING:
            continue
        whole, value, view, arguments = item.args
        made = value.producer
        if not isinstance(made, Op) or made not in call.items or uses.get(id(value)) != 1:
            continue
        if made.name == "zero" or (made.name == "fill" and not isinstance(made.args[1], Value)):
            number = made.args[1] if made.name == "fill" else 0
            kind = float if value.dtype.is_floating_point else type(number)
            item.args = (whole, kind(number), view, arguments)
        elif made.name == "copy" and made.args[1].dtype == value.dtype:
            item.args = (whole, made.args[1], view, arguments)
        elif made.name in _VERBS and len(made.args) == 2 and not made.kwargs:
            part = made.args[0]
            read = part.producer if isinstance(part, Value) else None
            same = isinstance(read, Op) and read.target == view and read.args == (whole, *arguments)
            if not same or uses.get(id(part)) != 1:
                continue
            item.args = (whole, made.args[1], view, arguments)
            item.kwargs = {"verb": _VERBS[made.name]}
        else:
            continue
        call.items.remove(made)


def choose_results(call: Call) -> None:
    """Make ``max(dim)`` of which only the places are used ``argmax``, and ``sort`` ``argsort``."""
    uses: dict[int, int] = {}
    _count(call, uses)
    _choose(call, uses)


def _choose(call: Call, uses: dict[int, int]) -> None:
    for item in call.items:
        if isinstance(item, Call):
            _choose(item, uses)
        elif item.name in _HALVES and isinstance(item.out, (list, tuple)):
            used = [i for i, value in enumerate(item.out) if uses.get(id(value))]
            if used == [1]:
                item.target = f"{_HALVES[item.name]}.default"
                item.out = item.out[1]
            elif used == [0] and item.name == "sort":
                item.out = item.out[0]


def _count(call: Call, uses: dict[int, int]) -> None:
    for item in call.items:
        if isinstance(item, Call):
            _count(item, uses)
            trees: Any = (item.args, item.kwargs)
        else:
            trees = (item.args, item.kwargs)
        for value in tree_values(trees):
            uses[id(value)] = uses.get(id(value), 0) + 1
    for value in tree_values(call.out):
        uses[id(value)] = uses.get(id(value), 0) + 1


def _fuse(call: Call, uses: dict[int, int]) -> None:
    items: list[Any] = []
    for item in call.items:
        if isinstance(item, Call):
            _fuse(item, uses)
            items.append(item)
            continue
        if item.name in _INDEXING and (subscript := _subscript(item)) is not None:
            base, entries = subscript
            before = base.producer
            joined = (
                isinstance(before, Op)
                and before.target == "fluxmod.getitem"
                and before in items
                and uses.get(id(base)) == 1
                and before.call_text == item.call_text
                and before.where == item.where
            )
            if joined and (merged := _merge(before.args[1], entries)) is not None:
                items.remove(before)
                base, entries = before.args[0], merged
            item.target = "fluxmod.getitem"
            item.args = (base, entries)
            item.kwargs = {}
        items.append(item)
    call.items = items


def _subscript(op: Op) -> Any:
    """One of torch's indexing operators as (array, entries per axis)."""
    base = op.args[0]
    if not isinstance(base, Value):
        return None
    rank = base.rank
    whole: list[Any] = [slice(None)] * rank
    if op.name == "index":
        entries = [slice(None) if e is None else e for e in op.args[1]]
        return base, entries + [slice(None)] * (rank - len(entries))
    hints = op.hints.get("index", [])
    if op.name == "unsqueeze":
        if not hints:
            return None  # written as x.unsqueeze(1)
        axis = op.args[1] % (rank + 1)
        return base, [*whole[:axis], None, *whole[axis:]]
    if op.name == "select":
        axis = op.args[1] % rank
        index = op.args[2]
        whole[axis] = _proposal([h for h in hints if isinstance(h, Size)], index)
        return base, whole
    axis, start, end, step = _slice_args(op)
    lows = [h[0] for h in hints if isinstance(h, tuple)]
    highs = [h[1] for h in hints if isinstance(h, tuple)]
    low = None if start in (0, None) else _proposal(lows, start)
    high = None if end is None or (isinstance(end, int) and end >= _END) else _proposal(highs, end)
    whole[axis % rank] = slice(low, high, None if step in (1, None) else step)
    return base, whole


def _slice_args(op: Op) -> tuple[int, Any, Any, Any]:
    names = ("dim", "start", "end", "step")
    values = dict(zip(names, op.args[1:], strict=False)) | op.kwargs
    return values.get("dim", 0), values.get("start"), values.get("end"), values.get("step")


def _proposal(hints: list[Any], actual: Any) -> Any:
    """The source's expression for a number, if it has that value."""
    value = actual.value if isinstance(actual, Size) else actual
    for hint in hints:
        if isinstance(hint, Size) and same_number(hint.value, value):
            return hint
    return actual


def same_number(a: Any, b: Any) -> bool:
    """Whether two numbers are equal, symbolic sizes by their expression."""
    symbolic = [isinstance(x, torch.SymInt) for x in (a, b)]
    if any(symbolic):
        return all(symbolic) and str(a) == str(b)
    return type(a) is type(b) and a == b


def _merge(first: list[Any], then: list[Any]) -> list[Any] | None:
    """One subscript for two in a row; None where arrays among the entries make that wrong."""
    if any(isinstance(e, Value) for e in (*first, *then)):
        arrays_first = any(isinstance(e, Value) for e in first)
        ints_first = any(not isinstance(e, (slice, Value)) and e is not None for e in first)
        if arrays_first or ints_first:
            return None
    merged: list[Any] = []
    rest = list(then)
    for entry in first:
        if entry is None or entry == slice(None) or isinstance(entry, slice):
            while rest and rest[0] is None:
                merged.append(rest.pop(0))
            new = rest.pop(0)
            if entry is None:
                if new != slice(None):
                    return None
                merged.append(None)
            elif entry == slice(None):
                merged.append(new)
            elif new == slice(None):
                merged.append(entry)
            else:
                return None
        else:
            merged.append(entry)
    return merged + rest


def is_chain(module: torch.nn.Module) -> bool:
    """Whether a module is a Sequential that calls its children one after another."""
    return (
        isinstance(module, torch.nn.Sequential)
        and type(module).forward is torch.nn.Sequential.forward
        and "forward" not in vars(module)
    )


def mark_chains(call: Call) -> None:
    """Find the calls that are nothing but their children's calls, one after another."""
    for child in call.items:
        if isinstance(child, Call) and child.leaf is None:
            mark_chains(child)
    if not is_chain(call.module) or call.kwargs or len(call.args) != 1:
        return
    value = call.args[0]
    expected = [id(m) for m in call.module.children()]
    if not expected:
        call.chain = True
        return
    called = [id(c.module) for c in call.items if isinstance(c, Call)]
    if called != expected or len(called) != len(call.items):
        return
    for child in call.items:
        if child.args != (value,) or child.kwargs:
            return
        if child.leaf is None and [v for v in outer_inputs(child) if v is not value]:
            return
        value = child.out
    call.chain = call.out is value


def outer_inputs(call: Call) -> list[Value]:
    """Values that a call uses and does not make, states left out, in order of first use."""
    made: set[int] = set()
    found: dict[int, Value] = {}

    def visit(item: Any) -> None:
        if isinstance(item, Call) and item.leaf is None:
            for sub in item.items:
                visit(sub)
        else:
            for value in direct_values((item.args, item.kwargs)):
                if id(value) not in made:
                    found.setdefault(id(value), value)
            made.update(id(v) for v in tree_values(item.out))

    for item in call.items:
        visit(item)
    for value in direct_values(call.out):
        if id(value) not in made:
            found.setdefault(id(value), value)
    return [v for v in found.values() if not _is_held(v, call)]


def _is_held(value: Value, call: Call) -> bool:
    """Whether a value is a parameter, buffer or constant that a call can read from its module."""
    param = value.producer
    if not isinstance(param, Param):
        return False
    base = f"{call.path}." if call.path else ""
    return not param.paths or any(path.startswith(base) for path in param.paths)


def direct_values(tree: Any) -> list[Value]:
    """Values in a tree that are used for what they hold, not for their shape."""
    found: list[Value] = []
    map_tree(lambda leaf: found.append(leaf) if isinstance(leaf, Value) else None, tree)
    return found


def attach_sizes(call: Call) -> None:
    """Line up the source's expressions with the sizes of each reshape, expand and new array."""
    for item in call.items:
        if isinstance(item, Call):
            attach_sizes(item)
            continue
        place = _SIZES.get(item.name)
        if place is None or len(item.args) <= place:
            continue
        actual = item.args[place]
        if not isinstance(actual, (list, tuple)):
            continue
        hints = item.hints or {}
        positional = list(hints.get("args") or [])
        named = hints.get("kwargs") or {}
        rest: list[Any] = []
        for hint in positional[place:] or list(named.values())[:1]:
            rest += list(hint) if isinstance(hint, (tuple, list)) else [hint]
        item.hints = {"kwargs": {key: named[key] for key in ("dtype",) if key in named}}
        if len(rest) >= len(actual):
            item.hints["sizes"] = rest[: len(actual)]
        if item.name in ("full", "new_full"):
            item.hints["args"] = positional
            item.hints["kwargs"] = named


def pair_modes(call: Call, train: Call) -> None:
    """Tell each operator of a call which one it is in training mode, where the calls agree."""
    ours = [i for i in call.items if isinstance(i, Op)]
    theirs = [i for i in train.items if isinstance(i, Op)]
    if [o.target for o in ours] == [o.target for o in theirs]:
        for a, b in zip(ours, theirs, strict=True):
            a.modes = b.modes = (a, b)
    table: dict[str, list[Call]] = {}
    for child in train.items:
        if isinstance(child, Call):
            table.setdefault(child.path, []).append(child)
    for child in call.items:
        if isinstance(child, Call) and child.leaf is None and table.get(child.path):
            pair_modes(child, table[child.path].pop(0))
