"""An EfficientNet: inverted bottlenecks with squeeze-and-excitation and stochastic depth."""

import math

import torch
from torch import nn


class ConvNormActivation(nn.Sequential):
    def __init__(
        self, in_channels, out_channels, kernel_size=3, stride=1, groups=1, activation=True
    ):
        layers = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                (kernel_size - 1) // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
        ]
        if activation:
            layers.append(nn.SiLU(inplace=True))
        super().__init__(*layers)


class SqueezeExcitation(nn.Module):
    def __init__(self, input_channels, squeeze_channels):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = nn.SiLU(inplace=True)
        self.scale_activation = nn.Sigmoid()

    def _scale(self, x):
        scale = self.avgpool(x)
        scale = self.fc1(scale)
        scale = self.activation(scale)
        scale = self.fc2(scale)
        return self.scale_activation(scale)

    def forward(self, x):
        return self._scale(x) * x


class StochasticDepth(nn.Module):
    """Leaves a residual branch out for whole samples (Huang et al., 2016)."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if not self.training or self.p == 0.0:
            return x
        survival_rate = 1.0 - self.p
        shape = [x.shape[0]] + [1] * (x.ndim - 1)
        noise = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(survival_rate)
        return x * noise.div_(survival_rate)


class MBConv(nn.Module):
    def __init__(self, inp, oup, kernel_size, stride, expand_ratio, drop_prob):
        super().__init__()
        self.use_res_connect = stride == 1 and inp == oup
        expanded = inp * expand_ratio
        layers = []
        if expanded != inp:
            layers.append(ConvNormActivation(inp, expanded, 1))
        layers += [
            ConvNormActivation(expanded, expanded, kernel_size, stride, groups=expanded),
            SqueezeExcitation(expanded, max(1, inp // 4)),
            ConvNormActivation(expanded, oup, 1, activation=False),
        ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop_prob)

    def forward(self, x):
        result = self.block(x)
        if self.use_res_connect:
            result = self.stochastic_depth(result)
            result += x
        return result


class EfficientNet(nn.Module):
    """Stages are (expand ratio, kernel size, stride, channels, layers)."""

    STAGES = ((1, 3, 1, 8, 1), (4, 3, 2, 12, 2), (4, 5, 2, 16, 3))

    def __init__(self, stages=STAGES, width=8, dropout=0.2, drop_prob=0.2, num_classes=10):
        super().__init__()
        layers = [ConvNormActivation(3, width, 3, stride=2)]
        total, index, channels = sum(stage[-1] for stage in stages), 0, width
        for expand_ratio, kernel_size, stride, out_channels, depth in stages:
            blocks = []
            for i in range(depth):
                rate = drop_prob * index / total
                step = stride if i == 0 else 1
                blocks.append(MBConv(channels, out_channels, kernel_size, step, expand_ratio, rate))
                channels = out_channels
                index += 1
            layers.append(nn.Sequential(*blocks))
        layers.append(ConvNormActivation(channels, 4 * channels, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Dropout(p=dropout, inplace=True), nn.Linear(4 * channels, num_classes)
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out")
            elif isinstance(m, nn.Linear):
                bound = 1.0 / math.sqrt(m.out_features)
                nn.init.uniform_(m.weight, -bound, bound)

    def forward(self, x):
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)
