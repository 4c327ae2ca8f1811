"""Loss layers."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fluxmod.nn import functional as F
from fluxmod.nn.functional._reduction import REDUCTIONS, check_reduction, chosen_reduction

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
    "NLLLoss2d",
    "SmoothL1Loss",
]


class _Loss(Module):
    """Shared by the losses: the reduction, and torch's two older arguments for it, which warn."""

    _reductions: tuple[str, ...] = REDUCTIONS

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        who = type(self).__name__
        reduction = chosen_reduction(size_average, reduce, reduction, who)
        check_reduction(reduction, who, self._reductions)
        self.reduction = reduction


class _WeightedLoss(_Loss):
    """A loss with a ``weight`` buffer, which ``state_dict`` lists when it is given."""

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        param_dtype: Any = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.weight = _buffer(weight, param_dtype)


def _buffer(value: Any, dtype: Any) -> Any:
    """A buffer in the dtype given, or the value's own; torch lists none for None."""
    return nnx.data(None) if value is None else Buffer(jnp.asarray(value, dtype))


def _held(buffer: nnx.Variable[Any] | None) -> jax.Array | None:
    return None if buffer is None else buffer[...]


class _ProbabilityChannel(Channel):
    """A target's class axis: only probabilities have one, labels are integers without it."""

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """Move the class axis to the end, if the array has one."""
        return array if array.dtype.kind in "iub" else super().to_flax(array)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Move the class axis to torch's place, if the array has one."""
        return array if array.dtype.kind in "iub" else super().to_torch(array)


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
        if not isinstance(delta, (int, float)):
            raise TypeError(f"HuberLoss: delta must be a float or an int, got {delta!r}.")
        self.delta = delta

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class BCELoss(_WeightedLoss):
    """Binary cross-entropy of probabilities; the twin of ``torch.nn.BCELoss``.

    Args:
        weight: factors that broadcast to the input's shape; a buffer.
        param_dtype: dtype to keep the weight in; that of the array given by default.

    Raises:
        TypeError: input and target of different dtypes.
        ValueError: shapes differ; values outside [0, 1], which give NaN in compiled code.

    >>> BCELoss()(jnp.zeros(1), jnp.ones(1)).item()
    100.0

    Source: torch.nn.BCELoss, PyTorch 2.13 documentation.
    """

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        weight = _held(self.weight)
        return F.binary_cross_entropy(input, target, weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits; the twin of ``torch.nn.BCEWithLogitsLoss``.

    Args:
        weight: factors that broadcast to the input's shape; a buffer.
        pos_weight: factors of the positive term; a buffer.
        param_dtype: dtype to keep both in; that of the array given by default.

    >>> f"{BCEWithLogitsLoss()(jnp.zeros(1), jnp.ones(1)):.4f}"
    '0.6931'

    Source: torch.nn.BCEWithLogitsLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Any = None,
        *,
        param_dtype: Any = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.weight = _buffer(weight, param_dtype)
        self.pos_weight = _buffer(pos_weight, param_dtype)

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.binary_cross_entropy_with_logits(
            input,
            target,
            _held(self.weight),
            reduction=self.reduction,
            pos_weight=_held(self.pos_weight),
        )


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of log-probabilities; the twin of ``torch.nn.KLDivLoss``.

    Args:
        reduction: 'batchmean' is the divergence itself; 'mean' divides by the number of elements.
        log_target: the target holds log-probabilities too.

    >>> KLDivLoss(reduction="batchmean")(jnp.zeros((1, 1)), jnp.ones((1, 1))).item()
    0.0

    Source: torch.nn.KLDivLoss, PyTorch 2.13 documentation.
    """

    _reductions = (*REDUCTIONS, "batchmean")

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
        param_dtype: Any = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction, param_dtype=param_dtype)
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
            _held(self.weight),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            channels_last=self.channels_last,
        )


class NLLLoss2d(NLLLoss):
    """Return ``NLLLoss`` of a map; the twin of ``torch.nn.NLLLoss2d``, deprecated there and here.

    Args:
        channels_last: the classes are the last axis, unless said otherwise.

    Source: torch.nn.NLLLoss2d, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        *,
        channels_last: bool = True,
        param_dtype: Any = None,
    ) -> None:
        warnings.warn("NLLLoss2d is deprecated; use NLLLoss.", FutureWarning, stacklevel=2)
        super().__init__(
            weight,
            size_average,
            ignore_index,
            reduce,
            reduction,
            channels_last=channels_last,
            param_dtype=param_dtype,
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
        param_dtype: dtype to keep the weight in; that of the array given by default.

    Raises:
        IndexError: labels outside [0, C); in compiled code they give NaN.
        ValueError: shapes do not fit.

    >>> f"{CrossEntropyLoss()(jnp.zeros((1, 2)), jnp.array([1])):.4f}"
    '0.6931'

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
        param_dtype: Any = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction, param_dtype=param_dtype)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.channels_last = channels_last

    @property
    def axes(self) -> Axes:
        """The classes of a map, and of probabilities for one, are on axis 1 in torch."""
        if not self.channels_last:
            return Axes()
        return Axes(inputs=(Channel(1, min_rank=3), _ProbabilityChannel(1, min_rank=3)))

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        return F.cross_entropy(
            input,
            target,
            _held(self.weight),
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            channels_last=self.channels_last,
        )
