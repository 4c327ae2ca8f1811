from __future__ import annotations

import inspect
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from fluxmod import convert, nn, optim
from fluxmod.optim import lr_scheduler as ours
from fluxmod.train import Trainer
from parity_tests.compare import same
from parity_tests.optim.race import flat_state

theirs = torch.optim.lr_scheduler
STEPS = 130
CASES = [
    ("LambdaLR", {"lr_lambda": lambda n: 0.95**n}),
    ("LambdaLR", {"lr_lambda": lambda n: 1 / (1 + n)}),
    ("MultiplicativeLR", {"lr_lambda": lambda n: 1 - 0.1 / (1 + n)}),
    ("StepLR", {"step_size": 1}),
    ("StepLR", {"step_size": 30, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [70, 3, 30, 30]}),
    ("MultiStepLR", {"milestones": [0, 5], "gamma": 0.5}),
    ("MultiStepLR", {"milestones": []}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.7, "total_iters": 40}),
    ("ConstantLR", {"factor": 0.7, "total_iters": 0}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.6, "total_iters": 77}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 20}),
    ("LinearLR", {"total_iters": 0}),
    ("ExponentialLR", {"gamma": 0.97}),
    ("ExponentialLR", {"gamma": 1.01}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 0}),
    ("PolynomialLR", {"total_iters": 90, "power": 2.5}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingLR", {"T_max": 60, "eta_min": 0.02}),
    ("CosineAnnealingLR", {"T_max": 200, "eta_min": 1e-3}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 2, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 3}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 7}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 5, "step_size_down": 9}),
    (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 8, "mode": "triangular2"},
    ),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 9, "mode": "exp_range", "gamma": 0.98},
    ),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 4, "scale_fn": lambda c: 0.9 ** (c - 1)},
    ),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "epochs": 13, "steps_per_epoch": 10, "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": STEPS, "pct_start": 0.45, "div_factor": 3.0}),
]
MIXES = {
    "warm up, then a cosine": (
        lambda s: [s("LinearLR", total_iters=10), s("CosineAnnealingLR", T_max=90, eta_min=0.01)],
        [10],
    ),
    "three": (
        lambda s: [
            s("ConstantLR", total_iters=3),
            s("ExponentialLR", gamma=0.9),
            s("CosineAnnealingWarmRestarts", T_0=8, T_mult=2),
        ],
        [20, 60],
    ),
    "no iterations at all": (
        lambda s: [s("StepLR", step_size=4), s("ConstantLR", total_iters=0)],
        [9],
    ),
    "goes on from the rate it finds": (
        lambda s: [
            s("ExponentialLR", gamma=0.9),
            s("MultiplicativeLR", lr_lambda=lambda n: 0.95 + 0.001 * n),
        ],
        [12],
    ),
}
CHAINS = {
    "factors": lambda s: [
        s("ConstantLR", factor=0.3, total_iters=4),
        s("ExponentialLR", gamma=0.95),
        s("MultiStepLR", milestones=[20, 40], gamma=0.5),
        s("PolynomialLR", total_iters=150),
    ],
    "a cosine between": lambda s: [
        s("LinearLR", total_iters=9),
        s("CosineAnnealingLR", T_max=25, eta_min=0.01),
        s("StepLR", step_size=30, gamma=0.5),
    ],
    "set anew every step": lambda s: [
        s("ExponentialLR", gamma=0.9),
        s("LambdaLR", lr_lambda=lambda n: 1 / (1 + n)),
        s("StepLR", step_size=3),
    ],
}


def optimizer_with(momentum=0.9):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=momentum)


def rates_of_torch(optimizer, scheduler, steps=STEPS):
    rates, momenta = [], []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return np.array(rates), np.array(momenta)


def made(name, settings):
    """Our scheduler, from the rate that torch's finds in its optimizer."""
    own = () if name in ("CyclicLR", "OneCycleLR") else (0.1,)
    return getattr(ours, name)(*own, **settings)


def rates_of_ours(schedule, steps=STEPS):
    """Traced once, for a count that the compiler does not know."""
    rate = jax.jit(schedule)
    return np.array([rate(n) for n in range(steps)])


def equal(got, want, limit=1e-12):
    """Relative, where torch's rate is not zero but for the rounding of its chain."""
    small = np.abs(want) < 1e-15
    assert np.all(np.abs(got[small]) < 1e-15)
    np.testing.assert_allclose(got[~small], want[~small], rtol=limit, atol=0)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: f"{CASES[i][0]}-{i}")
def test_rates_are_torchs(index):
    name, settings = CASES[index]
    optimizer = optimizer_with()
    want, momenta = rates_of_torch(optimizer, getattr(theirs, name)(optimizer, **settings))
    schedule = made(name, settings)
    equal(rates_of_ours(schedule), want)
    if hasattr(schedule, "momentum"):
        equal(rates_of_ours(schedule.momentum), momenta)
    lr, chained = 0.1, []
    for count in range(20):
        lr = schedule.following(lr, count)
        chained.append(lr)
    equal(np.array(chained), want[:20])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", MIXES)
def test_one_after_the_other(name):
    build, milestones = MIXES[name]
    optimizer = optimizer_with()
    parts = build(lambda cls, **settings: getattr(theirs, cls)(optimizer, **settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, _ = rates_of_torch(optimizer, theirs.SequentialLR(optimizer, parts, milestones))
    schedule = ours.SequentialLR(build(lambda cls, **s: made(cls, s)), milestones)
    equal(rates_of_ours(schedule), want)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CHAINS)
def test_one_on_top_of_the_other(name):
    build = CHAINS[name]
    optimizer = optimizer_with()
    parts = build(lambda cls, **settings: getattr(theirs, cls)(optimizer, **settings))
    want, _ = rates_of_torch(optimizer, theirs.ChainedScheduler(parts))
    parts = build(lambda cls, **s: made(cls, s))
    total = {} if name == "factors" else {"total_steps": STEPS}
    schedule = ours.ChainedScheduler(parts, **total)
    equal(rates_of_ours(schedule), want)
    if total:
        assert math.isnan(schedule(STEPS + 1))
        with pytest.raises(ValueError, match="pass total_steps, the number of steps to come"):
            ours.ChainedScheduler(parts)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["LambdaLR", "MultiplicativeLR"])
def test_a_function_that_branches_is_gone_through_beforehand(name):
    def branching(n):
        return 0.9 if n < 50 else 1.01

    optimizer = optimizer_with()
    want, _ = rates_of_torch(optimizer, getattr(theirs, name)(optimizer, branching))
    schedule = getattr(ours, name)(0.1, branching, total_steps=STEPS)
    equal(rates_of_ours(schedule), want)
    assert math.isnan(schedule(STEPS + 1))


@pytest.mark.parametrize("name", sorted(set(ours.__all__) - {"count_of", "PlateauState"}))
def test_names_arguments_and_defaults_are_torchs(name):
    assert issubclass(getattr(theirs, name), theirs.LRScheduler)
    if name == "LRScheduler":
        return
    got = inspect.signature(getattr(ours, name)).parameters
    want = inspect.signature(getattr(theirs, name)).parameters
    gone, come = {"optimizer", "last_epoch"}, {"lr", "total_steps"}
    assert [n for n in got if n in want or n not in come] == [n for n in want if n not in gone]
    assert {n: p.default for n, p in got.items() if n in want} == {
        n: p.default for n, p in want.items() if n not in gone
    }


def test_every_scheduler_of_torch_is_here():
    assert set(theirs.__all__) <= set(ours.__all__)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ConstantLR", {"factor": 1.5}),
        ("LinearLR", {"start_factor": 0.0}),
        ("LinearLR", {"end_factor": 1.1}),
        ("CosineAnnealingWarmRestarts", {"T_0": 0}),
        ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 0}),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.2, "mode": "square"}),
        ("OneCycleLR", {"max_lr": 0.1}),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": -1}),
        ("OneCycleLR", {"max_lr": 0.1, "epochs": 3}),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "pct_start": 2.0}),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 9, "anneal_strategy": "exp"}),
        ("ReduceLROnPlateau", {"factor": 1.0}),
        ("ReduceLROnPlateau", {"mode": "least"}),
        ("ReduceLROnPlateau", {"threshold_mode": "log"}),
    ],
)
def test_both_refuse(name, settings):
    with pytest.raises(ValueError, match=r"\w"):
        getattr(theirs, name)(optimizer_with(), **settings)
    with pytest.raises(ValueError, match=rf"{name}: expected .*got "):
        made(name, settings)


def test_joined_schedulers_refuse():
    step = ours.StepLR(0.1, 2)
    with pytest.raises(ValueError, match="got 2 schedulers and 2 milestones"):
        ours.SequentialLR([step, step], [1, 2])
    with pytest.raises(ValueError, match="at least one scheduler"):
        ours.ChainedScheduler([])
    with pytest.raises(TypeError, match="got ReduceLROnPlateau at index 1"):
        ours.SequentialLR([step, ours.ReduceLROnPlateau(0.1)], [3])


@pytest.mark.usefixtures("x64")
def test_an_optimizer_takes_one_and_compiles_once():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    scheduler = theirs.CosineAnnealingLR(optimizer, T_max=10)
    tx = optim.SGD(ours.CosineAnnealingLR(0.1, T_max=10), momentum=0.9)
    params = {"w": jnp.ones(3)}
    state, update = tx.init(params), jax.jit(tx.update)
    for grad in np.random.default_rng(0).normal(size=(15, 3)):
        p.grad = torch.tensor(grad)
        optimizer.step()
        scheduler.step()
        updates, state = update({"w": jnp.asarray(grad)}, state, params)
        params = optax.apply_updates(params, updates)
    same(params, {"w": p}, 1e-12)
    assert update._cache_size() == 1
    again = optim.SGD(ours.CosineAnnealingLR(0.1, T_max=10), momentum=0.9)
    assert jax.tree.structure(again.init(params)) == jax.tree.structure(state)


@pytest.mark.parametrize("count", [3, 14])
@pytest.mark.parametrize("kind", ["plain", "restarts", "cyclic", "lambda", "sequential", "chained"])
@pytest.mark.usefixtures("x64")
def test_torch_goes_on_from_our_count(kind, count):
    """A scheduler of torch that loads ours after some steps makes the rates of one that ran."""

    def build(optimizer):
        def part(cls, **settings):
            if optimizer is None:
                return made(cls, settings)
            return getattr(theirs, cls)(optimizer, **settings)

        if kind == "sequential":
            parts = [part("LinearLR", total_iters=8), part("ExponentialLR", gamma=0.8)]
            args = (parts, [8])
            if optimizer is None:
                return ours.SequentialLR(*args)
            return theirs.SequentialLR(optimizer, *args)
        if kind == "chained":
            parts = [part("LinearLR", total_iters=8), part("ExponentialLR", gamma=0.8)]
            return (ours if optimizer is None else theirs).ChainedScheduler(parts)
        return {
            "plain": lambda: part("StepLR", step_size=4),
            "restarts": lambda: part("CosineAnnealingWarmRestarts", T_0=3, T_mult=2),
            "cyclic": lambda: part("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=5),
            "lambda": lambda: part("LambdaLR", lr_lambda=lambda n: 0.9**n),
        }[kind]()

    first = optimizer_with()
    ran = build(first)
    want, _ = rates_of_torch(first, ran, count + 10)
    assert ours.count_of(ran.state_dict()) == count + 10
    second = optimizer_with()
    loaded = build(second)
    content = build(None).state_dict(count)
    second.param_groups[0]["lr"] = content["_last_lr"][0]
    loaded.load_state_dict(content)
    got, _ = rates_of_torch(second, loaded, 10)
    equal(got, want[count:])


MOMENTUM = ("SGD", "RMSprop")
"""They call so what the others have as the first beta."""


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "Adamax", "NAdam", "RAdam"])
def test_the_momentum_cycles_with_the_rate(name):
    """From torch's state in mid-cycle, with its momentum in the groups."""
    cycle = ours.CyclicLR(0.01, 0.1, step_size_up=3)
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2).double()
    layer = nn.Linear(3, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    own = {"momentum": 0.9} if name in MOMENTUM else {}
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=0.1, **own)
    scheduler = theirs.CyclicLR(optimizer, 0.01, 0.1, step_size_up=3)
    grads = [
        {n: torch.randn(p.shape, dtype=p.dtype) for n, p in net.named_parameters()}
        for _ in range(9)
    ]

    def torch_step(step):
        for n, p in net.named_parameters():
            p.grad = step[n].clone()
        optimizer.step()
        scheduler.step()

    for step in grads[:4]:
        torch_step(step)
    convert.to_flax(net, layer)
    moving = (
        {"momentum": cycle.momentum} if name in MOMENTUM else {"betas": (cycle.momentum, 0.999)}
    )
    tx = getattr(optim, name)(lr=cycle, **moving)
    state = convert.optimizer_to_flax(optimizer, layer, tx, step=4)
    params, update = nnx.state(layer, nn.is_trainable), jax.jit(tx.update)
    for step in grads[4:]:
        torch_step(step)
        given = jax.tree.map(jnp.zeros_like, params)
        given["kernel"][...] = jnp.asarray(step["weight"].numpy().T)
        given["bias"][...] = jnp.asarray(step["bias"].numpy())
        updates, state = update(given, state, params)
        params = optax.apply_updates(params, updates)
    nnx.update(layer, params)
    same(convert.to_torch(layer), net.state_dict(), 1e-12)
    back = convert.optimizer_to_torch(state, layer, tx, like=optimizer)
    key = "momentum" if name in MOMENTUM else "betas"
    got, want = back["param_groups"][0], optimizer.state_dict()["param_groups"][0]
    np.testing.assert_allclose(got[key], want[key], rtol=1e-12)
    same(flat_state(back), flat_state(optimizer.state_dict()), 1e-12)


# ReduceLROnPlateau


def plateau_results():
    draw = np.random.default_rng(0)
    return np.concatenate([np.linspace(2, 1, 8), 1 + 1e-5 * draw.normal(size=30), [0.5] * 9])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"patience": 2, "factor": 0.5},
        {"patience": 1, "cooldown": 3, "threshold": 1e-2},
        {"patience": 0, "threshold_mode": "abs", "threshold": 0.1, "min_lr": 1e-3},
        {"mode": "max", "patience": 3},
        {"mode": "max", "patience": 1, "threshold_mode": "abs", "factor": 0.9, "eps": 1e-2},
    ],
    ids=str,
)
def test_plateaus_are_torchs(settings):
    p = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = torch.optim.AdamW([p], lr=0.1)
    scheduler = theirs.ReduceLROnPlateau(optimizer, **settings)
    plateau = ours.ReduceLROnPlateau(0.1, **settings)
    tx, params = optax.chain(optim.AdamW(0.1), plateau), {"w": jnp.ones(2)}
    state, step = tx.init(params), jax.jit(plateau.step)
    for count, result in enumerate(plateau_results()):
        p.grad = torch.full((2,), result, dtype=torch.float64)
        optimizer.step()
        scheduler.step(result)
        updates, state = tx.update({"w": jnp.full(2, result)}, state, params)
        params = optax.apply_updates(params, updates)
        state = step(state, result)
        np.testing.assert_allclose(plateau.get_last_lr(state), scheduler.get_last_lr()[0], 1e-13)
        if count == 20:  # through torch and back
            other = theirs.ReduceLROnPlateau(optimizer, **settings)
            other.load_state_dict(plateau.state_dict(state))
            scheduler = other
            state = plateau.load_state_dict(tx.init(params), scheduler.state_dict())[1:]
            state = (tx_state(tx, params, optimizer), *state)
    same(params, {"w": p}, 1e-12)


def tx_state(tx, params, optimizer):
    """Adam's own state, from torch."""
    (entry,) = optimizer.state.values()
    fresh = tx.init(params)[0]
    slots = {name: {"w": jnp.asarray(entry[name].numpy())} for name in fresh.slots}
    count = jnp.asarray(int(entry["step"]), fresh.count.dtype)
    return type(fresh)(count, slots, fresh.settings)


def test_a_plateau_in_a_trainer():
    plateau = ours.ReduceLROnPlateau(0.5, patience=0)
    tx = optax.chain(optim.SGD(0.5), plateau)
    trainer = Trainer(nn.Linear(1, 1, rngs=nnx.Rngs(0)), tx, lambda m, x: jnp.mean(m(x)))
    for _ in range(3):
        before = trainer.model.bias[...]
        trainer.step(jnp.ones((2, 1)))
        moved = before - trainer.model.bias[...]
        np.testing.assert_allclose(moved, plateau.get_last_lr(trainer.opt_state), rtol=1e-5)
        trainer.opt_state = plateau.step(trainer.opt_state, 1.0)
    assert float(plateau.get_last_lr(trainer.opt_state)) == pytest.approx(0.005)
    with pytest.raises(ValueError, match="not of this model and transformation"):
        trainer.opt_state = optim.Adam().init({})


def test_a_plateau_needs_its_place():
    plateau = ours.ReduceLROnPlateau(0.1)
    with pytest.raises(ValueError, match="behind the optimizer with optax.chain"):
        plateau.step(optim.SGD().init({}), 1.0)
    other = theirs.ReduceLROnPlateau(optimizer_with(), patience=3)
    with pytest.raises(ValueError, match="patience is 3 in torch and 10 here"):
        plateau.load_state_dict(plateau.init({}), other.state_dict())
