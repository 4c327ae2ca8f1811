"""Every submodule on torch's own inputs, so that a fault is found where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from flax import nnx

from fluxmod import nn
from fluxmod._errors import LayoutError
from fluxmod.nn._stack import named_layers

from ._flax import outputs_in_place, run_flax
from ._run import FAULTS, Call, Run, cotangents, fault_text
from ._torch import run_torch
from ._trees import leaves
from .compare import Row, semantic_rows
from .criteria import CRITERIA, distance
from .options import Options

__all__ = ["in_place_rows", "module_rows"]


def module_rows(
    torch_module: torch.nn.Module,
    flax_model: nnx.Module,
    calls: dict[str, Call],
    where: str,
    options: Options,
) -> list[Row]:
    """Replay each recorded call in both frameworks, in isolation, and compare by L1.

    No error accumulates from layer to layer. A layer of a stack is taken out of it. Submodules that
    only one framework has, and those whose order of axes cannot be derived, are left to the
    comparison of the whole.
    """
    theirs = dict(torch_module.named_modules(remove_duplicate=False))
    ours = dict(named_layers(flax_model))
    rows: list[Row] = []
    for path, call in calls.items():
        if path in ours:
            rows += _replay(theirs[path], ours[path], call, path, where, options)
    return rows


def in_place_rows(
    flax_model: nnx.Module, args: Any, kwargs: Any, axes: nn.Axes, truth: Run, where: str
) -> list[Row]:
    """Name the first submodule that gets torch's values inside the whole and gives others.

    For faults that no layer shows on its own: a layer that is right by its own declaration and
    wrong where it stands. Where the values it gets differ already, the fault is its parent's.
    """
    training = where.startswith("train")
    try:
        ours = outputs_in_place(
            flax_model, args, kwargs, training=training, axes=axes, masks=truth.masks
        )
    except FAULTS as fault:
        fault_text(fault)
        return []  # the call itself fails, which has its own row
    limit = CRITERIA["L1"].limit
    for path, (arguments, got) in ours.items():
        if path not in truth.calls:
            continue
        call = truth.calls[path]
        want = call.outputs
        pairs = [(got[name], want[name]) for name in got if name in want]
        error = max((distance(g, w) for g, w in pairs if g.shape == w.shape), default=0.0)
        if error > limit:
            if not _same_values(arguments, [*call.args, call.kwargs]):
                return []
            return [Row("L1", f"{where}, in place", "output", error, limit, False, "", path)]
    return []


def _same_values(ours: Any, theirs: Any) -> bool:
    """Whether two calls got the same float values, in any order of axes."""
    sides = [
        [np.sort(np.asarray(a, np.float64), axis=None) for _, a in leaves(side)]
        for side in (ours, theirs)
    ]
    return len(sides[0]) == len(sides[1]) and all(
        distance(a, b) <= CRITERIA["L1"].limit for a, b in zip(*sides, strict=True)
    )


def _replay(
    theirs: torch.nn.Module,
    ours: nnx.Module,
    call: Call,
    path: str,
    where: str,
    options: Options,
) -> list[Row]:
    try:
        axes = getattr(ours, "axes", nn.SAME)
    except ValueError:
        return []
    truth = run_torch(
        theirs,
        call.args,
        call.kwargs,
        dtype=torch.float64,
        seed=options.seed,
        training=call.training,
        rng_state=call.rng_state,
    )
    declared = axes is not nn.SAME or not list(nn.named_children(ours))
    try:
        run = run_flax(
            ours,
            call.args,
            call.kwargs,
            dtype=np.float64,
            training=call.training,
            axes=axes,
            masks=truth.masks,
            cotangent=cotangents(truth.outputs, options.seed),
        )
    except LayoutError as error:
        return [_failed(path, where, error)] if declared else []
    except FAULTS as error:
        return [_failed(path, where, error)]
    return semantic_rows(truth, run, where, path)


def _failed(path: str, where: str, error: Exception) -> Row:
    note = fault_text(error).strip().splitlines()[0]
    return Row("L1", where, "the call", float("inf"), CRITERIA["L1"].limit, False, note, path)
