"""A linear layer and its cross-entropy in one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod.nn import functional as F

from ._linear import Linear
from ._loss import _held, _WeightedLoss

__all__ = ["LinearCrossEntropyLoss", "LinearCrossEntropyOptions"]


@dataclass(frozen=True, slots=True)
class LinearCrossEntropyOptions:
    """Send rows through in chunks; the twin of ``torch.nn.LinearCrossEntropyOptions``.

    Args:
        allow_retain_graph: no meaning here: a gradient may be taken as often as one likes.
        batch_chunk_size: rows per chunk.
        chunking_method: how to choose that: 'aspect_ratio' makes a chunk's logits as large as the
            input, 'aspect_ratio:N' divides that by N, 'auto' is 'aspect_ratio:2' unless
            ``batch_chunk_size`` is given.
        acc_policy, acc_dtype: no meaning here: half precision is computed in float32.

    Raises:
        ValueError: values that torch does not know.

    >>> LinearCrossEntropyOptions(batch_chunk_size=64).chunking_method
    'auto'

    Source: torch.nn.LinearCrossEntropyOptions, PyTorch 2.13 documentation.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        who = "LinearCrossEntropyOptions"
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            raise ValueError(f"{who}: unknown acc_policy {self.acc_policy!r}.")
        name, colon, factor = (self.chunking_method or "auto").partition(":")
        known = name == "aspect_ratio" and (not colon or (factor.isdigit() and int(factor) > 0))
        if not known and self.chunking_method not in (None, "auto"):
            raise ValueError(
                f"{who}: chunking_method must be None, 'auto', 'aspect_ratio' or "
                f"'aspect_ratio:N', got {self.chunking_method!r}."
            )
        size = self.batch_chunk_size
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{who}: batch_chunk_size must be a positive int, got {size!r}.")


class LinearCrossEntropyLoss(_WeightedLoss):
    """Cross-entropy of a linear layer's output; the twin of ``torch.nn.LinearCrossEntropyLoss``.

    Shape:
        input: (in_features) or (N, in_features); target: labels () or (N, *out_features), or
        probabilities (num_classes) or (N, num_classes, *out_features).

    Args:
        out_features: sizes of further axes of the loss.
        weight: (num_classes), the weight of each class; a buffer.
        ignore_index: a label that counts for nothing; -100 unless given.
        options: how to send rows through in chunks, so that no more logits than one chunk's are
            held.

    Raises:
        ValueError: a weight of another shape; ``label_smoothing`` outside [0, 1].

    >>> loss = LinearCrossEntropyLoss(3, 5, rngs=nnx.Rngs(0))
    >>> loss.linear.kernel.shape, loss(jnp.ones((2, 3)), jnp.array([1, 4])).shape
    ((3, 5), ())

    Source: torch.nn.LinearCrossEntropyLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        who = "LinearCrossEntropyLoss"
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise ValueError(
                f"{who}: weight must have shape ({num_classes},), got {tuple(weight.shape)}."
            )
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"{who}: label_smoothing must be between 0 and 1, got {label_smoothing}."
            )
        super().__init__(weight, reduction=reduction, param_dtype=param_dtype)
        self.num_classes = num_classes
        self.out_features = tuple(out_features)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.linear = Linear(
            in_features,
            math.prod(self.out_features, start=num_classes),
            bias=bias,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )
        self.options = options

    def __call__(self, input: jax.Array, target: jax.Array) -> jax.Array:
        sizes = (self.num_classes, *self.out_features)
        dtype = self.linear.dtype or input.dtype
        bias = _held(self.linear.bias)
        return F.linear_cross_entropy(
            input.astype(dtype),
            self.linear.kernel[...].astype(dtype).reshape(-1, *sizes),
            target,
            linear_bias=None if bias is None else bias.astype(dtype).reshape(sizes),
            weight=_held(self.weight),
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
            precision=self.linear.precision,
        )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, "
            f"reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )
