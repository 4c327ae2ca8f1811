"""Adafactor: second moments of matrices as the product of a row and a column."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._family import (
    Absent,
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

__all__ = ["Adafactor"]


def _rule(
    of: Settings, lr: Any, step: jax.Array, g: jax.Array, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    """Rows and columns are torch's last two axes, also those of a convolution's kernel."""
    tiny, smallest = of["eps"]
    tiny = float(jnp.finfo(p.dtype).eps) if tiny is None else tiny
    g, now = (-g if of["maximize"] else g), step.astype(jnp.result_type(float))
    weight = wide(now ** of["beta2_decay"], p)
    alpha = _larger(smallest, _rms(p)) * wide(jnp.minimum(lr, 1 / jnp.sqrt(now)), p)
    square = g * g
    new: Slots
    if "variance" in slots:
        new = {"variance": lerp(slots["variance"], square, weight)}
        estimate = new["variance"]
    else:
        rows = lerp(slots["row_var"], jnp.mean(square, -1, keepdims=True), weight)
        columns = lerp(slots["col_var"], jnp.mean(square, -2, keepdims=True), weight)
        new = {"row_var": rows, "col_var": columns}
        estimate = rows * columns / jnp.maximum(jnp.mean(rows, -2, keepdims=True), tiny)
    move = g / jnp.sqrt(jnp.maximum(estimate, tiny * tiny))
    delta = -alpha / _larger(1.0, _rms(move) / of["d"]) * move
    decay = of["weight_decay"]
    return (delta - wide(lr, p) * decay * p if decay else delta), new


def _rms(array: jax.Array) -> jax.Array:
    return jnp.linalg.norm(jnp.ravel(array)) / array.size**0.5


def _larger(least: float, value: jax.Array) -> jax.Array:
    """Python's ``max(least, value)``: a NaN counts as smaller."""
    return jnp.where(value > least, value, least)


def _start(of: Settings, name: str, p: jax.Array) -> Any:
    """Vectors have a variance, everything with two axes or more a row and a column of it."""
    del of
    if (name == "variance") != (p.ndim < 2):
        return Absent()
    if name == "variance":
        return jnp.zeros_like(p)
    *leading, rows, columns = p.shape
    return jnp.zeros((*leading, rows, 1) if name == "row_var" else (*leading, 1, columns), p.dtype)


_FAMILY = register(
    Family(
        "Adafactor",
        rule=_rule,
        slots=lambda of: ("row_var", "col_var", "variance"),
        keeps_step=True,
        initial=_start,
        layout=True,
        inert={"foreach": None},
        defaults={"maximize": False},
    )
)


def Adafactor(
    lr: float | Schedule = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    *,
    maximize: bool = False,
    torch_axes: TorchAxes | None = None,
) -> optax.GradientTransformation:
    """Adafactor with torch's relative rate; the twin of ``torch.optim.Adafactor``.

    Averages are over rows and columns as torch has them, so the order of axes matters.
    ``state.slots["row_var"]`` and ``["col_var"]`` are stored with the axes of their parameter.

    Args:
        lr: a number, or an optax schedule of the number of steps made.
        eps: what the estimate of the variance and the size of the parameter are at least; None is
            the dtype's resolution.
        torch_axes: how each parameter's axes come into torch's order, as
            ``convert.torch_axes(model)`` says it. Plain arrays without it are taken as torch's;
            the parameters of a module need it.

    Raises:
        ValueError: a number outside torch's range; a module's parameters without ``torch_axes``.

    >>> params = {"w": jnp.ones((2, 3))}
    >>> tx = Adafactor(lr=0.5)
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> updates["w"][0].round(4).tolist(), state.slots["row_var"]["w"].shape
    ([-0.5, -0.5, -0.5], (2, 1))

    Source: torch.optim.Adafactor, PyTorch 2.13 documentation; Shazeer and Stern, 2018.
    """
    tiny, smallest = eps
    known: dict[str, Any] = {"eps[0]": 0.0 if tiny is None else tiny, "eps[1]": smallest}
    check_rate("Adafactor", lr=lr, weight_decay=weight_decay, **known)
    if beta2_decay > 0.0:
        raise ValueError(f"Adafactor: expected beta2_decay of at most 0, got {beta2_decay}.")
    if not d >= 1.0:
        raise ValueError(f"Adafactor: expected a threshold d of at least 1, got {d}.")
    return make(
        _FAMILY,
        torch_axes,
        lr=lr,
        beta2_decay=beta2_decay,
        eps=tuple(eps),
        d=d,
        weight_decay=weight_decay,
        maximize=maximize,
    )
