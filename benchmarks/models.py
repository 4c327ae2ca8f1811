"""Models and sizes of the benchmark, fixed before anything was optimised; every row is published.

The note models; and known architectures with their usual widths, from ``transformers`` where it has
them, ported by fluxmod. Images are small, so that a training step of the larger batch fills two
cores for a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from flax import nnx

import fluxmod.models.flax as flax_models
import fluxmod.models.torch as torch_models
from fluxmod import convert
from fluxmod.bench import Case
from fluxmod.models import Input

from .plain_nnx import BUILD
from .plain_port import with_plain_layers

_IMAGE = Input(("N", 1, 28, 28))
_FLAT = Input(("N", 28, 28))
NOTES: dict[str, tuple[str, tuple[Any, ...], tuple[Input, ...], int, int | None]] = {
    # name: class or function, arguments, inputs, batch, classes
    "Model": ("Model", (), (_IMAGE,), 32, None),
    "MLP": ("MLP", (64,), (Input(("N", 64)),), 64, None),
    "SimpleCNN": ("SimpleCNN", (), (_IMAGE,), 64, 10),
    "NeuralNetwork": ("NeuralNetwork", (), (_FLAT,), 64, 10),
    "seq_modules": ("seq_modules", (), (_FLAT,), 64, 10),
    "SimpleModel": ("SimpleModel", (64, 32), (Input(("N", 64)),), 64, None),
    "mlp_256_128_64": ("mlp", (), (Input(("N", 256)),), 64, None),
    "TwoLayerMLP": ("TwoLayerMLP", (64, 128, 10), (Input(("N", 64)),), 64, 10),
    "Liner": ("Liner", (64, 32), (Input(("N", 64)),), 64, None),
    "VLAModel": ("VLAModel", (), (Input(("N", 3, 32, 32)), Input(("N", 8), high=32)), 32, None),
}


def notes() -> Iterator[Case]:
    """The note models, written by hand in both frameworks and in plain ``flax.nnx``."""
    for name, (build, args, inputs, batch, classes) in NOTES.items():
        rng = np.random.default_rng(0)
        yield Case(
            name,
            partial(getattr(torch_models, build), *args),
            tuple(torch.from_numpy(spec.make(batch, rng)) for spec in inputs),
            labels=None if classes is None else torch.from_numpy(rng.integers(0, classes, batch)),
            flax=partial(getattr(flax_models, build), *args, rngs=nnx.Rngs(0)),
            plain=BUILD[name],
        )


# --- architectures --------------------------------------------------------------------------------

CLASSES, VOCABULARY, LENGTH = 10, 4096, 128
_WIDTH = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4}


def _transformers(name: str, **settings: Any) -> torch.nn.Module:
    """A model of ``transformers`` with random weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    cls = getattr(transformers, name)
    model: torch.nn.Module = cls(cls.config_class(**settings))
    return model


def _classifier(name: str, **settings: Any) -> Callable[[], torch.nn.Module]:
    return partial(_transformers, f"{name}ForImageClassification", num_labels=CLASSES, **settings)


def _unet() -> torch.nn.Module:
    from parity_tests.porter.models.vision import UNet

    return UNet(width=32)


class Recurrent(torch.nn.Module):
    """Two layers of an LSTM or a GRU over embedded tokens, and the next token's logits."""

    def __init__(self, kind: str, hidden: int = 256) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(VOCABULARY, hidden)
        self.rnn = getattr(torch.nn, kind)(hidden, hidden, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(hidden, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.rnn(self.embedding(tokens))
        logits: torch.Tensor = self.head(hidden)
        return logits


IMAGES = {
    # name: how it is built, pixels, the larger batch
    "resnet18": (
        _classifier("ResNet", layer_type="basic", depths=[2, 2, 2, 2],
                    hidden_sizes=[64, 128, 256, 512]), 64, 16),
    "resnet50": (_classifier("ResNet"), 64, 8),
    "mobilenet_v2": (_classifier("MobileNetV2"), 64, 16),
    "efficientnet_b0": (
        _classifier("EfficientNet", width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280,
                    dropout_rate=0.2), 64, 16),
    "convnext_tiny": (_classifier("ConvNext"), 64, 8),
    "regnet_x_400mf": (
        _classifier("RegNet", layer_type="x", depths=[1, 2, 7, 12],
                    hidden_sizes=[32, 64, 160, 400], groups_width=16), 64, 16),
    "vit_tiny": (
        _classifier("ViT", hidden_size=192, num_attention_heads=3, intermediate_size=768,
                    image_size=128), 128, 8),
}  # fmt: skip
SEQUENCES: dict[str, tuple[Callable[[], torch.nn.Module], int]] = {
    # name: how it is built, the larger batch; all take tokens
    "gpt2_4x256": (
        partial(_transformers, "GPT2LMHeadModel", vocab_size=VOCABULARY, n_embd=256, n_layer=4,
                n_head=4, use_cache=False), 8),
    "llama_4x256": (
        partial(_transformers, "LlamaForCausalLM", vocab_size=VOCABULARY, intermediate_size=688,
                use_cache=False, **_WIDTH), 8),
    "lstm_2x256": (partial(Recurrent, "LSTM"), 16),
    "gru_2x256": (partial(Recurrent, "GRU"), 16),
}  # fmt: skip


def architectures() -> Iterator[Case]:
    """Known architectures at batch 1 and at a larger one, ported."""
    for name, (build, pixels, most) in IMAGES.items():
        for batch in (1, most):
            torch.manual_seed(1)
            image, labels = (
                torch.randn(batch, 3, pixels, pixels),
                torch.randint(0, CLASSES, (batch,)),
            )
            yield _ported(name, build, image, labels)
    for batch in (1, 8):
        torch.manual_seed(1)
        yield _ported("unet_32", _unet, torch.randn(batch, 3, 64, 64))
    for batch in (1, 8):
        torch.manual_seed(1)
        tokens = torch.randint(0, VOCABULARY, (batch, LENGTH))
        bert = partial(
            _transformers, "BertModel", vocab_size=VOCABULARY, intermediate_size=1024, **_WIDTH
        )
        yield _ported("bert_4x256", bert, tokens)
    for name, (build, most) in SEQUENCES.items():
        for batch in (1, most):
            torch.manual_seed(1)
            tokens = torch.randint(0, VOCABULARY, (batch, LENGTH))
            labels = torch.randint(0, VOCABULARY, (batch, LENGTH))
            yield _ported(name, build, tokens, labels)


def _ported(
    name: str, build: Any, inputs: torch.Tensor, labels: torch.Tensor | None = None
) -> Case:
    case = Case(name, build, (inputs,), labels=labels)
    return replace(case, plain=lambda _: with_plain_layers(case.in_flax()))


def check_sizes() -> None:
    """The plain baselines must hold as many parameters as the models they stand for."""
    for case in notes():
        ours = convert.parameter_count(case.in_flax())
        plain = _size(BUILD[case.name](nnx.Rngs(0)))
        if plain != ours:
            raise AssertionError(f"{case.name}: plain {plain}, fluxmod {ours}")


def _size(model: nnx.Module) -> int:
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
