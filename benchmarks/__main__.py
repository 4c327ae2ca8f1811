"""``python -m benchmarks``: forward and training step of each model, every way, interleaved."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .plot import draw


def main() -> None:
    """Run the benchmark; write the rows as JSON, and a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="timings of each variant")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--models", nargs="*", help="rows to run; all when not given")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark.json"))
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that the JSON file has; run the others"
    )
    parser.add_argument("--markdown", type=Path, default=None, help="write the table here")
    parser.add_argument("--plot", type=Path, default=None, help="draw the ratios here, as SVG")
    options = parser.parse_args()

    import jax
    import torch

    jax.config.update("jax_enable_compilation_cache", False)  # seconds of compiling are reported
    torch.set_num_threads(options.threads)
    from fluxmod import bench
    from fluxmod.bench._table import recorded_peak

    from .models import architectures, check_sizes, notes

    check_sizes()
    peak, rows = bench.matmul_peak(), []
    if options.resume and options.json.exists():
        rows = bench.load(options.json)
        peak = max(peak, recorded_peak(options.json))
    facts = bench.facts(peak)
    known = {(row.model, row.batch) for row in rows}
    cases = [*notes(), *architectures()]
    for case in cases:
        wanted = not options.models or case.name in options.models
        if not wanted or (case.name, case.batch) in known:
            continue
        for row in bench.compare(case, rounds=options.rounds):
            rows.append(row)
            cells = ", ".join(f"{name} {ms:.2f}" for name, ms in row.ms.items())
            print(f"{row.model:16} {row.batch:3} {row.job:6} {cells}", file=sys.stderr, flush=True)
        bench.save(rows, options.json, facts)  # a run that is stopped can be resumed
        jax.clear_caches()
        torch.compiler.reset()
    done = {(row.model, row.batch) for row in rows}
    left = [f"{c.name} ({c.batch})" for c in cases if (c.name, c.batch) not in done]
    text = f"{HEAD}\n{', '.join(f'{k} {v}' for k, v in facts.items())}.\n\n"
    if left:
        text += f"Not measured yet: {', '.join(left)}.\n\n"
    if options.plot is not None:
        draw(rows, options.plot)
    text += bench.markdown(rows, peak=peak)
    print(text)
    if options.markdown is not None:
        if options.plot is not None:
            place = options.plot.resolve().relative_to(options.markdown.resolve().parent)
            text = text.replace("\n## ", f"\n![ratios to torch eager]({place})\n\n## ", 1)
        options.markdown.write_text(text, encoding="utf-8")


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


if __name__ == "__main__":
    main()
