"""torch.nn.init: fans and bounds equal torch's, draws follow torch's distributions."""

from __future__ import annotations

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from scipy import stats
from torch.nn import init as tinit

from fluxmod import convert, nn
from fluxmod.nn import init

CHANCE = 1e-6
"""How often a correct sampler may fail; the seeds are fixed, so it either does or does not."""

RNGS = nnx.Rngs(0)
TORCH_ORDER = {"in_axis": 1, "out_axis": 0}
WEIGHTS = {
    "linear": ((40, 300), (300, 40), {}),
    "conv1d": ((60, 20, 5), (5, 20, 60), {}),
    "conv2d": ((60, 20, 3, 2), (3, 2, 20, 60), {}),
    "conv3d": ((60, 8, 3, 2, 1), (3, 2, 1, 8, 60), {}),
    "embedding": ((100, 30), (100, 30), TORCH_ORDER),
    "bilinear": ((20, 30, 9), (20, 30, 9), TORCH_ORDER),
    "conv_transpose2d": ((20, 60, 3, 2), (3, 2, 60, 20), {}),  # stored (in, out, *window)
}
"""torch's shape, the shape stored here, and where its axes are."""


def zeros(shape, dtype=jnp.float32):
    return nnx.Param(jnp.zeros(shape, dtype))


def fits(values, distribution):
    return stats.kstest(np.ravel(values)[:20_000], distribution.cdf).pvalue > CHANCE


@pytest.mark.parametrize("name", WEIGHTS)
def test_fans_are_torchs(name):
    theirs, ours, where = WEIGHTS[name]
    want = tinit._calculate_fan_in_and_fan_out(torch.empty(theirs))
    assert init.fan_in_and_fan_out(zeros(ours), **where) == want


@pytest.mark.parametrize("name", ["linear", "conv2d", "embedding"])
@pytest.mark.parametrize(
    "filling",
    [
        ("xavier_uniform_", {"gain": 2.0}),
        ("xavier_normal_", {"gain": 2.0}),
        ("kaiming_uniform_", {"a": 0.3}),
        ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
        ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "selu"}),
        ("kaiming_normal_", {"nonlinearity": "tanh"}),
    ],
    ids=lambda v: v[0] + "".join(map(str, v[1].values())),
)
def test_draws_that_depend_on_fans(name, filling):
    """Two samples, one from each framework, are of one distribution; a wider one is seen."""
    function, kwargs = filling
    theirs, ours, where = WEIGHTS[name]
    torch.manual_seed(0)
    want = getattr(tinit, function)(torch.empty(theirs), **kwargs).numpy().ravel()
    variable = zeros(ours)
    assert getattr(init, function)(variable, **kwargs, **where, rngs=nnx.Rngs(1)) is variable
    got = np.asarray(variable[...]).ravel()
    assert stats.ks_2samp(got, want).pvalue > CHANCE
    assert stats.ks_2samp(1.5 * got, want).pvalue < CHANCE
    if "uniform" in function:
        np.testing.assert_allclose(np.abs(got).max(), np.abs(want).max(), rtol=0.02)


def test_a_layers_default_is_its_kaiming():
    """What torch's layers do at the start, by hand."""
    layer = nn.Conv2d(20, 60, (3, 2), rngs=RNGS)
    init.kaiming_uniform_(layer.kernel, a=math.sqrt(5), rngs=RNGS)
    bound = 1 / math.sqrt(20 * 6)
    assert fits(layer.kernel[...], stats.uniform(-bound, 2 * bound))


@pytest.mark.parametrize(
    ("fill", "distribution"),
    [
        (lambda v: init.uniform_(v, -1.0, 3.0, rngs=RNGS), stats.uniform(-1, 4)),
        (lambda v: init.normal_(v, 2.0, 0.5, rngs=RNGS), stats.norm(2, 0.5)),
        (lambda v: init.trunc_normal_(v, rngs=RNGS), stats.truncnorm(-2, 2)),
        (lambda v: init.trunc_normal_(v, std=0.02, rngs=RNGS), stats.norm(0, 0.02)),
        (
            lambda v: init.trunc_normal_(v, 1.0, 2.0, -1.0, 2.0, rngs=RNGS),
            stats.truncnorm(-1, 0.5, 1, 2),
        ),
    ],
    ids=["uniform", "normal", "cut at 2", "cut at values, not at deviations", "uneven"],
)
def test_draws_from_a_distribution_given(fill, distribution):
    values = np.asarray(fill(zeros((200, 100)))[...])
    assert fits(values, distribution)
    assert not fits(1.25 * values + 0.1, distribution)


@pytest.mark.parametrize("side", [1, -1])
def test_far_tails_are_drawn_and_warned_of(side):
    low, high = sorted((5.0 * side, 6.0 * side))
    with pytest.warns(UserWarning, match="2 std"):
        values = init.trunc_normal_(zeros((20_000,)), a=low, b=high, rngs=RNGS)[...]
    assert fits(values, stats.truncnorm(low, high))
    with pytest.warns(UserWarning, match="2 std"):
        tinit.trunc_normal_(torch.empty(3), a=low, b=high)


@pytest.mark.parametrize("name", ["linear", "conv2d", "conv_transpose2d", "bilinear"])
def test_orthogonal_rows_or_columns(name, x64):
    theirs, ours, where = WEIGHTS[name]
    got = np.asarray(init.orthogonal_(zeros(ours, jnp.float64), 2.0, **where, rngs=RNGS)[...])
    rank = got.ndim
    first = [where.get(k, d) % rank for k, d in (("out_axis", -1), ("in_axis", -2))]
    matrix = got.transpose(*first, *(i for i in range(rank) if i not in first))
    assert matrix.shape == theirs
    matrix = matrix.reshape(theirs[0], -1)
    short = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(short, 4 * np.eye(len(short)), atol=1e-12)


def test_every_orthogonal_matrix_is_equally_likely():
    """The first column's angle is uniform, and so is the determinant's sign."""
    keys = jax.random.split(jax.random.key(0), 4000)
    many = jax.vmap(lambda key: init.orthogonal_(zeros((2, 2)), rngs=key)[...])(keys)
    angle = np.arctan2(many[:, 1, 0], many[:, 0, 0])
    assert fits(angle, stats.uniform(-math.pi, 2 * math.pi))
    assert abs(float(jnp.linalg.det(many).mean())) < 0.1


@pytest.mark.parametrize("where", [{}, TORCH_ORDER])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.55, 1.0])
def test_sparse_zeros_of_each_input(sparsity, where):
    torch.manual_seed(0)
    want = tinit.sparse_(torch.empty(30, 200), sparsity, 0.5).numpy()
    got = np.asarray(
        init.sparse_(zeros((30, 200) if where else (200, 30)), sparsity, 0.5, **where, rngs=RNGS)[
            ...
        ]
    )
    got = got if where else got.T
    np.testing.assert_array_equal((got == 0).sum(0), (want == 0).sum(0))
    if 0 < sparsity < 1:
        assert len({tuple(column) for column in (got == 0).T}) > 100
        assert fits(got[got != 0], stats.norm(0, 0.5))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 2, 3, 4), (6, 8, 1, 2, 5)])
def test_dirac_is_torchs(shape, groups):
    want = tinit.dirac_(torch.empty(shape), groups).numpy()
    got = np.asarray(init.dirac_(zeros((*shape[2:], shape[1], shape[0])), groups)[...])
    np.testing.assert_array_equal(np.moveaxis(got, (-1, -2), (0, 1)), want)
    stored = np.asarray(init.dirac_(zeros(shape), groups, **TORCH_ORDER)[...])
    np.testing.assert_array_equal(stored, want)


def test_a_dirac_convolution_hands_its_input_on():
    layer = nn.Conv2d(3, 3, 3, padding=1, bias=False, rngs=RNGS)
    init.dirac_(layer.kernel)
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    np.testing.assert_allclose(layer(x), x, rtol=1e-6)


def test_constants_and_the_identity():
    for name, args in (("constant_", (0.3,)), ("ones_", ()), ("zeros_", ()), ("eye_", ())):
        want = getattr(tinit, name)(torch.empty(3, 5), *args).numpy()
        np.testing.assert_array_equal(getattr(init, name)(zeros((3, 5)), *args)[...], want)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_the_dtype_stays(dtype, x64):
    fillings = [
        lambda v: init.uniform_(v, rngs=RNGS),
        lambda v: init.trunc_normal_(v, rngs=RNGS),
        lambda v: init.kaiming_normal_(v, rngs=RNGS),
        lambda v: init.orthogonal_(v, rngs=RNGS),
        lambda v: init.sparse_(v, 0.5, rngs=RNGS),
        init.eye_,
    ]
    for fill in fillings:
        assert fill(zeros((7, 9), dtype))[...].dtype == dtype
    if dtype == jnp.float64:
        drawn = np.asarray(init.normal_(zeros((9,), dtype), rngs=RNGS)[...])
        assert not np.array_equal(drawn, drawn.astype(np.float32))


def test_gains_are_torchs():
    for name in ("linear", "conv_transpose3d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert init.calculate_gain(name) == tinit.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.2) == tinit.calculate_gain("leaky_relu", 0.2)
    for args in (("gelu",), ("leaky_relu", True), ("leaky_relu", "a")):
        with pytest.raises(ValueError, match="calculate_gain"):
            init.calculate_gain(*args)
        with pytest.raises(ValueError, match=r"nonlinearity|negative_slope"):
            tinit.calculate_gain(*args)


def test_every_public_name_of_torch_is_there():
    public = {
        name
        for name, value in vars(tinit).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == tinit.__name__
    }
    assert public - {"Callable", "Literal", "ParamSpec", "TypeVar"} <= set(init.__all__)


def test_the_older_names_warn_and_do_the_same():
    for name in ("uniform", "normal", "orthogonal", "xavier_normal", "kaiming_uniform"):
        key = jax.random.key(3)
        with pytest.warns(FutureWarning, match=f"nn.init.{name}_"):
            old = getattr(init, name)(zeros((3, 4)), rngs=key)
        new = getattr(init, f"{name}_")(zeros((3, 4)), rngs=key)
        np.testing.assert_array_equal(old[...], new[...])


REFUSED = {
    "xavier_uniform_": ((3,), {}),
    "kaiming_normal_": ((3, 3), {"mode": "fan"}),
    "kaiming_uniform_": ((3, 3), {"nonlinearity": "gelu"}),
    "eye_": ((3,), {}),
    "dirac_": ((3, 3), {}),
    "sparse_": ((3,), {"sparsity": 0.1}),
    "orthogonal_": ((3,), {}),
    "uniform_": ((3,), {"a": 2, "b": 1}),
    "normal_": ((3,), {"std": -1.0}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse(name):
    shape, kwargs = REFUSED[name]
    with pytest.raises((ValueError, RuntimeError)):
        getattr(tinit, name)(torch.empty(shape), **kwargs)
    rngs = {} if name in ("eye_", "dirac_") else {"rngs": RNGS}
    with pytest.raises(ValueError, match=r"^\w+: "):
        getattr(init, name)(zeros(shape), **kwargs, **rngs)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="dim 0"):
        tinit.dirac_(torch.empty(4, 3, 3), 3)
    with pytest.raises(ValueError, match="groups=3 must divide the 4 outputs"):
        init.dirac_(zeros((3, 3, 4)), 3)


def test_an_array_is_refused_and_the_variable_named():
    with pytest.raises(TypeError, match=r"layer\.kernel"):
        init.ones_(jnp.zeros(3))
    with pytest.raises(ValueError, match="two axes"):
        init.xavier_normal_(zeros((3, 3)), in_axis=-1, rngs=RNGS)


def test_empty_weights_are_left_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fill in (init.xavier_uniform_, init.orthogonal_, init.uniform_):
            assert fill(zeros((0, 4)), rngs=RNGS)[...].shape == (0, 4)
    with pytest.warns(UserWarning, match="nothing to fill"):
        init.kaiming_uniform_(zeros((0, 4)), rngs=RNGS)


def test_filling_inside_compiled_code_and_under_ties():
    """A tie is one Variable: both layers see the new weight."""
    model = nn.Sequential(nn.Linear(4, 4, rngs=RNGS), nn.Linear(4, 4, rngs=RNGS))
    model[1].kernel = model[0].kernel

    @nnx.jit
    def refill(model, key):
        init.xavier_normal_(model[0].kernel, rngs=key)

    before = convert.to_torch(model)["0.weight"]
    refill(model, jax.random.key(1))
    after = convert.to_torch(model)
    assert not np.array_equal(after["0.weight"], before)
    np.testing.assert_array_equal(after["0.weight"], after["1.weight"])
