from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn as tnn

from fluxmod import nn
from parity_tests.compare import as_array
from parity_tests.nn.cases import Case, both_raise, case_and_check, run
from parity_tests.nn.twins import build, call_flax, call_torch, flax_inputs, inputs


def rms(id, shape, x, flax_kwargs=None, scale=1.0, **kwargs):
    return Case(
        f"rms-{id}", tnn.RMSNorm, nn.RMSNorm, (shape,), kwargs, x,
        flax_kwargs=flax_kwargs or {}, scale=scale,
    )  # fmt: skip


def local(id, *args, x=(2, 7, 3, 2), scale=3.0):
    return Case(f"local-{id}", tnn.LocalResponseNorm, nn.LocalResponseNorm, args, x=x, scale=scale)


def lua(size, channels, alpha=0.5):
    return Case(
        f"lua-{size}-{channels}", tnn.CrossMapLRN2d, nn.CrossMapLRN2d, (size, alpha, 0.75, 2.0),
        x=(2, channels, 3, 2), scale=3.0,
    )  # fmt: skip


CASES = [
    rms("plain", 5, (3, 5)),
    rms("two-axes", (4, 5), (3, 4, 5)),
    rms("channels-last", (4, 5, 3), (2, 4, 5, 3), {"channels_last": True}),
    rms("eps", 5, (3, 5), eps=1e-2),
    rms("no-affine", 5, (3, 5), elementwise_affine=False),
    rms("small", 5, (3, 5), scale=1e-7),
    rms("empty-batch", 5, (0, 5)),
    local("sequence", 3, x=(2, 7, 3)),
    local("even", 4, 0.5, 0.75, 2.0),
    local("wider-than-the-channels", 12, 0.5),
    local("volume", 2, 0.5, x=(1, 4, 2, 3, 2)),
    local("empty-batch", 2, x=(0, 4, 3)),
    *(lua(size, channels) for size in (3, 4, 5) for channels in (2, 9)),
]

REFUSED = [
    rms("another-shape", 5, (3, 4)),
    rms("too-few-axes", (3, 5), (5,)),
    local("rank-2", 3, x=(2, 7)),
    dataclasses.replace(lua(3, 4), x=(2, 4, 3)),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_default_eps_is_that_of_the_dtype_computed_in(dtype, x64):
    """Inputs so small that eps is what counts."""
    x = np.full((1, 4), 2e-5)
    want = tnn.RMSNorm(4, dtype=getattr(torch, dtype))(
        torch.from_numpy(x).to(getattr(torch, dtype))
    )
    got = nn.RMSNorm(4, param_dtype=jnp.dtype(dtype))(jnp.asarray(x, dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(got, np.float64),
        as_array(want.detach()).astype(np.float64),
        rtol=2 * float(jnp.finfo(dtype).eps),
    )


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_float32_far_from_zero(offset):
    case = dataclasses.replace(rms("precise", 300, (8, 300)), offset=offset)
    with jax.enable_x64(True):
        truth = as_array(call_torch(build(case)[0], case, inputs(case))[0])
    x = inputs(case, "float32")
    theirs, ours = build(case, "float32")
    of_torch = np.abs(as_array(call_torch(theirs, case, x)[0]) - truth).max()
    got = np.asarray(call_flax(ours, case, flax_inputs(ours, x))[0])
    assert np.abs(got - truth).max() <= 4 * of_torch + 8 * np.finfo(np.float32).eps


def test_the_window_of_lua_torch_is_not_the_definition():
    """What the docstring says: channel 0 stays in every window behind it."""
    x = jnp.zeros((1, 1, 1, 6)).at[..., 0].set(3.0).at[..., 5].set(1.0)
    kept, gone = nn.CrossMapLRN2d(3, alpha=1.0)(x), nn.LocalResponseNorm(3, alpha=1.0)(x)
    np.testing.assert_allclose(gone[..., 5], (1 + 1 / 3) ** -0.75, rtol=1e-6)
    np.testing.assert_allclose(kept[..., 5], (1 + 10 / 3) ** -0.75, rtol=1e-6)


def test_integers_are_refused():
    for layer in (nn.RMSNorm(4), nn.LocalResponseNorm(2), nn.CrossMapLRN2d(2)):
        with pytest.raises(TypeError, match="floating point"):
            layer(jnp.ones((1, 2, 3, 4), jnp.int32))
