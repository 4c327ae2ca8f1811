"""Adam and AdamW, with and without amsgrad."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

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

__all__ = ["Adam", "AdamW", "correction"]

_INERT = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}


def _rule(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """``eps`` is added outside the root; amsgrad keeps the maximum of the uncorrected average."""
    b1, b2 = of["betas"]
    decay, decoupled = of["weight_decay"], of["decoupled_weight_decay"]
    g = -g if of["maximize"] else g
    if decay and not decoupled:
        g = g + decay * p
    exp_avg = lerp(slots["exp_avg"], g, wide(1 - b1, p))
    exp_avg_sq = wide(b2, p) * slots["exp_avg_sq"] + wide(1 - b2, p) * g * g
    new = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    if of["amsgrad"]:
        new["max_exp_avg_sq"] = jnp.maximum(slots["max_exp_avg_sq"], exp_avg_sq)
    second = new["max_exp_avg_sq"] if of["amsgrad"] else exp_avg_sq
    lr = wide(lr, p)
    scale = lr / wide(correction(b1, step), p)
    delta = -scale * (
        exp_avg / (jnp.sqrt(second) / wide(jnp.sqrt(correction(b2, step)), p) + of["eps"])
    )
    if decay and decoupled:
        delta = delta - lr * decay * p
    return delta, new


def correction(beta: Any, step: jax.Array) -> Any:
    """``1 - beta**step``, without the cancellation that costs float32 four digits at step 1."""
    if isinstance(beta, (int, float)):
        return -jnp.expm1(step * math.log(beta)) if beta else 1.0
    return -jnp.expm1(step.astype(beta.dtype) * jnp.log(beta))


def _slots(of: Settings) -> tuple[str, ...]:
    return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if of["amsgrad"] else ()))


def _family(name: str, decoupled: bool) -> Family:
    defaults = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": decoupled}
    return register(Family(name, _rule, _slots, keeps_step=True, inert=_INERT, defaults=defaults))


_ADAM = _family("Adam", decoupled=False)
_ADAMW = _family("AdamW", decoupled=True)


def Adam(
    lr: float | Schedule = 1e-3,
    betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    """Adam, weight decay added to the gradient; the twin of ``torch.optim.Adam``.

    Args:
        lr: a number, or an optax schedule of the number of steps made.
        betas: likewise, each; the cyclic schedulers give the first.

    Raises:
        ValueError: a negative number, or a beta outside [0, 1).

    >>> tx = Adam(lr=0.5)
    >>> updates, _ = tx.update({"w": jnp.ones(2)}, tx.init({"w": jnp.ones(2)}), {"w": jnp.ones(2)})
    >>> updates["w"].round(6).tolist()
    [-0.5, -0.5]

    Source: torch.optim.Adam, PyTorch 2.13 documentation; Kingma and Ba, 2015; Reddi et al., 2018.
    """
    return _adam(
        _ADAM, lr, betas, eps, weight_decay, amsgrad, maximize, bool(decoupled_weight_decay)
    )


def AdamW(
    lr: float | Schedule = 1e-3,
    betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay; the twin of ``torch.optim.AdamW``.

    Decays by ``lr * weight_decay``; the default of ``weight_decay`` is torch's 1e-2. Arguments and
    errors as in ``Adam``.

    >>> tx = AdamW(lr=0.5)
    >>> zero = {"w": jnp.zeros(1)}
    >>> round(tx.update(zero, tx.init(zero), {"w": jnp.ones(1)})[0]["w"].item(), 6)
    -0.005

    Source: torch.optim.AdamW, PyTorch 2.13 documentation; Loshchilov and Hutter, 2019.
    """
    return _adam(_ADAMW, lr, betas, eps, weight_decay, amsgrad, maximize, True)


def _adam(
    family: Family,
    lr: Any,
    betas: tuple[float | Schedule, float | Schedule],
    eps: float,
    weight_decay: float,
    amsgrad: bool,
    maximize: bool,
    decoupled: bool,
) -> optax.GradientTransformation:
    check_rate(family.name, lr=lr, eps=eps, weight_decay=weight_decay)
    check_betas(family.name, betas)
    return make(
        family,
        lr=lr,
        betas=tuple(betas),
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        maximize=maximize,
        decoupled_weight_decay=decoupled,
    )
