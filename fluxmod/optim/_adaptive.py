"""Adagrad, Adadelta and RMSprop: rates from running squares of the gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._family import (
    Family,
    Schedule,
    Settings,
    Slots,
    check_rate,
    make,
    register,
    wide,
)

__all__ = ["Adadelta", "Adagrad", "RMSprop"]

_INERT = {"foreach": None, "capturable": False, "differentiable": False}


def _decayed(of: Settings, g: jax.Array, p: jax.Array) -> jax.Array:
    """The gradient to descend, weight decay added."""
    g = -g if of["maximize"] else g
    return g + of["weight_decay"] * p if of["weight_decay"] else g


def _adagrad(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    g = _decayed(of, g, p)
    total = slots["sum"] + g * g
    rate = lr / (1 + (step - 1) * of["lr_decay"]) if of["lr_decay"] else lr
    return -wide(rate, p) * (g / (jnp.sqrt(total) + of["eps"])), {"sum": total}


def _adagrad_start(of: Settings, name: str, p: jax.Array) -> jax.Array:
    return jnp.full_like(p, of["initial_accumulator_value"])


_ADAGRAD = register(
    Family(
        "Adagrad",
        rule=_adagrad,
        slots=lambda of: ("sum",),
        keeps_step=True,
        initial=_adagrad_start,
        keeps_at_start=True,
        inert={"foreach": None, "differentiable": False, "fused": None},
        defaults={"maximize": False},
    )
)


def Adagrad(
    lr: float | Schedule = 1e-2,
    lr_decay: float = 0,
    weight_decay: float = 0,
    initial_accumulator_value: float = 0,
    eps: float = 1e-10,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Divide by the root of all squares so far; the twin of ``torch.optim.Adagrad``.

    Args:
        lr: a number, or an optax schedule of the number of steps made.
        lr_decay: the rate falls as ``lr / (1 + (step - 1) * lr_decay)``.
        initial_accumulator_value: what the sum of squares starts with.

    Raises:
        ValueError: a negative number.

    >>> tx, one = Adagrad(lr=0.5), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].tolist()
    [-0.5, -0.5]

    Source: torch.optim.Adagrad, PyTorch 2.13 documentation; Duchi et al., 2011.
    """
    check_rate(
        "Adagrad",
        lr=lr,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        initial_accumulator_value=initial_accumulator_value,
        eps=eps,
    )
    return make(
        _ADAGRAD,
        lr=lr,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        initial_accumulator_value=initial_accumulator_value,
        eps=eps,
        maximize=maximize,
    )


def _adadelta(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    rho, eps = of["rho"], of["eps"]
    g = _decayed(of, g, p)
    square = rho * slots["square_avg"] + (1 - rho) * g * g
    delta = jnp.sqrt(slots["acc_delta"] + eps) / jnp.sqrt(square + eps) * g
    kept = rho * slots["acc_delta"] + (1 - rho) * delta * delta
    return -wide(lr, p) * delta, {"square_avg": square, "acc_delta": kept}


_ADADELTA = register(
    Family(
        "Adadelta",
        rule=_adadelta,
        slots=lambda of: ("square_avg", "acc_delta"),
        keeps_step=True,
        inert=_INERT,
        defaults={"maximize": False},
    )
)


def Adadelta(
    lr: float | Schedule = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Scale by the ratio of running updates to running gradients; ``torch.optim.Adadelta``.

    Args:
        lr: a number, or an optax schedule of the number of steps made.
        rho: how much of both running squares a step keeps.

    Raises:
        ValueError: a negative number, or ``rho`` outside [0, 1].

    >>> tx, one = Adadelta(), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].round(6).tolist()
    [-0.0031620000954717398, -0.0031620000954717398]

    Source: torch.optim.Adadelta, PyTorch 2.13 documentation; Zeiler, 2012.
    """
    check_rate("Adadelta", lr=lr, eps=eps, weight_decay=weight_decay)
    if not 0.0 <= rho <= 1.0:
        raise ValueError(f"Adadelta: rho must be in [0, 1], got {rho}.")
    return make(_ADADELTA, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)


def _rmsprop(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """``eps`` is added outside the root."""
    alpha = of["alpha"]
    g = _decayed(of, g, p)
    square = alpha * slots["square_avg"] + (1 - alpha) * g * g
    new = {"square_avg": square}
    if of["centered"]:
        mean = slots["grad_avg"] + (1 - alpha) * (g - slots["grad_avg"])
        new["grad_avg"] = mean
        square = square - mean * mean
    delta = g / (jnp.sqrt(square) + of["eps"])
    if "momentum_buffer" in slots:
        delta = wide(of["momentum"], p) * slots["momentum_buffer"] + delta
        new["momentum_buffer"] = delta
    return -wide(lr, p) * delta, new


def _rmsprop_slots(of: Settings) -> tuple[str, ...]:
    moving = callable(of["momentum"]) or of["momentum"] > 0
    momentum = ("momentum_buffer",) if moving else ()
    return ("square_avg", *momentum, *(("grad_avg",) if of["centered"] else ()))


_RMSPROP = register(
    Family(
        "RMSprop",
        rule=_rmsprop,
        slots=_rmsprop_slots,
        keeps_step=True,
        inert=_INERT,
        defaults={"momentum": 0, "centered": False, "maximize": False},
    )
)


def RMSprop(
    lr: float | Schedule = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum: float | Schedule = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Divide by the root of a running square; the twin of ``torch.optim.RMSprop``.

    Args:
        lr: a number, or an optax schedule of the number of steps made; so may be ``momentum``.
        centered: the running mean's square is taken off, which leaves the variance.

    Raises:
        ValueError: a negative number.

    >>> tx, one = RMSprop(lr=0.1), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].round(4).tolist()
    [-1.0, -1.0]

    Source: torch.optim.RMSprop, PyTorch 2.13 documentation.
    """
    check_rate("RMSprop", lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    return make(
        _RMSPROP,
        lr=lr,
        alpha=alpha,
        eps=eps,
        weight_decay=weight_decay,
        momentum=momentum,
        centered=centered,
        maximize=maximize,
    )
