"""torch.nn as Flax NNX modules: the same names, arguments, defaults and numbers."""

from __future__ import annotations

from . import functional as functional
from ._attention import MultiheadAttention as MultiheadAttention
from ._axes import SAME as SAME
from ._axes import Axes as Axes
from ._axes import Channel as Channel
from ._batchnorm import BatchNorm1d as BatchNorm1d
from ._batchnorm import BatchNorm2d as BatchNorm2d
from ._batchnorm import BatchNorm3d as BatchNorm3d
from ._container import Identity as Identity
from ._container import ModuleDict as ModuleDict
from ._container import ModuleList as ModuleList
from ._container import ParameterDict as ParameterDict
from ._container import ParameterList as ParameterList
from ._container import Sequential as Sequential
from ._conv import Conv1d as Conv1d
from ._conv import Conv2d as Conv2d
from ._conv import Conv3d as Conv3d
from ._dropout import Dropout as Dropout
from ._dropout import Dropout1d as Dropout1d
from ._dropout import Dropout2d as Dropout2d
from ._dropout import Dropout3d as Dropout3d
from ._embedding import Embedding as Embedding
from ._flatten import Flatten as Flatten
from ._flatten import Unflatten as Unflatten
from ._layernorm import LayerNorm as LayerNorm
from ._linear import Bilinear as Bilinear
from ._linear import Linear as Linear
from ._module import Buffer as Buffer
from ._module import Module as Module
from ._module import Parameter as Parameter
from ._module import is_trainable as is_trainable
from ._module import named_children as named_children
from ._module import named_modules as named_modules
from ._module import named_variables as named_variables
from ._module import structure as structure

__all__ = [
    "Axes",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Buffer",
    "Channel",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "Sequential",
    "Unflatten",
    "functional",
    "is_trainable",
    "named_children",
    "named_modules",
    "named_variables",
    "structure",
]
