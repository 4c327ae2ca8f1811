from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn as tnn

from fluxmod import nn
from fluxmod.nn import functional as F
from parity_tests.compare import same
from parity_tests.nn.cases import Case, both_raise, run

# Kinks of every activation with its default arguments, values where exp overflows or is tiny, and
# what is not finite. 23 values: torch's kernels take some in vectors and the rest one by one.
SPECIAL = np.array(
    [-np.inf, -1e4, -100, -20, -6, -3, -2, -1, -0.5, -1e-3, 0, 1e-3, 0.5, 1, 2, 3, 6]
    + [20, 21, 100, 1e4, np.inf, np.nan]
)
INPUTS = {
    "normal": (4, 3, 5),
    "wide": lambda rng: (30 * rng.standard_normal((3, 7)),),
    "special": lambda rng: (SPECIAL,),
    "scalar": (),
    "empty": (0, 3),
    "one": (1, 1),
}


def case(name, *args, x="normal", **kwargs):
    shown = ",".join([*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())])
    cls = getattr(tnn, name), getattr(nn, name)
    return Case(f"{name}({shown})-{x}", *cls, args, kwargs, INPUTS.get(x, x))


VARIANTS = [
    ("ReLU",),
    ("ReLU6",),
    ("LeakyReLU",),
    ("LeakyReLU", 0.2),
    ("LeakyReLU", -0.5),
    ("PReLU",),
    ("ELU",),
    ("ELU", 0.7),
    ("SELU",),
    ("CELU",),
    ("CELU", 1.3),
    ("CELU", -2.0),
    ("GELU",),
    ("GELU", "tanh"),
    ("SiLU",),
    ("Mish",),
    ("Sigmoid",),
    ("Tanh",),
    ("Hardtanh",),
    ("Hardtanh", -2, 0.5),
    ("Hardswish",),
    ("Hardsigmoid",),
    ("Softplus",),
    ("Softplus", 2.0, 3.0),
    ("Softplus", 0.5),
    ("Softsign",),
    ("LogSigmoid",),
    ("Threshold", 0.5, 20.0),
    ("Threshold", 0, -1.0),
    ("Tanhshrink",),
    ("Softshrink",),
    ("Softshrink", 2.0),
    ("Hardshrink",),
    ("Hardshrink", -1.0),
]

CASES = [
    *(case(*variant) for variant in VARIANTS),
    *(case("PReLU", 3, 0.1, x=x) for x in [(4, 3), (4, 3, 5), (2, 3, 5, 4), (2, 3, 2, 5, 4)]),
    case("GLU", x=(4, 6)),
    case("GLU", 0, x=(4, 6)),
    case("GLU", -2, x=(3, 2, 5)),
    case("Softmax2d", x=(2, 3, 5, 4)),
    case("Softmax2d", x=(3, 5, 4)),
    *(case(name, dim, x=(4, 3, 5)) for name in ("Softmax", "Softmin") for dim in (0, 1, -1)),
    *(case("LogSoftmax", dim, x=(4, 3, 5)) for dim in (0, 1, -1)),
    *(case(name, 0, x="scalar") for name in ("Softmax", "LogSoftmax", "Softmin")),
    case("Softmax", 1, x=(4, 1)),
    case("Softmax", 1, x=(0, 3)),
    case("Softmax", 1, x=(3, 0)),
]

# torch writes into its input and cannot differentiate a leaf written to
IN_PLACE = [
    case("ReLU", True),
    case("ReLU6", True),
    case("LeakyReLU", 0.2, True),
    case("ELU", 0.7, True),
    case("SELU", True),
    case("CELU", 1.3, True),
    case("SiLU", True),
    case("Mish", True),
    case("Hardtanh", -2, 0.5, True),
    case("Hardswish", True),
    case("Hardsigmoid", True),
    case("Threshold", 0.5, 20, True),
]

REFUSED = [
    case("PReLU", 3, x=(4, 5)),
    case("PReLU", 3, x=(3,)),
    case("PReLU", 3, x=()),
    case("PReLU", 0, x=(3,)),
    case("GLU", x=(4, 5)),
    case("GLU", x=()),
    case("CELU", 0.0),
    case("GELU", "erf"),
    case("Softshrink", -0.5),
    case("Hardtanh", 1.0, -1.0),
    case("Hardtanh", 1.0, 1.0),
    case("Softmax2d", x=(3, 4)),
    case("Softmax2d", x=(1, 2, 3, 4, 5)),
]
OUT_OF_RANGE = [
    case("GLU", 2, x=(4, 6)),
    *(case(name, 2, x=(4, 6)) for name in ("Softmax", "LogSoftmax", "Softmin")),
    case("Softmax", 1, x=()),
]

# torch warns and guesses; see test_softmax_without_dim_is_refused_with_torchs_guess_named
NO_DIM = {"Softmax": (), "LogSoftmax": (), "Softmin": ()}
NAMES = (
    "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid "
    "LogSoftmax Mish PReLU ReLU ReLU6 SELU Sigmoid SiLU Softmax Softmax2d Softmin Softplus "
    "Softshrink Softsign Tanh Tanhshrink Threshold"
).split()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case):
    run(case, "briefly")


@pytest.mark.parametrize("check", ["forward", "jit", "split_merge"])
@pytest.mark.parametrize("name", sorted({c.torch.__name__ for c in CASES}))
def test_structure(name, check):
    """How a layer is run depends on the class alone; the last case has weights."""
    run([c for c in CASES if c.torch.__name__ == name][-1], check)


@pytest.mark.parametrize("check", ["forward", "repr", "jit", "split_merge"])
@pytest.mark.parametrize("case", IN_PLACE, ids=str)
def test_inplace_is_shown_and_changes_no_input(case, check):
    run(case, check)
    x = jnp.linspace(-1, 1, 9)
    case.flax(*case.args)(x)
    assert x.tolist() == jnp.linspace(-1, 1, 9).tolist()


@pytest.mark.parametrize("x", [x for x in INPUTS if x != "normal"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_values_and_gradients_at_kinks_and_far_out(variant, x):
    given = case(*variant, x=x)
    for check in ("shape_dtype", "forward", "gradients"):
        run(given, check)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError)


@pytest.mark.parametrize("case", OUT_OF_RANGE, ids=str)
def test_an_axis_that_is_not_there(case):
    both_raise(case, IndexError, torch_error=IndexError)


def arguments_of(cls):
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    left_out = ("device", "dtype")
    return [
        (p.name, p.default) for p in parameters if p.kind is positional and p.name not in left_out
    ]


@pytest.mark.parametrize("name", NAMES)
def test_arguments_and_defaults_are_torchs(name):
    assert arguments_of(getattr(nn, name)) == arguments_of(getattr(tnn, name))


@pytest.mark.parametrize("name", NO_DIM)
@pytest.mark.parametrize(("shape", "axis"), [((2,), 0), ((2, 3), 1), ((2, 3, 4), 0)])
def test_softmax_without_dim_is_refused_with_torchs_guess_named(name, shape, axis):
    layer = getattr(nn, name)()
    assert str(layer) == str(getattr(tnn, name)())
    with pytest.raises(ValueError, match=f"dim is needed.* take axis {axis} "):
        layer(jnp.ones(shape))


ROWS = np.array([[0.0, -np.inf, 1], [-np.inf, -np.inf, -np.inf], [np.inf, 0, 1], [np.nan, 0, 1]])


@pytest.mark.parametrize("name", NO_DIM)
@pytest.mark.parametrize("row", range(4))
def test_rows_with_infinities(name, row):
    given = case(name, 1, x=lambda rng: (ROWS[row : row + 1],))
    run(given, "forward")
    run(given, "input_grads")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("variant", [*VARIANTS, ("Softmax", -1), ("LogSoftmax", -1)], ids=str)
def test_half_precision_is_as_close_to_the_truth_as_torch(variant, dtype):
    """Each side against float64 of the same half-precision input."""
    given = case(*variant)
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (64, 9))).to(getattr(torch, dtype))
    theirs = given.torch(*given.args)
    truth = theirs.double()(x.double()).detach().numpy()
    of_torch = theirs.to(x.dtype)(x).detach().double().numpy()
    layer = given.flax(*given.args)
    nn.to(layer, dtype=jnp.dtype(dtype)) if variant[0] == "PReLU" else None
    out = layer(jnp.asarray(x.double().numpy(), dtype))
    assert out.dtype == jnp.dtype(dtype)
    error = np.linalg.norm(np.asarray(out, np.float64) - truth)
    eps = float(jnp.finfo(dtype).eps) * np.linalg.norm(truth)
    assert error <= 2 * np.linalg.norm(of_torch - truth) + 0.25 * eps


def test_integers_are_kept_promoted_or_refused_as_in_torch():
    x = jnp.array([-2, 0, 3])
    for name in ("relu", "relu6", "hardtanh"):
        assert getattr(F, name)(x).dtype == x.dtype
        assert (
            getattr(F, name)(x).tolist()
            == getattr(tnn.functional, name)(torch.tensor([-2, 0, 3])).tolist()
        )
    for name in ("sigmoid", "tanh", "softsign", "tanhshrink"):
        assert getattr(F, name)(x).dtype == jnp.float32
    for name in ("leaky_relu", "elu", "gelu", "silu", "hardswish", "softplus", "glu"):
        with pytest.raises(TypeError, match=f"^{name}: expected a floating point"):
            getattr(F, name)(x)
    with pytest.raises(TypeError, match="^relu: expected a floating point"):
        F.relu(x > 0)
    with pytest.raises(TypeError, match="^softmax: expected a floating point"):
        F.softmax(x, 0)
    assert F.softmax(x, 0, dtype=jnp.float32).sum() == pytest.approx(1)


def test_hardtanh_takes_its_older_names_with_a_warning():
    with pytest.warns(FutureWarning, match="min_val"):
        layer = nn.Hardtanh(min_value=-2.0)
    assert (layer.min_val, layer.max_val) == (-2.0, 1.0)
    with pytest.warns(FutureWarning, match="max_val"):
        assert nn.Hardtanh(max_value=3.0).max_val == 3.0


def test_prelu_on_axis_1_when_the_channels_are_not_last(x64):
    x = np.random.default_rng(0).standard_normal((2, 3, 5))
    theirs = tnn.PReLU(3, dtype=torch.float64)
    ours = nn.PReLU(3, channels_last=False, param_dtype=jnp.float64)
    slopes = np.array([0.1, 0.2, 0.3])
    theirs.weight.data = torch.from_numpy(slopes)
    ours.weight[...] = jnp.asarray(slopes)
    same({"out": ours(jnp.asarray(x))}, {"out": theirs(torch.from_numpy(x))})
    assert ours.axes == nn.Axes()
    with pytest.raises(ValueError, match="3 channels on axis 1"):
        nn.PReLU(5, channels_last=False)(jnp.asarray(x))


@pytest.mark.parametrize(
    ("shape", "last"),
    [((4, 3), 1), ((2, 3, 5), 1), ((2, 5, 4, 3), 3), ((2, 5, 4, 2, 3), 4), ((2, 3, 1, 1, 2, 2), 1)],
)
def test_prelu_takes_maps_by_rank_unless_told(shape, last):
    """Rank 4 and 5 are feature maps, channels last; anything else has torch's order."""
    layer = nn.PReLU(3)
    layer.weight[...] = jnp.array([0.1, 0.2, 0.3])
    out = np.moveaxis(np.asarray(layer(-jnp.ones(shape))), last, -1)
    np.testing.assert_allclose(out, np.broadcast_to([-0.1, -0.2, -0.3], out.shape), rtol=1e-6)


def test_prelu_of_a_sequence_of_maps_is_told(x64):
    x = np.random.default_rng(0).standard_normal((2, 3, 5))
    theirs = tnn.PReLU(3, dtype=torch.float64)
    ours = nn.PReLU(3, channels_last=True, param_dtype=jnp.float64)
    got = ours(jnp.asarray(np.moveaxis(x, 1, -1)))
    same({"out": np.moveaxis(got, -1, 1)}, {"out": theirs(torch.from_numpy(x))})
    assert ours.axes.of_input(0) == nn.Channel(1, min_rank=2)


def test_prelu_sums_its_gradient_in_float32():
    x = -jnp.ones(5000, jnp.bfloat16)
    grad = jax.grad(lambda w: nn.functional.prelu(x, w).sum())(jnp.ones(1, jnp.bfloat16))
    assert abs(float(grad[0]) + 5000) <= 5000 * 2**-8


def test_prelu_computes_in_the_dtype_asked_for():
    layer = nn.PReLU(dtype=jnp.bfloat16)
    assert layer(jnp.ones(3)).dtype == jnp.bfloat16
    assert layer.weight.dtype == jnp.float32


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "softplus", "mish"])
def test_second_derivatives(name, x64):
    x = np.linspace(-3, 3, 20)
    t = torch.from_numpy(x).requires_grad_()
    (first,) = torch.autograd.grad(getattr(tnn.functional, name)(t).sum(), t, create_graph=True)
    second = torch.zeros_like(t)
    if first.requires_grad:
        (second,) = torch.autograd.grad(first.sum(), t)
    ours = jax.vmap(jax.grad(jax.grad(getattr(F, name))))(jnp.asarray(x))
    same({"second": ours}, {"second": second})
