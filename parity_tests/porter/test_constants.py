"""Tables that no checkpoint has: the code that makes them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal


class Distances(nn.Module):
    """The index of LeViT, as its author wrote it: numbered in the order of a dictionary."""

    def __init__(self, side, step):
        super().__init__()
        seen = list(itertools.product(range(0, side, step), repeat=2))
        numbers = {}
        index = [
            numbers.setdefault((abs(a - c), abs(b - d)), len(numbers))
            for a, b in seen
            for c, d in itertools.product(range(side), repeat=2)
        ]
        self.bias = nn.Parameter(torch.randn(2, len(numbers)))
        self.register_buffer("index", torch.LongTensor(index).view(len(seen), -1), persistent=False)

    def forward(self, x):
        return (x[:, None] * self.bias[:, self.index]).sum(-1)


@pytest.mark.parametrize(("side", "step"), [(9, 1), (14, 2), (15, 2), (13, 3)])
def test_distances_in_a_window_are_code(side, step):
    model, x = Distances(side, step), torch.randn(3, 1, side * side)
    ported = porter.port(model, x)
    assert "jnp.arange" in porter.source(ported)
    assert max(map(len, porter.source(ported).splitlines())) <= 100
    require_equal(model, ported, x)


class Padded(nn.Module):
    """EnCodec's convolution: its padding is computed from settings that are buffers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 4, stride=3))
        self.register_buffer("stride", torch.tensor(3), persistent=False)
        self.register_buffer("kernel", torch.tensor(4), persistent=False)

    def forward(self, x):
        frames = torch.ceil((x.shape[-1] - self.kernel) / self.stride + 1).to(torch.int64) - 1
        extra = frames * self.stride + self.kernel - x.shape[-1]
        right = max(extra, 1)
        return self.conv(nn.functional.pad(x, (1, right), mode="reflect"))


def test_a_number_that_torch_reads_from_a_setting_is_known():
    torch.manual_seed(0)
    model, x = nn.Sequential(Padded(), Padded()), torch.randn(2, 2, 30)
    require_equal(model, porter.port(model, x), x)


class Embedded(nn.Module):
    """CCT's classifier: a statement beside the table's makes a layer."""

    def __init__(self, length, dim, pool=True):
        super().__init__()
        self.length, self.dim = length, dim
        if not pool:
            length += 1
            self.token = nn.Parameter(torch.zeros(dim))
        else:
            self.pool = nn.Linear(dim, 1)
        places = torch.arange(length)[:, None] / torch.arange(1, dim + 1)
        self.register_buffer("table", places.cos(), persistent=False)

    def forward(self, x):
        return self.pool(x + self.table)


def test_torchs_module_stays_as_it_is():
    torch.manual_seed(0)
    model, x = Embedded(5, 4), torch.randn(2, 5, 4)
    pool, before = model.pool, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ported = porter.port(model, x)
    assert model.pool is pool
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    require_equal(model, ported, x)
