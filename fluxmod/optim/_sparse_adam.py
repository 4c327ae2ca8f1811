"""SparseAdam: Adam that leaves alone what has no gradient."""

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
    lerp,
    make,
    register,
    wide,
)
from ._layout import TorchAxes

__all__ = ["SparseAdam"]


def _rule(
    of: Settings, lr: Any, step: jax.Array, g: Any, p: jax.Array, slots: Slots
) -> tuple[jax.Array, Slots]:
    b1, b2 = of["betas"]
    g, touched = _dense(g)
    g = -g if of["maximize"] else g
    first = jnp.where(touched, lerp(slots["exp_avg"], g, wide(1 - b1, p)), slots["exp_avg"])
    second = jnp.where(
        touched, lerp(slots["exp_avg_sq"], g * g, wide(1 - b2, p)), slots["exp_avg_sq"]
    )
    rate = wide(lr, p) * wide(jnp.sqrt(correction(b2, step)) / correction(b1, step), p)
    move = -rate * first / (jnp.sqrt(second) + of["eps"])
    return jnp.where(touched, move, 0), {"exp_avg": first, "exp_avg_sq": second}


def _dense(g: Any) -> tuple[jax.Array, jax.Array]:
    """The gradient as an array, and where it has entries: of a dense one, the rows not all zero."""
    if not hasattr(g, "todense"):
        return g, jnp.any(g != 0, tuple(range(1, g.ndim)), keepdims=True)
    if g.n_batch:
        raise ValueError(f"SparseAdam: expected gradients without batch axes, got {g.n_batch}.")
    held = jnp.zeros(g.shape[: g.n_sparse], bool)
    held = held.at[tuple(g.indices.T)].set(True, mode="drop")
    return g.todense(), held.reshape(held.shape + (1,) * g.n_dense)


_FAMILY = register(
    Family(
        "SparseAdam",
        rule=_rule,
        slots=lambda of: ("exp_avg", "exp_avg_sq"),
        keeps_step=True,
        int_step=True,
        layout=True,
        sparse=True,
        defaults={"maximize": False},
    )
)


def SparseAdam(
    lr: float | Schedule = 1e-3,
    betas: tuple[float | Schedule, float | Schedule] = (0.9, 0.999),
    eps: float = 1e-8,
    maximize: bool = False,
    *,
    torch_axes: TorchAxes | None = None,
) -> optax.GradientTransformation:
    """Adam on the rows that have a gradient; the twin of ``torch.optim.SparseAdam``.

    A gradient may be a ``jax.experimental.sparse.BCOO``: what it lists is updated, as in torch. Of
    a dense gradient the rows (torch's first axis) that are not all zero are.

    Differs from torch: a dense gradient is taken, and a row that was used but has a gradient of
    exactly zero cannot be told from one that was not used; torch updates it.

    Args:
        lr: a number, or an optax schedule of the number of steps made; so may be each beta.
        torch_axes: how each parameter's axes come into torch's order, as
            ``convert.torch_axes(model)`` says it. Plain arrays without it are taken as torch's;
            the parameters of a module need it.

    Raises:
        ValueError: a number outside torch's range; a module's parameters without ``torch_axes``.

    >>> tx, params = SparseAdam(lr=0.5), {"w": jnp.ones((2, 2))}
    >>> grads = {"w": jnp.array([[0.0, 0.0], [0.0, 1.0]])}
    >>> updates, _ = tx.update(grads, tx.init(params), params)
    >>> optax.apply_updates(params, updates)["w"].round(4).tolist()
    [[1.0, 1.0], [1.0, 0.5]]

    Source: torch.optim.SparseAdam, PyTorch 2.13 documentation.
    """
    for name, value in (("lr", lr), ("eps", eps)):
        if not callable(value) and not value > 0.0:
            raise ValueError(f"SparseAdam: expected {name} above 0, got {value}.")
    check_betas("SparseAdam", betas)
    return make(_FAMILY, torch_axes, lr=lr, betas=tuple(betas), eps=eps, maximize=maximize)
