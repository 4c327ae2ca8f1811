"""Calling a port as torch is called: nested inputs, keywords, and torch's own output structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

from fluxmod import parity, porter


@dataclass
class Result:
    logits: torch.Tensor
    features: torch.Tensor
    aux: torch.Tensor | None = None


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Outputs(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv = torch.nn.Conv2d(3, 5, 3)

    def forward(self, x, *, scale=None):
        y = self.conv(x)
        z = y.mean((2, 3)) if scale is None else y.mean((2, 3)) * scale
        if self.kind == "dict":
            return {"z": z, "a": {"map": y, "name": "features"}}
        if self.kind == "tuple":
            return y, [z, (y, 3)]
        return Pair(z, y) if self.kind == "namedtuple" else Result(z, y)


class Batch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, batch, pair):
        return self.fc(batch["x"]) + pair[0] - batch["y"]["z"] * pair[1]


def compare(got, want):
    if isinstance(want, torch.Tensor):
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-5, atol=1e-6)
    elif isinstance(want, dict):
        assert list(got) == list(want)
        for key in want:
            compare(got[key], want[key])
    elif isinstance(want, (tuple, list)):
        assert type(got) is type(want)
        for a, b in zip(got, want, strict=True):
            compare(a, b)
    elif isinstance(want, Result):
        compare(vars(got), vars(want))
    else:
        assert got == want


@pytest.mark.parametrize("kind", ["dict", "tuple", "namedtuple", "dataclass"])
def test_outputs_come_back_in_torchs_structure_and_layout(kind):
    model, x = Outputs(kind), torch.randn(2, 3, 6, 7)
    ported = porter.port(model, x)
    compare(porter.feed(ported, torch.cat([x, x])), model(torch.cat([x, x])))


def test_a_keyword_only_input():
    model, x, scale = Outputs("dict"), torch.randn(2, 3, 6, 7), torch.randn(2, 1)
    ported = porter.port(model, x, scale=scale)
    compare(porter.feed(ported, x, scale=scale), model(x, scale=scale))


def test_nested_inputs():
    model = Batch()
    batch = {"x": torch.randn(3, 4), "y": {"z": torch.randn(3, 2)}}
    pair = (torch.randn(3, 2), torch.randn(3, 1))
    ported = porter.port(model, batch, pair)
    compare(porter.feed(ported, batch, pair), model(batch, pair))


class Settings(torch.nn.Module):
    def forward(self, x, scale=None, use_cache=True):
        return (x * 2, x) if use_cache else x * 2


def test_a_setting_that_is_no_array_is_part_of_the_port():
    model, x = Settings(), torch.randn(2, 3)
    ported = porter.port(model, x, use_cache=False)
    compare(porter.feed(ported, x, use_cache=False), model(x, use_cache=False))
    parity.check(model, ported, x, use_cache=False).require()
    with pytest.raises(ValueError, match="ported with use_cache=False"):
        porter.feed(ported, x, use_cache=True)
