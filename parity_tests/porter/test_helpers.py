"""Functions beside a module: what they are given is what the module has."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from fluxmod import parity, porter


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
