"""From text to a model: weights that are there, weights that come later, random streams."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from safetensors.torch import save_file
from torch import nn

from fluxmod import convert, parity, porter
from parity_tests.porter.zoo import ZOO


class Drops(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.first, self.second = nn.Dropout(0.5), nn.Dropout(0.5)
        self.register_buffer("steps", torch.arange(4.0), persistent=False)

    def forward(self, x):
        return self.first(self.fc(x)) + self.second(x) * self.steps


@pytest.mark.parametrize("name", ["resnet18", "vit"])
def test_a_model_on_the_meta_device_gets_its_weights_from_a_file(name, tmp_path):
    torch.manual_seed(0)
    theirs, inputs = ZOO[name].make()
    save_file(
        {k: v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "w.safetensors"
    )
    with torch.device("meta"):
        shapes, _ = ZOO[name].make()
    ours = porter.port(shapes, *inputs)
    assert porter.source(ours) == porter.source(porter.port(theirs, *inputs))
    weights = [slot.variable.get_value() for slot in convert.slots(ours)]
    assert all(isinstance(value, jax.ShapeDtypeStruct) for value in weights)
    convert.to_flax(tmp_path / "w.safetensors", ours)
    options = parity.Options(levels=("L0", "L2"), per_module=False)
    parity.check(theirs, ours, *inputs, options=options).require()


def test_a_buffer_that_no_file_has_cannot_come_from_the_meta_device():
    with torch.device("meta"):
        model = Drops()
    found = porter.coverage(model, torch.randn(2, 4))
    assert not found.ready
    assert "steps is on the meta device and in no checkpoint" in found.obstacles


class Masked(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.register_buffer("mask", torch.tril(torch.ones(size, size)).view(1, size, size))
        self.register_buffer("decay", 0.9 ** torch.arange(20.0))
        self.register_buffer("learned", torch.randn(3))

    def forward(self, x):
        return torch.where(self.mask == 0, -1.0, x).sum() + self.decay.sum() + self.learned.sum()


def test_a_mask_that_a_checkpoint_has_is_made_from_the_start():
    theirs = Masked(5)
    ours = porter.port(theirs, torch.randn(2, 5, 5))
    fresh = type(ours)()
    np.testing.assert_array_equal(fresh.mask[...], theirs.mask)
    np.testing.assert_allclose(fresh.decay[...], theirs.decay, rtol=1e-6)
    np.testing.assert_array_equal(fresh.learned[...], np.zeros(3))  # numbers of a checkpoint alone
    np.testing.assert_array_equal(ours.learned[...], theirs.learned)


def test_streams_are_those_that_the_constructor_makes():
    ours = porter.port(Drops(), torch.randn(2, 4))
    fresh = type(ours)(rngs=nnx.Rngs(0))
    for kind in (nnx.RngKey, nnx.RngCount):
        got, want = (jax.tree.leaves(nnx.state(m, kind)) for m in (ours, fresh))
        assert len(got) == len(want) > 1
        for a, b in zip(got, want, strict=True):
            raw = [jax.random.key_data(x) if kind is nnx.RngKey else x for x in (a, b)]
            np.testing.assert_array_equal(*raw)
