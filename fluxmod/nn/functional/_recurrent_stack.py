"""What the recurrent functions share: the steps, the scan over time, the stack of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fluxmod.nn._random import RandomSource

from ._activation import relu
from ._activation_smooth import sigmoid, tanh
from ._dropout import drop
from ._linear import linear

__all__: list[str] = []

# T time, B batch, I input, H hidden, P proj_size or H, G gates * H, D directions
State = tuple[jax.Array, ...]
Array = jax.Array | None
Step = Callable[[State, jax.Array, jax.Array, Array, Array, Any], State]
"""(state, the input's share of the gates, w_hh, b_hh, w_hr, precision) -> next state, h first."""


def tanh_step(
    state: State, gates: jax.Array, w_hh: jax.Array, b_hh: Array, w_hr: Array, precision: Any
) -> State:
    """An Elman step with tanh."""
    del w_hr
    return (tanh(gates + linear(state[0], w_hh, b_hh, precision=precision)),)


def relu_step(
    state: State, gates: jax.Array, w_hh: jax.Array, b_hh: Array, w_hr: Array, precision: Any
) -> State:
    """An Elman step with ReLU."""
    del w_hr
    return (relu(gates + linear(state[0], w_hh, b_hh, precision=precision)),)


def lstm_step(
    state: State, gates: jax.Array, w_hh: jax.Array, b_hh: Array, w_hr: Array, precision: Any
) -> State:
    """An LSTM step; with ``w_hr`` the output is projected before it becomes the state."""
    h, c = state
    i, f, g, o = jnp.split(gates + linear(h, w_hh, b_hh, precision=precision), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h if w_hr is None else linear(h, w_hr, precision=precision), c


def gru_step(
    state: State, gates: jax.Array, w_hh: jax.Array, b_hh: Array, w_hr: Array, precision: Any
) -> State:
    """A GRU step; r multiplies the hidden share of the new gate with its bias, as torch has it."""
    del w_hr
    (h,) = state
    r_x, z_x, n_x = jnp.split(gates, 3, axis=-1)
    r_h, z_h, n_h = jnp.split(linear(h, w_hh, b_hh, precision=precision), 3, axis=-1)
    new = tanh(n_x + sigmoid(r_x + r_h) * n_h)
    return ((h - new) * sigmoid(z_x + z_h) + new,)


def cell(
    who: str,
    step: Step,
    input: jax.Array,
    state: State,
    w_ih: jax.Array,
    w_hh: jax.Array,
    b_ih: Array,
    b_hh: Array,
    gates: int,
    precision: Any,
) -> State:
    """Check the sizes and take one step."""
    hidden = w_hh.shape[0]
    if input.ndim != 2 or input.shape[1] != w_ih.shape[0]:
        raise ValueError(
            f"{who}: expected an input of shape (batch, {w_ih.shape[0]}), got {tuple(input.shape)}."
        )
    if w_ih.shape[1] != gates * hidden or w_hh.shape[1] != gates * hidden:
        raise ValueError(
            f"{who}: expected w_ih (in, {gates} * hidden) and w_hh (hidden, {gates} * hidden), got "
            f"{tuple(w_ih.shape)} and {tuple(w_hh.shape)}; they are the transposes of torch's."
        )
    for name, part in zip(("h", "c"), state, strict=False):
        if part.shape != (input.shape[0], hidden):
            raise ValueError(
                f"{who}: expected {name} of shape {(input.shape[0], hidden)}, got "
                f"{tuple(part.shape)}."
            )
    gates_x = linear(input, w_ih, b_ih, precision=precision)
    return step(state, gates_x, w_hh, b_hh, None, precision)


@dataclass(frozen=True, slots=True)
class Stack:
    """Recurrent layers on top of each other, each in one or both directions of time."""

    who: str
    step: Step
    gates: int
    has_biases: bool
    num_layers: int
    bidirectional: bool

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    def run(
        self,
        input: jax.Array,
        hx: State,
        params: Sequence[jax.Array],
        dropout: float,
        train: bool,
        batch_first: bool,
        lengths: Any,
        rngs: RandomSource,
        precision: Any,
    ) -> tuple[jax.Array, State]:
        """Return the output of the last layer and the states of all, h first."""
        if input.ndim != 3:
            raise ValueError(
                f"{self.who}: expected an input with 3 axes, got shape {tuple(input.shape)}."
            )
        x = jnp.swapaxes(input, 0, 1) if batch_first else input  # (T, B, I)
        lengths = None if lengths is None else jnp.asarray(lengths)
        weights = self._weights(params)
        self._check(x, hx, weights, lengths)
        valid = None if lengths is None else before_end(lengths, x.shape[0])
        rows = None if lengths is None else packed_rows(lengths, x.shape[0])
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer:
                x = drop(x, dropout, train, x.shape, rngs, same_order=True, rows=rows)
            outputs = []
            for direction in range(self.directions):
                place = layer * self.directions + direction
                state, y = self._scan(
                    x, tuple(s[place] for s in hx), weights[place], valid, direction, precision
                )
                outputs.append(y)
                finals.append(state)
            x = jnp.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
        states = tuple(jnp.stack(part) for part in zip(*finals, strict=True))
        return jnp.swapaxes(x, 0, 1) if batch_first else x, states

    def _scan(
        self,
        x: jax.Array,
        state: State,
        weights: tuple[Any, ...],
        valid: Array,
        direction: int,
        precision: Any,
    ) -> tuple[State, jax.Array]:
        """Run one layer in one direction; the input's share of all gates is one product."""
        w_ih, w_hh, b_ih, b_hh, w_hr = weights
        gates = linear(x, w_ih, b_ih, precision=precision)  # (T, B, G)

        def step(state: State, now: tuple[jax.Array, Array]) -> tuple[State, jax.Array]:
            gates, keep = now
            new = self.step(state, gates, w_hh, b_hh, w_hr, precision)
            if keep is None:
                return new, new[0]
            kept = tuple(
                jnp.where(keep[:, None], after, before)
                for after, before in zip(new, state, strict=True)
            )
            return kept, jnp.where(keep[:, None], new[0], 0)

        return jax.lax.scan(step, state, (gates, valid), reverse=direction == 1)

    def _weights(self, params: Sequence[jax.Array]) -> list[tuple[Any, ...]]:
        """Group the flat list: w_ih, w_hh, b_ih, b_hh, w_hr of each layer and direction."""
        places = self.num_layers * self.directions
        base = 4 if self.has_biases else 2
        each = len(params) // places if places > 0 else 0
        projects = self.who == "lstm" and each == base + 1
        if places <= 0 or len(params) != places * (base + projects):
            raise ValueError(
                f"{self.who}: expected {base} weights for each of {self.num_layers} layers in "
                f"{self.directions} directions, got {len(params)}."
            )
        grouped = []
        for place in range(places):
            own = list(params[place * each : (place + 1) * each])
            w_hr = own.pop() if projects else None
            biases = own[2:] if self.has_biases else [None, None]
            grouped.append((own[0], own[1], *biases, w_hr))
        return grouped

    def _check(self, x: jax.Array, hx: State, weights: list[Any], lengths: Any) -> None:
        steps, batch, features = x.shape
        if steps == 0:
            raise ValueError(f"{self.who}: expected at least one time step, got none.")
        first = weights[0]
        if features != first[0].shape[0]:
            raise ValueError(
                f"{self.who}: expected {first[0].shape[0]} features on the last axis, got "
                f"{features}."
            )
        sizes = [first[1].shape[0], first[1].shape[1] // self.gates]
        for name, part, size in zip(("h", "c"), hx, sizes, strict=False):
            want = (self.num_layers * self.directions, batch, size)
            if part.shape != want:
                raise ValueError(
                    f"{self.who}: expected {name} of shape {want}, got {tuple(part.shape)}."
                )
        if lengths is not None and lengths.shape != (batch,):
            raise ValueError(
                f"{self.who}: expected lengths of shape {(batch,)}, got {tuple(lengths.shape)}."
            )


def before_end(lengths: jax.Array, steps: int) -> jax.Array:
    """(steps, B): whether a step belongs to the sequence."""
    return jnp.arange(steps)[:, None] < lengths[None, :]


def packed_rows(lengths: jax.Array, steps: int) -> jax.Array:
    """(steps, B): the row that torch's packed array has for each step of each sequence."""
    rank = jnp.argsort(jnp.argsort(-lengths, stable=True))
    sizes = before_end(lengths, steps).sum(axis=1)
    return (jnp.cumsum(sizes) - sizes)[:, None] + rank[None, :]
