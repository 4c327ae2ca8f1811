"""Loops over what ``nonzero`` found: ``for expert_idx in expert_hit``.

How often such a loop runs depends on values. It is traced as a visit to every candidate, which is
the same if a visit only writes rows that the candidate chooses: one that was not found has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .ir import nodes_of, plain_name

__all__ = ["Visit", "candidates", "leaks"]

_SAME = ("view", "squeeze", "flatten", "reshape", "detach", "alias", "clone")
_PLACES = ("nonzero", "where", "nonzero_numpy")
_WRITES = ("index_add_", "index_put_", "index_copy_", "index_add", "index_put", "index_copy")


@dataclass(frozen=True)
class Visit:
    """The operators from ``start`` to ``end``, in the order of tracing, belong to one candidate."""

    found: torch.fx.Node  # what nonzero gave
    row: torch.fx.Node | None  # the candidate
    number: int  # its value
    start: int
    end: int


def candidates(node: torch.fx.Node | None) -> list[Any] | None:
    """What ``nonzero`` of a vector can find, as rows of the node; None where it is not that."""
    if node is None or (source := _places_of(node)) is None:
        return None
    sizes = source.args[0].meta["val"].shape  # type: ignore[union-attr]
    if len(sizes) != 1 or not isinstance(sizes[0], int):
        return None
    return [torch.tensor([i] if node.meta["val"].dim() == 2 else i) for i in range(sizes[0])]


def _places_of(node: torch.fx.Node) -> torch.fx.Node | None:
    """The ``nonzero`` whose result a node is, up to its shape."""
    while plain_name(node.target) in _SAME and isinstance(node.args[0], torch.fx.Node):
        node = node.args[0]
    return node if plain_name(node.target) == "nonzero" else None


def leaks(visits: Iterable[Visit], records: list[Any], results: Any) -> Iterator[tuple[str, str]]:
    """What a visit without a find would change: an operator's name, and where it stands.

    Args:
        visits: those of every loop.
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
    for visit in visits:
        own = {node for node, record in made.items() if visit.start <= record.order < visit.end}
        basis = _behind(visit.found, inputs)
        for node in own:
            name = plain_name(node.target)
            if name.startswith("sym_") or not isinstance(node.target, torch._ops.OpOverload):
                continue
            escapes = node in returned or any(user not in own for user in users.get(node, ()))
            changes = name.endswith("_") and not set(inputs[node][:1]) & own
            if (escapes or changes) and not _writes_own_rows(node, visit, own, basis, inputs):
                yield name, made[node].where


def _writes_own_rows(node: Any, visit: Visit, own: set[Any], basis: set[Any], inputs: Any) -> bool:
    """Whether an operator writes at places that the candidate chooses, from what was searched."""
    if plain_name(node.target) not in _WRITES:
        return False
    within = {n: [s for s in inputs[n] if s in own] for n in own}
    behind = _behind(node, within)
    places = [n for n in behind if plain_name(n.target) in _PLACES and len(n.args) == 1]
    masks = [n for n in inputs[node] if n.meta["val"].dtype == torch.bool]
    for place in places or masks:
        steps = {place, *_behind(place, within)}
        sources = {s for step in steps for s in inputs.get(step, ())} | {place}
        chosen = visit.row in sources or any(_is_picked(s, visit.number) for s in steps & own)
        if not chosen or not sources & basis:
            return False
    return bool(places or masks)


def _is_picked(node: Any, number: int) -> bool:
    """``mask[3]``, or ``chosen == 3``."""
    place = {"select": 2, "eq": 1}.get(plain_name(node.target))
    return place is not None and node.args[place : place + 1] == (number,)


def _behind(node: Any, inputs: Mapping[Any, list[Any]]) -> set[Any]:
    """Everything that a node is made from."""
    found: set[Any] = set()
    rest = [node]
    while rest:
        for source in inputs.get(rest.pop(), ()):
            if source not in found:
                found.add(source)
                rest.append(source)
    return found
