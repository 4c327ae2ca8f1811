"""The ways to run a case; each has ``infer(k)`` and ``train(k)``: k calls, then wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from fluxmod import nn, optim, train
from fluxmod.parity._trees import leaves

from ._case import Case

__all__ = ["Fluxmod", "PlainNnx", "Torch"]

LEARNING_RATE = 1e-3


class Torch:
    """torch, eager or through ``torch.compile``; ``last``: images and kernels channels-last."""

    chunk = 1

    def __init__(self, case: Case, *, compiled: bool = False, last: bool = False) -> None:
        self.model = case.in_torch()
        args, kwargs = case.args, dict(case.kwargs)
        if last:
            move: Any = self.model.to  # whose annotations leave the order of axes out
            move(memory_format=torch.channels_last)
            args = tuple(map(_channels_last, args))
            kwargs = {k: _channels_last(v) for k, v in kwargs.items()}
        self.args, self.kwargs, self.labels = args, kwargs, case.labels
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.call: Any = torch.compile(self.model) if compiled else self.model

    def infer(self, k: int) -> None:
        """Call the model in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            for _ in range(k):
                self.call(*self.args, **self.kwargs)

    def train(self, k: int) -> None:
        """Forward, loss, backward and Adam."""
        self.model.train()
        for _ in range(k):
            self.loss().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()  # last, so that no gradients are held between calls

    def loss(self) -> torch.Tensor:
        """The loss of one call."""
        out = first(self.call(*self.args, **self.kwargs))
        if self.labels is None:
            return (out * out).mean()
        return torch.nn.functional.cross_entropy(out.flatten(0, -2), self.labels.flatten())


class _Flax:
    """Inputs in Flax's layout and the loss, for any ``nnx.Module``."""

    def __init__(self, case: Case, axes: nn.Axes) -> None:
        self.inputs = (
            tuple(_to_flax(value, axes, i) for i, value in enumerate(case.args)),
            {key: _to_flax(value, axes, key) for key, value in case.kwargs.items()},
        )
        self.labels = None if case.labels is None else jnp.asarray(case.labels.numpy())


class Fluxmod(_Flax):
    """The counterpart in fluxmod's core; ``chunk`` > 1 runs so many steps per dispatch."""

    def __init__(self, case: Case, *, chunk: int = 1) -> None:
        model = case.in_flax()
        super().__init__(case, getattr(model, "axes", nn.SAME))
        self.chunk = chunk
        model.eval()
        graphdef, self.state = nnx.split(model)

        def infer(state: Any, inputs: Any) -> Any:
            args, kwargs = inputs
            call: Any = nnx.merge(graphdef, state, copy=True)
            return call(*args, **kwargs)

        self._infer = jax.jit(infer, compiler_options=nn.compiler_options(model))
        model.train()
        self.trainer = train.Trainer(model, optim.Adam(lr=LEARNING_RATE), _batch_loss)
        self.batch = {"inputs": self.inputs, "labels": self.labels}
        self.batches = jax.tree.map(lambda x: jnp.stack([x] * chunk), self.batch)

    def infer(self, k: int) -> None:
        """Call the model in evaluation mode."""
        for _ in range(k):
            out = self._infer(self.state, self.inputs)
        jax.block_until_ready(out)

    def train(self, k: int) -> None:
        """Forward, loss, backward and Adam."""
        if self.chunk == 1:
            for _ in range(k):
                metrics = self.trainer.step(self.batch)
        else:
            for _ in range(max(k // self.chunk, 1)):
                metrics = self.trainer.steps(self.batches)
        jax.block_until_ready(metrics)


class PlainNnx(_Flax):
    """The model of ``flax.nnx`` alone, stepped with ``nnx.jit`` and ``nnx.Optimizer``."""

    chunk = 1

    def __init__(self, case: Case, make: Callable[[nnx.Rngs], nnx.Module]) -> None:
        # a model of flax.nnx takes its images channels-last and says so nowhere
        image = nn.Axes(inputs=(nn.Channel(1),)) if case.images else nn.SAME
        super().__init__(case, image)
        self.trained, self.fixed = make(nnx.Rngs(0)), make(nnx.Rngs(0))
        self.trained.train()
        self.fixed.eval()
        self.optimizer = nnx.Optimizer(self.trained, optax.adam(LEARNING_RATE), wrt=nnx.Param)

        @nnx.jit
        def infer(model: Any, inputs: Any) -> Any:
            args, kwargs = inputs
            return model(*args, **kwargs)

        @nnx.jit
        def step(model: Any, optimizer: Any, batch: Any) -> Any:
            value, grads = nnx.value_and_grad(lambda m: _batch_loss(m, batch))(model)
            optimizer.update(model, grads)
            return value

        self._infer, self._step = infer, step

    def infer(self, k: int) -> None:
        """Call the model in evaluation mode."""
        for _ in range(k):
            out = self._infer(self.fixed, self.inputs)
        jax.block_until_ready(out)

    def train(self, k: int) -> None:
        """Forward, loss, backward and Adam."""
        batch = {"inputs": self.inputs, "labels": self.labels}
        for _ in range(k):
            loss = self._step(self.trained, self.optimizer, batch)
        jax.block_until_ready(loss)


def first(value: Any) -> Any:
    """The first array of a tuple, a dict or a dataclass; an array itself."""
    return next(array for _, array in leaves(value))


def _batch_loss(model: Any, batch: dict[str, Any]) -> jax.Array:
    args, kwargs = batch["inputs"]
    out, labels = first(model(*args, **kwargs)), batch["labels"]
    if labels is None:
        return (out * out).mean()
    return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()


def _to_flax(value: Any, axes: nn.Axes, key: int | str) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    array, channel = value.numpy(), axes.of_input(key)
    return jnp.asarray(array if channel is None else np.ascontiguousarray(channel.to_flax(array)))


def _channels_last(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value
