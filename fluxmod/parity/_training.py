"""L4: both frameworks train on from one state, optimizer included, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from fluxmod import convert, nn
from fluxmod.convert._source import as_numpy
from fluxmod.nn import Axes
from fluxmod.nn._random import replay

from ._copies import copied
from ._flax import FAST_COMPILE, _to_flax, cast_model
from ._inputs import targets_of
from ._torch import Recorder, to_tensor
from ._trees import is_array, leaves, map_leaves
from .compare import Row, group_scale
from .criteria import NARROWED, distance, limit_of
from .options import OptimizerPair, Options

__all__ = ["training_rows"]

WARM_STEPS = 3
"""Steps that torch takes alone, so that the optimizer state that is converted is not empty."""
STEPS = 10
_NO_SLOPE = "the true gradient is zero, and noise would move it"
_NO_GRADIENT = "it takes no part in the loss; torch leaves it alone"


def training_rows(
    torch_module: torch.nn.Module,
    flax_model: nnx.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    axes: Axes,
    options: Options,
) -> list[Row]:
    """Train torch a little, convert weights and optimizer state, then train both ten steps.

    Dropout masks of every step are torch's. Compared are parameters after one and ten steps,
    buffers and losses; the optimizer state that comes back must be torch's.
    """
    if not any(p.is_floating_point() and p.requires_grad for p in torch_module.parameters()):
        return [Row("L4", "train", "parameters", 0.0, 0.0, None, "no parameter to train")]
    rows: list[Row] = []
    compiled: dict[Any, Any] = {}
    for pair in options.optimizers:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            race = _Race(torch_module, flax_model, args, kwargs, axes, options, pair)
            rows += race.rows(compiled)
    return rows


class _Race:
    """One optimizer: the torch side steps eagerly, the Flax side by jitted functions."""

    def __init__(
        self,
        torch_module: torch.nn.Module,
        flax_model: nnx.Module,
        args: Any,
        kwargs: Any,
        axes: Axes,
        options: Options,
        pair: OptimizerPair,
    ) -> None:
        self.theirs = copied(torch_module).double().train()
        self.args = map_leaves(args, lambda a: to_tensor(a, torch.float64))
        self.kwargs = map_leaves(dict(kwargs), lambda a: to_tensor(a, torch.float64))
        self.options, self.pair, self.axes = options, pair, axes
        self.torch_loss = getattr(torch.nn, options.loss)()
        self.flax_loss = getattr(nn, options.loss)()
        self.targets = targets_of(self.theirs, self.args, self.kwargs, options)
        self.flax_model = flax_model
        self.narrowed = False
        self.still = self._hold_still()
        trained = [p for p in self.theirs.parameters() if p.requires_grad]
        self.optimizer: Any = pair.torch(trained) if trained else None

    def rows(self, compiled: dict[Any, Any]) -> list[Row]:
        """Run both sides and compare; the gradient is compiled once for all optimizers."""
        if self.optimizer is None:
            note = "no parameter has a gradient"
            return [Row("L4", "train", self.pair.name, 0.0, 0.0, None, note)]
        for _ in range(WARM_STEPS):
            self._torch_step()
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            try:
                return self._rows(compiled)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                note = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                return [self._row("the step", float("inf"), note)]

    def _rows(self, compiled: dict[Any, Any]) -> list[Row]:
        ours, _ = cast_model(self.flax_model, np.float64)
        ours.train()
        convert.to_flax(self.theirs, ours)
        if self.still:
            convert.freeze(ours, *self.still)
        tx = self.pair.flax()
        state = convert.optimizer_to_flax(self.optimizer, ours, tx, torch_model=self.theirs)
        rows = [self._state_row(state, ours, tx)]
        for why in dict.fromkeys(self.still.values()):
            names = ", ".join(name for name, reason in self.still.items() if reason == why)
            what = f"{self.pair.name}: {names}"
            rows.append(Row("L4", "train", what, 0.0, 0.0, None, f"held still: {why}"))
        parts: Any = nnx.split(ours, nn.is_trainable, ...)
        graphdef, params, rest = parts
        gradient = compiled.get(graphdef)
        if gradient is None:
            gradient = jax.jit(self._flax_gradient(graphdef), compiler_options=FAST_COMPILE)
            compiled[graphdef] = gradient
        update = jax.jit(_flax_update(tx), compiler_options=FAST_COMPILE)
        inputs = self._flax_inputs()
        losses: list[tuple[float, float]] = []
        for count in range(1, STEPS + 1):
            theirs, masks = self._torch_step()
            (loss, rest), grads = gradient(params, rest, inputs, tuple(masks))
            params, state = update(grads, state, params)
            losses.append((theirs, float(loss)))
            if count in (1, STEPS):
                after = nnx.merge(graphdef, params, rest, copy=True)
                rows += self._weight_rows(after, f"after {count} step{'s' if count > 1 else ''}")
        want, got = (np.array(side) for side in zip(*losses, strict=True))
        if not np.isfinite(want).all():  # NaN beside NaN would prove nothing
            return [self._row("losses", float("inf"), "torch's training diverged: lower the rate")]
        return [*rows, self._row(f"losses of {STEPS} steps", distance(got, want))]

    def _hold_still(self) -> dict[str, str]:
        """Freeze parameters that no gradient should move, and return their names, each with why.

        A convolution bias before BatchNorm is one. Its gradient is rounding noise, which Adam
        scales up to a step of full size: both sides would walk at random. L1 compares the
        gradient itself. Another is a parameter that takes no part in the loss: torch's optimizers
        pass it over, weight decay included, and have no state for it.
        """
        with torch.random.fork_rng(devices=[]):
            twin = copied(self.theirs)
            loss, _ = self._torch_loss(twin)
            if loss.requires_grad:
                loss.backward()
        trained = {name: p for name, p in twin.named_parameters() if p.requires_grad}
        still = {name: _NO_GRADIENT for name, p in trained.items() if p.grad is None}
        sizes = {
            name: float(p.grad.abs().max())
            for name, p in trained.items()
            if p.grad is not None and p.grad.numel()
        }
        limit = limit_of("L1", narrowed=self.narrowed) * max(sizes.values(), default=0.0)
        still |= {name: _NO_SLOPE for name, size in sizes.items() if size <= limit}
        for name, parameter in self.theirs.named_parameters():
            if name in still:
                parameter.requires_grad_(False)
        return still

    def _torch_loss(self, module: torch.nn.Module) -> tuple[torch.Tensor, list[np.ndarray]]:
        with Recorder() as recorder:
            outputs = dict(leaves(module(*self.args, **self.kwargs)))
        self.narrowed |= recorder.narrowed
        terms = [
            self.torch_loss(outputs[name], to_tensor(target, torch.float64))
            for name, target in self.targets.items()
        ]
        return torch.stack(terms).sum(), recorder.masks

    def _torch_step(self) -> tuple[float, list[np.ndarray]]:
        self.optimizer.zero_grad()
        loss, masks = self._torch_loss(self.theirs)
        if loss.requires_grad:
            loss.backward()
        self.optimizer.step()
        return loss.item(), masks

    def _flax_gradient(self, graphdef: Any) -> Any:
        def loss_of(params: Any, rest: Any, inputs: Any, masks: Any) -> Any:
            model = nnx.merge(graphdef, params, rest, copy=True)
            args, kwargs, targets = inputs
            with replay(masks):
                outputs = dict(leaves(model(*args, **{**self._plain(), **kwargs})))
            terms = [self.flax_loss(outputs[name], target) for name, target in targets.items()]
            parts: Any = nnx.split(model, nn.is_trainable, ...)
            return jnp.stack(terms).sum(), parts[2]

        return jax.value_and_grad(loss_of, has_aux=True)

    def _plain(self) -> dict[str, Any]:
        """Keyword arguments that are not arrays: they are no operands of the compiled step."""
        return {k: v for k, v in self.kwargs.items() if not is_array(v)}

    def _flax_inputs(self) -> Any:
        def move(name: str, value: Any) -> Any:
            return _to_flax(name, as_numpy(value), self.axes, np.float64)

        args = [map_leaves(a, partial(move, f"input[{i}]")) for i, a in enumerate(self.args)]
        kwargs = {k: move(f"input[{k!r}]", v) for k, v in self.kwargs.items() if is_array(v)}
        targets = {}
        for index, (name, target) in enumerate(self.targets.items()):
            entry = self.axes.of_output(index)
            same_shape = self.options.loss != "CrossEntropyLoss"
            moved = entry.to_flax(target) if entry is not None and same_shape else target
            targets[name] = jnp.asarray(moved)
        return args, kwargs, targets

    def _state_row(self, state: Any, ours: nnx.Module, tx: Any) -> Row:
        """Convert the optimizer's state back and compare it bit for bit."""
        back = convert.optimizer_to_torch(state, ours, tx, like=self.optimizer)
        want = dict(leaves(_as_plain(self.optimizer.state_dict()["state"])))
        got = dict(leaves(_as_plain(back["state"])))
        different = [k for k, v in want.items() if k not in got or not np.array_equal(got[k], v)]
        different += [k for k in got if k not in want]
        return self._row("state there and back", float(len(different)), ", ".join(different[:4]))

    def _weight_rows(self, after: nnx.Module, when: str) -> list[Row]:
        got = convert.to_torch(after)
        named = dict(self.theirs.named_parameters())
        params = {k: as_numpy(v) for k, v in named.items()}
        known = self.theirs.state_dict()
        buffers = {k: as_numpy(v) for k, v in known.items() if k not in named and k in got}
        buffers = {k: v for k, v in buffers.items() if k not in params}
        rows = []
        for what, group in (("parameters", params), ("buffers", buffers)):
            scale = group_scale(group)
            errors = {k: distance(got[k], v, scale) for k, v in group.items()}
            if errors:
                worst = max(errors, key=lambda k: errors[k])
                rows.append(self._row(f"{what} {when}", errors[worst], f"worst {worst}"))
        return rows

    def _row(self, what: str, error: float, note: str = "") -> Row:
        limit = limit_of("L4", narrowed=self.narrowed)
        text = f"{self.pair.name}: {what}"
        note = "; ".join(filter(None, (note, NARROWED if self.narrowed else "")))
        return Row("L4", "train", text, error, limit, error <= limit, note)


def _flax_update(tx: optax.GradientTransformation) -> Any:
    def update(grads: Any, state: Any, params: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return update


def _as_plain(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Optimizer state as nested mappings of numpy arrays."""
    return {
        str(index): {k: as_numpy(v) if is_array(v) else np.asarray(v) for k, v in entry.items()}
        for index, entry in state.items()
    }
