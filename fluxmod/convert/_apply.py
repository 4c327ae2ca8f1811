"""Carrying out a plan, and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from flax import nnx

from fluxmod._errors import ConvertError, DtypeError, LayoutError

from ._device import put_like
from ._plan import Match, Plan, plan
from ._slots import Slot, slots

__all__ = ["apply", "to_flax", "to_torch"]


def to_flax(
    source: Any,
    flax_model: nnx.Module,
    *,
    cast: bool = False,
    assign: bool = False,
    allow_missing: Iterable[str] = (),
    allow_unexpected: Iterable[str] = (),
) -> Plan:
    """Load weights into a Flax model, in place, strictly; the model is unchanged if that fails.

    Args:
        source: a torch module, a mapping of torch names to arrays, a file or a folder.
        flax_model: any ``nnx.Module``; may be abstract (``nnx.eval_shape``).
        cast: convert to the model's dtypes instead of raising where they differ.
        assign: give the model the source's dtypes, as ``load_state_dict(assign=True)`` of torch.
        allow_missing: patterns of keys the source may lack; the leaves keep their values.
        allow_unexpected: patterns of keys the source may have in addition.

    Returns:
        The plan that was carried out.

    Raises:
        UnmatchedKeysError, LayoutError, DtypeError, FileFormatError: everything wrong, at once.

    >>> from fluxmod import nn
    >>> layer = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> weights = {"weight": np.ones((3, 2), np.float32), "bias": np.zeros(3, np.float32)}
    >>> to_flax(weights, layer).complete, float(layer.kernel[0, 0])
    (True, 1.0)
    """
    work = plan(source, flax_model, cast=cast, assign=assign)
    work.raise_if_incomplete(allow_missing=allow_missing, allow_unexpected=allow_unexpected)
    apply(work)
    return work


def apply(work: Plan) -> None:
    """Move the weights of a plan without problems; all are read before the first is written."""
    values = [(match.slot, _load(match)) for match in work.matched]
    _check_ties(values)
    _check_stacks(values)
    for slot, value in _whole(values):
        # JAX may go on using numpy's memory, and the numpy array is ours alone
        slot.variable.set_value(put_like(value, slot.variable.get_value()))
    for match in work.matched:
        if match.weight.dtype == "int64" and match.dtype == "int32":
            match.slot.variable.set_metadata(torch_dtype="int64")


def _load(match: Match) -> np.ndarray:
    slot, weight = match.slot, match.weight
    array = weight.load()
    if array.shape != weight.shape or str(array.dtype) != weight.dtype:
        raise ConvertError(
            f"convert: {slot.key} was announced as {weight.dtype}{weight.shape} and read as "
            f"{array.dtype}{array.shape}; the source changed while it was read."
        )
    if weight.dtype == "int64" and match.dtype == "int32":
        low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        if array.size and not (low <= array.min() and array.max() <= high):
            raise DtypeError(
                f"convert: {slot.key} holds int64 values outside int32 "
                f"(from {array.min()} to {array.max()}). Build and load the model inside "
                "jax.enable_x64(True) with an int64 buffer."
            )
    return np.array(slot.leaf.to_flax(array), dtype=np.dtype(match.dtype), order="C")


def _whole(values: list[tuple[Slot, np.ndarray]]) -> list[tuple[Slot, np.ndarray]]:
    """The layers of a stack as one array; those that were not loaded keep their values."""
    whole: dict[int, tuple[Slot, np.ndarray]] = {}
    for slot, value in values:
        key = id(slot.variable)
        if not slot.index:
            whole[key] = (slot, value)
            continue
        if key not in whole:
            current = slot.variable.get_value()
            known = isinstance(current, jax.Array)
            start = np.asarray(current) if known else np.zeros(current.shape)
            whole[key] = (slot, start.astype(value.dtype))
        whole[key][1][slot.index] = value
    return list(whole.values())


def _check_ties(values: Iterable[tuple[Slot, np.ndarray]]) -> None:
    """Names of one Variable must carry equal values."""
    first: dict[Any, tuple[Slot, np.ndarray]] = {}
    for slot, value in values:
        other, known = first.setdefault(slot.place, (slot, value))
        if known.tobytes() != value.tobytes():
            raise LayoutError(
                f"convert: {other.key} and {slot.key} are one Variable in the model and have "
                "different values in the source; nothing was loaded."
            )


def _check_stacks(values: Iterable[tuple[Slot, np.ndarray]]) -> None:
    """The layers of a stack are one array, and so of one dtype."""
    first: dict[int, tuple[Slot, np.ndarray]] = {}
    for slot, value in values:
        other, known = first.setdefault(id(slot.variable), (slot, value))
        if known.dtype != value.dtype:
            raise DtypeError(
                f"convert: {other.key} and {slot.key} are one array in the model and have the "
                f"dtypes {known.dtype} and {value.dtype} in the source; nothing was loaded. "
                "Pass cast=True, or load a model without the stack."
            )


def to_torch(flax_model: nnx.Module) -> dict[str, np.ndarray]:
    """Return the weights under torch's names, in torch's layouts, dtypes and order.

    bfloat16 comes as ``ml_dtypes.bfloat16``; tied weights are listed under each name, as in
    torch's ``state_dict``.

    >>> from fluxmod import nn
    >>> {k: v.shape for k, v in to_torch(nn.Linear(2, 3, rngs=nnx.Rngs(0))).items()}
    {'weight': (3, 2), 'bias': (3,)}
    """
    return {slot.key: slot.to_numpy() for slot in slots(flax_model)}
