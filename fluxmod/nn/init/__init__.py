"""torch.nn.init: filling weights anew, in place.

torch's functions change a tensor; these change what an ``nnx.Variable`` holds, and return it:

>>> from flax import nnx
>>> from fluxmod import nn
>>> layer = nn.Linear(3, 5, rngs=nnx.Rngs(0))
>>> _ = nn.init.xavier_uniform_(layer.kernel, rngs=nnx.Rngs(1))
>>> _ = nn.init.zeros_(layer.bias)

Chance comes from ``rngs``, a keyword that takes ``nnx.Rngs``, an ``nnx.RngStream`` or a key.

**Fans.** torch reads them off a weight's first two axes: (out, in, *window). Kernels are stored
(*window, in, out) here, so the functions look at axes ``in_axis=-2`` and ``out_axis=-1``, as
``jax.nn.initializers`` do, and a layer gets what torch gives its twin. A weight that is stored in
torch's own order (``Embedding.embedding``, ``Bilinear.kernel``, a parameter of your own) has them
at ``in_axis=1, out_axis=0``. torch keeps a transposed convolution's weight as (in, out, *window)
and still takes what comes second for what goes in; its kernel is (*window, out, in) here, so the
two frameworks agree there too.
"""

from __future__ import annotations

from ._deprecated import constant as constant
from ._deprecated import dirac as dirac
from ._deprecated import eye as eye
from ._deprecated import kaiming_normal as kaiming_normal
from ._deprecated import kaiming_uniform as kaiming_uniform
from ._deprecated import normal as normal
from ._deprecated import orthogonal as orthogonal
from ._deprecated import sparse as sparse
from ._deprecated import uniform as uniform
from ._deprecated import xavier_normal as xavier_normal
from ._deprecated import xavier_uniform as xavier_uniform
from ._draw import kaiming_normal_ as kaiming_normal_
from ._draw import kaiming_uniform_ as kaiming_uniform_
from ._draw import normal_ as normal_
from ._draw import orthogonal_ as orthogonal_
from ._draw import sparse_ as sparse_
from ._draw import trunc_normal_ as trunc_normal_
from ._draw import uniform_ as uniform_
from ._draw import xavier_normal_ as xavier_normal_
from ._draw import xavier_uniform_ as xavier_uniform_
from ._fans import calculate_gain as calculate_gain
from ._fans import fan_in_and_fan_out as fan_in_and_fan_out
from ._fill import constant_ as constant_
from ._fill import dirac_ as dirac_
from ._fill import eye_ as eye_
from ._fill import ones_ as ones_
from ._fill import zeros_ as zeros_

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "fan_in_and_fan_out",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
