"""Statements that torch runs for rows that values choose, and a compiled program always.

``for expert_idx in expert_hit`` visits every candidate, and ``if mask.any():`` is taken. Both are
the same as in torch if the statements only write the rows in question: where there are none, they
write nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from .ir import nodes_of, plain_name
from .rows import open_symbols

__all__ = ["Branch", "Span", "Visit", "ancestors", "candidates", "leaks"]

_SAME = ("view", "squeeze", "flatten", "reshape", "detach", "alias", "clone")
_PLACES = ("nonzero", "where", "nonzero_numpy")
_WRITES = ("index_add_", "index_put_", "index_copy_", "index_add", "index_put", "index_copy")
_Inputs = Mapping[Any, list[Any]]


@dataclass(eq=False)
class Span:
    """The operators from ``start`` to before ``end``, in the order of tracing."""

    start: int
    end: int

    def chooses(self, place: Any, steps: set[Any], sources: set[Any], own: set[Any]) -> bool:
        """Whether places, or a mask, are those that the statements are about.

        Args:
            place: what is ``nonzero`` of an array, or the mask.
            steps: what it is made by in the span, itself included.
            sources: what those take.
            own: everything in the span.
        """
        raise NotImplementedError


@dataclass(eq=False)
class Visit(Span):
    """One round of a loop over what ``nonzero`` found."""

    row: torch.fx.Node | None  # the candidate
    number: int  # its value
    basis: set[Any]  # what was searched, and what that is made from

    def chooses(self, place: Any, steps: set[Any], sources: set[Any], own: set[Any]) -> bool:
        """The candidate picks from what was searched."""
        picked = self.row in sources or any(_is_picked(s, self.number) for s in steps & own)
        return picked and bool(sources & self.basis)


@dataclass(eq=False)
class Branch(Span):
    """Statements that are skipped where there are no rows: those of a mask, or of a size."""

    mask: torch.fx.Node | None
    size: torch.SymBool | None  # what was asked about it
    frame: FrameType | None
    lines: range

    def chooses(self, place: Any, steps: set[Any], sources: set[Any], own: set[Any]) -> bool:
        """They are the mask's, or give an array of the size."""
        is_place = plain_name(place.target) in _PLACES
        if self.size is not None:
            val = place.meta["val"]
            first = val[0] if isinstance(val, (tuple, list)) else val
            asked = open_symbols(self.size.node.expr)
            return is_place and bool(open_symbols(first.shape[0]) & asked)
        assert self.mask is not None  # noqa: S101 - for the type checker
        return stripped(place.args[0] if is_place else place) is stripped(self.mask)

    def runs(self, frame: FrameType | None) -> bool:
        """Whether the statements are being executed, ``frame`` being the innermost one."""
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None and frame.f_lineno in self.lines


def stripped(node: torch.fx.Node) -> torch.fx.Node:
    """What a node is another shape of."""
    while plain_name(node.target) in _SAME and isinstance(node.args[0], torch.fx.Node):
        node = node.args[0]
    return node


def candidates(node: torch.fx.Node | None) -> list[Any] | None:
    """What ``nonzero`` of a vector can find, as rows of the node; None where it is not that."""
    if node is None or plain_name((source := stripped(node)).target) != "nonzero":
        return None
    sizes = source.args[0].meta["val"].shape  # type: ignore[union-attr]
    if len(sizes) != 1 or not isinstance(sizes[0], int):
        return None
    return [torch.tensor([i] if node.meta["val"].dim() == 2 else i) for i in range(sizes[0])]


def leaks(spans: Iterable[Span], records: list[Any], results: Any) -> Iterator[tuple[str, str]]:
    """What would change where torch skips a span: an operator's name, and where it stands.

    Args:
        spans: all that were traced.
        records: every operator of the trace.
        results: what the model returns.
    """
    made = {record.node: record for record in records}
    inputs = {record.node: nodes_of((record.args, record.kwargs)) for record in records}
    users: dict[Any, list[Any]] = {}
    for node, sources in inputs.items():
        for source in sources:
            users.setdefault(source, []).append(node)
    returned = set(nodes_of(results))
    for span in spans:
        own = {node for node, record in made.items() if span.start <= record.order < span.end}
        for node in [node for node in made if node in own]:  # in the order of tracing
            name = plain_name(node.target)
            if name.startswith("sym_") or not isinstance(node.target, torch._ops.OpOverload):
                continue
            escapes = node in returned or any(user not in own for user in users.get(node, ()))
            changes = name.endswith("_") and not set(inputs[node][:1]) & own
            if (escapes or changes) and not _writes_own_rows(made[node], span, own, inputs):
                yield name, made[node].where


def _writes_own_rows(record: Any, span: Span, own: set[Any], inputs: _Inputs) -> bool:
    """Whether an operator writes rows that its span is about, and no others."""
    name = plain_name(record.node.target)
    if name not in _WRITES:
        return False
    within = {n: [s for s in inputs[n] if s in own] for n in own}
    index = nodes_of(record.args[1] if name.startswith("index_put") else record.args[2])
    places = [found for entry in index if (found := _place_of(entry, inputs)) is not None]
    for place in places:
        steps = {place, *ancestors(place, within)}
        sources = {s for step in steps for s in inputs.get(step, ())} | {place}
        if not span.chooses(place, steps, sources, own):
            return False
    return bool(places)


def _place_of(entry: Any, inputs: _Inputs) -> Any:
    """What the entry of an index comes from: ``nonzero`` of an array, or a mask itself."""
    while entry in inputs and plain_name(entry.target) not in _PLACES:
        name = getattr(entry.target, "__name__", "")
        parts = name == "getitem" or plain_name(entry.target) in (*_SAME, "unbind", "select")
        if not parts or not inputs[entry]:
            break
        entry = inputs[entry][0]
    if plain_name(entry.target) in _PLACES:
        return entry
    return entry if entry.meta["val"].dtype == torch.bool else None


def _is_picked(node: Any, number: int) -> bool:
    """``mask[3]``, or ``chosen == 3``."""
    place = {"select": 2, "eq": 1}.get(plain_name(node.target))
    return place is not None and node.args[place : place + 1] == (number,)


def ancestors(node: Any, inputs: _Inputs) -> set[Any]:
    """Everything that a node is made from."""
    found: set[Any] = set()
    rest = [node]
    while rest:
        for source in inputs.get(rest.pop(), ()):
            if source not in found:
                found.add(source)
                rest.append(source)
    return found
