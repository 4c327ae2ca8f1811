"""Resampling, folding, shuffling, unpooling, grids: what module_db leaves out."""

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
from fluxmod.nn.functional._resample import nearest_index
from parity_tests.compare import any_algorithm, same
from parity_tests.nn.cases import Case, case_and_check, run


def case(name, *args, x, tag="", **kwargs):
    return Case(f"{name}{tag}", getattr(tnn, name), getattr(nn, name), args, kwargs, x=x)


LAYERS = [
    case("Upsample", x=(2, 3, 5), scale_factor=1.7, mode="linear", tag="-1d"),
    case("Upsample", (7, 2), x=(2, 3, 5, 4), tag="-nearest"),
    case("Upsample", (7, 2), x=(2, 3, 5, 4), mode="bicubic", align_corners=True, tag="-cubic"),
    case(
        "Upsample",
        x=(2, 3, 4, 5, 2),
        scale_factor=(1.5, 0.7, 2.0),
        mode="trilinear",
        recompute_scale_factor=True,
        tag="-3d",
    ),
    case("UpsamplingNearest2d", x=(2, 3, 5, 4), scale_factor=2),
    case("UpsamplingBilinear2d", (6, 9), x=(2, 3, 5, 4)),
    case("Unfold", (2, 3), x=(2, 3, 5, 7), padding=(1, 2), stride=(2, 1), dilation=(1, 2)),
    case("Unfold", 2, x=(3, 5, 7), tag="-unbatched"),
    case("Fold", (5, 7), (2, 3), x=(2, 18, 30), padding=(1, 2), dilation=1, stride=(1, 2)),
    case("Fold", (4, 5), 2, x=(12, 12), tag="-unbatched"),
    case("PixelShuffle", 3, x=(2, 18, 4, 5)),
    case("PixelUnshuffle", 2, x=(2, 3, 4, 6)),
    case("ChannelShuffle", 3, x=(2, 6, 4, 5)),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(LAYERS), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_unpooling_puts_maxima_back(nd, x64):
    shape = (2, 3, *range(6, 6 + nd))
    x = np.random.default_rng(0).standard_normal(shape)
    pool, unpool = (getattr(tnn, f"Max{kind}{nd}d") for kind in ("Pool", "Unpool"))
    values, places = pool(3, 2, return_indices=True)(torch.from_numpy(x))
    with any_algorithm():
        want = unpool(3, 2)(values, places, output_size=shape)
    ours_values, ours_places = getattr(nn, f"MaxPool{nd}d")(3, 2, return_indices=True)(
        jnp.asarray(np.moveaxis(x, 1, -1))
    )
    layer = getattr(nn, f"MaxUnpool{nd}d")(3, 2)
    for size in (shape[2:], (shape[0], *shape[2:], shape[1])):
        got = layer(ours_values, ours_places, output_size=size)
        same({"out": np.moveaxis(np.asarray(got), -1, 1)}, {"out": want})
    assert str(layer) == str(unpool(3, 2))
    with pytest.raises(ValueError, match="out of reach"):
        layer(ours_values, ours_places, output_size=(99,) * nd)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6)], ids=["2d", "3d"])
def test_affine_grid_and_its_gradient(shape, align_corners, x64):
    nd = len(shape) - 2
    theta = np.random.default_rng(0).standard_normal((shape[0], nd, nd + 1))
    theirs = torch.from_numpy(theta).requires_grad_()
    want = torch.nn.functional.affine_grid(theirs, shape, align_corners)
    weight = np.random.default_rng(1).standard_normal(want.shape)
    (want * torch.from_numpy(weight)).sum().backward()
    size = (shape[0], *shape[2:], shape[1])

    def total(theta):
        out = F.affine_grid(theta, size, align_corners)
        return jnp.vdot(out, weight), out

    grad, got = jax.grad(total, has_aux=True)(jnp.asarray(theta))
    same({"out": got, "grad": grad}, {"out": want, "grad": theirs.grad})


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_nearest_picks_torchs_element_for_all_small_sizes(mode, real):
    for n in range(1, 50):
        x = torch.from_numpy(np.arange(n, dtype=real))[None, None]
        for out in range(1, 70):
            want = torch.nn.functional.interpolate(x, out, mode=mode)[0, 0]
            got = nearest_index(n, out, None, mode == "nearest-exact", real)
            assert got.tolist() == want.tolist(), (n, out)


def test_antialiased_shrinking_is_torchs(x64):
    x = np.random.default_rng(0).standard_normal((1, 2, 13, 11))
    for mode in ("bilinear", "bicubic"):
        want = torch.nn.functional.interpolate(
            torch.from_numpy(x), size=(5, 17), mode=mode, antialias=True
        )
        got = F.interpolate(jnp.asarray(np.moveaxis(x, 1, -1)), (5, 17), mode=mode, antialias=True)
        same({mode: np.moveaxis(np.asarray(got), -1, 1)}, {mode: want})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: F.interpolate(x), ValueError, "either size or scale_factor"),
        (lambda x: F.interpolate(x, 2, mode="linear"), NotImplementedError, "2 spatial axes"),
        (lambda x: F.interpolate(x, 2, align_corners=True), ValueError, "no meaning"),
        (lambda x: F.interpolate(x[0, 0], 2), LayoutError, "batch of maps"),
        (lambda x: F.pixel_shuffle(x, 2), ValueError, "multiple of upscale_factor"),
        (lambda x: F.pad(x, (1,)), ValueError, "even number"),
        (
            lambda x: F.pad(x, (9, 9, 0, 0), "reflect", channels_last=True),
            ValueError,
            "at least 10",
        ),
        (lambda x: F.pad(x, (1, 1), "mirror"), NotImplementedError, "'mirror'"),
        (lambda x: F.unfold(x, 9), ValueError, "does not fit"),
        (lambda x: F.fold(x[0], (4, 5), 2), LayoutError, "expected"),
        (lambda x: F.grid_sample(x, x), LayoutError, "grid_sample"),
        (lambda x: nn.ReflectionPad1d((1, 2, 3)), ValueError, "one padding or 2"),
        (lambda x: nn.ReflectionPad1d(1)(x), LayoutError, "3 axes"),
        (lambda x: nn.FractionalMaxPool2d(2)(x), ValueError, "either output_size"),
        (lambda x: nn.FractionalMaxPool2d(2, 2)(x), ValueError, "rngs"),
    ],
)
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(jnp.ones((2, 4, 5, 3)))


def test_fractional_windows_are_drawn_from_the_layers_stream():
    layer = nn.FractionalMaxPool2d(2, output_ratio=0.5, return_indices=True, rngs=nnx.Rngs(0))
    x = jnp.arange(15.0 * 15 * 3).reshape(1, 15, 15, 3)
    (values, first), (_, second) = layer(x), layer(x)
    assert first.shape == (1, 7, 7, 3)
    assert (first != second).any()
    taken = jnp.take_along_axis(x.reshape(1, -1, 3), first.reshape(1, -1, 3), 1)
    np.testing.assert_array_equal(taken.reshape(values.shape), values)


def test_fractional_samples_may_be_for_a_larger_batch():
    rng = np.random.default_rng(0)
    x, samples = rng.standard_normal((4, 5, 6, 7)), rng.random((3, 4, 3))
    with jax.enable_x64(True):
        want = torch.nn.functional.fractional_max_pool3d(
            torch.from_numpy(x), 2, output_size=3, _random_samples=torch.from_numpy(samples)
        )
        ours = jnp.asarray(np.moveaxis(x, 0, -1))
        got = F.fractional_max_pool3d(ours, 2, output_size=3, _random_samples=jnp.asarray(samples))
        same({"out": np.moveaxis(np.asarray(got), -1, 0)}, {"out": want})
        with pytest.raises(ValueError, match="expected samples of shape"):
            F.fractional_max_pool3d(
                ours[None, :].repeat(4, 0), 2, output_size=3, _random_samples=jnp.asarray(samples)
            )
