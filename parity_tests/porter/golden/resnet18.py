"""ResNet, ported from torch by fluxmod."""

from __future__ import annotations

import jax
from flax import nnx

from fluxmod import nn
from fluxmod.nn import functional as F

__all__ = ["BasicBlock", "ResNet"]


class BasicBlock(nn.Module):
    """The port of ``parity_tests.porter.models.vision.BasicBlock``.

    Shape:
        x: (N, H, W, C); returns (N, H, W, C).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),), output=nn.Channel(1))

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: bool = False,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv1 = nn.Conv2d(
            inplanes, planes, kernel_size=3, stride=stride, padding=1, bias=False, rngs=rngs
        )
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False, rngs=rngs)
        self.bn2 = nn.BatchNorm2d(planes)
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, kernel_size=1, stride=stride, bias=False, rngs=rngs),
                nn.BatchNorm2d(planes),
            )
        else:
            self.downsample = None

    def __call__(self, x: jax.Array) -> jax.Array:
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        identity = x if self.downsample is None else self.downsample(x)
        out = out + identity
        return self.relu(out)


class ResNet(nn.Module):
    """The port of ``parity_tests.porter.models.vision.ResNet``.

    Shape:
        x: (N, H, W, C); returns (N, 10).
    """

    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(self, num_classes: int = 10, width: int = 8, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False, rngs=rngs)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = nn.Sequential(*(BasicBlock(8, 8, rngs=rngs) for _ in range(2)))
        self.layer2 = nn.Sequential(
            BasicBlock(8, 16, stride=2, downsample=True, rngs=rngs), BasicBlock(16, 16, rngs=rngs)
        )
        self.layer3 = nn.Sequential(
            BasicBlock(16, 32, stride=2, downsample=True, rngs=rngs), BasicBlock(32, 32, rngs=rngs)
        )
        self.layer4 = nn.Sequential(
            BasicBlock(32, 64, stride=2, downsample=True, rngs=rngs), BasicBlock(64, 64, rngs=rngs)
        )
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(64, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.avgpool(x)
        x = F.flatten(x)
        return self.fc(x)
