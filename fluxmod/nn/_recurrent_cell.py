"""RNNCell, LSTMCell, GRUCell: single steps."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F

from ._check import check_floating
from ._init import scaled_uniform
from ._module import Module

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]


class RNNCellBase(Module):
    """What the cells share: sizes and weights; ``torch.nn.RNNCellBase``.

    ``weight_ih`` (input_size, num_chunks * hidden_size) and ``weight_hh`` are the transposes of
    torch's; ``bias_ih`` and ``bias_hh`` are None without ``bias``.

    >>> RNNCellBase(3, 4, True, num_chunks=3, rngs=nnx.Rngs(0)).weight_ih.shape
    (3, 12)

    Source: torch.nn.RNNCellBase, PyTorch 2.13 documentation.
    """

    weight_names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        bound = 1.0 / math.sqrt(hidden_size) if hidden_size > 0 else 0.0
        gates = num_chunks * hidden_size

        def uniform(*shape: int) -> Any:
            return nnx.Param(scaled_uniform(rngs.params(), shape, param_dtype, bound))

        self.weight_ih = uniform(input_size, gates)
        self.weight_hh = uniform(hidden_size, gates)
        self.bias_ih = uniform(gates) if bias else nnx.data(None)
        self.bias_hh = uniform(gates) if bias else nnx.data(None)

    def _run(self, function: Any, input: jax.Array, hx: Any, states: int) -> tuple[jax.Array, ...]:
        """Check, promote and step; ``hx`` is a tuple of states, or None for zeros."""
        batched = self._check(input, hx)
        lift = (lambda x: x) if batched else (lambda x: x[None])
        weights = [getattr(self, name) for name in self.weight_names]
        promoted: Any = dtypes.promote_dtype(
            (input, *(hx or ()), *(None if w is None else w[...] for w in weights)),
            dtype=self.dtype,
        )
        x = lift(promoted[0])
        parts = [lift(part) for part in promoted[1:-4]]
        parts = parts or [jnp.zeros((x.shape[0], self.hidden_size), x.dtype)] * states
        out = function(
            x,
            tuple(parts) if states > 1 else parts[0],
            *promoted[-4:],
            precision=self.precision,
        )
        new = out if states > 1 else (out,)
        return tuple(new) if batched else tuple(part[0] for part in new)

    def _check(self, input: jax.Array, hx: Any) -> bool:
        """Whether the input has a batch axis."""
        who = type(self).__name__
        check_floating(input, who)
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"{who}: expected an input of shape (batch, {self.input_size}) or "
                f"({self.input_size},), got {tuple(input.shape)}."
            )
        want = (*input.shape[:-1], self.hidden_size)
        for part in hx or ():
            check_floating(part, f"{who}: hx")
            if part.shape != want:
                raise ValueError(f"{who}: expected hx of shape {want}, got {tuple(part.shape)}.")
        return input.ndim == 2

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if (nonlinearity := getattr(self, "nonlinearity", "tanh")) != "tanh":
            text += f", nonlinearity={nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """Take one Elman step; the twin of ``torch.nn.RNNCell``.

    Shape:
        input: (N, input_size) or (input_size,); hx: (N, hidden_size) or (hidden_size,), zeros if
        not given; returns the next hx.

    Differs from torch: ``weight_ih`` and ``weight_hh`` are the transposes of torch's; mixed dtypes
    are promoted.

    Raises:
        ValueError: arrays that do not fit; an unknown nonlinearity, when called as in torch.
        TypeError: an input that is not floating.

    >>> RNNCell(3, 4, rngs=nnx.Rngs(0))(jnp.ones((2, 3))).shape
    (2, 4)

    Source: torch.nn.RNNCell, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias,
            1,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )
        self.nonlinearity = nonlinearity

    def __call__(self, input: jax.Array, hx: jax.Array | None = None) -> jax.Array:
        functions = {"tanh": F.rnn_tanh_cell, "relu": F.rnn_relu_cell}
        if self.nonlinearity not in functions:
            raise ValueError(
                f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {self.nonlinearity!r}."
            )
        states = None if hx is None else (hx,)
        return self._run(functions[self.nonlinearity], input, states, 1)[0]


class LSTMCell(RNNCellBase):
    """Take one LSTM step; the twin of ``torch.nn.LSTMCell``.

    Shape:
        input: (N, input_size) or (input_size,); hx: a pair (h, c) of (N, hidden_size) or
        (hidden_size,), zeros if not given; returns the next pair.

    Differences and errors as in ``RNNCell``.

    >>> h, c = LSTMCell(3, 4, rngs=nnx.Rngs(0))(jnp.ones((2, 3)))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))

    Source: torch.nn.LSTMCell, PyTorch 2.13 documentation; Hochreiter and Schmidhuber, 1997.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias,
            4,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )

    def __call__(
        self, input: jax.Array, hx: tuple[jax.Array, jax.Array] | None = None
    ) -> tuple[jax.Array, jax.Array]:
        if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            raise ValueError(f"LSTMCell: hx is a pair (h, c), got {type(hx).__name__}.")
        h, c = self._run(F.lstm_cell, input, hx, 2)
        return h, c


class GRUCell(RNNCellBase):
    """Take one GRU step; the twin of ``torch.nn.GRUCell``.

    Shapes, differences and errors as in ``RNNCell``.

    >>> GRUCell(3, 4, rngs=nnx.Rngs(0))(jnp.ones(3), jnp.zeros(4)).shape
    (4,)

    Source: torch.nn.GRUCell, PyTorch 2.13 documentation; Cho et al., 2014.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias,
            3,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )

    def __call__(self, input: jax.Array, hx: jax.Array | None = None) -> jax.Array:
        return self._run(F.gru_cell, input, None if hx is None else (hx,), 1)[0]
