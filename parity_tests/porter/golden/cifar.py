"""CifarNet, ported from torch by fluxmod."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["CifarBlock", "CifarNet"]


class CifarBlock(nn.Module):
    """The port of ``parity_tests.porter.models.vision.CifarBlock``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(self, in_planes: int, planes: int, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nn.Conv2d(
            in_planes, planes, 3, stride=stride, padding=1, bias=False, rngs=rngs
        )
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False, rngs=rngs)
        self.bn2 = nn.BatchNorm2d(planes)
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False, rngs=rngs),
                nn.BatchNorm2d(planes),
            )
        else:
            self.shortcut = nn.Sequential()

    def __call__(self, x: jax.Array) -> jax.Array:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + self.shortcut(x)
        return F.relu(out)


class CifarNet(nn.Module):
    """The port of ``parity_tests.porter.models.vision.CifarNet``.

    Shape:
        x: (N, H, W, C); returns (N, 10).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(self, num_classes: int = 10, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False, rngs=rngs)
        self.layer1 = nn.Sequential(*(CifarBlock(8, 8, rngs=rngs) for _ in range(2)))
        self.layer2 = nn.Sequential(CifarBlock(8, 16, 2, rngs=rngs), CifarBlock(16, 16, rngs=rngs))
        self.linear = nn.Linear(16, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        out = self.layer2(self.layer1(self.conv1(x)))
        out = F.avg_pool2d(out, out.shape[2])
        out = F.flatten(out)
        return self.linear(out)
