"""RNN, LSTM and GRU over whole sequences."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from fluxmod.nn import functional as F

from ._check import check_floating
from ._init import scaled_uniform
from ._module import Module
from ._random import RandomSource
from .utils.rnn import PackedSequence

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


class RNNBase(Module):
    """What RNN, LSTM and GRU share: arguments, weights, checks; ``torch.nn.RNNBase``.

    Weights have torch's names: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``,
    ``bias_hh_l0``, ``weight_hr_l0``, and the same with ``_reverse``. Every ``weight_*`` is the
    transpose of torch's.

    Dropout between the layers draws one mask (T, B, D * H) for each. torch's masks can be
    replayed: its CPU kernels draw them by operations that ``fluxmod.parity`` records, (T, B, D * H)
    for padded and (sum of lengths, D * H) for packed sequences. On a GPU cuDNN draws them inside
    its kernel, where they cannot be seen; there only the sampler can be compared.

    Args:
        mode: 'RNN_TANH', 'RNN_RELU', 'LSTM' or 'GRU'.

    Raises:
        TypeError: ``bias`` or ``batch_first`` is no bool, or a size is no integer.
        ValueError: a size that is not positive, a dropout outside [0, 1], an unknown mode.

    >>> layer = RNNBase("GRU", 3, 4, rngs=nnx.Rngs(0))
    >>> layer.weight_ih_l0.shape, layer.bias_hh_l0.shape
    ((3, 12), (12,))

    Source: torch.nn.RNNBase, PyTorch 2.13 documentation.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        who = type(self).__name__
        _check_arguments(who, input_size, hidden_size, num_layers, bias, batch_first, dropout)
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{who}: proj_size must be 0 or positive and below hidden_size={hidden_size}, got "
                f"{proj_size}."
            )
        if mode not in _GATES:
            raise ValueError(f"{who}: mode must be one of {tuple(_GATES)}, got {mode!r}.")
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.precision = precision
        bound = 1.0 / math.sqrt(hidden_size)
        for name, shape in self._shapes():
            setattr(self, name, nnx.Param(scaled_uniform(rngs.params(), shape, param_dtype, bound)))
        self.rngs = nnx.data(rngs.dropout.fork() if dropout > 0 else None)

    def _shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the weights in torch's order."""
        gates, out = _GATES[self.mode] * self.hidden_size, self.proj_size or self.hidden_size
        directions = ("", "_reverse") if self.bidirectional else ("",)
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for layer in range(self.num_layers):
            width = out * len(directions) if layer else self.input_size
            for end in directions:
                tail = f"l{layer}{end}"
                shapes += [
                    (f"weight_ih_{tail}", (width, gates)),
                    (f"weight_hh_{tail}", (out, gates)),
                ]
                if self.bias:
                    shapes += [(f"bias_ih_{tail}", (gates,)), (f"bias_hh_{tail}", (gates,))]
                if self.proj_size:
                    shapes.append((f"weight_hr_{tail}", (self.hidden_size, out)))
        return shapes

    @property
    def weight_names(self) -> list[str]:
        """Names of the weights in torch's order."""
        return [name for name, _ in self._shapes()]

    @property
    def all_weights(self) -> list[list[Any]]:
        """The weights, one list for each layer and direction."""
        values = [getattr(self, name) for name in self.weight_names]
        each = len(values) // (self.num_layers * (2 if self.bidirectional else 1))
        return [values[i : i + each] for i in range(0, len(values), each)]

    def flatten_parameters(self) -> None:
        """Do nothing: there is no cuDNN buffer to lay out."""

    def _run(
        self, function: Any, input: Any, hx: Any, deterministic: bool | None, rngs: RandomSource
    ) -> tuple[Any, tuple[jax.Array, ...]]:
        """Check, promote and run; ``hx`` is a tuple of states, or None for zeros."""
        packed = isinstance(input, PackedSequence)
        x = input.padded if packed else input
        self._check(x, hx, packed)
        batched = x.ndim == 3
        batch_axis = 0 if self.batch_first and not packed else 1
        if not batched:
            x = jnp.expand_dims(x, batch_axis)
            hx = None if hx is None else tuple(jnp.expand_dims(part, 1) for part in hx)
        params = [getattr(self, name)[...] for name in self.weight_names]
        promoted: Any = dtypes.promote_dtype((x, *(hx or ()), *params), dtype=self.dtype)
        x, params = promoted[0], promoted[-len(params) :]
        sizes = self._state_sizes(x.shape[batch_axis])
        states = promoted[1 : -len(params)] or [jnp.zeros(size, x.dtype) for size in sizes]
        for part, size in zip(states, sizes, strict=True):
            if part.shape != size:
                raise ValueError(
                    f"{type(self).__name__}: expected hidden size {size}, got {part.shape}."
                )
        output, *finals = function(
            x,
            tuple(states) if len(states) > 1 else states[0],
            params,
            self.bias,
            self.num_layers,
            self.dropout,
            self.training if deterministic is None else not deterministic,
            self.bidirectional,
            self.batch_first and not packed,
            lengths=input.lengths if packed else None,
            rngs=self.rngs if rngs is None else rngs,
            precision=self.precision,
        )
        if packed:
            output = PackedSequence.from_padded(output, input.lengths, input.sorted_indices)
        if not batched:
            return jnp.squeeze(output, batch_axis), tuple(jnp.squeeze(h, 1) for h in finals)
        return output, tuple(finals)

    def _state_sizes(self, batch: int) -> list[tuple[int, ...]]:
        places = self.num_layers * (2 if self.bidirectional else 1)
        h = (places, batch, self.proj_size or self.hidden_size)
        return [h, (places, batch, self.hidden_size)] if self.mode == "LSTM" else [h]

    def _check(self, x: jax.Array, hx: Any, packed: bool) -> None:
        who = type(self).__name__
        check_floating(x, who)
        if x.ndim not in ((3,) if packed else (2, 3)):
            raise ValueError(
                f"{who}: expected an input with {'3' if packed else '2 or 3'} axes, got shape "
                f"{tuple(x.shape)}."
            )
        if x.shape[-1] != self.input_size:
            raise ValueError(
                f"{who}: expected input_size={self.input_size} features on the last axis, got "
                f"shape {tuple(x.shape)}."
            )
        for part in hx or ():
            check_floating(part, f"{who}: hx")
            if part.ndim != x.ndim:
                raise ValueError(
                    f"{who}: for an input with {x.ndim} axes hx has {x.ndim} too, got shape "
                    f"{tuple(part.shape)}."
                )

    def extra_repr(self) -> str:
        """Return the arguments as torch prints them."""
        text = f"{self.input_size}, {self.hidden_size}"
        shown = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        values = {name: getattr(self, name) for name in shown}
        return text + "".join(f", {n}={v}" for n, v in values.items() if v != shown[n])


class RNN(RNNBase):
    """Run Elman layers over sequences; the twin of ``torch.nn.RNN``.

    Shape:
        input: (L, N, input_size), (N, L, input_size) with ``batch_first``, (L, input_size) for one
        sequence, or a ``PackedSequence``; hx: (num_layers * D, N, hidden_size), without N for one
        sequence, zeros if not given. Returns the output (L, N, D * hidden_size), in the form of
        the input, and h_n in the shape of hx: the state after each sequence's own last step.

    Args:
        nonlinearity: 'tanh' or 'relu'.
        dropout: probability of dropping an output of a layer that is not the last.
        rngs: source of the 'params' keys and of the 'dropout' stream.

    Differs from torch: every ``weight_*`` is the transpose of torch's; mixed dtypes are promoted.

    Raises:
        ValueError: arguments as in ``RNNBase``; arrays that do not fit; sequences without steps.
        TypeError: an input that is not floating.

    >>> layer = RNN(3, 4, num_layers=2, rngs=nnx.Rngs(0))
    >>> output, h = layer(jnp.ones((5, 2, 3)))
    >>> output.shape, h.shape
    ((5, 2, 4), (2, 2, 4))

    Source: torch.nn.RNN, PyTorch 2.13 documentation; Elman, 1990.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}.")
        self.nonlinearity = nonlinearity
        super().__init__(
            f"RNN_{nonlinearity.upper()}",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )

    def __call__(
        self,
        input: jax.Array | PackedSequence,
        hx: jax.Array | None = None,
        *,
        deterministic: bool | None = None,
        rngs: RandomSource = None,
    ) -> tuple[Any, jax.Array]:
        function = F.rnn_tanh if self.nonlinearity == "tanh" else F.rnn_relu
        states = None if hx is None else (hx,)
        output, (h,) = self._run(function, input, states, deterministic, rngs)
        return output, h


class LSTM(RNNBase):
    """Run LSTM layers over sequences; the twin of ``torch.nn.LSTM``.

    Shape:
        input: as in ``RNN``; hx: a pair of h (num_layers * D, N, P) and c (num_layers * D, N,
        hidden_size), P being proj_size or hidden_size, without N for one sequence, zeros if not
        given. Returns the output (L, N, D * P), in the form of the input, and (h_n, c_n).

    Args:
        dropout: probability of dropping an output of a layer that is not the last.
        proj_size: width to which h is projected, 0 for none.
        rngs: source of the 'params' keys and of the 'dropout' stream.

    Differs from torch: every ``weight_*`` is the transpose of torch's; mixed dtypes are promoted.

    Raises:
        ValueError: arguments as in ``RNNBase``; arrays that do not fit; sequences without steps.
        TypeError: an input that is not floating.

    >>> layer = LSTM(3, 4, bidirectional=True, batch_first=True, rngs=nnx.Rngs(0))
    >>> layer.weight_ih_l0.shape, layer.weight_hh_l0_reverse.shape
    ((3, 16), (4, 16))
    >>> output, (h, c) = layer(jnp.ones((2, 5, 3)))
    >>> output.shape, h.shape, c.shape
    ((2, 5, 8), (2, 2, 4), (2, 2, 4))

    Source: torch.nn.LSTM, PyTorch 2.13 documentation; Hochreiter and Schmidhuber, 1997.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )

    def __call__(
        self,
        input: jax.Array | PackedSequence,
        hx: tuple[jax.Array, jax.Array] | None = None,
        *,
        deterministic: bool | None = None,
        rngs: RandomSource = None,
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            raise ValueError(
                f"LSTM: hx is a pair (h, c), got {type(hx).__name__}. Pass (h, jnp.zeros(...))."
            )
        states = None if hx is None else tuple(hx)
        output, (h, c) = self._run(F.lstm, input, states, deterministic, rngs)
        return output, (h, c)


class GRU(RNNBase):
    """Run GRU layers over sequences; the twin of ``torch.nn.GRU``.

    Shapes, arguments, differences and errors as in ``RNN``.

    >>> layer = GRU(3, 4, rngs=nnx.Rngs(0))
    >>> output, h = layer(jnp.ones((5, 3)))
    >>> output.shape, h.shape
    ((5, 4), (1, 4))

    Source: torch.nn.GRU, PyTorch 2.13 documentation; Cho et al., 2014.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
            param_dtype=param_dtype,
            precision=precision,
            rngs=rngs,
        )

    def __call__(
        self,
        input: jax.Array | PackedSequence,
        hx: jax.Array | None = None,
        *,
        deterministic: bool | None = None,
        rngs: RandomSource = None,
    ) -> tuple[Any, jax.Array]:
        states = None if hx is None else (hx,)
        output, (h,) = self._run(F.gru, input, states, deterministic, rngs)
        return output, h


def _check_arguments(
    who: str,
    input_size: Any,
    hidden_size: Any,
    num_layers: int,
    bias: Any,
    batch_first: Any,
    dropout: Any,
) -> None:
    """Raise what torch raises, in its order; warn where dropout has no place."""
    number = isinstance(dropout, numbers.Real) and not isinstance(dropout, bool)
    if not number or not 0 <= dropout <= 1:
        raise ValueError(f"{who}: dropout must be a number from 0 to 1, got {dropout!r}.")
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            f"{who}: dropout={dropout} acts between layers, and num_layers is 1.", stacklevel=4
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{who}: {name} must be a bool, got {flag!r}.")
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, int):
            raise TypeError(f"{who}: {name} must be an int, got {size!r}.")
        if size <= 0:
            raise ValueError(f"{who}: {name} must be positive, got {size}.")
    if num_layers <= 0:
        raise ValueError(f"{who}: num_layers must be positive, got {num_layers}.")
