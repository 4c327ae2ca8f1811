"""Loss layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F

from ._axes import Axes, Channel
from ._module import Buffer, Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    """Shared by the losses: the reduction, and torch's two older arguments for it."""

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        if size_average is not None or reduce is not None:
            mean = size_average is None or size_average
            summed = "mean" if mean else "sum"
            reduction = summed if reduce is None or reduce else "none"
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with a ``weight`` buffer, which ``state_dict`` lists when it is given."""

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.weight = _buffer(weight)


def _buffer(value: Any) -> Any:
    return nnx.data(None) if value is None else Buffer(jnp.asarray(value))


def _held(buffer: Buffer | None, like: jax.Array) -> jax.Array | None:
    return None if buffer is None else buffer[...].astype(like.dtype)


class MSELoss(_Loss):
    """Return the squared difference of input and target; the twin of ``torch.nn.MSELoss``.

    >>> MSELoss()(jnp.ones(3), jnp.zeros(3)).item()
    1.0

    Source: torch.nn.MSELoss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """Return the absolute difference; the twin of ``torch.nn.L1Loss``.

    >>> L1Loss()(jnp.ones(3), jnp.zeros(3)).item()
    1.0

    Source: torch.nn.L1Loss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """Squared below ``beta``, absolute above; the twin of ``torch.nn.SmoothL1Loss``.

    >>> SmoothL1Loss()(jnp.full(3, 2.0), jnp.zeros(3)).item()
    1.5

    Source: torch.nn.SmoothL1Loss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """``delta`` times ``SmoothL1Loss(beta=delta)``; the twin of ``torch.nn.HuberLoss``.

    >>> HuberLoss(delta=2.0)(jnp.full(3, 3.0), jnp.zeros(3)).item()
    4.0

    Source: torch.nn.HuberLoss, PyTorch 2.13 documentation.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class BCELoss(_WeightedLoss):
    """Binary cross-entropy of probabilities; the twin of ``torch.nn.BCELoss``.

    >>> BCELoss()(jnp.zeros(1), jnp.ones(1)).item()
    100.0

    Source: torch.nn.BCELoss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        weight = _held(self.weight, input)
        return F.binary_cross_entropy(input, target, weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits; the twin of ``torch.nn.BCEWithLogitsLoss``.

    >>> BCEWithLogitsLoss()(jnp.zeros(1), jnp.ones(1)).round(4).item()  # doctest: +ELLIPSIS
    0.693...

    Source: torch.nn.BCEWithLogitsLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.weight = _buffer(weight)
        self.pos_weight = _buffer(pos_weight)

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.binary_cross_entropy_with_logits(
            input,
            target,
            _held(self.weight, input),
            reduction=self.reduction,
            pos_weight=_held(self.pos_weight, input),
        )


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of log-probabilities; the twin of ``torch.nn.KLDivLoss``.

    >>> KLDivLoss(reduction="batchmean")(jnp.zeros((1, 1)), jnp.ones((1, 1))).item()
    0.0

    Source: torch.nn.KLDivLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class NLLLoss(_WeightedLoss):
    """Negative log-likelihood of labels; the twin of ``torch.nn.NLLLoss``.

    Args:
        channels_last: the classes are the last axis of a map (N, *, C); torch has (N, C, *).

    >>> NLLLoss()(jnp.array([[-1.0, -2.0]]), jnp.array([1])).item()
    2.0

    Source: torch.nn.NLLLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.channels_last = channels_last

    @property
    def axes(self) -> Axes:
        """The classes of a map are on axis 1 in torch."""
        return Axes(inputs=(Channel(1, min_rank=3),)) if self.channels_last else Axes()

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.nll_loss(
            input,
            target,
            _held(self.weight, input),
            self.ignore_index,
            self.reduction,
            channels_last=self.channels_last,
        )


class CrossEntropyLoss(_WeightedLoss):
    """Cross-entropy of logits and labels or probabilities; ``torch.nn.CrossEntropyLoss``.

    Shape:
        input: (C), (N, C) or (N, C, *); target: labels without the class axis, or probabilities.

    Args:
        weight: (C), the weight of each class; a buffer.
        ignore_index: a label that counts for nothing.
        label_smoothing: share of the target spread evenly over all classes.
        channels_last: the classes are the last axis of a map (N, *, C); torch has (N, C, *).

    >>> CrossEntropyLoss()(jnp.zeros((1, 2)), jnp.array([1])).round(4).item()  # doctest: +ELLIPSIS
    0.693...

    Source: torch.nn.CrossEntropyLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.channels_last = channels_last

    @property
    def axes(self) -> Axes:
        """The classes of a map, and of probabilities for one, are on axis 1 in torch."""
        if not self.channels_last:
            return Axes()
        return Axes(inputs=(Channel(1, min_rank=3), None))

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.cross_entropy(
            input,
            target,
            _held(self.weight, input),
            self.ignore_index,
            self.reduction,
            self.label_smoothing,
            channels_last=self.channels_last,
        )
