"""What the optimizers share: one state, one update loop, and what torch calls the parts.

A torch optimizer keeps, for every parameter, arrays of the parameter's shape under fixed names
(``exp_avg``, ``momentum_buffer``) and a step count. ``OptimizerState`` keeps the same arrays under
the same names, so one table serves both directions of the state converter. It also carries the
settings it was made with, as static data: they are found again in whatever ``optax.chain``,
``optax.partition`` or ``optax.MultiSteps`` wrap around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ._layout import TorchAxes, axes_of, to_flax, to_torch

__all__ = ["FAMILIES", "Family", "OptimizerState", "Settings", "make", "wide"]

Schedule = Callable[[Any], Any]
Slots = dict[str, Any]


# settings, rate, step, gradient, parameter and its slots to what is added, and the new slots
Rule = Callable[["Settings", Any, jax.Array, Any, jax.Array, Slots], tuple[jax.Array, Slots]]


@jax.tree_util.register_static
@dataclass(frozen=True, slots=True)
class Absent:
    """Stands in a slot's tree for a parameter that has no such array."""


@dataclass(frozen=True, slots=True)
class Family:
    """What holds for one torch optimizer whatever its settings are.

    Args:
        name: torch's class name.
        rule: the update of one parameter: ``rule(settings, lr, step, g, p, slots)`` returns what
            is added to ``p``, and the new slots. ``step`` counts from 1. None where the parameters
            are no more than parts of one vector (LBFGS).
        slots: torch's names of the arrays it keeps per parameter, given the settings.
        keeps_step: whether torch keeps a step count per parameter.
        initial: what a slot starts with, given the settings, its name and the parameter; zeros of
            the parameter's shape unless given. ``Absent()`` where this parameter has none.
        scalars: slots that are one float32 number per parameter.
        keeps_at_start: torch makes the state with the optimizer, not with the first step.
        int_step: torch's step count is an int, not a float32 tensor.
        layout: the result depends on the order of axes; ``rule`` and ``initial`` get torch's.
        sparse: ``rule`` also takes a gradient in ``jax.experimental.sparse.BCOO``.
        check: raises for a parameter that torch's class does not take.
        inert: keys of torch's parameter groups that say how to compute, not what.
        defaults: keys that older versions of torch do not write, with what they stand for.
    """

    name: str
    rule: Rule | None
    slots: Callable[[Settings], tuple[str, ...]]
    keeps_step: bool
    initial: Callable[[Settings, str, jax.Array], Any] | None = None
    scalars: tuple[str, ...] = ()
    keeps_at_start: bool = False
    int_step: bool = False
    layout: bool = False
    sparse: bool = False
    check: Callable[[Any], None] | None = None
    inert: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """An optimizer's arguments under torch's names; ``settings["betas"]``.

    ``torch_axes`` is what an optimizer that depends on the order of axes was told about it.

    >>> from fluxmod import optim
    >>> optim.AdamW(lr=1e-4).init({}).settings["weight_decay"]
    0.01
    """

    family: str
    items: tuple[tuple[str, Any], ...]
    torch_axes: tuple[tuple[str, tuple[int, ...]], ...] | None = None

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

    def at(self, count: Any) -> Settings:
        """Return the settings of the step that follows ``count`` steps, schedules evaluated."""
        if not any(is_scheduled(value) for _, value in self.items):
            return self
        count = jnp.asarray(count).astype(jnp.result_type(int))
        return replace(self, items=tuple((name, _at(v, count)) for name, v in self.items))


def is_scheduled(value: Any) -> bool:
    """Whether a setting is a schedule, or a tuple with one."""
    return any(map(is_scheduled, value)) if isinstance(value, tuple) else callable(value)


def _at(value: Any, count: jax.Array) -> Any:
    if isinstance(value, tuple):
        return tuple(_at(v, count) for v in value)
    return value(count) if callable(value) else value


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OptimizerState:
    """State of one of our optimizers.

    ``count`` is the number of steps made, ``slots`` torch's per-parameter arrays by name, each
    with the structure of the parameters, ``scalars`` what torch keeps once for all of them (LBFGS
    alone does), and ``settings`` static.
    """

    count: jax.Array
    slots: dict[str, Any]
    settings: Settings = field(metadata={"static": True})
    scalars: dict[str, Any] = field(default_factory=dict)


_families: dict[str, Family] = {}
FAMILIES: Mapping[str, Family] = MappingProxyType(_families)
"""Every optimizer by torch's class name."""


def register(family: Family) -> Family:
    """Add an optimizer to ``FAMILIES``; a name that is taken is an error."""
    if family.name in _families:
        raise RuntimeError(f"optim: {family.name} is registered twice.")
    _families[family.name] = family
    return family


def make(
    family: Family, torch_axes: TorchAxes | None = None, /, **settings: Any
) -> optax.GradientTransformation:
    """Build the gradient transformation of a family with its settings."""
    axes = None
    if torch_axes is not None:
        axes = tuple(sorted((path, tuple(order)) for path, order in torch_axes.items()))
    made = Settings(family.name, tuple(settings.items()), axes)
    first, rule = family.initial or zeros, family.rule
    if rule is None:
        raise RuntimeError(f"optim: {family.name} has no rule for one parameter.")

    def init(params: Any) -> OptimizerState:
        leaves, structure = jax.tree.flatten(params)
        orders = _orders(family, made, params)

        def start(name: str, p: Any, order: Any) -> Any:
            value = first(made, name, to_torch(p, order))
            return value if is_absent(value) else to_flax(value, order)

        slots = {
            name: jax.tree.unflatten(
                structure, [start(name, *row) for row in zip(leaves, orders, strict=True)]
            )
            for name in made.slots
        }
        return OptimizerState(jnp.zeros((), jnp.int32), slots, made)

    def update(grads: Any, state: OptimizerState, params: Any = None) -> tuple[Any, OptimizerState]:
        if params is None:
            raise ValueError(
                f"{family.name}: update() needs the parameters: tx.update(grads, state, params)."
            )
        of, step = made.at(state.count), optax.safe_increment(state.count)
        leaves, structure = jax.tree.flatten(grads, is_leaf=is_sparse)
        if not family.sparse and any(map(is_sparse, leaves)):
            raise ValueError(
                f"{family.name}: expected dense gradients, got sparse ones. Pass grad.todense(), "
                "or use SparseAdam."
            )
        columns = [leaves, jax.tree.leaves(params), _orders(family, made, params)]
        columns += [jax.tree.leaves(state.slots[name], is_leaf=is_absent) for name in made.slots]
        deltas, kept = [], []
        for g, p, order, *own in zip(*columns, strict=True):
            given = g if is_sparse(g) else to_torch(g, order)
            named = zip(made.slots, own, strict=True)
            has = {name: to_torch(v, order) for name, v in named if not is_absent(v)}
            delta, slots = rule(of, of["lr"], step, given, to_torch(p, order), has)
            deltas.append(to_flax(delta, order).astype(p.dtype))
            new = {n: to_flax(slots[n].astype(v.dtype), order) for n, v in has.items()}
            kept.append([new.get(name, Absent()) for name in made.slots])
        rows = dict(zip(made.slots, zip(*kept, strict=True), strict=True)) if kept else state.slots
        trees = {
            name: jax.tree.unflatten(
                jax.tree.structure(state.slots[name], is_leaf=is_absent), list(rows[name])
            )
            for name in made.slots
        }
        return jax.tree.unflatten(structure, deltas), replace(state, count=step, slots=trees)

    return optax.GradientTransformation(init, update)


def _orders(family: Family, made: Settings, params: Any) -> list[tuple[int, ...] | None]:
    """How the axes of each parameter come into torch's order; None where nothing is to be done."""
    leaves = jax.tree.leaves(params)
    for p in leaves if family.check else ():
        family.check(p)  # type: ignore[misc]
    if not family.layout:
        return [None] * len(leaves)
    return axes_of(family.name, params, made.torch_axes)


def is_absent(node: Any) -> bool:
    """Whether a parameter has no array of this name."""
    return isinstance(node, Absent)


def is_sparse(node: Any) -> bool:
    """Whether a gradient is sparse, told by what it offers: importing BCOO costs time."""
    return hasattr(node, "todense") and hasattr(node, "indices")


def zeros(of: Settings, name: str, p: jax.Array) -> jax.Array:
    """The start of most slots."""
    del of, name
    return jnp.zeros_like(p)


def lerp(old: jax.Array, new: jax.Array, weight: Any) -> jax.Array:
    """Move from ``old`` towards ``new``; ``torch.lerp``."""
    return old + weight * (new - old)


def wide(value: Any, like: jax.Array) -> Any:
    """Cast a computed scalar to the array's dtype, at least float32; Python numbers stay.

    A float64 scalar would otherwise widen float32 arrays, and a bfloat16 one would lose digits.
    """
    if isinstance(value, (int, float)):
        return value
    return jnp.asarray(value).astype(jnp.promote_types(like.dtype, jnp.float32))


def check_betas(who: str, betas: tuple[float | Schedule, float | Schedule]) -> None:
    """Raise ValueError for a beta outside [0, 1); schedules are not looked at."""
    bad = [b for b in betas if not callable(b) and not 0.0 <= b < 1.0]
    if bad or len(betas) != 2:
        raise ValueError(f"{who}: expected two betas in [0, 1), got {tuple(betas)}.")


def check_rate(who: str, **values: Any) -> None:
    """Raise ValueError for numbers below zero, all of them at once; schedules are not looked at."""
    bad = [f"{name}={v}" for name, v in values.items() if not callable(v) and not v >= 0.0]
    if bad:
        raise ValueError(f"{who}: expected values of at least 0, got {', '.join(bad)}.")
