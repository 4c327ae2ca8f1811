"""Weights computed from others, beside torch: certificate, names, first values, removal."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn
from torch.nn.utils import parametrizations as theirs
from torch.nn.utils import parametrize as torch_parametrize

from fluxmod import convert, nn, parity
from fluxmod.nn.utils import parametrizations as ours
from fluxmod.nn.utils import parametrize

LEVELS = parity.Options(levels=("L0", "L1"))
LAYERS = {
    "linear": (tnn.Linear, nn.Linear, (3, 5), (4, 3)),
    "square": (tnn.Linear, nn.Linear, (4, 4), (3, 4)),
    "conv": (tnn.Conv2d, nn.Conv2d, (3, 4, 3), (2, 3, 5, 6)),
    "transposed": (tnn.ConvTranspose1d, nn.ConvTranspose1d, (3, 4, 3), (2, 3, 5)),
    "bilinear": (tnn.Bilinear, nn.Bilinear, (2, 3, 4), (5, 2), (5, 3)),
}
NORMS = {
    "weight-0": ("weight_norm", {}),
    "weight-1": ("weight_norm", {"dim": 1}),
    "weight-none": ("weight_norm", {"dim": None}),
    "spectral": ("spectral_norm", {}),
    "spectral-3": ("spectral_norm", {"n_power_iterations": 3, "dim": 1, "eps": 1e-3}),
    "orthogonal": ("orthogonal", {}),
    "exp": ("orthogonal", {"orthogonal_map": "matrix_exp"}),
    "cayley": ("orthogonal", {"orthogonal_map": "cayley"}),
    "plain": ("orthogonal", {"use_trivialization": False}),
}


PAIRS = [
    *(("linear", norm) for norm in NORMS),
    *(("square", norm) for norm in ("orthogonal", "cayley", "plain")),
    *(("conv", norm) for norm in ("weight-0", "weight-1", "spectral", "orthogonal")),
    *(("transposed", norm) for norm in ("weight-0", "spectral", "plain")),
    *(("bilinear", norm) for norm in ("weight-none", "spectral-3", "exp")),
]


def pair(layer, norm):
    """A layer of each framework with the same computed weight, torch's numbers in both."""
    torch_class, flax_class, args, *shapes = LAYERS[layer]
    name, settings = NORMS[norm]
    drawn = {"rngs": nnx.Rngs(1)} if name == "spectral_norm" else {}
    module = getattr(theirs, name)(torch_class(*args), **settings)
    model = getattr(ours, name)(flax_class(*args, rngs=nnx.Rngs(0)), **settings, **drawn)
    convert.to_flax(module, model)
    return module, model, shapes


@pytest.mark.parametrize(("layer", "norm"), PAIRS)
def test_a_layer_with_a_computed_weight_is_torchs(layer, norm):
    torch.manual_seed(0)
    module, model, shapes = pair(layer, norm)
    assert str(model) == str(module)
    inputs = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate(shapes)]
    parity.check(module, model, *inputs, options=LEVELS).require()


def plain(layer, dtype=jnp.float64):
    """A layer of each framework with equal weights."""
    torch_class, flax_class, args, *_ = LAYERS[layer]
    module = torch_class(*args, dtype=torch.float64)
    model = flax_class(*args, param_dtype=dtype, rngs=nnx.Rngs(0))
    convert.to_flax(module, model)
    return module, model


def weights(module, model, key="weight"):
    """The computed weight of both, in torch's order."""
    mine = parametrize.weight_of(model, key, "test")
    return getattr(module, key).detach().numpy(), np.asarray(mine)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("layer", "norm"),
    [(a, b) for a, b in PAIRS if not b.startswith("spectral")],
)
def test_the_first_originals_give_torchs_first_weight(layer, norm):
    name, settings = NORMS[norm]
    module, model = plain(layer)
    getattr(theirs, name)(module, **settings)
    getattr(ours, name)(model, **settings)
    want, got = weights(module, model)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    kept = {k: v for k, v in module.state_dict().items() if not k.endswith("base")}
    mine = convert.state_dict(model)
    for key, value in kept.items():
        np.testing.assert_allclose(mine[key], value, rtol=1e-12, atol=1e-13, err_msg=key)


@pytest.mark.usefixtures("x64")
def test_a_set_weight_is_read_again_and_removal_keeps_it():
    module, model = plain("square")
    target = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    for library, layer in ((theirs, module), (ours, model)):
        library.orthogonal(layer)
    model.kernel = jnp.asarray(target.T)
    module.weight = torch.from_numpy(target)
    want, got = weights(module, model)
    np.testing.assert_allclose(got, want, atol=1e-14)
    torch_parametrize.remove_parametrizations(module, "weight")
    parametrize.remove_parametrizations(model, "weight")
    assert type(model) is nn.Linear
    assert str(model) == str(module)
    np.testing.assert_allclose(model.kernel[...].T, module.weight.detach(), atol=1e-14)


class Symmetric(nn.Module):
    def __call__(self, x):
        return jnp.triu(x) + jnp.triu(x, 1).mT


class TorchSymmetric(tnn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).mT


class Scaled(nn.Module):
    def __init__(self):
        self.factor = nnx.Param(jnp.asarray(2.0))

    def __call__(self, x):
        return x * self.factor[...]

    def right_inverse(self, x):
        return x / self.factor[...]


class TorchScaled(tnn.Module):
    def __init__(self):
        super().__init__()
        self.factor = tnn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return x * self.factor

    def right_inverse(self, x):
        return x / self.factor


def test_parametrizations_of_ones_own_stack_as_in_torch():
    module, model = tnn.Linear(4, 4), nn.Linear(4, 4, rngs=nnx.Rngs(0))
    convert.to_flax(module, model)
    for torch_one, flax_one in ((TorchScaled, Scaled), (TorchSymmetric, Symmetric)):
        torch_parametrize.register_parametrization(module, "weight", torch_one())
        parametrize.register_parametrization(model, "weight", flax_one())
    torch_parametrize.register_parametrization(module, "bias", TorchScaled())
    parametrize.register_parametrization(model, "bias", Scaled())
    assert list(convert.state_dict(model)) == list(module.state_dict())
    np.testing.assert_allclose(model.bias, module.bias.detach(), rtol=1e-7)
    convert.to_flax(module, model)
    x = np.random.default_rng(0).standard_normal((3, 4))
    parity.check(module, model, x, options=LEVELS).require()
    other, twin = tnn.Linear(4, 4), nn.Linear(4, 4, rngs=nnx.Rngs(1))
    torch_parametrize.transfer_parametrizations_and_params(module, other)
    parametrize.transfer_parametrizations_and_params(model, twin)
    assert list(convert.state_dict(twin)) == list(other.state_dict())
    np.testing.assert_allclose(twin.kernel.T, other.weight.detach(), rtol=1e-6)


def test_a_recurrent_layer_with_norms_of_two_weights():
    module, model = tnn.LSTM(3, 4), nn.LSTM(3, 4, rngs=nnx.Rngs(0))
    for name in ("weight_ih_l0", "weight_hh_l0"):
        theirs.weight_norm(module, name)
        ours.weight_norm(model, name)
    convert.to_flax(module, model)
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    want = module(torch.from_numpy(x))[0].detach()
    np.testing.assert_allclose(model(x)[0], want, rtol=1e-5, atol=1e-6)


def test_cached_reads_make_one_power_iteration():
    layer = ours.spectral_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    u = layer.parametrizations.weight[0]._u
    with parametrize.cached():
        first, after = layer.kernel, u[...]
        assert layer.kernel is first
        np.testing.assert_array_equal(u[...], after)
    assert layer.kernel is not first


def test_the_layer_goes_through_jit_split_and_merge():
    layer = ours.spectral_norm(nn.Linear(3, 5, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    copy = nnx.clone(layer)
    x = jnp.ones((2, 3))
    got = nnx.jit(lambda m, x: m(x))(layer, x)
    np.testing.assert_allclose(got, copy(x), rtol=1e-6)
    a, b = (m.parametrizations.weight[0]._u[...] for m in (layer, copy))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    assert parametrize.is_parametrized(nnx.merge(*nnx.split(layer)), "weight")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: ours.weight_norm(m, "wieght"), ValueError, "it has \\['bias', 'weight'\\]"),
        (lambda m: ours.orthogonal(m, "bias"), ValueError, "two or more axes"),
        (lambda m: ours.orthogonal(m, orthogonal_map="polar"), ValueError, "must be one of"),
        (
            lambda m: ours.spectral_norm(m, n_power_iterations=0, rngs=nnx.Rngs(0)),
            ValueError,
            "positive",
        ),
        (lambda m: ours.spectral_norm(m, dim=2, rngs=nnx.Rngs(0)), IndexError, "dim must be"),
        (
            lambda m: parametrize.register_parametrization(m, "weight", nn.Flatten(0)),
            ValueError,
            "expected a weight of float32\\[5, 3\\]",
        ),
        (lambda m: parametrize.remove_parametrizations(m, "weight"), ValueError, "has no param"),
    ],
)
def test_what_cannot_be_says_why_and_changes_nothing(call, error, words):
    layer = nn.Linear(3, 5, rngs=nnx.Rngs(0))
    kernel = layer.kernel
    with pytest.raises(error, match=words):
        call(layer)
    assert type(layer) is nn.Linear
    assert layer.kernel is kernel
