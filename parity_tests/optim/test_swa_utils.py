from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from fluxmod import convert, nn
from fluxmod.optim import swa_utils as ours
from parity_tests.compare import bitwise, same
from parity_tests.optim.race import FlaxNet, TorchNet, batches
from parity_tests.optim.test_lr_scheduler import (
    equal,
    optimizer_with,
    rates_of_ours,
    rates_of_torch,
)

theirs = torch.optim.swa_utils
FUNCTIONS = {
    "none": lambda m: {},
    "swa": lambda m: {"avg_fn": m.get_swa_avg_fn()},
    "ema": lambda m: {"avg_fn": m.get_ema_avg_fn(0.9)},
    "swa-multi": lambda m: {"multi_avg_fn": m.get_swa_multi_avg_fn()},
    "ema-multi": lambda m: {"multi_avg_fn": m.get_ema_multi_avg_fn(0.7)},
}


def wander(net, draw):
    """Move all parameters and statistics of a torch net."""
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.tensor(draw.normal(size=tuple(tensor.shape))))
            else:
                tensor.add_(5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_averages_are_torchs(name, use_buffers):
    if name == "swa-multi" and use_buffers:
        pytest.skip("torch itself fails: it has no addcdiv for the integer buffer")
    net, ours_net = TorchNet().double(), FlaxNet(param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    average = theirs.AveragedModel(net, use_buffers=use_buffers, **FUNCTIONS[name](theirs))
    convert.to_flax(net, ours_net)
    mine = ours.AveragedModel(ours_net, use_buffers=use_buffers, **FUNCTIONS[name](ours))
    draw, update = np.random.default_rng(0), nnx.jit(lambda a, m: a.update_parameters(m))
    for count in range(6):
        wander(net, draw)
        convert.to_flax(net, ours_net)
        average.update_parameters(net)
        update(mine, ours_net)
        same(convert.to_torch(mine), average.state_dict(), 1e-14)
        if count == 3:  # through the other framework and back
            content = convert.to_torch(mine)
            convert.to_flax(average, mine)
            bitwise(convert.to_torch(mine), average.state_dict())
            convert.into_torch(mine, average)
            assert list(content) == list(average.state_dict())
    x = batches(1)[0]
    net.eval()
    average.eval()
    mine.eval()
    same({"y": mine(jnp.asarray(x))}, {"y": average(torch.tensor(x)).detach()}, 1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("tupled", [False, True])
def test_statistics_are_torchs(tupled):
    net, mine = TorchNet().double(), FlaxNet(param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    convert.to_flax(net, mine)
    net.eval()
    mine.eval()
    inputs = batches(5)
    theirs.update_bn([(torch.tensor(x), 0) if tupled else torch.tensor(x) for x in inputs], net)
    ours.update_bn([(jnp.asarray(x), 0) if tupled else jnp.asarray(x) for x in inputs], mine)
    same(convert.to_torch(mine), net.state_dict(), 1e-14)
    assert (mine.norm.momentum, mine.training, mine.norm.training) == (0.1, False, False)


def test_a_model_without_batch_norm_is_not_called():
    ours.update_bn([1, 2, 3], nn.Linear(2, 3, rngs=nnx.Rngs(0)))


def test_what_it_refuses():
    model = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="expected avg_fn or multi_avg_fn, got both"):
        ours.AveragedModel(model, ours.get_swa_avg_fn(), ours.get_swa_multi_avg_fn())
    bare = nn.Linear(2, 3, bias=False, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="got one that differs in bias"):
        ours.AveragedModel(model).update_parameters(bare)
    for make in (ours.get_ema_avg_fn, ours.get_ema_multi_avg_fn):
        with pytest.raises(ValueError, match=r"a decay in .0, 1., got 1.5"):
            make(1.5)


def test_the_average_is_a_copy_and_keeps_its_dtype():
    model = nn.Linear(2, 3, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    average = ours.AveragedModel(model)
    before = np.array(average.module.kernel[...])
    model.kernel[...] = jnp.zeros_like(model.kernel[...])
    np.testing.assert_array_equal(average.module.kernel[...], before)
    for _ in range(3):
        average.update_parameters(model)
    assert average.module.kernel[...].dtype == jnp.bfloat16
    assert jax.tree.leaves(nnx.state(average, nnx.Param))


@pytest.mark.parametrize("name", sorted(theirs.__all__))
def test_names_arguments_and_defaults_are_torchs(name):
    made = getattr(ours, name)
    got = dict(inspect.signature(made.__init__ if inspect.isclass(made) else made).parameters)
    got.pop("self", None)
    want = inspect.signature(getattr(theirs, name)).parameters
    gone = {"optimizer", "last_epoch", "device"}
    assert [n for n in got if n != "lr"] == [n for n in want if n not in gone]
    assert {n: p.default for n, p in got.items() if n != "lr"} == {
        n: p.default for n, p in want.items() if n not in gone
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"anneal_epochs": 50, "anneal_strategy": "linear"},
        {"anneal_epochs": 1},
        {"anneal_epochs": 0},
    ],
    ids=str,
)
def test_rates_are_torchs(settings):
    optimizer = optimizer_with()
    want, _ = rates_of_torch(optimizer, theirs.SWALR(optimizer, 0.03, **settings))
    schedule = ours.SWALR(0.1, 0.03, **settings)
    equal(rates_of_ours(schedule), want)
    lr, chained = 0.1, []
    for count in range(20):
        lr = schedule.following(lr, count)
        chained.append(lr)
    equal(np.array(chained), want[:20])


@pytest.mark.parametrize("settings", [{"anneal_strategy": "exp"}, {"anneal_epochs": -1}], ids=str)
def test_both_refuse(settings):
    with pytest.raises(ValueError, match=r"\w"):
        theirs.SWALR(optimizer_with(), 0.1, **settings)
    with pytest.raises(ValueError, match="SWALR: expected .*got"):
        ours.SWALR(0.1, 0.1, **settings)
