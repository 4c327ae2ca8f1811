"""Every optimizer of ``optim_db`` with torch's own settings, ten steps from converted state."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.testing._internal.common_optimizers import optim_db

from parity_tests.optim.lbfgs import lbfgs_race
from parity_tests.optim.race import Case, race

from .coverage import Record

IGNORED = {"foreach", "fused", "capturable", "differentiable"}
"""Settings of how torch computes, not of what."""

INFOS = {info.optim_cls.__name__: info for info in optim_db}


def samples(name):
    """torch's settings of an optimizer, each once, those that change nothing left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = INFOS[name].optim_inputs_func(device="cpu")
    found = []
    for sample in inputs:
        settings = {k: v for k, v in sample.kwargs.items() if k not in IGNORED}
        if any(isinstance(v, torch.Tensor) for v in settings.values()):
            settings = {k: getattr(v, "item", lambda v=v: v)() for k, v in settings.items()}
        if settings not in found:
            found.append(settings)
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", sorted(INFOS))
def test_optimizer(name, request):
    everything = request.config.getoption("--samples") == "all"
    every = samples(name)
    chosen = every if everything else every[:: max(len(every) // 3, 1)]
    worst, problems = 0.0, []
    for index, settings in enumerate(chosen):
        for warm in (0, 5) if everything else (0, 5)[index % 2 :][:1]:
            try:
                run = lbfgs_race if name == "LBFGS" else race
                worst = max(worst, run(Case(name, settings), warm=warm))
            except Exception as error:  # every sample is reported, whatever it failed with
                problems.append(f"{settings}, from step {warm}: {type(error).__name__}: {error}")
    Record(
        "optimizer",
        name,
        run=len(chosen) * (2 if everything else 1),
        available=2 * len(every),
        l1=worst,
        problems=len(problems),
    ).save()
    assert not problems, "\n".join(problems)
