from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fluxmod import optim
from parity_tests.optim.race import Case, race
from parity_tests.optim.signatures import both_refuse, check_signature

CASES = [
    Case("Adam", {}),
    Case("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    Case("Adam", {"lr": 0.01, "betas": (0.7, 0.9), "eps": 1e-3}),
    Case("Adam", {"lr": 0.01, "betas": (0.0, 0.0)}),
    Case("Adam", {"lr": 0.01, "amsgrad": True}),
    Case("Adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "betas": (0.5, 0.6)}),
    Case("Adam", {"lr": 0.01, "maximize": True}),
    Case("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case("AdamW", {}),
    Case("AdamW", {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True}),
    Case("AdamW", {"lr": 0.01, "weight_decay": 0.0, "maximize": True}),
]
REFUSED = [
    {"lr": -0.1},
    {"eps": -1e-8},
    {"weight_decay": -1e-3},
    {"betas": (1.0, 0.9)},
    {"betas": (0.9, -0.1)},
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("warm", [0, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ten_steps_are_torchs(case, warm):
    race(case, warm=warm)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_arguments_and_defaults_are_torchs(name):
    check_signature(getattr(optim, name), getattr(torch.optim, name))


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_both_refuse(name, settings):
    both_refuse(getattr(optim, name), getattr(torch.optim, name), settings)


def test_the_first_step_has_the_digits_of_float32():
    # 1 - 0.999**1 in float32 is 6e-5 off, and the root of it would be in the step
    tx, params = optim.Adam(lr=1.0), {"w": jnp.zeros(3)}
    grads = {"w": jnp.array([1e-3, 1.0, 1e3])}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -1.0 / (1 + 1e-8 / grads["w"]), rtol=2e-7)
