from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn as tnn

from fluxmod import nn
from parity_tests.nn.cases import Case, both_raise, case_and_check, run
from parity_tests.nn.twins import build, call_flax, call_torch, flax_inputs, inputs


def norm(id, shape, *args, x, offset=0.0, channels_last=False, **kwargs):
    extra = {"channels_last": True} if channels_last else {}
    return Case(
        id, tnn.LayerNorm, nn.LayerNorm, (shape, *args), kwargs, x, flax_kwargs=extra, offset=offset
    )


CASES = [
    norm("plain", 7, x=(4, 7)),
    norm("sequence", 7, x=(2, 5, 7)),
    norm("vector", 7, x=(7,)),
    norm("one-feature", 1, x=(3, 1)),
    norm("list", [7], x=(2, 7)),
    norm("positional", 7, 1e-2, True, False, x=(2, 7)),
    norm("no-bias", 7, bias=False, x=(2, 7)),
    norm("no-affine", 7, elementwise_affine=False, x=(2, 7)),
    norm("two-axes", (5, 7), x=(2, 3, 5, 7)),
    norm("all-axes", (4, 5), x=(4, 5)),
    norm("map", (3, 5, 7), x=(2, 3, 5, 7), channels_last=True),
    norm("map-no-bias", (3, 5, 7), x=(2, 3, 5, 7), channels_last=True, bias=False),
    norm("map-cubic", (4, 4, 4), x=(2, 4, 4, 4), channels_last=True),
    norm("map-1d", (3, 5), x=(2, 3, 5), channels_last=True),
    norm("map-3d", (3, 5, 7, 2), x=(2, 3, 5, 7, 2), channels_last=True),
    norm("map-unbatched", (3, 5, 7), x=(3, 5, 7), channels_last=True),
    norm("map-axes-of-a-batch", (3, 5), x=(2, 6, 3, 5), channels_last=True),
    norm("empty-batch", 7, x=(0, 7)),
    norm("offset-10", 96, x=(4, 96), offset=10.0),
    norm("offset-1000", 96, x=(4, 96), offset=1e3),
    norm("offset-10000", 96, x=(4, 96), offset=1e4),
    norm("tiny-input", 96, x=lambda rng: (1e-4 * rng.standard_normal((4, 96)),)),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


REFUSED = [
    norm("wrong-size", 7, x=(4, 6)),
    norm("too-few-axes", (4, 7), x=(7,)),
    norm("broadcastable", (1, 7), x=(4, 7)),
    norm("swapped", (5, 4), x=(4, 5)),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


@pytest.mark.parametrize("value", [1.0, 1000.1, 1e5])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_constant_rows_give_zeros(value, dtype):
    ours = nn.LayerNorm(256, param_dtype=dtype)
    np.testing.assert_array_equal(ours(jnp.full((2, 256), value, dtype)), 0)


@pytest.mark.parametrize("offset", [10.0, 1e3, 1e4])
def test_gradients_in_float32_are_as_exact_as_torchs(offset):
    case = norm("precise", 256, x=(8, 256), offset=offset)
    (x,) = inputs(case, "float32")

    def torch_gradient(dtype):
        module, _ = build(case, dtype) if dtype == "float32" else (truth, None)
        given = torch.from_numpy(x.astype(dtype)).requires_grad_()
        (module(given) ** 3).sum().backward()
        return given.grad.double().numpy()

    with jax.enable_x64(True):
        truth, _ = build(case)
    want, of_torch = torch_gradient("float64"), torch_gradient("float32")
    _, ours = build(case, "float32")
    got = jax.grad(lambda x: (ours(x) ** 3).sum())(jnp.asarray(x))
    limit = 4 * np.linalg.norm(of_torch - want) + 8 * np.finfo(np.float32).eps * np.linalg.norm(
        want
    )
    assert np.linalg.norm(np.asarray(got) - want) <= limit


def test_bfloat16_is_normalised_in_float32():
    case = norm("bf16", 96, x=(8, 96), offset=3.0)
    theirs, ours = build(case, "bfloat16")
    (x,) = inputs(case, "float32")
    low = torch.from_numpy(x).bfloat16()
    want = theirs(low).detach().float().numpy()
    got = ours(jnp.asarray(low.float().numpy()).astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got, np.float32), want, rtol=2**-7, atol=2**-8)


def test_the_dtype_argument_is_the_computing_type():
    ours = nn.LayerNorm(4, dtype=jnp.bfloat16)
    assert ours(jnp.ones((2, 4))).dtype == jnp.bfloat16
    assert ours.scale.dtype == jnp.float32


def test_weights_of_a_map_are_stored_channels_last():
    ours = nn.LayerNorm((3, 5, 7), channels_last=True)
    assert ours.scale.shape == (5, 7, 3)


def test_torchs_own_maps_must_say_so():
    """A map given to a layer that was not told channels_last is refused, not misread."""
    with pytest.raises(ValueError, match="normalized_shape"):
        nn.LayerNorm((3, 5, 7))(jnp.ones((2, 5, 7, 3)))


def test_it_trains_in_float64(x64):
    case = norm("f64", 7, x=(4, 7))
    theirs, ours = build(case)
    x = inputs(case)
    (got,) = call_flax(ours, case, flax_inputs(ours, x))
    (want,) = call_torch(theirs, case, x)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, want.detach(), rtol=1e-12, atol=1e-13)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating point"):
        nn.LayerNorm(4)(jnp.ones((2, 4), jnp.int32))
