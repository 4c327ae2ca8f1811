"""What the notes say about modules holds on the Flax side too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn
from fluxmod.models import flax as flax_models
from fluxmod.models import torch as torch_models


def test_exercise_1_output_shape():
    model = flax_models.TwoLayerMLP(4, 8, 2, rngs=nnx.Rngs(0))
    assert model(jnp.ones((5, 4))).shape == (5, 2)


def test_exercise_2_parameter_count():
    theirs = torch_models.TwoLayerMLP(4, 8, 2)
    ours = flax_models.TwoLayerMLP(4, 8, 2, rngs=nnx.Rngs(0))
    count = sum(p.numel() for p in theirs.parameters())
    assert fluxmod.parameter_count(ours) == fluxmod.parameter_count(theirs) == count == 58


def test_exercise_3_frozen_parameters_are_listed_and_get_no_gradient():
    model = flax_models.TwoLayerMLP(4, 8, 2, rngs=nnx.Rngs(0))
    assert fluxmod.freeze(model, "fc1") == ["fc1.weight", "fc1.bias"]
    listed = [name for name, _ in fluxmod.named_parameters(model)]
    assert listed == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    frozen = [
        n for n, p in fluxmod.named_parameters(model) if not p.get_metadata("requires_grad", True)
    ]
    assert frozen == ["fc1.weight", "fc1.bias"]
    grads = nnx.grad(
        lambda m: m(jnp.ones((1, 4))).sum(), argnums=nnx.DiffState(0, nn.is_trainable)
    )(model)
    assert [path[0] for path in nnx.to_flat_state(grads).paths] == ["fc2", "fc2"]
    fluxmod.unfreeze(model)
    assert fluxmod.parameter_count(model, trainable_only=True) == 58


def test_exercise_4_keys_of_sequential_and_of_attributes():
    by_hand = flax_models.TwoLayerMLP(4, 8, 2, rngs=nnx.Rngs(0))
    sequential = flax_models.sequential_mlp(4, 8, 2, rngs=nnx.Rngs(0))
    assert list(fluxmod.state_dict(by_hand)) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert list(fluxmod.state_dict(sequential)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    renamed = dict(
        zip(fluxmod.state_dict(sequential), fluxmod.state_dict(by_hand).values(), strict=True)
    )
    fluxmod.load_state_dict(sequential, renamed)
    x = jnp.ones((3, 4))
    np.testing.assert_array_equal(sequential(x), by_hand(x))


def test_exercise_5_dropout_in_both_modes():
    model = flax_models.DropoutNet(64, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 64))
    model.train()
    assert (model(x) == 0).mean() > 0.2
    assert not jnp.array_equal(model(x), model(x))
    model.eval()
    assert jnp.array_equal(model(x), model(x))
    assert not (model(x) == 0).any()


def test_exercise_6_nested_names():
    model = flax_models.TwoParts(4, 8, 2, rngs=nnx.Rngs(0))
    theirs = torch_models.TwoParts(4, 8, 2)
    names = [name for name, _ in fluxmod.named_parameters(model)]
    assert names == [name for name, _ in theirs.named_parameters()]
    assert names[0] == "encoder.fc1.weight"


def test_the_walk_over_named_parameters_of_note_002():
    theirs, ours = torch_models.NeuralNetwork(), flax_models.NeuralNetwork(rngs=nnx.Rngs(0))
    want = [(n, tuple(p.shape)) for n, p in theirs.named_parameters()]
    got = [(n, a.shape) for n, a in fluxmod.state_dict(ours).items()]
    assert got == want


def test_liner_without_bias_still_lists_and_trains_it():
    model = flax_models.Liner(3, 2, bias=False, rngs=nnx.Rngs(0))
    assert [n for n, _ in fluxmod.named_parameters(model)] == ["weight", "bias"]
    assert not model.bias[...].any()
    flax_models.fit(
        model,
        nn.MSELoss(),
        nnx.Optimizer(model, optax.sgd(0.1), wrt=nn.is_trainable),
        jnp.ones((4, 3)),
        jnp.ones((4, 2)),
        epochs=1,
    )
    assert model.bias[...].any()


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_the_training_loop_of_note_004(name):
    theirs = torch_models.TwoLayerMLP(4, 8, 3)
    ours = flax_models.TwoLayerMLP(4, 8, 3, rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 4)).astype(np.float32), rng.integers(0, 3, 16)
    want = torch_models.fit(
        theirs,
        torch.nn.CrossEntropyLoss(),
        getattr(torch.optim, name)(theirs.parameters(), lr=0.05),
        torch.from_numpy(x),
        torch.from_numpy(y),
        epochs=20,
    )
    tx = {"SGD": optax.sgd, "Adam": optax.adam}[name](0.05)
    got = flax_models.fit(
        ours,
        nn.CrossEntropyLoss(),
        nnx.Optimizer(ours, tx, wrt=nn.is_trainable),
        jnp.asarray(x),
        jnp.asarray(y),
        epochs=20,
    )
    assert want[-1] < want[0]
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_simple_cnn_prints_as_in_note_001():
    assert str(flax_models.SimpleCNN(rngs=nnx.Rngs(0))) == str(torch_models.SimpleCNN())


def test_vla_keys_are_those_of_note_003():
    model = flax_models.VLAModel(rngs=nnx.Rngs(0))
    keys = list(fluxmod.state_dict(model))
    assert "vision_encoder.conv1.weight" in keys
    assert list(dict.fromkeys(key.split(".")[0] for key in keys)) == [
        "vision_encoder",
        "language_model",
        "action_head",
    ]


def test_vla_sees_its_instruction_and_its_image():
    model = flax_models.VLAModel(rngs=nnx.Rngs(0))
    model.eval()
    image = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    tokens = jnp.array([[1, 2, 3, 4]])
    base = model(image, tokens)
    assert base.shape == (1, 4, 7)
    assert jnp.abs(model(image, tokens.at[0, 1].set(9)) - base).max() > 1e-4
    assert jnp.abs(model(image[:, ::-1], tokens) - base).max() > 1e-4
