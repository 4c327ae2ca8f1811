"""A small network with every kind of state: weights, statistics, random counters, a frozen part."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import fluxmod
from fluxmod import nn, optim
from fluxmod.train import Trainer, accuracy

Batch = dict[str, np.ndarray]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, param_dtype: Any, rngs: nnx.Rngs) -> None:
        self.fc = nn.Linear(inputs, outputs, param_dtype=param_dtype, rngs=rngs)
        self.norm = nn.BatchNorm1d(outputs, param_dtype=param_dtype)
        self.drop = nn.Dropout(0.25, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(jnp.tanh(self.norm(self.fc(x))))


class Net(nn.Module):
    """Two blocks and a head; sizes that 8 divides and sizes that it does not."""

    def __init__(self, *, param_dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        self.encoder = Block(6, 16, param_dtype=param_dtype, rngs=rngs)
        self.body = Block(16, 8, param_dtype=param_dtype, rngs=rngs)
        self.head = nn.Linear(8, 5, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(self.body(self.encoder(x)))


def frozen_encoder(param_dtype: Any = jnp.float32) -> Net:
    """The net with its encoder frozen and kept in evaluation mode."""
    net = Net(param_dtype=param_dtype, rngs=nnx.Rngs(0))
    fluxmod.freeze(net, "encoder")
    net.encoder.eval()
    return net


def loss(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    logits = model(batch["x"])
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["y"][:, None], axis=1)
    return -jnp.mean(picked), {"accuracy": accuracy(logits, batch["y"])}


def batches(count: int, rows: int = 16, dtype: Any = np.float32, seed: int = 0) -> list[Batch]:
    draw = np.random.default_rng(seed)
    return [
        {
            "x": draw.normal(size=(rows, 6)).astype(dtype),
            "y": draw.integers(0, 5, rows).astype(np.int32),
        }
        for _ in range(count)
    ]


def stacked(chunk: list[Batch]) -> Batch:
    return {key: np.stack([batch[key] for batch in chunk]) for key in chunk[0]}


def trainer(net: Any = None, tx: Any = None, **options: Any) -> Trainer:
    net = Net(rngs=nnx.Rngs(0)) if net is None else net
    return Trainer(net, optim.AdamW(lr=0.01) if tx is None else tx, loss, **options)


def values(trainer: Trainer) -> dict[str, np.ndarray]:
    """The whole state, random keys as integers."""
    return {
        name: np.asarray(jax.random.key_data(v) if "key" in str(v.dtype) else v).copy()
        for name, v in trainer.state().items()
    }
