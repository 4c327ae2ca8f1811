"""torch.nn.functional as pure JAX functions over channels-last arrays."""

from __future__ import annotations

from ._attention import scaled_dot_product_attention as scaled_dot_product_attention
from ._conv import conv1d as conv1d
from ._conv import conv2d as conv2d
from ._conv import conv3d as conv3d
from ._dropout import dropout as dropout
from ._dropout import dropout1d as dropout1d
from ._dropout import dropout2d as dropout2d
from ._dropout import dropout3d as dropout3d
from ._embedding import embedding as embedding
from ._linear import bilinear as bilinear
from ._linear import linear as linear
from ._multi_head import multi_head_attention_forward as multi_head_attention_forward
from ._norm import batch_norm as batch_norm
from ._norm import layer_norm as layer_norm
from ._shape import flatten as flatten
from ._shape import unflatten as unflatten

__all__ = [
    "batch_norm",
    "bilinear",
    "conv1d",
    "conv2d",
    "conv3d",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "embedding",
    "flatten",
    "layer_norm",
    "linear",
    "multi_head_attention_forward",
    "scaled_dot_product_attention",
    "unflatten",
]
