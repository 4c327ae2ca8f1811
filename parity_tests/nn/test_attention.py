"""MultiheadAttention against torch: every form of mask, weights, extra rows, and training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import nn
from fluxmod.convert import to_flax
from parity_tests.nn.cases import Case, case_and_check, run
from parity_tests.nn.replayed import replayed

# L 4, S 6, N 2, H 3, E 12 (head width 4): all differ
L, S, N, H, E = 4, 6, 2, 3, 12
QUERY, KEY = (L, N, E), (S, N, E)


def taking(*names, **fixed):
    """Both layers with their call's arguments in the order of ``names``; ``fixed`` are added.

    A single "x" stands for query, key and value.
    """

    def arguments(arrays):
        named = dict(zip(names, arrays, strict=True))
        x = named.pop("x", None)
        return {**({} if x is None else {"query": x, "key": x, "value": x}), **named, **fixed}

    class Theirs(tnn.MultiheadAttention):
        def forward(self, *arrays):
            return super().forward(**arguments(arrays))

    class Ours(nn.MultiheadAttention):
        def __call__(self, *arrays):
            return super().__call__(**arguments(arrays))

    Theirs.__name__ = Ours.__name__ = "MultiheadAttention"
    return Theirs, Ours


def case(id, args, x, *masks, names=(), train=True, call=None, **kwargs):
    """One case: shapes ``x`` (a single one is self-attention), then mask arrays or shapes."""
    inputs = ["x"] if isinstance(x, tuple) else ["query", "key", "value"]
    theirs, ours = taking(*inputs, *names, **(call or {}))
    shapes = [x] if isinstance(x, tuple) else x

    def draw(rng):
        drawn = [rng.standard_normal(shape) for shape in shapes]
        return (*drawn, *masks)

    return Case(id, theirs, ours, args, kwargs, draw, train=train)


def bools(*shape, empty=False):
    mask = np.random.default_rng(3).random(shape) < 0.4
    mask[..., 0] = False
    if empty:
        mask.reshape(-1, shape[-1])[1] = True
    return mask


def floats(*shape):
    mask = np.random.default_rng(4).standard_normal(shape)
    mask.reshape(-1, shape[-1])[0, 2] = -np.inf
    return mask


CROSS = [QUERY, KEY, KEY]
SEPARATE = [QUERY, (S, N, 5), (S, N, 7)]
PADDING, ATTENTION = ("key_padding_mask",), ("attn_mask",)
BOTH = ("key_padding_mask", "attn_mask")
NO = {"need_weights": False}

CASES = [
    case("self", (E, H), QUERY),
    case("self-eval", (E, H, 0.5), QUERY, train=False),
    case("cross", (E, H), CROSS),
    case("cross-no-weights", (E, H), CROSS, call=NO),
    case("three-inputs", (E, H), [QUERY, QUERY, QUERY]),
    case("batch-first", (E, H), [(N, L, E), (N, S, E), (N, S, E)], batch_first=True),
    case("unbatched", (E, H), [(L, E), (S, E), (S, E)], batch_first=True),
    case("per-head", (E, H), CROSS, call={"average_attn_weights": False}),
    case("unbatched-per-head", (E, H), (L, E), call={"average_attn_weights": False}),
    case("no-bias", (E, H), CROSS, bias=False),
    case("separate", (E, H), SEPARATE, kdim=5, vdim=7),
    case("separate-no-weights", (E, H), SEPARATE, kdim=5, vdim=7, bias=False, call=NO),
    case("one-head", (E, 1), CROSS),
    case("padding", (E, H), CROSS, bools(N, S), names=PADDING),
    case("padding-float", (E, H), CROSS, floats(N, S), names=PADDING),
    case("padding-unbatched", (E, H), [(L, E), (S, E), (S, E)], bools(S), names=PADDING),
    case("mask", (E, H), CROSS, bools(L, S), names=ATTENTION),
    case("mask-float", (E, H), CROSS, floats(L, S), names=ATTENTION, call=NO),
    case("mask-per-head", (E, H), CROSS, bools(N * H, L, S), names=ATTENTION),
    case("mask-per-head-float", (E, H), CROSS, floats(N * H, L, S), names=ATTENTION, call=NO),
    case("mask-unbatched", (E, H), (L, E), bools(H, L, L), names=ATTENTION),
    case("both", (E, H), CROSS, bools(N, S), bools(L, S), names=BOTH),
    case("both-float", (E, H), CROSS, floats(N, S), floats(N * H, L, S), names=BOTH, call=NO),
    case("empty-query", (E, H), CROSS, bools(L, S, empty=True), names=ATTENTION),
    case("empty-query-zero", (E, H), CROSS, bools(L, S, empty=True), names=ATTENTION, call=NO),
    case("extra-rows", (E, H), CROSS, add_bias_kv=True, add_zero_attn=True),
    case(
        "extra-rows-masked", (E, H), CROSS, bools(N, S, empty=True), floats(L, S) > 1,
        names=BOTH, call=NO, add_bias_kv=True, add_zero_attn=True, batch_first=False,
    ),
    case("bias-row-separate", (E, H), SEPARATE, add_bias_kv=True, kdim=5, vdim=7),
    case("no-batch", (E, H), [(L, 0, E), (S, 0, E), (S, 0, E)]),
    case("no-keys", (E, H), [QUERY, (0, N, E), (0, N, E)]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


# --- training: the attention weights are dropped, and returned so ---------------------------------

DROPPED = [
    case("weights", (E, H, 0.4), CROSS),
    case("weights-per-head", (E, H, 0.4), CROSS, call={"average_attn_weights": False}),
    case("no-weights", (E, H, 0.4), CROSS, call=NO),
    case("square", (4, 2, 0.4), (4, 4, 4)),
    case("square-no-weights", (4, 4, 0.4), (4, 4, 4), call=NO),
    case("masked", (E, H, 0.4), CROSS, bools(N, S), bools(L, S), names=BOTH),
    case("masked-no-weights", (E, H, 0.4), CROSS, bools(N, S), bools(L, S), names=BOTH, call=NO),
    case("extra-rows", (E, H, 0.4), CROSS, add_bias_kv=True, add_zero_attn=True),
    case("unbatched", (E, H, 0.4), (L, E), batch_first=True),
    case("unbatched-no-weights", (E, H, 0.4), (L, E), call=NO),
    case("separate", (E, H, 0.4), SEPARATE, kdim=5, vdim=7, call=NO),
]


@pytest.mark.parametrize("case", DROPPED, ids=str)
def test_torchs_masks_give_torchs_numbers(case):
    assert replayed(case) == 1


def test_returned_weights_are_those_after_dropout():
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, rngs=nnx.Rngs(0))
    _, weights = layer(*[jnp.ones((5, 3, 8))] * 3)
    assert not np.allclose(weights.sum(-1), 1.0)
    layer.eval()
    _, weights = layer(*[jnp.ones((5, 3, 8))] * 3)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)


def test_the_call_may_bring_mode_and_random_numbers():
    layer = nn.MultiheadAttention(8, 2, dropout=0.5, rngs=nnx.Rngs(0))
    x = [jnp.ones((5, 3, 8))] * 3
    quiet, _ = layer(*x, deterministic=True)
    np.testing.assert_array_equal(layer(*x, deterministic=True)[0], quiet)
    one, again, other = (layer(*x, rngs=jax.random.key(i))[0] for i in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, quiet)


# --- the causal promise -------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("mask", ["causal", "another"])
def test_a_promise_counts_where_it_counts_in_torch(need_weights, padded, mask, x64):
    """Without weights and padding the promise replaces the mask, even a wrong one."""
    theirs = tnn.MultiheadAttention(E, H, dtype=torch.float64)
    ours = nn.MultiheadAttention(E, H, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    to_flax(theirs, ours)
    x = np.random.default_rng(0).standard_normal((S, N, E))
    given = np.triu(np.ones((S, S), bool), 1) if mask == "causal" else bools(S, S)
    padding = bools(N, S) if padded else None
    options = {"need_weights": need_weights, "is_causal": True}
    want, _ = theirs(
        *[torch.from_numpy(x)] * 3,
        key_padding_mask=None if padding is None else torch.from_numpy(padding),
        attn_mask=torch.from_numpy(given),
        **options,
    )
    got, _ = ours(*[jnp.asarray(x)] * 3, key_padding_mask=padding, attn_mask=given, **options)
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=0, atol=1e-13)


# --- initial values -----------------------------------------------------------------------------


def test_initial_values_have_torchs_distributions():
    width = 96
    torch.manual_seed(0)
    for options in ({}, {"kdim": 40, "vdim": 200}):
        theirs = tnn.MultiheadAttention(width, 2, add_bias_kv=True, **options).state_dict()
        layer = nn.MultiheadAttention(width, 2, add_bias_kv=True, **options, rngs=nnx.Rngs(0))
        leaves = {name: getattr(layer, name) for name in vars(layer) if hasattr(layer, name)}
        ours = {
            name.replace("kernel", "weight"): np.asarray(leaf.get_value())
            for name, leaf in leaves.items()
            if isinstance(leaf, nnx.Param)
        }
        ours["out_proj.weight"] = np.asarray(layer.out_proj.kernel[...])
        ours["out_proj.bias"] = np.asarray(layer.out_proj.bias[...])
        assert set(ours) == set(theirs)
        for name, want in theirs.items():
            assert abs(ours[name].std() - want.std().item()) <= 0.25 * want.std().item(), name
            if want.ndim == 2:  # uniform: the bound is reached and kept
                limit = want.abs().max().item()
                assert 0.97 * limit <= np.abs(ours[name]).max() <= 1.03 * limit, name


# --- dtypes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [{}, NO])
def test_half_precision_is_no_further_from_the_truth_than_torchs(call):
    theirs = tnn.MultiheadAttention(64, 4).bfloat16()
    ours = nn.MultiheadAttention(64, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    to_flax(theirs, ours)
    x = torch.randn(33, 3, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.from_numpy(bools(33, 33))
    got, _ = ours(*[jnp.asarray(x.float().numpy()).astype(jnp.bfloat16)] * 3, **call,
                  attn_mask=jnp.asarray(mask.numpy()))  # fmt: skip
    of_torch = theirs(x, x, x, attn_mask=mask, **call)[0].detach().double().numpy()
    theirs.double()
    truth = theirs(*[x.double()] * 3, attn_mask=mask, **call)[0].detach().numpy()
    assert got.dtype == jnp.bfloat16
    error, limit = (np.linalg.norm(np.asarray(a, np.float64) - truth) for a in (got, of_torch))
    assert error <= 2 * limit + 2 * 2**-8 * np.linalg.norm(truth)


def test_dtype_is_the_dtype_of_the_arithmetic():
    layer = nn.MultiheadAttention(8, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    out, weights = layer(*[jnp.ones((5, 3, 8))] * 3, attn_mask=jnp.zeros((5, 5)))
    assert (out.dtype, weights.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert layer.in_proj_kernel.dtype == jnp.float32


# --- refusals -----------------------------------------------------------------------------------

X, Y = np.ones(QUERY, np.float32), np.ones(KEY, np.float32)
REFUSED = {
    "four-axes": ((X[None], Y, Y), {}, ValueError, "query must have 3 axes"),
    "mixed-ranks": ((X, Y[:, 0], Y[:, 0]), {}, ValueError, "key must have 3 axes"),
    "query-width": ((X[..., :6], Y, Y), {}, ValueError, "query must have 12 features"),
    "key-width": ((X, Y[..., :6], Y[..., :6]), {}, ValueError, "key must have 12 features"),
    "lengths": ((X, Y, Y[:3]), {}, ValueError, "differ in length: 6 and 3"),
    "batches": ((X, Y[:, :1], Y[:, :1]), {}, ValueError, "one batch size, got 2, 1, 1"),
    "padding-rank": ((X, Y, Y), {"key_padding_mask": bools(S)}, ValueError, "must have 2 axes"),
    "padding-shape": ((X, Y, Y), {"key_padding_mask": bools(N, L)}, ValueError, r"\(2, 6\)"),
    "mask-rank": ((X, Y, Y), {"attn_mask": bools(1, 1, L, S)}, ValueError, "2 or 3 axes"),
    "mask-shape": ((X, Y, Y), {"attn_mask": bools(S, L)}, ValueError, r"\(4, 6\)"),
    "mask-heads": ((X, Y, Y), {"attn_mask": bools(N, L, S)}, ValueError, r"\(6, 4, 6\)"),
    "mask-integers": ((X, Y, Y), {"attn_mask": np.ones((L, S), int)}, TypeError, "bool or float"),
    "promise": ((X, Y, Y), {"is_causal": True}, ValueError, "generate_square_subsequent_mask"),
    "integers": ((X.astype(int), Y, Y), {}, TypeError, "floating point input"),
}


@pytest.mark.parametrize("id", REFUSED)
def test_both_refuse(id):
    arrays, kwargs, error, text = REFUSED[id]
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v
               for k, v in kwargs.items()}  # fmt: skip
    with pytest.raises((AssertionError, RuntimeError)):
        tnn.MultiheadAttention(E, H)(*(torch.from_numpy(a) for a in arrays), **tensors)
    layer = nn.MultiheadAttention(E, H, rngs=nnx.Rngs(0))
    here = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    with pytest.raises(error, match=text):
        layer(*(jnp.asarray(a) for a in arrays), **here)


@pytest.mark.parametrize("sizes", [(0, 2), (4, 0), (-4, 2), (4, -2), (5, 2)])
def test_both_refuse_to_build(sizes):
    with pytest.raises((ValueError, AssertionError)):
        tnn.MultiheadAttention(*sizes)
    with pytest.raises(ValueError, match=f"embed_dim={sizes[0]} and num_heads={sizes[1]}"):
        nn.MultiheadAttention(*sizes, rngs=nnx.Rngs(0))


def test_both_refuse_a_wrong_dropout_when_it_is_used():
    with pytest.raises(ValueError, match="between 0 and 1"):
        tnn.MultiheadAttention(E, H, 1.5)(*[torch.ones(QUERY)] * 3)
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.MultiheadAttention(E, H, 1.5, rngs=nnx.Rngs(0))(*[jnp.ones(QUERY)] * 3)
