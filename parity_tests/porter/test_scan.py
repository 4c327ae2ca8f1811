"""``Options(scan=True)``: equal blocks are one stack, and everything else holds as without."""

from __future__ import annotations

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from fluxmod import convert, parity, porter
from fluxmod import nn as nn_of_ours
from fluxmod._errors import ConvertError, DtypeError, PortError, UnmatchedKeysError

SCAN = porter.Options(scan=True)
LEVELS = ("L0", "L1", "L2", "L5")


class Block(nn.Module):
    def __init__(self, width, heads=2, rate=0.1):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, dropout=rate, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))
        self.drop = nn.Dropout(rate)

    def forward(self, x, mask, *, scale=1.0):
        y = self.norm(x)
        y, _ = self.attn(y, y, y, attn_mask=mask)
        x = x + scale * self.drop(y)
        return x + self.mlp(x)


class Transformer(nn.Module):
    def __init__(self, depth=3, width=8):
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.register_buffer("mask", torch.triu(torch.ones(5, 5, dtype=torch.bool), 1))

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.mask, scale=0.5)
        return self.norm(x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


class ConvNet(nn.Module):
    def __init__(self, depth=3, width=5):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.body = nn.Sequential(*[Residual(width) for _ in range(depth)])
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


TOKENS = torch.arange(10).reshape(2, 5)


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    module = Transformer()
    return module, porter.port(module, TOKENS, options=SCAN)


@pytest.fixture(scope="module")
def convnet():
    torch.manual_seed(0)
    module, images = ConvNet(), torch.randn(2, 3, 7, 6)
    return module, porter.port(module, images, options=SCAN), images


def test_the_text_of_a_scan(transformer):
    source = porter.source(transformer[1])
    for line in (
        'stacked = ("blocks",)',
        "@nnx.split_rngs(splits=depth)",
        "def make_blocks(rngs: nnx.Rngs) -> Block:",
        "@nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)",
        "def scan_blocks(block: Block, x: jax.Array) -> jax.Array:",
        "x = scan_blocks(self.blocks, x)",
    ):
        assert f"    {line}\n" in source
    assert "for block" not in source
    assert not porter.notes(transformer[1])


def test_a_standalone_file_with_a_stack_is_refused(transformer):
    with pytest.raises(PortError, match="has stacks"):
        porter.source(transformer[1], standalone=True)


def test_a_transformer_with_dropout_is_certified(transformer):
    module, ported = transformer
    report = parity.check(module, ported, TOKENS, options=parity.Options(levels=LEVELS))
    report.require()
    looked_at = {row.path for row in report.rows}
    assert {f"blocks.{i}.attn" for i in range(3)} <= looked_at


def test_a_stack_with_batch_statistics_is_certified(convnet):
    module, ported, images = convnet
    report = parity.check(module, ported, images, options=parity.Options(levels=LEVELS))
    report.require()
    compared = {row.what for row in report.rows}
    assert {f"body.{i}.norm.running_var" for i in range(3)} <= compared
    assert {f"grad body.{i}.conv.weight" for i in range(3)} <= compared


def test_gpt2_is_certified():
    pytest.importorskip("transformers", reason="a model of transformers; install the extra 'test'")
    from parity_tests.porter.hub import make

    module, inputs = make("gpt2")
    ported = porter.port(module, options=SCAN, **inputs)
    assert "scan_h(self.h, hidden_states)" in porter.source(ported)
    levels = parity.Options(levels=("L0", "L1", "L5"), per_module=False, batches=(2,))
    parity.check(module, ported, options=levels, **inputs).require()


def test_a_fault_in_one_layer_is_found_there(transformer):
    module, ported = transformer
    wrong = nnx.clone(ported)
    wrong.blocks.norm.eps = wrong.blocks.norm.epsilon = 1e-2
    options = parity.Options(levels=("L1",), batches=(2,))
    report = parity.check(module, wrong, TOKENS, options=options)
    assert not report.passed
    assert "first fault: blocks.0.norm" in report.text()


def test_layers_draw_different_masks():
    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return x + 10 * self.drop(self.scale + 0 * x)

    class Noises(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([Noise() for _ in range(3)])

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    ported = porter.port(Noises(), torch.zeros(2, 50), options=SCAN)
    ported.train()
    first, second = ported(jnp.zeros((1, 400))), ported(jnp.zeros((1, 400)))
    counts = np.unique(np.asarray(first))
    assert len(counts) == 4  # 0 to 3 masks of three kept; equal masks would give 0 and 3 alone
    assert not np.array_equal(first, second)


def test_statistics_move_layer_by_layer(convnet):
    module, ported, images = convnet
    twin = ConvNet()
    twin.load_state_dict(module.state_dict())
    model = porter.port(twin, images, options=SCAN)
    model.train()
    twin.train()(images)
    porter.feed(model, images)
    after = convert.state_dict(model)
    for key, value in twin.state_dict().items():
        np.testing.assert_allclose(after[key], value.numpy(), rtol=1e-5, atol=1e-6)
    assert int(after["body.2.norm.num_batches_tracked"]) == 1
    assert "loop" not in "".join(porter.notes(ported))


def test_weights_go_both_ways_bit_for_bit(transformer, tmp_path):
    module, ported = transformer
    back = convert.to_torch(ported)
    want = {key: value.numpy() for key, value in module.state_dict().items()}
    assert list(back) == list(want)
    assert all(back[key].tobytes() == value.tobytes() for key, value in want.items())
    file = convert.save(ported, tmp_path / "model.safetensors")
    other = nnx.clone(ported)
    for _, variable in convert.named_parameters(other):
        variable.set_value(jnp.zeros_like(variable.get_value()))
    assert convert.to_flax(file, other).complete
    again = convert.to_torch(other)
    assert all(again[key].tobytes() == value.tobytes() for key, value in want.items())
    assert ported.blocks.attn.out_proj.kernel.shape == (3, 8, 8)


def test_a_missing_or_misshapen_layer_is_named(transformer):
    module, ported = transformer
    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    before = convert.to_torch(ported)
    missing = {key: value for key, value in weights.items() if ".1.mlp" not in key}
    with pytest.raises(UnmatchedKeysError, match=r"missing +blocks\.1\.mlp\.0\.weight\n"):
        convert.to_flax(missing, ported)
    with pytest.raises(UnmatchedKeysError, match=r"unexpected +blocks\.3\.norm\.weight"):
        convert.to_flax({**weights, "blocks.3.norm.weight": weights["norm.weight"]}, ported)
    wrong = {**weights, "blocks.2.norm.bias": np.zeros(9, np.float32)}
    with pytest.raises(ConvertError, match=r"blocks\.norm\.bias\[2\]\), got \(9,\)"):
        convert.to_flax(wrong, ported)
    after = convert.to_torch(ported)
    assert all(after[key].tobytes() == value.tobytes() for key, value in before.items())


def test_the_layers_that_a_source_has_are_loaded(transformer):
    module, ported = transformer
    model = nnx.clone(ported)
    key = "blocks.1.norm.weight"
    weights = {key: np.full(8, 3.0, np.float32)}
    convert.to_flax(weights, model, allow_missing=["*"])
    after = convert.to_torch(model)
    assert (after.pop(key) == 3).all()
    assert all((value == module.state_dict()[k].numpy()).all() for k, value in after.items())


def test_parameters_of_a_stack_are_frozen_together(transformer):
    model = nnx.clone(transformer[1])
    names = [name for name, _ in convert.named_parameters(model)]
    assert names.count("blocks.*.norm.weight") == 1
    module = transformer[0]
    assert convert.parameter_count(model) == convert.parameter_count(module)
    with pytest.raises(ConvertError, match="holds 3 layers"):
        convert.freeze(model, "blocks.1")
    assert "blocks.2.norm.weight" in convert.freeze(model, "blocks")


def test_a_written_file_loads_weights_in_a_fresh_namespace(transformer, tmp_path, monkeypatch):
    module, ported = transformer
    file = convert.save(ported, tmp_path / "model.safetensors")
    written = types.ModuleType("written_scan")
    monkeypatch.setitem(sys.modules, "written_scan", written)
    exec(porter.source(ported), written.__dict__)
    model = written.Transformer(rngs=nnx.Rngs(0))
    convert.to_flax(file, model)
    model.eval()
    with torch.no_grad():
        want = module.eval()(TOKENS).numpy()
    np.testing.assert_allclose(model(jnp.asarray(TOKENS.numpy())), want, rtol=1e-5, atol=1e-6)


def test_gradients_and_split_under_jit(transformer):
    graphdef, params, rest = nnx.split(nnx.clone(transformer[1]), nnx.Param, ...)

    @jax.jit
    def loss(params, rest):
        return (nnx.merge(graphdef, params, rest)(jnp.asarray(TOKENS.numpy())) ** 2).sum()

    found = jax.grad(loss)(params, rest)
    assert found["blocks"]["norm"]["scale"].get_value().shape == (3, 8)


class Down(nn.Module):
    def __init__(self, width, out, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.short = nn.Conv2d(width, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return torch.relu(self.short(x) + self.norm(self.conv(x)))


class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(Down(3, 5, 2), *[Down(5, 5) for _ in range(3)])
        self.layers = nn.ModuleList([nn.Linear(5, 5) for _ in range(4)])

    def forward(self, x):
        x = self.layer1(x).mean((2, 3))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def test_equal_blocks_at_the_end_of_a_list_are_a_stack():
    torch.manual_seed(0)
    module, images = Stages(), torch.randn(2, 3, 7, 6)
    ported = porter.port(module, images, options=SCAN)
    assert 'stacked = ("layer1.1", "layers")' in porter.source(ported)
    assert ported.layer1[1].conv.kernel.shape == (3, 3, 3, 5, 5)
    back = convert.to_torch(ported)
    want = {key: value.numpy() for key, value in module.state_dict().items()}
    assert list(back) == list(want)
    assert all(back[key].tobytes() == value.tobytes() for key, value in want.items())
    options = parity.Options(levels=("L0", "L1"), batches=(2,))
    parity.check(module, ported, images, options=options).require()


def test_layers_of_several_dtypes_are_no_stack(transformer):
    module, ported = transformer
    before = convert.to_torch(ported)
    weights = {
        key: value.half() if key.startswith("blocks.1.") else value
        for key, value in module.state_dict().items()
    }
    with pytest.raises(DtypeError, match="dtypes float32 and float16") as caught:
        convert.to_flax(weights, ported, assign=True)
    assert "are one array in the model" in str(caught.value)
    after = convert.to_torch(ported)
    assert all(np.array_equal(after[key], value) for key, value in before.items())


def test_the_state_of_an_optimizer_goes_both_ways(transformer):
    module, ported = transformer
    theirs = torch.optim.AdamW(module.parameters(), lr=0.1)
    module.zero_grad()
    module(TOKENS).square().sum().backward()
    kept = {key: value.clone() for key, value in module.state_dict().items()}
    theirs.step()
    module.load_state_dict(kept)
    tx, state = convert.optimizer_from_torch(theirs, ported, torch_model=module)
    assert state.slots["exp_avg"]["blocks"]["norm"]["scale"].shape == (3, 8)
    back = convert.optimizer_to_torch(state, ported, tx, like=theirs, torch_model=module)
    for number, entry in theirs.state_dict()["state"].items():
        for name, value in entry.items():
            assert np.array_equal(back["state"][number][name], value.numpy())
    for refused in (
        torch.optim.LBFGS(module.parameters()),
        torch.optim.Adafactor(module.parameters()),
    ):
        with pytest.raises(ConvertError, match="has stacks"):
            convert.optimizer_from_torch(refused, ported, torch_model=module)


def test_a_declaration_without_a_stack_is_named():
    model = nn_of_ours.Sequential(nn_of_ours.ReLU())
    model.stacked = ("0",)
    with pytest.raises(ValueError, match="0 is declared as a stack"):
        convert.state_dict(model)


class Collects(Transformer):
    def forward(self, tokens):
        x, states = self.embed(tokens), []
        for block in self.blocks:
            x = block(x, self.mask)
            states.append(x)
        return x, torch.stack(states)


class Rates(Transformer):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, rate=0.1 * i) for i in range(3)])


class Widens(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(3, 3, 3) for _ in range(3)])

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class Drops(Transformer):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = self.drop(block(x, self.mask))
        return x


class Shares(Transformer):
    def __init__(self):
        super().__init__()
        self.norm.weight = self.blocks[1].norm.weight


@pytest.mark.parametrize(
    ("cls", "inputs", "reason"),
    [
        (Collects, TOKENS, "not called block after block"),
        (Rates, TOKENS, "not built alike"),
        (Widens, torch.randn(2, 3, 11), "sizes or types"),
        (Drops, TOKENS, "also calls self.drop"),
        (Shares, TOKENS, "share something"),
    ],
)
def test_other_loops_stay_with_a_note(cls, inputs, reason):
    torch.manual_seed(0)
    module = cls().eval()
    ported = porter.port(module, inputs, options=SCAN)
    assert "nnx.scan" not in porter.source(ported)
    assert any(reason in note for note in porter.notes(ported))
    with torch.no_grad():
        want = module(inputs)
    got = porter.feed(ported, inputs)
    for a, b in zip(*((x if isinstance(x, tuple) else (x,)) for x in (got, want)), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-5)
