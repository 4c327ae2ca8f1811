"""Recurrent layers over sequences of several lengths, against torch's packed ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.test_util import check_grads

from fluxmod import convert, nn
from fluxmod.nn.utils import rnn
from parity_tests.compare import same

LENGTHS = [3, 6, 1, 4]


def pair(name, **kwargs):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(5, 4, **kwargs).double()
    ours = getattr(nn, name)(5, 4, **kwargs, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    return theirs, ours


def states(hidden):
    return list(hidden) if isinstance(hidden, tuple) else [hidden]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_sequences(name, batch_first):
    theirs, ours = pair(name, num_layers=2, bidirectional=True, batch_first=batch_first)
    shape = (4, 6, 5) if batch_first else (6, 4, 5)
    x = np.random.default_rng(0).standard_normal(shape)
    tensor = torch.from_numpy(x).requires_grad_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        tensor, torch.tensor(LENGTHS), batch_first, enforce_sorted=False
    )
    out, hidden = theirs(packed)
    padded, lengths = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first)
    weight = np.random.default_rng(1).standard_normal(tuple(padded.shape))
    (padded * torch.from_numpy(weight)).sum().backward()

    def total(x, lengths):
        packed = rnn.pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
        out, hidden = ours(packed)
        padded, lengths = rnn.pad_packed_sequence(out, batch_first, total_length=6)
        return jnp.vdot(padded, weight), (padded, lengths, states(hidden))

    work = jax.jit(jax.grad(total, has_aux=True))
    grad, (got, got_lengths, got_hidden) = work(jnp.asarray(x), jnp.asarray(LENGTHS))
    want = {"out": padded, "grad": tensor.grad}
    want |= {f"hidden {i}": h for i, h in enumerate(states(hidden))}
    have = {"out": got, "grad": grad}
    have |= {f"hidden {i}": h for i, h in enumerate(got_hidden)}
    same(have, want)
    assert got_lengths.tolist() == lengths.tolist() == LENGTHS


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_gradients_of_weights_leave_the_padding_out(name):
    theirs, ours = pair(name, num_layers=2, bidirectional=True)
    x = np.random.default_rng(0).standard_normal((6, 4, 5))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), torch.tensor(LENGTHS), enforce_sorted=False
    )
    (theirs(packed)[0].data ** 2).sum().backward()
    graphdef, weights, rest = nnx.split(ours, nnx.Param, ...)

    def total(weights):
        model = nnx.merge(graphdef, weights, rest, copy=True)
        out, _ = model(rnn.pack_padded_sequence(x, jnp.asarray(LENGTHS), enforce_sorted=False))
        return (rnn.pad_packed_sequence(out, total_length=6)[0] ** 2).sum()

    slopes = nnx.merge(graphdef, jax.jit(jax.grad(total))(weights), rest, copy=True)
    same(convert.to_torch(slopes), {k: p.grad for k, p in theirs.named_parameters()})


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_derivatives_of_both_orders_in_both_directions(name, lengths):
    _, ours = pair(name)
    graphdef, weights, rest = nnx.split(ours, nnx.Param, ...)
    x = np.random.default_rng(0).standard_normal((6, 4, 5))

    @jax.jit
    def total(weights, x):
        model = nnx.merge(graphdef, weights, rest, copy=True)
        if lengths is None:
            out, hidden = model(x)
        else:
            packed = rnn.pack_padded_sequence(x, jnp.asarray(lengths), enforce_sorted=False)
            out, hidden = model(packed)
            out = rnn.pad_packed_sequence(out, total_length=6)[0]
        return jnp.tanh(out).sum() + sum((h**2).sum() for h in states(hidden))

    check_grads(total, (weights, jnp.asarray(x)), order=2, modes=("fwd", "rev"), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_weights_go_both_ways():
    theirs, ours = pair("LSTM", num_layers=2, proj_size=3, bidirectional=True)
    back = convert.to_torch(ours)
    assert list(back) == list(theirs.state_dict())
    assert all((back[k] == v.numpy()).all() for k, v in theirs.state_dict().items())
    assert str(ours) == str(theirs)


def test_padding_and_packing_lists():
    rows = [np.arange(float(2 * n)).reshape(n, 2) for n in LENGTHS]
    padded = rnn.pad_sequence([jnp.asarray(r, jnp.float32) for r in rows], True, -1.0)
    want = torch.nn.utils.rnn.pad_sequence([torch.tensor(r).float() for r in rows], True, -1.0)
    np.testing.assert_array_equal(padded, want)
    packed = rnn.pack_sequence([jnp.asarray(r) for r in rows], enforce_sorted=False)
    theirs = torch.nn.utils.rnn.pack_sequence([torch.tensor(r) for r in rows], enforce_sorted=False)
    np.testing.assert_allclose(packed.data, theirs.data)
    assert np.asarray(packed.batch_sizes).tolist() == theirs.batch_sizes.tolist()
    assert [np.asarray(r).tolist() for r in rnn.unpack_sequence(packed)] == [
        r.tolist() for r in rows
    ]


def test_dropout_lies_between_layers_and_only_in_training():
    layer = nn.GRU(5, 4, num_layers=2, dropout=0.5, rngs=nnx.Rngs(0))
    x = jnp.ones((6, 4, 5))
    first, second = (np.asarray(layer(x)[0]) for _ in range(2))
    assert (first != second).any()
    layer.eval()
    first, second = (np.asarray(layer(x)[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_bases_hold_torchs_weights():
    theirs = torch.nn.RNNBase("LSTM", 3, 4, 2, bidirectional=True, proj_size=2)
    ours = nn.RNNBase("LSTM", 3, 4, 2, bidirectional=True, proj_size=2, rngs=nnx.Rngs(0))
    cell, twin = (
        torch.nn.RNNCellBase(3, 4, True, 3),
        nn.RNNCellBase(3, 4, True, 3, rngs=nnx.Rngs(0)),
    )
    for a, b in ((theirs, ours), (cell, twin)):
        convert.to_flax(a, b)
        assert list(convert.state_dict(b)) == list(a.state_dict())
        assert str(b) == str(a)
    assert issubclass(nn.GRU, nn.RNNBase)
    assert issubclass(nn.GRUCell, nn.RNNCellBase)
