"""Packed sequences, computed weights and other tools; the twin of ``torch.nn.utils``.

Gradients are clipped by ``fluxmod.optim.clip_grad_norm`` and ``clip_grad_value``.
"""

from __future__ import annotations

from . import parametrizations as parametrizations
from . import parametrize as parametrize
from . import rnn as rnn
from ._fusion import fuse_conv_bn_eval as fuse_conv_bn_eval
from ._fusion import fuse_conv_bn_weights as fuse_conv_bn_weights
from ._fusion import fuse_linear_bn_eval as fuse_linear_bn_eval
from ._fusion import fuse_linear_bn_weights as fuse_linear_bn_weights
from ._old_norms import remove_spectral_norm as remove_spectral_norm
from ._old_norms import remove_weight_norm as remove_weight_norm
from ._old_norms import spectral_norm as spectral_norm
from ._old_norms import weight_norm as weight_norm
from ._vectors import parameters_to_vector as parameters_to_vector
from ._vectors import vector_to_parameters as vector_to_parameters

__all__ = [
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_spectral_norm",
    "remove_weight_norm",
    "rnn",
    "spectral_norm",
    "vector_to_parameters",
    "weight_norm",
]
