from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.compare import bitwise
from parity_tests.nn.cases import CHECKS, Case, Ints, both_raise, run
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


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=str)
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
