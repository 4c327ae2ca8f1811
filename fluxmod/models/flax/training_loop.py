"""The training loop of note 004: forward and loss, gradient, update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

__all__ = ["fit"]


def fit(
    model: nnx.Module,
    criterion: Callable[[Any, jax.Array], jax.Array],
    optimizer: nnx.Optimizer[Any],
    input: jax.Array,
    labels: jax.Array,
    epochs: int,
) -> list[float]:
    """Train on one batch and return the loss before each step.

    ``optimizer`` is ``nnx.Optimizer(model, tx, wrt=nn.is_trainable)``. There is no zero_grad:
    gradients are values here, not state. This is the loop in its plainest form;
    ``fluxmod.train`` is the fast one.
    """

    @nnx.jit
    def step(model: Any, optimizer: Any, input: jax.Array, labels: jax.Array) -> jax.Array:
        def loss_of(model: Any) -> jax.Array:
            return criterion(model(input), labels)

        loss, gradient = nnx.value_and_grad(loss_of, argnums=nnx.DiffState(0, optimizer.wrt))(model)
        optimizer.update(model, gradient)
        return loss

    return [float(step(model, optimizer, input, labels)) for _ in range(epochs)]
