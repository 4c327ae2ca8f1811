"""What the optimizers share: one state, one update loop, and what torch calls the parts.

A torch optimizer keeps, for every parameter, arrays of the parameter's shape under fixed names
(``exp_avg``, ``momentum_buffer``) and a step count. ``OptimizerState`` keeps the same arrays under
the same names, so one table serves both directions of the state converter. It also carries the
settings it was made with, as static data: they are found again in whatever ``optax.chain``,
``optax.partition`` or ``optax.MultiSteps`` wrap around it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = ["FAMILIES", "Family", "OptimizerState", "Settings", "make", "wide"]

Schedule = Callable[[Any], Any]
Slots = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """What holds for one torch optimizer whatever its settings are.

    Args:
        name: torch's class name.
        rule: the update of one parameter: ``rule(settings, lr, step, g, p, slots)`` returns what
            is added to ``p``, and the new slots. ``step`` counts from 1.
        slots: torch's names of the arrays it keeps per parameter, given the settings.
        keeps_step: whether torch keeps a step count per parameter.
        initial: what a slot starts with, given the settings, its name and the parameter; zeros of
            the parameter's shape unless given.
        scalars: slots that are one float32 number per parameter.
        keeps_at_start: torch makes the state with the optimizer, not with the first step.
        inert: keys of torch's parameter groups that say how to compute, not what.
        defaults: keys that older versions of torch do not write, with what they stand for.
    """

    name: str
    rule: Callable[[Settings, Any, jax.Array, jax.Array, jax.Array, Slots], tuple[jax.Array, Slots]]
    slots: Callable[[Settings], tuple[str, ...]]
    keeps_step: bool
    initial: Callable[[Settings, str, jax.Array], jax.Array] | None = None
    scalars: tuple[str, ...] = ()
    keeps_at_start: bool = False
    inert: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """An optimizer's arguments under torch's names; ``settings["betas"]``.

    >>> from fluxmod import optim
    >>> optim.AdamW(lr=1e-4).init({}).settings["weight_decay"]
    0.01
    """

    family: str
    items: tuple[tuple[str, Any], ...]

    def __getitem__(self, key: str) -> Any:
        return dict(self.items)[key]

    @property
    def slots(self) -> tuple[str, ...]:
        """Torch's names of the arrays kept per parameter."""
        return FAMILIES[self.family].slots(self)

    def lr_at(self, count: Any) -> Any:
        """Return the learning rate of the step that follows ``count`` steps."""
        lr = self["lr"]
        if not callable(lr):
            return lr
        # with x64 an int32 would still be divided in float32, so that the rate loses its digits
        return lr(jnp.asarray(count).astype(jnp.result_type(int)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OptimizerState:
    """State of one of our optimizers.

    ``count`` is the number of steps made, ``slots`` torch's per-parameter arrays by name, each
    with the structure of the parameters, and ``settings`` static.
    """

    count: jax.Array
    slots: dict[str, Any]
    settings: Settings = field(metadata={"static": True})


_families: dict[str, Family] = {}
FAMILIES: Mapping[str, Family] = MappingProxyType(_families)
"""Every optimizer by torch's class name."""


def register(family: Family) -> Family:
    """Add an optimizer to ``FAMILIES``; a name that is taken is an error."""
    if family.name in _families:
        raise RuntimeError(f"optim: {family.name} is registered twice.")
    _families[family.name] = family
    return family


def make(family: Family, **settings: Any) -> optax.GradientTransformation:
    """Build the gradient transformation of a family with its settings."""
    made = Settings(family.name, tuple(settings.items()))
    first = family.initial or zeros

    def init(params: Any) -> OptimizerState:
        slots = {
            name: jax.tree.map(functools.partial(first, made, name), params) for name in made.slots
        }
        return OptimizerState(jnp.zeros((), jnp.int32), slots, made)

    def update(grads: Any, state: OptimizerState, params: Any = None) -> tuple[Any, OptimizerState]:
        if params is None:
            raise ValueError(
                f"{family.name}: update() needs the parameters: tx.update(grads, state, params)."
            )
        lr, step = made.lr_at(state.count), optax.safe_increment(state.count)
        leaves, structure = jax.tree.flatten(grads)
        columns = [leaves, jax.tree.leaves(params)]
        columns += [jax.tree.leaves(state.slots[name]) for name in made.slots]
        deltas, kept = [], []
        for g, p, *own in zip(*columns, strict=True):
            delta, slots = family.rule(
                made, lr, step, g, p, dict(zip(made.slots, own, strict=True))
            )
            deltas.append(delta.astype(p.dtype))
            kept.append([slots[name] for name in made.slots])
        rows = dict(zip(made.slots, zip(*kept, strict=True), strict=True)) if kept else state.slots
        new = {
            name: jax.tree.unflatten(jax.tree.structure(state.slots[name]), list(rows[name]))
            for name in made.slots
        }
        return jax.tree.unflatten(structure, deltas), replace(state, count=step, slots=new)

    return optax.GradientTransformation(init, update)


def zeros(of: Settings, name: str, p: jax.Array) -> jax.Array:
    """The start of most slots."""
    del of, name
    return jnp.zeros_like(p)


def wide(value: Any, like: jax.Array) -> Any:
    """Cast a computed scalar to the array's dtype, at least float32; Python numbers stay.

    A float64 scalar would otherwise widen float32 arrays, and a bfloat16 one would lose digits.
    """
    if isinstance(value, (int, float)):
        return value
    return jnp.asarray(value).astype(jnp.promote_types(like.dtype, jnp.float32))


def check_betas(who: str, betas: tuple[float, float]) -> None:
    """Raise ValueError for a beta outside [0, 1)."""
    bad = [b for b in betas if not 0.0 <= b < 1.0]
    if bad:
        raise ValueError(f"{who}: betas must be in [0, 1), got {tuple(betas)}.")


def check_rate(who: str, **values: Any) -> None:
    """Raise ValueError for numbers below zero, all of them at once; schedules are not looked at."""
    bad = [f"{name}={v}" for name, v in values.items() if not callable(v) and not v >= 0.0]
    if bad:
        raise ValueError(f"{who}: expected values of at least 0, got {', '.join(bad)}.")
