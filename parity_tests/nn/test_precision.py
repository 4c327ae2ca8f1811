"""Layers that compute in bfloat16 with float32 parameters: L6, and what keeps its dtype."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import nn, optim, porter, train
from fluxmod.parity.criteria import limit_of
from parity_tests.porter.zoo import ZOO

EPS = 2**-8


def rounded(model):
    """Weights that bfloat16 can hold, so that casting them costs nothing."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.bfloat16().float())
    return model.eval()


def relative(a, truth):
    return float(np.linalg.norm(a - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize("name", ["cifar", "mobilenet", "convnext", "vit", "gpt_untied", "unet"])
def test_a_port_in_bfloat16_is_as_close_as_torch(name):
    model, args = ZOO[name].make()
    model = rounded(model)
    args = tuple(a.bfloat16().float() if a.is_floating_point() else a for a in args)
    ported = porter.port(model, *args)
    ported.eval()
    with torch.no_grad():
        truth = model.double()(*[a.double() if a.is_floating_point() else a for a in args])
        half = model.bfloat16()(*[a.bfloat16() if a.is_floating_point() else a for a in args])
    before = jax.tree.map(lambda x: x.dtype, nnx.state(ported))
    ours = porter.feed(nn.compute_in(ported, jnp.bfloat16), *args)
    assert jax.tree.map(lambda x: x.dtype, nnx.state(ported)) == before
    truth, half = truth.numpy(), half.float().numpy()
    error = relative(np.asarray(ours, np.float64), truth)
    assert error > 1e-6, "nothing was computed in bfloat16"
    assert error <= limit_of("L6") * relative(half, truth) + 2 * EPS


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "MultiheadAttention", "Bilinear", "EmbeddingBag"])
def test_layers_return_the_dtype_they_compute_in(kind):
    sizes = {"MultiheadAttention": (4, 2), "Bilinear": (4, 4, 3), "EmbeddingBag": (9, 4)}
    layer = getattr(nn, kind)(*sizes.get(kind, (4, 4)), rngs=nnx.Rngs(0))
    x = jnp.ones((2, 3, 4))
    inputs = {"MultiheadAttention": (x, x, x), "Bilinear": (x, x)}.get(kind, (x,))
    if kind == "EmbeddingBag":
        inputs = (jnp.zeros((2, 3), jnp.int32),)
    out = jax.tree.leaves(nn.compute_in(layer, jnp.bfloat16)(*inputs))[0]
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))} == {
        np.dtype("float32")
    }
    assert jax.tree.leaves(nn.compute_in(layer, None)(*inputs))[0].dtype == jnp.float32


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, rngs=nnx.Rngs(0)), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 36, 4, rngs=nnx.Rngs(1)),
    )  # fmt: skip


def test_a_trainer_in_bfloat16_keeps_float32_state_and_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 16)
    batch = {"x": rng.normal(size=(16, 8, 8, 3)).astype(np.float32) + labels[:, None, None, None],
             "y": labels}  # fmt: skip
    seen = []

    def loss(model, batch):
        logits = model(batch["x"])
        seen.append(logits.dtype)
        return nn.functional.cross_entropy(logits.astype(jnp.float32), batch["y"])

    model = net()
    trainer = train.Trainer(model, optim.AdamW(lr=3e-3), loss, dtype=jnp.bfloat16)
    losses = [float(trainer.step(batch)["loss"]) for _ in range(30)]
    assert set(seen) == {np.dtype(jnp.bfloat16)}
    assert losses[-1] < losses[0] / 3
    assert model[0].dtype is None, "the model that was given stays as it is"
    trained = trainer.model
    floats = [
        x for x in jax.tree.leaves(nnx.state(trained)) if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    assert {x.dtype for x in floats} == {np.dtype("float32")}


def test_a_compiled_call_in_bfloat16_leaves_the_model_alone():
    model = net()
    model.eval()
    x = jnp.ones((2, 8, 8, 3))
    half, full = fluxmod.jit(model, dtype=jnp.bfloat16)(x), fluxmod.jit(model)(x)
    assert (half.dtype, full.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(half.astype(np.float32), full, rtol=0.05, atol=0.05)


def test_an_integer_dtype_is_refused_and_an_attribute_of_that_name_left():
    class Own(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2, rngs=nnx.Rngs(0))
            self.dtype = "of the user"

    model = Own()
    with pytest.raises(TypeError, match="floating dtype"):
        nn.compute_in(model, jnp.int32)
    assert model.fc.dtype is None
    assert nn.compute_in(model, jnp.float16).dtype == "of the user"
    assert model.fc.dtype == jnp.float16
