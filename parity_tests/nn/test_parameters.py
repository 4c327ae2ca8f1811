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


class Torch:
    lib = tnn
    ones = staticmethod(lambda *shape: torch.ones(shape))

    @staticmethod
    def names(module):
        return [(k, tuple(v.shape)) for k, v in module.state_dict().items()]


class Flax:
    lib = nn
    ones = staticmethod(lambda *shape: jnp.ones(shape))

    @staticmethod
    def names(module):
        names = [(k, v.shape) for k, v in convert.to_torch(module).items()]
        again = nnx.merge(*nnx.split(module))
        assert [(k, v.shape) for k, v in convert.to_torch(again).items()] == names
        return names


def plist(of, n=3):
    return of.lib.ParameterList([of.ones(i + 1, 2) for i in range(n)])


def pdict(of):
    return of.lib.ParameterDict(OrderedDict(z=of.ones(1), a=of.ones(2, 3), m=of.ones(2)))


def replaced(net, key, value):
    net[key] = value
    return net


def updated(of):
    table = pdict(of)
    table.update([("q", of.ones(4)), ("z", of.ones(5))])
    del table["a"]
    table.pop("q")
    table["a"] = of.ones(6)
    table.setdefault("a", of.ones(7))
    table.setdefault("b", of.ones(8))
    return table


def cleared(of):
    table = pdict(of)
    table.clear()
    return table


def without_last(of):
    table = pdict(of)
    table.popitem()
    return table


def merged(of):
    table = pdict(of)
    table |= of.lib.ParameterDict(OrderedDict(z=of.ones(9), b=of.ones(1)))
    return table


BUILDS = {
    "list": plist,
    "list-twelve": lambda of: plist(of, 12),
    "list-empty": lambda of: of.lib.ParameterList(),
    "list-one": lambda of: plist(of, 1),
    "list-scalar": lambda of: of.lib.ParameterList([of.ones()]),
    "list-append": lambda of: plist(of).append(of.ones(7)),
    "list-extend": lambda of: plist(of).extend(of.ones(i + 1) for i in range(9)),
    "list-slice": lambda of: plist(of, 12)[8::2],
    "list-replace": lambda of: replaced(plist(of), -1, of.ones(9)),
    "dict": pdict,
    "dict-plain-is-sorted": lambda of: of.lib.ParameterDict({"z": of.ones(1), "a": of.ones(2)}),
    "dict-pairs": lambda of: of.lib.ParameterDict([("z", of.ones(1)), ("a", of.ones(2))]),
    "dict-empty": lambda of: of.lib.ParameterDict(),
    "dict-updated": updated,
    "dict-cleared": cleared,
    "dict-popitem": without_last,
    "dict-copy": lambda of: pdict(of).copy(),
    "dict-or": lambda of: pdict(of) | of.lib.ParameterDict(OrderedDict(y=of.ones(1), a=of.ones(4))),
    "dict-or-in-place": merged,
    "dict-replace": lambda of: replaced(pdict(of), "a", of.ones(9)),
    "inside": lambda of: of.lib.ModuleList([plist(of), pdict(of), plist(of, 1)]),
}


@pytest.mark.parametrize("name", BUILDS)
def test_names_order_and_text_are_torchs(name):
    theirs, ours = BUILDS[name](Torch), BUILDS[name](Flax)
    assert Flax.names(ours) == Torch.names(theirs)
    assert str(ours) == str(theirs)
    assert len(ours) == len(theirs)
    assert list(dict(convert.named_parameters(ours))) == list(dict(theirs.named_parameters()))
    convert.to_flax(theirs, ours)
    bitwise(convert.to_torch(ours), theirs.state_dict())


REFUSED = {
    "list-high": (lambda of: plist(of)[3], IndexError),
    "list-low": (lambda of: plist(of)[-4], IndexError),
    "list-of-an-array": (lambda of: of.lib.ParameterList(of.ones(2, 3)), TypeError),
    "list-not-iterable": (lambda of: of.lib.ParameterList(3), TypeError),
    "list-set-high": (lambda of: replaced(plist(of), 3, of.ones(1)), IndexError),
    "dict-missing": (lambda of: pdict(of).pop("b"), (KeyError, AttributeError)),
    "dict-popitem-empty": (lambda of: cleared(of).popitem(), KeyError),
    "dict-number": (lambda of: of.lib.ParameterDict([(1, of.ones(1))]), TypeError),
    "dict-dot": (lambda of: of.lib.ParameterDict([("a.b", of.ones(1))]), KeyError),
    "dict-not-iterable": (lambda of: of.lib.ParameterDict(3), TypeError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_as_in_torch(name):
    build, error = REFUSED[name]
    with pytest.raises(error):
        build(Torch)
    with pytest.raises(error):
        build(Flax)


def test_a_refused_change_leaves_the_container_as_it_was():
    for net in (plist(Flax), pdict(Flax)):
        before = convert.to_torch(net)
        for change in (
            lambda net=net: net.extend([jnp.ones(1), "no"]),
            lambda net=net: net.update([("new", jnp.ones(1)), ("bad", "no")]),
        ):
            with pytest.raises((TypeError, AttributeError)):
                change()
        bitwise(convert.to_torch(net), before)


def test_a_parameter_is_kept_and_an_array_becomes_one():
    known = nn.Parameter(jnp.ones(2), requires_grad=False)
    values = nn.ParameterList([known, jnp.ones(3), np.ones(4, np.float32)])
    assert values[0] is known
    assert all(isinstance(value, nnx.Param) for value in values)
    assert nn.ParameterDict({"a": known})["a"] is known


def test_a_tied_parameter_stays_one():
    known = nn.Parameter(jnp.ones(2))
    values = nnx.merge(*nnx.split(nn.ParameterList([known, known])))
    assert values[0] is values[1]
    assert convert.parameter_count(values) == 2


def test_a_buffer_is_shown_as_a_tensor():
    text = str(nn.ParameterList([nn.Buffer(jnp.ones(2))]))
    assert text == "ParameterList(  (0): Tensor containing: [torch.float32 of size 2])"


def test_gradients_reach_the_entries():
    grads = nnx.grad(lambda p: (p[0] * 2).sum() + p[1].sum() * 3)(plist(Flax, 2))
    np.testing.assert_array_equal(grads["0"][...], 2)
    np.testing.assert_array_equal(grads["1"][...], 3)


def test_reading_by_name():
    table = pdict(Flax)
    assert ("a" in table, "b" in table) == (True, False)
    assert list(table) == list(table.keys()) == ["z", "a", "m"]
    assert list(reversed(table)) == ["m", "a", "z"]
    assert table.get("b") is None
    assert table.get("a") is table["a"] is table.values()[1] is dict(table.items())["a"]
