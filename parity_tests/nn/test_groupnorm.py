from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod._errors import LayoutError
from parity_tests.compare import as_array, bitwise, same
from parity_tests.nn.cases import Case, both_raise, case_and_check, run
from parity_tests.nn.twins import (
    build,
    call_flax,
    call_torch,
    flax_inputs,
    inputs,
    output_to_torch_axes,
)


def group(id, *args, x=(2, 6, 5, 4), **kwargs):
    offset = kwargs.pop("offset", 0.0)
    return Case(f"group-{id}", tnn.GroupNorm, nn.GroupNorm, args, kwargs, x, offset=offset)


def instance(id, nd, x, *, train=True, offset=0.0, **kwargs):
    name = f"InstanceNorm{nd}d"
    theirs, ours = getattr(tnn, name), getattr(nn, name)
    return Case(f"{nd}d-{id}", theirs, ours, (3,), kwargs, x, {}, train, offset=offset)


TRACKED = {"affine": True, "track_running_stats": True}
CASES = [
    group("plain", 3, 6),
    group("flat", 2, 6, x=(3, 6)),
    group("eps", 2, 6, 1e-2),
    group("no-bias", 6, 6, bias=False),
    group("no-affine", 1, 6, affine=False),
    group("empty-batch", 2, 6, x=(0, 6, 5)),
    group("volume", 2, 6, x=(1, 6, 2, 3, 1)),
    instance("plain", 1, (2, 3, 5)),
    instance("unbatched", 1, (3, 5), **TRACKED),
    instance("affine", 2, (2, 3, 5, 4), affine=True),
    instance("no-bias", 2, (2, 3, 5, 4), affine=True, bias=False),
    instance("tracked", 2, (2, 3, 5, 4), **TRACKED),
    instance("tracked-eval", 2, (2, 3, 5, 4), train=False, **TRACKED),
    instance("tracked-eval-one-value", 2, (2, 3, 1, 1), train=False, **TRACKED),
    instance("momentum", 2, (2, 3, 5, 4), momentum=0.7, track_running_stats=True),
    instance("no-momentum", 2, (2, 3, 5, 4), momentum=None, track_running_stats=True),
    instance("tracked", 3, (2, 3, 2, 5, 4), **TRACKED),
]

REFUSED = [
    group("not-divisible", 4, 6),
    group("no-groups", 0, 6),
    group("one-value", 6, 6, x=(1, 6)),
    group("vector", 2, 6, x=(6,)),
    group("other-channels", 3, 6, x=(2, 5, 4)),
    instance("rank-4", 1, (2, 3, 4, 4)),
    instance("one-value", 1, (2, 3, 1)),
    instance("other-channels", 1, (2, 4, 5), affine=True),
    instance("other-channels-tracked", 1, (2, 4, 5), track_running_stats=True),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    # no groups at all is a ZeroDivisionError in torch
    both_raise(case, ValueError)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
@pytest.mark.parametrize(
    "case", [group("precise", 2, 6, x=(4, 6, 9, 8)), instance("precise", 2, (4, 3, 9, 8))], ids=str
)
def test_far_from_zero_float32_is_nearer_to_the_truth_than_torch(case, offset):
    case = dataclasses.replace(case, offset=offset)
    with jax.enable_x64(True):
        truth = as_array(call_torch(build(case)[0], case, inputs(case))[0])
    x = inputs(case, "float32")
    theirs, ours = build(case, "float32")
    of_torch = np.abs(as_array(call_torch(theirs, case, x)[0]) - truth).max()
    got = output_to_torch_axes(ours, call_flax(ours, case, flax_inputs(ours, x)))[0]
    assert np.abs(got - truth).max() <= max(of_torch, 2e-6)


def test_ten_steps_of_statistics(x64):
    case = instance("steps", 1, (2, 3, 5), offset=4.0, **TRACKED)
    theirs, ours = build(case)
    for draw in range(10):
        x = inputs(case, draw=draw)
        call_torch(theirs, case, x)
        call_flax(ours, case, flax_inputs(ours, x))
    same(convert.to_torch(ours), theirs.state_dict(), limit=1e-12)


@pytest.mark.parametrize(
    "case", [group("bf16", 2, 6), instance("bf16", 2, (2, 3, 5, 4), **TRACKED)], ids=str
)
def test_bfloat16_input_with_float32_parameters(case):
    theirs, ours = build(case, "float32")
    (x,) = inputs(case, "float32")
    low = torch.from_numpy(x).bfloat16()
    want = theirs(low).float().detach().numpy()
    with jax.numpy_dtype_promotion("strict"):
        got = ours(jnp.moveaxis(jnp.asarray(low.float().numpy()), 1, -1).astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    got = np.moveaxis(np.asarray(got, np.float32), -1, 1)
    np.testing.assert_allclose(got, want, rtol=2**-7, atol=2**-8)


def test_another_number_of_channels_only_warns_where_nothing_is_held():
    with pytest.warns(UserWarning, match="expected 3 channels"):
        assert nn.InstanceNorm1d(3)(jnp.ones((2, 5, 4))).shape == (2, 5, 4)
    with pytest.warns(UserWarning, match="does not match"):
        tnn.InstanceNorm1d(3)(torch.ones(2, 4, 5))


def test_channels_first_names_the_transpose():
    for layer in (nn.GroupNorm(1, 3), nn.InstanceNorm2d(3, affine=True)):
        with pytest.raises(LayoutError, match=r"moveaxis\(x, 1, -1\)"):
            layer(jnp.ones((2, 3, 5, 6)))
    with pytest.raises(LayoutError, match=r"moveaxis\(x, 0, -1\)"):
        nn.InstanceNorm2d(3, affine=True)(jnp.ones((3, 5, 6)))


def test_evaluation_leaves_the_statistics_alone():
    ours = nn.InstanceNorm1d(3, track_running_stats=True)
    ours.eval()
    before = convert.to_torch(ours)
    ours(jnp.ones((4, 5, 3)))
    bitwise(convert.to_torch(ours), before)


def test_statistics_change_under_jit():
    ours = nn.InstanceNorm1d(3, track_running_stats=True)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 5, 3)), jnp.float32)
    nnx.jit(lambda m, x: m(x))(ours, x)
    np.testing.assert_allclose(ours.mean[...], 0.1 * x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(ours.var[...], 0.9 + 0.1 * x.var(1, ddof=1).mean(0), rtol=1e-5)


def test_parameters_of_another_dtype_are_refused():
    with pytest.raises(TypeError, match="scale must be float32"):
        nn.GroupNorm(1, 3, param_dtype=jnp.bfloat16)(jnp.ones((2, 4, 3)))
