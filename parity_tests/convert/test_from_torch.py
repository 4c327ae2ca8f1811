from __future__ import annotations

import warnings

import jax
import numpy as np
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn, optim
from fluxmod._errors import ConvertError
from fluxmod.optim._family import FAMILIES
from fluxmod.train import Trainer
from parity_tests.compare import same
from parity_tests.optim.race import FlaxNet, TorchNet, batches, flat_state, loss, torch_step

theirs = torch.optim.lr_scheduler
LIMIT = 1e-9


def nets(name="", dtype="float64"):
    torch.manual_seed(0)
    net = TorchNet(bias=False).to(getattr(torch, dtype))
    ours = FlaxNet(bias=False, param_dtype=dtype, rngs=nnx.Rngs(0))
    if name == "Muon":
        fluxmod.freeze(net, "norm", "fc2.bias")
        fluxmod.freeze(ours, "norm", "fc2.bias")
    return net, ours


def go_on(net, optimizer, ours, tx, state, schedule=None, steps=3):
    """Train both on; require equal weights."""
    trainer = Trainer(ours, tx, loss, opt_state=state)
    for x in batches(steps, seed=5):
        torch_step(net, optimizer, x)
        if schedule is not None:
            schedule.step()
        trainer.step(x)
    same(convert.to_torch(trainer.model), net.state_dict(), LIMIT)
    return trainer


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["ASGD", "Adafactor", "AdamW", "Muon", "SparseAdam"])
def test_an_optimizer_goes_on(name):
    net, ours = nets(name)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = getattr(torch.optim, name)(trained, lr=0.03)
    for x in batches(2):
        torch_step(net, optimizer, x)
    convert.to_flax(net, ours)
    tx, state = convert.optimizer_from_torch(optimizer, ours, torch_model=net)
    trainer = go_on(net, optimizer, ours, tx, state)
    back = convert.optimizer_to_torch(trainer.opt_state, trainer.model, tx, like=optimizer)
    same(flat_state(back), flat_state(optimizer.state_dict()), LIMIT)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_optimizer_is_read(name):
    (net, ours), own = nets(name, dtype="float32"), {"line_search_fn": "strong_wolfe"}
    own = own if name == "LBFGS" else {}
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = getattr(torch.optim, name)(trained, lr=0.25, **own)
    _, state = convert.optimizer_from_torch(optimizer, ours)
    told = {"torch_axes": convert.torch_axes(ours)} if FAMILIES[name].layout else {}
    by_hand = getattr(optim, name)(lr=0.25, **own, **told)
    params = nnx.state(ours, nn.is_trainable)
    assert jax.tree.structure(state) == jax.tree.structure(by_hand.init(params))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["SGD", "Adafactor"])
def test_groups_become_parts(name):
    net, ours = nets()
    by = dict(net.named_parameters())
    groups = [
        {"params": [by["fc1.weight"]], "lr": 0.1},
        {"params": [by["norm.bias"], by["norm.weight"]], "weight_decay": 0.1},
        {"params": [by["fc2.bias"]], "lr": 0.1},
        {"params": [by["fc2.weight"]], "lr": 0.02},
    ]
    optimizer = getattr(torch.optim, name)(groups, lr=0.05)
    for x in batches(2):
        torch_step(net, optimizer, x)
    convert.to_flax(net, ours)
    tx, state = convert.optimizer_from_torch(optimizer, ours, torch_model=net)
    parts = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optim.OptimizerState))
    assert sum(isinstance(part, optim.OptimizerState) for part in parts) == 3
    go_on(net, optimizer, ours, tx, state)


@pytest.mark.usefixtures("x64")
def test_a_frozen_group_is_left_out():
    net, ours = nets()
    fluxmod.freeze(net, "fc1")
    fluxmod.freeze(ours, "fc1")
    optimizer = torch.optim.Adam(
        [{"params": net.fc1.parameters(), "lr": 1.0}, {"params": net.fc2.parameters()}], lr=0.05
    )
    optimizer.add_param_group({"params": net.norm.parameters()})
    torch_step(net, optimizer, batches(1)[0])
    convert.to_flax(net, ours)
    tx, state = convert.optimizer_from_torch(optimizer, ours, torch_model=net)
    assert isinstance(state, optim.OptimizerState)
    go_on(net, optimizer, ours, tx, state)


SCHEDULERS = {
    "LambdaLR": lambda o: theirs.LambdaLR(o, lambda n: 0.9**n),
    "MultiplicativeLR": lambda o: theirs.MultiplicativeLR(o, lambda n: 0.9),
    "StepLR": lambda o: theirs.StepLR(o, 3),
    "MultiStepLR": lambda o: theirs.MultiStepLR(o, [2, 5, 5], gamma=0.5),
    "ConstantLR": lambda o: theirs.ConstantLR(o, 0.3, 4),
    "LinearLR": lambda o: theirs.LinearLR(o, 0.2, 0.8, 7),
    "ExponentialLR": lambda o: theirs.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: theirs.PolynomialLR(o, 20, 2.0),
    "CosineAnnealingLR": lambda o: theirs.CosineAnnealingLR(o, 8, 1e-3),
    "CosineAnnealingWarmRestarts": lambda o: theirs.CosineAnnealingWarmRestarts(o, 3, 2, 1e-3),
    "CyclicLR": lambda o: theirs.CyclicLR(o, 0.01, 0.2, 3, 5, mode="triangular2"),
    "OneCycleLR": lambda o: theirs.OneCycleLR(o, 0.2, 50, pct_start=0.37, three_phase=True),
    "SequentialLR": lambda o: theirs.SequentialLR(
        o, [theirs.LinearLR(o, total_iters=3), theirs.CosineAnnealingLR(o, 9)], [3]
    ),
    "ChainedScheduler": lambda o: theirs.ChainedScheduler(
        [theirs.ConstantLR(o), theirs.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, 5, "linear"),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_read(name):
    first, second = (
        torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)),
        torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)),
    )
    groups = [{"params": [first]}, {"params": [second], "lr": 0.3}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = SCHEDULERS[name](optimizer)
    begun = 0 if name == "SWALR" else 4
    for _ in range(begun):
        optimizer.step()
        scheduler.step()
    made = [convert.scheduler_from_torch(scheduler, group) for group in (0, 1)]
    for count in range(begun, begun + 12):
        got = [float(schedule(count)) for schedule in made]
        np.testing.assert_allclose(got, [g["lr"] for g in optimizer.param_groups], rtol=1e-11)
        optimizer.step()
        scheduler.step()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("optimizer", "name"), [("SGD", "StepLR"), ("AdamW", "OneCycleLR")])
def test_an_optimizer_with_its_scheduler_goes_on(optimizer, name):
    net, ours = nets()
    own = {"momentum": 0.9} if optimizer == "SGD" else {}
    optimizer = getattr(torch.optim, optimizer)(net.parameters(), lr=0.1, **own)
    scheduler = SCHEDULERS[name](optimizer)
    for x in batches(2):
        torch_step(net, optimizer, x)
        scheduler.step()
    convert.to_flax(net, ours)
    with pytest.raises(ConvertError, match="lr follows a scheduler in torch"):
        convert.optimizer_from_torch(optimizer, ours)
    tx, state = convert.optimizer_from_torch(optimizer, ours, scheduler=scheduler)
    assert int(state.count) == 2
    go_on(net, optimizer, ours, tx, state, scheduler)


def test_a_plateau_stands_behind():
    net, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    plateau = theirs.ReduceLROnPlateau(optimizer, patience=3, min_lr=1e-3)
    made = convert.scheduler_from_torch(plateau)
    assert made == optim.lr_scheduler.ReduceLROnPlateau(0.1, patience=3, min_lr=1e-3)
    with pytest.raises(ConvertError, match="is no function of the step"):
        convert.optimizer_from_torch(optimizer, ours, scheduler=plateau)


def test_what_is_refused():
    net, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ConvertError, match="expected a live optimizer of torch.optim"):
        convert.optimizer_from_torch(optimizer.state_dict(), ours)
    with pytest.raises(ConvertError, match="object is none of the schedulers known here"):
        convert.scheduler_from_torch(object())
    swa = torch.optim.swa_utils.SWALR(optimizer, 0.01)
    optimizer.step()
    swa.step()
    with pytest.raises(ConvertError, match="does not tell the rate it began with"):
        convert.scheduler_from_torch(swa)
