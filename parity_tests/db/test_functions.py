"""Every ``nn.functional`` entry of ``op_db`` on torch's own samples."""

from __future__ import annotations

import pytest

from fluxmod.nn import functional as F

from .coverage import Record
from .errors import of_function
from .ops import entries, run
from .twins import twin_of

SOME = 2
"""Samples of a function and dtype in the short suite."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", entries())
def test_function(label, request):
    everything = request.config.getoption("--samples") == "all"
    op, twin = entries()[label], twin_of(label)
    if twin.absent:
        Record("function", label, absent=twin.absent).save()
        return
    name = label.split("[")[0]
    assert hasattr(F, name), f"fluxmod.nn.functional has no {name}"
    result, refusals = run(op, twin, most=None if everything else SOME), of_function(op, twin)
    left = {**result.left, **refusals.left}
    Record(
        "function",
        label,
        run=result.run,
        available=result.available,
        l1=result.l1,
        l2=result.l2,
        l6=result.l6,
        refused=refusals.refused,
        refusals=refusals.available,
        left=left,
        problems=len(result.problems) + len(refusals.problems),
    ).save()
    problems = [*result.problems, *refusals.problems]
    assert not problems, "\n".join(problems)
    assert result.run or left or not result.available
