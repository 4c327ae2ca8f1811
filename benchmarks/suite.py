"""The suite: forward and training step of each model, every way, interleaved."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import torch

from fluxmod import bench
from fluxmod.bench._table import recorded_peak

from .models import architectures, check_sizes, notes
from .plot import draw

__all__ = ["run"]

HEAD = """\
# Speed

Written by `make bench ARGS="--markdown docs/performance.md --plot docs/performance.svg --json
benchmarks/results/cpu.json"`. Milliseconds per call, medians; in brackets how many times as fast as
torch eager in the same round, median and quartiles. Training is forward, loss, backward and Adam.
All variants of a row take turns; a call of over 2 s joins three rounds. "plain nnx" is the model as
`flax.nnx` alone has it, under `nnx.jit`: written by hand for the note models, for the others the
port with flax.nnx's convolutions, norms, products and tables (recurrences stay fluxmod's).
"compiling" is fluxmod's first call without a cache, "of peak" the share of the machine's best
matrix product. Memory is what a call takes at its highest above what is held between calls, in MB.
Models and sizes, fixed before anything was optimised: `benchmarks/models.py`.
"""


def run(
    models: Sequence[str] = (),
    *,
    json: Path | None = None,
    rounds: int = 21,
    threads: int = 0,
    compile: bool = True,
    resume: bool = False,
    markdown: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Run the models, all when none is named; write the rows as JSON, and print the table.

    Args:
        json: the rows, out/benchmark.json unless given; written after every model, so that a run
            that is stopped can be resumed.
        threads: of torch; 0: all cores, as XLA has.
        compile: time ``torch.compile`` too.
        resume: keep the rows that the JSON file has and run the others.
        markdown: also write the table here.
        plot: also draw the ratios here, as SVG.

    Raises:
        ValueError: there is no such model.
    """
    cases = [*notes(), *architectures()]
    names = dict.fromkeys(case.name for case in cases)
    if unknown := sorted({*models} - {*names}):
        raise ValueError(f"benchmarks: expected models among {', '.join(names)}; got {unknown}.")
    json = json or Path("out/benchmark.json")
    jax.config.update("jax_enable_compilation_cache", False)  # seconds of compiling are reported
    torch.set_num_threads(threads or os.cpu_count() or 1)
    check_sizes()
    peak, rows = bench.matmul_peak(), []
    if resume and json.exists():
        rows = bench.load(json)
        peak = max(peak, recorded_peak(json))
    facts = bench.facts(peak)
    known = {(row.model, row.batch, row.job) for row in rows}
    for case in cases:
        jobs = tuple(job for job in bench.JOBS if (case.name, case.batch, job) not in known)
        if (models and case.name not in models) or not jobs:
            continue
        for row in bench.compare(case, rounds=rounds, jobs=jobs, torch_compile=compile):
            rows.append(row)
            cells = ", ".join(f"{name} {ms:.2f}" for name, ms in row.ms.items())
            print(f"{row.model:16} {row.batch:3} {row.job:6} {cells}", file=sys.stderr, flush=True)
        bench.save(rows, json, facts)
        jax.clear_caches()
        torch.compiler.reset()
    order = {(case.name, case.batch): index for index, case in enumerate(cases)}
    rows.sort(key=lambda row: (order[row.model, row.batch], bench.JOBS.index(row.job)))
    bench.save(rows, json, facts)
    done = {(row.model, row.batch, row.job) for row in rows}
    left = [
        f"{case.name} ({case.batch})"
        for case in cases
        if not all((case.name, case.batch, job) in done for job in bench.JOBS)
    ]
    text = f"{HEAD}\n{', '.join(f'{k} {v}' for k, v in facts.items())}.\n\n"
    if left:
        text += f"Not measured yet: {', '.join(left)}.\n\n"
    if plot is not None:
        draw(rows, plot)
    text += bench.markdown(rows, peak=peak)
    print(text)
    if markdown is not None:
        if plot is not None:
            place = plot.resolve().relative_to(markdown.resolve().parent)
            text = text.replace("\n## ", f"\n![ratios to torch eager]({place})\n\n## ", 1)
        markdown.write_text(text, encoding="utf-8")
