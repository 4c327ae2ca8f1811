"""Adafactor, Muon and SparseAdam: what they compute depends on torch's order of axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from jax.experimental import sparse

from fluxmod import convert, nn, optim
from fluxmod._errors import LayoutError
from parity_tests.compare import same
from parity_tests.optim.race import Case, flat_state, race
from parity_tests.optim.signatures import both_refuse, check_signature

CASES = [
    Case("Adafactor", {}),
    Case("Adafactor", {"lr": 0.1, "d": 1.5, "weight_decay": 0.1, "maximize": True}),
    Case("Adafactor", {"lr": 0.3, "eps": (1e-3, 0.1), "beta2_decay": -0.3}),
    Case("Muon", {}),
    Case("Muon", {"lr": 0.1, "nesterov": False, "weight_decay": 0.0, "momentum": 0.5}),
    Case("Muon", {"ns_steps": 3, "adjust_lr_fn": "match_rms_adamw", "eps": 10.0}),
    Case("SparseAdam", {}),
    Case("SparseAdam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3, "maximize": True}),
]
REFUSED = [
    Case("Adafactor", {"lr": -0.1}),
    Case("Adafactor", {"eps": (-1.0, 0.1)}),
    Case("Adafactor", {"eps": (None, -0.1)}),
    Case("Adafactor", {"d": 0.5}),
    Case("Adafactor", {"beta2_decay": 0.1}),
    Case("Adafactor", {"weight_decay": -0.1}),
    Case("Muon", {"lr": -0.1}),
    Case("Muon", {"momentum": -0.1}),
    Case("Muon", {"weight_decay": -0.1}),
    Case("Muon", {"adjust_lr_fn": "other"}),
    Case("SparseAdam", {"lr": 0.0}),
    Case("SparseAdam", {"eps": 0.0}),
    Case("SparseAdam", {"betas": (1.0, 0.9)}),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: str(CASES[i]))
def test_ten_steps_are_torchs(index):
    race(CASES[index], warm=(0, 5)[index % 2])


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "SparseAdam"])
def test_arguments_and_defaults_are_torchs(name):
    check_signature(getattr(optim, name), getattr(torch.optim, name))


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_both_refuse(case):
    both_refuse(getattr(optim, case.name), getattr(torch.optim, case.name), case.settings)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Adafactor", "SparseAdam"])
def test_kernels_and_scalars(name):
    """Four axes that all differ in size, and a parameter without any."""
    draw = np.random.default_rng(0)
    theirs = {
        "k": torch.nn.Parameter(torch.tensor(draw.normal(size=(3, 2, 4, 5)))),
        "s": torch.nn.Parameter(torch.tensor([0.7], dtype=torch.float64)),
    }
    optimizer = getattr(torch.optim, name)(theirs.values(), lr=0.1)
    params = {
        "k": jnp.asarray(theirs["k"].detach().numpy().transpose(2, 3, 1, 0)),
        "s": jnp.asarray([0.7]),
    }
    tx = getattr(optim, name)(lr=0.1, torch_axes={"k": (3, 2, 0, 1)})
    state = tx.init(params)
    for _ in range(3):
        grads = {n: draw.normal(size=p.shape) for n, p in theirs.items()}
        grads["k"][1] = 0.0
        for n, p in theirs.items():
            p.grad = torch.tensor(grads[n])
            if name == "SparseAdam":
                p.grad = p.grad.to_sparse(1)
        optimizer.step()
        ours = {"k": jnp.asarray(grads["k"].transpose(2, 3, 1, 0)), "s": jnp.asarray(grads["s"])}
        updates, state = jax.jit(tx.update)(ours, state, params)
        params = optax.apply_updates(params, updates)
    same({"k": params["k"].transpose(3, 2, 0, 1), "s": params["s"]}, theirs, 1e-13)


def test_rows_without_a_gradient_are_left_alone():
    theirs = torch.nn.Embedding(6, 3, sparse=True).double()
    optimizer = torch.optim.SparseAdam(theirs.parameters(), lr=0.1)
    with jax.enable_x64(True):
        ours = nn.Embedding(6, 3, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        convert.to_flax(theirs, ours)
        params = nnx.state(ours, nn.is_trainable)
        tx = optim.SparseAdam(lr=0.1, torch_axes=convert.torch_axes(ours))
        state = tx.init(params)
        for ids in ([0, 2, 2], [2, 5], [0, 1]):
            optimizer.zero_grad()
            (theirs(torch.tensor(ids)) ** 3).sum().backward()
            optimizer.step()

            def loss(params, ids=ids):
                return jnp.sum(nnx.merge(nnx.graphdef(ours), params)(jnp.asarray(ids)) ** 3)

            updates, state = tx.update(jax.grad(loss)(params), state, params)
            params = optax.apply_updates(params, updates)
        nnx.update(ours, params)
        same(convert.to_torch(ours), theirs.state_dict(), 1e-13)
        back = convert.optimizer_to_torch(state, ours, tx, like=optimizer)
        same(flat_state(back), flat_state(optimizer.state_dict()), 1e-13)
        assert [type(entry["step"]) for entry in back["state"].values()] == [int]


def test_a_sparse_gradient_says_what_it_lists():
    params = {"w": jnp.ones((4, 2))}
    dense = jnp.zeros((4, 2)).at[2].set(3.0)
    tx = optim.SparseAdam(lr=0.5)
    listed = sparse.BCOO((jnp.array([[3.0, 3.0], [0.0, 0.0]]), jnp.array([[2], [0]])), shape=(4, 2))
    state = tx.init(params)
    _, first = tx.update({"w": dense}, state, params)
    one, _ = tx.update({"w": listed}, first, params)
    two, _ = tx.update({"w": dense}, first, params)
    np.testing.assert_array_equal(one["w"], two["w"])
    # a row listed with zeros still moves by its momentum
    _, first = tx.update({"w": jnp.ones((4, 2))}, state, params)
    assert np.all(tx.update({"w": listed}, first, params)[0]["w"][0] != 0)
    with pytest.raises(ValueError, match="Adam: expected dense gradients"):
        optim.Adam().update({"w": listed}, optim.Adam().init(params), params)


def test_the_axes_of_a_module_must_be_told():
    layer = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    params = nnx.state(layer, nn.is_trainable)
    with pytest.raises(ValueError, match="depends on the order of axes that kernel has in torch"):
        optim.Adafactor().init(params)
    with pytest.raises(ValueError, match="expected torch_axes that permute"):
        optim.Adafactor(torch_axes={"kernel": (0, 1, 2)}).init(params)
    tx = optim.Adafactor(torch_axes={})
    theirs = torch.optim.Adafactor(torch.nn.Linear(2, 3).parameters())
    with pytest.raises(LayoutError, match="torch_axes says None, the weight rule"):
        convert.optimizer_to_flax(theirs, layer, tx)


def test_muon_takes_matrices_alone():
    with pytest.raises(ValueError, match="2 axes, got shape .2,."):
        optim.Muon().init({"b": jnp.ones(2)})
    labels = {"w": "matrix", "b": "rest"}
    tx = optax.partition({"matrix": optim.Muon(), "rest": optim.AdamW()}, labels)
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["w"].shape == (2, 3)


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "SparseAdam"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtypes_are_kept(name, dtype):
    tx, params = getattr(optim, name)(), {"w": jnp.ones((3, 2), dtype)}
    updates, state = jax.jit(tx.update)(params, tx.init(params), params)
    assert updates["w"].dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(state.slots)} == {jnp.dtype(dtype)}
