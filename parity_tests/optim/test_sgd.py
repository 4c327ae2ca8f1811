from __future__ import annotations

import pytest
import torch

from fluxmod import optim
from parity_tests.optim.race import Case, race
from parity_tests.optim.signatures import both_refuse, check_signature

CASES = [
    Case("SGD", {}),
    Case("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    Case("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    Case("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.5, "weight_decay": 0.1}),
    Case("SGD", {"lr": 0.01, "momentum": 0.9, "maximize": True}),
]
REFUSED = [
    {"lr": -0.1},
    {"momentum": -0.5},
    {"weight_decay": -1e-3},
    {"nesterov": True},
    {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("warm", [0, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ten_steps_are_torchs(case, warm):
    race(case, warm=warm)


def test_arguments_and_defaults_are_torchs():
    check_signature(optim.SGD, torch.optim.SGD)


@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_both_refuse(settings):
    both_refuse(optim.SGD, torch.optim.SGD, settings)
