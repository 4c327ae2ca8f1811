"""The line search of L-BFGS: bracket a point that satisfies the strong Wolfe conditions, zoom in.

Decisions are torch's, with Python's ``min`` and ``max`` where NaN decides.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Found", "axpy", "dot", "largest", "strong_wolfe"]

Evaluate = Callable[[Any], tuple[jax.Array, Any]]

C1, C2 = 1e-4, 0.9
TOLERANCE = 1e-9
"""Torch's constants; the search does not get the optimizer's ``tolerance_change``."""


class Found(NamedTuple):
    """Where a search ended: value and gradient there, step length, evaluations made."""

    value: jax.Array
    grad: Any
    t: jax.Array
    evals: jax.Array


class _Point(NamedTuple):
    """A step length with the value, the gradient and its slope there."""

    t: jax.Array
    f: jax.Array
    g: Any
    slope: jax.Array


class _Bracketing(NamedTuple):
    before: _Point
    now: _Point
    iters: jax.Array
    bracketed: jax.Array
    done: jax.Array


class _Zooming(NamedTuple):
    ends: tuple[_Point, _Point]
    low_is_first: jax.Array
    insufficient: jax.Array
    iters: jax.Array
    done: jax.Array


def dot(a: Any, b: Any) -> jax.Array:
    """Return the scalar product of two trees taken as vectors."""
    products = map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b))
    return functools.reduce(operator.add, products)


def largest(tree: Any) -> jax.Array:
    """Return the largest size of an element of a tree."""
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree) if leaf.size]
    return functools.reduce(jnp.maximum, sizes)


def axpy(t: Any, d: Any, x: Any) -> Any:
    """Return ``x + t * d``, in the dtypes of ``x``."""
    return jax.tree.map(lambda d, x: (x + t * d).astype(x.dtype), d, x)


def strong_wolfe(
    evaluate: Evaluate, x: Any, t: Any, d: Any, f: Any, g: Any, slope: Any, max_iters: Any
) -> Found:
    """Search along ``d`` from ``x``, where value, gradient and slope are ``f``, ``g``, ``slope``.

    Args:
        t: the first step length to try.
        max_iters: evaluations after the first one.
    """

    def at(t: jax.Array) -> _Point:
        value, grad = evaluate(axpy(t, d, x))
        return _Point(t, value.astype(slope.dtype), grad, dot(grad, d).astype(slope.dtype))

    start = _Point(jnp.zeros_like(slope), f, g, slope)
    found = _bracket(at, start, at(t), max_iters)
    exhausted = found.iters == max_iters
    first = _choose(exhausted, start, _choose(found.done, found.now, found.before))
    ended = _zoom(at, start, (first, found.now), found, max_iters, largest(d))
    low = _choose(ended.low_is_first, *ended.ends)
    return Found(low.f, low.g, low.t, ended.iters + 1)


def _bracket(
    at: Callable[[jax.Array], _Point], start: _Point, first: _Point, max_iters: Any
) -> _Bracketing:
    """Go on, further each time, until two neighbours bracket a point or one point will do."""

    def going(s: _Bracketing) -> jax.Array:
        return (s.iters < max_iters) & ~s.bracketed & ~s.done

    def step(s: _Bracketing) -> _Bracketing:
        now, before = s.now, s.before
        rises = (now.f > start.f + C1 * now.t * start.slope) | ((s.iters > 1) & (now.f >= before.f))
        flat = ~rises & (jnp.abs(now.slope) <= -C2 * start.slope)
        bracketed = rises | (~flat & (now.slope >= 0))

        def further(s: _Bracketing) -> _Bracketing:
            bounds = (now.t + 0.01 * (now.t - before.t), now.t * 10)
            return s._replace(
                before=now, now=at(_interpolated(before, now, bounds)), iters=s.iters + 1
            )

        s = s._replace(bracketed=bracketed, done=flat)
        return jax.lax.cond(bracketed | flat, lambda s: s, further, s)

    no = jnp.zeros((), bool)
    begin = _Bracketing(start, first, jnp.zeros((), jnp.int32), no, no)
    return jax.lax.while_loop(going, step, begin)


def _zoom(
    at: Callable[[jax.Array], _Point],
    start: _Point,
    ends: tuple[_Point, _Point],
    found: _Bracketing,
    max_iters: Any,
    size: jax.Array,
) -> _Zooming:
    """Shrink the bracket until a point in it satisfies the conditions, or it is tiny."""

    def going(s: _Zooming) -> jax.Array:
        tiny = jnp.abs(s.ends[1].t - s.ends[0].t) * size < TOLERANCE
        return ~s.done & (s.iters < max_iters) & ~tiny

    def step(s: _Zooming) -> _Zooming:
        t, insufficient = _trial(s)
        new, low, high = (
            at(t),
            _choose(s.low_is_first, *s.ends),
            _choose(s.low_is_first, *s.ends[::-1]),
        )
        worse = (new.f > start.f + C1 * t * start.slope) | (new.f >= low.f)
        done = ~worse & (jnp.abs(new.slope) <= -C2 * start.slope)
        turned = ~worse & ~done & (new.slope * (high.t - low.t) >= 0)
        low, high = _choose(worse, low, new), _choose(worse, new, _choose(turned, low, high))
        ends = (_choose(s.low_is_first, low, high), _choose(s.low_is_first, high, low))
        low_is_first = jnp.where(worse, ends[0].f <= ends[1].f, s.low_is_first)
        return _Zooming(ends, low_is_first, insufficient, s.iters + 1, done)

    low_is_first = ends[0].f <= ends[1].f
    begin = _Zooming(ends, low_is_first, jnp.zeros((), bool), found.iters, found.done)
    return jax.lax.while_loop(going, step, begin)


def _trial(s: _Zooming) -> tuple[jax.Array, jax.Array]:
    """The next step length, kept a tenth away from the ends if it comes too close twice."""
    a, b = s.ends
    t = _interpolated(a, b, None)
    least, most = _least(a.t, b.t), _most(a.t, b.t)
    margin = 0.1 * (most - least)
    close = _least(most - t, t - least) < margin
    move = close & (s.insufficient | (t >= most) | (t <= least))
    inside = jnp.where(jnp.abs(t - most) < jnp.abs(t - least), most - margin, least + margin)
    return jnp.where(move, inside, t), close & ~move


def _interpolated(a: _Point, b: _Point, bounds: tuple[Any, Any] | None) -> jax.Array:
    """The minimum of the cubic through two points with their slopes, within the bounds."""
    ordered = a.t <= b.t
    low, high = bounds or (jnp.where(ordered, a.t, b.t), jnp.where(ordered, b.t, a.t))
    d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    d2 = jnp.sqrt(square)
    up = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    down = a.t - (a.t - b.t) * ((a.slope + d2 - d1) / (a.slope - b.slope + 2 * d2))
    inside = _least(_most(jnp.where(ordered, up, down), low), high)
    return jnp.where(square >= 0, inside, (low + high) / 2)


def _choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda y, n: jnp.where(condition, y, n), yes, no)


def _least(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b < a, b, a)


def _most(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b > a, b, a)
