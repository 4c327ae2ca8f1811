"""Every class of ``torch.nn`` that ``module_db`` leaves out, on drawn arguments and shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fluxmod import nn
from parity_tests.compare import any_algorithm

from .coverage import ELSEWHERE, Record, files_of
from .modules import classes, whole
from .outside import OUTSIDE

FEW, MANY = 2, 40


def of_torch():
    """Names of all classes of ``torch.nn``."""
    found = {name: getattr(torch.nn, name) for name in dir(torch.nn)}
    return {n for n, c in found.items() if isinstance(c, type) and issubclass(c, torch.nn.Module)}


def test_every_class_has_its_place():
    assert of_torch() == set(classes()) | set(OUTSIDE) | set(ELSEWHERE)
    assert of_torch() <= set(nn.__all__)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OUTSIDE)
def test_class(name, request):
    everything = request.config.getoption("--samples") == "all"
    record = Record("outside", name)

    @settings(
        max_examples=MANY if everything else FEW,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data):
        case = OUTSIDE[name](data.draw)
        with any_algorithm():
            l1, l2 = whole(case)
        record.l1, record.l2 = max(record.l1, l1), max(record.l2, l2)
        record.run += 1

    run()
    record.available = record.run
    record.save()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_computes_nothing_is_tested_by_name(name):
    assert files_of(name)
