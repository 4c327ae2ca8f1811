"""Calls of modules that become part of the code around them."""

from __future__ import annotations

from typing import Any

import torch

from .ir import Call, calls_of, tree_values

__all__ = ["splice"]


def splice(roots: list[Call]) -> None:
    """Write a module without state where it is called, if its calls take arrays of several ranks.

    ``Rearrange("b ... (f d) -> b ... f d")`` called with a map and with its weights does different
    things, which one method cannot say.
    """
    ranks: dict[int, set[Any]] = {}
    for root in roots:
        for call in calls_of(root):
            if call is not root and call.leaf is None and _is_stateless(call.module):
                shapes = [len(value.shape) for value in tree_values((call.args, call.kwargs))]
                ranks.setdefault(id(call.module), set()).add(tuple(shapes))
    chosen = {module for module, found in ranks.items() if len(found) > 1}
    for root in roots if chosen else []:
        _splice(root, chosen)


def _is_stateless(module: torch.nn.Module) -> bool:
    own = (module.parameters(), module.buffers(), module.children())
    return all(next(iter(each), None) is None for each in own)


def _splice(call: Call, chosen: set[int]) -> None:
    items: list[Any] = []
    for item in call.items:
        if isinstance(item, Call):
            _splice(item, chosen)
        within = isinstance(item, Call) and id(item.module) in chosen
        items += item.items if within else [item]
    call.items = items
