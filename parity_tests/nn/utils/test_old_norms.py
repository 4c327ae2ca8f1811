"""The older weight_norm and spectral_norm, whose arrays sit on the layer."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn
from torch.nn.utils import remove_spectral_norm as torch_remove_spectral_norm
from torch.nn.utils import remove_weight_norm as torch_remove_weight_norm
from torch.nn.utils import spectral_norm as torch_spectral_norm
from torch.nn.utils import weight_norm as torch_weight_norm

from fluxmod import convert, nn, parity
from fluxmod.nn import utils

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*is deprecated")
LEVELS = parity.Options(levels=("L0", "L1"))
LAYERS = {
    "linear": (tnn.Linear, nn.Linear, (3, 5), (4, 3)),
    "conv": (tnn.Conv2d, nn.Conv2d, (3, 4, 3), (2, 3, 5, 6)),
    "transposed": (tnn.ConvTranspose1d, nn.ConvTranspose1d, (3, 4, 3), (2, 3, 5)),
}


def pair(layer, norm, **settings):
    torch_class, flax_class, args, shape = LAYERS[layer]
    module, model = torch_class(*args), flax_class(*args, rngs=nnx.Rngs(0))
    convert.to_flax(module, model)
    if norm == "weight":
        torch_weight_norm(module, **settings)
        utils.weight_norm(model, **settings)
    else:
        torch_spectral_norm(module, **settings)
        utils.spectral_norm(model, **settings, rngs=nnx.Rngs(1))
    return module, model, np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("layer", "norm", "settings"),
    [
        ("linear", "weight", {}),
        ("conv", "weight", {"dim": 1}),
        ("transposed", "weight", {"dim": None}),
        ("linear", "spectral", {"n_power_iterations": 2}),
        ("conv", "spectral", {}),
        ("transposed", "spectral", {"eps": 1e-4}),
    ],
)
def test_a_layer_with_an_older_norm_is_torchs(layer, norm, settings):
    module, model, x = pair(layer, norm, **settings)
    assert str(model) == str(module)
    for name, value in convert.state_dict(model).items():
        if name[-2:] not in ("_u", "_v") or norm == "weight":
            np.testing.assert_allclose(value, module.state_dict()[name], rtol=1e-6)
    convert.to_flax(module, model)
    # torch computes the weight in a hook before the call, so that the first reading is the call's
    copies = nnx.clone(model)
    want = module(torch.from_numpy(x)).detach().numpy()
    got = np.moveaxis(copies(jnp.moveaxis(x, 1, -1) if x.ndim > 2 else jnp.asarray(x)), -1, 1)
    np.testing.assert_allclose(got if x.ndim > 2 else got.reshape(want.shape), want, atol=1e-5)


@pytest.mark.parametrize("norm", ["weight", "spectral"])
def test_outputs_gradients_and_vectors_are_torchs(norm):
    module, model, x = pair("conv", norm)
    convert.to_flax(module, model)
    parity.check(module, model, x, options=LEVELS).require()


def test_removal_keeps_the_weight():
    for norm, torchs, ours in (
        ("weight", torch_remove_weight_norm, utils.remove_weight_norm),
        ("spectral", torch_remove_spectral_norm, utils.remove_spectral_norm),
    ):
        module, model, _ = pair("linear", norm)
        convert.to_flax(module, model)
        torchs(module)
        ours(model)
        assert type(model) is nn.Linear
        np.testing.assert_allclose(model.kernel[...].T, module.weight.detach(), rtol=1e-5)
        with pytest.raises(ValueError, match="has no"):
            ours(model)


def test_a_second_norm_and_a_wrong_name_are_refused():
    layer = utils.weight_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)))
    with pytest.raises(RuntimeError, match="already"):
        utils.weight_norm(layer)
    with pytest.raises(ValueError, match="no parameter or buffer"):
        utils.spectral_norm(layer, "kernel", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="positive"):
        utils.spectral_norm(layer, n_power_iterations=0, rngs=nnx.Rngs(0))


def test_norms_of_a_recurrent_layers_two_weights_survive_split_and_merge():
    module, model = tnn.GRU(3, 4), nn.GRU(3, 4, rngs=nnx.Rngs(0))
    for name in ("weight_ih_l0", "weight_hh_l0"):
        torch_weight_norm(module, name)
        utils.weight_norm(model, name)
    convert.to_flax(module, model)
    model = nnx.merge(*nnx.split(model))
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    want = module(torch.from_numpy(x))[0].detach()
    np.testing.assert_allclose(model(x)[0], want, rtol=1e-5, atol=1e-6)
