"""Recurrent networks over time-major arrays, and their single steps.

The weights are the transposes of torch's: ``w_ih`` (in, gates), ``w_hh`` (h, gates), ``w_hr``
(hidden, proj). Gates stand side by side in torch's order: i, f, g, o in an LSTM; r, z, n in a GRU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from fluxmod.nn._random import RandomSource

from ._recurrent_stack import Stack, cell, gru_step, lstm_step, relu_step, tanh_step

__all__ = [
    "gru",
    "gru_cell",
    "lstm",
    "lstm_cell",
    "rnn_relu",
    "rnn_relu_cell",
    "rnn_tanh",
    "rnn_tanh_cell",
]

# T time, B batch, I input, H hidden, P proj_size or H, D directions


def rnn_tanh_cell(
    input: jax.Array,
    hx: jax.Array,
    w_ih: jax.Array,
    w_hh: jax.Array,
    b_ih: jax.Array | None = None,
    b_hh: jax.Array | None = None,
    *,
    precision: Any = None,
) -> jax.Array:
    """One step ``tanh(input @ w_ih + b_ih + hx @ w_hh + b_hh)``; ``torch.rnn_tanh_cell``.

    Shape:
        input: (B, I), hx: (B, H); returns (B, H).

    Raises:
        ValueError: sizes that do not fit.

    >>> import jax.numpy as jnp
    >>> rnn_tanh_cell(jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones((3, 4)), jnp.eye(4)).shape
    (2, 4)

    Source: torch.nn.RNNCell, PyTorch 2.13 documentation.
    """
    return cell("rnn_tanh_cell", tanh_step, input, (hx,), w_ih, w_hh, b_ih, b_hh, 1, precision)[0]


def rnn_relu_cell(
    input: jax.Array,
    hx: jax.Array,
    w_ih: jax.Array,
    w_hh: jax.Array,
    b_ih: jax.Array | None = None,
    b_hh: jax.Array | None = None,
    *,
    precision: Any = None,
) -> jax.Array:
    """One step ``relu(input @ w_ih + b_ih + hx @ w_hh + b_hh)``; ``torch.rnn_relu_cell``.

    Shapes and errors as in ``rnn_tanh_cell``.

    >>> import jax.numpy as jnp
    >>> rnn_relu_cell(jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones((3, 4)), jnp.eye(4))[0, 0].item()
    4.0

    Source: torch.nn.RNNCell, PyTorch 2.13 documentation.
    """
    return cell("rnn_relu_cell", relu_step, input, (hx,), w_ih, w_hh, b_ih, b_hh, 1, precision)[0]


def lstm_cell(
    input: jax.Array,
    hx: Sequence[jax.Array],
    w_ih: jax.Array,
    w_hh: jax.Array,
    b_ih: jax.Array | None = None,
    b_hh: jax.Array | None = None,
    *,
    precision: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """One LSTM step; the twin of ``torch.lstm_cell``. Returns the next (h, c).

    Shape:
        input: (B, I), hx: a pair of (B, H); w_ih: (I, 4 H), w_hh: (H, 4 H).

    Raises:
        ValueError: sizes that do not fit.

    >>> import jax.numpy as jnp
    >>> state = jnp.zeros((2, 4)), jnp.zeros((2, 4))
    >>> [s.shape for s in lstm_cell(jnp.ones((2, 3)), state, jnp.ones((3, 16)), jnp.ones((4, 16)))]
    [(2, 4), (2, 4)]

    Source: torch.nn.LSTMCell, PyTorch 2.13 documentation; Hochreiter and Schmidhuber, 1997.
    """
    h, c = hx
    state = cell("lstm_cell", lstm_step, input, (h, c), w_ih, w_hh, b_ih, b_hh, 4, precision)
    return state[0], state[1]


def gru_cell(
    input: jax.Array,
    hx: jax.Array,
    w_ih: jax.Array,
    w_hh: jax.Array,
    b_ih: jax.Array | None = None,
    b_hh: jax.Array | None = None,
    *,
    precision: Any = None,
) -> jax.Array:
    """One GRU step; the twin of ``torch.gru_cell``: ``n = tanh(x_n + r * (h_n))``.

    Shape:
        input: (B, I), hx: (B, H); w_ih: (I, 3 H), w_hh: (H, 3 H); returns (B, H).

    Raises:
        ValueError: sizes that do not fit.

    >>> import jax.numpy as jnp
    >>> gru_cell(jnp.ones((2, 3)), jnp.ones((2, 4)), jnp.ones((3, 12)), jnp.ones((4, 12))).shape
    (2, 4)

    Source: torch.nn.GRUCell, PyTorch 2.13 documentation; Cho et al., 2014.
    """
    return cell("gru_cell", gru_step, input, (hx,), w_ih, w_hh, b_ih, b_hh, 3, precision)[0]


def rnn_tanh(
    input: jax.Array,
    hx: jax.Array,
    params: Sequence[jax.Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    *,
    lengths: Any = None,
    rngs: RandomSource = None,
    precision: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """A stack of Elman layers with tanh; the twin of ``torch.rnn_tanh``. Returns (output, h_n).

    Arguments, shapes and errors as in ``lstm``, with one state (num_layers * D, B, H).

    >>> import jax.numpy as jnp
    >>> weights = [jnp.ones((3, 4)), jnp.eye(4)]
    >>> x, h0 = jnp.ones((5, 2, 3)), jnp.zeros((1, 2, 4))
    >>> out, h = rnn_tanh(x, h0, weights, False, 1, 0.0, False, False)
    >>> out.shape, h.shape
    ((5, 2, 4), (1, 2, 4))

    Source: torch.nn.RNN, PyTorch 2.13 documentation.
    """
    stack = Stack("rnn_tanh", tanh_step, 1, has_biases, num_layers, bidirectional)
    output, (h,) = stack.run(
        input, (hx,), params, dropout, train, batch_first, lengths, rngs, precision
    )
    return output, h


def rnn_relu(
    input: jax.Array,
    hx: jax.Array,
    params: Sequence[jax.Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    *,
    lengths: Any = None,
    rngs: RandomSource = None,
    precision: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """A stack of Elman layers with ReLU; the twin of ``torch.rnn_relu``. Returns (output, h_n).

    Arguments, shapes and errors as in ``lstm``, with one state (num_layers * D, B, H).

    >>> import jax.numpy as jnp
    >>> weights = [jnp.ones((3, 4)), jnp.eye(4)]
    >>> x, h0 = jnp.ones((5, 2, 3)), jnp.zeros((1, 2, 4))
    >>> out, h = rnn_relu(x, h0, weights, False, 1, 0.0, False, False)
    >>> out[:, 0, 0].tolist()
    [3.0, 6.0, 9.0, 12.0, 15.0]

    Source: torch.nn.RNN, PyTorch 2.13 documentation.
    """
    stack = Stack("rnn_relu", relu_step, 1, has_biases, num_layers, bidirectional)
    output, (h,) = stack.run(
        input, (hx,), params, dropout, train, batch_first, lengths, rngs, precision
    )
    return output, h


def lstm(
    input: jax.Array,
    hx: Sequence[jax.Array],
    params: Sequence[jax.Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    *,
    lengths: Any = None,
    rngs: RandomSource = None,
    precision: Any = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A stack of LSTM layers; the twin of ``torch.lstm``. Returns (output, h_n, c_n).

    Shape:
        input: (T, B, I), or (B, T, I) with ``batch_first``, which moves nothing else;
        hx: h (num_layers * D, B, P) and c (num_layers * D, B, H);
        returns (T, B, D * P) or (B, T, D * P), and the states after each sequence's last step.

    Args:
        params: for every layer, and in it for every direction: w_ih, w_hh, then b_ih and b_hh
            if ``has_biases``, then w_hr if the layers project.
        dropout: probability of dropping an output of a layer that is not the last, if ``train``.
        lengths: (B,) lengths of the sequences, known or traced. Steps past the end change no
            state and give zeros, and the backward direction starts at each sequence's own end, as
            for a packed sequence in torch.
        rngs: source of random numbers, needed when dropping.

    Raises:
        ValueError: sizes that do not fit, no time steps, or no random numbers.

    >>> import jax.numpy as jnp
    >>> weights = [jnp.ones((3, 16)), jnp.ones((4, 16))]
    >>> hx = jnp.zeros((1, 2, 4)), jnp.zeros((1, 2, 4))
    >>> out, h, c = lstm(jnp.ones((5, 2, 3)), hx, weights, False, 1, 0.0, False, False)
    >>> out.shape, h.shape, c.shape
    ((5, 2, 4), (1, 2, 4), (1, 2, 4))

    Source: torch.nn.LSTM, PyTorch 2.13 documentation; Hochreiter and Schmidhuber, 1997.
    """
    stack = Stack("lstm", lstm_step, 4, has_biases, num_layers, bidirectional)
    output, (h, c) = stack.run(
        input, tuple(hx), params, dropout, train, batch_first, lengths, rngs, precision
    )
    return output, h, c


def gru(
    input: jax.Array,
    hx: jax.Array,
    params: Sequence[jax.Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    *,
    lengths: Any = None,
    rngs: RandomSource = None,
    precision: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """A stack of GRU layers; the twin of ``torch.gru``. Returns (output, h_n).

    Arguments, shapes and errors as in ``lstm``, with one state (num_layers * D, B, H).

    >>> import jax.numpy as jnp
    >>> weights = [jnp.ones((3, 12)), jnp.ones((4, 12))]
    >>> x, h0 = jnp.ones((5, 2, 3)), jnp.zeros((1, 2, 4))
    >>> out, h = gru(x, h0, weights, False, 1, 0.0, False, False)
    >>> out.shape, h.shape
    ((5, 2, 4), (1, 2, 4))

    Source: torch.nn.GRU, PyTorch 2.13 documentation; Cho et al., 2014.
    """
    stack = Stack("gru", gru_step, 3, has_biases, num_layers, bidirectional)
    output, (h,) = stack.run(
        input, (hx,), params, dropout, train, batch_first, lengths, rngs, precision
    )
    return output, h
