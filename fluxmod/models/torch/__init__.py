"""The note models in PyTorch."""

from __future__ import annotations

from fluxmod._optional import require

require("torch", extra="torch", needed_for="fluxmod.models.torch")

from .exercises import DropoutNet as DropoutNet  # noqa: E402
from .exercises import TwoLayerMLP as TwoLayerMLP  # noqa: E402
from .exercises import TwoParts as TwoParts  # noqa: E402
from .exercises import sequential_mlp as sequential_mlp  # noqa: E402
from .liner import Liner as Liner  # noqa: E402
from .logistic import MLP as MLP  # noqa: E402
from .model import Model as Model  # noqa: E402
from .neural_network import NeuralNetwork as NeuralNetwork  # noqa: E402
from .neural_network import Predictor as Predictor  # noqa: E402
from .neural_network import seq_modules as seq_modules  # noqa: E402
from .simple_cnn import SimpleCNN as SimpleCNN  # noqa: E402
from .simple_model import SimpleModel as SimpleModel  # noqa: E402
from .simple_model import mlp as mlp  # noqa: E402
from .training_loop import fit as fit  # noqa: E402
from .vla import ActionHead as ActionHead  # noqa: E402
from .vla import LanguageModel as LanguageModel  # noqa: E402
from .vla import VisionEncoder as VisionEncoder  # noqa: E402
from .vla import VLAModel as VLAModel  # noqa: E402

__all__ = [
    "ActionHead",
    "DropoutNet",
    "LanguageModel",
    "Liner",
    "MLP",
    "Model",
    "NeuralNetwork",
    "Predictor",
    "SimpleCNN",
    "SimpleModel",
    "TwoLayerMLP",
    "TwoParts",
    "VLAModel",
    "VisionEncoder",
    "fit",
    "mlp",
    "seq_modules",
    "sequential_mlp",
]
