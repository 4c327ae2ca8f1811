"""TCN, ported from torch by fluxmod."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn

__all__ = ["Chomp1d", "TCN", "TemporalBlock"]


class Chomp1d(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.Chomp1d``.

    Shape:
        x: (N, L, C); returns (N, L, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(self, chomp_size: int) -> None:
        self.chomp_size = chomp_size

    def __call__(self, x: jax.Array) -> jax.Array:
        return x[:, : -self.chomp_size]


class TemporalBlock(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.TemporalBlock``.

    Shape:
        x: (N, L, C); returns (N, L, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        kernel_size: int,
        dilation: int,
        dropout: float = 0.2,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        padding = (kernel_size - 1) * dilation
        self.conv1 = nn.Conv1d(
            n_inputs, n_outputs, kernel_size, padding=padding, dilation=dilation, rngs=rngs
        )
        self.chomp1 = Chomp1d(padding)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout, rngs=rngs)
        self.net = nn.Sequential(self.conv1, self.chomp1, self.relu1, self.dropout1)
        if n_inputs != n_outputs:
            self.downsample = nn.Conv1d(n_inputs, n_outputs, 1, rngs=rngs)
        else:
            self.downsample = None
        self.relu = nn.ReLU()

    def __call__(self, x: jax.Array) -> jax.Array:
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    """The port of ``parity_tests.porter.models.sequence.TCN``.

    Shape:
        x: (N, L, C); returns (N, 3).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(self, channels: tuple[int, ...] = (4, 6, 6), *, rngs: nnx.Rngs) -> None:
        self.network = nn.Sequential(
            TemporalBlock(4, 4, 3, 1, rngs=rngs),
            TemporalBlock(4, 6, 3, 2, rngs=rngs),
            TemporalBlock(6, 6, 3, 4, rngs=rngs),
        )
        self.linear = nn.Linear(channels[-1], 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.network(x)
        return self.linear(y[:, -1])
