"""``torch.cond`` becomes ``jax.lax.cond``."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal

DIM = 4


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(DIM, DIM), nn.Linear(DIM, DIM)


class One(Base):
    def forward(self, x):
        x = x * 2
        return torch.cond(
            x.sum() > 0, lambda y: self.a(y) + 1, lambda y: torch.relu(self.b(y)), (x,)
        )


class Several(Base):
    def forward(self, x, flag):
        def yes(x, h):
            h = torch.tanh(h)
            return h * h, x + h

        def no(x, h):
            return x.exp(), h.clone()

        first, second = torch.cond(flag.any(), yes, no, (x, self.a(x)))
        return first - second, second


class Nested(Base):
    def forward(self, x):
        def inner(x):
            return torch.cond(x[0, 0] > 0, torch.sin, torch.cos, (x,))

        return self.a(torch.cond(x.sum() > 0, inner, torch.neg, (x,)))


class Counted(nn.Module):
    """Children that have numbers of their own, in a model with a choice."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(One() for _ in range(3))
        for index, block in enumerate(self.blocks):
            block.index = index

    def forward(self, x):
        for block in self.blocks:
            x = block(x) * (block.index + 1)
        return x


class Random(Base):
    def forward(self, x):
        drop = nn.functional.dropout
        return torch.cond(x.sum() > 0, lambda y: drop(y, 0.5, self.training), torch.neg, (x,))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["yes", "no"])
@pytest.mark.parametrize("kind", [One, Nested, Counted], ids=lambda kind: kind.__name__)
def test_both_branches_are_torchs(kind, sign):
    torch.manual_seed(0)
    model, x = kind(), sign * torch.rand(3, DIM)
    ours = porter.port(model, x)
    assert "jax.lax.cond(" in porter.source(ours)
    require_equal(model, ours, x)


@pytest.mark.parametrize("flag", [True, False])
def test_several_results(flag):
    torch.manual_seed(0)
    model, inputs = Several(), (torch.randn(3, DIM), torch.full((3,), flag))
    require_equal(model, porter.port(model, *inputs), *inputs)


def test_what_one_branch_needs_is_written_in_it():
    text = porter.translate(One(), torch.randn(2, DIM)).text
    assert "lambda: F.linear(x, self.a.kernel[...], self.a.bias[...]) + 1,\n" in text


def test_random_numbers_in_a_branch_leave_evaluation():
    ours = porter.port(Random(), torch.randn(2, DIM))
    (note,) = porter.notes(ours)
    assert "draws random numbers in a branch of torch.cond" in note
    with pytest.raises(NotImplementedError, match="training could not be ported"):
        ours(jnp.zeros((2, DIM)))
