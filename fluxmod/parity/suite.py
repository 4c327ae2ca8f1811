"""The certificate of every row of the notes: models, exercises and layers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flax import nnx

from fluxmod import convert
from fluxmod.models import CATALOG, Entry, entry

from .check import check
from .options import LEVELS, Options
from .report import Report, environment

__all__ = ["Suite", "certify", "certify_all"]


@dataclass(frozen=True, slots=True)
class Suite:
    """Reports of several models, in order."""

    reports: tuple[Report, ...]

    @property
    def passed(self) -> bool:
        """Whether there are reports and every one passed."""
        return bool(self.reports) and all(report.passed for report in self.reports)

    def text(self) -> str:
        """Return the reports' texts and the count."""
        good = sum(report.passed for report in self.reports)
        return "\n".join([*(r.text() for r in self.reports), f"{good}/{len(self.reports)} equal"])

    def to_json(self) -> str:
        """Return all reports as JSON."""
        data = {
            "passed": self.passed,
            "environment": environment(),
            "models": [report.to_dict() for report in self.reports],
        }
        return json.dumps(data, indent=2, allow_nan=False)

    def to_html(self) -> str:
        """Return one self-contained page."""
        from .html import page

        return page(self.reports)


def certify(
    row: Entry, *, seed: int = 0, device: str = "cpu", levels: tuple[str, ...] = LEVELS
) -> Report:
    """Build both implementations of a row, convert the weights and check them.

    >>> from fluxmod.models import entry
    >>> certify(entry("SimpleModel"), levels=("L0", "L1")).passed
    True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        theirs = row.torch()
    ours = row.flax(nnx.Rngs(seed))
    convert.to_flax(theirs, ours)
    options = Options(
        seed=seed,
        device=device,
        levels=levels,
        inputs=lambda batch: row.make(batch, seed),
        batches=row.batches,
        loss=row.loss,
        target=(lambda batch: _labels(row, batch, seed)) if row.classes else None,
    )
    report = check(theirs, ours, options=options)
    return Report(row.name, report.rows, seed, report.environment, report.notes)


def certify_all(names: Iterable[str] = (), **settings: Any) -> Iterator[Report]:
    """Yield the reports of the named rows, or of all; unknown names raise before any work."""
    rows = [entry(name) for name in names] or list(CATALOG)
    return (certify(row, **settings) for row in rows)


def _labels(row: Entry, batch: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, batch, 3]).integers(0, row.classes or 2, batch)
