"""torch.nn.functional as pure JAX functions over channels-last arrays."""

from __future__ import annotations

from ._activation import hardshrink as hardshrink
from ._activation import hardsigmoid as hardsigmoid
from ._activation import hardswish as hardswish
from ._activation import hardtanh as hardtanh
from ._activation import leaky_relu as leaky_relu
from ._activation import prelu as prelu
from ._activation import relu as relu
from ._activation import relu6 as relu6
from ._activation import softshrink as softshrink
from ._activation import threshold as threshold
from ._activation_random import gumbel_softmax as gumbel_softmax
from ._activation_random import rrelu as rrelu
from ._activation_smooth import celu as celu
from ._activation_smooth import elu as elu
from ._activation_smooth import gelu as gelu
from ._activation_smooth import glu as glu
from ._activation_smooth import logsigmoid as logsigmoid
from ._activation_smooth import mish as mish
from ._activation_smooth import selu as selu
from ._activation_smooth import sigmoid as sigmoid
from ._activation_smooth import silu as silu
from ._activation_smooth import softplus as softplus
from ._activation_smooth import softsign as softsign
from ._activation_smooth import tanh as tanh
from ._activation_smooth import tanhshrink as tanhshrink
from ._adaptive_pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from ._adaptive_pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from ._adaptive_pooling import adaptive_avg_pool3d as adaptive_avg_pool3d
from ._adaptive_pooling import adaptive_max_pool1d as adaptive_max_pool1d
from ._adaptive_pooling import adaptive_max_pool2d as adaptive_max_pool2d
from ._adaptive_pooling import adaptive_max_pool3d as adaptive_max_pool3d
from ._alpha_dropout import alpha_dropout as alpha_dropout
from ._alpha_dropout import feature_alpha_dropout as feature_alpha_dropout
from ._attention import scaled_dot_product_attention as scaled_dot_product_attention
from ._conv import conv1d as conv1d
from ._conv import conv2d as conv2d
from ._conv import conv3d as conv3d
from ._conv import conv_tbc as conv_tbc
from ._conv_transpose import conv_transpose1d as conv_transpose1d
from ._conv_transpose import conv_transpose2d as conv_transpose2d
from ._conv_transpose import conv_transpose3d as conv_transpose3d
from ._cross_entropy import cross_entropy as cross_entropy
from ._cross_entropy import nll_loss as nll_loss
from ._ctc import ctc_loss as ctc_loss
from ._distance import cosine_similarity as cosine_similarity
from ._distance import normalize as normalize
from ._distance import pairwise_distance as pairwise_distance
from ._distance import pdist as pdist
from ._dropout import dropout as dropout
from ._dropout import dropout1d as dropout1d
from ._dropout import dropout2d as dropout2d
from ._dropout import dropout3d as dropout3d
from ._embedding import embedding as embedding
from ._embedding import embedding_bag as embedding_bag
from ._embedding import one_hot as one_hot
from ._fold import fold as fold
from ._fold import unfold as unfold
from ._fractional_pooling import fractional_max_pool2d as fractional_max_pool2d
from ._fractional_pooling import (
    fractional_max_pool2d_with_indices as fractional_max_pool2d_with_indices,
)
from ._fractional_pooling import fractional_max_pool3d as fractional_max_pool3d
from ._fractional_pooling import (
    fractional_max_pool3d_with_indices as fractional_max_pool3d_with_indices,
)
from ._grid import affine_grid as affine_grid
from ._grid import grid_sample as grid_sample
from ._group_norm import group_norm as group_norm
from ._group_norm import instance_norm as instance_norm
from ._grouped import grouped_mm as grouped_mm
from ._inplace import celu_ as celu_
from ._inplace import elu_ as elu_
from ._inplace import hardtanh_ as hardtanh_
from ._inplace import leaky_relu_ as leaky_relu_
from ._inplace import relu_ as relu_
from ._inplace import rrelu_ as rrelu_
from ._inplace import selu_ as selu_
from ._inplace import threshold_ as threshold_
from ._interpolate import interpolate as interpolate
from ._interpolate import upsample as upsample
from ._interpolate import upsample_bilinear as upsample_bilinear
from ._interpolate import upsample_nearest as upsample_nearest
from ._linear import bilinear as bilinear
from ._linear import linear as linear
from ._linear_cross_entropy import linear_cross_entropy as linear_cross_entropy
from ._loss import binary_cross_entropy as binary_cross_entropy
from ._loss import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from ._loss import huber_loss as huber_loss
from ._loss import kl_div as kl_div
from ._loss import l1_loss as l1_loss
from ._loss import mse_loss as mse_loss
from ._loss import smooth_l1_loss as smooth_l1_loss
from ._loss_embedding import cosine_embedding_loss as cosine_embedding_loss
from ._loss_embedding import triplet_margin_loss as triplet_margin_loss
from ._loss_embedding import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
from ._loss_likelihood import gaussian_nll_loss as gaussian_nll_loss
from ._loss_likelihood import poisson_nll_loss as poisson_nll_loss
from ._loss_margin import hinge_embedding_loss as hinge_embedding_loss
from ._loss_margin import margin_ranking_loss as margin_ranking_loss
from ._loss_margin import multi_margin_loss as multi_margin_loss
from ._loss_margin import multilabel_margin_loss as multilabel_margin_loss
from ._loss_margin import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from ._loss_margin import soft_margin_loss as soft_margin_loss
from ._multi_head import multi_head_attention_forward as multi_head_attention_forward
from ._norm import batch_norm as batch_norm
from ._norm import layer_norm as layer_norm
from ._pad import pad as pad
from ._pooling import avg_pool1d as avg_pool1d
from ._pooling import avg_pool2d as avg_pool2d
from ._pooling import avg_pool3d as avg_pool3d
from ._pooling import max_pool1d as max_pool1d
from ._pooling import max_pool2d as max_pool2d
from ._pooling import max_pool3d as max_pool3d
from ._power_pooling import lp_pool1d as lp_pool1d
from ._power_pooling import lp_pool2d as lp_pool2d
from ._power_pooling import lp_pool3d as lp_pool3d
from ._recurrent import gru as gru
from ._recurrent import gru_cell as gru_cell
from ._recurrent import lstm as lstm
from ._recurrent import lstm_cell as lstm_cell
from ._recurrent import rnn_relu as rnn_relu
from ._recurrent import rnn_relu_cell as rnn_relu_cell
from ._recurrent import rnn_tanh as rnn_tanh
from ._recurrent import rnn_tanh_cell as rnn_tanh_cell
from ._resample import antialias_taps as antialias_taps
from ._resample import cubic_taps as cubic_taps
from ._resample import linear_taps as linear_taps
from ._resample import nearest_index as nearest_index
from ._rms_norm import local_response_norm as local_response_norm
from ._rms_norm import rms_norm as rms_norm
from ._shape import flatten as flatten
from ._shape import unflatten as unflatten
from ._shuffle import channel_shuffle as channel_shuffle
from ._shuffle import native_channel_shuffle as native_channel_shuffle
from ._shuffle import pixel_shuffle as pixel_shuffle
from ._shuffle import pixel_unshuffle as pixel_unshuffle
from ._softmax import log_softmax as log_softmax
from ._softmax import softmax as softmax
from ._softmax import softmin as softmin
from ._unpooling import max_unpool1d as max_unpool1d
from ._unpooling import max_unpool2d as max_unpool2d
from ._unpooling import max_unpool3d as max_unpool3d
from ._with_indices import adaptive_max_pool1d_with_indices as adaptive_max_pool1d_with_indices
from ._with_indices import adaptive_max_pool2d_with_indices as adaptive_max_pool2d_with_indices
from ._with_indices import adaptive_max_pool3d_with_indices as adaptive_max_pool3d_with_indices
from ._with_indices import max_pool1d_with_indices as max_pool1d_with_indices
from ._with_indices import max_pool2d_with_indices as max_pool2d_with_indices
from ._with_indices import max_pool3d_with_indices as max_pool3d_with_indices

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "affine_grid",
    "alpha_dropout",
    "antialias_taps",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "celu_",
    "channel_shuffle",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_tbc",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "cubic_taps",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "elu_",
    "embedding",
    "embedding_bag",
    "feature_alpha_dropout",
    "flatten",
    "fold",
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
    "gaussian_nll_loss",
    "gelu",
    "glu",
    "grid_sample",
    "group_norm",
    "grouped_mm",
    "gru",
    "gru_cell",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "leaky_relu_",
    "linear",
    "linear_cross_entropy",
    "linear_taps",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "lstm",
    "lstm_cell",
    "margin_ranking_loss",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "mish",
    "mse_loss",
    "multi_head_attention_forward",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "native_channel_shuffle",
    "nearest_index",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pdist",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll_loss",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rms_norm",
    "rnn_relu",
    "rnn_relu_cell",
    "rnn_tanh",
    "rnn_tanh_cell",
    "rrelu",
    "rrelu_",
    "scaled_dot_product_attention",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
    "unflatten",
    "unfold",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]
