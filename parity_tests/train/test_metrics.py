from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from fluxmod.train import Averages, accuracy


def test_accuracy_counts_rows():
    logits = jnp.array([[[0.0, 1.0], [1.0, 0.0]], [[2.0, 1.0], [0.0, 3.0]]])
    assert accuracy(logits, jnp.array([[1, 1], [0, 1]])).item() == 0.75


def test_averages_are_weighted_also_within_chunks():
    seen = Averages()
    seen.add({"loss": jnp.array([1.0, 3.0])}, size=2)
    seen.add({"loss": jnp.array(5.0)}, size=4)
    assert seen.compute() == {"loss": np.average([1, 3, 5], weights=[2, 2, 4])}


def test_averages_do_not_round_to_float32():
    seen = Averages()
    for _ in range(3):
        seen.add({"loss": np.float64(0.1)}, size=1)
    assert seen.compute()["loss"] == pytest.approx(0.1, rel=1e-15)


def test_nothing_and_different_metrics_are_refused():
    seen = Averages()
    with pytest.raises(ValueError, match="no batch was added"):
        seen.compute()
    seen.add({"loss": jnp.array(1.0)})
    seen.add({"other": jnp.array(1.0)})
    with pytest.raises(ValueError, match="different metrics"):
        seen.compute()
