"""Modules that two others hold, where some instances of a class share one and others own theirs."""

from __future__ import annotations

import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal

DIM = 6


class Skip(nn.Module):
    """Goes down, through the next, and up; the innermost holds the model's own bottleneck."""

    def __init__(self, down, up, inner):
        super().__init__()
        self.down = down
        self.inner = inner
        self.up = up

    def forward(self, x):
        return self.up(self.inner(self.down(x))) + x


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.downs = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(2))
        self.ups = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(2))
        self.bottleneck = nn.Sequential(nn.Linear(DIM, DIM), nn.Tanh())
        skip = Skip(self.downs[1], self.ups[1], self.bottleneck)
        self.skips = Skip(self.downs[0], self.ups[0], skip)

    def forward(self, x):
        return self.skips(x)


class Gate(nn.Module):
    def __init__(self, fc):
        super().__init__()
        self.fc = fc
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x):
        return x * torch.sigmoid(self.norm(self.fc(x)))


class Gates(nn.Module):
    """Gates over layers that all have in common, or over their own."""

    def __init__(self, layers=None):
        super().__init__()
        self.layers = layers
        own = layers is None
        self.gates = nn.ModuleList(Gate(nn.Linear(DIM, DIM) if own else f) for f in layers or "ab")

    def forward(self, x):
        for gate in self.gates:
            x = gate(x)
        return x


class Step(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.common = Gates(layers)
        self.specific = Gates()

    def forward(self, x):
        return self.specific(self.common(x))


class Steps(nn.Module):
    def __init__(self, *, has_first):
        super().__init__()
        layers = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(2))
        if has_first:
            self.first = Step(layers)
        self.steps = nn.ModuleList(Step(layers) for _ in range(2))

    def forward(self, x):
        x = self.first(x) if hasattr(self, "first") else x
        for step in self.steps:
            x = step(x)
        return x


def ported(theirs):
    x = torch.randn(4, DIM)
    ours = porter.port(theirs, x)
    require_equal(theirs, ours, x)
    return ours


def test_one_instance_builds_its_child_and_another_is_given_the_models():
    ours = ported(Nested())
    assert ours.skips.inner.inner is ours.bottleneck
    assert "Skip(Skip(self.bottleneck))" in porter.source(ours)


def test_layers_of_a_list_in_an_earlier_child():
    ours = ported(Steps(has_first=True))
    first = ours.first.common.gates[0].fc
    assert [step.common.gates[0].fc is first for step in ours.steps] == [True, True]
    assert ours.first.specific.gates[0].fc is not first


def test_layers_of_a_list_in_the_first_of_a_list():
    ours = ported(Steps(has_first=False))
    assert ours.steps[1].common.gates[1].fc is ours.steps[0].common.gates[1].fc


class WithSettings(nn.Module):
    """A state_dict with more than tensors: an extra state, and what the class adds itself."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(DIM, DIM)

    def get_extra_state(self):
        return {"version": 2}

    def set_extra_state(self, state):
        pass

    def state_dict(self, *args, **kwargs):
        return {**super().state_dict(*args, **kwargs), "settings": {"dim": DIM}}

    def forward(self, x):
        return self.fc(x)


def test_what_a_state_dict_has_beside_tensors_is_no_weight():
    ported(WithSettings())
