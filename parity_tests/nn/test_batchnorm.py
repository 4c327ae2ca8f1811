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
from parity_tests.compare import bitwise, same
from parity_tests.nn.cases import Case, both_raise, case_and_check, run
from parity_tests.nn.twins import build, call_flax, call_torch, flax_inputs, inputs

X1, X2, X3 = (5, 3, 7), (4, 3, 5, 6), (2, 3, 4, 5, 6)


def bn1d(id, *args, x=X1, train=True, offset=0.0, **kwargs):
    return Case(
        f"1d-{id}", tnn.BatchNorm1d, nn.BatchNorm1d, (3, *args), kwargs, x, {}, train, offset=offset
    )


def bn2d(id, *args, x=X2, train=True, offset=0.0, **kwargs):
    return Case(
        f"2d-{id}", tnn.BatchNorm2d, nn.BatchNorm2d, (3, *args), kwargs, x, {}, train, offset=offset
    )


def bn3d(id, *args, x=X3, train=True, **kwargs):
    return Case(f"3d-{id}", tnn.BatchNorm3d, nn.BatchNorm3d, (3, *args), kwargs, x, {}, train)


CASES = [
    bn1d("flat", x=(6, 3)),
    bn1d("two-rows", x=(2, 3)),
    bn1d("sequence"),
    bn1d("eval", train=False),
    bn1d("flat-eval-one-row", x=(1, 3), train=False),
    bn2d("plain"),
    bn2d("eval", train=False),
    bn2d("positional", 1e-3, 0.3, False),
    bn2d("eps-momentum", eps=1e-2, momentum=0.7),
    bn2d("momentum-0", momentum=0.0),
    bn2d("momentum-1", momentum=1.0),
    bn2d("cumulative", momentum=None),
    bn2d("cumulative-eval", momentum=None, train=False),
    bn2d("no-affine", affine=False),
    bn2d("no-affine-eval", affine=False, train=False),
    bn2d("no-bias", bias=False),
    bn2d("no-bias-no-affine", bias=False, affine=False),
    bn2d("no-tracking", track_running_stats=False),
    bn2d("no-tracking-eval", track_running_stats=False, train=False),
    bn2d("no-tracking-no-affine", track_running_stats=False, affine=False),
    bn2d("one-image", x=(1, 3, 5, 4)),
    bn2d("empty-batch", x=(0, 3, 5, 4)),
    bn2d("empty-batch-cumulative", x=(0, 3, 5, 4), momentum=None),
    bn2d("offset-10", offset=10.0),
    bn2d("offset-1000", offset=1e3),
    bn2d("offset-10000", offset=1e4),
    bn2d("offset-1000-eval", offset=1e3, train=False),
    bn3d("plain"),
    bn3d("eval", train=False),
]

REFUSED = [
    bn1d("one-value-per-channel", x=(1, 3)),
    bn1d("one-value-per-channel-untracked", x=(1, 3), track_running_stats=False, train=False),
    bn2d("one-value-per-channel", x=(1, 3, 1, 1)),
    bn1d("rank-4", x=(2, 3, 4, 4)),
    bn1d("rank-1", x=(3,)),
    bn2d("rank-3", x=(3, 5, 6)),
    bn3d("rank-4", x=(3, 4, 5, 6)),
    bn2d("wrong-channels", x=(2, 4, 5, 6)),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


@pytest.mark.parametrize("momentum", [0.1, None, 0.9])
def test_ten_steps_of_statistics_from_the_start(momentum, x64):
    theirs = tnn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64)
    ours = nn.BatchNorm2d(3, momentum=momentum, param_dtype=jnp.float64)
    bitwise(convert.to_torch(ours), theirs.state_dict())
    case = bn2d("steps", offset=4.0)
    for draw in range(10):
        x = inputs(case, draw=draw)
        call_torch(theirs, case, x)
        call_flax(ours, case, flax_inputs(ours, x))
        same(convert.to_torch(ours), theirs.state_dict(), limit=1e-12)
    assert convert.to_torch(ours)["num_batches_tracked"] == 10


def test_evaluation_leaves_the_statistics_alone():
    ours = nn.BatchNorm2d(3)
    ours.eval()
    before = convert.to_torch(ours)
    ours(jnp.ones((4, 5, 6, 3)))
    bitwise(convert.to_torch(ours), before)


def test_statistics_change_under_jit_and_under_grad():
    model, twin = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((6, 3)), jnp.float32)
    nnx.jit(lambda m, x: m(x))(model, x)
    nnx.grad(lambda m: (m(x) ** 2).sum())(twin)
    assert int(model.num_batches_tracked[...]) == int(twin.num_batches_tracked[...]) == 1
    np.testing.assert_allclose(model.mean[...], 0.1 * x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(twin.var[...], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, 1e4])
def test_float32_statistics_are_as_exact_as_torchs(offset):
    case = dataclasses.replace(bn2d("precise", offset=offset), x=(16, 3, 9, 8))
    x = inputs(case, "float32")
    theirs, ours = build(case, "float32")
    with jax.enable_x64(True):
        truth, _ = build(case)
        call_torch(truth, case, inputs(case))
    call_torch(theirs, case, x)
    call_flax(ours, case, flax_inputs(ours, x))
    got = convert.to_torch(ours)
    for name in ("running_mean", "running_var"):
        true = truth.state_dict()[name].numpy()
        error = np.linalg.norm(got[name] - true)
        of_torch = np.linalg.norm(theirs.state_dict()[name].double().numpy() - true)
        assert error <= 4 * of_torch + 8 * np.finfo(np.float32).eps * np.linalg.norm(true)


def test_constant_channels_give_the_bias_exactly():
    ours = nn.BatchNorm2d(2)
    out = ours(jnp.full((4, 5, 6, 2), 1000.1, jnp.float32))
    np.testing.assert_array_equal(out, 0.0)
    np.testing.assert_allclose(ours.var[...], 0.9, rtol=1e-7)


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_input_with_float32_statistics(train):
    """torch's mixed case: the input is bfloat16, weights and statistics stay float32."""
    case = bn2d("bf16", train=train)
    theirs, ours = build(case, "float32")
    (x,) = inputs(case, "float32")
    low = torch.from_numpy(x).bfloat16()
    want = theirs(low)
    got = ours(jnp.moveaxis(jnp.asarray(low.float().numpy()), 1, -1).astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    assert want.dtype == torch.bfloat16
    got = np.moveaxis(np.asarray(got, np.float32), -1, 1)
    # one unit in the last of bfloat16's 8 bits: both round a float32 result
    np.testing.assert_allclose(got, want.detach().float().numpy(), rtol=2**-7, atol=2**-9)
    same(convert.to_torch(ours), theirs.state_dict(), limit=1e-5)


def test_bfloat16_layer_keeps_bfloat16_statistics():
    case = bn2d("bf16-layer")
    theirs, ours = build(case, "bfloat16")
    (x,) = inputs(case, "float32")
    low = torch.from_numpy(x).bfloat16()
    theirs(low)
    ours(jnp.moveaxis(jnp.asarray(low.float().numpy()), 1, -1).astype(jnp.bfloat16))
    want = theirs.state_dict()
    got = convert.to_torch(ours)
    for name in ("running_mean", "running_var"):
        assert got[name].dtype == jnp.bfloat16
        expected = want[name].float().numpy()
        np.testing.assert_allclose(got[name].astype(np.float32), expected, rtol=2**-7, atol=2**-9)


def test_float64_layer_holds_float64_everywhere(x64):
    ours = nn.BatchNorm2d(3, param_dtype=jnp.float64)
    out = ours(jnp.ones((4, 5, 6, 3), jnp.float64))
    held = [v.get_value().dtype for _, v in nn.named_variables(ours)][:4]
    assert [out.dtype, *held] == [jnp.float64] * 5


def test_the_mode_has_flaxs_name_too():
    ours = nn.BatchNorm2d(3)
    view = nnx.view(ours, deterministic=True)
    assert (ours.use_running_average, view.use_running_average) == (False, True)
    ours.use_running_average = True
    assert not ours.training


def test_a_channels_first_image_names_the_transpose():
    with pytest.raises(LayoutError, match=r"moveaxis\(x, 1, -1\)"):
        nn.BatchNorm2d(3)(jnp.ones((2, 3, 5, 6)))


def test_nothing_changes_when_the_input_is_refused():
    ours = nn.BatchNorm1d(3)
    before = convert.to_torch(ours)
    with pytest.raises(ValueError, match="more than 1 value"):
        ours(jnp.ones((1, 3)))
    bitwise(convert.to_torch(ours), before)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating point"):
        nn.BatchNorm1d(4)(jnp.ones((2, 4), jnp.int32))
