"""fluxmod.jit is the model's own call: outputs, state, modes, what changes in between."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn
from fluxmod.nn import _compiler
from fluxmod.nn import functional as F


def net(p=0.5):
    rngs = nnx.Rngs(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, rngs=rngs),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(p, rngs=rngs),
        nn.Flatten(),
        nn.Linear(4 * 2 * 3, 3, rngs=rngs),
    )


X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 5, 2)), jnp.float32)


def states(model):
    return jax.tree.leaves(jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nn.Buffer))))


@pytest.mark.parametrize("train", [True, False])
def test_outputs_statistics_and_streams_are_those_of_the_plain_call(train):
    plain, model = net(), net()
    for each in (plain, model):
        each.train() if train else each.eval()
    fast = fluxmod.jit(model)
    for _ in range(3):
        np.testing.assert_allclose(fast(X), plain(X), rtol=1e-5, atol=1e-6)
    for a, b in zip(states(model), states(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_modes_and_new_weights_are_seen():
    model = net()
    fast = fluxmod.jit(model)
    fast(X)
    model.eval()
    np.testing.assert_allclose(fast(X), model(X), rtol=1e-5, atol=1e-6)
    model[5].bias[...] = jnp.full(3, 100.0)
    assert float(fast(X).min()) > 50
    model.train()
    before = int(model[1].num_batches_tracked[...])
    fast(X)
    assert int(model[1].num_batches_tracked[...]) == before + 1


def test_what_does_not_change_is_left_alone():
    model = net(0.0)
    model.eval()
    kernel = model[0].kernel.get_raw_value()
    fluxmod.jit(model)(X)
    assert model[0].kernel.get_raw_value() is kernel


def test_a_shared_layer_and_options():
    class Tied(nn.Module):
        def __init__(self, *, rngs):
            self.first = nn.Linear(3, 3, rngs=rngs)
            self.again = self.first

        def __call__(self, x, times):
            for _ in range(times):
                x = self.again(self.first(x))
            return x

    model = Tied(rngs=nnx.Rngs(0))
    fast = fluxmod.jit(model, static_argnames="times")
    np.testing.assert_allclose(fast(X[:, 0, 0, :1] * jnp.ones(3), times=2).shape, (2, 3))
    x = jnp.ones((2, 3))
    np.testing.assert_allclose(fast(x, times=2), model(x, 2), rtol=1e-5)


def test_a_computed_weight_keeps_its_vectors():
    make = lambda: nn.utils.parametrizations.spectral_norm(  # noqa: E731
        nn.Linear(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1)
    )
    plain, model = make(), make()
    fast = fluxmod.jit(model)
    for _ in range(2):
        np.testing.assert_allclose(fast(jnp.ones((2, 3))), plain(jnp.ones((2, 3))), rtol=1e-5)
    u, v = (m.parametrizations.weight[0]._u[...] for m in (model, plain))
    np.testing.assert_allclose(u, v, rtol=1e-5)


def test_a_plain_nnx_model():
    model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    fast = fluxmod.jit(model)
    first, second = fast(jnp.ones((2, 3))), fast(jnp.ones((2, 3)))
    assert not np.array_equal(first, second)  # the stream has moved on


def test_a_ported_model():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh()).eval()
    ported = fluxmod.port(module, torch.randn(2, 3))
    x = np.ones((5, 3), np.float32)
    want = module(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(fluxmod.jit(ported)(x), want, rtol=1e-5, atol=1e-6)
    assert list(convert.state_dict(ported)) == list(module.state_dict())


CONV = (jnp.ones((2, 8, 8, 32)), jnp.ones((3, 3, 32, 32)))


def library_calls(options):
    """The instructions that a convolution becomes which XLA gives to its library."""
    call = jax.jit(lambda x, k: F.conv2d(x, k, padding=1), compiler_options=options)
    return call.lower(*CONV).compile().as_text().count("__ynn_fusion")


def test_convolutions_stay_with_xla():
    options = nn.compiler_options()
    assert library_calls({}) == 1
    assert options
    assert library_calls(options) == 0


def test_products_stand_alone_in_calls_but_not_in_recurrent_loops():
    with_others, alone = nn.compiler_options(), nn.compiler_options(nn.Identity())
    assert with_others
    assert alone
    assert with_others != alone
    recurrent = nn.Sequential(nn.Identity(), nn.LSTM(2, 3, rngs=nnx.Rngs(0)))
    assert nn.compiler_options(recurrent) == with_others


def test_options_are_left_out_where_they_do_not_count(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=")
    assert nn.compiler_options() == {}
    monkeypatch.setenv("XLA_FLAGS", "")
    assert nn.compiler_options() != {}
    monkeypatch.setattr(_compiler, "_LIBRARY", "xla_cpu_no_such_option")
    assert nn.compiler_options() == {}
    monkeypatch.undo()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert nn.compiler_options() == {}


def test_a_users_options_replace_ours():
    model = nn.Conv2d(32, 32, 3, padding=1, rngs=nnx.Rngs(0))
    seen = []

    def spy(call, **options):
        seen.append(options["compiler_options"])
        return jit(call, **options)

    jit = jax.jit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", spy)
        fluxmod.jit(model)(CONV[0])
        fluxmod.jit(model, compiler_options={})(CONV[0])
    assert seen == [nn.compiler_options(model), {}]


@pytest.mark.parametrize(
    "outer",
    [
        lambda f: jax.grad(lambda x: f(x).sum()),
        lambda f: jax.jit(f),
        lambda f: jax.jit(jax.grad(lambda x: f(x).sum())),
        lambda f: jax.vmap(lambda x: f(x[None])[0]),
        lambda f: lambda x: jax.lax.scan(lambda c, _: (c, f(x)), 0, None, length=1)[1][0],
    ],
)
def test_a_compiled_call_within_a_transformation(outer):
    model = net()
    model.eval()
    fast = fluxmod.jit(model)
    np.testing.assert_allclose(outer(fast)(X), outer(model)(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fast(X), model(X), rtol=1e-5, atol=1e-6)  # and outside of it
