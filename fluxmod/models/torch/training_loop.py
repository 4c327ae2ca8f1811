"""The training loop of note 004: zero_grad, forward, loss, backward, step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn, optim

__all__ = ["fit"]


def fit(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    optimizer: optim.Optimizer,
    input: Tensor,
    labels: Tensor,
    epochs: int,
) -> list[float]:
    """Train on one batch and return the loss before each step."""
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()  # forget the gradients of the step before
        outputs = model(input)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
