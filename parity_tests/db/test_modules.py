"""Every class of ``module_db`` on torch's own samples.

Every constructor call once; ``--samples=all`` runs each sample in both modes.
"""

from __future__ import annotations

import pytest

from fluxmod import nn

from .coverage import Record
from .errors import of_class
from .modules import classes, run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", classes())
def test_class(name, request):
    everything = request.config.getoption("--samples") == "all"
    info = classes()[name]
    assert hasattr(nn, name), f"fluxmod.nn has no {name}"
    result, refusals = run(info, every=everything), of_class(info)
    Record(
        "module",
        name,
        run=result.run,
        available=result.available,
        l1=result.l1,
        l2=result.l2,
        refused=refusals.refused,
        refusals=refusals.available,
        left=refusals.left,
        problems=len(result.problems) + len(refusals.problems),
    ).save()
    problems = [*result.problems, *refusals.problems]
    assert not problems, "\n".join(problems)
    assert result.run
