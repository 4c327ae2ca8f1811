"""Twins of torch's tensor functions: values, gradients at ties, kinks and NaN."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

from fluxmod.nn import ops

ROWS = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, -0.0, 0.0, -5.0]])


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("keepdim", [True, False])
def test_values_places_and_gradients_are_torchs(name, dim, keepdim):
    x = torch.tensor(ROWS, requires_grad=True)
    values, places = getattr(torch, name)(x, dim, keepdim=keepdim)
    weights = torch.arange(1.0, values.numel() + 1).reshape(values.shape)
    (values * weights).sum().backward()
    with jax.enable_x64(True):
        ours = getattr(ops, name)

        def total(a):
            return (ours(a, dim, keepdim)[0] * weights.numpy()).sum()

        got_values, got_places = ours(jax.numpy.asarray(ROWS), dim, keepdim)
        slope = jax.jit(jax.grad(total))(jax.numpy.asarray(ROWS))
    np.testing.assert_array_equal(got_values, values.detach())
    np.testing.assert_array_equal(got_places, places)
    np.testing.assert_array_equal(slope, x.grad)


@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_wins_as_in_torch(name):
    x = np.array([[1.0, np.nan, 3.0]], np.float32)
    want = getattr(torch, name)(torch.from_numpy(x), 1)
    got = getattr(ops, name)(x, 1)
    np.testing.assert_array_equal(got[0], want.values)
    np.testing.assert_array_equal(got[1], want.indices)


KINKS = [-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, float("inf"), -float("inf"), float("nan")]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize(
    "bounds",
    [(0.0, None), (None, 0.0), (-1.0, 1.0), (1.0, -1.0), (0.5, 0.5), (float("nan"), 1.0)],
    ids=str,
)
@pytest.mark.parametrize("arrays", [False, True])
def test_clamp_at_its_bounds_is_torchs(bounds, arrays, dtype):
    def torch_side(x, *given):
        given = iter(given)
        low, high = (b if b is None or not arrays else next(given) for b in bounds)
        return torch.clamp(x, low, high)

    def jax_side(x, *given):
        given = iter(given)
        low, high = (b if b is None or not arrays else next(given) for b in bounds)
        return ops.clamp(x, low, high)

    inputs = [KINKS, *([b] * len(KINKS) for b in bounds if b is not None and arrays)]
    same_slopes(torch_side, jax_side, inputs, dtype)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_abs_at_zero_is_torchs(dtype):
    same_slopes(torch.abs, ops.abs, [KINKS], dtype)


def test_integers_are_clamped_as_they_are():
    got = ops.clamp(jax.numpy.arange(5), 1, 3)
    assert got.dtype == jax.numpy.arange(5).dtype
    assert got.tolist() == [1, 1, 2, 3, 3]


def same_slopes(torch_side, jax_side, inputs, dtype):
    """Values, dtype, and the gradients of their sum where the value is a number."""
    tensors = [torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True) for x in inputs]
    want = torch_side(*tensors)
    want.sum().backward()
    with jax.enable_x64(True):
        arrays = [jax.numpy.asarray(x, dtype) for x in inputs]
        got = jax.jit(jax_side)(*arrays)
        places = tuple(range(len(arrays)))
        slopes = jax.jit(jax.grad(lambda *a: jax_side(*a).sum(), places))(*arrays)
    assert got.dtype == dtype
    np.testing.assert_array_equal(np.asarray(got, float), want.detach().double())
    for slope, tensor in zip(slopes, tensors, strict=True):
        number = ~want.detach().isnan().numpy()
        np.testing.assert_array_equal(
            np.asarray(slope, float)[number], tensor.grad.double()[number]
        )


@pytest.mark.parametrize("name", ["fmax", "fmin"])
def test_of_equal_values_the_first_gets_the_gradient(name):
    pairs = np.array([[a, b] for a in KINKS for b in KINKS]).T
    theirs = [torch.tensor(side, requires_grad=True) for side in pairs]
    want = getattr(torch, name)(*theirs)
    torch.nan_to_num(want, 0, 0, 0).sum().backward()
    finite = np.isfinite(want.detach().numpy())
    with jax.enable_x64(True):
        ours = getattr(ops, name)
        given = [jax.numpy.asarray(side) for side in pairs]
        slopes = jax.grad(lambda *x: jax.numpy.where(finite, ours(*x), 0).sum(), (0, 1))(*given)
        np.testing.assert_array_equal(ours(*given), want.detach())
    for slope, tensor in zip(slopes, theirs, strict=True):
        np.testing.assert_array_equal(slope, tensor.grad)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
def test_values_scattered_with_ties_are_torchs(reduce, include_self):
    rng = np.random.default_rng(0)
    x, new = (rng.integers(-2, 3, shape).astype(float) for shape in ((4, 5), (6, 3)))
    index, weights = rng.integers(0, 4, (6, 3)), rng.standard_normal((4, 5))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, new)]
    want = tensors[0].scatter_reduce(
        0, torch.from_numpy(index), tensors[1], reduce, include_self=include_self
    )
    (want * torch.from_numpy(weights)).sum().backward()
    with jax.enable_x64(True):

        def ours(x, new):
            return ops.scatter_reduce(x, 0, index, new, reduce, include_self=include_self)

        got = ours(jax.numpy.asarray(x), jax.numpy.asarray(new))
        slopes = jax.grad(lambda *given: (ours(*given) * weights).sum(), (0, 1))(
            jax.numpy.asarray(x), jax.numpy.asarray(new)
        )
    np.testing.assert_allclose(got, want.detach(), rtol=1e-15)
    for slope, tensor in zip(slopes, tensors, strict=True):
        np.testing.assert_allclose(slope, tensor.grad, rtol=1e-14)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 2)])
def test_places_come_first_and_the_rest_is_behind_every_end(shape):
    x = np.random.default_rng(0).integers(0, 2, shape)
    want = torch.from_numpy(np.asarray(x)).nonzero().numpy()
    got = np.asarray(jax.jit(ops.nonzero)(x))
    assert got.shape == (x.size, x.ndim)
    np.testing.assert_array_equal(got[: len(want)], want)
    assert (got[len(want) :] >= 2**31 - 1).all()
    columns = torch.from_numpy(np.asarray(x)).nonzero(as_tuple=True)
    for ours, theirs in zip(ops.nonzero(x, as_tuple=True), columns, strict=True):
        np.testing.assert_array_equal(ours[: len(theirs)], theirs)


@pytest.mark.parametrize("count", [0, 1, 4, 6])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_rows_under_a_mask_come_first_and_others_are_never_read(shape, count):
    x = np.full((*shape, 2), np.nan)
    mask = np.zeros(6, bool)
    mask[np.random.default_rng(0).permutation(6)[:count]] = True
    mask = mask.reshape(shape)
    x[mask] = np.arange(2.0 * count).reshape(count, 2)
    got = np.asarray(jax.jit(ops.masked_rows)(x, mask))
    assert got.shape == (6, 2)
    np.testing.assert_array_equal(got[:count], x[mask])
    assert count == 0 or not np.isnan(got).any()


@pytest.mark.parametrize("lengths", [(2, 3, 1), (0, 6, 0), (6, 0, 0), (0, 0, 6), (1, 0, 5)])
def test_pieces_have_their_rows_first_and_never_read_others(lengths):
    ends = np.cumsum(lengths)
    rows = torch.arange(12.0).view(6, 2)
    for end, length, theirs in zip(ends, lengths, rows.split(lengths), strict=True):
        x = np.full((6, 2), np.nan)
        x[end - length : end] = theirs
        pieces = jax.jit(ops.split_rows)(x, np.array(lengths))
        piece = pieces[list(ends).index(end)] if length else np.zeros((6, 2))
        assert piece.shape == (6, 2)
        np.testing.assert_array_equal(piece[:length], theirs)
        assert not np.isnan(piece).any()
    pieces = [10 * piece for piece in ops.split_rows(rows.numpy(), lengths)]
    np.testing.assert_array_equal(jax.jit(ops.join_rows)(pieces, np.array(lengths)), 10 * rows)


def test_rows_are_chosen_by_bools():
    with pytest.raises(TypeError, match="masked_rows: expected a mask of bools, got one of int"):
        ops.masked_rows(np.ones(3), np.ones(3, int))
