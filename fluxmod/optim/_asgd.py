"""Averaged SGD and resilient propagation."""

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

__all__ = ["ASGD", "Rprop"]

_INERT = {"foreach": None, "capturable": False, "differentiable": False}


def _asgd(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """The rate and the weight of the average are float32 numbers, as torch keeps them."""
    g = -g if of["maximize"] else g
    g = g + of["weight_decay"] * p if of["weight_decay"] else g
    eta, mu = wide(slots["eta"], p), wide(slots["mu"], p)
    delta = -of["lambd"] * eta * p - eta * g
    ax = slots["ax"]
    ax = jnp.where(mu == 1, p + delta, ax + (p + delta - ax) * mu)
    count = jnp.asarray(step, jnp.result_type(float))
    rate = lr / (1 + of["lambd"] * lr * count) ** of["alpha"]
    weight = 1 / jnp.maximum(1, count - of["t0"])
    new = {"eta": rate.astype(jnp.float32), "mu": weight.astype(jnp.float32)}
    return delta, {**new, "ax": ax.astype(p.dtype)}


def _asgd_start(of: Settings, name: str, p: jax.Array) -> jax.Array:
    if name == "ax":
        return jnp.zeros_like(p)
    return jnp.asarray(of.lr_at(0) if name == "eta" else 1.0, jnp.float32)


_ASGD = register(
    Family(
        "ASGD",
        rule=_asgd,
        slots=lambda of: ("eta", "mu", "ax"),
        keeps_step=True,
        initial=_asgd_start,
        scalars=("eta", "mu"),
        inert=_INERT,
        defaults={"maximize": False},
    )
)


def ASGD(
    lr: float | Schedule = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """SGD that keeps the average of its iterates in ``ax``; the twin of ``torch.optim.ASGD``.

    Args:
        lr: a number, or an optax schedule of the number of steps made.
        lambd: how fast parameters decay.
        alpha: power by which the rate falls.
        t0: the step at which averaging starts.

    Raises:
        ValueError: a negative number.

    >>> tx, one = ASGD(lr=0.5, lambd=0.0), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].tolist()
    [-0.5, -0.5]

    Source: torch.optim.ASGD, PyTorch 2.13 documentation; Polyak and Juditsky, 1992.
    """
    check_rate("ASGD", lr=lr, weight_decay=weight_decay)
    return make(
        _ASGD,
        lr=lr,
        lambd=lambd,
        alpha=alpha,
        t0=t0,
        weight_decay=weight_decay,
        maximize=maximize,
    )


def _rprop(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """A gradient that turned round is skipped once, and its step shortened."""
    (less, more), (least, most) = of["etas"], of["step_sizes"]
    g = -g if of["maximize"] else g
    turn = jnp.sign(g * slots["prev"])
    factor = jnp.where(turn > 0, more, jnp.where(turn < 0, less, 1.0)).astype(p.dtype)
    size = jnp.clip(slots["step_size"] * factor, least, most)
    g = jnp.where(turn < 0, 0, g)
    return -jnp.sign(g) * size, {"prev": g, "step_size": size}


def _rprop_start(of: Settings, name: str, p: jax.Array) -> jax.Array:
    return jnp.zeros_like(p) if name == "prev" else jnp.full_like(p, of.lr_at(0))


_RPROP = register(
    Family(
        "Rprop",
        rule=_rprop,
        slots=lambda of: ("prev", "step_size"),
        keeps_step=True,
        initial=_rprop_start,
        inert=_INERT,
        defaults={"maximize": False},
    )
)


def Rprop(
    lr: float | Schedule = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50),
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Steps by the sign of the gradient; the twin of ``torch.optim.Rprop``.

    Args:
        lr: the first step's size.
        etas: factors of a step's size after a turn, and after none.
        step_sizes: the least and the greatest size.

    Raises:
        ValueError: a negative rate; factors that are not 0 < less < 1 < more.

    >>> tx, one = Rprop(lr=0.5), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].tolist()
    [-0.5, -0.5]

    Source: torch.optim.Rprop, PyTorch 2.13 documentation; Riedmiller and Braun, 1993.
    """
    check_rate("Rprop", lr=lr)
    if not 0.0 < etas[0] < 1.0 < etas[1]:
        raise ValueError(f"Rprop: etas must be 0 < less < 1 < more, got {tuple(etas)}.")
    sizes = {"etas": tuple(etas), "step_sizes": tuple(step_sizes)}
    return make(_RPROP, lr=lr, **sizes, maximize=maximize)
