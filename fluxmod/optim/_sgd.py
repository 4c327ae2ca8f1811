"""SGD with momentum, dampening, Nesterov and weight decay."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._family import Family, Schedule, Settings, Slots, check_rate, make, register, wide

__all__ = ["SGD"]

_INERT = {"foreach": None, "differentiable": False, "fused": None}


def _rule(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """Weight decay goes into the gradient before momentum; the first buffer is not dampened."""
    momentum, dampening = wide(of["momentum"], p), of["dampening"]
    g = -g if of["maximize"] else g
    if of["weight_decay"]:
        g = g + of["weight_decay"] * p
    if slots:
        buffer = momentum * slots["momentum_buffer"] + (1 - dampening) * g
        if dampening:
            buffer = jnp.where(step == 1, g, buffer)
        g = g + momentum * buffer if of["nesterov"] else buffer
        slots = {"momentum_buffer": buffer}
    return -wide(lr, p) * g, slots


_FAMILY = register(
    Family(
        "SGD",
        rule=_rule,
        slots=lambda of: ("momentum_buffer",) if of["momentum"] else (),
        keeps_step=False,
        inert=_INERT,
        defaults={"nesterov": False, "maximize": False},
    )
)


def SGD(
    lr: float | Schedule = 1e-3,
    momentum: float | Schedule = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent; the twin of ``torch.optim.SGD``.

    Args:
        lr: a number, or an optax schedule of the number of steps made.
        momentum: likewise, as the cyclic schedulers give it.

    Raises:
        ValueError: a negative number; Nesterov without momentum or with dampening.

    >>> tx, params, grads = SGD(lr=0.5, momentum=0.9), {"w": jnp.ones(2)}, {"w": jnp.ones(2)}
    >>> updates, state = tx.update(grads, tx.init(params), params)
    >>> updates["w"].tolist(), state.slots["momentum_buffer"]["w"].tolist()
    ([-0.5, -0.5], [1.0, 1.0])

    Source: torch.optim.SGD, PyTorch 2.13 documentation.
    """
    check_rate("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
    still = not callable(momentum) and momentum <= 0
    if nesterov and (still or dampening != 0):
        raise ValueError(
            f"SGD: Nesterov momentum requires a momentum and zero dampening, got "
            f"momentum={momentum} and dampening={dampening}."
        )
    return make(
        _FAMILY,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        weight_decay=weight_decay,
        nesterov=nesterov,
        maximize=maximize,
    )
