"""How many rows the arrays of a trace have where values decide, or can have at most."""

from __future__ import annotations

from typing import Any

import torch

from fluxmod._errors import UnsupportedOpError

from .ir import Op, Value
from .recording import OpRecord
from .rows import bound, is_open, open_axes
from .traced import hinted

__all__ = ["Extents"]


class Extents:
    """The sizes of traced arrays, with a bound for those that depend on values."""

    def __init__(self) -> None:
        self.bounds: dict[str, int] = {}
        self.numbers: dict[str, Value] = {}  # what ``item`` and ``tolist`` read, by their symbols
        self.totals: dict[str, Any] = {}  # the lengths of a split added: the size of the whole
        self.splits: dict[tuple[str, ...], Op] = {}  # by the lengths of their pieces

    def of(self, node: Any, val: torch.Tensor) -> Value:
        """A value of the array's shape, bounds in place of what values decide.

        Raises:
            UnsupportedOpError: a size has no bound.
        """
        sizes = [self.settled(size) for size in val.shape]
        if any(is_open(s) and str(s) not in self.bounds for s in sizes):
            raise UnsupportedOpError(
                f"port: {node.target} gives an array whose sizes depend on values, and a compiled "
                "program needs them beforehand. Rewrite it with a mask or with torch.where."
            )
        shape = tuple(self.bounds.get(str(s)) or hinted(s) for s in sizes)
        return Value(
            shape, val.dtype, tuple(str(s) if isinstance(s, torch.SymInt) else "" for s in sizes)
        )

    def settled(self, size: Any) -> Any:
        """A size as it was before the array was split and its pieces were put together."""
        return self.totals.get(str(size), size)

    def note(self, record: OpRecord) -> None:
        """Remember how many rows what an operator gives can have at most."""
        node, val = record.node, record.node.meta.get("val")
        if str(node.target) == "aten.split_with_sizes.default":
            self._note_split(record, val)
            return
        first = val[0] if isinstance(val, (tuple, list)) and val else val
        if isinstance(first, torch.Tensor) and first.dim() and is_open(first.shape[0]):
            most, rows = bound(node, hinted), str(first.shape[0])
            if most is not None and self.bounds.setdefault(rows, most) != most:
                del self.bounds[rows]  # as many of two arrays of different sizes

    def _note_split(self, record: OpRecord, pieces: Any) -> None:
        array, _, *dim = record.args
        whole = self.settled(array.meta["val"].shape[0])
        rows = [str(piece.shape[0]) for piece in pieces]
        if any(dim) or is_open(whole) or not self.numbers.keys() >= set(rows):
            return
        self.totals[str(sum(piece.shape[0].node.expr for piece in pieces))] = whole
        for length in rows:
            self.bounds[length] = hinted(whole)
            self.numbers[length].producer.target = "fluxmod.length"

    def listed(self, tree: Any) -> Any:
        """A vector for each list of what its ``tolist`` gave."""
        if isinstance(tree, dict):
            return {key: self.listed(branch) for key, branch in tree.items()}
        if isinstance(tree, list):
            return self._vector(tree) or [self.listed(branch) for branch in tree]
        if type(tree) is tuple:
            return tuple(map(self.listed, tree))
        return tree

    def _vector(self, leaves: list[Any]) -> Value | None:
        vals = [e.meta.get("val") if isinstance(e, torch.fx.Node) else e for e in leaves]
        symbols = [str(val) for val in vals if isinstance(val, torch.SymInt)]
        items = [self.numbers[symbol].producer for symbol in symbols if symbol in self.numbers]
        parts = [item.args[0] for item in items]
        whole = parts[0].producer if parts and len(parts) == len(leaves) else None
        if not isinstance(whole, Op) or whole.name != "unbind" or whole.args[0].rank != 1:
            return None
        return whole.args[0] if list(whole.out) == parts else None

    def respell(self, op: Op) -> None:
        """Split into rows, and put rows together, by numbers that are arrays themselves."""
        if op.name == "split_with_sizes" and any(map(open_axes, op.out)):
            op.target, op.args, op.hints = "fluxmod.split_rows", op.args[:2], {}
            self.splits[tuple(piece.symbols[0] for piece in op.out)] = op
        if op.name != "cat" or op.args[1:] not in ((), (0,)) or not op.out.rank:
            return
        pieces = op.args[0]
        split = self.splits.get(tuple(piece.symbols[0] for piece in pieces if piece.rank))
        if split is not None:
            op.target, op.args, op.hints = "fluxmod.join_rows", (pieces, split.args[1]), {}
            if (weight := _matrices(pieces, split)) is not None:
                op.target, op.args = "fluxmod.linear_rows", (split.args[0], weight, split.args[1])


def _matrices(pieces: list[Value], split: Op) -> Value | None:
    """The weight whose matrices, one after another, each piece of a split is multiplied by."""
    weights = []
    for index, (piece, rows) in enumerate(zip(pieces, split.out, strict=True)):
        made = piece.producer
        if not isinstance(made, Op) or made.name != "linear" or made.args[0] is not rows:
            return None
        taken = getattr(made.args[1], "producer", None)
        if made.args[2:] or not isinstance(taken, Op) or taken.name != "select":
            return None
        if taken.args[1:] != (0, index):
            return None
        weights.append(taken.args[0])
    weight: Value = weights[0]
    whole = weight.rank == 3 and weight.shape[0] == len(pieces)
    return weight if whole and all(each is weight for each in weights) else None
