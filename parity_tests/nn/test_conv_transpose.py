from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import nn
from fluxmod._errors import LayoutError
from fluxmod.nn import functional as F
from parity_tests.nn.cases import CHECKS, Case, both_raise, run
from parity_tests.nn.functional.both import equal

X1, X2, X3 = (2, 4, 6), (2, 4, 5, 3), (2, 4, 2, 4, 3)


def case(id, *args, x=None, call=None, **kwargs):
    nd = int(id[0])
    return Case(
        f"{id}",
        getattr(tnn, f"ConvTranspose{nd}d"),
        getattr(nn, f"ConvTranspose{nd}d"),
        args,
        kwargs,
        x=(X1, X2, X3)[nd - 1] if x is None else x,
        call=call or {},
    )


CASES = [
    case("1-plain", 4, 6, 3),
    case("1-groups-dilated", 4, 6, 3, stride=3, padding=2, output_padding=2, groups=2, dilation=2),
    case("1-unbatched-long-kernel", 4, 6, 70, padding=3, x=(4, 6)),
    case("2-plain", 4, 6, 3, bias=False),
    case("2-side-by-side", 4, 6, 2, stride=2),
    case("2-gaps", 4, 6, 2, stride=3, output_padding=1),
    case("2-padding-beyond-the-kernel", 4, 6, 2, padding=2, x=(2, 4, 5, 4)),
    case("2-pairs", 4, 6, (3, 2), (2, 3), (0, 1), (1, 2), 2, True, (2, 1)),
    case("2-depthwise", 4, 8, 4, stride=2, padding=1, groups=4),
    case("2-output-size", 4, 6, 3, stride=(3, 2), padding=1, call={"output_size": (14, 6)}),
    case("2-unbatched", 4, 6, 3, x=(4, 5, 3)),
    case("2-empty-batch", 4, 6, 3, x=(0, 4, 5, 3)),
    case("3-plain", 4, 6, (1, 2, 3), stride=(1, 2, 1)),
    case("3-groups", 4, 8, 2, stride=2, padding=1, output_padding=1, groups=4),
]
FEW = [case for case in CASES if case.id in ("1-groups-dilated", "2-side-by-side", "3-plain")]
REFUSED = [
    case("2-in-not-divisible", 5, 6, 3, groups=2, x=(2, 5, 5, 3)),
    case("2-out-not-divisible", 4, 5, 3, groups=2),
    case("2-padding-mode", 4, 6, 3, padding_mode="reflect"),
    case("2-output-padding", 4, 6, 3, stride=2, output_padding=2),
    case("2-negative-output-padding", 4, 6, 3, output_padding=-1),
    case("2-negative-padding", 4, 6, 3, padding=-1),
    case("2-stride-0", 4, 6, 3, stride=0),
    case("2-dilation-0", 4, 6, 3, dilation=0),
    case("2-nothing-left", 4, 6, 3, padding=4),
    case("2-empty-image", 4, 6, 3, x=(2, 4, 0, 3)),
    case("2-wrong-channels", 3, 6, 3),
    case("2-rank-5", 4, 6, 3, x=(1, 2, 4, 5, 3)),
    case("2-output-size-too-large", 4, 6, 3, stride=2, call={"output_size": (13, 7)}),
    case("2-output-size-too-small", 4, 6, 3, stride=2, call={"output_size": (10, 7)}),
    case("2-output-size-of-three", 4, 6, 3, stride=2, call={"output_size": (11, 7, 7)}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case):
    run(case, "briefly")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", FEW, ids=str)
def test_every_check(case, check):
    run(case, check)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


def test_it_is_an_nnx_conv_transpose():
    layer = nn.ConvTranspose2d(3, 8, (4, 3), stride=2, padding=1, output_padding=1,
                               rngs=nnx.Rngs(0))  # fmt: skip
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    assert isinstance(layer, nnx.ConvTranspose)
    assert layer.kernel.shape == layer.kernel_shape == (4, 3, 8, 3)
    np.testing.assert_allclose(nnx.ConvTranspose.__call__(layer, x), layer(x), atol=1e-5)


def test_the_initial_spread_is_torchs():
    layer = nn.ConvTranspose2d(64, 32, 3, groups=2, rngs=nnx.Rngs(0))
    bound = 1 / np.sqrt(16 * 9)
    for values in (layer.kernel[...], layer.bias[...]):
        assert float(jnp.abs(values).max()) == pytest.approx(bound, rel=0.1)
        assert float(jnp.abs(values).max()) <= bound


def test_the_whole_shape_as_output_size_has_the_channels_last():
    layer = nn.ConvTranspose2d(3, 8, 3, stride=2, rngs=nnx.Rngs(0))
    for shape in ((2, 10, 11, 8), (10, 11, 8)):
        x = jnp.ones((2, 4, 5, 3)) if len(shape) == 4 else jnp.ones((4, 5, 3))
        assert layer(x, shape).shape == shape


def test_the_kernels_tangent_and_second_derivative():
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 5, 2))

    def loss(kernel):
        return jnp.sum(jnp.sin(F.conv_transpose2d(x, kernel, stride=2, padding=1)))

    gradient, along = jax.grad(loss)(kernel), jnp.ones_like(kernel)
    _, tangent = jax.jvp(loss, (kernel,), (along,))
    np.testing.assert_allclose(tangent, jnp.vdot(gradient, along), rtol=1e-4)
    _, forward = jax.jvp(jax.grad(loss), (kernel,), (along,))
    _, pullback = jax.vjp(jax.grad(loss), kernel)
    np.testing.assert_allclose(jnp.vdot(forward, along), jnp.vdot(pullback(along)[0], along), 1e-4)


@pytest.mark.parametrize("pad", [0, 2, -1])
def test_conv_tbc(pad):
    rng = np.random.default_rng(0)
    names = {"input": (7, 2, 3), "kernel": (4, 3, 5), "bias": (5,)}
    arrays = {name: rng.standard_normal(shape) for name, shape in names.items()}

    def theirs(input, kernel, bias):
        return torch.conv_tbc(input, kernel, bias, pad)

    equal(theirs, lambda **given: F.conv_tbc(**given, pad=pad), arrays)


def test_conv_tbc_refuses_what_does_not_fit():
    x, kernel, bias = jnp.ones((7, 2, 3)), jnp.ones((4, 3, 5)), jnp.ones(5)
    for bad in ((x[0], kernel, bias), (x[..., :2], kernel, bias), (x, kernel, bias[:2])):
        with pytest.raises(ValueError, match="conv_tbc: expected"):
            F.conv_tbc(*bad)
    with pytest.raises(ValueError, match="length -2"):
        F.conv_tbc(x[:1], kernel, bias)


def test_a_channels_first_image_names_the_transpose():
    layer = nn.ConvTranspose2d(3, 8, 3, rngs=nnx.Rngs(0))
    with pytest.raises(LayoutError, match=r"moveaxis\(x, 1, -1\)"):
        layer(jnp.ones((2, 3, 9, 7)))
    with pytest.raises(TypeError, match="floating point"):
        layer(jnp.ones((2, 9, 7, 3), jnp.int32))
