"""Negative log-likelihoods of real and counted targets, and of label sequences."""

from __future__ import annotations

import jax

from fluxmod.nn import functional as F
from fluxmod.nn.functional._ctc import Lengths

from ._loss import _Loss

__all__ = ["CTCLoss", "GaussianNLLLoss", "PoissonNLLLoss"]


class GaussianNLLLoss(_Loss):
    """Negative log-likelihood of a normal target; the twin of ``torch.nn.GaussianNLLLoss``.

    Shape:
        input, target: any, they broadcast; var: input's shape, or the same with one axis of size
        1, or without the last axis, or a number.

    Args:
        full: add ``log(2 pi) / 2``.
        eps: the least variance.

    >>> import jax.numpy as jnp
    >>> GaussianNLLLoss()(jnp.array([2.0]), jnp.array([0.0]), jnp.array([1.0])).item()
    2.0

    Source: torch.nn.GaussianNLLLoss, PyTorch 2.13 documentation; Nix and Weigend, 1994.
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full = full
        self.eps = eps

    def __call__(self, input: jax.Array, target: jax.Array, var: jax.Array | float) -> jax.Array:
        return F.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class PoissonNLLLoss(_Loss):
    """Negative log-likelihood of a Poisson target; the twin of ``torch.nn.PoissonNLLLoss``.

    Args:
        log_input: the input is the logarithm of the rate.
        full: add Stirling's approximation of ``log(target!)`` where the target is above 1.
        eps: added to a rate before its logarithm.

    >>> import jax.numpy as jnp
    >>> PoissonNLLLoss()(jnp.array([0.0]), jnp.array([2.0])).item()
    1.0

    Source: torch.nn.PoissonNLLLoss, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def __call__(self, log_input: jax.Array, target: jax.Array) -> jax.Array:
        return F.poisson_nll_loss(
            log_input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction
        )


class CTCLoss(_Loss):
    """Negative log-probability of all alignments of labels; the twin of ``torch.nn.CTCLoss``.

    Shape:
        log_probs: (T, N, C) or (T, C); targets: (N, S), or all labels one after another; both
        lengths: (N), or a scalar without batch.

    Args:
        blank: the class that stands for no label.
        reduction: 'mean' divides each loss by its number of labels before it averages.
        zero_infinity: 0 in place of an infinite loss and of its gradient.

    The gradient is torch's, which is right behind a ``log_softmax`` only.

    >>> import jax.numpy as jnp
    >>> half = jnp.log(jnp.full((2, 1, 2), 0.5))
    >>> f"{CTCLoss()(half, jnp.array([[1]]), (2,), (1,)):.4f}"  # -log(3 / 4)
    '0.2877'

    Source: torch.nn.CTCLoss, PyTorch 2.13 documentation; Graves et al., 2006.
    """

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction=reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity

    def __call__(
        self,
        log_probs: jax.Array,
        targets: jax.Array,
        input_lengths: Lengths,
        target_lengths: Lengths,
    ) -> jax.Array:
        return F.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )
