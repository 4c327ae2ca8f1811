"""``python -m benchmarks``: forward and training step of each model, every way, interleaved."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmark; write the rows as JSON, and a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="timings of each variant")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--models", nargs="*", help="rows to run; all when not given")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark.json"))
    parser.add_argument("--markdown", type=Path, default=None, help="write the table here")
    options = parser.parse_args()

    import jax
    import torch

    jax.config.update("jax_enable_compilation_cache", False)  # seconds of compiling are reported
    torch.set_num_threads(options.threads)
    from fluxmod import bench

    from .models import architectures, check_sizes, notes

    check_sizes()
    rows = []
    for case in itertools.chain(notes(), architectures()):
        if options.models and case.name not in options.models:
            continue
        for row in bench.compare(case, rounds=options.rounds):
            rows.append(row)
            cells = ", ".join(f"{name} {ms:.2f}" for name, ms in row.ms.items())
            print(f"{row.model:16} {row.batch:3} {row.job:6} {cells}", file=sys.stderr, flush=True)
        jax.clear_caches()
        torch.compiler.reset()
    peak = bench.matmul_peak()
    facts = bench.facts(peak)
    bench.save(rows, options.json, facts)
    text = f"{HEAD}\n{', '.join(f'{k} {v}' for k, v in facts.items())}.\n\n"
    text += bench.markdown(rows, peak=peak)
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")


HEAD = """\
# Speed

Written by `make bench ARGS="--markdown docs/performance.md --json benchmarks/results/cpu.json"`.
Milliseconds per call, medians; in brackets how many times as fast as torch eager in the same round,
median and quartiles. Training is forward, loss, backward and Adam. All variants of a row take
turns. "compiling" is fluxmod's first call without a cache, "of peak" the share of the machine's
best matrix product. Models and sizes: `benchmarks/models.py`.
"""


if __name__ == "__main__":
    main()
