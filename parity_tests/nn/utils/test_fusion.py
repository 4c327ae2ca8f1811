"""Batch norms folded into the layer in front, and parameters as one vector."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn
from torch.nn.utils import fuse_conv_bn_eval as torch_fuse_conv
from torch.nn.utils import fuse_linear_bn_eval as torch_fuse_linear

from fluxmod import convert, nn
from fluxmod.nn import utils

PAIRS = [
    ("Conv1d", (3, 4, 3), {}, "BatchNorm1d", {}),
    ("Conv2d", (4, 6, 3), {"groups": 2, "bias": False}, "BatchNorm2d", {}),
    ("Conv3d", (2, 3, 2), {}, "BatchNorm3d", {"affine": False}),
    ("ConvTranspose2d", (3, 4, 3), {}, "BatchNorm2d", {"eps": 0.1}),
    ("Linear", (3, 4), {"bias": False}, "BatchNorm1d", {}),
]


def randomised(module):
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + ("var" in name))
    return module.eval()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("layer", "args", "kwargs", "norm", "settings"), PAIRS)
def test_fused_weights_are_torchs(layer, args, kwargs, norm, settings):
    real = {"dtype": torch.float64}
    module = randomised(getattr(tnn, layer)(*args, **kwargs, **real))
    batch_norm = randomised(getattr(tnn, norm)(args[1], **settings, **real))
    model = getattr(nn, layer)(*args, **kwargs, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    ours = getattr(nn, norm)(args[1], **settings, param_dtype=jnp.float64)
    for theirs, mine in ((module, model), (batch_norm, ours)):
        convert.to_flax(theirs, mine)
        mine.eval()
    before = convert.state_dict(model)
    if layer == "Linear":
        want, got = torch_fuse_linear(module, batch_norm), utils.fuse_linear_bn_eval(model, ours)
    else:
        transposed = "Transpose" in layer
        want = torch_fuse_conv(module, batch_norm, transposed)
        got = utils.fuse_conv_bn_eval(model, ours, transposed)
    fused = convert.state_dict(got)
    assert list(fused) == list(want.state_dict())
    for name, value in want.state_dict().items():
        np.testing.assert_allclose(fused[name], value, rtol=1e-12, err_msg=name)
    for name, value in convert.state_dict(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_fusion_of_layers_in_training_is_refused():
    conv, norm = nn.Conv1d(2, 3, 1, rngs=nnx.Rngs(0)), nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="evaluation"):
        utils.fuse_conv_bn_eval(conv, norm)
    linear, other = nn.Linear(2, 4, rngs=nnx.Rngs(0)), nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="expected a batch norm of 4 features"):
        utils.fuse_linear_bn_eval(linear, other)


def test_a_vector_goes_there_and_back():
    layer = nn.Linear(2, 3, rngs=nnx.Rngs(0))
    every = [layer.kernel, layer.bias]
    vector = utils.parameters_to_vector(every)
    utils.vector_to_parameters(vector * 2, every)
    np.testing.assert_array_equal(utils.parameters_to_vector(every), vector * 2)
    with pytest.raises(ValueError, match=r"expected shape \(9,\)"):
        utils.vector_to_parameters(vector[:5], every)
    with pytest.raises(TypeError, match="expected an array"):
        utils.vector_to_parameters([1.0], every)
    np.testing.assert_array_equal(utils.parameters_to_vector(every), vector * 2)
