from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from fluxmod import convert, nn, optim
from fluxmod._errors import ConvertError
from fluxmod.train import Trainer
from parity_tests.optim.lbfgs import flat, lbfgs_race
from parity_tests.optim.race import Case
from parity_tests.optim.signatures import check_signature

WOLFE = {"line_search_fn": "strong_wolfe"}
CASES = [
    Case("LBFGS", {"lr": 0.3, "history_size": 3}),
    Case("LBFGS", {"lr": 0.5, "history_size": 4, "max_iter": 9, **WOLFE}),
    Case("LBFGS", {"max_iter": 7, "max_eval": 5, **WOLFE}),
    Case("LBFGS", {"lr": 40.0, "max_iter": 4, **WOLFE}),
    Case("LBFGS", {"lr": 0.1, "max_iter": 30, "tolerance_change": 1e-3}),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: str(CASES[i]))
def test_steps_are_torchs(index):
    lbfgs_race(CASES[index], warm=(0, 1)[index % 2])


def test_arguments_and_defaults_are_torchs():
    check_signature(optim.LBFGS, torch.optim.LBFGS)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="LBFGS: expected values of at least 0, got lr=-1"):
        optim.LBFGS(lr=-1)
    with pytest.raises(ValueError, match="'strong_wolfe' or None, got 'armijo'"):
        optim.LBFGS(line_search_fn="armijo")
    tx, params = optim.LBFGS(), {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="evaluates the loss again and needs it"):
        tx.update(params, tx.init(params), params)


def test_a_trainer_gives_it_the_loss():
    trainer = Trainer(
        nn.Linear(3, 1, rngs=nnx.Rngs(0)),
        optim.LBFGS(line_search_fn="strong_wolfe"),
        lambda model, batch: jnp.mean((model(batch[0]) - batch[1]) ** 2),
    )
    x = jnp.asarray(np.random.default_rng(0).normal(size=(9, 3)), jnp.float32)
    batch = (x, x @ jnp.array([[1.0], [-2.0], [3.0]]) + 0.5)
    trainer.step(batch)
    assert float(trainer.step(batch)["loss"]) < 1e-8


def test_the_state_goes_back_into_torch():
    theirs = torch.nn.Linear(2, 1)
    optimizer = torch.optim.LBFGS(theirs.parameters(), history_size=3)
    x, ours, tx = torch.ones(4, 2), nn.Linear(2, 1, rngs=nnx.Rngs(0)), optim.LBFGS(history_size=3)

    def closure():
        optimizer.zero_grad()
        value = ((theirs(x) - 1) ** 4).mean()
        value.backward()
        return value

    optimizer.step(closure)
    state = convert.optimizer_to_flax(optimizer, ours, tx)
    want = flat(optimizer.state_dict())
    convert.load_optimizer_state_dict(optimizer, convert.optimizer_to_torch(state, ours, tx))
    got = flat(optimizer.state_dict())
    assert list(got) == list(want)
    for name in got:
        np.testing.assert_array_equal(got[name], want[name], name)
    optimizer.step(closure)
    tx = optim.LBFGS(history_size=2)
    with pytest.raises(ConvertError, match="old_dirs has 3 entries, and history_size is 2"):
        convert.optimizer_to_flax(optimizer, ours, tx)
