"""Two runs become rows: what was compared, how far apart, the limit, the verdict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._run import Run
from .criteria import (
    NARROWED,
    NO_INPUT_GRADIENT,
    NULL_SHARE,
    distance,
    limit_of,
    precision_limit,
    relative_l2,
)

__all__ = ["Row", "precision_rows", "semantic_rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report.

    ``where`` is the mode, the batch size or the submodule; ``what`` the array compared.
    ``passed`` is None for a row that was not run; ``note`` says why, or what to know.
    """

    level: str
    where: str
    what: str
    error: float
    limit: float
    passed: bool | None
    note: str = ""
    path: str = ""


def semantic_rows(torch_run: Run, flax_run: Run, where: str, path: str = "") -> list[Row]:
    """Compare two float64 runs by L1: outputs, input and parameter gradients, buffers."""
    limit = limit_of("L1", narrowed=NARROWED in torch_run.notes)
    note = "; ".join(torch_run.notes)
    rows: list[Row] = []
    theirs, ours = torch_run.groups(), flax_run.groups()
    for group, wanted in theirs.items():
        got = ours[group]
        if group == "input gradient" and NO_INPUT_GRADIENT in torch_run.notes:
            continue
        scale = group_scale(wanted)
        for name in sorted(set(wanted) | set(got), key=list([*wanted, *got]).index):
            what = name if group in ("output", "buffer") else f"grad {name}"
            row = _semantic_row(wanted.get(name), got.get(name), scale, limit, what)
            rows.append(Row("L1", where, what, *row[:3], note=row[3] or note, path=path))
    return rows


def _semantic_row(
    want: np.ndarray | None, got: np.ndarray | None, scale: float, limit: float, what: str
) -> tuple[float, float, bool, str]:
    if want is None or got is None:
        side = "Flax" if want is None else "torch"
        return float("inf"), limit, False, f"{what} exists only in {side}"
    if got.shape != want.shape:
        return float("inf"), limit, False, f"shape {got.shape}, torch has {want.shape}"
    if not _same_kind(got.dtype, want.dtype):
        return float("inf"), limit, False, f"dtype {got.dtype}, torch has {want.dtype}"
    error = distance(got, want, scale)
    is_float = np.issubdtype(want.dtype, np.floating)
    null = is_float and want.size and np.abs(_finite(want)).max(initial=0) < NULL_SHARE * scale
    return error, limit, error <= limit, "null: judged by its group" if null else ""


def precision_rows(
    truth: Run, torch_run: Run, flax_run: Run, where: str, level: str = "L2", eps: float = 2**-23
) -> list[Row]:
    """Compare float32 runs with the float64 truth: may Flax be that far, given torch's error?"""
    rows = []
    for group, wanted in truth.groups().items():
        theirs, ours = torch_run.groups()[group], flax_run.groups()[group]
        scale = group_scale(wanted)
        for name, want in wanted.items():
            if not np.issubdtype(want.dtype, np.floating) or name not in ours:
                continue
            limit = precision_limit(relative_l2(theirs[name], want, scale), eps, level)
            error = relative_l2(ours[name], want, scale)
            what = name if group in ("output", "buffer") else f"grad {name}"
            rows.append(Row(level, where, what, error, limit, error <= limit))
    return rows


def group_scale(arrays: dict[str, np.ndarray]) -> float:
    """Return the largest finite magnitude among the floats of a group."""
    sizes = [
        float(np.abs(_finite(a)).max(initial=0.0))
        for a in arrays.values()
        if np.issubdtype(a.dtype, np.floating)
    ]
    return max(sizes, default=0.0)


def _finite(array: np.ndarray) -> np.ndarray:
    return array[np.isfinite(array)] if np.issubdtype(array.dtype, np.inexact) else array


def _same_kind(got: np.dtype, want: np.dtype) -> bool:
    """Floats must have equal width; integers of any width are integers (JAX without x64)."""
    if np.issubdtype(want, np.integer):
        return bool(np.issubdtype(got, np.integer))
    return got == want
