"""Arrays whose number of rows depends on values: experts that get the rows meant for them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fluxmod import parity, porter
from fluxmod._errors import UnsupportedOpError

DIM, EXPERTS, PICKED = 6, 4, 2


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(DIM, EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(DIM, 8), nn.SiLU(), nn.Linear(8, DIM)) for _ in range(EXPERTS)
        )

    def route(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(PICKED, -1)
        return weights / weights.sum(-1, keepdim=True), chosen


class Mixtral(Router):
    """As transformers had it: where, a gather, index_add_."""

    def forward(self, x):
        batch, length, dim = x.shape
        x = x.view(-1, dim)
        weights, chosen = self.route(x)
        final = torch.zeros((batch * length, dim), dtype=x.dtype, device=x.device)
        mask = F.one_hot(chosen, num_classes=EXPERTS).permute(2, 1, 0)
        for number in range(EXPERTS):
            expert = self.experts[number]
            idx, top_x = torch.where(mask[number])
            if top_x.shape[0] == 0:
                continue
            state = x[None, top_x].reshape(-1, dim)
            final.index_add_(0, top_x, expert(state) * weights[top_x, idx, None])
        return final.reshape(batch, length, dim)


class Deepseek(Router):
    """As DeepSeek's first code had it in training: rows of each expert by a mask."""

    def forward(self, x):
        shape = x.shape
        weights, chosen = self.route(x.view(-1, DIM))
        flat = chosen.view(-1)
        x = x.view(-1, DIM).repeat_interleave(PICKED, dim=0)
        y = torch.empty_like(x)
        for number, expert in enumerate(self.experts):
            y[flat == number] = expert(x[flat == number])
        return (y.view(*weights.shape, -1) * weights.unsqueeze(-1)).sum(dim=1).view(shape)


class Assigned(Router):
    """The best expert alone, written by place."""

    def forward(self, x):
        x = x.flatten(0, 1)
        out = torch.zeros_like(x)
        best = self.gate(x).argmax(-1)
        for number, expert in enumerate(self.experts):
            (places,) = torch.where(best == number)
            if places.numel() > 0:
                out[places] = expert(x[places]).tanh()
        return out


class Adapters(nn.Module):
    """X-MOD's: every row of a batch goes through the adapter of its language."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.adapters = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, x):
        languages = (x[:, 0, 0] > 0).long()
        new = torch.zeros_like(x)
        for number, adapter in enumerate(self.adapters):
            mask = languages == number
            new[mask] = adapter(self.norm(x[mask])) + x[mask].mean(1, keepdim=True)
        return new


class TwoStreams(nn.Module):
    """Higgs Audio's: tokens of text and of sound go through layers of their own, and add up."""

    def __init__(self):
        super().__init__()
        self.text, self.sound = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x):
        sound = x[..., 0] > 0.3
        hidden = x * 1.0
        hidden[sound] += self.sound(self.norm(x[sound]))
        hidden[~sound] += torch.log(1 + x[~sound].abs()) @ self.text.weight.t()
        return hidden


class Clipped(nn.Module):
    """A function that is only defined where the mask is true; its gradient elsewhere is NaN."""

    def forward(self, x):
        inside = x > 0.1
        out = torch.zeros_like(x)
        out[inside] = (x[inside] - 0.1).sqrt().log()
        out[~inside] = torch.masked_select(x, ~inside) * 2
        return out


@pytest.mark.parametrize("make", [Mixtral, Deepseek, Assigned, Adapters, TwoStreams, Clipped])
def test_rows_that_values_choose(make):
    torch.manual_seed(0)
    model, x = make(), torch.randn(3, 5, DIM)
    ported = porter.port(model, x)
    parity.check(model, ported, x).require()
    other = torch.randn(2, 5, DIM)
    parity.check(model, ported, other, options=parity.Options(levels=("L1", "L2"))).require()


@pytest.mark.parametrize("rows", [torch.zeros(2, 5, DIM), torch.ones(2, 5, DIM)])
@pytest.mark.parametrize("make", [Assigned, Adapters])
def test_no_row_at_all_and_every_row(make, rows):
    torch.manual_seed(0)
    model = make()
    ported = porter.port(model, torch.randn(3, 5, DIM))
    parity.check(model, ported, rows, options=parity.Options(levels=("L1", "L2"))).require()


# --- what counts the rows -------------------------------------------------------------------------


class Mean(nn.Module):
    def forward(self, x):
        return x[x[..., 0] > 0].mean(0)


class Given(nn.Module):
    def forward(self, x):
        return x[x[..., 0] > 0] * 2


class ByNumber(nn.Module):
    def forward(self, x):
        rows = x[x[..., 0] > 0]
        return x * rows.shape[0]


class Joined(nn.Module):
    def forward(self, x):
        mask = x[..., 0] > 0
        out = torch.zeros_like(x)
        rows = torch.cat([x[mask], x[~mask]])
        out[mask | ~mask] = rows
        return out


class Turned(nn.Module):
    def forward(self, x):
        mask = x[..., 0] > 0
        out = torch.zeros_like(x)
        out[mask] = x[mask].flip(0)
        return out


class Moved(nn.Module):
    """A place that was computed: that of a row without meaning could be inside of the array."""

    def forward(self, x):
        (places,) = torch.where(x[:, 0, 0] > 0)
        return torch.zeros_like(x).index_add(0, (places * 2) % x.shape[0], x[places])


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(DIM)

    def forward(self, x):
        mask = x[..., 0] > 0
        out = torch.zeros_like(x)
        out[mask] = self.norm(x[mask])
        return out


@pytest.mark.parametrize("make", [Mean, Given, ByNumber, Joined, Turned, Moved, Mixed])
def test_what_counts_or_mixes_the_rows_is_refused(make):
    with pytest.raises(UnsupportedOpError, match="depends? on values"):
        porter.port(make(), torch.randn(3, 5, DIM))
