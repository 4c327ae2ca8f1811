"""The models that the suite ports, each with the inputs it is traced with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from parity_tests.porter.models import efficient, generative, misc, sequence, vision

__all__ = ["ZOO", "Model"]


@dataclass(frozen=True)
class Model:
    """A torch model and its example inputs."""

    build: Callable[[], torch.nn.Module]
    inputs: Callable[[], tuple[Any, ...]]

    def make(self) -> tuple[torch.nn.Module, tuple[Any, ...]]:
        torch.manual_seed(0)
        return self.build(), self.inputs()


def _floats(*shapes: tuple[int, ...]) -> Callable[[], tuple[Any, ...]]:
    return lambda: tuple(torch.randn(shape) for shape in shapes)


def _tokens(high: int, *shapes: tuple[int, ...]) -> Callable[[], tuple[Any, ...]]:
    return lambda: tuple(torch.randint(0, high, shape) for shape in shapes)


def _graph() -> tuple[Any, ...]:
    return torch.randn(7, 5), torch.randint(0, 7, (9,)), torch.randint(0, 7, (9,))


ZOO = {
    "cifar": Model(vision.CifarNet, _floats((2, 3, 8, 8))),
    "cifar_preact": Model(lambda: vision.CifarNet(vision.PreActBlock), _floats((2, 3, 8, 8))),
    "convnext": Model(vision.ConvNeXt, _floats((2, 3, 16, 24))),
    "convnext_drop_path": Model(
        lambda: vision.ConvNeXt(drop_path_rate=0.2), _floats((2, 3, 16, 24))
    ),
    "densenet": Model(vision.DenseNet, _floats((2, 3, 16, 18))),
    "dqn": Model(misc.DuelingDQN, _floats((2, 6))),
    "efficientnet": Model(efficient.EfficientNet, _floats((2, 3, 24, 26))),
    "ema": Model(misc.EMA, _floats((2, 4))),
    "film": Model(misc.FiLM, _floats((2, 3, 5, 7), (2, 4))),
    "flash": Model(lambda: sequence.FlashSelfAttention(8, 2, 0.1), _floats((2, 5, 8))),
    "fourier": Model(misc.FourierLayer, _floats((2, 4, 10))),
    "gated_mlp": Model(misc.GatedMLP, _floats((2, 5, 6))),
    "gcn": Model(misc.GCN, _graph),
    "generator": Model(generative.Generator, _floats((2, 6, 1, 1))),
    "googlenet": Model(vision.GoogLeNetLike, _floats((2, 3, 7, 9))),
    "gpt": Model(sequence.GPT, _tokens(23, (2, 9))),
    "gpt_untied": Model(lambda: sequence.GPT(tie=False), _tokens(23, (2, 9))),
    "in_place": Model(misc.InPlace, _floats((2, 6))),
    "lstm": Model(sequence.LSTMTagger, _tokens(19, (2, 6))),
    "mixture": Model(misc.MixtureOfExperts, _floats((2, 6))),
    "mobilenet": Model(vision.MobileNet, _floats((2, 3, 17, 19))),
    "perceiver": Model(misc.Perceiver, _floats((2, 5, 8))),
    "pointnet": Model(misc.PointNet, _floats((2, 3, 11))),
    "resnet18": Model(vision.resnet18, _floats((2, 3, 32, 36))),
    "resnet50": Model(vision.resnet50, _floats((2, 3, 32, 36))),
    "rms_norm": Model(lambda: sequence.RMSNorm(6), _floats((2, 5, 6))),
    "seq2seq": Model(sequence.Seq2Seq, _tokens(17, (2, 6), (2, 4))),
    "shuffle": Model(vision.ShuffleUnit, _floats((2, 8, 5, 7))),
    "siamese": Model(misc.Siamese, _floats((2, 6), (2, 6))),
    "stn": Model(vision.STN, _floats((2, 1, 16, 16))),
    "swiglu": Model(lambda: sequence.SwiGLU(6, 9), _floats((2, 5, 6))),
    "tcn": Model(sequence.TCN, _floats((2, 4, 11))),
    "transformer": Model(sequence.TransformerModel, _tokens(13, (2, 6), (2, 4))),
    "unet": Model(vision.UNet, _floats((2, 3, 18, 22))),
    "vae": Model(generative.VAE, _floats((2, 1, 16, 16))),
    "vit": Model(sequence.VisionTransformer, _floats((2, 3, 16, 16))),
}
