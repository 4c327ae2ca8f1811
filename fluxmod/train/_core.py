"""A model, an optimizer and a loss as pure functions of a flat tuple of arrays.

The module is taken apart once, in graph mode, so that a tie stays one Variable. What is compiled
sees only the arrays: nothing of the module is walked when a step is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from fluxmod import nn

from ._sharding import Placement

__all__ = ["GROUPS", "Core", "Leaves", "adopt"]

Leaves = tuple[jax.Array, ...]
Metrics = dict[str, jax.Array]

GROUPS = ("params", "frozen", "rng", "buffers", "optimizer")
"""What the state consists of: names of the checkpoint's parts."""

_FILTERS = (nn.is_trainable, nnx.Param, nnx.RngState, ...)


class Core:
    """The pure functions, and the structure they put the arrays back into."""

    def __init__(
        self,
        model: nnx.Module,
        tx: optax.GradientTransformation,
        loss: Callable[[Any, Any], Any],
        where: Placement | None,
        opt_state: Any = None,
        dtype: Any = None,
    ) -> None:
        self.tx, self.loss, self.where = tx, loss, where
        if dtype is not None:
            graphdef, state = nnx.split(model, graph=True)
            model = nn.compute_in(nnx.merge(graphdef, state), dtype)
        self.graphdef, *states = nnx.split(model, *_FILTERS, graph=True)
        fresh = tx.init(states[0])
        self.initial = (*states, fresh if opt_state is None else adopt(opt_state, fresh))
        self.structure = jax.tree.structure(self.initial)
        self.names = tuple(_names(self.initial))
        self.groups = tuple(name.partition("/")[0] for name in self.names)
        self.model_leaves = sum(group != "optimizer" for group in self.groups)
        self.eval_graphdef = self._eval_graphdef()

    def _eval_graphdef(self) -> Any:
        model = nnx.merge(self.graphdef, *self.initial[:-1], copy=True)
        model.eval()
        return nnx.split(model, *_FILTERS, graph=True)[0]

    def step(self, leaves: Leaves, batch: Any) -> tuple[Leaves, Metrics]:
        """One training step."""
        params, *rest, opt_state = self._unflatten(leaves)
        before = tuple(rest)

        def objective(params: Any) -> Any:
            model = nnx.merge(self.graphdef, self._gathered(params), *before, copy=True)
            value, metrics = _call(self.loss, model, batch)
            nnx.pop(model, nnx.Intermediate)
            return value, (metrics, nnx.split(model, *_FILTERS, graph=True)[1:])

        outcome, grads = jax.value_and_grad(objective, has_aux=True)(params)
        value, (metrics, (params, *rest)) = outcome
        # for transformations that look at the loss again, such as LBFGS
        known = {"value": value, "grad": grads, "value_fn": lambda params: objective(params)[0]}
        tx = optax.with_extra_args_support(self.tx)
        updates, opt_state = tx.update(grads, opt_state, params, **known)
        params = optax.apply_updates(params, updates)
        new = self._flatten((params, *rest, opt_state), leaves)
        return new, _merged({"loss": value, "grad_norm": optax.tree.norm(grads)}, metrics)

    def steps(self, leaves: Leaves, batches: Any) -> tuple[Leaves, Metrics]:
        """One step per entry of the first axis; metrics get that axis too."""
        return jax.lax.scan(self.step, leaves, batches)

    def evaluate(self, leaves: Leaves, batch: Any) -> Metrics:
        """The loss and its metrics in evaluation mode."""
        value, metrics = _call(self.loss, self.eval_model(leaves), batch)
        return _merged({"loss": value}, metrics)

    def predict(self, leaves: Leaves, args: Any, kwargs: Any) -> Any:
        """The model's output in evaluation mode."""
        return self.eval_model(leaves)(*args, **kwargs)

    def eval_model(self, leaves: Leaves) -> Any:
        """The model in evaluation mode, from the leaves before the optimizer's."""
        return nnx.merge(self.eval_graphdef, *self.model_states(leaves), copy=True)

    def model_states(self, leaves: Leaves) -> tuple[Any, ...]:
        """Put the model's arrays back into its states; the optimizer's may be left out."""
        of_model = jax.tree.structure(self.initial[:-1])
        return tuple(jax.tree.unflatten(of_model, leaves[: self.model_leaves]))

    def _unflatten(self, leaves: Leaves) -> Any:
        return jax.tree.unflatten(self.structure, leaves)

    def _gathered(self, params: Any) -> Any:
        """Split parameters are put together for use; their gradients are split again."""
        if self.where is None or self.where.strategy == "data":
            return params
        return jax.lax.with_sharding_constraint(params, self.where.replicated)

    def _flatten(self, state: Any, before: Leaves) -> Leaves:
        """Flatten the new state; it must have the form of the one before."""
        names = list(_names(state))
        leaves = jax.tree.leaves(state)
        if tuple(names) != self.names:
            gone = [name for name in self.names if name not in names]
            come = [name for name in names if name not in self.names]
            raise ValueError(
                f"Trainer: the step changed what the model holds: new {come}, gone {gone}. "
                "Create all variables when the model is built, and remove sown values before."
            )
        changed = [
            f"{name} from {old.dtype}{old.shape} to {new.dtype}{new.shape}"
            for name, old, new in zip(names, before, leaves, strict=True)
            if (old.dtype, old.shape) != (new.dtype, new.shape)
        ]
        if changed:
            raise TypeError(
                f"Trainer: the step changed dtypes or shapes: {', '.join(changed)}. If float64 "
                "became float32, call it inside jax.enable_x64(True)."
            )
        return tuple(leaves)


def _call(loss: Any, model: Any, batch: Any) -> tuple[jax.Array, Mapping[str, Any]]:
    """Call the loss and check what it returns."""
    result = loss(model, batch)
    value, metrics = result if isinstance(result, tuple) else (result, {})
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            "Trainer: the loss must return a floating scalar, or (scalar, metrics), got "
            f"{jnp.result_type(value)}{jnp.shape(value)}."
        )
    if not isinstance(metrics, Mapping):
        raise TypeError(
            "Trainer: beside the scalar the loss may return a dict of named metrics, got "
            f"{type(metrics).__name__}."
        )
    return value, metrics


def _merged(own: Metrics, metrics: Mapping[str, Any]) -> Metrics:
    taken = sorted(set(own) & set(metrics))
    if taken:
        raise ValueError(f"Trainer: the metrics {taken} are the trainer's own; rename the loss's.")
    return own | dict(metrics)


def adopt(opt_state: Any, fresh: Any) -> Any:
    """Take a given optimizer state, in the form that this transformation makes."""
    want = jax.tree_util.tree_leaves_with_path(fresh)
    got = jax.tree_util.tree_leaves_with_path(opt_state)
    described = [
        [(jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype)) for path, leaf in side]
        for side in (want, got)
    ]
    if described[0] != described[1]:
        missing = [row for row in described[0] if row not in described[1]]
        extra = [row for row in described[1] if row not in described[0]]
        raise ValueError(
            f"Trainer: opt_state is not of this model and transformation: missing {missing[:5]}, "
            f"unexpected {extra[:5]}. It must have the form of tx.init(nnx.state(model, "
            "nn.is_trainable))."
        )
    return jax.tree.unflatten(jax.tree.structure(fresh), [leaf for _, leaf in got])


def _names(state: Any) -> list[str]:
    """Name every array: its group, then its path."""
    return [
        f"{group}/{_path(path)}"
        for group, part in zip(GROUPS, state, strict=True)
        for path, _ in jax.tree_util.tree_leaves_with_path(part)
    ]


def _path(path: Any) -> str:
    """A dotted path without the step into a Variable."""
    steps = [k for k in path if not (isinstance(k, jax.tree_util.GetAttrKey) and k.name == "value")]
    return jax.tree_util.keystr(tuple(steps), simple=True, separator=".")
