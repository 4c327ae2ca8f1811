"""``python -m benchmarks``: forward and training step of each note model, four ways, interleaved.

Writes a table and JSON. All variants of a row are timed in turns within one run, so that the
machine's mood strikes them alike; reported are medians over the rounds and ratios to torch eager.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MINIMUM_SECONDS = 0.02
"""A timing covers at least this much work: short calls are repeated within one timing."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="timings of each variant")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--models", nargs="*", help="rows to run; all when not given")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark.json"))
    parser.add_argument("--markdown", type=Path, default=None, help="write the table here")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    from fluxmod.parity import environment

    from .cases import CASES
    from .variants import check_sizes

    check_sizes()
    rows = []
    for case in CASES:
        if options.models and case.name not in options.models:
            continue
        variants = build(case)
        for job in ("infer", "train"):
            row = measure(case, variants, job, options.rounds)
            rows.append(row)
            print(line(row), file=sys.stderr, flush=True)
    facts = {**environment(), "torch threads": str(options.threads), "cores": str(os.cpu_count())}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"environment": facts, "rows": rows}, indent=2))
    text = markdown(rows, facts)
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")


def measure(case: Any, variants: dict[str, Any], job: str, rounds: int) -> dict[str, Any]:
    """Time every variant of one row in turns; milliseconds per call."""
    calls: dict[str, tuple[Callable[[int], None], int]] = {}
    failed: dict[str, str] = {}
    for name, variant in variants.items():
        if isinstance(variant, Unavailable):
            failed[name] = str(variant)
            continue
        chunk = getattr(variant, "chunk", 1)
        if job == "infer" and chunk > 1:
            continue  # a chunk is of training steps
        run = getattr(variant, job)
        run(chunk)
        run(chunk)
        calls[name] = (run, repeats(run, chunk))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (run, k) in calls.items():
            start = time.perf_counter()
            run(k)
            times[name].append((time.perf_counter() - start) / k * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    reference = medians["torch eager"]
    return {
        "model": case.name,
        "batch": case.batch,
        "job": job,
        "ms": {name: round(value, 4) for name, value in medians.items()},
        "spread": {name: [round(q, 4) for q in quartiles(v)] for name, v in times.items()},
        "speedup": {name: round(reference / value, 3) for name, value in medians.items()},
        "unavailable": failed,
        "rounds": rounds,
    }


class Unavailable(str):
    """Why a variant cannot run on this machine; shown in its column."""


def build(case: Any) -> dict[str, Any]:
    """The variants by name, from one seed, or the reason why there is none."""
    from fluxmod.doctor import cxx_compiler

    from .variants import Fluxmod, PlainNnx, Torch

    compiler = cxx_compiler() is not None
    return {
        "torch eager": Torch(case, compiled=False),
        "torch.compile": Torch(case, compiled=True) if compiler else Unavailable("no C++ compiler"),
        "plain nnx": PlainNnx(case),
        "fluxmod": Fluxmod(case),
        "fluxmod, 16 steps a dispatch": Fluxmod(case, chunk=16),
    }


def repeats(run: Callable[[int], None], chunk: int) -> int:
    """How many calls make a timing long enough."""
    start = time.perf_counter()
    run(chunk)
    seconds = max((time.perf_counter() - start) / chunk, 1e-7)
    count = max(int(MINIMUM_SECONDS / seconds), 1)
    return max(count // chunk, 1) * chunk


def quartiles(values: list[float]) -> list[float]:
    """First and third quartile."""
    cuts = statistics.quantiles(values, n=4)
    return [cuts[0], cuts[2]]


def line(row: dict[str, Any]) -> str:
    """One row for the progress output."""
    cells = ", ".join(f"{name} {ms:.3f}" for name, ms in row["ms"].items())
    return f"{row['model']:16} {row['job']:6} {cells}"


def markdown(rows: list[dict[str, Any]], facts: dict[str, str]) -> str:
    """All rows as two tables, with the geometric mean of the ratios."""
    parts = [
        "# Speed of the note models",
        "",
        (
            "Written by `python -m benchmarks --markdown docs/benchmarks.md`. Milliseconds per "
            "call, medians; in brackets how many times faster than torch eager in the same run. "
            "Training is forward, loss, backward and Adam. All variants of a row take turns."
        ),
        "",
        ", ".join(f"{k} {v}" for k, v in facts.items()) + ".",
        "",
    ]
    for job, title in (("infer", "Inference"), ("train", "Training step")):
        chosen = [row for row in rows if row["job"] == job]
        if not chosen:
            continue
        names = list(dict.fromkeys(n for row in chosen for n in (*row["ms"], *row["unavailable"])))
        parts += [f"## {title}", "", f"| model | batch | {' | '.join(names)} |"]
        parts.append("|---|---|" + "---|" * len(names))
        for row in chosen:
            cells = [cell(row, name) for name in names]
            parts.append(f"| {row['model']} | {row['batch']} | {' | '.join(cells)} |")
        means = [geometric(chosen, name) for name in names]
        parts += [f"| **geometric mean** | | {' | '.join(means)} |", ""]
    return "\n".join(parts) + "\n"


def cell(row: dict[str, Any], name: str) -> str:
    """Milliseconds and ratio of one variant, or why there is none."""
    if name in row["unavailable"]:
        return row["unavailable"][name]
    return f"{row['ms'][name]:.3f} ({row['speedup'][name]:.2f}x)"


def geometric(rows: list[dict[str, Any]], name: str) -> str:
    """Geometric mean of a variant's ratios."""
    values = [row["speedup"][name] for row in rows if name in row["speedup"]]
    return f"{statistics.geometric_mean(values):.2f}x" if values else "-"


if __name__ == "__main__":
    main()
