"""The four ways to run a model; each offers ``infer(k)`` and ``train(k)``: k calls, then wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

import fluxmod.models.flax as flax_models
import fluxmod.models.torch as torch_models
from fluxmod import convert, nn, optim, train

from .cases import Case
from .plain_nnx import BUILD

LEARNING_RATE = 1e-3
Repeat = Callable[[int], None]


class Torch:
    """torch, eager or through torch.compile."""

    def __init__(self, case: Case, compiled: bool) -> None:
        torch.manual_seed(0)
        self.model = getattr(torch_models, case.build)(*case.args)
        inputs, labels = case.arrays()
        self.inputs = [torch.from_numpy(x) for x in inputs]
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.call = torch.compile(self.model) if compiled else self.model

    def infer(self, k: int) -> None:
        self.model.eval()
        with torch.inference_mode():
            for _ in range(k):
                self.call(*self.inputs)

    def train(self, k: int) -> None:
        self.model.train()
        for _ in range(k):
            self.optimizer.zero_grad()
            out = self.call(*self.inputs)
            if self.labels is None:
                loss = (out * out).mean()
            else:
                loss = torch.nn.functional.cross_entropy(out, self.labels)
            loss.backward()
            self.optimizer.step()


class PlainNnx:
    """The model written with flax.nnx alone, stepped with nnx.jit and nnx.Optimizer."""

    def __init__(self, case: Case) -> None:
        inputs, labels = case.arrays()
        self.inputs = [jnp.asarray(x) for x in case.to_flax(inputs)]
        self.labels = None if labels is None else jnp.asarray(labels)
        self.trained, self.fixed = BUILD[case.name](nnx.Rngs(0)), BUILD[case.name](nnx.Rngs(0))
        self.fixed.eval()
        self.optimizer = nnx.Optimizer(self.trained, optax.adam(LEARNING_RATE), wrt=nnx.Param)

        @nnx.jit
        def infer(model: Any, inputs: Any) -> Any:
            return model(*inputs)

        @nnx.jit
        def step(model: Any, optimizer: Any, inputs: Any, labels: Any) -> Any:
            value, grads = nnx.value_and_grad(lambda m: _loss(m(*inputs), labels))(model)
            optimizer.update(model, grads)
            return value

        self._infer, self._step = infer, step

    def infer(self, k: int) -> None:
        for _ in range(k):
            out = self._infer(self.fixed, self.inputs)
        jax.block_until_ready(out)

    def train(self, k: int) -> None:
        for _ in range(k):
            loss = self._step(self.trained, self.optimizer, self.inputs, self.labels)
        jax.block_until_ready(loss)


class Fluxmod:
    """fluxmod's model and core; ``chunk`` > 1 runs that many steps per dispatch."""

    def __init__(self, case: Case, chunk: int = 1) -> None:
        torch.manual_seed(0)
        theirs = getattr(torch_models, case.build)(*case.args)
        model = getattr(flax_models, case.build)(*case.args, rngs=nnx.Rngs(0))
        convert.to_flax(theirs, model)
        inputs, labels = case.arrays()
        moved = [jnp.asarray(x) for x in case.to_flax(inputs)]
        self.chunk = chunk
        self.inputs = moved
        fixed = nnx.clone(model)
        fixed.eval()
        graphdef, self.state = nnx.split(fixed)
        self._infer = jax.jit(lambda state, xs: nnx.merge(graphdef, state, copy=True)(*xs))
        model.train()
        self.trainer = train.Trainer(model, optim.Adam(lr=LEARNING_RATE), _batch_loss)
        batch: dict[str, Any] = {f"x{i}": x for i, x in enumerate(moved)}
        if labels is not None:
            batch["labels"] = jnp.asarray(labels)
        self.batch = batch
        self.batches = jax.tree.map(lambda x: jnp.stack([x] * chunk), batch)

    def infer(self, k: int) -> None:
        for _ in range(k):
            out = self._infer(self.state, self.inputs)
        jax.block_until_ready(out)

    def train(self, k: int) -> None:
        if self.chunk == 1:
            for _ in range(k):
                metrics = self.trainer.step(self.batch)
        else:
            for _ in range(max(k // self.chunk, 1)):
                metrics = self.trainer.steps(self.batches)
        jax.block_until_ready(metrics)


def _batch_loss(model: nn.Module, batch: dict[str, Any]) -> jax.Array:
    inputs = [batch[key] for key in sorted(batch) if key.startswith("x")]
    return _loss(model(*inputs), batch.get("labels"))


def _loss(out: jax.Array, labels: Any) -> jax.Array:
    if labels is None:
        return (out * out).mean()
    return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()


def check_sizes() -> None:
    """The plain baselines must hold as many parameters as the models they stand for."""
    from .cases import CASES

    for case in CASES:
        model = getattr(flax_models, case.build)(*case.args, rngs=nnx.Rngs(0))
        plain = BUILD[case.name](nnx.Rngs(0))
        leaves = jax.tree.leaves(nnx.state(plain, nnx.Param))
        size = sum(int(np.prod(x.shape)) for x in leaves)
        if size != convert.parameter_count(model):
            raise AssertionError(f"{case.name}: plain {size}, {convert.parameter_count(model)}")
