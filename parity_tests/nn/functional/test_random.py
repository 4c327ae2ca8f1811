"""Functions that draw: torch's draws replayed, and the distributions of our own."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from fluxmod.nn import functional as F
from parity_tests.nn.functional.both import equal

T = torch.nn.functional
X = np.random.default_rng(0).standard_normal((4, 3, 5))
KEY = jax.random.key(0)
CHANCE = 1e-6


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_alpha_dropout(p):
    masks = equal(T.alpha_dropout, F.alpha_dropout, {"input": X}, p=p, training=True)
    assert len(masks) == (p == 0.3)


def test_feature_alpha_dropout():
    def ours(input):
        out = F.feature_alpha_dropout(jnp.moveaxis(input, 1, -1), 0.5, True)
        return jnp.moveaxis(out, -1, 1)

    masks = equal(lambda input: T.feature_alpha_dropout(input, 0.5, True), ours, {"input": X})
    assert [mask.shape for mask in masks] == [(4, 3, 1)]


@pytest.mark.parametrize("training", [False, True])
def test_rrelu_with_kinks(training):
    x = X.copy()
    x[0, 0] = [0.0, -0.0, 1.0, -1.0, 0.0]
    masks = equal(T.rrelu, F.rrelu, {"input": x}, lower=0.1, upper=0.6, training=training)
    assert len(masks) == training


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dim", [-1, 1])
def test_gumbel_softmax(hard, dim):
    arrays = {"logits": X}
    masks = equal(T.gumbel_softmax, F.gumbel_softmax, arrays, tau=0.7, hard=hard, dim=dim)
    assert len(masks) == 1


def test_alpha_dropout_keeps_mean_and_variance():
    x = jax.random.normal(KEY, (200_000,))
    out = F.alpha_dropout(jax.nn.selu(x), 0.2, True, rngs=jax.random.key(1))
    assert abs(float(out.mean())) < 5 / math.sqrt(x.size) * 1.5
    assert abs(float(out.std()) - 1) < 0.01


def test_slopes_are_uniform():
    slopes = -np.asarray(F.rrelu(-jnp.ones(20_000), 0.1, 0.6, True, rngs=KEY))
    assert stats.kstest(slopes, stats.uniform(0.1, 0.5).cdf).pvalue > CHANCE


def test_hard_samples_have_the_softmaxs_frequencies():
    logits = jnp.array([0.0, 1.0, 2.0])
    draws = F.gumbel_softmax(jnp.broadcast_to(logits, (20_000, 3)), hard=True, rngs=KEY)
    found = np.asarray(draws.sum(0), np.float64)
    wanted = 20_000 * np.asarray(jax.nn.softmax(logits), np.float64)
    assert stats.chisquare(found, wanted * found.sum() / wanted.sum()).pvalue > CHANCE


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtypes_stay(dtype):
    x = jnp.ones((2, 3), dtype)
    for out in (
        F.alpha_dropout(x, training=True, rngs=KEY),
        F.feature_alpha_dropout(x, training=True, rngs=KEY),
        F.rrelu(x, training=True, rngs=KEY),
        F.gumbel_softmax(x, rngs=KEY),
        F.gumbel_softmax(x, hard=True, rngs=KEY),
    ):
        assert out.dtype == dtype


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: F.alpha_dropout(x, 1.5), ValueError),
        (lambda x: F.alpha_dropout(x, training=True), ValueError),
        (lambda x: F.feature_alpha_dropout(x[0], training=True, rngs=KEY), ValueError),
        (lambda x: F.rrelu(x, 0.5, 0.1), ValueError),
        (lambda x: F.rrelu(x, training=True), ValueError),
        (lambda x: F.rrelu(x.astype(int)), TypeError),
        (lambda x: F.gumbel_softmax(x), ValueError),
        (lambda x: F.gumbel_softmax(x, dim=2, rngs=KEY), IndexError),
    ],
)
def test_refused(call, error):
    with pytest.raises(error, match=r"dropout|Dropout|rrelu|gumbel_softmax"):
        call(jnp.ones((2, 3)))


def test_in_place_names_return_the_new_value_and_take_torchs_arguments():
    x = jnp.array([-1.0, 2.0])
    for name, args in {
        "relu_": (), "elu_": (0.5,), "celu_": (0.5,), "selu_": (), "leaky_relu_": (0.2,),
        "threshold_": (0.1, 7.0), "hardtanh_": (-0.5, 0.5), "rrelu_": (0.1, 0.3),
    }.items():  # fmt: skip
        tensor = torch.tensor([-1.0, 2.0])
        getattr(T, name)(tensor, *args)
        np.testing.assert_allclose(getattr(F, name)(x, *args), tensor.numpy(), rtol=1e-6)
    assert x.tolist() == [-1.0, 2.0]
