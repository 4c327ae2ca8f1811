"""L-BFGS: quasi-Newton steps, several per call, with or without a line search."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._family import (
    Family,
    OptimizerState,
    Schedule,
    Settings,
    check_rate,
    register,
)
from ._wolfe import Found, axpy, dot, largest, strong_wolfe

__all__ = ["LBFGS"]


class _Memory(NamedTuple):
    """The last changes of the gradient and of the parameters, oldest first, ``held`` of them."""

    old_dirs: Any
    old_stps: Any
    ro: jax.Array
    held: jax.Array


class _Run(NamedTuple):
    """Where a step stands between two of its iterations."""

    x: Any
    g: Any
    loss: jax.Array
    d: Any
    t: jax.Array
    prev_g: Any
    prev_loss: jax.Array
    scale: jax.Array
    memory: _Memory
    iters: jax.Array
    total: jax.Array
    evals: jax.Array
    stop: jax.Array


_FAMILY = register(
    Family(
        "LBFGS",
        rule=None,
        slots=lambda of: ("d", "old_dirs", "old_stps", "prev_flat_grad"),
        keeps_step=False,
    )
)


def LBFGS(
    lr: float | Schedule = 1,
    max_iter: int = 20,
    max_eval: int | None = None,
    tolerance_grad: float = 1e-7,
    tolerance_change: float = 1e-9,
    history_size: int = 100,
    line_search_fn: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS, up to ``max_iter`` iterations per update; the twin of ``torch.optim.LBFGS``.

    ``update(grads, state, params, value=value, value_fn=value_fn)`` takes the gradients and the
    value at ``params``, as ``optax.lbfgs`` does, and ``value_fn(params)``, which it evaluates with
    its gradient wherever it looks: the place of torch's closure. ``Trainer`` passes all of them.

    Differs from torch: ``value_fn`` is pure, so what a model writes in its forward pass (running
    statistics) is written once per update, not once per evaluation. The memory is allocated for
    the whole ``history_size`` at once.

    Args:
        lr: a number, or an optax schedule of the number of updates made.
        line_search_fn: "strong_wolfe" or None for steps of length ``lr``.

    Raises:
        ValueError: a negative rate, another line search, no ``value_fn``.

    >>> def value_fn(params):
    ...     return jnp.sum((params["w"] - 3.0) ** 2)
    >>> tx, params = LBFGS(line_search_fn="strong_wolfe"), {"w": jnp.zeros(2)}
    >>> value, grads = jax.value_and_grad(value_fn)(params)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(grads, state, params, value=value, value_fn=value_fn)
    >>> [round(w, 3) for w in optax.apply_updates(params, updates)["w"].tolist()]
    [3.0, 3.0]

    Source: torch.optim.LBFGS, PyTorch 2.13 documentation; Nocedal and Wright, 2006, chapters 3, 7.
    """
    check_rate("LBFGS", lr=lr)
    if line_search_fn not in (None, "strong_wolfe"):
        raise ValueError(
            f"LBFGS: expected line_search_fn 'strong_wolfe' or None, got {line_search_fn!r}."
        )
    settings = {
        "lr": lr,
        "max_iter": max_iter,
        "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
        "tolerance_grad": tolerance_grad,
        "tolerance_change": tolerance_change,
        "history_size": history_size,
        "line_search_fn": line_search_fn,
    }
    made = Settings("LBFGS", tuple(settings.items()))
    return optax.GradientTransformationExtraArgs(
        functools.partial(_init, made), functools.partial(_update, made)
    )


def _init(made: Settings, params: Any) -> OptimizerState:
    if any(jnp.iscomplexobj(p) for p in jax.tree.leaves(params)):
        raise ValueError("LBFGS: expected real parameters, got complex ones.")
    size = made["history_size"]
    vector = jax.tree.map(jnp.zeros_like, params)
    history = jax.tree.map(lambda p: jnp.zeros((size, *p.shape), p.dtype), params)
    slots = {"d": vector, "old_dirs": history, "old_stps": history, "prev_flat_grad": vector}
    zero, none = jnp.zeros((), _dtype(params)), jnp.zeros((), jnp.int32)
    scalars = {
        "func_evals": none,
        "n_iter": none,
        "t": zero,
        "ro": jnp.zeros(size, zero.dtype),
        "held": none,
        "H_diag": jnp.ones_like(zero),
        "prev_loss": zero,
    }
    return OptimizerState(none, slots, made, scalars)


def _update(
    made: Settings,
    grads: Any,
    state: OptimizerState,
    params: Any = None,
    *,
    value: Any = None,
    value_fn: Callable[[Any], Any] | None = None,
    **extra: Any,
) -> tuple[Any, OptimizerState]:
    del extra
    if params is None or value is None or value_fn is None:
        raise ValueError(
            "LBFGS: update() evaluates the loss again and needs it: tx.update(grads, state, "
            "params, value=value, value_fn=value_fn)."
        )
    if not jax.tree.leaves(params):
        return grads, replace(state, count=optax.safe_increment(state.count))
    of = {**dict(made.items), "lr": made.lr_at(state.count)}
    run = _start(grads, state, params, value)
    run = _descend(of, jax.value_and_grad(value_fn), run)
    return jax.tree.map(jnp.subtract, run.x, params), _finish(state, run)


def _dtype(params: Any) -> Any:
    return jnp.result_type(jnp.float32, *jax.tree.leaves(params))


def _start(grads: Any, state: OptimizerState, params: Any, value: Any) -> _Run:
    slots, scalars = state.slots, state.scalars
    none = jnp.zeros((), jnp.int32)
    return _Run(
        x=params,
        g=grads,
        loss=jnp.asarray(value).astype(_dtype(params)),
        d=slots["d"],
        t=scalars["t"],
        prev_g=slots["prev_flat_grad"],
        prev_loss=scalars["prev_loss"],
        scale=scalars["H_diag"],
        memory=_Memory(slots["old_dirs"], slots["old_stps"], scalars["ro"], scalars["held"]),
        iters=none,
        total=scalars["n_iter"],
        evals=none + 1,
        stop=jnp.zeros((), bool),
    )


def _finish(state: OptimizerState, run: _Run) -> OptimizerState:
    memory = run.memory
    slots = {
        "d": run.d,
        "old_dirs": memory.old_dirs,
        "old_stps": memory.old_stps,
        "prev_flat_grad": run.prev_g,
    }
    scalars = {
        "func_evals": state.scalars["func_evals"] + run.evals,
        "n_iter": run.total,
        "t": run.t,
        "ro": memory.ro,
        "held": memory.held,
        "H_diag": run.scale,
        "prev_loss": run.prev_loss,
    }
    count = optax.safe_increment(state.count)
    return replace(state, count=count, slots=slots, scalars=scalars)


def _descend(of: Mapping[str, Any], evaluate: Callable[[Any], Any], run: _Run) -> _Run:
    """Iterate until one of torch's conditions ends the step."""

    def step(run: _Run) -> _Run:
        first = run.total == 0
        run = run._replace(iters=run.iters + 1, total=run.total + 1)
        d, memory, scale = jax.lax.cond(first, _steepest, _newton, run)
        short = jnp.minimum(1.0, 1.0 / sum(jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(run.g)))
        t = (jnp.where(first, short, 1.0) * of["lr"]).astype(run.t.dtype)
        slope = dot(run.g, d).astype(run.t.dtype)
        run = run._replace(d=d, memory=memory, scale=scale, t=t, prev_g=run.g, prev_loss=run.loss)
        flat = slope > -of["tolerance_change"]
        return jax.lax.cond(flat, lambda run, _: run._replace(stop=flat), move, run, slope)

    def move(run: _Run, slope: jax.Array) -> _Run:
        if of["line_search_fn"] is None:
            run, found = _fixed(of, evaluate, run)
        else:
            allowed = of["max_eval"] - run.evals
            found = strong_wolfe(evaluate, run.x, run.t, run.d, run.loss, run.g, slope, allowed)
            run = run._replace(x=axpy(found.t, run.d, run.x))
        evals = run.evals + found.evals
        moved = largest(run.d) * jnp.abs(found.t)
        stop = (
            (run.iters == of["max_iter"])
            | (evals >= of["max_eval"])
            | (largest(found.grad) <= of["tolerance_grad"])
            | (moved <= of["tolerance_change"])
            | (jnp.abs(found.value - run.prev_loss) < of["tolerance_change"])
        )
        return run._replace(loss=found.value, g=found.grad, t=found.t, evals=evals, stop=stop)

    run = run._replace(stop=(largest(run.g) <= of["tolerance_grad"]) | (of["max_iter"] <= 0))
    return jax.lax.while_loop(lambda r: ~r.stop, step, run)


def _fixed(of: Mapping[str, Any], evaluate: Callable[[Any], Any], run: _Run) -> tuple[_Run, Found]:
    """Step by ``t``; the last iteration is not evaluated, nobody would look."""
    run = run._replace(x=axpy(run.t, run.d, run.x))

    def look(run: _Run) -> Found:
        value, grad = evaluate(run.x)
        return Found(value.astype(run.loss.dtype), grad, run.t, jnp.ones((), jnp.int32))

    def leave(run: _Run) -> Found:
        return Found(run.loss, run.g, run.t, jnp.zeros((), jnp.int32))

    return run, jax.lax.cond(run.iters == of["max_iter"], leave, look, run)


def _steepest(run: _Run) -> tuple[Any, _Memory, jax.Array]:
    """The first direction, with an empty memory."""
    memory = run.memory._replace(held=jnp.zeros_like(run.memory.held))
    return jax.tree.map(jnp.negative, run.g), memory, jnp.ones_like(run.scale)


def _newton(run: _Run) -> tuple[Any, _Memory, jax.Array]:
    """The direction by the two-loop recursion over the memory, which takes in the last step."""
    y = jax.tree.map(jnp.subtract, run.g, run.prev_g)
    s = jax.tree.map(lambda d: (d * run.t).astype(d.dtype), run.d)
    ys, dtype = dot(y, s), run.scale.dtype
    keep = ys > 1e-10
    memory = jax.lax.cond(keep, _pushed, lambda m, *_: m, run.memory, y, s, 1.0 / ys)
    scale = jnp.where(keep, ys / dot(y, y), run.scale).astype(dtype)
    old_dirs, old_stps, ro, held = memory

    def entry(history: Any, i: Any) -> Any:
        return jax.tree.map(lambda h: jax.lax.dynamic_index_in_dim(h, i, keepdims=False), history)

    def down(k: Any, carry: Any) -> Any:
        q, al = carry
        i = held - 1 - k
        a = (dot(entry(old_stps, i), q) * ro[i]).astype(dtype)
        return axpy(-a, entry(old_dirs, i), q), al.at[i].set(a)

    def up(i: Any, r: Any) -> Any:
        b = (dot(entry(old_dirs, i), r) * ro[i]).astype(dtype)
        return axpy(al[i] - b, entry(old_stps, i), r)

    q, al = jax.lax.fori_loop(
        0, held, down, (jax.tree.map(jnp.negative, run.g), jnp.zeros_like(ro))
    )
    r = jax.tree.map(lambda q: (q * scale).astype(q.dtype), q)
    return jax.lax.fori_loop(0, held, up, r), memory, scale


def _pushed(memory: _Memory, y: Any, s: Any, ro: jax.Array) -> _Memory:
    """Append to the memory; a full one forgets its oldest entry."""
    size = memory.ro.shape[0]
    full = memory.held == size
    at = jnp.where(full, size - 1, memory.held)

    def push(history: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(full, jnp.roll(history, -1, 0), history).at[at].set(new)

    return _Memory(
        jax.tree.map(push, memory.old_dirs, y),
        jax.tree.map(push, memory.old_stps, s),
        push(memory.ro, ro.astype(memory.ro.dtype)),
        jnp.where(full, memory.held, memory.held + 1),
    )
