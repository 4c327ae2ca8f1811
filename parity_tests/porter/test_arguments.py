"""What a call hands over besides arrays, and the names that values get on the way."""

from __future__ import annotations

import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal

DIM = 4


class Bias(nn.Module):
    """A bias of relative positions."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 1)

    def forward(self, i, j):
        places = torch.arange(j)[None] - torch.arange(i)[:, None]
        return self.table(places.clamp(-4, 4) + 4)[..., 0]


class Attention(nn.Module):
    """Attention with a bias that another module makes."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(DIM, DIM)

    def forward(self, x, mask=None, rel_pos=None):
        scores = x @ x.mT
        if rel_pos is not None:
            scores = scores + rel_pos(*scores.shape[-2:])
        return self.fc(scores.softmax(-1) @ x)


class Residual(nn.Module):
    """Hands on what it gets by name."""

    def __init__(self):
        super().__init__()
        self.fn = Attention()

    def forward(self, x, **kwargs):
        return x + self.fn(x, **kwargs)


class Positions(nn.Module):
    """One module, handed to every layer."""

    def __init__(self):
        super().__init__()
        self.bias = nn.ModuleDict({"rel_pos": Bias()})
        self.layers = nn.ModuleList(Residual() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, rel_pos=self.bias["rel_pos"])
        return x


def test_a_module_can_be_an_argument():
    torch.manual_seed(0)
    model, x = Positions(), torch.randn(2, 5, DIM)
    ported = porter.port(model, x)
    text = porter.source(ported)
    assert "rel_pos=rel_pos)" in text
    assert "rel_pos()" in text
    require_equal(model, ported, x)


class Scaled(nn.Module):
    """Passes on whatever it gets."""

    def __init__(self, fn, scale):
        super().__init__()
        self.fn, self.scale = fn, scale

    def forward(self, *args, **kwargs):
        return self.fn(*args, **kwargs) * self.scale


class PassedOn(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Scaled(nn.Linear(DIM, DIM), 0.5)
        self.second = Scaled(Scaled(nn.Bilinear(DIM, DIM, DIM), 2.0), 0.25)

    def forward(self, x):
        return self.second(x, self.first(x))


def test_arguments_without_names_are_passed_on():
    torch.manual_seed(0)
    model, x = PassedOn(), torch.randn(3, DIM)
    require_equal(model, porter.port(model, x), x)


class Joint(nn.Module):
    """SD3's attention: a size without a name, of what has lost its name to the result."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(DIM, DIM)

    def forward(self, states, context):
        residual = states
        batch_size = states.shape[0]
        query = self.fc(states).view(batch_size, -1, 2, 2).transpose(1, 2)
        more = self.fc(context).view(batch_size, -1, 2, 2).transpose(1, 2)
        query = torch.cat([query, more], dim=2)
        states = nn.functional.scaled_dot_product_attention(query, query, query)
        states = states.transpose(1, 2).reshape(batch_size, -1, DIM)
        states, context = states[:, : residual.shape[1]], states[:, residual.shape[1] :]
        return self.fc(states), context


def test_a_size_is_read_before_its_array_loses_its_name():
    torch.manual_seed(0)
    model, x, context = Joint(), torch.randn(2, 5, DIM), torch.randn(2, 3, DIM)
    require_equal(model, porter.port(model, x, context), x, context)


def split(tensor):
    return tensor.unflatten(-1, (2, 2))


def rotate(x):
    x = split(x)
    x1, x2 = x.unbind(-1)
    x = torch.stack((-x2, x1), -1)
    return x.flatten(-2)


def apply(t, freqs):
    t, rest = t[..., :4], t[..., 4:]
    t = (t * freqs.cos()) + (rotate(t) * freqs.sin())
    return torch.cat((t, rest), -1)


class Rotary(nn.Module):
    """A name that a helper takes over while an expression still reads what had it."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x, freqs):
        q, t = self.query(x), self.key(x)
        q = apply(q, freqs)
        t = apply(t, freqs)
        return q @ t.mT


def test_a_name_is_not_taken_from_what_an_expression_still_reads():
    torch.manual_seed(0)
    model, x, freqs = Rotary(), torch.randn(2, 5, 6), torch.randn(5, 4)
    require_equal(model, porter.port(model, x, freqs), x, freqs)
