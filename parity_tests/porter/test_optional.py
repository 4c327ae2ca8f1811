"""Children that some blocks have: an ``if`` of the ported constructor, as in torch's own."""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
from torch import nn

from fluxmod import porter
from parity_tests.porter.certified import require_equal

DIM = 6


class Stack(nn.Module):
    """Blocks one after the other."""

    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class ByExpression(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.fc = nn.Linear(n_in, n_out)
        self.skip = nn.Linear(n_in, n_out, bias=False) if n_in != n_out else None

    def forward(self, x):
        return self.fc(x) + (x if self.skip is None else self.skip(x))


class ByStatement(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.fc = nn.Linear(n_in, n_out)
        self.skip = nn.Sequential()
        if n_in != n_out:
            self.skip = nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out))

    def forward(self, x):
        return self.fc(x) + self.skip(x)


class Given(nn.Module):
    def __init__(self, n_in, n_out, skip=None):
        super().__init__()
        self.fc = nn.Linear(n_in, n_out)
        self.skip = skip

    def forward(self, x):
        y = torch.relu(self.fc(x))
        return y + (x if self.skip is None else self.skip(x))


class FromInput(nn.Module):
    """Without the child it is not the child's argument that is added."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.norm = nn.LayerNorm(n_in)
        self.fc = nn.Linear(n_in, n_out)
        if n_in != n_out:
            self.skip = nn.Linear(n_in, n_out)

    def forward(self, x):
        y = self.norm(x)
        skip = self.skip(y) if hasattr(self, "skip") else x
        return self.fc(y) + skip


class FromChanged(nn.Module):
    """As before, but what is added without the child is made after the child's place."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.fc = nn.Linear(n_in, n_out)
        if n_in != n_out:
            self.skip = nn.Linear(n_in, n_out)

    def forward(self, x):
        if hasattr(self, "skip"):
            skip = self.skip(x)
            x = torch.tanh(x)
            return self.fc(x) * skip
        x = torch.tanh(x)
        return self.fc(x) * x


class Filled(nn.Module):
    def __init__(self, n_in, n_out, ratio, norm=False):
        super().__init__()
        hidden = n_in * ratio
        layers = []
        if ratio != 1:
            layers += [nn.Linear(n_in, hidden), nn.ReLU()]
        if norm:
            layers.append(nn.LayerNorm(hidden))
        layers.append(nn.Linear(hidden, n_out))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.net(x)


class FilledInLoop(nn.Module):
    def __init__(self, dim, depth):
        super().__init__()
        layers = [nn.Linear(dim, dim)]
        for _ in range(depth):
            layers.append(nn.Tanh())
            layers.append(nn.Linear(dim, dim))
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return self.net(x)


class Chain(nn.Sequential):
    def __init__(self, n_in, n_out, act=True):
        layers = [nn.Linear(n_in, n_out), nn.LayerNorm(n_out)]
        if act:
            layers.append(nn.ReLU())
        super().__init__(*layers)


class Rated(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return x * self.rate


class SometimesRated(nn.Module):
    def __init__(self, n_in, n_out, rate):
        super().__init__()
        self.same = n_in == n_out
        self.fc = nn.Linear(n_in, n_out)
        self.rated = Rated(rate)

    def forward(self, x):
        y = self.fc(x)
        if self.same:
            y = self.rated(y) + x
        return y


class AsksItsStride(nn.Module):
    """As in EfficientNet of transformers: made always, called where a number says so."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.stride = stride
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(n_in, n_out, 3, stride, "valid" if stride == 2 else "same")

    def forward(self, x):
        if self.stride == 2:
            x = self.pad(x)
        return self.conv(x)


class Inner(nn.Module):
    """Two classes of the written file."""

    def __init__(self, mid):
        super().__init__()
        self.mid = mid
        self.a, self.b = nn.Linear(DIM, mid), nn.Linear(mid, DIM)

    def forward(self, x):
        if self.mid > 5:
            return self.b(torch.tanh(self.a(x))) * 2 + x
        return self.b(self.a(x)).sigmoid()


class ChainOfTwoKinds(nn.Sequential):
    def __init__(self, mid, act=True):
        layers = [Inner(mid)]
        if act:
            layers.append(nn.ReLU())
        super().__init__(*layers)


class Swaps(nn.Module):
    """Its names are made of each other."""

    def __init__(self, sizes):
        super().__init__()
        for a, b in [sizes]:
            a, b = b, a
        self.fc, self.back = nn.Linear(a, b), nn.Linear(b, a)

    def forward(self, x):
        return self.back(self.fc(x))


class Registry(list):
    def extend(self, values=()):
        super().extend(values)


class ExtendsByNothing(nn.Module):
    def __init__(self):
        super().__init__()
        registry = Registry()
        registry.extend()
        self.fc = nn.Linear(DIM, DIM)

    def forward(self, x):
        return self.fc(x)


class Acts(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act

    def forward(self, x):
        return self.act(x) * 2


class SometimesActs(nn.Module):
    def __init__(self, use, act):
        super().__init__()
        self.use = use
        self.fc, self.acts = nn.Linear(DIM, DIM), Acts(act)

    def forward(self, x):
        x = self.fc(x)
        return self.acts(x) if self.use else x


class Numbered(nn.Module):
    """Children by number, in a list of its own."""

    def __init__(self, act):
        super().__init__()
        self.layers = [nn.Linear(DIM, DIM), act]
        for i, layer in enumerate(self.layers):
            self.add_module(str(i), layer)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class SharesWithinAList(nn.Module):
    """Its list has one activation twice; another list is never called."""

    def __init__(self):
        super().__init__()
        act, other = nn.ReLU(), nn.Tanh()
        self.net = nn.Sequential(nn.Linear(DIM, DIM), act, nn.Linear(DIM, DIM), act)
        self.spare = nn.Sequential(nn.Linear(DIM, DIM), other, nn.Linear(DIM, DIM), other)

    def forward(self, x):
        return self.net(x)


class HoldsALayerTwice(nn.Module):
    """Weights that a list shares, at the same level and deeper."""

    def __init__(self):
        super().__init__()
        fc, act = nn.Linear(DIM, DIM), nn.Tanh()
        self.net = nn.Sequential(fc, act, fc)
        self.deep = nn.Sequential(nn.Sequential(fc, act), nn.Sequential(nn.Linear(DIM, DIM), act))
        self.deep[1].append(self.deep[1][0])
        self.steps = nn.ModuleList([fc, self.deep[1][0], nn.Linear(DIM, DIM)])
        self.steps.append(self.steps[2])

    def forward(self, x):
        x = self.deep(self.net(x))
        for step in self.steps:
            x = step(x)
        return x


class CausalConv(nn.Conv1d):
    """A number that each instance has of its own stands in the class as a property."""

    @cached_property
    def left_pad(self):
        return self.kernel_size[0] - self.stride[0]

    def forward(self, x):
        return super().forward(nn.functional.pad(x[:, None], (self.left_pad, 0))).mean(1)


class Sizes:
    def __init__(self, hidden, inner):
        self.hidden, self.inner = hidden, inner


class NamedAsASetting(nn.Module):
    """``hidden`` is not ``config.hidden``."""

    def __init__(self, config, hidden=None):
        super().__init__()
        hidden = hidden or config.hidden
        self.norm = nn.LayerNorm(hidden)
        self.fc, self.out = nn.Linear(hidden, config.inner), nn.Linear(config.inner, config.hidden)

    def forward(self, x):
        return self.out(self.fc(self.norm(x)))


AWKWARD = {
    "an activation twice in a list": SharesWithinAList,
    "a layer twice in a list": HoldsALayerTwice,
    "a list that is the model": lambda: nn.Sequential(*[nn.Linear(DIM, DIM), nn.Tanh()] * 2),
    "a property that differs": lambda: Stack(CausalConv(1, 2, 3), CausalConv(1, 2, 3, stride=2)),
    "numbered children": lambda: Stack(Numbered(nn.ReLU()), Numbered(nn.Identity())),
    "an argument named as a setting": lambda: Stack(
        NamedAsASetting(Sizes(4, 5), DIM), NamedAsASetting(Sizes(4, 5))
    ),
    "a list of two kinds": lambda: Stack(
        ChainOfTwoKinds(4), ChainOfTwoKinds(8, False), ChainOfTwoKinds(8)
    ),
    "names of each other": lambda: Stack(Swaps((4, DIM)), Swaps((5, DIM))),
    "a list that is none": ExtendsByNothing,
    "a module not called, with a module given": lambda: Stack(
        SometimesActs(True, nn.ReLU()), SometimesActs(False, nn.ReLU()),
        SometimesActs(True, nn.Tanh()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AWKWARD)
def test_what_the_constructor_cannot_be_read_for_is_ported_all_the_same(name):
    model, x = AWKWARD[name](), torch.randn(3, DIM)
    require_equal(model, porter.port(model, x), x)


def stacked(kind):
    """Blocks of which the second changes the width."""
    return Stack(kind(DIM, DIM), kind(DIM, 4), kind(4, 4))


MODELS = {
    "expression": (lambda: stacked(ByExpression), ["!= n_out else None", "ByExpression(6, 4, "]),
    "statement": (lambda: stacked(ByStatement), ["if n_in != n_out:", "ByStatement(6, 4, "]),
    "given": (
        lambda: Stack(Given(DIM, DIM), Given(DIM, 4, nn.Linear(DIM, 4)), Given(4, 4)),
        ["skip: bool = False", "nn.Linear(n_in, n_out", "Given(6, 4, skip=True"],
    ),
    # 5 is no size of the block that has it
    "told by nothing": (
        lambda: Stack(Given(DIM, DIM, nn.Sequential(nn.Linear(DIM, 5), nn.Linear(5, DIM))),
                      Given(DIM, DIM, nn.Sequential(nn.Linear(DIM, 7), nn.Linear(7, DIM))),
                      Given(DIM, DIM)),
        ["skip: nn.Module | None = None"],
    ),
    "another argument": (lambda: stacked(FromInput), ["x if self.skip is None else self.skip(y)"]),
    "list": (
        lambda: Stack(Filled(DIM, DIM, 1), Filled(DIM, DIM, 3, True), Filled(DIM, DIM, 2)),
        ["hidden = n_in * ratio", "if ratio != 1:", "if norm:", "Filled(6, 6, 3, norm=True"],
    ),
    "list in a loop": (
        lambda: Stack(FilledInLoop(DIM, 1), FilledInLoop(DIM, 2)), ["net: nn.Module"]
    ),
    "chain": (
        lambda: Stack(Chain(DIM, 4), Chain(4, DIM, False), Chain(DIM, DIM)),
        ["act: bool = True", "if act:", "super().__init__(*layers)", "act=False"],
    ),
    "not called": (
        lambda: Stack(SometimesRated(DIM, DIM, 0.5), SometimesRated(DIM, 4, 0.25)),
        ["self.rated = Rated(rate)", "SometimesRated(6, 4, 0.25"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_child_that_some_blocks_have(name):
    make, parts = MODELS[name]
    model, x = make(), torch.randn(3, DIM)
    ported = porter.port(model, x)
    text = porter.source(ported)
    assert [part for part in parts if part not in text] == [], text
    own = {type(m) for m in model.modules() if type(m).__module__ == __name__}
    assert text.count("\nclass ") == len(own)
    require_equal(model, ported, x)


def test_a_child_made_by_all_and_called_by_some():
    model = Stack(AsksItsStride(3, 4, 1), AsksItsStride(4, 4, 2), AsksItsStride(4, 2, 1))
    x = torch.randn(2, 3, 6, 6)
    ported = porter.port(model, x)
    assert porter.source(ported).count("\nclass ") == 2
    require_equal(model, ported, x)


def test_a_name_that_changes_stands_for_what_it_was():
    model, x = stacked(FromChanged), torch.randn(3, DIM)
    require_equal(model, porter.port(model, x), x)
