"""Weights go over whole or not at all, bit for bit, and everything wrong is said at once."""

from __future__ import annotations

import copy
from collections import OrderedDict

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from fluxmod._errors import ConvertError, DtypeError, LayoutError, UnmatchedKeysError
from parity_tests.compare import as_array, bitwise


class TorchNet(tnn.Module):
    def __init__(self):
        super().__init__()
        self.conv = tnn.Conv2d(3, 5, (3, 2), bias=False)
        self.norm = tnn.BatchNorm2d(5)
        self.layers = tnn.ModuleList([tnn.Linear(4, 4), tnn.Linear(4, 4)])
        self.table = tnn.Embedding(7, 4)
        self.head = tnn.Linear(4, 7, bias=False)
        self.gain = tnn.Parameter(torch.rand(4))
        self.register_buffer("offset", torch.rand(3))


class FlaxNet(nn.Module):
    def __init__(self, *, param_dtype=jnp.float32):
        args = {"rngs": nnx.Rngs(0), "param_dtype": param_dtype}
        self.conv = nn.Conv2d(3, 5, (3, 2), bias=False, **args)
        self.norm = nn.BatchNorm2d(5, param_dtype=param_dtype)
        self.layers = nn.ModuleList([nn.Linear(4, 4, **args), nn.Linear(4, 4, **args)])
        self.table = nn.Embedding(7, 4, **args)
        self.head = nn.Linear(4, 7, bias=False, **args)
        self.gain = nn.Parameter(jnp.ones(4, param_dtype))
        self.offset = nn.Buffer(jnp.zeros(3, param_dtype))


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return TorchNet()


@pytest.fixture
def weights(theirs):
    return {key: tensor.numpy().copy() for key, tensor in theirs.state_dict().items()}


def refused(error, source, model, **options):
    """The text of the error; the model has the bits it had before."""
    before = convert.to_torch(model)
    text = str(model)
    with pytest.raises(error) as caught:
        convert.to_flax(source, model, **options)
    bitwise(convert.to_torch(model), before)
    assert str(model) == text
    return str(caught.value)


# --- both ways, bit for bit ---------------------------------------------------------------------


def awkward(tensor):
    """Every bit pattern has to survive: NaN payloads, infinities, minus zero, denormals."""
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()]
    pattern = torch.randint(torch.iinfo(bits).min, torch.iinfo(bits).max, tensor.shape, dtype=bits)
    with torch.no_grad():
        tensor.copy_(pattern.view(tensor.dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_a_round_trip_keeps_every_bit(theirs, dtype):
    theirs.to(getattr(torch, dtype))
    theirs.norm.num_batches_tracked.fill_(7)
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            awkward(tensor)
    with jax.enable_x64(dtype == "float64"):
        ours = FlaxNet(param_dtype=jnp.dtype(dtype))
        plan = convert.to_flax(theirs, ours)
        assert plan.complete
        bitwise(convert.to_torch(ours), theirs.state_dict())
        again = FlaxNet(param_dtype=jnp.dtype(dtype))
        convert.to_flax(convert.to_torch(ours), again)
        bitwise(convert.to_torch(again), theirs.state_dict())
        other = TorchNet().to(getattr(torch, dtype))
        convert.into_torch(again, other)
        bitwise(other.state_dict(), theirs.state_dict())


def test_layouts_are_flaxs(theirs):
    ours = FlaxNet()
    convert.to_flax(theirs, ours)
    weight = theirs.conv.weight.detach().numpy()
    np.testing.assert_array_equal(ours.conv.kernel[...], weight.transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(
        ours.layers[1].kernel[...], theirs.layers[1].weight.detach().numpy().T
    )


@pytest.mark.parametrize("kind", ["module", "state_dict", "numpy", "jax", "ordered", "parameters"])
def test_every_kind_of_source(theirs, weights, kind):
    source = {
        "module": theirs,
        "state_dict": theirs.state_dict(),
        "numpy": weights,
        "jax": {
            k: jnp.asarray(v.astype(v.dtype.str.replace("8", "4"))) for k, v in weights.items()
        },
        "ordered": OrderedDict(reversed(weights.items())),
        "parameters": theirs.state_dict(keep_vars=True),
    }[kind]
    ours = FlaxNet()
    if kind == "jax":  # jax has no int64 here, and the counter is announced as what it is
        message = refused(DtypeError, source, ours)
        assert "norm.num_batches_tracked: expected int64, got int32" in message
        source["norm.num_batches_tracked"] = weights["norm.num_batches_tracked"]
    convert.to_flax(source, ours)
    bitwise(convert.to_torch(ours), theirs.state_dict())


def test_strided_and_offset_tensors_are_read_right(weights):
    source = dict(weights)
    base = np.zeros((8, 8), np.float32)
    base[::2, ::2] = weights["layers.0.weight"].T
    source["layers.0.weight"] = torch.from_numpy(base)[::2, ::2].t()
    ours = FlaxNet()
    convert.to_flax(source, ours)
    bitwise(convert.to_torch(ours), weights)


def test_the_source_and_the_model_share_no_memory(theirs, weights):
    ours = FlaxNet()
    convert.to_flax(weights, ours)
    before = convert.to_torch(ours)
    for array in weights.values():
        array += 1
    bitwise(convert.to_torch(ours), before)
    convert.to_flax(theirs, ours)
    before = convert.to_torch(ours)
    with torch.no_grad():
        theirs.conv.weight.zero_()
    bitwise(convert.to_torch(ours), before)
    given = convert.to_torch(ours)
    given["gain"] += 1
    bitwise(convert.to_torch(ours), before)


def test_metadata_and_mode_are_kept(theirs):
    ours = FlaxNet()
    convert.freeze(ours, "conv")
    ours.layers.eval()
    convert.to_flax(theirs, ours)
    assert ours.conv.kernel.get_metadata("requires_grad") is False
    assert (ours.layers[0].training, ours.training) == (False, True)


def test_an_abstract_model_is_filled(theirs):
    ours = nnx.eval_shape(FlaxNet)
    convert.to_flax(theirs, ours)
    bitwise(convert.to_torch(ours), theirs.state_dict())
    assert ours.layers[0](jnp.ones((2, 4))).shape == (2, 4)


def test_values_stay_on_their_devices(theirs):
    device = jax.devices()[-1]
    ours = FlaxNet()
    nnx.update(ours, jax.device_put(nnx.state(ours), device))
    convert.to_flax(theirs, ours)
    values = [v.get_value() for _, v in convert.named_parameters(ours)]
    assert {v.devices().pop() for v in values} == {device}
    assert all(v.committed for v in values)


def test_values_are_tied_to_a_device_only_if_they_were(theirs):
    with jax.default_device(jax.devices()[-1]):
        ours = FlaxNet()
    convert.to_flax(theirs, ours)
    values = [v.get_value() for _, v in convert.named_parameters(ours)]
    assert {v.devices().pop() for v in values} == {jax.devices()[-1]}
    assert not any(v.committed for v in values)


# --- refusals -----------------------------------------------------------------------------------


def test_everything_wrong_is_said_at_once(weights):
    del weights["gain"]
    weights["gian"] = np.ones(4, np.float32)
    weights["conv.weight"] = weights["conv.weight"].transpose(0, 1, 3, 2)
    weights["head.weight"] = weights["head.weight"].astype(np.float16)
    weights["norm.bias"] = weights["norm.bias"][:4]
    message = refused(UnmatchedKeysError, weights, FlaxNet())
    for part in (
        "missing     gain   (close to gian)",
        "unexpected  gian   (close to gain)",
        "shape       conv.weight: expected torch shape (5, 3, 3, 2)",
        "(3, 2, 3, 5) at conv.kernel), got (5, 3, 2, 3)",
        "shape       norm.bias: expected torch shape (5,)",
        "dtype       head.weight: expected float32, got float16",
        "1 missing, 1 unexpected, 3 not fitting",
    ):
        assert part in message


def test_missing_and_unexpected_may_be_forgiven_by_name(weights):
    ours = FlaxNet()
    before = convert.to_torch(ours)
    del weights["gain"], weights["layers.0.bias"]
    weights["old.a"] = weights["old.b"] = np.ones(1, np.float32)
    message = refused(UnmatchedKeysError, weights, ours, allow_missing=["gain"])
    assert "layers.0.bias" in message
    refused(UnmatchedKeysError, weights, ours, allow_missing=["gain", "layers.0.*"])
    refused(UnmatchedKeysError, weights, ours, allow_unexpected=["old"])
    plan = convert.to_flax(
        weights, ours, allow_missing=["gain", "layers.0.*"], allow_unexpected=["old"]
    )
    assert set(plan.missing) == {"gain", "layers.0.bias"}
    after = convert.to_torch(ours)
    np.testing.assert_array_equal(after["gain"], before["gain"])
    np.testing.assert_array_equal(after["conv.weight"], weights["conv.weight"])


def test_a_shape_is_never_forgiven(weights):
    weights["gain"] = np.ones((1, 4), np.float32)
    options = {"allow_missing": ["*"], "allow_unexpected": ["*"], "cast": True}
    assert "gain" in refused(LayoutError, weights, FlaxNet(), **options)


FLAX_LAYOUTS = {
    "conv.weight": (2, 3, 1, 0),
    "head.weight": (1, 0),
}


@pytest.mark.parametrize("key", FLAX_LAYOUTS)
def test_a_weight_in_flaxs_layout_is_refused(weights, key):
    weights[key] = weights[key].transpose(FLAX_LAYOUTS[key])
    assert f"shape       {key}" in refused(LayoutError, weights, FlaxNet())


def test_a_square_weight_of_another_rank_or_name_is_refused(weights):
    weights["layers.0.weight"] = weights["layers.0.weight"].reshape(16)
    weights["layers.1.kernel"] = weights.pop("layers.1.weight")
    message = refused(UnmatchedKeysError, weights, FlaxNet())
    assert "shape       layers.0.weight" in message
    assert "missing     layers.1.weight" in message
    assert "unexpected  layers.1.kernel" in message


def test_dtypes_are_not_changed_unasked(weights):
    weights["gain"] = weights["gain"].astype(np.float64)
    message = refused(DtypeError, weights, FlaxNet())
    assert "jax.enable_x64(True)" in message
    ours = FlaxNet()
    convert.to_flax(weights, ours, cast=True)
    assert convert.to_torch(ours)["gain"].dtype == np.float32
    weights["gain"] = weights["gain"].astype(ml_dtypes.bfloat16)
    assert "expected float32, got bfloat16" in refused(DtypeError, weights, FlaxNet())
    convert.to_flax(weights, ours, cast=True)
    np.testing.assert_array_equal(ours.gain[...], weights["gain"].astype(np.float32))


def test_a_model_takes_the_sources_dtypes_when_asked(theirs):
    ours = FlaxNet()
    convert.to_flax(theirs.bfloat16(), ours, assign=True)
    want = theirs.state_dict()
    back = copy.deepcopy(theirs)
    convert.into_torch(ours, back)
    got = back.state_dict()
    assert {k: v.dtype for k, v in got.items()} == {k: v.dtype for k, v in want.items()}
    assert all(torch.equal(got[key], want[key]) for key in want)
    assert torch.bfloat16 in {v.dtype for v in want.values()}


def test_what_jax_cannot_hold_is_not_assigned(theirs):
    message = refused(DtypeError, theirs.double(), FlaxNet(), assign=True)
    assert message.count("JAX without x64") == 13
    with jax.enable_x64(True):
        ours = FlaxNet()
        convert.to_flax(theirs, ours, assign=True)
        assert ours.gain[...].dtype == np.float64


def test_cast_and_assign_contradict_each_other(weights):
    with pytest.raises(ValueError, match="cast keeps the model's dtypes, assign the source's"):
        convert.to_flax(weights, FlaxNet(), cast=True, assign=True)


def test_a_float64_module_without_x64_is_refused_whole(theirs):
    message = refused(DtypeError, theirs.double(), FlaxNet())
    assert message.count("JAX without x64") == 13
    with jax.enable_x64(True):
        ours = FlaxNet(param_dtype=jnp.float64)
        convert.to_flax(theirs, ours)
        bitwise(convert.to_torch(ours), theirs.state_dict())


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**62])
def test_an_int64_beyond_int32_is_refused(weights, value):
    weights["norm.num_batches_tracked"] = np.array(value)
    message = refused(DtypeError, weights, FlaxNet())
    assert "norm.num_batches_tracked" in message
    assert "jax.enable_x64(True)" in message


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 0])
def test_an_int64_within_int32_comes_back_as_int64(weights, value):
    weights["norm.num_batches_tracked"] = np.array(value)
    ours = FlaxNet()
    convert.to_flax(weights, ours)
    assert ours.norm.num_batches_tracked[...].dtype == jnp.int32
    back = convert.to_torch(ours)["norm.num_batches_tracked"]
    assert (back.dtype, int(back)) == (np.int64, value)


def test_an_int64_buffer_of_ones_own_is_restored_too():
    class Positions(nn.Module):
        def __init__(self):
            self.ids = nn.Buffer(jnp.zeros(3, jnp.int32))

    ours = Positions()
    source = {"ids": torch.arange(3)}
    convert.to_flax(source, ours)
    bitwise(convert.to_torch(ours), source)


@pytest.mark.parametrize(
    "source",
    [3, None, [("a", 1)], {"a": 1.0}, {1: np.ones(1)}, {"state_dict": {"a": np.ones(1)}}],
    ids=str,
)
def test_what_is_no_source_is_refused(source):
    assert "convert" in refused(ConvertError, source, FlaxNet())


def test_a_checkpoint_with_more_than_weights_names_what_is_none(weights):
    message = refused(ConvertError, {"model": weights, "epoch": 3}, FlaxNet())
    assert "'model': dict, 'epoch': int" in message
    assert "state_dict" in message


def test_meta_tensors_are_refused():
    with torch.device("meta"):
        source = TorchNet()
    assert "meta device" in refused(ConvertError, source, FlaxNet())


def test_an_array_that_fails_to_load_leaves_the_model_alone(weights):
    def broken():
        raise OSError("disk gone")

    source = {k: convert.Weight(v.shape, str(v.dtype), v.copy) for k, v in weights.items()}
    source["offset"] = convert.Weight((3,), "float32", broken)
    refused(OSError, convert.Source(source, "a broken disk"), FlaxNet())
    source["offset"] = convert.Weight((3,), "float32", lambda: np.ones(2, np.float32))
    message = refused(ConvertError, convert.Source(source, "a changing file"), FlaxNet())
    assert "offset was announced as" in message


# --- ties ---------------------------------------------------------------------------------------


class TiedTorch(tnn.Module):
    def __init__(self):
        super().__init__()
        self.first = tnn.Linear(3, 3)
        self.second = tnn.Linear(3, 3)
        self.second.weight = self.first.weight


class TiedFlax(nn.Module):
    def __init__(self, *, tied=True):
        self.first = nn.Linear(3, 3, rngs=nnx.Rngs(0))
        self.second = nn.Linear(3, 3, rngs=nnx.Rngs(1))
        if tied:
            self.second.kernel = self.first.kernel


def test_a_tie_is_kept_and_listed_under_both_names():
    theirs, ours = TiedTorch(), TiedFlax()
    convert.to_flax(theirs, ours)
    assert ours.first.kernel is ours.second.kernel
    bitwise(convert.to_torch(ours), theirs.state_dict())
    ours = nnx.merge(*nnx.split(ours))
    assert ours.first.kernel is ours.second.kernel
    assert convert.parameter_count(ours) == convert.parameter_count(theirs) == 15


def test_a_tied_name_may_be_absent():
    theirs, ours = TiedTorch(), TiedFlax()
    source = {k: v for k, v in theirs.state_dict().items() if k != "second.weight"}
    plan = convert.to_flax(source, ours)
    assert (plan.complete, plan.tied) == (True, ("second.weight",))
    bitwise(convert.to_torch(ours), theirs.state_dict())


def test_a_tie_with_two_values_is_refused():
    source = {k: v.clone() for k, v in TiedTorch().state_dict().items()}
    source["second.weight"] += 1
    message = refused(LayoutError, source, TiedFlax())
    assert "first.weight and second.weight are one Variable" in message


def test_a_tie_that_the_model_lacks_is_refused():
    message = refused(LayoutError, TiedTorch(), TiedFlax(tied=False))
    assert "first.weight, second.weight are one tensor in the source and 2 Variables" in message


def test_a_shared_module_is_listed_under_both_names():
    layer = tnn.Linear(3, 3)
    theirs = tnn.ModuleDict({"a": layer, "b": layer})
    one = nn.Linear(3, 3, rngs=nnx.Rngs(0))
    ours = nn.ModuleDict({"a": one, "b": one})
    convert.to_flax(theirs, ours)
    bitwise(convert.to_torch(ours), theirs.state_dict())


# --- plans --------------------------------------------------------------------------------------


def test_a_plan_moves_nothing_and_says_what_it_would(theirs):
    ours = FlaxNet()
    before = convert.to_torch(ours)
    plan = convert.plan(theirs, ours)
    bitwise(convert.to_torch(ours), before)
    assert plan.complete
    assert {m.slot.key for m in plan.matched} == set(theirs.state_dict())
    assert plan.text().endswith("0 missing, 0 unexpected, 0 not fitting.")
    convert.apply(plan)
    bitwise(convert.to_torch(ours), theirs.state_dict())


# --- back into a live torch module --------------------------------------------------------------


def test_a_torch_module_is_filled_where_it_is(theirs):
    ours = FlaxNet()
    parameters = dict(theirs.named_parameters())
    convert.into_torch(ours, theirs)
    bitwise(theirs.state_dict(), convert.to_torch(ours))
    assert all(parameters[name] is p for name, p in theirs.named_parameters())
    assert all(p.requires_grad for p in theirs.parameters())


def test_a_tie_in_torch_survives():
    theirs, ours = TiedTorch(), TiedFlax()
    convert.into_torch(ours, theirs)
    assert theirs.first.weight is theirs.second.weight
    bitwise(theirs.state_dict(), convert.to_torch(ours))


def refused_by_torch(error, ours, theirs, **options):
    before = {k: as_array(v) for k, v in theirs.state_dict().items()}
    with pytest.raises(error) as caught:
        convert.into_torch(ours, theirs, **options)
    bitwise(theirs.state_dict(), before)
    return str(caught.value)


def test_a_torch_module_that_does_not_fit_is_left_alone(theirs):
    theirs.more = tnn.Linear(2, 2)
    theirs.gain = tnn.Parameter(torch.ones(5))
    theirs.head.half()
    del theirs.offset
    message = refused_by_torch(UnmatchedKeysError, FlaxNet(), theirs)
    for part in (
        "5 problems",
        "missing     more.weight",
        "missing     more.bias",
        "unexpected  offset",
        "shape       gain: (5,), Flax has (4,)",
        "dtype       head.weight: float16, Flax has float32",
    ):
        assert part in message


def test_into_torch_casts_when_asked(theirs):
    ours = FlaxNet()
    assert "bfloat16" in refused_by_torch(DtypeError, ours, theirs.bfloat16())
    convert.into_torch(ours, theirs, cast=True)
    want = torch.from_numpy(convert.to_torch(ours)["gain"]).bfloat16()
    assert torch.equal(theirs.gain, want)


def test_a_tie_of_torch_with_two_values_in_flax_is_refused():
    message = refused_by_torch(LayoutError, TiedFlax(tied=False), TiedTorch())
    assert "first.weight and second.weight are one tensor in torch" in message


def test_a_module_on_the_meta_device_is_refused():
    with torch.device("meta"):
        theirs = TiedTorch()
    with pytest.raises(LayoutError, match="meta device"):
        convert.into_torch(TiedFlax(), theirs)
