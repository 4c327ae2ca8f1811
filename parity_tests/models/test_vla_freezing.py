"""Freezing the vision encoder is one call in both frameworks and leaves its bits alone."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn, optim, train
from fluxmod.models import entry

FROZEN = "vision_encoder"
ROW = entry("VLAModel")


@pytest.fixture
def pair():
    torch.manual_seed(0)
    theirs, ours = ROW.torch(), ROW.flax(nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    return theirs, ours


def test_one_call_freezes_the_same_parameters(pair):
    theirs, ours = (fluxmod.freeze(model, FROZEN) for model in pair)
    assert theirs == ours
    assert all(name.startswith(FROZEN + ".") for name in ours)
    counts = {fluxmod.parameter_count(model, trainable_only=True) for model in pair}
    assert len(counts) == 1
    assert counts.pop() < fluxmod.parameter_count(pair[0])


def test_training_the_rest_changes_nothing_in_the_frozen_part(pair):
    theirs, ours = pair
    before = convert.to_torch(ours)
    for model in pair:
        fluxmod.freeze(model, FROZEN)
    (image, tokens), _ = ROW.make(4)
    target = np.random.default_rng(0).standard_normal((4, 3, 7)).astype(np.float32)

    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        out = theirs(torch.from_numpy(image), torch.from_numpy(tokens))
        torch.nn.functional.mse_loss(out, torch.from_numpy(target)).backward()
        optimizer.step()

    batch = {"image": np.moveaxis(image, 1, -1), "tokens": tokens, "target": target}
    trainer = train.Trainer(
        ours,
        optim.AdamW(lr=1e-2),
        lambda m, b: jnp.mean((m(b["image"], b["tokens"]) - b["target"]) ** 2),
    )
    for _ in range(3):
        trainer.step(batch)

    after = {
        "torch": {k: v.numpy() for k, v in theirs.state_dict().items()},
        "flax": convert.to_torch(trainer.model),
    }
    for weights in after.values():
        for key, value in before.items():
            unchanged = np.array_equal(weights[key], value)
            assert unchanged == key.startswith(FROZEN), key
    moments = trainer.opt_state.slots["exp_avg"]
    assert not any(FROZEN in str(path) for path, _ in nnx.to_flat_state(moments))
    assert len(optimizer.state) == len(nnx.to_flat_state(moments))


def test_a_frozen_part_in_eval_mode_stays_still_while_the_rest_trains():
    class Net(nn.Module):
        def __init__(self, *, rngs):
            self.backbone = nn.Sequential(
                nn.Linear(4, 4, rngs=rngs), nn.BatchNorm1d(4), nn.Dropout(0.5, rngs=rngs)
            )
            self.norm = nn.BatchNorm1d(4)
            self.head = nn.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.head(self.norm(self.backbone(x)))

    model = Net(rngs=nnx.Rngs(0))
    fluxmod.freeze(model, "backbone")
    model.train()
    model.backbone.eval()
    before = convert.to_torch(model)
    trainer = train.Trainer(model, optim.SGD(lr=0.1), lambda m, x: (m(x) ** 2).mean())
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    for _ in range(2):
        trainer.step(x)
    after = convert.to_torch(trainer.model)
    changed = {key.split(".")[0] for key in before if not np.array_equal(before[key], after[key])}
    assert changed == {"norm", "head"}
    assert int(after["norm.num_batches_tracked"]) == 2
    count = trainer.model.backbone[2].rngs.count[...]
    assert int(count) == int(model.backbone[2].rngs.count[...])
