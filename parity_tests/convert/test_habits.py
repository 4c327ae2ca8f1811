"""named_parameters, state_dict, load_state_dict, counting and freezing, side by side with torch."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

import fluxmod
from fluxmod import convert, nn
from fluxmod._errors import ConvertError, DtypeError, LayoutError, UnmatchedKeysError
from parity_tests.compare import bitwise


def net(lib, make):
    """The same net in either framework: a shared layer, buffers, ten and more children."""
    shared = make(lib.Linear, 4, 4)
    return lib.ModuleDict(
        {
            "stem": make(lib.Conv2d, 3, 4, 3),
            "norm": make(lib.BatchNorm2d, 4),
            "blocks": lib.ModuleList([make(lib.Linear, 4, 4) for _ in range(11)]),
            "first": shared,
            "again": shared,
            "drop": lib.Dropout(0.5),
        }
    )


def in_torch():
    return net(tnn, lambda cls, *args: cls(*args))


def in_flax():
    rngs = nnx.Rngs(0)
    return net(nn, lambda cls, *args: cls(*args, rngs=rngs))


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return in_torch()


@pytest.fixture
def ours():
    return in_flax()


@pytest.mark.parametrize("dedup", [True, False])
def test_named_parameters(theirs, ours, dedup):
    want = list(theirs.named_parameters(remove_duplicate=dedup))
    got = list(convert.named_parameters(ours, remove_duplicate=dedup))
    assert [name for name, _ in got] == [name for name, _ in want]
    for (name, variable), (_, tensor) in zip(got, want, strict=True):
        assert isinstance(variable, nnx.Param)
        assert variable.get_value().size == tensor.numel(), name


def test_a_named_parameter_is_the_models_own(ours):
    parameters = dict(convert.named_parameters(ours))
    assert parameters["blocks.10.weight"] is ours["blocks"][10].kernel
    parameters["first.bias"][...] = jnp.full(4, 7.0)
    np.testing.assert_array_equal(ours["again"].bias[...], 7)


def test_state_dict_has_torchs_keys_order_shapes_and_dtypes(theirs, ours):
    want, got = theirs.state_dict(), convert.state_dict(ours)
    assert list(got) == list(want)
    assert [v.shape for v in got.values()] == [tuple(v.shape) for v in want.values()]
    assert str(got["norm.num_batches_tracked"].dtype) == "int64"


def test_a_state_dict_is_a_copy(ours):
    got = convert.state_dict(ours)
    for array in got.values():
        array += 1
    assert not np.array_equal(got["first.bias"], convert.state_dict(ours)["first.bias"])


def test_a_buffer_that_is_not_persistent_is_in_neither():
    class Theirs(tnn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kept", torch.ones(2))
            self.register_buffer("scratch", torch.ones(2), persistent=False)

    class Ours(nn.Module):
        def __init__(self):
            self.kept = nn.Buffer(jnp.ones(2))
            self.scratch = nn.Buffer(jnp.zeros(2), persistent=False)

    model = Ours()
    assert list(convert.state_dict(model)) == list(Theirs().state_dict()) == ["kept"]
    convert.load_state_dict(model, Theirs().state_dict())
    np.testing.assert_array_equal(model.scratch[...], 0)
    assert list(convert.named_parameters(model)) == []


def test_parameters_come_before_buffers_whatever_the_order_of_assignment():
    class Theirs(tnn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("b", torch.ones(2))
            self.child = tnn.Linear(2, 2)
            self.p = tnn.Parameter(torch.ones(2))

    class Ours(nn.Module):
        def __init__(self):
            self.b = nn.Buffer(jnp.ones(2))
            self.child = nn.Linear(2, 2, rngs=nnx.Rngs(0))
            self.p = nn.Parameter(jnp.ones(2))

    assert list(convert.state_dict(Ours())) == list(Theirs().state_dict())


def test_loading_strictly(theirs, ours):
    result = convert.load_state_dict(ours, theirs.state_dict())
    assert result == ([], [])
    bitwise(convert.state_dict(ours), theirs.state_dict())


def test_loading_leniently_returns_what_torch_returns(theirs, ours):
    state = theirs.state_dict()
    del state["stem.weight"], state["norm.running_var"]
    state["extra"] = torch.ones(1)
    with pytest.raises(UnmatchedKeysError, match="stem.weight"):
        convert.load_state_dict(ours, state)
    before = convert.state_dict(ours)
    got = convert.load_state_dict(ours, state, strict=False)
    want = in_torch().load_state_dict(state, strict=False)
    assert got.missing_keys == want.missing_keys
    assert got.unexpected_keys == want.unexpected_keys
    after = convert.state_dict(ours)
    np.testing.assert_array_equal(after["stem.weight"], before["stem.weight"])
    np.testing.assert_array_equal(after["stem.bias"], state["stem.bias"])


@pytest.mark.parametrize("strict", [True, False])
def test_shapes_and_dtypes_must_fit_in_either_case(theirs, ours, strict):
    before = convert.state_dict(ours)
    state = theirs.state_dict()
    state["stem.weight"] = state["stem.weight"][:2]
    with pytest.raises(LayoutError, match="stem.weight"):
        convert.load_state_dict(ours, state, strict=strict)
    with pytest.raises(DtypeError, match="float16"):
        convert.load_state_dict(ours, in_torch().half().state_dict(), strict=strict)
    bitwise(convert.state_dict(ours), before)


def test_counting(theirs, ours):
    assert convert.parameter_count(ours) == convert.parameter_count(theirs)
    want = sum(p.numel() for p in theirs.parameters())
    assert convert.parameter_count(ours) == want


@pytest.mark.parametrize(
    "paths", [(), ("blocks",), ("blocks.1",), ("first.weight", "stem"), ("again",), ("norm.bias",)]
)
def test_freezing_by_path_is_one_call_for_both(theirs, ours, paths):
    assert convert.freeze(ours, *paths) == convert.freeze(theirs, *paths)
    assert convert.parameter_count(ours, trainable_only=True) == convert.parameter_count(
        theirs, trainable_only=True
    )
    want = {name: p.requires_grad for name, p in theirs.named_parameters(remove_duplicate=False)}
    named = convert.named_parameters(ours, remove_duplicate=False)
    assert {name: v.get_metadata("requires_grad", True) for name, v in named} == want
    assert convert.unfreeze(ours, *paths) == convert.unfreeze(theirs, *paths)
    assert convert.parameter_count(ours, trainable_only=True) == convert.parameter_count(theirs)


def test_a_prefix_is_a_path_and_not_a_text(ours):
    names = convert.freeze(ours, "blocks.1")
    assert names == ["blocks.1.weight", "blocks.1.bias"]


def test_flaxs_path_freezes_too(ours):
    assert convert.freeze(ours, "stem.kernel") == ["stem.weight"]


@pytest.mark.parametrize("build", [in_torch, in_flax])
def test_unknown_paths_are_named_at_once_and_nothing_is_frozen(build):
    model = build()
    with pytest.raises(ConvertError) as error:
        convert.freeze(model, "stem", "steam", "norm.running_mean")
    assert "'steam'" in str(error.value)
    assert "'norm.running_mean'" in str(error.value)
    assert "close to ['stem" in str(error.value)
    assert convert.parameter_count(model, trainable_only=True) == convert.parameter_count(model)


def test_the_habits_have_their_names_at_the_top(ours):
    assert fluxmod.named_parameters is convert.named_parameters
    assert fluxmod.state_dict is convert.state_dict
    assert fluxmod.load_state_dict is convert.load_state_dict
    assert fluxmod.freeze is convert.freeze
    assert fluxmod.parameter_count(ours) == convert.parameter_count(ours)
