"""The certificate itself: what it sees, what it refuses, and that it changes nothing."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import fluxmod
from fluxmod import convert, nn, parity
from fluxmod._errors import ParityError
from fluxmod.models.flax import SimpleModel as FlaxSimpleModel
from fluxmod.models.torch import SimpleModel as TorchSimpleModel

FAST = parity.Options(levels=("L0", "L1"))


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.flatten = torch.nn.Flatten()
        self.fc = torch.nn.Linear(4 * 5 * 6, 3)
        self.drop = torch.nn.Dropout(0.4)

    def forward(self, x):
        return self.drop(self.fc(self.flatten(torch.relu(self.norm(self.conv(x))))))


class FlaxNet(nn.Module):
    axes = nn.Axes(inputs=(nn.Channel(1),))

    def __init__(self, *, rngs):
        self.conv = nn.Conv2d(2, 4, 3, padding=1, rngs=rngs)
        self.norm = nn.BatchNorm2d(4)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * 5 * 6, 3, rngs=rngs)
        self.drop = nn.Dropout(0.4, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.fc(self.flatten(jax.nn.relu(self.norm(self.conv(x))))))


@pytest.fixture
def pair():
    torch.manual_seed(0)
    theirs, ours = TorchNet(), FlaxNet(rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    return theirs, ours


X = torch.randn(3, 2, 5, 6, generator=torch.Generator().manual_seed(1))


def test_equal_models_pass_every_level(pair):
    report = parity.check(*pair, X)
    assert report.passed
    assert list(report.by_level()) == ["L0", "L1", "L2", "L4", "L5"]
    assert report.located is None
    assert json.loads(report.to_json())["passed"] is True
    compared = {(row.where, row.what) for row in report.rows if not row.path}
    assert {("train, batch 3", "grad conv.weight"), ("eval, batch 5", "grad input[0]")} <= compared
    assert ("train, batch 5", "norm.running_var") in compared


def test_nothing_is_changed(pair):
    theirs, ours = pair
    theirs.eval()
    ours.train()
    x = X.clone()
    before = copy.deepcopy(theirs.state_dict())
    held = convert.to_torch(ours)
    rng = jax.random.key_data(ours.drop.rngs.key[...]), int(ours.drop.rngs.count[...])
    torch.manual_seed(7)
    state = torch.get_rng_state()
    parity.check(theirs, ours, x, options=FAST)
    assert torch.equal(torch.get_rng_state(), state)
    assert not theirs.training
    assert ours.training
    assert torch.equal(x, X)
    assert all(p.grad is None and p.dtype == torch.float32 for p in theirs.parameters())
    assert all(torch.equal(before[k], v) for k, v in theirs.state_dict().items())
    after = convert.to_torch(ours)
    assert all(np.array_equal(held[k], after[k]) for k in held)
    assert np.array_equal(rng[0], jax.random.key_data(ours.drop.rngs.key[...]))
    assert rng[1] == int(ours.drop.rngs.count[...])


@pytest.mark.parametrize(
    ("path", "attribute", "value"),
    [
        ("norm", "eps", 1.1e-5),
        ("norm", "momentum", 0.11),
        ("drop", "rate", 0.41),
        ("flatten", "channels_last", False),
    ],
)
def test_a_wrong_argument_is_caught_and_located(pair, path, attribute, value):
    theirs, ours = pair
    setattr(getattr(ours, path), attribute, value)
    report = parity.check(theirs, ours, X, options=FAST)
    assert not report.passed
    assert report.located == path
    with pytest.raises(ParityError, match=f"first fault: {path}"):
        report.require()


def test_a_fault_of_the_models_own_forward_is_located_at_the_root(pair):
    theirs, ours = pair

    class Wrong(FlaxNet):
        def __call__(self, x):
            return self.drop(self.fc(self.flatten(jax.nn.gelu(self.norm(self.conv(x))))))

    object.__setattr__(ours, "__class__", Wrong)
    report = parity.check(theirs, ours, X, options=FAST)
    assert not report.passed
    assert report.located == ""


def test_a_dropped_bias_is_caught_although_it_starts_at_zero():
    theirs = torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(theirs.bias)
    ours = nn.Linear(3, 2, rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)

    class NoBias(nn.Linear):
        def __call__(self, x):
            return x @ self.kernel[...]

    object.__setattr__(ours, "__class__", NoBias)
    report = parity.check(theirs, ours, torch.randn(4, 3), options=FAST)
    given = [row for row in report.rows if row.where == "given weights"]
    assert all(row.passed for row in given), "at the weights given nothing can be seen"
    assert not report.passed


def test_weights_that_were_not_loaded_fail_structure():
    theirs, ours = TorchSimpleModel(3, 2), FlaxSimpleModel(3, 2, rngs=nnx.Rngs(0))
    report = parity.check(theirs, ours, torch.randn(2, 3))
    assert not report.passed
    assert "load the weights first" in report.text()


def test_other_keys_fail_structure():
    report = parity.check(torch.nn.Linear(3, 2), nn.Linear(3, 2, bias=False, rngs=nnx.Rngs(0)), X)
    assert not report.passed
    assert "unexpected" in report.text()


def test_undeclared_axes_are_an_error_that_names_the_fix(pair):
    theirs, ours = pair

    class Undeclared(FlaxNet):
        axes = nn.SAME

    object.__setattr__(ours, "__class__", Undeclared)
    report = parity.check(theirs, ours, X, options=FAST)
    assert not report.passed
    assert "channels-first" in report.text()
    declared = parity.Options(levels=("L0", "L1"), axes=FlaxNet.axes)
    assert parity.check(theirs, ours, X, options=declared).passed


def test_float32_inside_the_torch_code_is_detected_and_said():
    class Narrow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x).float().softmax(-1).to(x.dtype)

    class FlaxNarrow(nn.Module):
        def __init__(self, *, rngs):
            self.fc = nn.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            return jax.nn.softmax(self.fc(x).astype(jnp.float32)).astype(x.dtype)

    theirs, ours = Narrow(), FlaxNarrow(rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    report = parity.check(theirs, ours, torch.randn(4, 3), options=FAST)
    assert report.passed
    assert any("casts float64" in row.note for row in report.rows)


def test_outputs_of_another_dtype_or_structure_fail():
    class Twice(nn.Linear):
        def __call__(self, x):
            y = super().__call__(x)
            return y, y

    class Half(nn.Linear):
        def __call__(self, x):
            return super().__call__(x).astype(jnp.float32)

    theirs, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    for wrong, word in ((Twice, "exists only in"), (Half, "dtype float32")):
        ours = wrong(3, 2, rngs=nnx.Rngs(0))
        convert.to_flax(theirs, ours)
        report = parity.check(theirs, ours, x, options=FAST)
        assert not report.passed
        assert word in report.text()


def test_a_nested_result_and_keyword_arguments():
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 3)

        def forward(self, x, *, scale=None, keep=True):
            y = self.fc(x)
            return {"y": y, "parts": [y * scale, None], "order": y.argsort(-1), "keep": keep}

    class Ours(nn.Module):
        def __init__(self, *, rngs):
            self.fc = nn.Linear(3, 3, rngs=rngs)

        def __call__(self, x, *, scale=None, keep=True):
            y = self.fc(x)
            return {"y": y, "parts": [y * scale, None], "order": y.argsort(-1), "keep": keep}

    theirs, ours = Theirs(), Ours(rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    report = parity.check(
        theirs, ours, torch.randn(4, 3), scale=torch.rand(4, 1), keep=False, options=FAST
    )
    assert report.passed, report.text()
    assert {"output['parts'][0]", "output['order']"} <= {row.what for row in report.rows}


def test_frozen_parameters_are_still_compared(pair):
    theirs, ours = pair
    for model in pair:
        fluxmod.freeze(model, "conv")
    report = parity.check(theirs, ours, X, options=FAST)
    assert report.passed
    assert "grad conv.weight" in {row.what for row in report.rows}


def test_a_parameter_that_takes_no_part_is_left_alone():
    """torch's optimizers pass it over, its weight decay too, and have no state for it."""

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.spare = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x) + self.spare(x).argmax(-1, keepdim=True)

    class Ours(nn.Module):
        def __init__(self, *, rngs):
            self.fc, self.spare = nn.Linear(3, 3, rngs=rngs), nn.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            return self.fc(x) + self.spare(x).argmax(-1, keepdims=True)

    theirs, ours = Theirs(), Ours(rngs=nnx.Rngs(0))
    convert.to_flax(theirs, ours)
    report = parity.check(theirs, ours, torch.randn(4, 3), options=parity.Options(levels=("L4",)))
    assert report.passed, report.text()
    assert [row.what for row in report.rows if "takes no part" in row.note] == [
        f"{name}: spare.weight, spare.bias" for name in ("SGD", "Adam", "AdamW")
    ]


def test_the_html_page_is_self_contained_and_shows_the_fault(pair):
    theirs, ours = pair
    ours.norm.eps = 1e-4
    page = parity.check(theirs, ours, X, options=FAST).to_html()
    assert "NOT equal" in page
    assert "<svg" in page
    assert "norm" in page
    assert "http" not in page
    assert "<script" not in page


def test_layers_that_write_into_their_input_are_replayed():
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(inplace=True))
    ours = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.ReLU())
    convert.to_flax(theirs, ours)
    parity.check(theirs, ours, torch.randn(5, 4)).require()
    alone = torch.nn.ReLU(inplace=True)
    parity.check(alone, nn.ReLU(), torch.randn(5, 4)).require()


def test_a_model_that_says_itself_what_takes_a_gradient():
    """As Wav2Vec2 does; torch refuses it for an input that takes one already."""

    class Theirs(torch.nn.Sequential):
        def forward(self, x):
            x = x[:, None]
            if self.training:
                x.requires_grad = True
            return super().forward(x)

    class Ours(nn.Sequential):
        def __call__(self, x):
            return super().__call__(x[:, None])

    theirs = Theirs(torch.nn.Linear(4, 3), torch.nn.Tanh())
    ours = Ours(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.Tanh())
    convert.to_flax(theirs, ours)
    report = parity.check(theirs, ours, torch.randn(5, 4)).require()
    compared = {(row.where, row.what) for row in report.rows if not row.path}
    assert ("eval, batch 5", "grad input[0]") in compared
    assert ("train, batch 5", "grad input[0]") not in compared
    assert ("train, batch 5", "grad 0.weight") in compared


def test_unknown_levels_and_devices_are_refused():
    with pytest.raises(ValueError, match="L9"):
        parity.Options(levels=("L9",))
    with pytest.raises(ValueError, match="tpu"):
        parity.Options(device="tpu")
