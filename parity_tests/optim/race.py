"""The same small network and optimizer in both frameworks, trained side by side in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn, optim
from fluxmod.train import Trainer
from parity_tests.compare import as_array, same

LIMIT = 1e-9
"""Of the training level: parameters, buffers and optimizer state after ten steps."""


class TorchNet(torch.nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(5, 7, bias)
        self.norm = torch.nn.BatchNorm1d(7)
        self.fc2 = torch.nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.tanh(self.norm(self.fc1(x))))


class FlaxNet(nn.Module):
    def __init__(
        self, bias: bool = True, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        self.fc1 = nn.Linear(5, 7, bias, param_dtype=param_dtype, rngs=rngs)
        self.norm = nn.BatchNorm1d(7, param_dtype=param_dtype)
        self.fc2 = nn.Linear(7, 3, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(jnp.tanh(self.norm(self.fc1(x))))


@dataclass(frozen=True)
class Case:
    """An optimizer by torch's name with torch's arguments."""

    name: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.settings.items())])


def batches(count: int, seed: int = 0, rows: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, rows, 5))


def torch_step(net: torch.nn.Module, optimizer: torch.optim.Optimizer, x: np.ndarray) -> None:
    optimizer.zero_grad()
    (net(torch.tensor(x)) ** 2).mean().backward()
    if isinstance(optimizer, torch.optim.SparseAdam):
        for p in net.parameters():
            p.grad = p.grad.to_sparse(1)
    optimizer.step()


def tx_of(case: Case, model: nn.Module) -> optax.GradientTransformation:
    """The transformation of a case; told the axes where its result depends on them."""
    layout = optim.FAMILIES[case.name].layout
    told = {"torch_axes": convert.torch_axes(model)} if layout else {}
    return getattr(optim, case.name)(**case.settings, **told)


def loss(model: Any, x: jax.Array) -> jax.Array:
    return jnp.mean(model(x) ** 2)


def flat_state(state_dict: dict[str, Any]) -> dict[str, np.ndarray]:
    """Per-parameter state by number and name, as numpy arrays."""
    return {
        f"{number}.{name}": as_array(value)
        for number, entry in state_dict["state"].items()
        for name, value in entry.items()
    }


def race(case: Case, *, warm: int, steps: int = 10) -> float:
    """Train torch ``warm`` steps, convert everything, train both; require equal states.

    Returns the worst relative error.
    """
    worst = 0.0
    torch.manual_seed(0)
    # a bias before the norm has no gradient but noise, which Rprop and Adagrad make steps of
    theirs = TorchNet(bias=False).double()
    if case.name == "Muon":  # it takes matrices
        fluxmod.freeze(theirs, "norm", "fc2.bias")
    trained = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = getattr(torch.optim, case.name)(trained, **case.settings)
    inputs = batches(warm + steps)
    for x in inputs[:warm]:
        torch_step(theirs, optimizer, x)
    ours = FlaxNet(bias=False, param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    convert.to_flax(theirs, ours)
    if case.name == "Muon":
        fluxmod.freeze(ours, "norm", "fc2.bias")
    tx = tx_of(case, ours)
    state = convert.optimizer_to_flax(optimizer, ours, tx, torch_model=theirs)
    trainer = Trainer(ours, tx, loss, opt_state=state)
    for count, x in enumerate(inputs[warm:], 1):
        torch_step(theirs, optimizer, x)
        trainer.step(x)
        if count in (1, steps):
            model = same(convert.to_torch(trainer.model), dict(theirs.state_dict()), LIMIT)
            back = convert.optimizer_to_torch(
                trainer.opt_state, trainer.model, tx, like=optimizer, torch_model=theirs
            )
            kept = same(flat_state(back), flat_state(optimizer.state_dict()), LIMIT)
            worst = max(worst, model, kept)
    return worst
