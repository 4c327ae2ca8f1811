"""``python -m benchmarks``: forward and training step of each model, every way, interleaved."""

from __future__ import annotations

import argparse
from pathlib import Path

from .suite import run


def main() -> None:
    """Run the benchmark; write the rows as JSON, and a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="timings of each variant")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: all cores")
    parser.add_argument("--models", nargs="*", default=(), help="rows to run; all when not given")
    parser.add_argument("--json", type=Path, default=None, help="write the rows here")
    parser.add_argument(
        "--resume", action="store_true", help="keep the rows that the JSON file has; run the others"
    )
    parser.add_argument("--markdown", type=Path, default=None, help="write the table here")
    parser.add_argument("--plot", type=Path, default=None, help="draw the ratios here, as SVG")
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
