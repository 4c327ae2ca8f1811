"""UNet, ported from torch by fluxmod."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from fluxmod import nn

__all__ = ["DoubleConv", "Down", "UNet", "Up"]


class DoubleConv(nn.Module):
    """The port of ``parity_tests.porter.models.vision.DoubleConv``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs) -> None:
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False, rngs=rngs),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False, rngs=rngs),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.double_conv(x)


class Down(nn.Module):
    """The port of ``parity_tests.porter.models.vision.Down``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs) -> None:
        self.maxpool_conv = nn.Sequential(
            nn.MaxPool2d(2, stride=2), DoubleConv(in_channels, out_channels, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """The port of ``parity_tests.porter.models.vision.Up``.

    Shape:
        x1: (N, H, W, C); x2: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1), nn.Channel(1)), output=nn.Channel(1))

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs) -> None:
        self.up = nn.ConvTranspose2d(
            in_channels, in_channels // 2, kernel_size=2, stride=2, rngs=rngs
        )
        self.conv = DoubleConv(in_channels, out_channels, rngs=rngs)

    def __call__(self, x1: jax.Array, x2: jax.Array) -> jax.Array:
        x1 = self.up(x1)
        x1 = jnp.pad(
            x1,
            (
                (0, 0),
                (
                    (x2.shape[1] - x1.shape[1]) // 2,
                    x2.shape[1] - x1.shape[1] - (x2.shape[1] - x1.shape[1]) // 2,
                ),
                (
                    (x2.shape[2] - x1.shape[2]) // 2,
                    x2.shape[2] - x1.shape[2] - (x2.shape[2] - x1.shape[2]) // 2,
                ),
                (0, 0),
            ),
        )
        x = jnp.concatenate([x2, x1], axis=-1)
        return self.conv(x)


class UNet(nn.Module):
    """The port of ``parity_tests.porter.models.vision.UNet``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(
        self, n_channels: int = 3, n_classes: int = 2, width: int = 8, *, rngs: nnx.Rngs
    ) -> None:
        self.inc = DoubleConv(n_channels, width, rngs=rngs)
        self.down1 = Down(width, width * 2, rngs=rngs)
        self.down2 = Down(width * 2, width * 4, rngs=rngs)
        self.up1 = Up(width * 4, width * 2, rngs=rngs)
        self.up2 = Up(width * 2, width, rngs=rngs)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)
