"""Muon: momentum whose matrix is replaced by the nearest orthogonal one."""

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
    check_rate,
    lerp,
    make,
    register,
    wide,
)
from ._layout import TorchAxes

__all__ = ["Muon"]

_ADJUST = (None, "original", "match_rms_adamw")


def _rule(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    del step
    momentum = wide(of["momentum"], p)
    buffer = lerp(slots["momentum_buffer"], g, 1 - momentum)
    update = lerp(g, buffer, momentum) if of["nesterov"] else buffer
    scaled = _scaled(update, of["eps"])
    if p.dtype == jnp.bfloat16 and not of["nesterov"]:
        buffer = scaled  # torch scales in place, and in bfloat16 that place is the buffer
    rows, columns = p.shape
    turned = scaled.T if rows > columns else scaled
    turned = _orthogonal(turned, of["ns_coefficients"], of["ns_steps"])
    update = (turned.T if rows > columns else turned).astype(jnp.promote_types(p.dtype, "float32"))
    lr = wide(lr, p)
    delta = -lr * _ratio(of["adjust_lr_fn"], rows, columns) * update
    return delta - lr * of["weight_decay"] * p, {"momentum_buffer": buffer}


def _scaled(update: jax.Array, eps: float) -> jax.Array:
    """Bring the spectral norm to at most 1, in bfloat16."""
    update = _rounded(update)
    norm = _rounded(jnp.linalg.norm(jnp.ravel(update)))
    return _rounded(update / jnp.maximum(norm, eps))


def _orthogonal(x: jax.Array, coefficients: Any, steps: int) -> jax.Array:
    """Newton-Schulz iterations in bfloat16; where torch rounds, this rounds."""
    a, b, c = coefficients
    for _ in range(steps):
        gram = _rounded(_product(x, x.T))
        update = _rounded(b * gram + c * _product(gram, gram))
        x = _rounded(a * x + _product(update, x))
    return x


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """The product of bfloat16 values, summed in float32 and not rounded yet."""
    return jnp.matmul(
        a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32
    )


def _rounded(x: jax.Array) -> jax.Array:
    """The values of bfloat16 in float32; XLA drops a cast there and back."""
    return jax.lax.reduce_precision(x.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)


def _ratio(adjust: str | None, rows: int, columns: int) -> float:
    if adjust == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _check(p: Any) -> None:
    if p.ndim != 2:
        raise ValueError(
            f"Muon: expected parameters with 2 axes, got shape {tuple(p.shape)}. Train the others "
            "with another optimizer, through optax.partition."
        )


_FAMILY = register(
    Family(
        "Muon",
        rule=_rule,
        slots=lambda of: ("momentum_buffer",),
        keeps_step=False,
        layout=True,
        check=_check,
    )
)


def Muon(
    lr: float | Schedule = 1e-3,
    weight_decay: float = 0.1,
    momentum: float | Schedule = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    *,
    torch_axes: TorchAxes | None = None,
) -> optax.GradientTransformation:
    """Muon for matrices; the twin of ``torch.optim.Muon``.

    The iterations run in bfloat16 whatever the parameters are, as in torch. Its products on this
    platform may be summed in another order, so that now and then one element is rounded the other
    way.

    Args:
        lr: a number, or an optax schedule of the number of steps made; so may be ``momentum``.
        adjust_lr_fn: "original" (also None) or "match_rms_adamw".
        torch_axes: how each parameter's axes come into torch's order, as
            ``convert.torch_axes(model)`` says it: the rate goes by the shape (outputs, inputs).
            Plain arrays without it are taken as torch's; the parameters of a module need it.

    Raises:
        ValueError: a negative number, 100 steps or more, not three coefficients; a parameter that
            is no matrix; a module's parameters without ``torch_axes``.

    >>> tx, params, grads = Muon(lr=0.5, weight_decay=0), {"w": jnp.eye(2)}, {"w": jnp.eye(2)}
    >>> tx.update(grads, tx.init(params), params)[0]["w"].astype(int).tolist()
    [[0, 0], [0, 0]]

    Source: torch.optim.Muon, PyTorch 2.13 documentation; Jordan, 2024.
    """
    check_rate("Muon", lr=lr, momentum=momentum, weight_decay=weight_decay)
    if adjust_lr_fn not in _ADJUST:
        raise ValueError(f"Muon: expected adjust_lr_fn of {_ADJUST}, got {adjust_lr_fn!r}.")
    if len(ns_coefficients) != 3:
        raise ValueError(f"Muon: expected 3 ns_coefficients, got {tuple(ns_coefficients)}.")
    if ns_steps >= 100:
        raise ValueError(f"Muon: expected fewer than 100 ns_steps, got {ns_steps}.")
    return make(
        _FAMILY,
        torch_axes,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        nesterov=nesterov,
        ns_coefficients=tuple(ns_coefficients),
        eps=eps,
        ns_steps=ns_steps,
        adjust_lr_fn=adjust_lr_fn,
    )
