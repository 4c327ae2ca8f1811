"""Training a model: compiled steps over state that is given away and received back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from fluxmod import nn

from ._core import Core, Leaves, adopt
from ._metrics import Averages
from ._sharding import placement, put

__all__ = ["Trainer"]


class Trainer:
    """A model in training: its weights, buffers, random state and optimizer state.

    The model is copied and taken apart once, here. Later changes to the object that was passed, to
    its mode or to what is frozen, are not seen: build a new trainer for them. Each submodule
    trains in the mode it has now, so a frozen part in ``eval()`` stays as it is; parameters frozen
    by ``fluxmod.freeze`` get neither gradient nor optimizer state.

    A trained parameter that takes no part in the loss has a gradient of zero here and none in
    torch, which leaves it alone; weight decay and momentum still move it here. Freeze it.

    Args:
        model: any ``nnx.Module``.
        tx: any optax transformation of ``nnx.state(model, nn.is_trainable)``; gradient clipping
            goes in front: ``optax.chain(optim.clip_grad_norm(1.0), optim.AdamW())``.
        loss: ``loss(model, batch)`` returns a scalar, or a scalar and a dict of scalar metrics.
        mesh: devices to train on; batches are split over all of its axes.
        strategy: with a mesh, "data" (the default) replicates the state and "fsdp" splits every
            parameter and its optimizer state along its largest axis that divides evenly.
        opt_state: state to start from, as ``convert.optimizer_to_flax`` returns it.
        dtype: what the layers compute in, ``jnp.bfloat16``; parameters, gradients, statistics and
            optimizer state keep their dtypes (``nn.compute_in``). Cast outputs in the loss.
        compiler_options: of ``jax.jit``; ``nn.compiler_options()`` for steps and
            ``nn.compiler_options(model)`` for what takes no gradients, unless given.

    Raises:
        ValueError: ``opt_state`` does not fit, or ``strategy`` is unknown or without a mesh.

    >>> from fluxmod import nn, optim
    >>> model = nn.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> def loss(model, batch):
    ...     return jnp.mean((model(batch["x"]) - batch["y"]) ** 2)
    >>> trainer = Trainer(model, optim.SGD(lr=0.1), loss)
    >>> batch = {"x": np.ones((4, 2), np.float32), "y": np.zeros((4, 1), np.float32)}
    >>> first, second = trainer.step(batch), trainer.step(batch)
    >>> bool(second["loss"] < first["loss"]), trainer.steps_done
    (True, 2)
    """

    def __init__(
        self,
        model: nnx.Module,
        tx: optax.GradientTransformation,
        loss: Callable[[Any, Any], Any],
        *,
        mesh: Mesh | None = None,
        strategy: str | None = None,
        opt_state: Any = None,
        dtype: Any = None,
        compiler_options: dict[str, Any] | None = None,
    ) -> None:
        self.tx = tx
        self.steps_done = 0
        self._where = placement(mesh, strategy)
        self._core = Core(model, tx, loss, self._where, opt_state, dtype)
        leaves = jax.tree.leaves(self._core.initial)
        self._shardings = self._place(leaves)
        self._leaves: Leaves = tuple(map(put, leaves, self._shardings))
        self._snapshot: tuple[Leaves, Any] | None = None
        self._loop_is_slow: dict[str, bool] = {}
        if compiler_options is None:
            self._compile(nn.compiler_options(), nn.compiler_options(model))
        else:
            self._compile(compiler_options, compiler_options)

    def _place(self, leaves: list[Any]) -> list[Any]:
        if self._where is None:
            # arrays tied to a device beside free ones would be compiled for again after one step
            tied = {leaf.sharding for leaf in leaves if getattr(leaf, "committed", False)}
            return [tied.pop() if len(tied) == 1 else None] * len(leaves)
        split = ("params", "frozen", "optimizer")
        return [
            self._where.of_parameter(leaf.shape) if group in split else self._where.replicated
            for group, leaf in zip(self._core.groups, leaves, strict=True)
        ]

    def _compile(self, of_steps: dict[str, Any], of_calls: dict[str, Any]) -> None:
        core = self._core
        out: Any = None
        if self._where is not None:
            out = (tuple(self._shardings), self._where.replicated)
        jit = partial(jax.jit, compiler_options=of_steps)
        self._step = jit(core.step, donate_argnums=0, out_shardings=out)
        self._steps = jit(core.steps, donate_argnums=0, out_shardings=out)
        everywhere = None if self._where is None else self._where.replicated
        jit = partial(jax.jit, compiler_options=of_calls)
        self._evaluate = jit(core.evaluate, out_shardings=everywhere)
        self._predict = jit(core.predict)
        self._copy = jax.jit(lambda xs: tuple(map(jnp.copy, xs)), out_shardings=everywhere)

    def step(self, batch: Any) -> dict[str, jax.Array]:
        """Train on one batch and return its metrics, without waiting for them.

        Metrics are ``loss``, ``grad_norm`` (before clipping) and what the loss returned. With a
        mesh in several processes, each gives its own part of the batch.
        """
        if self._where is not None:
            batch = self._where.put_batch(batch)
        self._leaves, metrics = self._step(self._leaves, batch)
        self.steps_done += 1
        return metrics

    def steps(self, batches: Any) -> dict[str, jax.Array]:
        """Train on a chunk of batches in one dispatch; for small models.

        A model with convolutions is trained step by step on the CPU: inside a loop XLA runs them
        on one thread, measured 10 times as slow.

        Shape:
            batches: like a batch, every array with a leading axis of steps; metrics get it too.
        """
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
        if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
            raise ValueError(
                "Trainer.steps: every array of the batches needs the same leading axis of steps, "
                f"got lengths {sorted(lengths)}. np.stack the batches."
            )
        count = lengths.pop()[0]
        if self._is_slow_in_a_loop(batches):
            each = [self.step(jax.tree.map(lambda x, i=i: x[i], batches)) for i in range(count)]
            return jax.tree.map(lambda *values: jnp.stack(values), *each)
        if self._where is not None:
            batches = self._where.put_batch(batches, chunked=True)
        self._leaves, metrics = self._steps(self._leaves, batches)
        self.steps_done += count
        return metrics

    def _is_slow_in_a_loop(self, batches: Any) -> bool:
        if self._where is not None or jax.default_backend() != "cpu":
            return False
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], x.dtype), batches)
        form = str(one)
        if form not in self._loop_is_slow:
            traced = self._step.trace(self._leaves, one)
            self._loop_is_slow[form] = "conv_general_dilated" in str(traced.jaxpr)
        return self._loop_is_slow[form]

    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Return the loss and its metrics over batches, all modules in evaluation mode.

        Averages are weighted by the length of a batch's first axis. Nothing is updated. With a
        mesh every batch has to divide by its devices, the last one too.
        """
        seen = Averages()
        for batch in batches:
            size = next((np.shape(x)[0] for x in jax.tree.leaves(batch) if np.ndim(x)), 1)
            if self._where is not None:
                batch = self._where.put_batch(batch)
            seen.add(self._evaluate(self._leaves[: self._core.model_leaves], batch), size=size)
        return seen.compute()

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model in evaluation mode, compiled; nothing is updated."""
        return self._predict(self._leaves[: self._core.model_leaves], args, kwargs)

    @property
    def model(self) -> Any:
        """The model as it is now, in the modes it trains in: a copy that later steps leave alone.

        Changing it does not change the trainer. Of several processes, all have to ask for it.
        """
        if self._snapshot is None or self._snapshot[0] is not self._leaves:
            states = self._core.model_states(self._copy(self._leaves))
            self._snapshot = (self._leaves, nnx.merge(self._core.graphdef, *states))
        return self._snapshot[1]

    @property
    def opt_state(self) -> Any:
        """A copy of the optimizer's state, in the form of ``tx.init``; may be assigned to."""
        return jax.tree.unflatten(self._core.structure, self._copy(self._leaves))[-1]

    @opt_state.setter
    def opt_state(self, value: Any) -> None:
        new = jax.tree.leaves(adopt(value, self.opt_state))
        names = self._core.names[self._core.model_leaves :]
        arrays = {**self.state(), **dict(zip(names, new, strict=True))}
        self.load_state(arrays, steps_done=self.steps_done)

    def state(self) -> dict[str, jax.Array]:
        """Return every array of the training state by name; the next step invalidates them."""
        return dict(zip(self._core.names, self._leaves, strict=True))

    def load_state(self, arrays: Mapping[str, Any], *, steps_done: int) -> None:
        """Continue from what ``state`` returned; names, shapes and dtypes must be the same."""
        have = self.state()
        wrong = sorted(set(have) ^ set(arrays))
        wrong += [
            name
            for name in have
            if name in arrays
            and (have[name].shape, have[name].dtype) != (arrays[name].shape, arrays[name].dtype)
        ]
        if wrong:
            raise ValueError(
                f"Trainer.load_state: these arrays are missing, unknown or of another shape or "
                f"dtype: {wrong[:10]}. Nothing was changed."
            )
        self._leaves = tuple(
            put(arrays[name], sharding)
            for name, sharding in zip(self._core.names, self._shardings, strict=True)
        )
        self.steps_done = steps_done
