"""Adamax, NAdam and RAdam."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._adam import correction
from ._family import (
    Family,
    Schedule,
    Settings,
    Slots,
    check_betas,
    check_rate,
    lerp,
    make,
    register,
    wide,
)

__all__ = ["Adamax", "NAdam", "RAdam"]

_INERT = {"foreach": None, "capturable": False, "differentiable": False}


def _averages(of: Settings, g: jax.Array, slots: Slots) -> tuple[jax.Array, jax.Array]:
    b1, b2 = of["betas"]
    exp_avg = lerp(slots["exp_avg"], g, wide(1 - b1, g))
    return exp_avg, wide(b2, g) * slots["exp_avg_sq"] + wide(1 - b2, g) * g * g


def _decayed(
    of: Settings, lr: Any, g: jax.Array, p: jax.Array
) -> tuple[jax.Array, jax.Array | float]:
    """The gradient to descend, and what weight decay adds to the parameter by itself."""
    g = -g if of["maximize"] else g
    decay = of["weight_decay"]
    if decay and of["decoupled_weight_decay"]:
        return g, -wide(lr, p) * decay * p
    return (g + decay * p if decay else g), 0.0


def _adamax(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    b1, b2 = of["betas"]
    g = -g if of["maximize"] else g
    g = g + of["weight_decay"] * p if of["weight_decay"] else g
    exp_avg = lerp(slots["exp_avg"], g, wide(1 - b1, p))
    exp_inf = jnp.maximum(wide(b2, p) * slots["exp_inf"], jnp.abs(g) + of["eps"])
    rate = wide(lr, p) / wide(correction(b1, step), p)
    return -rate * (exp_avg / exp_inf), {"exp_avg": exp_avg, "exp_inf": exp_inf}


_ADAMAX = register(
    Family(
        "Adamax",
        rule=_adamax,
        slots=lambda of: ("exp_avg", "exp_inf"),
        keeps_step=True,
        inert=_INERT,
        defaults={"maximize": False},
    )
)


def Adamax(
    lr: float | Schedule = 2e-3,
    betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Adam with the largest gradient in place of the mean square; ``torch.optim.Adamax``.

    Args:
        lr: a number, or an optax schedule of the number of steps made; so may be each beta.

    Raises:
        ValueError: a negative number, or a beta outside [0, 1).

    >>> tx, one = Adamax(lr=0.5), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].round(6).tolist()
    [-0.5, -0.5]

    Source: torch.optim.Adamax, PyTorch 2.13 documentation; Kingma and Ba, 2015.
    """
    check_rate("Adamax", lr=lr, eps=eps, weight_decay=weight_decay)
    check_betas("Adamax", betas)
    settings = {"betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
    return make(_ADAMAX, lr=lr, **settings, maximize=maximize)


def _nadam(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """The product of momenta is a float32 number, as torch keeps it."""
    b1, b2 = of["betas"]
    g, decay = _decayed(of, lr, g, p)
    lr, count = wide(lr, p), jnp.asarray(step, jnp.result_type(float))
    mu = b1 * (1 - 0.5 * 0.96 ** (count * of["momentum_decay"]))
    mu_next = b1 * (1 - 0.5 * 0.96 ** ((count + 1) * of["momentum_decay"]))
    product = slots["mu_product"] * mu.astype(jnp.float32)
    exp_avg, exp_avg_sq = _averages(of, g, slots)
    root = jnp.sqrt(exp_avg_sq / wide(correction(b2, step), p)) + of["eps"]
    sofar = product.astype(count.dtype)
    now = wide((1 - mu) / (1 - sofar), p)
    ahead = wide(mu_next / (1 - sofar * mu_next), p)
    delta = decay - lr * now * (g / root) - lr * ahead * (exp_avg / root)
    return delta, {"mu_product": product, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}


def _nadam_start(of: Settings, name: str, p: jax.Array) -> jax.Array:
    return jnp.ones((), jnp.float32) if name == "mu_product" else jnp.zeros_like(p)


_NADAM = register(
    Family(
        "NAdam",
        rule=_nadam,
        slots=lambda of: ("mu_product", "exp_avg", "exp_avg_sq"),
        keeps_step=True,
        initial=_nadam_start,
        scalars=("mu_product",),
        inert=_INERT,
        defaults={"maximize": False, "decoupled_weight_decay": False},
    )
)


def NAdam(
    lr: float | Schedule = 2e-3,
    betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Adam with Nesterov's momentum; the twin of ``torch.optim.NAdam``.

    Args:
        lr: a number, or an optax schedule of the number of steps made; so may be each beta.
        momentum_decay: how fast the momentum approaches its final value.
        decoupled_weight_decay: as in AdamW.

    Raises:
        ValueError: a negative number, or a beta outside [0, 1).

    >>> tx, one = NAdam(lr=0.5), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].shape
    (2,)

    Source: torch.optim.NAdam, PyTorch 2.13 documentation; Dozat, 2016.
    """
    check_rate("NAdam", lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
    check_betas("NAdam", betas)
    return make(
        _NADAM,
        lr=lr,
        betas=tuple(betas),
        eps=eps,
        weight_decay=weight_decay,
        momentum_decay=momentum_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        maximize=maximize,
    )


def _radam(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """Without the second moment until its variance is tractable."""
    b1, b2 = of["betas"]
    g, decay = _decayed(of, lr, g, p)
    exp_avg, exp_avg_sq = _averages(of, g, slots)
    mean = exp_avg / wide(correction(b1, step), p)
    count = jnp.asarray(step, jnp.result_type(float))
    second = correction(b2, step)
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * count * (b2**count) / second
    # the square root's argument is negative where the ratio is not used
    known = rho > 5
    safe = jnp.where(known, rho, 6.0)
    ratio = (safe - 4) * (safe - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * safe)
    scale = wide(jnp.sqrt(ratio * second), p)
    adapted = scale / (jnp.sqrt(exp_avg_sq) + of["eps"])
    delta = decay - wide(lr, p) * mean * jnp.where(known, adapted, 1)
    return delta, {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}


_RADAM = register(
    Family(
        "RAdam",
        rule=_radam,
        slots=lambda of: ("exp_avg", "exp_avg_sq"),
        keeps_step=True,
        inert=_INERT,
        defaults={"maximize": False, "decoupled_weight_decay": False},
    )
)


def RAdam(
    lr: float | Schedule = 1e-3,
    betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Adam that waits for its second moment to settle; the twin of ``torch.optim.RAdam``.

    Args:
        lr: a number, or an optax schedule of the number of steps made; so may be each beta.
        decoupled_weight_decay: as in AdamW.

    Raises:
        ValueError: a negative number, or a beta outside [0, 1).

    >>> tx, one = RAdam(lr=0.5), {"w": jnp.ones(2)}
    >>> tx.update(one, tx.init(one), one)[0]["w"].round(6).tolist()
    [-0.5, -0.5]

    Source: torch.optim.RAdam, PyTorch 2.13 documentation; Liu et al., 2020.
    """
    check_rate("RAdam", lr=lr, eps=eps, weight_decay=weight_decay)
    check_betas("RAdam", betas)
    return make(
        _RADAM,
        lr=lr,
        betas=tuple(betas),
        eps=eps,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        maximize=maximize,
    )
