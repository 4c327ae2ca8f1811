"""Torch's own samples of every operator that ported models meet."""

from __future__ import annotations

import json

import pytest

from parity_tests.compare import any_algorithm

from .ops import NO_VALUES, RECORDS, entries, run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", [name for name in entries() if name not in NO_VALUES])
def test_operator(label, request):
    everything = request.config.getoption("--samples") == "all"
    with any_algorithm():
        result = run(entries()[label], every=everything)
    RECORDS.mkdir(parents=True, exist_ok=True)
    record = {
        "name": label,
        "run": result.run,
        "available": result.available,
        "worst": result.worst,
        "refused": result.refused,
        "errors": result.errors,
        "raised": result.raised,
        "reached": sorted(result.reached),
        "problems": len(result.problems),
    }
    (RECORDS / f"{label}.json").write_text(json.dumps(record))
    assert not result.problems, "\n".join(result.problems)
    assert result.run or result.refused
