"""torch.nn as Flax NNX modules: the same names, arguments, defaults and numbers."""

from __future__ import annotations

from . import functional as functional
from . import init as init
from . import parallel as parallel
from . import utils as utils
from ._absent import DataParallel as DataParallel
from ._absent import UninitializedBuffer as UninitializedBuffer
from ._absent import UninitializedParameter as UninitializedParameter
from ._activation import Hardshrink as Hardshrink
from ._activation import Hardsigmoid as Hardsigmoid
from ._activation import Hardswish as Hardswish
from ._activation import Hardtanh as Hardtanh
from ._activation import LeakyReLU as LeakyReLU
from ._activation import PReLU as PReLU
from ._activation import ReLU as ReLU
from ._activation import ReLU6 as ReLU6
from ._activation import Softshrink as Softshrink
from ._activation import Threshold as Threshold
from ._activation_smooth import CELU as CELU
from ._activation_smooth import ELU as ELU
from ._activation_smooth import GELU as GELU
from ._activation_smooth import GLU as GLU
from ._activation_smooth import SELU as SELU
from ._activation_smooth import LogSigmoid as LogSigmoid
from ._activation_smooth import Mish as Mish
from ._activation_smooth import Sigmoid as Sigmoid
from ._activation_smooth import SiLU as SiLU
from ._activation_smooth import Softplus as Softplus
from ._activation_smooth import Softsign as Softsign
from ._activation_smooth import Tanh as Tanh
from ._activation_smooth import Tanhshrink as Tanhshrink
from ._adaptive_softmax import AdaptiveLogSoftmaxWithLoss as AdaptiveLogSoftmaxWithLoss
from ._attention import MultiheadAttention as MultiheadAttention
from ._axes import SAME as SAME
from ._axes import Axes as Axes
from ._axes import Channel as Channel
from ._batchnorm import BatchNorm1d as BatchNorm1d
from ._batchnorm import BatchNorm2d as BatchNorm2d
from ._batchnorm import BatchNorm3d as BatchNorm3d
from ._checked import checked as checked
from ._compiler import compiler_options as compiler_options
from ._container import Container as Container
from ._container import Identity as Identity
from ._container import ModuleDict as ModuleDict
from ._container import ModuleList as ModuleList
from ._container import Sequential as Sequential
from ._conv import Conv1d as Conv1d
from ._conv import Conv2d as Conv2d
from ._conv import Conv3d as Conv3d
from ._conv_transpose import ConvTranspose1d as ConvTranspose1d
from ._conv_transpose import ConvTranspose2d as ConvTranspose2d
from ._conv_transpose import ConvTranspose3d as ConvTranspose3d
from ._distance import CosineSimilarity as CosineSimilarity
from ._distance import PairwiseDistance as PairwiseDistance
from ._dropout import AlphaDropout as AlphaDropout
from ._dropout import Dropout as Dropout
from ._dropout import Dropout1d as Dropout1d
from ._dropout import Dropout2d as Dropout2d
from ._dropout import Dropout3d as Dropout3d
from ._dropout import FeatureAlphaDropout as FeatureAlphaDropout
from ._embedding import Embedding as Embedding
from ._embedding import EmbeddingBag as EmbeddingBag
from ._flatten import Flatten as Flatten
from ._flatten import Unflatten as Unflatten
from ._folding import ChannelShuffle as ChannelShuffle
from ._folding import Fold as Fold
from ._folding import PixelShuffle as PixelShuffle
from ._folding import PixelUnshuffle as PixelUnshuffle
from ._folding import Unfold as Unfold
from ._groupnorm import GroupNorm as GroupNorm
from ._groupnorm import InstanceNorm1d as InstanceNorm1d
from ._groupnorm import InstanceNorm2d as InstanceNorm2d
from ._groupnorm import InstanceNorm3d as InstanceNorm3d
from ._jit import Compiled as Compiled
from ._jit import jit as jit
from ._layernorm import LayerNorm as LayerNorm
from ._lazy import LazyBatchNorm1d as LazyBatchNorm1d
from ._lazy import LazyBatchNorm2d as LazyBatchNorm2d
from ._lazy import LazyBatchNorm3d as LazyBatchNorm3d
from ._lazy import LazyConv1d as LazyConv1d
from ._lazy import LazyConv2d as LazyConv2d
from ._lazy import LazyConv3d as LazyConv3d
from ._lazy import LazyConvTranspose1d as LazyConvTranspose1d
from ._lazy import LazyConvTranspose2d as LazyConvTranspose2d
from ._lazy import LazyConvTranspose3d as LazyConvTranspose3d
from ._lazy import LazyInstanceNorm1d as LazyInstanceNorm1d
from ._lazy import LazyInstanceNorm2d as LazyInstanceNorm2d
from ._lazy import LazyInstanceNorm3d as LazyInstanceNorm3d
from ._lazy import LazyLinear as LazyLinear
from ._linear import Bilinear as Bilinear
from ._linear import Linear as Linear
from ._linear_cross_entropy import LinearCrossEntropyLoss as LinearCrossEntropyLoss
from ._linear_cross_entropy import LinearCrossEntropyOptions as LinearCrossEntropyOptions
from ._loss import BCELoss as BCELoss
from ._loss import BCEWithLogitsLoss as BCEWithLogitsLoss
from ._loss import CrossEntropyLoss as CrossEntropyLoss
from ._loss import HuberLoss as HuberLoss
from ._loss import KLDivLoss as KLDivLoss
from ._loss import L1Loss as L1Loss
from ._loss import MSELoss as MSELoss
from ._loss import NLLLoss as NLLLoss
from ._loss import NLLLoss2d as NLLLoss2d
from ._loss import SmoothL1Loss as SmoothL1Loss
from ._loss_likelihood import CTCLoss as CTCLoss
from ._loss_likelihood import GaussianNLLLoss as GaussianNLLLoss
from ._loss_likelihood import PoissonNLLLoss as PoissonNLLLoss
from ._loss_margin import CosineEmbeddingLoss as CosineEmbeddingLoss
from ._loss_margin import HingeEmbeddingLoss as HingeEmbeddingLoss
from ._loss_margin import MarginRankingLoss as MarginRankingLoss
from ._loss_margin import MultiLabelMarginLoss as MultiLabelMarginLoss
from ._loss_margin import MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss
from ._loss_margin import MultiMarginLoss as MultiMarginLoss
from ._loss_margin import SoftMarginLoss as SoftMarginLoss
from ._loss_margin import TripletMarginLoss as TripletMarginLoss
from ._loss_margin import TripletMarginWithDistanceLoss as TripletMarginWithDistanceLoss
from ._module import Buffer as Buffer
from ._module import Module as Module
from ._module import Parameter as Parameter
from ._module import is_trainable as is_trainable
from ._module import named_children as named_children
from ._module import named_modules as named_modules
from ._module import named_variables as named_variables
from ._module import structure as structure
from ._padding import CircularPad1d as CircularPad1d
from ._padding import CircularPad2d as CircularPad2d
from ._padding import CircularPad3d as CircularPad3d
from ._padding import ConstantPad1d as ConstantPad1d
from ._padding import ConstantPad2d as ConstantPad2d
from ._padding import ConstantPad3d as ConstantPad3d
from ._padding import ReflectionPad1d as ReflectionPad1d
from ._padding import ReflectionPad2d as ReflectionPad2d
from ._padding import ReflectionPad3d as ReflectionPad3d
from ._padding import ReplicationPad1d as ReplicationPad1d
from ._padding import ReplicationPad2d as ReplicationPad2d
from ._padding import ReplicationPad3d as ReplicationPad3d
from ._padding import ZeroPad1d as ZeroPad1d
from ._padding import ZeroPad2d as ZeroPad2d
from ._padding import ZeroPad3d as ZeroPad3d
from ._parameters import ParameterDict as ParameterDict
from ._parameters import ParameterList as ParameterList
from ._placement import to as to
from ._pooling import AdaptiveAvgPool1d as AdaptiveAvgPool1d
from ._pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from ._pooling import AdaptiveAvgPool3d as AdaptiveAvgPool3d
from ._pooling import AdaptiveMaxPool1d as AdaptiveMaxPool1d
from ._pooling import AdaptiveMaxPool2d as AdaptiveMaxPool2d
from ._pooling import AdaptiveMaxPool3d as AdaptiveMaxPool3d
from ._pooling import AvgPool1d as AvgPool1d
from ._pooling import AvgPool2d as AvgPool2d
from ._pooling import AvgPool3d as AvgPool3d
from ._pooling import MaxPool1d as MaxPool1d
from ._pooling import MaxPool2d as MaxPool2d
from ._pooling import MaxPool3d as MaxPool3d
from ._pooling_more import FractionalMaxPool2d as FractionalMaxPool2d
from ._pooling_more import FractionalMaxPool3d as FractionalMaxPool3d
from ._pooling_more import LPPool1d as LPPool1d
from ._pooling_more import LPPool2d as LPPool2d
from ._pooling_more import LPPool3d as LPPool3d
from ._pooling_more import MaxUnpool1d as MaxUnpool1d
from ._pooling_more import MaxUnpool2d as MaxUnpool2d
from ._pooling_more import MaxUnpool3d as MaxUnpool3d
from ._precision import compute_in as compute_in
from ._recurrent import GRU as GRU
from ._recurrent import LSTM as LSTM
from ._recurrent import RNN as RNN
from ._recurrent import RNNBase as RNNBase
from ._recurrent_cell import GRUCell as GRUCell
from ._recurrent_cell import LSTMCell as LSTMCell
from ._recurrent_cell import RNNCell as RNNCell
from ._recurrent_cell import RNNCellBase as RNNCellBase
from ._rmsnorm import CrossMapLRN2d as CrossMapLRN2d
from ._rmsnorm import LocalResponseNorm as LocalResponseNorm
from ._rmsnorm import RMSNorm as RMSNorm
from ._rrelu import RReLU as RReLU
from ._softmax import LogSoftmax as LogSoftmax
from ._softmax import Softmax as Softmax
from ._softmax import Softmax2d as Softmax2d
from ._softmax import Softmin as Softmin
from ._syncbatchnorm import SyncBatchNorm as SyncBatchNorm
from ._transformer import Transformer as Transformer
from ._transformer import TransformerDecoder as TransformerDecoder
from ._transformer import TransformerEncoder as TransformerEncoder
from ._transformer_layer import TransformerDecoderLayer as TransformerDecoderLayer
from ._transformer_layer import TransformerEncoderLayer as TransformerEncoderLayer
from ._upsampling import Upsample as Upsample
from ._upsampling import UpsamplingBilinear2d as UpsamplingBilinear2d
from ._upsampling import UpsamplingNearest2d as UpsamplingNearest2d

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveLogSoftmaxWithLoss",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Axes",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Buffer",
    "CELU",
    "CTCLoss",
    "Channel",
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "Compiled",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Container",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "CrossMapLRN2d",
    "DataParallel",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "ELU",
    "Embedding",
    "EmbeddingBag",
    "FeatureAlphaDropout",
    "Flatten",
    "Fold",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "GELU",
    "GLU",
    "GRU",
    "GRUCell",
    "GaussianNLLLoss",
    "GroupNorm",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "KLDivLoss",
    "L1Loss",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "LSTM",
    "LSTMCell",
    "LayerNorm",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
    "LeakyReLU",
    "Linear",
    "LinearCrossEntropyLoss",
    "LinearCrossEntropyOptions",
    "LocalResponseNorm",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MarginRankingLoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
    "Mish",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "MultiheadAttention",
    "NLLLoss",
    "NLLLoss2d",
    "PReLU",
    "PairwiseDistance",
    "Parameter",
    "ParameterDict",
    "ParameterList",
    "PixelShuffle",
    "PixelUnshuffle",
    "PoissonNLLLoss",
    "RMSNorm",
    "RNN",
    "RNNBase",
    "RNNCell",
    "RNNCellBase",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "SAME",
    "SELU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SyncBatchNorm",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
    "Unflatten",
    "Unfold",
    "UninitializedBuffer",
    "UninitializedParameter",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "checked",
    "compiler_options",
    "compute_in",
    "functional",
    "init",
    "is_trainable",
    "jit",
    "named_children",
    "named_modules",
    "named_variables",
    "parallel",
    "structure",
    "to",
    "utils",
]
