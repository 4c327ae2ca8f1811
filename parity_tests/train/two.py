"""One of two processes that train together; started by test_sharding.

python -m parity_tests.train.two INDEX PORT STRATEGY FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from fluxmod import convert, optim
from fluxmod.train import Checkpoints, Trainer
from parity_tests.train.nets import Batch, Net, batches, stacked, trainer


def build(strategy: str) -> Trainer:
    tx = optax.chain(optim.clip_grad_norm(0.5), optim.SGD(lr=0.05, momentum=0.9))
    net = Net(param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    return trainer(net, tx, mesh=Mesh(np.array(jax.devices()), ("data",)), strategy=strategy)


def mine(batch: Batch, index: int) -> Batch:
    """The half of a batch that this process has."""
    return {key: np.split(value, 2)[index] for key, value in batch.items()}


def advance(fit: Trainer, data: list[Batch], *, chunked: bool) -> list[float]:
    """Train on batches, in one dispatch or one by one, and return the losses."""
    if chunked:
        return np.asarray(fit.steps(stacked(data))["loss"]).tolist()
    return [float(fit.step(batch)["loss"]) for batch in data]


def main(index: int, port: str, strategy: str, folder: Path) -> None:
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)
    data = [mine(batch, index) for batch in batches(4, dtype=np.float64)]
    fit, checkpoints = build(strategy), Checkpoints(folder / "run")
    losses = advance(fit, data[:2], chunked=strategy == "data")
    checkpoints.save(fit, extra={"drawn": 2})
    advance(fit, data[:2], chunked=strategy == "data")
    extra = checkpoints.restore(fit)
    losses += advance(fit, data[extra["drawn"] :], chunked=strategy == "data")
    checkpoints.save(fit)
    np.savez(folder / f"weights{index}.npz", **convert.to_torch(fit.model))
    print(json.dumps({"devices": jax.device_count(), "losses": losses}))


if __name__ == "__main__":
    with jax.enable_x64(True):
        main(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
