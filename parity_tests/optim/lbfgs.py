"""L-BFGS in both frameworks on one loss; its state is one for all parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from fluxmod import convert, nn, optim
from parity_tests.compare import as_array, same
from parity_tests.optim.race import LIMIT, Case, FlaxNet, TorchNet, batches

STEPS = 2
"""Up to forty iterations. Close to the minimum a direction is made of rounding errors: torch beside
itself, one weight moved by one ulp, is 1e-14 apart after one step and 3e-7 after four."""


def torch_step(net: torch.nn.Module, optimizer: Any, x: np.ndarray) -> None:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = ((net(torch.tensor(x)) - 1.0) ** 2).mean()
        value.backward()
        return value

    optimizer.step(closure)


def loss(model: Any, x: jax.Array) -> jax.Array:
    return jnp.mean((model(x) - 1.0) ** 2)


def stepper(graphdef: Any, rest: Any, tx: Any) -> Any:
    @jax.jit
    def step(params: Any, state: Any, x: jax.Array) -> Any:
        def value_fn(params: Any) -> jax.Array:
            return loss(nnx.merge(graphdef, params, rest, copy=True), x)

        value, grads = jax.value_and_grad(value_fn)(params)
        updates, state = tx.update(grads, state, params, value=value, value_fn=value_fn)
        return optax.apply_updates(params, updates), state

    return step


def flat(content: dict[str, Any]) -> dict[str, np.ndarray]:
    """The one entry with lists spelt out; without torch's scratch list."""
    found = {}
    for name, value in content["state"].get(0, {}).items():
        rows = enumerate(value) if isinstance(value, list) else [(0, value)]
        found |= {f"{name}.{i}": as_array(v).astype(float) for i, v in rows if name != "al"}
    return dict(sorted(found.items()))


def lbfgs_race(case: Case, *, warm: int) -> float:
    """Let torch make ``warm`` steps, convert everything, step both; require equal states.

    Returns the worst relative error.
    """
    worst = 0.0
    torch.manual_seed(0)
    theirs = TorchNet().double().eval()  # a closure writes statistics at every evaluation
    optimizer = torch.optim.LBFGS(theirs.parameters(), **case.settings)
    x = batches(1, rows=40)[0]
    for _ in range(warm):
        torch_step(theirs, optimizer, x)
    ours = FlaxNet(param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    ours.eval()
    convert.to_flax(theirs, ours)
    tx = optim.LBFGS(**case.settings)
    state = convert.optimizer_to_flax(optimizer, ours, tx, torch_model=theirs)
    graphdef, params, rest = nnx.split(ours, nn.is_trainable, ...)
    step = stepper(graphdef, rest, tx)
    for _ in range(STEPS):
        torch_step(theirs, optimizer, x)
        params, state = step(params, state, jnp.asarray(x))
        after = nnx.merge(graphdef, params, rest, copy=True)
        back = convert.optimizer_to_torch(state, after, tx, like=optimizer, torch_model=theirs)
        model = same(convert.to_torch(after), dict(theirs.state_dict()), LIMIT)
        kept = same(flat(back), flat(optimizer.state_dict()), LIMIT)
        worst = max(worst, model, kept)
    return worst
