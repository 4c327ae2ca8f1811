"""Losses that ask for a margin."""

from __future__ import annotations

from typing import Any

import jax

from fluxmod.nn import functional as F
from fluxmod.nn.functional._loss_embedding import Distance

from ._distance import PairwiseDistance
from ._loss import _held, _Loss, _WeightedLoss

__all__ = [
    "CosineEmbeddingLoss",
    "HingeEmbeddingLoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class SoftMarginLoss(_Loss):
    """Return ``log(1 + exp(-target * input))``; the twin of ``torch.nn.SoftMarginLoss``.

    >>> import jax.numpy as jnp
    >>> f"{SoftMarginLoss()(jnp.zeros(2), jnp.ones(2)):.4f}"
    '0.6931'

    Source: torch.nn.SoftMarginLoss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelMarginLoss(_Loss):
    """Ask for a margin between each label's value and every other's; ``nn.MultiLabelMarginLoss``.

    Shape:
        input: (C) or (N, C); target: the same, labels in front and then -1.

    >>> import jax.numpy as jnp
    >>> MultiLabelMarginLoss()(jnp.array([0.0, 0.5]), jnp.array([0, -1])).item()
    0.75

    Source: torch.nn.MultiLabelMarginLoss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """Average the binary cross-entropy of logits over classes; ``nn.MultiLabelSoftMarginLoss``.

    Args:
        weight: (C), a factor for each class; a buffer.
        param_dtype: dtype to keep the weight in; that of the array given by default.

    >>> import jax.numpy as jnp
    >>> f"{MultiLabelSoftMarginLoss()(jnp.zeros((1, 2)), jnp.ones((1, 2))):.4f}"
    '0.6931'

    Source: torch.nn.MultiLabelSoftMarginLoss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        weight = _held(self.weight)
        return F.multilabel_soft_margin_loss(input, target, weight, reduction=self.reduction)


class MultiMarginLoss(_WeightedLoss):
    """Ask for a margin between the label's value and every other's; ``nn.MultiMarginLoss``.

    Args:
        p: 1, or 2 for squares.
        weight: (C), a factor for each label's class; a buffer.
        param_dtype: dtype to keep the weight in; that of the array given by default.

    Raises:
        ValueError: ``p`` is neither 1 nor 2; a weight that is not a vector.

    >>> import jax.numpy as jnp
    >>> MultiMarginLoss()(jnp.array([[0.0, 0.5]]), jnp.array([0])).item()
    0.75

    Source: torch.nn.MultiMarginLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        param_dtype: Any = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction, param_dtype=param_dtype)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: p must be 1 or 2, got {p}.")
        if weight is not None and self.weight[...].ndim != 1:
            raise ValueError(
                f"MultiMarginLoss: weight must be a vector, got shape {self.weight[...].shape}."
            )
        self.p = p
        self.margin = margin

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        weight = _held(self.weight)
        return F.multi_margin_loss(
            input, target, self.p, self.margin, weight, reduction=self.reduction
        )


class HingeEmbeddingLoss(_Loss):
    """Small where the target is 1, beyond the margin where it is -1; ``nn.HingeEmbeddingLoss``.

    >>> import jax.numpy as jnp
    >>> HingeEmbeddingLoss()(jnp.array([0.5]), jnp.array([-1])).item()
    0.5

    Source: torch.nn.HingeEmbeddingLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)


class MarginRankingLoss(_Loss):
    """Ask the first input to exceed the second by a margin; ``torch.nn.MarginRankingLoss``.

    Args:
        margin: by how much, where the target is 1; the other way round where it is -1.

    >>> import jax.numpy as jnp
    >>> MarginRankingLoss()(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1])).item()
    2.0

    Source: torch.nn.MarginRankingLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def __call__(self, input1: jax.Array, input2: jax.Array, target: jax.Array) -> jax.Array:
        return F.margin_ranking_loss(input1, input2, target, self.margin, reduction=self.reduction)


class CosineEmbeddingLoss(_Loss):
    """Align vectors where the target is 1, part them where it is -1; ``nn.CosineEmbeddingLoss``.

    Shape:
        input1, input2: (N, D) with target (N), or (D) with a scalar target.

    >>> import jax.numpy as jnp
    >>> a = jnp.array([[1.0, 0.0]])
    >>> CosineEmbeddingLoss()(a, a, jnp.array([-1])).item()
    1.0

    Source: torch.nn.CosineEmbeddingLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def __call__(self, input1: jax.Array, input2: jax.Array, target: jax.Array) -> jax.Array:
        return F.cosine_embedding_loss(
            input1, input2, target, self.margin, reduction=self.reduction
        )


class TripletMarginLoss(_Loss):
    """Ask the positive to be nearer to the anchor than the negative; ``nn.TripletMarginLoss``.

    Args:
        margin: by how much.
        p, eps: as in ``PairwiseDistance``.
        swap: use the distance from positive to negative where it is the smaller one.

    Raises:
        ValueError: ``margin`` not above 0.

    >>> import jax.numpy as jnp
    >>> zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> f"{TripletMarginLoss()(zero, one, one):.4f}"
    '1.0000'

    Source: torch.nn.TripletMarginLoss, PyTorch 2.13 documentation; Balntas et al., 2016.
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        _check_margin(margin, "TripletMarginLoss")
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap

    def __call__(self, anchor: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
        return F.triplet_margin_loss(
            anchor,
            positive,
            negative,
            self.margin,
            self.p,
            self.eps,
            self.swap,
            reduction=self.reduction,
        )


class TripletMarginWithDistanceLoss(_Loss):
    """``TripletMarginLoss`` with a distance of your own; ``nn.TripletMarginWithDistanceLoss``.

    Args:
        distance_function: a function or module of two arrays; ``PairwiseDistance`` unless given.

    Raises:
        ValueError: ``margin`` not above 0.

    >>> import jax.numpy as jnp
    >>> loss = TripletMarginWithDistanceLoss(distance_function=lambda a, b: jnp.abs(a - b).sum(-1))
    >>> zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
    >>> loss(zero, one, 3 * one).item()
    0.0

    Source: torch.nn.TripletMarginWithDistanceLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        *,
        distance_function: Distance | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        _check_margin(margin, "TripletMarginWithDistanceLoss")
        self.distance_function: Distance = distance_function or PairwiseDistance()
        self.margin = margin
        self.swap = swap

    def __call__(self, anchor: jax.Array, positive: jax.Array, negative: jax.Array) -> jax.Array:
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


def _check_margin(margin: float, who: str) -> None:
    if margin <= 0:
        raise ValueError(f"{who}: margin must be greater than 0, got {margin}.")
