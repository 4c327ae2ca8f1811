"""New layers are drawn from torch's distributions: one Kolmogorov-Smirnov test for both."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from scipy import stats
from torch import nn as tnn

from fluxmod import convert, nn

CHANCE = 1e-6
"""How often a correct sampler may fail; the seeds are fixed, so it either does or does not."""


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


def fan(*sizes):
    return uniform(1 / math.sqrt(math.prod(sizes)))


NORMAL = stats.norm(0, 1)
LAYERS = {
    "linear": (tnn.Linear, nn.Linear, (300, 4000), {}, {"weight": fan(300), "bias": fan(300)}),
    "bilinear": (
        tnn.Bilinear, nn.Bilinear, (30, 9, 5000), {}, {"weight": fan(30), "bias": fan(30)}
    ),
    "conv1d": (
        tnn.Conv1d, nn.Conv1d, (30, 4000, 5), {}, {"weight": fan(30, 5), "bias": fan(30, 5)}
    ),
    "conv2d": (
        tnn.Conv2d, nn.Conv2d, (30, 4000, (3, 2)), {},
        {"weight": fan(30, 3, 2), "bias": fan(30, 3, 2)},
    ),
    "conv2d-groups": (
        tnn.Conv2d, nn.Conv2d, (30, 3000, 3), {"groups": 10},
        {"weight": fan(3, 9), "bias": fan(3, 9)},
    ),
    "conv3d": (
        tnn.Conv3d, nn.Conv3d, (8, 2000, (1, 2, 3)), {},
        {"weight": fan(8, 6), "bias": fan(8, 6)},
    ),
    "embedding": (tnn.Embedding, nn.Embedding, (400, 300), {}, {"weight": NORMAL}),
}  # fmt: skip


def fits(values, distribution):
    return stats.kstest(np.ravel(values)[:20_000], distribution.cdf).pvalue > CHANCE


@pytest.mark.parametrize("name", LAYERS)
def test_both_frameworks_draw_from_the_same_distribution(name):
    theirs, ours, args, kwargs, wanted = LAYERS[name]
    torch.manual_seed(0)
    drawn = {k: v.numpy() for k, v in theirs(*args, **kwargs).state_dict().items()}
    own = convert.to_torch(ours(*args, **kwargs, rngs=nnx.Rngs(0)))
    assert list(own) == list(wanted)
    for key, distribution in wanted.items():
        assert fits(drawn[key], distribution), f"torch: {key}"
        assert fits(own[key], distribution), f"fluxmod: {key}"
        assert not fits(1.25 * own[key], distribution), "the test cannot tell a wider draw"
        low, high = distribution.support()
        assert low <= own[key].min() <= own[key].max() <= high


def test_leaves_layers_and_seeds_differ():
    rngs = nnx.Rngs(0)
    first, second = (nn.Linear(5, 5, rngs=rngs) for _ in range(2))
    again = nn.Linear(5, 5, rngs=nnx.Rngs(0))
    assert not np.array_equal(first.kernel[0], first.bias)
    assert not np.array_equal(first.kernel, second.kernel)
    np.testing.assert_array_equal(first.kernel, again.kernel)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_the_parameter_type_is_the_one_asked_for(dtype):
    for layer in (
        nn.Linear(4, 3, param_dtype=dtype, rngs=nnx.Rngs(0)),
        nn.Bilinear(4, 3, 2, param_dtype=dtype, rngs=nnx.Rngs(0)),
        nn.Conv2d(4, 3, 2, param_dtype=dtype, rngs=nnx.Rngs(0)),
        nn.Embedding(4, 3, param_dtype=dtype, rngs=nnx.Rngs(0)),
        nn.BatchNorm2d(4, param_dtype=dtype),
        nn.LayerNorm(4, param_dtype=dtype),
    ):
        for key, value in convert.to_torch(layer).items():
            assert value.dtype == (np.int64 if key == "num_batches_tracked" else dtype), key


def test_float64_draws_have_float64_resolution(x64):
    kernel = np.asarray(nn.Linear(300, 300, param_dtype=jnp.float64, rngs=nnx.Rngs(0)).kernel[...])
    assert kernel.dtype == np.float64
    assert not np.array_equal(kernel, kernel.astype(np.float32))


def test_norms_start_at_one_and_zero():
    got = convert.to_torch(nn.BatchNorm1d(3))
    for key, value in tnn.BatchNorm1d(3).state_dict().items():
        np.testing.assert_array_equal(got[key], value.numpy())


def test_a_linear_without_inputs_is_its_bias_of_zeros():
    layer = nn.Linear(0, 3, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(jnp.ones((2, 0))), 0)
