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

    def __init__(
        self,
        inp: int,
        oup: int,
        stride: int,
        expand_ratio: int,
        use_se: bool = False,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        hidden_dim = round(inp * expand_ratio)
        self.use_res_connect = stride == 1 and inp == oup
        layers = []
        if expand_ratio != 1:
            layers += [
                nn.Conv2d(inp, hidden_dim, 1, bias=False, rngs=rngs),
                nn.BatchNorm2d(hidden_dim),
                nn.ReLU6(),
            ]
        layers += [
            nn.Conv2d(
                hidden_dim, hidden_dim, 3, stride, 1, groups=hidden_dim, bias=False, rngs=rngs
            ),
            nn.BatchNorm2d(hidden_dim),
            nn.Hardswish(),
        ]
        if use_se:
            layers.append(SqueezeExcite(hidden_dim, rngs=rngs))
        layers += [nn.Conv2d(hidden_dim, oup, 1, bias=False, rngs=rngs), nn.BatchNorm2d(oup)]
        self.conv = nn.Sequential(*layers)

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
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False, rngs=rngs),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            InvertedResidual(8, 8, 1, 1, rngs=rngs),
            InvertedResidual(8, 12, 2, 4, rngs=rngs),
            InvertedResidual(12, 12, 1, 4, use_se=True, rngs=rngs),
            InvertedResidual(12, 16, 2, 4, use_se=True, rngs=rngs),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(dropout, rngs=rngs), nn.Linear(16, num_classes, rngs=rngs)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.features(x)
        x = x.mean(axis=(1, 2))
        return self.classifier(x)
