"""MobileNet, ported from torch by fluxmod."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["InvertedResidual", "MobileNet", "SqueezeExcite"]


class SqueezeExcite(nn.Module):
    """The port of ``parity_tests.porter.models.vision.SqueezeExcite``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(self, channels: int, reduction: int = 4, *, rngs: nnx.Rngs) -> None:
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, rngs=rngs),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, rngs=rngs),
            nn.Hardsigmoid(),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = F.flatten(self.avg_pool(x))
        b, _, _, c = x.shape
        y = self.fc(y).reshape(b, 1, 1, c)
        return x * y


class InvertedResidual(nn.Module):
    """The port of ``parity_tests.porter.models.vision.InvertedResidual``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(self, conv: nn.Module, use_res_connect: bool) -> None:
        self.use_res_connect = use_res_connect
        self.conv = conv

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.use_res_connect:
            return x + self.conv(x)
        return self.conv(x)


class MobileNet(nn.Module):
    """The port of ``parity_tests.porter.models.vision.MobileNet``.

    Shape:
        x: (N, H, W, C); returns (N, 10).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(self, num_classes: int = 10, dropout: float = 0.2, *, rngs: nnx.Rngs) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1, bias=False, rngs=rngs),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            InvertedResidual(
                nn.Sequential(
                    nn.Conv2d(8, 8, kernel_size=3, padding=1, groups=8, bias=False, rngs=rngs),
                    nn.BatchNorm2d(8),
                    nn.Hardswish(),
                    nn.Conv2d(8, 8, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(8),
                ),
                True,
            ),
            InvertedResidual(
                nn.Sequential(
                    nn.Conv2d(8, 32, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(32),
                    nn.ReLU6(),
                    nn.Conv2d(
                        32, 32, kernel_size=3, stride=2, padding=1, groups=32, bias=False, rngs=rngs
                    ),
                    nn.BatchNorm2d(32),
                    nn.Hardswish(),
                    nn.Conv2d(32, 12, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(12),
                ),
                False,
            ),
            InvertedResidual(
                nn.Sequential(
                    nn.Conv2d(12, 48, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(48),
                    nn.ReLU6(),
                    nn.Conv2d(48, 48, kernel_size=3, padding=1, groups=48, bias=False, rngs=rngs),
                    nn.BatchNorm2d(48),
                    nn.Hardswish(),
                    SqueezeExcite(48, rngs=rngs),
                    nn.Conv2d(48, 12, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(12),
                ),
                True,
            ),
            InvertedResidual(
                nn.Sequential(
                    nn.Conv2d(12, 48, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(48),
                    nn.ReLU6(),
                    nn.Conv2d(
                        48, 48, kernel_size=3, stride=2, padding=1, groups=48, bias=False, rngs=rngs
                    ),
                    nn.BatchNorm2d(48),
                    nn.Hardswish(),
                    SqueezeExcite(48, rngs=rngs),
                    nn.Conv2d(48, 16, kernel_size=1, bias=False, rngs=rngs),
                    nn.BatchNorm2d(16),
                ),
                False,
            ),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(p=dropout, rngs=rngs), nn.Linear(16, num_classes, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.features(x)
        x = x.mean(axis=(1, 2))
        return self.classifier(x)
