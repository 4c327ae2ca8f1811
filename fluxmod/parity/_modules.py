"""Every submodule on torch's own inputs, so that a fault is found where it is."""

from __future__ import annotations

import inspect
from dataclasses import replace
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
from .criteria import CRITERIA, NARROWED, distance, limit_of
from .options import Options

__all__ = ["called_otherwise", "in_place_rows", "module_rows"]


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
    limit = limit_of("L1", narrowed=NARROWED in truth.notes)
    for path, (same_call, error) in _in_place(flax_model, args, kwargs, axes, truth, where).items():
        if error is not None and error > limit:
            if not same_call:
                return []
            return [Row("L1", f"{where}, in place", "output", error, limit, False, "", path)]
    return []


def called_otherwise(
    rows: list[Row],
    flax_model: nnx.Module,
    args: Any,
    kwargs: Any,
    axes: nn.Axes,
    truth: Run,
    where: str,
) -> list[Row]:
    """Judge failing replays in place, where Flax calls a submodule with other values than torch.

    A port is written from a trace, in which a mask may be an array that torch leaves out when it
    runs. For a model that is equal as a whole: what its submodules give there is compared instead.
    """
    limit = limit_of("L1", narrowed=NARROWED in truth.notes)
    failing = {row.path for row in rows if row.passed is False}
    places = _in_place(flax_model, args, kwargs, axes, truth, where)
    judged = []
    for path in [path for path in places if path in failing]:
        same_call, error = places[path]
        if not same_call and error is not None and error <= limit:
            note = "torch calls it with other values"
            judged.append(Row("L1", f"{where}, in place", "output", error, limit, True, note, path))
    settled = {row.path for row in judged}
    return [row for row in rows if row.path not in settled] + judged


def _in_place(
    flax_model: nnx.Module, args: Any, kwargs: Any, axes: nn.Axes, truth: Run, where: str
) -> dict[str, tuple[bool, float | None]]:
    """Of each submodule, in one run of the whole: got it torch's values, and how far is it off?

    None where no output has the name and the shape of one of torch's.
    """
    training = where.startswith("train")
    try:
        ours = outputs_in_place(
            flax_model, args, kwargs, training=training, axes=axes, masks=truth.masks
        )
    except FAULTS as fault:
        fault_text(fault)
        return {}  # the call itself fails, which has its own row
    found: dict[str, tuple[bool, float | None]] = {}
    for path, (arguments, got) in ours.items():
        if call := truth.calls.get(path):
            pairs = [(got[name], call.outputs[name]) for name in got if name in call.outputs]
            error = max((distance(g, w) for g, w in pairs if g.shape == w.shape), default=None)
            found[path] = (_same_values(arguments, [*call.args, call.kwargs]), error)
    return found


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
    fitted = _fitted(theirs, ours, call)
    if fitted is None:
        return []
    call, taken = fitted
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
            taken,
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


def _fitted(
    theirs: torch.nn.Module, ours: nnx.Module, call: Call
) -> tuple[Call, dict[str, Any]] | None:
    """The call, and the keywords of it that Flax takes; None where Flax needs what torch has not.

    A port has torch's names, without those arguments that its model never gives or never reads:
    where places do not match, both sides are called by name.
    """
    known = dict(list(inspect.signature(type(ours).__call__).parameters.items())[1:])
    accepted = inspect.signature(theirs.forward)
    if _open(known) or any(p.kind is p.VAR_POSITIONAL for p in accepted.parameters.values()):
        return call, call.kwargs
    mirrors = set(known) <= set(accepted.parameters)
    given = len(call.args)
    if not mirrors or [*known][:given] == [*accepted.parameters][:given]:
        needed = [name for name, p in known.items() if p.default is p.empty]
        return None if set(needed[given:]) - set(call.kwargs) else (call, call.kwargs)
    bound = accepted.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    named = dict(bound.arguments)
    for name, parameter in accepted.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(name)
    return replace(call, args=(), kwargs=named), {n: named[n] for n in known if n in named}


def _open(parameters: dict[str, inspect.Parameter]) -> bool:
    """Whether a signature takes any number of arguments, or any names."""
    return any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())


def _failed(path: str, where: str, error: Exception) -> Row:
    note = fault_text(error).strip().splitlines()[0]
    return Row("L1", where, "the call", float("inf"), CRITERIA["L1"].limit, False, note, path)
