"""``torch.vmap``: masks that are functions of numbers become broadcasting, others are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fluxmod import porter
from fluxmod._errors import CaptureError
from parity_tests.porter.certified import require_equal

AXES = [(None, None, None, 0), (None, None, 0, None), (None, 0, None, None), (0, None, None, None)]


def causal(batch, head, query, key):
    return query >= key


def near(batch, head, query, key):
    far = query - key
    return ((far >= 0) & (far < 2)) | ((far < 0) & (-far < 3))


def both(*masks):
    """As transformers joins masks."""

    def joined(batch, head, query, key):
        result = query.new_ones((), dtype=torch.bool)
        for mask in masks:
            result = result & mask(batch, head, query, key).to(result.device)
        return result

    return joined


class Masked(nn.Module):
    """Attention over places that a function of four numbers allows."""

    def __init__(self, *masks):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.masks = masks

    def padding(self, kept):
        def mask(batch, head, query, key):
            return kept[batch, key]

        return mask

    def forward(self, x, kept):
        mask = both(*self.masks, self.padding(kept))
        for axes in AXES:
            mask = torch.vmap(mask, in_dims=axes, out_dims=0)
        N, L, _ = x.shape
        allowed = mask(torch.arange(N), torch.arange(1), torch.arange(L), torch.arange(L))
        scores = torch.where(allowed[:, 0], x @ x.mT, -1e9)
        return self.fc(scores.softmax(-1) @ x)


@pytest.mark.parametrize("masks", [(), (causal,), (near,), (causal, near)], ids=len)
def test_a_mask_of_numbers_is_broadcast(masks):
    torch.manual_seed(0)
    model, x = Masked(*masks), torch.randn(3, 5, 4)
    kept = torch.arange(5) < torch.tensor([5, 3, 4])[:, None]
    ported = porter.port(model, x, kept)
    require_equal(model, ported, x, kept)
    assert ".reshape(-1, 1" in porter.source(ported)


class Rotated(nn.Module):
    """One vmap of one number, with a constant and a number of Python."""

    def forward(self, x):
        angles = torch.vmap(lambda place: torch.sin(2.0 * place + torch.tensor(0.5)) - 1)
        return x * angles(torch.arange(x.shape[1], dtype=x.dtype))


def test_one_axis():
    model, x = Rotated(), torch.randn(2, 5)
    require_equal(model, porter.port(model, x), x)


REFUSED = {
    "a sum within": lambda x: torch.vmap(lambda row: row.sum())(x),
    "a cumulative sum": lambda x: torch.vmap(lambda number: number.cumsum(0))(x[:, 0]),
    "a shape": lambda x: torch.vmap(lambda number: number * len(number.shape))(x[:, 0]),
    "an array of the outside": lambda x: torch.vmap(lambda number: number + x[0])(x[:, 0]),
    "a part": lambda x: torch.vmap(lambda place: x[place])(torch.arange(2)),
    "another axis": lambda x: torch.vmap(lambda number: number + 1, out_dims=-1)(x[:, 0]),
    "several numbers": lambda x: torch.vmap(lambda number: number + 1, in_dims=1)(x),
}


class Plain(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x) * 1


@pytest.mark.parametrize("name", REFUSED)
def test_more_than_numbers_is_refused_with_its_place(name):
    with pytest.raises(CaptureError, match="more than arithmetic with numbers") as refusal:
        porter.port(Plain(REFUSED[name]), torch.randn(3, 4))
    assert "test_vmap.py:" in str(refusal.value)
