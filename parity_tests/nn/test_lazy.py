"""Lazy layers beside torch's: before the first call, after it, and where it may not happen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.compare import same
from parity_tests.nn.twins import input_to_torch_axes, to_flax_axes

LAYERS = {
    "LazyLinear": ((5,), {"bias": False}, (2, 3)),
    "LazyConv1d": ((4, 2), {}, (2, 3, 7)),
    "LazyConv2d": ((4, 2), {"stride": 2}, (2, 3, 7, 6)),
    "LazyConv3d": ((3, 2), {"groups": 3}, (2, 3, 4, 5, 6)),
    "LazyConvTranspose1d": ((4, 2), {}, (2, 3, 7)),
    "LazyConvTranspose2d": ((4, 2), {"output_padding": 1, "stride": 2}, (2, 3, 5, 6)),
    "LazyConvTranspose3d": ((4, 2), {}, (2, 3, 2, 5, 3)),
    "LazyBatchNorm1d": ((), {}, (4, 3)),
    "LazyBatchNorm2d": ((1e-3,), {}, (4, 3, 5, 2)),
    "LazyBatchNorm3d": ((), {"affine": False}, (2, 3, 2, 5, 2)),
    "LazyInstanceNorm1d": ((), {}, (2, 3, 7)),
    "LazyInstanceNorm2d": ((), {"track_running_stats": False}, (2, 3, 5, 4)),
    "LazyInstanceNorm3d": ((1e-3, 0.2), {"bias": False}, (2, 3, 2, 5, 4)),
}


def build(name, **types):
    args, kwargs, shape = LAYERS[name]
    theirs = getattr(tnn, name)(*args, **kwargs, dtype=torch.float64)
    ours = getattr(nn, name)(*args, **kwargs, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **types)
    return theirs, ours, np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("name", LAYERS)
def test_it_becomes_what_torchs_becomes(name, x64):
    theirs, ours, x = build(name)
    assert str(ours) == str(theirs)
    given = jnp.asarray(to_flax_axes(ours, 0, x))
    ours(given)
    theirs(torch.from_numpy(x))
    assert str(ours) == str(theirs)
    assert type(ours) is getattr(nn, name.removeprefix("Lazy"))
    convert.to_flax(theirs, ours)
    out = ours(given)
    want = theirs(torch.from_numpy(x))
    same({"output": input_to_torch_axes(ours, 0, out)}, {"output": want})
    same(convert.to_torch(ours), theirs.state_dict())


def test_inside_a_model_it_keeps_its_place_its_mode_and_its_draws():
    model = nn.Sequential(nn.LazyConv2d(4, 3, rngs=nnx.Rngs(7)), nn.LazyBatchNorm2d(), nn.ReLU())
    model.eval()
    model(jnp.ones((1, 8, 8, 3)))
    assert list(convert.to_torch(model)) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
        "1.num_batches_tracked",
    ]  # fmt: skip
    assert not model[1].training
    built = nn.Conv2d(3, 4, 3, rngs=nnx.Rngs(7))
    np.testing.assert_array_equal(model[0].kernel, built.kernel)
    again = nnx.merge(*nnx.split(model))
    np.testing.assert_array_equal(
        jax.jit(lambda x: again(x))(jnp.ones((1, 8, 8, 3))).shape, (1, 6, 6, 4)
    )


def test_the_first_call_cannot_be_compiled():
    layer = nn.LazyLinear(5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="Call the model once before"):
        nnx.jit(lambda m, x: m(x))(layer, jnp.ones((2, 3)))
    layer(jnp.ones((2, 3)))
    assert nnx.jit(lambda m, x: m(x))(layer, jnp.ones((2, 3))).shape == (2, 5)


def test_a_first_call_that_fails_changes_nothing():
    layer = nn.LazyConv2d(4, 3, groups=2, rngs=nnx.Rngs(0))
    for x in (jnp.ones((1, 8, 8, 3)), jnp.ones((8, 4)), jnp.ones(())):
        with pytest.raises(ValueError, match=r"[Cc]onv2d"):
            layer(x)
        assert type(layer) is nn.LazyConv2d
    assert layer(jnp.ones((1, 8, 8, 4))).shape == (1, 6, 6, 4)


def test_arguments_are_refused_when_it_is_built():
    with pytest.raises(TypeError, match="rngs"):
        nn.LazyLinear(5)
    with pytest.raises(TypeError, match="kernel"):
        nn.LazyConv2d(5, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="groups"):
        nn.LazyConv2d(4, 3, groups=3, rngs=nnx.Rngs(0))
