"""Containers hold, name, order and print their children as torch's do."""

from __future__ import annotations

from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.compare import bitwise
from parity_tests.nn.cases import CHECKS, Case, run


class Torch:
    """The same words for both frameworks, so that a test body runs on either."""

    lib = tnn

    @staticmethod
    def linear(n, m=1):
        return tnn.Linear(n, m)

    @staticmethod
    def names(module):
        return [(k, tuple(v.shape)) for k, v in module.state_dict().items()]


class Flax:
    lib = nn

    @staticmethod
    def linear(n, m=1):
        return nn.Linear(n, m, rngs=nnx.Rngs(0))

    @staticmethod
    def names(module):
        names = [(k, v.shape) for k, v in convert.to_torch(module).items()]
        again = nnx.merge(*nnx.split(module))
        assert [(k, v.shape) for k, v in convert.to_torch(again).items()] == names
        assert str(again) == str(module)
        return names


def seq(of, n=4):
    return of.lib.Sequential(*[of.linear(i % 12 + 1) for i in range(n)])


def items(of, n=4):
    return of.lib.ModuleList([of.linear(i + 1) for i in range(n)])


def named(of):
    return of.lib.Sequential(OrderedDict([("b", of.linear(1)), ("a", of.linear(2))]))


def mixed(of):
    net = seq(of, 2)
    net.head = of.linear(7)
    net.append(of.linear(8))
    return net


def deleted(net, *indices):
    for index in indices:
        del net[index]
    return net


def inserted(net, of, index):
    net.insert(index, of.linear(9))
    return net


def replaced(net, of, index):
    net[index] = of.linear(9)
    return net


def added(net, other):
    net += other
    return net


def repeated(net, n):
    net *= n
    return net


def table(of):
    return of.lib.ModuleDict({"z": of.linear(1), "a": of.linear(2), "10": of.linear(3)})


def updated(of):
    net = table(of)
    net.update([("q", of.linear(4)), ("z", of.linear(5))])
    net["a"] = of.linear(6)
    del net["10"]
    net.pop("q")
    net["10"] = of.linear(8)
    return net


def cleared(net):
    net.clear()
    return net


def shared(of):
    layer = of.linear(3, 3)
    return of.lib.Sequential(layer, of.linear(3, 3), layer)


def nested(of):
    return of.lib.Sequential(
        OrderedDict(
            [
                ("blocks", of.lib.ModuleList([seq(of, 2), seq(of, 2), seq(of, 1)])),
                ("same", of.lib.ModuleList([of.lib.ModuleList([of.linear(2)] * 2)] * 3)),
                ("table", table(of)),
                ("none", of.lib.Identity()),
                ("empty", of.lib.Sequential()),
                ("no", of.lib.ModuleList()),
            ]
        )
    )


BUILDS = {
    "sequential": seq,
    "empty": lambda of: of.lib.Sequential(),
    "named": named,
    "mixed": mixed,
    "twelve": lambda of: seq(of, 12),
    "hundred-and-five": lambda of: seq(of, 105),
    "slice": lambda of: seq(of)[1:3],
    "slice-negative": lambda of: seq(of)[-2:],
    "slice-step": lambda of: seq(of)[::2],
    "slice-backwards": lambda of: seq(of)[::-1],
    "slice-named": lambda of: named(of)[1:],
    "slice-of-twelve": lambda of: seq(of, 12)[9:],
    "delete": lambda of: deleted(seq(of), 1, -1),
    "delete-slice": lambda of: deleted(seq(of, 12), slice(1, 9)),
    "delete-named": lambda of: deleted(named(of), 0),
    "delete-mixed": lambda of: deleted(mixed(of), 0),
    "insert-0": lambda of: inserted(seq(of), of, 0),
    "insert-2": lambda of: inserted(seq(of, 12), of, 2),
    "insert-end": lambda of: inserted(seq(of), of, 4),
    "insert-negative": lambda of: inserted(seq(of), of, -1),
    "replace": lambda of: replaced(seq(of, 12), of, 3),
    "replace-last": lambda of: replaced(seq(of), of, -1),
    "replace-named": lambda of: replaced(named(of), of, 0),
    "extend": lambda of: seq(of).extend([of.linear(8), of.linear(9)]),
    "extend-itself": lambda of: seq(of, 2).extend(seq(of, 2)),
    "add": lambda of: seq(of, 2) + named(of),
    "add-in-place": lambda of: added(seq(of, 2), named(of)),
    "times": lambda of: seq(of, 2) * 3,
    "times-left": lambda of: 2 * seq(of, 2),
    "times-in-place": lambda of: repeated(seq(of, 2), 3),
    "pop-leaves": lambda of: [net := seq(of), net.pop(1)][0],
    "pop-gives": lambda of: seq(of).pop(-2),
    "append-after-named": lambda of: named(of).append(of.linear(9)),
    "shared": shared,
    "list": items,
    "list-empty": lambda of: of.lib.ModuleList(),
    "list-from-iterator": lambda of: of.lib.ModuleList(of.linear(i + 1) for i in range(11)),
    "list-from-sequential": lambda of: of.lib.ModuleList(seq(of)),
    "list-slice": lambda of: items(of, 12)[8:],
    "list-delete": lambda of: deleted(items(of), 0, 1),
    "list-delete-slice": lambda of: deleted(items(of, 12), slice(None, None, 2)),
    "list-insert": lambda of: inserted(items(of), of, 1),
    "list-replace": lambda of: replaced(items(of), of, -2),
    "list-add": lambda of: items(of, 2) + [of.linear(8)],
    "list-add-in-place": lambda of: added(items(of, 2), [of.linear(8)]),
    "list-extend": lambda of: items(of, 2).extend(seq(of, 2)),
    "list-merges-runs": lambda of: of.lib.ModuleList(of.linear(n) for n in (1, 1, 2, 3, 3, 3)),
    "dict": table,
    "dict-pairs": lambda of: of.lib.ModuleDict([["y", of.linear(1)], ("x", of.linear(2))]),
    "dict-updated": updated,
    "dict-cleared": lambda of: cleared(table(of)),
    "nested": nested,
    "identity": lambda of: of.lib.Identity(54, unused=0.1),
}


@pytest.mark.parametrize("name", BUILDS)
def test_names_order_and_text_are_torchs(name):
    theirs, ours = BUILDS[name](Torch), BUILDS[name](Flax)
    assert Flax.names(ours) == Torch.names(theirs)
    assert str(ours) == str(theirs)
    if not isinstance(theirs, (tnn.Linear, tnn.Identity)):
        assert len(ours) == len(theirs)
        bitwise(convert.to_torch(loaded(ours, theirs)), theirs.state_dict())


def loaded(ours, theirs):
    convert.to_flax(theirs, ours)
    return ours


# --- subclasses: two classes of one name, because the name is printed ---------------------------


class Block(tnn.Sequential):
    def __init__(self, width):
        super().__init__(tnn.Linear(width, width), tnn.Linear(width, width))
        self.width = width
        self.extra = tnn.Linear(width, width)
        self.gain = tnn.Parameter(torch.ones(width))

    def forward(self, x):
        return x + self.gain * super().forward(x)


TorchBlock = Block


class Block(nn.Sequential):
    def __init__(self, width, *, rngs, param_dtype=jnp.float32):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        super().__init__(nn.Linear(width, width, **options), nn.Linear(width, width, **options))
        self.width = width
        self.extra = nn.Linear(width, width, **options)
        self.gain = nn.Parameter(jnp.ones(width, param_dtype))

    def __call__(self, x):
        return x + jnp.broadcast_to(self.gain[...], x.shape) * super().__call__(x)


FlaxBlock = Block


def flax_of(build, *widths):
    """A Flax net of linear layers that takes rngs and param_dtype."""

    def make(*, rngs, param_dtype):
        return build(*[nn.Linear(w, w, rngs=rngs, param_dtype=param_dtype) for w in widths])

    return make


def tie(build):
    return lambda layer: build(layer, layer)


CASES = [
    Case("subclass", TorchBlock, FlaxBlock, (3,), x=(4, 3)),
    Case(
        "twelve-layers",
        lambda: tnn.Sequential(*[tnn.Linear(3, 3) for _ in range(12)]),
        flax_of(nn.Sequential, *[3] * 12),
        x=(4, 3),
    ),
    Case(
        "shared-layer",
        lambda: tie(tnn.Sequential)(tnn.Linear(3, 3)),
        flax_of(tie(nn.Sequential), 3),
        x=(4, 3),
    ),
    Case("identity", tnn.Identity, nn.Identity, (), x=(4, 3)),
    Case(
        "conv-then-linear-on-flat",
        lambda: tnn.Sequential(tnn.Conv2d(2, 3, 2), tnn.Flatten(), tnn.Linear(36, 4)),
        lambda *, rngs, param_dtype: nn.Sequential(
            nn.Conv2d(2, 3, 2, rngs=rngs, param_dtype=param_dtype),
            nn.Flatten(),
            nn.Linear(36, 4, rngs=rngs, param_dtype=param_dtype),
        ),
        x=(2, 2, 4, 5),
    ),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case, check):
    run(case, check)


def test_a_subclass_shows_its_further_children_as_torch_does():
    ours = FlaxBlock(3, rngs=nnx.Rngs(0))
    theirs = TorchBlock(3)
    assert str(ours) == str(theirs)
    assert len(ours) == len(theirs) == 3
    assert ours.width == 3
    assert list(convert.to_torch(ours)) == list(theirs.state_dict())


def test_a_slice_shares_its_layers():
    net = seq(Flax)
    part = net[1:3]
    assert type(part) is nn.Sequential
    assert part[0] is net[1]
    part[0].kernel[...] = part[0].kernel[...] + 1
    assert part[0].kernel[0, 0] == net[1].kernel[0, 0]


def test_a_shared_layer_is_one_after_split_and_merge():
    net = nnx.merge(*nnx.split(shared(Flax)))
    assert net[0] is net[2]
    assert net[0] is not net[1]
    assert convert.parameter_count(net) == convert.parameter_count(shared(Torch)) == 24


def test_children_are_called_in_order():
    net = nn.Sequential(*[nn.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(11)])
    x = jnp.ones((1, 2))
    want = x
    for layer in net:
        want = layer(want)
    np.testing.assert_array_equal(net(x), want)


def test_membership_and_iteration():
    net, layers = table(Flax), items(Flax)
    assert ("z" in net, "b" in net) == (True, False)
    assert list(net) == list(net.keys()) == ["z", "a", "10"]
    assert [name for name, _ in net.items()] == list(net)
    assert net.values()[1] is net["a"]
    assert layers[2] in layers
    assert list(layers)[-1] is layers[-1]


# --- refusals -----------------------------------------------------------------------------------


REFUSED = {
    "function": (lambda of: of.lib.Sequential(len), TypeError),
    "list-in-sequential": (lambda of: of.lib.Sequential([of.linear(1)]), TypeError),
    "class-not-instance": (lambda of: of.lib.Sequential(of.lib.Linear), TypeError),
    "dot-in-name": (lambda of: of.lib.ModuleDict({"a.b": of.linear(1)}), KeyError),
    "empty-name": (lambda of: of.lib.ModuleDict({"": of.linear(1)}), KeyError),
    "number-as-name": (lambda of: of.lib.ModuleDict({1: of.linear(1)}), TypeError),
    "taken-name": (lambda of: of.lib.ModuleDict({"training": of.linear(1)}), KeyError),
    "method-name": (lambda of: of.lib.ModuleDict({"items": of.linear(1)}), KeyError),
    "not-iterable": (lambda of: of.lib.ModuleList(3), TypeError),
    "dict-not-iterable": (lambda of: of.lib.ModuleDict(3), TypeError),
    "dict-triple": (lambda of: of.lib.ModuleDict([(1, 2, 3)]), ValueError),
    "dict-missing": (lambda of: table(of)["b"], KeyError),
    "dict-delete-missing": (lambda of: deleted(table(of), "b"), KeyError),
    "index-high": (lambda of: seq(of)[4], IndexError),
    "index-low": (lambda of: seq(of)[-5], IndexError),
    "index-float": (lambda of: seq(of)[1.0], TypeError),
    "list-index-high": (lambda of: items(of)[4], IndexError),
    "set-high": (lambda of: replaced(seq(of), of, 4), IndexError),
    "set-function": (lambda of: seq(of).__setitem__(0, len), TypeError),
    "delete-high": (lambda of: deleted(seq(of), 4), IndexError),
    "insert-high": (lambda of: inserted(seq(of), of, 5), IndexError),
    "insert-named": (lambda of: inserted(named(of), of, 0), KeyError),
    "append-function": (lambda of: items(of).append(len), TypeError),
    "add-list": (lambda of: seq(of) + [of.linear(1)], ValueError),
    "add-list-in-place": (lambda of: added(seq(of), [of.linear(1)]), ValueError),
    "times-0": (lambda of: seq(of) * 0, ValueError),
    "times-float": (lambda of: seq(of) * 1.5, TypeError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_in_torch(name):
    build, error = REFUSED[name]
    with pytest.raises(error):
        build(Torch)
    with pytest.raises(error):
        build(Flax)


@pytest.mark.parametrize("container", [seq, items, table])
def test_a_refused_change_leaves_the_container_as_it_was(container):
    net = container(Flax)
    before, text = convert.to_torch(net), str(net)
    for change in (
        lambda: net.extend([Flax.linear(1), len]),
        lambda: net.insert(1, len),
        lambda: net.update({"new": Flax.linear(1), "bad": len}),
        lambda: net.__setitem__(0, len),
    ):
        with pytest.raises((TypeError, AttributeError)):
            change()
    assert str(net) == text
    bitwise(convert.to_torch(net), before)


def test_a_foreign_flax_module_may_be_a_child():
    net = nn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), Flax.linear(3))
    assert net(jnp.ones((4, 2))).shape == (4, 1)
    assert list(convert.to_torch(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
