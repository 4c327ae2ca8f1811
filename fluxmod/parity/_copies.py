"""Copies of torch modules, also of those that torch itself does not copy."""

from __future__ import annotations

import copy

import torch

__all__ = ["copied"]


def copied(module: torch.nn.Module) -> torch.nn.Module:
    """Return a deep copy of a module.

    A weight that a hook computes (``torch.nn.utils.weight_norm``) is an attribute with a gradient
    history, which ``copy.deepcopy`` refuses; the copy gets its value, until its own hook runs.
    """
    memo: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)
