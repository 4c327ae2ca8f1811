"""The note models in Flax NNX."""

from __future__ import annotations

from .exercises import DropoutNet as DropoutNet
from .exercises import TwoLayerMLP as TwoLayerMLP
from .exercises import TwoParts as TwoParts
from .exercises import sequential_mlp as sequential_mlp
from .liner import Liner as Liner
from .logistic import MLP as MLP
from .model import Model as Model
from .neural_network import NeuralNetwork as NeuralNetwork
from .neural_network import Predictor as Predictor
from .neural_network import seq_modules as seq_modules
from .simple_cnn import SimpleCNN as SimpleCNN
from .simple_model import SimpleModel as SimpleModel
from .simple_model import mlp as mlp
from .training_loop import fit as fit
from .vla import ActionHead as ActionHead
from .vla import LanguageModel as LanguageModel
from .vla import VisionEncoder as VisionEncoder
from .vla import VLAModel as VLAModel

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
