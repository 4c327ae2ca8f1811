"""Operators on maps that hold their channels last: each along the axes that torch means."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fluxmod import parity, porter

ON_MAPS = {
    "unpacked": lambda y: torch.stack([part.flatten(1).T for part in y]),
    "unbind": lambda y: y.unbind()[0] @ y.unbind()[1].mT,
    "unbind, 1": lambda y: y.unbind(1)[0] * y.unbind(-1)[1].sum(1)[:, None, :5],
    "chunk": lambda y: y.chunk(2)[1],
    "chunk, 1": lambda y: y.chunk(2, 1)[1],
    "split": lambda y: y.split(1)[1],
    "split, 1": lambda y: y.split([1, 3], dim=1)[1],
    "tensor_split": lambda y: y.tensor_split(2)[0],
    "tensor_split, 1": lambda y: y.tensor_split([1, 2], dim=1)[1],
    "roll": lambda y: y.roll(3),
    "roll, 1 and 2": lambda y: y.roll((1, 2), dims=(1, 2)),
    "repeat_interleave": lambda y: y.repeat_interleave(2),
    "repeat_interleave, 1": lambda y: y.repeat_interleave(2, dim=1),
    "flip": lambda y: y.flip((1, 3)),
    "sort": lambda y: y.sort()[0],
    "sort, 1": lambda y: y.sort(1, descending=True)[0],
    "topk": lambda y: y.topk(2)[0],
    "topk, 1": lambda y: y.topk(2, dim=1)[0],
    "max": lambda y: y.max() - y.min(),
    "argmax": lambda y: y * y.argmax(),
    "argmax, 1": lambda y: y.argmax(1) * y[:, 0],
    "median": lambda y: y.median(),
    "mean, 1": lambda y: y.mean(1),
    "norm": lambda y: y / y.norm(),
    "norm, 1": lambda y: y.norm(dim=1),
    "cumsum, 1": lambda y: y.cumsum(1),
    "softmax, 1": lambda y: y.softmax(1),
    "glu": lambda y: torch.nn.functional.glu(y[..., :4]) ** 2,
    "glu, 1": lambda y: torch.nn.functional.glu(y, dim=1),
    "diff": lambda y: y.diff(),
    "diff, 1": lambda y: y.diff(dim=1),
    "squeeze": lambda y: y[:, :1].squeeze(),
    "squeeze, 1": lambda y: y[:, :1].squeeze(1),
    "select, 1": lambda y: y.select(1, 2),
    "narrow, 1": lambda y: y.narrow(1, 1, 2),
    "index_select, 1": lambda y: y.index_select(1, torch.tensor([2, 0])),
    "take": lambda y: y.take(torch.tensor([3, 17, 40])),
    "flatten": lambda y: y.flatten(),
    "ravel": lambda y: y.ravel(),
    "rows": lambda y: torch.stack([row.sum(0) for row in y]),
    "iterated": lambda y: torch.cat([part[..., :2].reshape(4, -1) for part in y]),
}


class OnMap(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.function = function

    def forward(self, x):
        return self.function(self.conv(x)) * 1.0


@pytest.mark.parametrize("name", ON_MAPS)
def test_operators_on_maps(name):
    torch.manual_seed(0)
    model, x = OnMap(ON_MAPS[name]), torch.randn(2, 3, 7, 6)
    # those that take the batch apart have as many parts as the example has
    options = parity.Options(
        levels=("L0", "L1"), per_module=False, inputs=lambda batch: ((x,), {}), batches=(2,)
    )
    parity.check(model, porter.port(model, x), x, options=options).require()


class Update(nn.Module):
    """RAFT's: a convolution of what comes in, beside what comes in itself."""

    def __init__(self):
        super().__init__()
        self.flow = nn.Conv2d(2, 4, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, flow):
        before = flow
        flow = self.flow(flow).relu()
        return self.out(torch.cat([flow, before], dim=1))


class Refined(nn.Module):
    def __init__(self):
        super().__init__()
        self.update = Update()

    def forward(self, x):
        flow = torch.zeros_like(x[:, :2].flatten(2).sum(-1))[..., None, None].expand(-1, -1, 7, 6)
        flow = flow + x.flatten(2)[:, 1:].unflatten(2, (7, 6))
        for _ in range(3):
            flow = flow + self.update(flow)
        return flow


def test_calls_of_one_module_agree_on_the_order_of_axes():
    torch.manual_seed(0)
    model, x = Refined(), torch.randn(2, 3, 7, 6)
    ported = porter.port(model, x)
    assert porter.source(ported).count("class ") == 2
    parity.check(
        model, ported, x, options=parity.Options(levels=("L0", "L1"), per_module=False)
    ).require()


class Sine(nn.Module):
    """DETR's positions: a map of each size that comes in."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, mask):
        places = mask.cumsum(1)[:, :, :, None] * self.weight
        places = torch.stack((places[..., 0::2].sin(), places[..., 1::2].cos()), dim=4)
        return places.flatten(3).permute(0, 3, 1, 2)


class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.sine = Sine()

    def forward(self, x):
        return [self.sine(m.mean(1)) for m in (x, x[..., ::2, ::2], x[..., 1:, :])]


def test_a_module_called_with_several_sizes_has_none_in_its_source():
    torch.manual_seed(0)
    model, x = Pyramid(), torch.randn(2, 3, 8, 6)
    ported = porter.port(model, x)
    assert "places.shape[1], places.shape[2]" in porter.source(ported)
    parity.check(
        model, ported, x, options=parity.Options(levels=("L0", "L1"), per_module=False)
    ).require()


class Mixed(nn.Module):
    """A mixer's block: a convolution over the places, beside what comes in."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Conv1d(6, 6, 1)

    def forward(self, x):
        return self.mix(self.norm(x)) + x


class Averaged(nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_a_sequential_with_a_transpose_inside_declares_its_own_axes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), Mixed(), nn.LayerNorm(4), Averaged(), nn.Linear(4, 3))
    x = torch.randn(2, 6, 5)
    ported = porter.port(model, x)
    options = parity.Options(levels=("L0", "L1"), per_module=False)
    parity.check(model, ported, x, options=options).require()
