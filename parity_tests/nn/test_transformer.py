"""Transformer, its stacks and layers against torch: masks, modes, copies, initial values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.nn.cases import Case, case_and_check, run
from parity_tests.nn.replayed import replayed

# torch explains at length why its fast path is off
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")

# S 5, T 4, N 2, E 6, feed-forward 7, H 3: all differ
S, T, N, E, WIDE, H = 5, 4, 2, 6, 7, 3
SRC, TGT = (S, N, E), (T, N, E)
LAYER = (E, H, WIDE, 0.0)


def bools(*shape):
    mask = np.random.default_rng(3).random(shape) < 0.4
    mask[..., 0] = False
    return mask


def floats(*shape):
    return np.random.default_rng(4).standard_normal(shape)


def causal(size):
    return np.triu(np.ones((size, size), bool), 1)


def drawn(*parts):
    """Inputs: shapes are drawn, arrays are given as they are."""
    return lambda rng: tuple(
        rng.standard_normal(part) if isinstance(part, tuple) else part for part in parts
    )


def encoder_layer(id, *inputs, args=LAYER, train=True, call=None, **kwargs):
    theirs, ours = tnn.TransformerEncoderLayer, nn.TransformerEncoderLayer
    x, call = drawn(*(inputs or (SRC,))), call or {}
    return Case(f"encoder-layer-{id}", theirs, ours, args, kwargs, x, call, train)


def decoder_layer(id, *inputs, args=LAYER, train=True, call=None, **kwargs):
    theirs, ours = tnn.TransformerDecoderLayer, nn.TransformerDecoderLayer
    x, call = drawn(*(inputs or (TGT, SRC))), call or {}
    return Case(f"decoder-layer-{id}", theirs, ours, args, kwargs, x, call, train)


def stacked(kind, layers, args, norm, **options):
    """Factories of a stack in both frameworks."""

    def theirs():
        last = tnn.LayerNorm(E) if norm else None
        layer = getattr(tnn, f"Transformer{kind}Layer")(*args, **options)
        return getattr(tnn, f"Transformer{kind}")(layer, layers, last)

    def ours(*, rngs, param_dtype):
        last = nn.LayerNorm(E, param_dtype=param_dtype) if norm else None
        types = {"rngs": rngs, "param_dtype": param_dtype}
        layer = getattr(nn, f"Transformer{kind}Layer")(*args, **options, **types)
        return getattr(nn, f"Transformer{kind}")(layer, layers, last)

    return theirs, ours


def encoder(id, *inputs, args=LAYER, layers=2, norm=True, train=True, call=None, **options):
    theirs, ours = stacked("Encoder", layers, args, norm, **options)
    x, call = drawn(*(inputs or (SRC,))), call or {}
    return Case(f"encoder-{id}", theirs, ours, x=x, call=call, train=train)


def decoder(id, *inputs, args=LAYER, layers=2, norm=True, train=True, call=None, **options):
    theirs, ours = stacked("Decoder", layers, args, norm, **options)
    x, call = drawn(*(inputs or (TGT, SRC))), call or {}
    return Case(f"decoder-{id}", theirs, ours, x=x, call=call, train=train)


def transformer(id, *inputs, layers=(1, 1), dropout=0.0, train=True, call=None, **kwargs):
    args = (E, H, *layers, WIDE, dropout)
    x, call = drawn(*(inputs or (SRC, TGT))), call or {}
    return Case(f"transformer-{id}", tnn.Transformer, nn.Transformer, args, kwargs, x, call, train)


PADDED = {"src_key_padding_mask": bools(N, S)}
EVERY_MASK = {
    "tgt_mask": causal(T),
    "memory_mask": bools(T, S),
    "tgt_key_padding_mask": bools(N, T),
    "memory_key_padding_mask": bools(N, S),
}
CASES = [
    encoder_layer("post-relu"),
    encoder_layer("pre-gelu", activation="gelu", norm_first=True),
    encoder_layer("eval", args=(E, H, WIDE, 0.3), train=False),
    encoder_layer("no-bias-eps", bias=False, layer_norm_eps=1e-2),
    encoder_layer("batch-first", (N, S, E), batch_first=True, call=PADDED),
    encoder_layer("unbatched", (S, E), batch_first=True),
    encoder_layer("mask", SRC, bools(S, S), bools(N, S)),
    encoder_layer("mask-float", SRC, floats(N * H, S, S), norm_first=True),
    encoder_layer("causal", SRC, causal(S), call={"is_causal": True}),
    decoder_layer("post-relu"),
    decoder_layer("pre-gelu", activation="gelu", norm_first=True),
    decoder_layer("eval", args=(E, H, WIDE, 0.3), train=False),
    decoder_layer("no-bias-eps", bias=False, layer_norm_eps=1e-2, norm_first=True),
    decoder_layer("batch-first", (N, T, E), (N, S, E), batch_first=True, call=EVERY_MASK),
    decoder_layer("unbatched", (T, E), (S, E)),
    decoder_layer("masks-float", TGT, SRC, floats(T, T), floats(T, S)),
    encoder("plain"),
    encoder("no-norm", norm=False, norm_first=True),
    encoder("causal-found", SRC, causal(S)),
    encoder("masks", SRC, bools(S, S), bools(N, S), layers=3, activation="gelu"),
    decoder("plain", norm=False),
    decoder("masks", layers=3, call=EVERY_MASK),
    transformer("plain"),
    transformer("two-and-three", layers=(2, 3), norm_first=True, activation="gelu", bias=False),
    transformer("batch-first", (N, S, E), (N, T, E), batch_first=True),
    transformer("unbatched", (S, E), (T, E)),
    transformer("masks", SRC, TGT, bools(S, S), causal(T), bools(T, S), call=PADDED),
]
FEW = ["whole", "round_trip"]
"""What the stacks add to the layers, which go through every check."""


LAYERS = [c for c in CASES if "-layer-" in c.id]


@pytest.mark.parametrize(("case", "check"), case_and_check(LAYERS), ids=str)
def test_layer(case, check):
    run(case, check)


@pytest.mark.parametrize("check", FEW)
@pytest.mark.parametrize("case", [c for c in CASES if "-layer-" not in c.id], ids=str)
def test_stack(case, check):
    run(case, check)


def test_activation_may_be_any_function():
    theirs, ours = tnn.TransformerEncoderLayer, nn.TransformerEncoderLayer
    case = Case("function", theirs, ours, LAYER, {"activation": torch.tanh}, SRC,
                flax_kwargs={"activation": jnp.tanh})  # fmt: skip
    run(case, "param_grads")
    run(case, "repr")


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_activation_may_be_a_module_and_is_then_a_child(kind):
    theirs, ours = (getattr(m, f"Transformer{kind}Layer") for m in (tnn, nn))
    inputs = drawn(SRC, TGT) if kind == "Decoder" else drawn(SRC)
    with jax.enable_x64(True):
        child = {"activation": nn.Linear(WIDE, WIDE, param_dtype=jnp.float64, rngs=nnx.Rngs(0))}
    case = Case("module", theirs, ours, LAYER, {"activation": tnn.Linear(WIDE, WIDE)}, inputs,
                flax_kwargs=child)  # fmt: skip
    run(case, "param_grads")
    run(case, "repr")


# --- training: every dropout of both, in torch's order --------------------------------------------

DROPPED = (E, H, WIDE, 0.3)
TRAINED = [
    (encoder_layer("post", args=DROPPED), 4),
    (encoder_layer("pre", args=DROPPED, norm_first=True), 4),
    (decoder_layer("post", args=DROPPED), 6),
    (decoder_layer("pre", args=DROPPED, norm_first=True, call=EVERY_MASK), 6),
    (encoder("masks", SRC, causal(S), bools(N, S), args=DROPPED), 8),
    (decoder("plain", args=DROPPED), 12),
    (transformer("plain", dropout=0.3), 10),
    (transformer("batch-first", (N, S, E), (N, T, E), dropout=0.3, batch_first=True), 10),
    (transformer("unbatched", (S, E), (T, E), dropout=0.3), 10),
]


@pytest.mark.parametrize(("case", "masks"), TRAINED, ids=lambda v: str(v))
def test_torchs_masks_give_torchs_numbers(case, masks):
    assert replayed(case) == masks


# --- initial values -----------------------------------------------------------------------------


def test_a_transformers_matrices_start_xavier_uniform_and_all_different():
    torch.manual_seed(0)
    sizes = (48, 2, 2, 2, 80)
    theirs = tnn.Transformer(*sizes).state_dict()
    ours = convert.to_torch(nn.Transformer(*sizes, rngs=nnx.Rngs(0)))
    assert list(ours) == list(theirs)
    for name, want in theirs.items():
        limit = want.abs().max().item()
        assert abs(np.abs(ours[name]).max() - limit) <= 0.05 * limit, name
    first, second = (ours[f"encoder.layers.{i}.linear1.weight"] for i in (0, 1))
    assert not np.array_equal(first, second)


def test_custom_stacks_are_used_and_drawn_anew():
    class Encoder(nn.Module):
        def __init__(self, *, rngs):
            self.conv = nn.Conv1d(6, 10, 7, rngs=rngs)
            self.table = nn.Embedding(30, 6, rngs=rngs)
            self.attention = nn.MultiheadAttention(6, 2, add_bias_kv=True, rngs=rngs)
            self.again = self.conv

        def __call__(self, src, mask, src_key_padding_mask, is_causal):
            return src * 0 + 1

    rngs = nnx.Rngs(0)
    encoder = Encoder(rngs=rngs)
    with torch.no_grad():
        limits = {
            "conv.kernel": tnn.init.xavier_uniform_(torch.empty(10, 6, 7)).abs().max(),
            "table.embedding": tnn.init.xavier_uniform_(torch.empty(30, 6)).abs().max(),
            "attention.bias_k": tnn.init.xavier_uniform_(torch.empty(1, 1, 6000)).abs().max()
            * 1000**0.5,
        }
    model = nn.Transformer(6, 2, 1, 1, 8, custom_encoder=encoder, rngs=rngs)
    assert model.encoder is encoder
    for path, limit in limits.items():
        owner, name = path.split(".")
        got = float(jnp.abs(getattr(getattr(encoder, owner), name)[...]).max())
        assert 0.75 * limit.item() <= got <= 1.02 * limit.item(), path
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(6, 2, 8, rngs=rngs), 1, nn.LayerNorm(6)
    )
    model = nn.Transformer(6, 2, 1, 1, 8, custom_decoder=decoder, rngs=rngs)
    assert model.decoder is decoder
    assert model(jnp.ones((5, 2, 6)), jnp.ones((4, 2, 6))).shape == (4, 2, 6)


# --- refusals -----------------------------------------------------------------------------------


def _transformers(batch_first=False):
    options = {"dim_feedforward": 8, "batch_first": batch_first}
    return (
        tnn.Transformer(6, 2, 1, 1, **options),
        nn.Transformer(6, 2, 1, 1, **options, rngs=nnx.Rngs(0)),
    )


@pytest.mark.parametrize(
    ("src", "tgt", "first", "text"),
    [
        ((5, 2, 6), (4, 3, 6), False, "batch sizes .axis 1."),
        ((5, 2, 6), (4, 2, 6), True, "batch sizes .axis 0."),
        ((5, 2, 7), (4, 2, 6), False, "d_model=6"),
        ((5, 2, 6), (4, 2, 7), False, "d_model=6"),
        ((5, 2, 6), (4, 6), False, "both have 3 axes"),
        ((5, 2, 7), (4, 3, 7), False, "batch sizes.*; .*d_model=6"),
    ],
)
def test_both_refuse_shapes(src, tgt, first, text):
    theirs, ours = _transformers(first)
    with pytest.raises((RuntimeError, AssertionError)):
        theirs(torch.ones(src), torch.ones(tgt))
    with pytest.raises(ValueError, match=text):
        ours(jnp.ones(src), jnp.ones(tgt))


def test_both_refuse_an_unknown_activation():
    with pytest.raises(RuntimeError):
        tnn.TransformerEncoderLayer(6, 2, activation="swish")
    with pytest.raises(ValueError, match="'relu', 'gelu' or a callable, got 'swish'"):
        nn.TransformerEncoderLayer(6, 2, activation="swish", rngs=nnx.Rngs(0))


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_both_refuse_a_promise_without_a_mask(kind):
    inputs = [(5, 2, 6)] if kind == "Encoder" else [(5, 2, 6)] * 2
    name = "is_causal" if kind == "Encoder" else "tgt_is_causal"
    theirs = getattr(tnn, f"Transformer{kind}Layer")(6, 2, 8)
    ours = getattr(nn, f"Transformer{kind}Layer")(6, 2, 8, rngs=nnx.Rngs(0))
    with pytest.raises(RuntimeError, match="Need attn_mask"):
        theirs(*map(torch.ones, inputs), **{name: True})
    with pytest.raises(ValueError, match="is_causal is a promise"):
        ours(*map(jnp.ones, inputs), **{name: True})


# --- the documented difference --------------------------------------------------------------------


def test_only_torchs_inference_fast_path_zeroes_padding():
    theirs = tnn.TransformerEncoder(tnn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    ours = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, rngs=nnx.Rngs(0)), 1
    )
    convert.to_flax(theirs, ours)
    theirs.eval(), ours.eval()
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    got = ours(jnp.asarray(x.numpy()), src_key_padding_mask=jnp.asarray(padding.numpy()))
    with_grad = theirs(x, src_key_padding_mask=padding).detach().numpy()
    np.testing.assert_allclose(got, with_grad, rtol=0, atol=2e-6)
    with pytest.warns(UserWarning, match="nested tensors"), torch.no_grad():
        fast = theirs(x, src_key_padding_mask=padding).numpy()
    assert not fast[1, 3:].any()
    np.testing.assert_allclose(got[~padding.numpy()], fast[~padding.numpy()], rtol=0, atol=2e-6)
