"""Functions beside a module: what they are given is what the module has."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from fluxmod import parity, porter
from parity_tests.porter.certified import require_equal


def windows(x, window_size, num_heads):
    B, H, W, C = x.shape
    x = x.reshape(B, H // window_size[0], window_size[0], W // window_size[1], window_size[1], C)
    x = x.transpose(2, 3).reshape(B, -1, window_size[0] * window_size[1], C)
    return x.reshape(*x.shape[:3], num_heads, C // num_heads) * (C // num_heads) ** -0.5


@functools.wraps(windows)
def decorated(*args, **kwargs):
    return windows(*args, **kwargs)


class Windows(nn.Module):
    def __init__(self, function, window_size, num_heads):
        super().__init__()
        self.function = function
        self.window_size, self.num_heads = window_size, num_heads

    def forward(self, x):
        if self.function is windows:
            return windows(x, self.window_size, num_heads=self.num_heads)
        return decorated(x, self.window_size, num_heads=self.num_heads)


class Several(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.small = Windows(function, [2, 3], 2)
        self.large = Windows(function, [4, 6], 4)

    def forward(self, x):
        return self.small(x), self.large(x)


@pytest.mark.parametrize("function", [windows, decorated], ids=["plain", "decorated"])
def test_numbers_of_a_helper_are_the_modules(function):
    theirs, x = Several(function), torch.randn(2, 4, 6, 8)
    ours = porter.port(theirs, x)
    text = porter.source(ours)
    assert text.count("class ") == 2
    assert "H // self.window_size[0]" in text
    assert "C // self.num_heads" in text
    parity.check(theirs, ours, x, options=parity.Options(levels=("L0", "L1"))).require()


def moved(tensor):
    """A map with channels last, as einops' own functions name it."""
    return tensor.permute(0, 2, 3, 1)


def partition(x, size):
    B, H, W, C = x.shape
    x = x.view(B, H // size, size, W // size, size, C)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, C)


class Masked(nn.Module):
    """A helper's own ``x`` comes between the map's two names and the loop that reads it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x):
        x = self.conv(x)
        x = moved(x)
        mask = torch.zeros(1, 4, 4, 1)
        mask[:, :2, :2] = 1.0
        rows = partition(mask, 2).mean(1).sum()
        for block in self.blocks:
            x = block(x) * rows
        return x


def test_a_map_keeps_a_name_when_a_helper_takes_its_own():
    theirs, x = Masked(), torch.randn(2, 4, 4, 4)
    require_equal(theirs, porter.port(theirs, x), x)


class Joined(nn.Module):
    """Joins the last two axes, however many come before."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def forward(self, x):
        *before, last = x.shape
        return x.reshape(*before[:-1], before[-1] // self.parts, last * self.parts)


class Joins(nn.Module):
    def __init__(self):
        super().__init__()
        self.join = Joined(2)
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.join(self.fc(x)) + self.join(x.mean(0)) + self.join(x[:, None]).mean(1)


def test_a_module_without_state_is_called_with_several_ranks():
    theirs, x = Joins(), torch.randn(3, 6, 4)
    require_equal(theirs, porter.port(theirs, x), x)
