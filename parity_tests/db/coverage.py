"""What of torch is covered: results of the last runs, and the page made from them.

Each run leaves one record per class, function and optimizer, of some samples or, with
``--samples=all``, of all; this module joins them:
``python -m parity_tests.db.coverage docs/coverage.md``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ELSEWHERE = (
    "Container",
    "DataParallel",
    "Identity",
    "Module",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "RNNBase",
    "RNNCellBase",
    "Sequential",
)
"""Classes without samples: what they do is hold others."""

RECORDS = Path(__file__).parents[2] / "out" / "coverage"
KINDS = {
    "module": "Classes of torch.nn",
    "outside": "Classes of torch.nn that module_db leaves out",
    "function": "torch.nn.functional",
    "optimizer": "torch.optim",
}


@dataclass
class Record:
    """What became of torch's samples of one name.

    Args:
        refused, refusals: error inputs refused, and how many torch has.
        left: samples that were not run, by reason.
        absent: why there is no twin.
    """

    kind: str
    name: str
    run: int = 0
    available: int = 0
    l1: float = 0.0
    l2: float = 0.0
    l6: float = 0.0
    refused: int = 0
    refusals: int = 0
    left: dict[str, int] = field(default_factory=dict)
    absent: str = ""
    problems: int = 0

    @property
    def status(self) -> str:
        """A word, or the reasons."""
        if self.absent:
            return f"no twin: {self.absent}"
        if self.problems:
            return f"**{self.problems} differ**"
        left = "; ".join(f"{n} left out: {reason}" for reason, n in self.left.items())
        return left or "equal"

    def save(self) -> None:
        """Leave the record for the page."""
        RECORDS.mkdir(parents=True, exist_ok=True)
        path = RECORDS / f"{self.kind}-{self.name.replace('/', '_')}.json"
        path.write_text(json.dumps(asdict(self)))


def files_of(name: str) -> list[str]:
    """The test files that name a class of ours, those that do most often first."""
    root = Path(__file__).parents[1]
    word = re.compile(rf"\bnn\.{name}\b")
    found = {f: len(word.findall(f.read_text())) for f in sorted(root.glob("nn/**/test_*.py"))}
    named = sorted((f for f in found if found[f]), key=lambda f: -found[f])
    return [str(f.relative_to(root.parent)) for f in named]


def counts(rows: list[Record]) -> tuple[int, int, int]:
    """Samples run, samples there are, and names without a twin."""
    with_twin = [row for row in rows if not row.absent]
    run, available = sum(r.run for r in with_twin), sum(r.available for r in with_twin)
    return run, available, len(rows) - len(with_twin)


def elsewhere() -> Iterator[str]:
    """Where the classes are tested that compute nothing of their own."""
    yield "## Containers and bases of torch.nn"
    yield ""
    yield "They compute nothing of their own; their behaviour is tested, above all in these files."
    yield ""
    yield "| name | tests |"
    yield "|---|---|"
    for name in ELSEWHERE:
        yield f"| {name} | {', '.join(f'`{file}`' for file in files_of(name)[:3])} |"


def records() -> list[Record]:
    """All records, by kind and name."""
    found = [Record(**json.loads(path.read_text())) for path in RECORDS.glob("*.json")]
    return sorted(found, key=lambda r: (list(KINDS).index(r.kind), r.name))


def page(rows: list[Record]) -> str:
    """The page."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: list[Record]) -> Iterator[str]:
    yield "# Coverage of torch"
    yield ""
    yield (
        "Inputs are torch's own: `module_db`, `op_db` and `optim_db` "
        "of torch.testing, in training and evaluation mode. *L1* is the worst relative error in "
        "float64 over outputs, gradients and state: the limit is 1e-10, for optimizers 1e-9. "
        "*L2* and *L6* are the worst errors in float32 and bfloat16 as shares of what torch's own "
        "error allows (1.00 is the limit). *Refused* counts inputs that torch refuses."
    )
    run, available, absent = counts(rows)
    yield ""
    yield (
        f"{run} of {available} samples run. `make test` takes a part of them, `make test-all` all "
        f"but those that the last column names with a reason; {absent} names have no twin."
    )
    for kind, title in KINDS.items():
        chosen = [row for row in rows if row.kind == kind]
        if not chosen:
            continue
        equal = sum(row.status == "equal" for row in chosen)
        run, available = sum(r.run for r in chosen), sum(r.available for r in chosen)
        yield ""
        yield f"## {title}"
        yield ""
        yield (
            f"{len(chosen)} entries, {equal} equal on every sample run; {run} of {available} "
            f"samples run; {sum(r.refused for r in chosen)} of {sum(r.refusals for r in chosen)} "
            "error inputs refused."
        )
        yield ""
        yield "| name | samples | L1 | L2 | L6 | refused | status |"
        yield "|---|---|---|---|---|---|---|"
        for r in chosen:
            refused = f"{r.refused}/{r.refusals}" if r.refusals else ""
            yield (
                f"| {r.name} | {r.run}/{r.available} | {r.l1:.0e} | {r.l2:.2f} | {r.l6:.2f} | "
                f"{refused} | {r.status} |"
            )
    yield ""
    yield from elsewhere()


def main() -> None:
    """Write the page."""
    Path(sys.argv[1]).write_text(page(records()), encoding="utf-8")


if __name__ == "__main__":
    main()
