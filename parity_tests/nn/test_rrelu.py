"""RReLU: torch's slopes replayed through the layer, also by the parity harness."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

import fluxmod
from fluxmod import nn
from parity_tests.nn.cases import CHECKS, Case, run
from parity_tests.nn.replayed import replayed

CASES = [
    Case("eval", tnn.RReLU, nn.RReLU, (), {}, (4, 5), train=False),
    Case("eval-bounds", tnn.RReLU, nn.RReLU, (0.1, 0.9), {}, (2, 3, 4, 5), train=False),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case, check):
    run(case, check)


def test_inplace_is_shown_and_nothing_more():
    assert str(nn.RReLU(inplace=True)) == str(tnn.RReLU(inplace=True))


@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 5)])
def test_torchs_slopes_give_torchs_numbers(shape):
    assert replayed(Case("train", tnn.RReLU, nn.RReLU, (0.1, 0.9), {}, shape)) == 1


@pytest.mark.parametrize("kind", ["RReLU", "AlphaDropout", "FeatureAlphaDropout"])
def test_a_certificate_replays_what_torch_draws(kind):
    theirs = tnn.Sequential(tnn.Conv2d(3, 5, 3), getattr(tnn, kind)())
    rngs = nnx.Rngs(0)
    ours = nn.Sequential(nn.Conv2d(3, 5, 3, rngs=rngs), getattr(nn, kind)(rngs=rngs))
    fluxmod.convert.to_flax(theirs, ours)
    report = fluxmod.parity.check(theirs, ours, torch.randn(2, 3, 8, 7))
    assert report.passed, report.text()
    assert "replay of 1 mask" in [row.what for row in report.rows]


def test_its_own_stream_moves_on_and_is_part_of_the_state():
    layer = nn.RReLU(rngs=nnx.Rngs(0))
    x = -jnp.ones(50)
    first, second = layer(x), layer(x)
    assert not np.array_equal(first, second)
    again = nnx.merge(*nnx.split(nn.RReLU(rngs=nnx.Rngs(0))))
    np.testing.assert_array_equal(again(x), first)
    np.testing.assert_array_equal(layer(x, deterministic=True), layer(x, deterministic=True))


def test_randomness_may_come_with_the_call_or_not_at_all():
    layer = nn.RReLU()
    key = jax.random.key(0)
    np.testing.assert_array_equal(layer(-jnp.ones(3), rngs=key), layer(-jnp.ones(3), rngs=key))
    with pytest.raises(ValueError, match="rngs=nnx.Rngs"):
        layer(jnp.ones(3))
