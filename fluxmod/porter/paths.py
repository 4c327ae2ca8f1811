"""Attribute paths: torch's dotted names as Python expressions, and what a parameter is called."""

from __future__ import annotations

from typing import Any

import torch
from flax import nnx

from fluxmod import nn
from fluxmod.nn.rules import leaves_of

from . import leaves
from .ir import Param

__all__ = ["expression", "relative", "stored_as"]


def relative(path: str, base: str) -> str | None:
    """The rest of a dotted path below a module, None if it is not below it."""
    if not base:
        return path
    return path[len(base) + 1 :] if path.startswith(base + ".") else None


def expression(root: torch.nn.Module, dotted: str) -> str:
    """``layers.0.conv`` as ``self.layers[0].conv``."""
    text, module = "self", root  # type: str, Any
    for name in dotted.split(".") if dotted else []:
        if _is_dict(module):
            text += f'["{name}"]'
        elif name.isdigit():
            text += f"[{name}]"
        else:
            text += f".{name}" if name.isidentifier() else f'["{name}"]'
        module = (
            getattr(module, name, None)
            if not isinstance(module, torch.nn.ModuleDict)
            else module[name]
        )
    return text


def _is_dict(module: Any) -> bool:
    """Whether the children have keys; a class with a forward of its own has attributes."""
    kinds = (torch.nn.ModuleDict, torch.nn.ParameterDict)
    return isinstance(module, kinds) and type(module).forward is kinds[0].forward


def stored_as(root: torch.nn.Module, path: str) -> tuple[str, tuple[int, ...] | None]:
    """The attribute path that holds a parameter in Flax, and how its axes are permuted there."""
    owner, _, name = path.rpartition(".")
    module = root.get_submodule(owner)
    leaf = leaves.match(module)
    if leaf is None:
        return path, None
    twin: Any = nnx.eval_shape(lambda: leaves.build(leaf, nnx.Rngs(0)))
    for rule in leaves_of(twin):
        if rule.torch == name:
            return f"{owner}.{rule.flax}" if owner else rule.flax, rule.perm
    return path, None


def accessible(param: Param, base: str) -> str | None:
    """The path of a parameter below a module, None where only someone else holds it."""
    for path in param.paths:
        if relative(path, base) is not None:
            return path
    return None


_ = nn
