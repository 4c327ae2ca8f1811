from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.compare import bitwise
from parity_tests.nn.cases import Case, Ints, both_raise, case_and_check, run
from parity_tests.nn.twins import build


def table(id, *args, x=Ints((4, 5), 10), **kwargs):  # noqa: B008 (frozen)
    return Case(id, tnn.Embedding, nn.Embedding, (10, 3, *args), kwargs, [x])


def repeated(rng):
    return (np.array([[1, 1, 1, 2], [2, 0, 9, 9]]),)


CASES = [
    table("plain"),
    table("scalar", x=Ints((), 10)),
    table("vector", x=Ints((6,), 10)),
    table("rank-4", x=Ints((2, 3, 1, 2), 10)),
    table("empty", x=Ints((0, 4), 10)),
    table("int32", x=Ints((3,), 10)),
    table("padding", padding_idx=2),
    table("padding-negative", padding_idx=-1, x=Ints((30,), 10)),
    table("padding-positional", 0),
    table("max-norm", max_norm=0.5),
    table("max-norm-1", max_norm=0.7, norm_type=1.0),
    table("max-norm-inf", max_norm=0.3, norm_type=float("inf")),
    table("max-norm-padding", max_norm=0.5, padding_idx=3, x=Ints((30,), 10)),
    table("by-freq", scale_grad_by_freq=True),
    table("by-freq-padding", scale_grad_by_freq=True, padding_idx=1),
    Case("repeated", tnn.Embedding, nn.Embedding, (10, 3), {"scale_grad_by_freq": True}, repeated),
    Case("one-row", tnn.Embedding, nn.Embedding, (1, 3), {}, [Ints((4,), 1)]),
    table("sparse-shown", sparse=True),
]

REFUSED = [
    table("padding-too-high", padding_idx=10),
    table("padding-too-low", padding_idx=-11),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_refused_as_in_torch(case):
    both_raise(case, ValueError, torch_error=AssertionError)


def test_float_indices_are_refused():
    with pytest.raises(TypeError, match="integers"):
        nn.Embedding(10, 3, rngs=nnx.Rngs(0))(jnp.ones(3))


@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("index", [-1, -10, -11, 10, 11, 1 << 30])
@pytest.mark.parametrize("options", [{}, {"max_norm": 0.1}, {"scale_grad_by_freq": True}])
def test_an_index_outside_gives_nan_and_touches_no_row(rows, index, options):
    """torch raises here, which compiled code cannot."""
    ours = nn.Embedding(rows, 3, **options, rngs=nnx.Rngs(0))
    before = convert.to_torch(ours)
    out = nnx.jit(lambda m, i: m(i))(ours, jnp.array([index]))
    assert np.isnan(out).all()
    bitwise(convert.to_torch(ours), before)
    with pytest.raises(IndexError):
        tnn.Embedding(rows, 3)(torch.tensor([index]))


def test_an_index_outside_leaves_the_others_alone():
    ours = nn.Embedding(10, 3, rngs=nnx.Rngs(0))
    call = nnx.jit(lambda m, x: m(x))
    out = np.asarray(call(ours, jnp.array([3, -1, 4])))
    assert np.isfinite(out[[0, 2]]).all()
    grad = nnx.grad(lambda m: jnp.nansum(call(m, jnp.array([3, -1, 10]))))(ours)
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(grad.embedding[...]).any(1)), [3])


def test_max_norm_scales_in_both_modes_and_only_used_rows():
    for train in (True, False):
        case = Case("mn", tnn.Embedding, nn.Embedding, (10, 3), {"max_norm": 0.01}, train=train)
        theirs, ours = build(case, "float32")
        theirs(torch.tensor([1, 1, 7]))
        ours(jnp.array([1, 1, 7]))
        got, want = convert.to_torch(ours)["weight"], theirs.weight.detach().numpy()
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(got[[1, 7]], axis=1), 0.01, rtol=1e-4)


def test_the_padding_row_starts_at_zero_and_is_looked_up_as_it_is():
    ours = nn.Embedding(10, 3, padding_idx=-2, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(ours.embedding[8], 0)
    ours.embedding[...] = jnp.ones((10, 3))
    np.testing.assert_array_equal(ours(jnp.array([8])), 1)


def test_it_is_an_nnx_embed():
    ours = nn.Embedding(10, 3, rngs=nnx.Rngs(0))
    assert isinstance(ours, nnx.Embed)
    np.testing.assert_allclose(ours.attend(jnp.ones((2, 3))), jnp.ones((2, 3)) @ ours.embedding.T)


def test_the_dtype_argument_is_the_computing_type():
    ours = nn.Embedding(10, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert (ours(jnp.array([1])).dtype, ours.embedding.dtype) == (jnp.bfloat16, jnp.float32)


def bags(id, x, *more, **kwargs):
    arrays = tuple(np.array(a) for a in (x, *more))
    args = ("bag-" + id, tnn.EmbeddingBag, nn.EmbeddingBag, (10, 3), kwargs, lambda rng: arrays)
    return Case(*args)


MODES = ("sum", "mean", "max")
EVEN, FLAT, STARTS = [[1, 2, 4, 5], [4, 3, 2, 9]], [1, 2, 4, 5, 4, 3, 4, 9], [0, 3, 3, 6]
BAGS = [
    bags("mean", EVEN),
    bags("sum", EVEN, mode="sum"),
    bags("max", EVEN, mode="max"),
    bags("empty-bag-mean", FLAT, STARTS),
    bags("empty-bag-max", FLAT, STARTS, mode="max"),
    bags("last-offset", FLAT, [*STARTS, 8], include_last_offset=True, mode="sum"),
    bags("weights", FLAT, STARTS, np.arange(8.0) - 3, mode="sum"),
    *(bags(f"padding-{mode}", FLAT, STARTS, mode=mode, padding_idx=4) for mode in MODES),
    *(bags(f"padding-even-{mode}", [[4, 4], [4, 1]], mode=mode, padding_idx=-6) for mode in MODES),
    bags("by-freq", [[7, 7], [7, 7]], scale_grad_by_freq=True),
    bags("max-norm", EVEN, max_norm=0.5, norm_type=1.0),
    bags("ties", [[1, 2, 1], [2, 2, 1]], mode="max"),
]


@pytest.mark.parametrize(("case", "check"), case_and_check(BAGS), ids=str)
def test_bags(case, check):
    run(case, check)


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (bags("two-forms", EVEN, STARTS), ValueError),
        (bags("no-offsets", FLAT), ValueError),
        (bags("start", FLAT, [1, 3]), ValueError),
        (bags("end", FLAT, [0, 9]), ValueError),
        (bags("rank-3", [EVEN]), ValueError),
        (bags("mode", EVEN, mode="median"), ValueError),
        (bags("max-by-freq", EVEN, mode="max", scale_grad_by_freq=True), ValueError),
        (bags("weights", FLAT, STARTS, np.ones(3), mode="sum"), ValueError),
        (bags("weighted-mean", FLAT, STARTS, np.ones(8)), NotImplementedError),
        (bags("padding", EVEN, padding_idx=10), ValueError),
        (bags("outside", [[1, 10]]), IndexError),
    ],
    ids=lambda v: str(v) if isinstance(v, Case) else "",
)
def test_bags_that_both_refuse(case, error):
    both_raise(case, error)


def test_gradients_by_frequency_follow_the_definition():
    """torch's CPU kernel divides by the counts of other indices; its documentation does not."""
    table, x, starts = jnp.ones((10, 3)), jnp.array(FLAT), jnp.array(STARTS)

    def grad(scale):
        return jax.grad(
            lambda t: nn.functional.embedding_bag(x, t, starts, scale_grad_by_freq=scale).sum()
        )(table)

    counts = np.maximum(np.bincount(FLAT, minlength=10), 1)[:, None]
    np.testing.assert_allclose(grad(True), grad(False) / counts, rtol=1e-6)


def test_bags_in_compiled_code():
    ours = nn.EmbeddingBag(10, 3, mode="max", rngs=nnx.Rngs(0))
    call = nnx.jit(lambda m, x, offsets: m(x, offsets))
    out = np.asarray(call(ours, jnp.array([1, 10, 2, 3]), jnp.array([0, 2, 2])))
    assert np.isnan(out[0]).all()  # torch raises
    np.testing.assert_array_equal(out[1], 0)
    np.testing.assert_array_equal(out[2], ours.embedding[jnp.array([2, 3])].max(0))


@pytest.mark.parametrize("name", ["Embedding", "EmbeddingBag"])
def test_pretrained_tables_are_frozen_unless_told_otherwise(name):
    table = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    theirs = getattr(tnn, name).from_pretrained(torch.from_numpy(table), padding_idx=1)
    ours = getattr(nn, name).from_pretrained(table, padding_idx=1)
    assert str(ours) == str(theirs)
    np.testing.assert_array_equal(ours.embedding[...], table)
    assert not nn.is_trainable((), ours.embedding)
    assert nn.is_trainable((), getattr(nn, name).from_pretrained(table, freeze=False).embedding)
    with pytest.raises(ValueError, match="2 axes"):
        getattr(nn, name).from_pretrained(table[0])


def test_max_norm_of_the_function_scales_without_changing_the_table():
    table = jnp.asarray(np.random.default_rng(0).standard_normal((10, 3)), jnp.float32)
    theirs = torch.from_numpy(np.array(table))
    want = torch.nn.functional.embedding(torch.tensor([1, 2]), theirs, None, 0.5, 1.0)
    got = nn.functional.embedding(jnp.array([1, 2]), table, None, 0.5, 1.0)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-6)


def test_one_hot_is_of_integers():
    one_hot = nn.functional.one_hot
    got, want = one_hot(jnp.array([[2, 0]])), torch.nn.functional.one_hot(torch.tensor([[2, 0]]))
    np.testing.assert_array_equal(got, want.numpy())
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(
        jax.jit(lambda x: one_hot(x, 2))(jnp.array([5, -1, 1])), [[0, 0], [0, 0], [0, 1]]
    )


@pytest.mark.parametrize(
    ("classes", "count", "error"),
    [
        ([3], 3, IndexError), ([-1], 3, IndexError), ([0], 0, ValueError), ([], -1, ValueError),
        ([], 0, ValueError), ([0], -2, ValueError), ([0.0], 2, TypeError),
    ],
)  # fmt: skip
def test_one_hot_that_both_refuse(classes, count, error):
    kind = torch.float if error is TypeError else torch.long
    with pytest.raises(RuntimeError):
        torch.nn.functional.one_hot(torch.tensor(classes, dtype=kind), count)
    given = jnp.array(classes) if error is TypeError else jnp.array(classes, jnp.int32)
    with pytest.raises(error, match="one_hot"):
        nn.functional.one_hot(given, count)


def test_one_hot_needs_a_number_of_classes_when_traced():
    with pytest.raises(ValueError, match="cannot be found from a traced array"):
        jax.jit(nn.functional.one_hot)(jnp.array([1]))
