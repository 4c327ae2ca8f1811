"""Submodules on torch's own inputs, where the two sides do not call them alike."""

import jax.numpy as jnp
import pytest
import torch
from flax import nnx

from fluxmod import convert, nn, parity

FAST = parity.Options(levels=("L0", "L1"))
X, SCALE = torch.randn(3, 4, 4), torch.rand(3, 4, 4)


class TorchChild(torch.nn.Module):
    """Reads the lower triangle alone, unless a mask says otherwise."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, x, mask=None, scale=None):
        mask = torch.ones(4, 4).tril() if mask is None else mask
        y = self.fc(x) * mask
        return y if scale is None else y * scale


class TorchParent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.child = TorchChild()

    def forward(self, x, scale):
        return self.child(x, None, scale).tanh()


class FlaxChild(nn.Module):
    factor = 1.0

    def __init__(self, *, rngs):
        self.fc = nn.Linear(4, 4, rngs=rngs)


class FewerArguments(FlaxChild):
    """What a port looks like: the mask that nobody gives is no argument."""

    def __call__(self, x, scale):
        return self.fc(x) * jnp.tril(jnp.ones((4, 4), x.dtype)) * scale * self.factor


class TheMaskIsGiven(FlaxChild):
    """What a port of a trace looks like in which torch made the mask outside."""

    def __call__(self, x, mask=None, scale=None):
        y = self.fc(x) * self.factor
        return (y if mask is None else y * mask) * scale


class NeedsMore(FlaxChild):
    """It gets something that its twin makes itself."""

    def __call__(self, x, scale, table):
        return self.fc(x) * table * scale


def pair(child, call):
    """A torch model and one in Flax whose child is called by ``call(child, x, scale, mask)``."""

    class Parent(nn.Module):
        def __init__(self, *, rngs):
            self.child = child(rngs=rngs)

        def __call__(self, x, scale):
            mask = jnp.tril(jnp.ones((4, 4), x.dtype))
            return jnp.tanh(call(self.child, x, scale, mask))

    theirs, ours = TorchParent(), Parent(rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    return theirs, ours


WAYS = {
    "fewer-arguments": (FewerArguments, lambda child, x, scale, mask: child(x, scale)),
    "the-mask-is-given": (TheMaskIsGiven, lambda child, x, scale, mask: child(x, mask, scale)),
    "needs-more": (NeedsMore, lambda child, x, scale, mask: child(x, scale, mask)),
}


@pytest.mark.parametrize("way", WAYS)
def test_equal_models_that_call_a_child_otherwise_pass(way):
    report = parity.check(*pair(*WAYS[way]), X, SCALE, options=FAST)
    assert report.passed, report.text()
    judged = {(row.where, row.what) for row in report.rows if row.path == "child"}
    if way == "fewer-arguments":
        assert ("train, batch 3", "grad input['scale']") in judged
    if way == "the-mask-is-given":
        assert judged == {
            ("train, batch 3, in place", "output"),
            ("eval, batch 3, in place", "output"),
        }
    assert any(row.path == "child.fc" for row in report.rows)


@pytest.mark.parametrize("way", ["fewer-arguments", "the-mask-is-given"])
def test_a_child_that_is_wrong_is_located_all_the_same(way):
    child, call = WAYS[way]
    theirs, ours = pair(child, call)
    ours.child.factor = 1.5
    assert parity.check(theirs, ours, X, SCALE, options=FAST).located == "child"


@pytest.mark.parametrize("way", ["fewer-arguments", "the-mask-is-given"])
def test_a_fault_that_the_parent_makes_good_is_a_fault(way):
    child, call = WAYS[way]
    theirs, ours = pair(child, lambda *given: call(*given) / 1.5)
    ours.child.factor = 1.5
    report = parity.check(theirs, ours, X, SCALE, options=FAST)
    assert not report.passed
    assert report.located == "child"


class Notes:
    """No array and no setting."""


class TorchSettings(torch.nn.Module):
    """Children that get a device and a dtype, or an object of the model's own."""

    class Child(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(4, 4)

        def forward(self, x, device=None, dtype=None, notes=None):
            return self.fc(x)

    def __init__(self):
        super().__init__()
        self.one, self.two = self.Child(), self.Child()

    def forward(self, x):
        return self.two(self.one(x, device=x.device, dtype=x.dtype), notes=Notes())


class FlaxSettings(nn.Module):
    class Child(nn.Module):
        def __init__(self, *, rngs):
            self.fc = nn.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            return self.fc(x)

    def __init__(self, *, rngs):
        self.one, self.two = self.Child(rngs=rngs), self.Child(rngs=rngs)

    def __call__(self, x):
        return self.two(self.one(x))


def test_what_is_no_array_is_not_compared():
    theirs, ours = TorchSettings(), FlaxSettings(rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    report = parity.check(theirs, ours, X, options=FAST).require()
    assert {row.path for row in report.rows if row.path} == {"one", "one.fc", "two.fc"}
