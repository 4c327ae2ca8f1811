"""Checked mode: indices that compiled code cannot refuse are refused after the call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fluxmod
from fluxmod import nn


class Counted(nn.Module):
    """A table and how often it was asked."""

    def __init__(self, *, rngs):
        self.table = nn.Embedding(10, 3, rngs=rngs)
        self.calls = nn.Buffer(jnp.zeros((), jnp.int32))

    def __call__(self, x, scale=1.0, name="plain"):
        assert name in ("plain", "other")
        self.calls[...] += 1
        return self.table(x) * scale


@pytest.fixture
def model():
    return Counted(rngs=nnx.Rngs(0))


@pytest.mark.parametrize("bad", [10, -1, 99])
def test_an_index_outside_the_table_raises_with_its_value(model, bad):
    with pytest.raises(IndexError, match=rf"embedding: .*\[0, 10\), got {bad}\."):
        fluxmod.checked(model)(jnp.array([1, bad]))


def test_without_it_compiled_code_gives_nan_and_eager_code_raises(model):
    assert np.isnan(nnx.jit(lambda m, x: m(x))(model, jnp.array([10]))).all()
    with pytest.raises(IndexError, match="got 10"):
        model(jnp.array([10]))


def test_the_result_and_the_state_are_those_of_the_plain_call(model):
    got = fluxmod.checked(model)(jnp.array([1, 9]), name="other", scale=2.0)
    assert int(model.calls[...]) == 1
    np.testing.assert_array_equal(got, model(jnp.array([1, 9]), 2.0))


def test_an_error_changes_nothing(model):
    with pytest.raises(IndexError):
        fluxmod.checked(model)(jnp.array([10]))
    assert int(model.calls[...]) == 0


def test_labels_of_a_loss_under_grad():
    def loss(x, labels):
        value = lambda x: nn.functional.cross_entropy(x, labels)  # noqa: E731
        return jax.grad(value)(x)

    logits = jnp.zeros((2, 3))
    assert fluxmod.checked(loss)(logits, jnp.array([0, -100])).shape == (2, 3)
    with pytest.raises(IndexError, match=r"cross_entropy: labels .* ignore_index=-100, got 3\."):
        fluxmod.checked(loss)(logits, jnp.array([0, 3]))
