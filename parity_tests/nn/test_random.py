"""Random arrays for code of one's own: distribution, dtype, and torch's recording in its place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fluxmod._errors import ReplayError
from fluxmod.nn import random
from fluxmod.nn._random import replay


def test_bernoulli_has_its_rate_and_only_zeros_and_ones():
    mask = np.asarray(random.bernoulli(nnx.Rngs(0), 0.3, (20_000,)))
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert abs(mask.mean() - 0.3) < 0.02


def test_samples_have_their_moments():
    draws = np.asarray(random.normal(nnx.Rngs(0), (20_000,)))
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.03
    draws = np.asarray(random.exponential(nnx.Rngs(0), (20_000,), lambd=2.0))
    assert draws.min() >= 0
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(draws.std() - 0.5) < 0.02
    draws = np.asarray(random.uniform(nnx.Rngs(0), (20_000,)))
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.02
    draws = np.asarray(random.uniform(nnx.Rngs(0), (20_000,), low=2.0, high=4.0))
    assert draws.min() >= 2
    assert draws.max() < 4
    assert abs(draws.mean() - 3) < 0.04
    draws = np.asarray(random.normal(nnx.Rngs(0), (20_000,), mean=5.0, std=0.5))
    assert abs(draws.mean() - 5) < 0.02
    assert abs(draws.std() - 0.5) < 0.02


def test_whole_numbers_fill_their_range_and_an_order_has_each_once():
    draws = np.asarray(random.randint(nnx.Rngs(0), (5_000,), -2, 3))
    values, counts = np.unique(draws, return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2]
    assert abs(counts / 1_000 - 1).max() < 0.15
    assert random.randint(nnx.Rngs(0), (2,), 0, 9, jnp.uint8).dtype == jnp.uint8
    orders = {tuple(random.permutation(nnx.Rngs(seed), 4).tolist()) for seed in range(20)}
    assert len(orders) > 5
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2, 3)}
    with replay([np.array([2, 0, 1]), np.array([[5, 6]])]):
        assert random.permutation(None, 3).tolist() == [2, 0, 1]
        assert random.randint(None, (1, 2), 0, 9).tolist() == [[5, 6]]


@pytest.mark.parametrize("function", [random.exponential, random.normal, random.uniform])
def test_the_dtype_asked_for(function):
    assert function(nnx.Rngs(0), (3,), jnp.bfloat16).dtype == jnp.bfloat16
    assert function(nnx.Rngs(0), (3,)).dtype == jnp.float32


def test_a_recording_takes_the_place_of_a_draw():
    recorded = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    with replay([recorded, recorded]):
        same = random.normal(None, (2, 3, 4))
        moved = random.normal(None, (2, 4, 3))
    np.testing.assert_array_equal(same, recorded)
    np.testing.assert_array_equal(moved, recorded.transpose(0, 2, 1))


def test_without_a_source_it_says_what_to_pass():
    with pytest.raises(ValueError, match="rngs="):
        random.normal(None, (2,))


def test_the_rounds_of_a_scan_take_their_recordings_in_order():
    recorded = [np.full((2, 3), i, np.float32) for i in range(6)]

    def one(carry, x):
        first, second = random.normal(None, (2, 3)), random.normal(None, (2, 3))
        return carry + x * first.sum(), second

    with replay(recorded):
        total, seconds = jax.lax.scan(one, 0.0, jnp.array([1.0, 10.0, 100.0]))
    assert total == 6 * (0 + 2 * 10 + 4 * 100)
    np.testing.assert_array_equal(seconds[:, 0, 0], [1, 3, 5])
    with pytest.raises(ReplayError, match="torch drew 5"), replay(recorded[:5]):
        jax.lax.scan(one, 0.0, jnp.arange(3.0))
