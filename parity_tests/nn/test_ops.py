"""``ops.max`` and ``ops.min`` are torch's, gradients at ties and NaN included."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

from fluxmod.nn import ops

ROWS = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, -0.0, 0.0, -5.0]])


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [True, False])
def test_values_places_and_gradients_are_torchs(name, dim, keepdim):
    x = torch.tensor(ROWS, requires_grad=True)
    values, places = getattr(torch, name)(x, dim, keepdim=keepdim)
    weights = torch.arange(1.0, values.numel() + 1).reshape(values.shape)
    (values * weights).sum().backward()
    with jax.enable_x64(True):
        ours = getattr(ops, name)

        def total(a):
            return (ours(a, dim, keepdim)[0] * weights.numpy()).sum()

        got_values, got_places = ours(jax.numpy.asarray(ROWS), dim, keepdim)
        slope = jax.jit(jax.grad(total))(jax.numpy.asarray(ROWS))
    np.testing.assert_array_equal(got_values, values.detach())
    np.testing.assert_array_equal(got_places, places)
    np.testing.assert_array_equal(slope, x.grad)


@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_wins_as_in_torch(name):
    x = np.array([[1.0, np.nan, 3.0]], np.float32)
    want = getattr(torch, name)(torch.from_numpy(x), 1)
    got = getattr(ops, name)(x, 1)
    np.testing.assert_array_equal(got[0], want.values)
    np.testing.assert_array_equal(got[1], want.indices)
