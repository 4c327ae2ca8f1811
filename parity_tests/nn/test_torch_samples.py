"""The layers on the samples that torch tests its own modules with."""

from __future__ import annotations

import pytest
from torch import nn as tnn

from fluxmod import nn
from parity_tests.nn.cases import run
from parity_tests.nn.samples import cases_of

LAYERS = (
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Embedding",
    "LayerNorm",
    "Linear",
)
CHECKS = ("forward", "input_grads", "param_grads", "state", "repr")

CASES = [case for name in LAYERS for case in cases_of(getattr(tnn, name), getattr(nn, name))]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sample(case, check):
    run(case, check)


def test_every_layer_has_samples():
    assert {case.torch.__name__ for case in CASES} == set(LAYERS)
    assert len(CASES) >= 98
