"""Orders of axes, and what reshapes and permutations do to them."""

from __future__ import annotations

from typing import Any

from .ir import Op, Size, Value

__all__ = [
    "declared",
    "extent",
    "last",
    "moved_pairs",
    "permutation",
    "plain_or",
    "regroup",
    "sizes_of",
    "vector_behind",
]


def last(rank: int) -> tuple[int, ...]:
    """Channels-last order of a map with this many axes.

    >>> last(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def plain_or(order: tuple[int, ...]) -> tuple[int, ...] | None:
    """None for torch\'s own order."""
    return None if order == tuple(range(len(order))) else order


def extent(value: Value, axis: int) -> Any:
    """The size of an axis: a number, or an expression where it is dynamic."""
    if value.symbols[axis]:
        return Size(value.shape[axis], ("dim", value, axis))
    return value.shape[axis]


def permutation(op: Op) -> list[int]:
    """The axes of the result as axes of the argument."""
    value = op.args[0]
    rank = value.rank
    axes = list(range(rank))
    if not rank:
        return axes
    if op.name == "permute":
        dims = op.args[1] if len(op.args) > 1 else op.kwargs["dims"]
        return [d % rank for d in dims]
    if op.name in ("t", "numpy_T"):
        return axes[::-1]
    if op.name == "movedim":
        source, target = op.args[1:3]
        pairs = [[source], [target]] if isinstance(source, int) else [source, target]
        moving = [s % rank for s in pairs[0]]
        rest = [a for a in axes if a not in moving]
        for to, axis in sorted(zip([t % rank for t in pairs[1]], moving, strict=True)):
            rest.insert(to, axis)
        return rest
    a, b = (d % rank for d in op.args[1:3])
    axes[a], axes[b] = axes[b], axes[a]
    return axes


def sizes_of(op: Op, out: Value) -> list[Any]:
    """The sizes that a reshape was given, one for each axis of its result."""
    if op.name in ("view", "reshape", "_unsafe_view") and isinstance(op.args[1], (list, tuple)):
        return list(op.args[1])
    if op.name == "flatten":
        value = op.args[0]
        start = (op.args[1] if len(op.args) > 1 else op.kwargs.get("start_dim", 0)) % value.rank
        merged = value.rank - out.rank
        axes = [*range(start), -1, *range(start + merged + 1, value.rank)]
        return [-1 if a < 0 else Size(value.shape[a], ("dim", value, a)) for a in axes]
    return [
        Size(out.shape[i], ("dim", op.args[0], i)) if out.symbols[i] else n
        for i, n in enumerate(out.shape)
    ]


def regroup(value: Value, sizes: list[int]) -> tuple[int, ...] | None:
    """The order of a reshape's result if the Flax array can be reshaped as it lies.

    Axes of the input and of the result fall into groups of equal product. A group stays together
    if its input axes lie side by side in their torch order.
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < value.rank or j < len(sizes):
        left, right = ([i], [j]) if i < value.rank and j < len(sizes) else ([], [])
        if not left:
            rest = (list(range(i, value.rank)), list(range(j, len(sizes))))
            if groups:
                groups[-1][0].extend(rest[0])
                groups[-1][1].extend(rest[1])
            break
        a, b = value.shape[i], sizes[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b and i < value.rank:
                a *= value.shape[i]
                left.append(i)
                i += 1
            elif j < len(sizes):
                b *= sizes[j]
                right.append(j)
                j += 1
            else:
                return None
        groups.append((left, right))
    order: list[int] = []
    done: set[int] = set()
    for axis in value.layout:
        if axis in done:
            continue
        left, right = next(g for g in groups if axis in g[0])
        place = value.layout.index(axis)
        lying = list(value.layout[place : place + len(left)])
        if lying != left and [a for a in lying if value.shape[a] != 1] != left:
            return None
        order += right
        done.update(left)
    return tuple(order) if len(order) == len(sizes) else None


def declared(entry: Any, rank: int) -> tuple[int, ...] | None:
    """The order that a layer's declaration asks for."""
    if entry is None or not entry.applies_to(rank):
        return None
    axis = entry.axis % rank
    order = (*(a for a in range(rank) if a != axis), axis)
    return None if order == tuple(range(rank)) else order


def moved_pairs(amounts: Any, value: Value, empty: Any) -> list[Any]:
    """The amounts of a padding, last axis first, for the axes as they lie."""
    pairs = [(amounts[2 * i], amounts[2 * i + 1]) for i in range(len(amounts) // 2)][::-1]
    pairs = [(empty, empty)] * (value.rank - len(pairs)) + pairs
    return [x for axis in value.layout[::-1] for x in pairs[axis]]


def vector_behind(value: Value) -> Value | None:
    """The vector behind an array whose axes are all new but the first."""
    base = value
    while isinstance(op := base.producer, Op) and base.rank > 1:
        keeps = op.name in ("unsqueeze", "view", "reshape") or op.target == "fluxmod.getitem"
        if not keeps or not isinstance(op.args[0], Value):
            return None
        if op.target == "fluxmod.getitem" and any(
            entry is not None and entry != slice(None) for entry in op.args[1]
        ):
            return None
        base = op.args[0]
    fits = (
        base is not value
        and base.rank == 1
        and value.shape == (*base.shape, *[1] * (value.rank - 1))
    )
    return base if fits else None
