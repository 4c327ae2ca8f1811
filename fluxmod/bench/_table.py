"""Rows as Markdown and as JSON, and what they were measured with."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fluxmod.parity import environment

from ._clock import OURS, Row

__all__ = ["facts", "load", "markdown", "recorded_peak", "save"]

PEAK = "peak of a float32 matrix product"
TITLES = {"infer": "Inference", "train": "Training step"}


def markdown(rows: Sequence[Row], *, peak: float | None = None) -> str:
    """One table for each job, with the geometric means of the ratios; and one of memory.

    Args:
        rows: what ``compare`` returned.
        peak: the machine's rate in GFLOP/s; adds what share of it fluxmod attains.
    """
    parts: list[str] = []
    for job, title in TITLES.items():
        chosen = [row for row in rows if row.job == job]
        if chosen:
            parts += [f"## {title}", "", *_table(chosen, peak), ""]
    if any(row.memory for row in rows):
        parts += ["## Memory", "", *_memory(rows), ""]
    return "\n".join(parts)


def facts(peak: float) -> dict[str, str]:
    """Versions, the machine, threads and ``matmul_peak``'s rate: what rows are measured with."""
    return {
        **environment(),
        "torch threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        PEAK: f"{peak:.0f} GFLOP/s",
    }


def save(rows: Sequence[Row], path: Path, measured_with: Mapping[str, str]) -> None:
    """Write rows, and what they were measured with, as JSON."""
    found = {"environment": dict(measured_with), "rows": [row.to_json() for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> list[Row]:
    """Read the rows that ``save`` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return [Row.from_json(row) for row in found["rows"]]


def recorded_peak(path: Path) -> float:
    """The machine's rate in GFLOP/s that ``save`` wrote beside its rows."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return float(found["environment"][PEAK].split()[0])


def _memory(rows: Sequence[Row]) -> list[str]:
    """MB above what is held between calls, a variant a column."""
    names = list(dict.fromkeys(n for row in rows for n in row.memory))
    lines = [
        f"| model | batch | job | {' | '.join(names)} |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        cells = [f"{row.memory[n]:.1f}" if n in row.memory else "" for n in names]
        lines.append(f"| {row.model} | {row.batch} | {row.job} | {' | '.join(cells)} |")
    return lines


def _table(rows: Sequence[Row], peak: float | None) -> list[str]:
    names = list(dict.fromkeys(n for row in rows for n in (*row.ms, *row.unavailable)))
    heads = [*names, "compiling, s"] + (["of peak"] if peak else [])
    lines = [f"| model | batch | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for row in rows:
        cells = [_cell(row, name) for name in names]
        cells.append(f"{row.first_call[OURS]:.1f}" if OURS in row.first_call else "-")
        if peak:
            share = row.rate(OURS) / peak if OURS in row.ms and row.gflop else None
            cells.append("-" if share is None else f"{share:.0%}")
        lines.append(f"| {row.model} | {row.batch} | {' | '.join(cells)} |")
    means = [_geometric([r.speedup[n] for r in rows if n in r.speedup]) for n in names]
    means += ["" for _ in heads[len(names) :]]
    return [*lines, f"| **geometric mean** | | {' | '.join(means)} |"]


def _cell(row: Row, name: str) -> str:
    if name in row.unavailable:
        return row.unavailable[name].replace("|", "\\|")
    if name not in row.ms:
        return ""
    if name not in row.speedup or row.speedup[name] == 1 == row.spread[name][0]:
        return f"{row.ms[name]:.2f}"
    low, high = row.spread[name]
    return f"{row.ms[name]:.2f} ({row.speedup[name]:.2f}x, {low:.2f}-{high:.2f})"


def _geometric(values: Sequence[float]) -> str:
    return f"{statistics.geometric_mean(values):.2f}x" if values else "-"
