"""ReduceLROnPlateau: the one scheduler that looks at results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from fluxmod.optim._family import check_rate, wide

__all__ = ["PlateauState", "ReduceLROnPlateau"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PlateauState:
    """The rate of now, the best result so far, and torch's counters."""

    lr: jax.Array
    best: jax.Array
    num_bad_epochs: jax.Array
    cooldown_counter: jax.Array
    last_epoch: jax.Array


@dataclass(frozen=True)
class ReduceLROnPlateau:
    """Lower the rate when a result stops improving; ``ReduceLROnPlateau`` of ``torch.optim``.

    No function of the step, hence no ``lr`` of an optimizer: a gradient transformation that stands
    after one with the constant rate ``lr`` and scales what it does, ``optax.chain(optim.SGD(lr),
    plateau)``. That is exact for every optimizer whose step is proportional to its rate: all but
    Adafactor, ASGD, LBFGS and Rprop. ``step`` takes the result, once per epoch, as torch's does.

    Args:
        lr: the rate of the optimizer before it.
        min_lr: as in torch, but for one group; give each group its own.

    Raises:
        ValueError: ``factor`` of 1 or more, an unknown mode, a rate that is not above zero.

    >>> import optax
    >>> from fluxmod import optim
    >>> plateau = ReduceLROnPlateau(0.5, factor=0.1, patience=1)
    >>> tx, params = optax.chain(optim.SGD(0.5), plateau), {"w": jnp.zeros(1)}
    >>> state = tx.init(params)
    >>> for result in (1.0, 0.9, 0.9, 0.9):
    ...     state = plateau.step(state, result)
    >>> round(float(plateau.get_last_lr(state)), 3)
    0.05
    >>> round(tx.update({"w": jnp.ones(1)}, state, params)[0]["w"].item(), 3)
    -0.05

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau, PyTorch 2.13 documentation.
    """

    lr: float
    mode: Literal["min", "max"] = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_lr: float = 0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_rate("ReduceLROnPlateau", lr=self.lr)
        if not self.lr > 0 or not self.factor < 1.0:
            raise ValueError(
                "ReduceLROnPlateau: expected lr above 0 and a factor below 1, got "
                f"lr={self.lr} and factor={self.factor}."
            )
        if self.mode not in ("min", "max") or self.threshold_mode not in ("rel", "abs"):
            raise ValueError(
                "ReduceLROnPlateau: expected mode 'min' or 'max' and threshold_mode 'rel' or "
                f"'abs', got {self.mode!r} and {self.threshold_mode!r}."
            )

    def init(self, params: Any) -> PlateauState:
        """Return the state before the first result."""
        del params
        dtype, none = jnp.result_type(float), jnp.zeros((), jnp.int32)
        worst = math.inf if self.mode == "min" else -math.inf
        return PlateauState(
            jnp.asarray(self.lr, dtype), jnp.asarray(worst, dtype), none, none, none
        )

    def update(
        self, updates: Any, state: PlateauState, params: Any = None, **extra: Any
    ) -> tuple[Any, PlateauState]:
        """Scale what the optimizer before this one does."""
        del params, extra
        scale = state.lr / self.lr
        return jax.tree.map(lambda u: (u * wide(scale, u)).astype(u.dtype), updates), state

    def step(self, opt_state: Any, metrics: Any) -> Any:
        """Return the state of the whole transformation after one more result."""
        return self._mapped(opt_state, lambda state: self._after(state, metrics))

    def get_last_lr(self, opt_state: Any) -> jax.Array:
        """Return the rate of the next step."""
        return self._state(opt_state).lr

    def state_dict(self, opt_state: Any) -> dict[str, Any]:
        """Return what torch's scheduler must load to go on; its optimizer's rate is its own."""
        state = self._state(opt_state)
        return {
            **{name: getattr(self, name) for name in _SETTINGS},
            "min_lrs": [self.min_lr],
            "best": float(state.best),
            "num_bad_epochs": int(state.num_bad_epochs),
            "cooldown_counter": int(state.cooldown_counter),
            "last_epoch": int(state.last_epoch),
            "_last_lr": [float(state.lr)],
        }

    def load_state_dict(self, opt_state: Any, state_dict: Mapping[str, Any]) -> Any:
        """Return the state with the counters and the rate of torch's ``state_dict()`` in it.

        Raises:
            ValueError: its settings are others.
        """
        wrong = [
            f"{name} is {state_dict[name]} in torch and {getattr(self, name)} here"
            for name in _SETTINGS
            if state_dict[name] != getattr(self, name)
        ]
        if list(state_dict["min_lrs"]) != [self.min_lr]:
            wrong.append(f"min_lrs is {state_dict['min_lrs']} in torch and {[self.min_lr]} here")
        if wrong:
            raise ValueError(f"ReduceLROnPlateau: expected equal settings, got {'; '.join(wrong)}.")
        (lr,) = state_dict["_last_lr"]
        named = {"lr": lr, **{name: state_dict[name] for name in _KEPT}}

        def loaded(state: PlateauState) -> PlateauState:
            values = {n: jnp.asarray(v, getattr(state, n).dtype) for n, v in named.items()}
            return replace(state, **values)

        return self._mapped(opt_state, loaded)

    def _after(self, state: PlateauState, metrics: Any) -> PlateauState:
        current = jnp.asarray(metrics).astype(state.best.dtype)
        better = self._is_better(current, state.best)
        bad = jnp.where(better, 0, state.num_bad_epochs + 1)
        cooling = state.cooldown_counter > 0
        cooldown = jnp.where(cooling, state.cooldown_counter - 1, state.cooldown_counter)
        bad = jnp.where(cooling, 0, bad)
        reduce = bad > self.patience
        lower = jnp.maximum(state.lr * self.factor, self.min_lr)
        takes = reduce & (state.lr - lower > self.eps)
        return PlateauState(
            lr=jnp.where(takes, lower, state.lr),
            best=jnp.where(better, current, state.best),
            num_bad_epochs=jnp.where(reduce, 0, bad).astype(jnp.int32),
            cooldown_counter=jnp.where(reduce, self.cooldown, cooldown).astype(jnp.int32),
            last_epoch=state.last_epoch + 1,
        )

    def _is_better(self, now: jax.Array, best: jax.Array) -> jax.Array:
        if self.mode == "min":
            limit = best * (1.0 - self.threshold)
            return now < (limit if self.threshold_mode == "rel" else best - self.threshold)
        limit = best * (self.threshold + 1.0)
        return now > (limit if self.threshold_mode == "rel" else best + self.threshold)

    def _mapped(self, opt_state: Any, change: Any) -> Any:
        self._state(opt_state)
        return jax.tree.map(lambda x: change(x) if _is(x) else x, opt_state, is_leaf=_is)

    def _state(self, opt_state: Any) -> PlateauState:
        found = [x for x in jax.tree.leaves(opt_state, is_leaf=_is) if _is(x)]
        if len(found) != 1:
            raise ValueError(
                f"ReduceLROnPlateau: expected one state of this scheduler in opt_state, got "
                f"{len(found)}. Put the scheduler behind the optimizer with optax.chain."
            )
        return found[0]


_SETTINGS = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "eps")
_KEPT = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


def _is(node: Any) -> bool:
    return isinstance(node, PlateauState)
