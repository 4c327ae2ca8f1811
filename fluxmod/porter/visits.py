"""Loops over what ``nonzero`` found: ``for expert_idx in expert_hit``.

How often such a loop runs depends on values. It is traced as a visit to every candidate, which is
the same if a visit only writes rows that the candidate chooses: one that was not found has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    start: int
    end: int
    where: str


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
    users: dict[torch.fx.Node, list[Any]] = {}
    for record in records:
        for node in nodes_of((record.args, record.kwargs)):
            users.setdefault(node, []).append(record)
    returned = set(nodes_of(results))
    for visit in visits:
        inside = [r for r in records if visit.start <= r.order < visit.end]
        own = {record.node for record in inside}
        basis = _ancestors(visit.found)
        for record in inside:
            name, later = plain_name(record.node.target), users.get(record.node, ())
            escapes = record.node in returned or any(user not in inside for user in later)
            changes = name.endswith("_") and not set(nodes_of(record.args[:1])) & own
            if (escapes or changes) and not _writes_own_rows(record.node, name, own, basis):
                yield name, record.where


def _writes_own_rows(node: torch.fx.Node, name: str, own: set[Any], basis: set[Any]) -> bool:
    """Whether an operator writes at places that come from what the loop is about."""
    if name not in _WRITES:
        return False
    behind = _ancestors(node, own)
    places = [n for n in behind if plain_name(n.target) in _PLACES and len(n.args) == 1]
    return bool(places) and all(
        any(n in basis for n in _entries_behind(place, own)) for place in places
    )


def _entries_behind(place: torch.fx.Node, own: set[Any]) -> set[Any]:
    """What outside of a visit the places in it are found in."""
    return {
        source
        for node in (place, *_ancestors(place, own))
        for source in node.all_input_nodes
        if source not in own
    }


def _ancestors(node: torch.fx.Node, among: set[Any] | None = None) -> set[Any]:
    """Everything that a node is made from; only what is ``among`` some, if given."""
    found: set[Any] = set()
    rest = [node]
    while rest:
        for source in rest.pop().all_input_nodes:
            if source not in found and (among is None or source in among):
                found.add(source)
                rest.append(source)
    return found
