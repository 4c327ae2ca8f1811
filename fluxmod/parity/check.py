"""``parity.check``: one torch module, one Flax model, one certificate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from flax import nnx

from fluxmod import convert
from fluxmod._errors import ConvertError
from fluxmod._transformers import without_cache
from fluxmod.nn import SAME, Axes

from . import _levels
from ._copies import copied
from ._inputs import other_batch, randomise_
from ._torch import run_torch
from .compare import Row
from .options import Options
from .report import Report, environment

__all__ = ["check"]


def check(
    torch_module: torch.nn.Module,
    flax_model: nnx.Module,
    *args: Any,
    options: Options | None = None,
    **kwargs: Any,
) -> Report:
    """Compare a torch module with a Flax model that already holds its weights.

    First at the weights given: structure, bitwise round trip and one forward. Then on copies with
    every float leaf randomised: float64 semantics with all gradients and buffers in both modes at
    two batch sizes, float32 precision, ten training steps, randomness. Nothing is changed: neither
    the modules, nor their modes, nor any random state. A model of transformers is compared without
    its cache of keys and values.

    Args:
        torch_module: the reference.
        flax_model: its counterpart.
        *args, **kwargs: forward arguments in torch's layout, as tensors or numpy arrays. An
            argument that is itself called ``options`` goes into ``Options(kwargs=...)``.
        options: levels, seed, axes and more.

    Returns:
        A report; ``report.require()`` raises if the two differ.

    >>> from fluxmod import nn
    >>> t, j = torch.nn.Linear(3, 2), nn.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> _ = convert.to_flax(t, j)
    >>> check(t, j, torch.randn(4, 3), options=Options(levels=("L0", "L1"))).passed
    True
    """
    options = options or Options()
    name = type(torch_module).__name__
    structure = _levels.structure_rows(torch_module, flax_model)
    if any(row.passed is False for row in structure):
        return Report(name, tuple(structure), options.seed, environment())
    with without_cache(torch_module):  # in which its copies are made, so that they keep none either
        compared, notes = _compared(torch_module, flax_model, args, kwargs, options)
    return Report(name, (*structure, *compared), options.seed, environment(), tuple(notes))


def _compared(
    torch_module: torch.nn.Module, flax_model: nnx.Module, args: Any, kwargs: Any, options: Options
) -> tuple[list[Row], list[str]]:
    """Everything after the structure; also what the report has to say of it."""
    args, kwargs = _first_arguments(args, {**kwargs, **options.kwargs}, options)
    axes = _axes_of(flax_model, options)
    rows = _levels.given_rows(torch_module, flax_model, args, kwargs, axes, options)
    twin = copied(torch_module).float()
    randomise_(twin, options.seed)
    ours = nnx.clone(flax_model)
    with_float32(ours)
    convert.to_flax(twin, ours)
    pair = _levels.Pair(twin, ours, axes, options)
    notes: list[str] = []
    batches = [(args, kwargs)]
    if len(options.batches) < 2:
        pass
    elif (second := _second_arguments(twin, args, kwargs, options)) is not None:
        batches.append(second)
    else:
        notes.append("one batch size only: the arguments have no batch axis that can grow")
    return [*rows, *pair.rows(batches)], notes


def with_float32(model: nnx.Module) -> None:
    """Make every float leaf float32, in place, so that one set of weights serves all levels."""
    for slot in convert.slots(model):
        value = slot.variable.get_value()
        if np.issubdtype(np.dtype(slot.stored_dtype), np.floating) or slot.stored_dtype in (
            "bfloat16",
            "float16",
        ):
            slot.variable.set_value(value.astype("float32"))


def _first_arguments(args: Any, kwargs: Any, options: Options) -> tuple[Any, dict[str, Any]]:
    if args or kwargs or options.inputs is None:
        return args, kwargs
    return options.inputs(options.batches[0])


def _second_arguments(twin: Any, args: Any, kwargs: Any, options: Options) -> Any:
    """Arguments at another batch size, if the torch module accepts them."""
    if options.inputs is not None:
        return options.inputs(options.batches[1])
    larger = other_batch(args, kwargs, options.seed)
    if larger is None:
        return None
    try:
        run_torch(twin, *larger, dtype=torch.float64, seed=options.seed, training=False)
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return None  # a fixed batch size is the model's own affair; the report says so
    return larger


def _axes_of(model: nnx.Module, options: Options) -> Axes:
    """The declared order of axes; for a model that declares none, Options(axes=...) is needed."""
    if options.axes is not None:
        return options.axes
    try:
        return getattr(model, "axes", SAME)
    except ValueError as error:
        raise ConvertError(f"parity: {error}") from error
