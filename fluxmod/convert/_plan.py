"""Pairing a source's keys with a model's leaves; nothing is moved here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flax import nnx

from fluxmod._errors import ConvertError, DtypeError, LayoutError, UnmatchedKeysError
from fluxmod._paths import matches, nearest
from fluxmod.nn._check import x64_enabled

from ._slots import Slot, slots
from ._source import Source, Weight, read

__all__ = ["Match", "Plan", "Problem", "plan"]


@dataclass(frozen=True, slots=True)
class Match:
    """A source weight, the leaf it goes to, and the dtype that the leaf then has."""

    slot: Slot
    weight: Weight
    dtype: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that stands in the way: the key, the kind and a sentence."""

    key: str
    kind: type[ConvertError]
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would go where.

    ``matched`` pairs, ``tied`` keys filled through another name of the same Variable, ``missing``
    keys the model needs, ``unexpected`` keys the model has no place for, and ``problems`` with
    shapes, dtypes and ties.
    """

    origin: str
    target: str
    matched: tuple[Match, ...]
    tied: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def complete(self) -> bool:
        """Whether every key and every leaf is accounted for and fits."""
        return not (self.missing or self.unexpected or self.problems)

    def text(self) -> str:
        """Describe the plan: counts, then everything that does not fit."""
        counts = (
            f"{len(self.matched)} matched, {len(self.tied)} tied, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.problems)} not fitting."
        )
        lines = [f"{self.origin} -> {self.target}: {counts}"]
        for key in self.missing:
            lines.append(f"  missing     {key}{_suggest(key, self.unexpected)}")
        for key in self.unexpected:
            lines.append(f"  unexpected  {key}{_suggest(key, self.missing)}")
        lines += [f"  {p.text}" for p in self.problems]
        return "\n".join(lines)

    def raise_if_incomplete(
        self, *, allow_missing: Iterable[str] = (), allow_unexpected: Iterable[str] = ()
    ) -> None:
        """Raise one error that lists everything wrong, less what the patterns forgive.

        Raises:
            UnmatchedKeysError: keys are missing or unexpected.
            LayoutError: only shapes or ties do not fit.
            DtypeError: only dtypes do not fit.
        """
        forgiven = (tuple(allow_missing), tuple(allow_unexpected))
        missing = [key for key in self.missing if not matches(key, forgiven[0])]
        unexpected = [key for key in self.unexpected if not matches(key, forgiven[1])]
        if not (missing or unexpected or self.problems):
            return
        kinds = [UnmatchedKeysError] if missing or unexpected else [p.kind for p in self.problems]
        raise kinds[0](
            f"convert: nothing was loaded. {self.text()}\n"
            "Forgive keys by name with allow_missing=[...] or allow_unexpected=[...]; "
            "change dtypes with cast=True, or the model's with assign=True."
        )


def plan(source: Any, model: nnx.Module, *, cast: bool = False, assign: bool = False) -> Plan:
    """Pair the weights of ``source`` with the leaves of a Flax model; move nothing.

    Args:
        source: a torch module, a mapping of names to arrays, a file or a folder.
        model: any ``nnx.Module``; may be abstract (``nnx.eval_shape``).
        cast: dtypes that differ from the model's are no problem.
        assign: the model takes the source's dtypes.

    >>> from fluxmod import nn
    >>> import numpy as np
    >>> layer = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> print(plan({"weight": np.zeros((3, 2), np.float32)}, layer).text())
    the mapping -> Linear: 1 matched, 0 tied, 1 missing, 0 unexpected, 0 not fitting.
      missing     bias
    """
    if cast and assign:
        raise ValueError("convert: cast keeps the model's dtypes, assign the source's; give one.")
    weights = read(source)
    places = list(slots(model))
    pairs = [(slot, weights[slot.key]) for slot in places if slot.key in weights]
    matched = tuple(Match(s, w, _held(w) if assign else s.stored_dtype) for s, w in pairs)
    filled = {match.slot.place for match in matched}
    absent = [slot for slot in places if slot.key not in weights]
    known = {slot.key for slot in places}
    return Plan(
        origin=weights.origin,
        target=type(model).__name__,
        matched=matched,
        tied=tuple(slot.key for slot in absent if slot.place in filled),
        missing=tuple(slot.key for slot in absent if slot.place not in filled),
        unexpected=tuple(key for key in weights if key not in known),
        problems=(*_misfits(matched, cast, assign), *_broken_ties(weights, places)),
    )


def _held(weight: Weight) -> str:
    """The dtype in which JAX holds a weight as it is."""
    return "int32" if weight.dtype == "int64" and not x64_enabled() else weight.dtype


def _misfits(matched: Iterable[Match], cast: bool, assign: bool) -> list[Problem]:
    problems = []
    for match in matched:
        slot, weight = match.slot, match.weight
        if weight.shape != slot.torch_shape:
            problems.append(
                Problem(
                    slot.key,
                    LayoutError,
                    f"shape       {slot.key}: expected torch shape {slot.torch_shape} (Flax "
                    f"{slot.shape} at {slot.where}), got {weight.shape}.",
                )
            )
        if reason := _dtype_problem(slot, weight, cast, assign):
            problems.append(Problem(slot.key, DtypeError, f"dtype       {slot.key}: {reason}"))
    return problems


def _dtype_problem(slot: Slot, weight: Weight, cast: bool, assign: bool) -> str | None:
    if weight.dtype == slot.dtype or (weight.dtype == "int64" and slot.stored_dtype == "int32"):
        return None
    if cast:
        return None
    if weight.dtype == "float64" and not x64_enabled():
        return (
            f"got float64, which JAX without x64 cannot hold (the model has {slot.stored_dtype}). "
            "Build and load the model inside jax.enable_x64(True)."
        )
    if assign:
        return None
    return (
        f"expected {slot.dtype}, got {weight.dtype}. Build the model with "
        f"param_dtype={weight.dtype}, or pass cast=True (the model's dtypes stay) or assign=True "
        "(it takes the source's)."
    )


def _broken_ties(weights: Source, places: Iterable[Slot]) -> list[Problem]:
    """Keys that are one tensor in the source and several Variables in the model, or reverse."""
    by_key = {slot.key: slot for slot in places}
    problems = []
    for keys in weights.tied():
        variables = {by_key[key].place for key in keys if key in by_key}
        if len(variables) > 1:
            problems.append(
                Problem(
                    keys[0],
                    LayoutError,
                    f"tie         {', '.join(keys)} are one tensor in the source and "
                    f"{len(variables)} Variables in the model; assign one Variable to all.",
                )
            )
    return problems


def _suggest(key: str, candidates: Iterable[str]) -> str:
    close = nearest(key, candidates)
    return f"   (close to {', '.join(close)})" if close else ""
