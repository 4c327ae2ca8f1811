"""Random numbers that a model draws by itself, and what only one of its modes can have."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fluxmod import parity, porter
from fluxmod._errors import UnsupportedOpError

LEVELS = parity.Options(levels=("L0", "L1"), per_module=False)


class Drops(nn.Module):
    """Every dropout of functions, at the ranks at which torch has it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        y = F.dropout2d(self.conv(x), 0.4, self.training)
        y = F.feature_alpha_dropout(y, 0.3, self.training)
        z = self.fc(F.dropout1d(y.flatten(2)[..., :6], 0.5, self.training))
        z = F.alpha_dropout(z, 0.2, self.training)
        volume = F.dropout3d(y[:, :, None], 0.3, self.training)
        return z, volume


class Gumbel(nn.Module):
    """Draws in training alone, as routers of experts do."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        scores = self.fc(x)
        if self.training:
            scores = scores - torch.empty_like(scores).exponential_().log()
            scores = scores + torch.empty_like(scores).exponential_(2.0)
            scores = scores * torch.bernoulli(scores.sigmoid()) + torch.zeros(5).bernoulli_()
            scores = scores * torch.empty_like(scores).uniform_(0.9, 1.1)
            scores = scores + torch.zeros(5).normal_(std=0.1) + torch.empty(5).uniform_()
        return scores.softmax(-1)


class Sampled(nn.Module):
    """Keys that are drawn, as Informer's, and rows in another order, as in mixup."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        keys = x[:, torch.randint(0, x.shape[1], (3,))]
        shift = torch.randint(4, (x.shape[0], 1, 1), dtype=torch.int32)
        return self.fc(keys + shift) + self.fc(x[torch.randperm(x.shape[0])][:, :3])


@pytest.mark.parametrize(
    ("make", "shape"), [(Sampled, (3, 7, 6)), (Drops, (2, 3, 5, 7)), (Gumbel, (2, 6))]
)
def test_what_torch_draws_is_replayed_in_training(make, shape):
    torch.manual_seed(0)
    theirs, x = make(), torch.randn(shape)
    parity.check(theirs, porter.port(theirs, x), x, options=LEVELS).require()


class Rotary(nn.Module):
    """Rotations as complex numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("freqs", torch.tensor([1.0, 0.1, 0.01]))

    def forward(self, x):
        angle = torch.outer(torch.arange(x.shape[1]), self.freqs)
        turn = torch.polar(torch.ones_like(angle), angle)
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2)


def test_polar_numbers():
    theirs, x = Rotary(), torch.randn(2, 4, 6)
    parity.check(theirs, porter.port(theirs, x), x, options=LEVELS).require()


class DrawsInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.fc(x)
        return x + torch.empty_like(x).cauchy_() if self.training else x.relu()


class DrawsAlways(DrawsInTraining):
    def forward(self, x):
        return self.fc(x) + torch.empty_like(x).cauchy_()


@pytest.mark.parametrize("wrap", [nn.Identity(), nn.Sequential(nn.Linear(4, 4))], ids=str)
def test_what_training_alone_lacks_leaves_evaluation(wrap):
    theirs, x = DrawsInTraining().eval(), torch.randn(2, 4)
    if isinstance(wrap, nn.Sequential):
        theirs = wrap.append(theirs).eval()
    ours = porter.port(theirs, x)
    (note,) = porter.notes(ours)
    assert "training mode could not be written" in note
    assert "cauchy" in note
    np.testing.assert_allclose(porter.feed(ours, x), theirs(x).detach().numpy(), atol=1e-6)
    ours.train()
    with pytest.raises(NotImplementedError, match="call eval\\(\\) first"):
        ours(jnp.zeros((2, 4)))
    found = porter.coverage(theirs, x)
    assert found.ready
    assert "cauchy" in found.text()


def test_what_both_modes_lack_is_refused():
    with pytest.raises(UnsupportedOpError, match="cauchy"):
        porter.port(DrawsAlways(), torch.randn(2, 4))
