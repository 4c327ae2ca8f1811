from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn as tnn

from fluxmod import nn
from fluxmod._errors import LayoutError
from fluxmod.nn import functional as F
from parity_tests.nn.cases import CHECKS, Case, both_raise, run

SHAPES = {1: (2, 3, 11), 2: (2, 3, 9, 7), 3: (2, 3, 7, 6, 5)}


def case(name, *args, x=None, **kwargs):
    shown = ",".join([*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
    x = SHAPES[int(name[-2])] if x is None else x
    place = "" if callable(x) else f"-{x}"
    return Case(f"{name}({shown}){place}", getattr(tnn, name), getattr(nn, name), args, kwargs, x)


def few_values(shape):
    """Values with many ties in every window."""
    return lambda rng: (rng.integers(0, 3, shape).astype(np.float64),)


def with_nan(shape):
    """Several NaN, infinities and ties, so that some windows have more than one of them."""

    def draw(rng):
        x = rng.integers(0, 3, shape).astype(np.float64)
        x[rng.random(shape) < 0.2] = np.nan
        x[rng.random(shape) < 0.1] = np.inf
        x[rng.random(shape) < 0.2] = -np.inf
        return (x,)

    return draw


def lowest(shape):
    return lambda rng: (np.full(shape, -np.inf),)


MAX = [
    case("MaxPool1d", 2),
    case("MaxPool1d", (3,), 2, 1),
    case("MaxPool1d", 3, 2, 1, 2),
    case("MaxPool1d", 4, 3, 2, ceil_mode=True, return_indices=True),
    case("MaxPool1d", 11),
    case("MaxPool1d", 40, 7, 20, x=(1, 2, 101)),
    case("MaxPool1d", 3, x=(3, 11)),
    case("MaxPool2d", 2),
    case("MaxPool2d", 3, 2, 1),
    case("MaxPool2d", (3, 2), (1, 2), (1, 0)),
    case("MaxPool2d", 3, 1, 1, 2),
    case("MaxPool2d", 3, 2, 1, ceil_mode=True),
    case("MaxPool2d", 2, 3, ceil_mode=True, return_indices=True),
    case("MaxPool2d", 2, 2, 1, (3, 2), True, True),
    case("MaxPool2d", (9, 7)),
    case("MaxPool2d", 13, 1, 6, x=(1, 2, 20, 17)),
    case("MaxPool2d", 1, x=(1, 1, 1, 1)),
    case("MaxPool2d", 2, x=(3, 9, 7)),
    case("MaxPool2d", 2, x=(0, 3, 9, 7)),
    case("MaxPool3d", 2),
    case("MaxPool3d", 3, 2, 1, return_indices=True),
    case("MaxPool3d", (1, 2, 3), (1, 1, 2), (0, 1, 1), ceil_mode=True),
    case("MaxPool3d", 2, 1, 1, 2, x=(3, 7, 6, 5)),
]
AVERAGE = [
    case("AvgPool1d", 2),
    case("AvgPool1d", (3,), (2,), (1,)),
    case("AvgPool1d", 4, 3, 2, True),
    case("AvgPool1d", 4, 3, 2, True, False),
    case("AvgPool1d", 40, 7, 20, x=(1, 2, 101)),
    case("AvgPool1d", 3, x=(3, 11)),
    case("AvgPool2d", 2),
    case("AvgPool2d", 3, 2, 1),
    case("AvgPool2d", 3, 2, 1, count_include_pad=False),
    case("AvgPool2d", (3, 2), (2, 3), (1, 0), True),
    case("AvgPool2d", (3, 2), (2, 3), (1, 1), True, False),
    case("AvgPool2d", 3, 2, 1, divisor_override=7),
    case("AvgPool2d", 2, divisor_override=-2),
    case("AvgPool2d", (9, 7)),
    case("AvgPool2d", 2, x=(3, 9, 7)),
    case("AvgPool2d", 2, x=(0, 3, 9, 7)),
    case("AvgPool3d", 2),
    case("AvgPool3d", 3, 2, 1, True, False),
    case("AvgPool3d", (1, 2, 3), (1, 1, 2), (0, 1, 1), True),
    case("AvgPool3d", 2, 1, divisor_override=3, x=(3, 7, 6, 5)),
]
ADAPTIVE = [
    *(case(f"Adaptive{kind}Pool1d", o) for kind in ("Avg", "Max") for o in (1, 4, 11, 17, (3,))),
    *(case(f"Adaptive{kind}Pool1d", 7, x=(2, 3, 100)) for kind in ("Avg", "Max")),
    *(
        case(f"Adaptive{kind}Pool2d", o)
        for kind in ("Avg", "Max")
        for o in (1, 3, (4, 7), (None, 2), (10, 13), (3, 1))
    ),
    *(case(f"Adaptive{kind}Pool2d", 2, x=(3, 9, 7)) for kind in ("Avg", "Max")),
    *(case(f"Adaptive{kind}Pool2d", 2, x=(0, 3, 9, 7)) for kind in ("Avg", "Max")),
    case("AdaptiveMaxPool1d", 4, return_indices=True),
    case("AdaptiveMaxPool2d", (4, 3), True),
    case("AdaptiveMaxPool2d", (4, 3), True, x=(3, 9, 7)),
    *(case(f"Adaptive{kind}Pool3d", o) for kind in ("Avg", "Max") for o in (1, (3, None, 2), 4)),
    case("AdaptiveMaxPool3d", (3, 4, 2), True),
]
TIES = [
    case(name, *args, x=make(SHAPES[int(name[-2])]))
    for make in (few_values, with_nan, lowest)
    for name, *args in [
        ("MaxPool1d", 3, 1, 1),
        ("MaxPool1d", 4, 2, 2, 1, True, True),
        ("MaxPool2d", 2),
        ("MaxPool2d", 3, 2, 1),
        ("MaxPool2d", 3, 2, 1, 1, True, True),
        ("MaxPool2d", 2, 1, 1, 2, True),
        ("MaxPool2d", (5, 4), 1, 2, 1, True),
        ("MaxPool3d", 3, 2, 1, 1, True),
        ("MaxPool3d", 2, 1, 1),
        ("AdaptiveMaxPool1d", 4, True),
        ("AdaptiveMaxPool2d", (4, 3), True),
        ("AdaptiveMaxPool2d", 3),
        ("AdaptiveMaxPool3d", (3, 4, 2), True),
    ]
]
NOT_FINITE = [
    case(name, *args, x=with_nan(SHAPES[int(name[-2])]))
    for name, *args in [
        ("AvgPool1d", 3, 2, 1),
        ("AvgPool2d", 3, 2, 1),
        ("AvgPool3d", 2),
        ("AdaptiveAvgPool1d", 4),
        ("AdaptiveAvgPool2d", (4, 3)),
        ("AdaptiveAvgPool3d", 3),
    ]
]
REFUSED = [
    case("MaxPool1d", 3, padding=2),
    case("MaxPool2d", 3, padding=2),
    case("MaxPool2d", 3, padding=2, dilation=2),
    case("MaxPool2d", 2, padding=-1),
    case("MaxPool2d", 2, 0),
    case("MaxPool2d", 2, -1),
    case("MaxPool2d", 0),
    case("MaxPool2d", 2, dilation=0),
    case("MaxPool2d", 10),
    case("MaxPool2d", (2, 2, 2)),
    case("MaxPool2d", 2, x=(4, 4)),
    case("MaxPool2d", 2, x=(1, 1, 1, 4, 4)),
    case("MaxPool2d", 2, x=(1, 0, 4, 4)),
    case("MaxPool2d", 1, x=(1, 2, 0, 4)),
    case("MaxPool1d", 2, x=(4,)),
    case("MaxPool3d", 2, x=(4, 4, 4)),
    case("AvgPool2d", 3, padding=2),
    case("AvgPool2d", 2, padding=-1),
    case("AvgPool2d", 2, 0),
    case("AvgPool2d", 0, 1),
    case("AvgPool2d", 10),
    case("AvgPool2d", 2, divisor_override=0),
    case("AvgPool3d", 2, divisor_override=0),
    case("AvgPool2d", 2, x=(4, 4)),
    case("AvgPool2d", 2, x=(1, 0, 4, 4)),
    case("AdaptiveAvgPool2d", -1),
    case("AdaptiveMaxPool2d", -1),
    case("AdaptiveAvgPool2d", (1, 2, 3)),
    case("AdaptiveAvgPool2d", (2,)),
    case("AdaptiveAvgPool2d", 2, x=(4, 4)),
    case("AdaptiveMaxPool2d", 2, x=(4, 4)),
    case("AdaptiveAvgPool2d", 2, x=(2, 1, 0, 4)),
    case("AdaptiveMaxPool2d", 2, x=(2, 1, 0, 4)),
]
NAMES = [
    f"{kind}Pool{nd}d" for kind in ("AdaptiveAvg", "AdaptiveMax", "Avg", "Max") for nd in (1, 2, 3)
]
GRADIENTS = ("forward", "input_grads")


@pytest.mark.parametrize("check", ["shape_dtype", "whole"])
@pytest.mark.parametrize("case", [*MAX, *AVERAGE, *ADAPTIVE], ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("check", [c for c in CHECKS if c not in ("param_grads", "state")])
@pytest.mark.parametrize("name", NAMES)
def test_every_check(name, check):
    run(next(c for c in [*MAX, *AVERAGE, *ADAPTIVE] if c.torch.__name__ == name), check)


@pytest.mark.parametrize("check", GRADIENTS)
@pytest.mark.parametrize("case", range(len(TIES)), ids=lambda i: f"{i}-{TIES[i]}")
def test_ties_nan_and_infinities_choose_the_element_that_torch_chooses(case, check):
    run(TIES[case], check)


@pytest.mark.parametrize("check", GRADIENTS)
@pytest.mark.parametrize("case", NOT_FINITE, ids=str)
def test_what_is_not_finite_stays_in_its_window(case, check):
    run(case, check)


@pytest.mark.parametrize("name", ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d"])
def test_no_output_at_all(name):
    """torch computes it and refuses its gradient; here that is zero."""
    run(case(name, 0), "shape_dtype")
    run(case(name, 0), "forward")
    grad = jax.grad(lambda x: getattr(nn, name)(0)(x).sum())(jnp.ones((1, 4, 4, 2)))
    assert not grad.any()


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


def arguments_of(cls):
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [(p.name, p.default) for p in parameters]


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_torchs(name):
    assert arguments_of(getattr(nn, name)) == arguments_of(getattr(tnn, name))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_sizes_of_every_small_configuration(kind, ceil_mode):
    """Output sizes and values of 1-D pools for all small lengths, kernels, strides, paddings."""
    theirs, ours = getattr(torch.nn.functional, f"{kind}_pool1d"), getattr(F, f"{kind}_pool1d")
    compared = 0
    for n in range(1, 9):
        x = np.random.default_rng(n).standard_normal((1, n)).astype(np.float32)
        for kernel in range(1, 5):
            for stride in range(1, 5):
                for padding in range(kernel // 2 + 1):
                    given = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
                    try:
                        want = theirs(torch.from_numpy(x), kernel, **given).numpy()
                    except RuntimeError:
                        with pytest.raises(ValueError, match="pool1d"):
                            ours(jnp.asarray(x.T), kernel, **given)
                        continue
                    got = np.asarray(ours(jnp.asarray(x.T), kernel, **given)).T
                    np.testing.assert_allclose(got, want, rtol=1e-6)
                    compared += 1
    assert compared > 200


@pytest.mark.parametrize("name", ["MaxPool2d", "AvgPool2d", "AdaptiveMaxPool2d"])
def test_a_wrong_rank_is_a_layout_error(name):
    with pytest.raises(LayoutError, match=r"expected 4 axes .*shape \(4, 4\)"):
        getattr(nn, name)(2)(jnp.ones((4, 4)))


def test_all_wrong_arguments_are_reported_at_once():
    with pytest.raises(ValueError, match="(?s)kernel_size.*stride.*padding"):
        F.max_pool2d(jnp.ones((1, 4, 4, 1)), 0, -1, -2)


def test_integers_are_pooled_as_in_torch():
    x = jnp.arange(16).reshape(1, 4, 4, 1) - 20
    assert F.max_pool2d(x, 3, 2, 1)[0, :, :, 0].tolist() == [[-15, -13], [-7, -5]]
    want = torch.nn.functional.avg_pool2d(torch.arange(16).reshape(1, 1, 4, 4) - 20, 2)
    assert F.avg_pool2d(x, 2)[0, :, :, 0].tolist() == want[0, 0].tolist()  # towards zero
    with pytest.raises(TypeError, match="adaptive_avg_pool2d: expected a floating point"):
        F.adaptive_avg_pool2d(x, 2)
    with pytest.raises(TypeError, match="max_pool2d"):
        F.max_pool2d(x > 0, 2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("given", [("AvgPool2d", 3, 2, 1), ("AdaptiveAvgPool2d", 1)], ids=str)
def test_half_precision_is_as_close_to_the_truth_as_torch(given, dtype):
    name, *args = given
    x = torch.from_numpy(np.random.default_rng(0).normal(1, 1, (4, 3, 28, 28)))
    x = x.to(getattr(torch, dtype))
    truth = getattr(tnn, name)(*args)(x.double()).numpy()
    of_torch = getattr(tnn, name)(*args)(x).double().numpy()
    out = getattr(nn, name)(*args)(jnp.moveaxis(jnp.asarray(x.double().numpy(), dtype), 1, -1))
    assert out.dtype == jnp.dtype(dtype)
    error = np.linalg.norm(np.moveaxis(np.asarray(out, np.float64), -1, 1) - truth)
    eps = float(jnp.finfo(dtype).eps) * np.linalg.norm(truth)
    assert error <= 2 * np.linalg.norm(of_torch - truth) + 0.25 * eps


def test_second_and_forward_derivatives():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 8, 8, 2)), jnp.float32)

    def energy(x):
        return (F.max_pool2d(x, 3, 2, 1) ** 2).sum() + (F.adaptive_avg_pool2d(x, 3) ** 2).sum()

    _, along = jax.jvp(jax.grad(energy), (x,), (x,))
    # the energy is quadratic where the choice of maxima does not change
    np.testing.assert_allclose(along, jax.grad(energy)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["avg_pool2d", "max_pool2d"])
def test_a_window_far_larger_than_its_axis(name):
    """As EfficientNet of transformers ends; an array padded to 2000 places takes a second."""
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 2)).astype(np.float32)
    options = {"kernel_size": (2000, 3), "padding": (0, 1), "ceil_mode": True}
    given = torch.from_numpy(np.moveaxis(x, -1, 1))
    theirs = getattr(torch.nn.functional, name)(given, **options)
    pool = jax.jit(lambda x: getattr(F, name)(x, **options))
    np.testing.assert_allclose(np.moveaxis(pool(x), -1, 1), theirs, rtol=1e-6)
    assert "2000," not in str(jax.make_jaxpr(pool)(x))
