"""torch's in-place names.

An array in JAX never changes: each of these **returns** the new value and leaves its argument as
it is. ``x = F.relu_(x)`` reads the same in both frameworks; ``F.relu_(x)`` alone does nothing here.

>>> import jax.numpy as jnp
>>> x = jnp.array([-1.0, 2.0])
>>> relu_(x).tolist(), x.tolist()
([0.0, 2.0], [-1.0, 2.0])
"""

from __future__ import annotations

from ._activation import hardtanh, leaky_relu, relu, threshold
from ._activation_random import rrelu
from ._activation_smooth import celu, elu, selu

__all__ = [
    "celu_",
    "elu_",
    "hardtanh_",
    "leaky_relu_",
    "relu_",
    "rrelu_",
    "selu_",
    "threshold_",
]

celu_ = celu
elu_ = elu
hardtanh_ = hardtanh
leaky_relu_ = leaky_relu
relu_ = relu
rrelu_ = rrelu
selu_ = selu
threshold_ = threshold
