from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from fluxmod import nn, optim
from fluxmod.optim import Family, OptimizerState
from fluxmod.optim._family import FAMILIES, register
from parity_tests.compare import same

MAKERS = [
    lambda lr: optim.SGD(lr, momentum=0.9, dampening=0.1),
    lambda lr: optim.Adam(lr, amsgrad=True),
    lambda lr: optim.AdamW(lr),
]


def find(state):
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, OptimizerState))
    return [leaf for leaf in leaves if isinstance(leaf, OptimizerState)]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("lr", [0.1, optax.exponential_decay(0.1, 2, 0.5)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("wide", [False, True])
def test_dtypes_are_kept(make, lr, dtype, wide):
    if dtype == jnp.float64 and not wide:
        return
    with jax.enable_x64(wide):
        tx, params = make(lr), {"w": jnp.ones(3, dtype)}
        updates, state = jax.jit(tx.update)(params, tx.init(params), params)
        assert updates["w"].dtype == dtype
        assert {leaf.dtype for leaf in jax.tree.leaves(state.slots)} == {jnp.dtype(dtype)}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_schedule_is_a_scheduler_stepped_after_each_step(name):
    theirs = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = getattr(torch.optim, name)([theirs], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    tx = getattr(optim, name)(optax.exponential_decay(0.1, 2, 0.5, staircase=True))
    ours = {"w": jnp.ones(3, jnp.float64)}
    state = tx.init(ours)
    for grad in np.random.default_rng(0).normal(size=(7, 3)):
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        scheduler.step()
        updates, state = tx.update({"w": jnp.asarray(grad)}, state, ours)
        ours = optax.apply_updates(ours, updates)
    same({"w": ours["w"]}, {"w": theirs}, 1e-12)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(optim.clip_grad_norm(1.0), tx),
        lambda tx: optax.MultiSteps(tx, every_k_schedule=2),
        lambda tx: optax.masked(tx, {"w": True, "b": False}),
        lambda tx: optax.apply_if_finite(tx, 3),
    ],
)
def test_the_settings_are_found_inside_wrappers(wrap):
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    tx = wrap(optim.AdamW(lr=0.25))
    state = tx.init(params)
    _, after = jax.jit(tx.update)(params, state, params)
    (found,), (kept,) = find(state), find(after)
    assert found.settings == kept.settings
    assert (found.settings.family, found.settings["lr"]) == ("AdamW", 0.25)
    assert list(found.slots) == ["exp_avg", "exp_avg_sq"]


def test_the_parameters_of_a_module_are_updated():
    layer = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    params, tx = nnx.state(layer, nn.is_trainable), optim.SGD(lr=0.5)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    after = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(after["kernel"][...], layer.kernel[...] - 0.5)


def test_nothing_to_train_is_no_error():
    tx = optim.Adam()
    updates, state = tx.update({}, tx.init({}), {})
    assert updates == {}
    assert int(state.count) == 1


def test_update_asks_for_the_parameters():
    tx, params = optim.AdamW(), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="AdamW: update.. needs the parameters"):
        tx.update(params, tx.init(params))


def test_a_name_is_registered_once():
    with pytest.raises(RuntimeError, match="SGD is registered twice"):
        register(FAMILIES["SGD"])


def test_every_public_optimizer_is_registered_under_torchs_name():
    classes = {n for n, c in vars(torch.optim).items() if inspect.isclass(c)} - {"Optimizer"}
    assert classes == {name for name in optim.__all__ if name in classes} == set(FAMILIES)
    assert all(isinstance(family, Family) for family in FAMILIES.values())
