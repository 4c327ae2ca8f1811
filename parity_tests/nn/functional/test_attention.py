"""scaled_dot_product_attention against torch, in torch's own layout."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fluxmod.nn import functional as F
from parity_tests.nn.functional.both import equal, torch_samples

THEIRS = torch.nn.functional.scaled_dot_product_attention
OURS = F.scaled_dot_product_attention

# N 2, H 3, L 4, S 6, D 5, Dv 7: all differ
Q, K, V = (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)


def arrays(*shapes, mask=None, seed=0):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape) for shape in shapes)
    return {"query": q, "key": k, "value": v, "attn_mask": mask}


def bools(*shape, empty_row=False):
    mask = np.random.default_rng(1).random(shape) < 0.6
    mask[..., 0] = True
    if empty_row:
        mask[..., 1, :] = False
    return mask


def floats(*shape, empty_row=False):
    mask = np.random.default_rng(2).standard_normal(shape)
    mask[..., 0, 3] = -np.inf
    if empty_row:
        mask[..., 1, :] = -np.inf
    return mask


CASES = {
    "plain": (arrays(Q, K, K), {}),
    "other-value-width": (arrays(Q, K, V), {}),
    "matrices": (arrays((4, 5), (6, 5), (6, 5)), {}),
    "three-axes": (arrays((3, 4, 5), (3, 6, 5), (3, 6, 7)), {}),
    "five-axes": (arrays((2, *Q), (2, *K), (2, *V)), {"is_causal": True}),
    "broadcast-heads": (arrays(Q, (2, 1, 6, 5), (2, 1, 6, 7)), {}),
    "broadcast-rank": (arrays((3, 4, 5), K, V), {}),
    "scale": (arrays(Q, K, V), {"scale": 0.3}),
    "scale-negative": (arrays(Q, K, V), {"scale": -0.3}),
    "scale-zero": (arrays(Q, K, V), {"scale": 0.0}),
    "causal-wide": (arrays(Q, K, K), {"is_causal": True}),
    "causal-tall": (arrays((2, 3, 6, 5), Q, Q), {"is_causal": True}),
    "bool": (arrays(Q, K, V, mask=bools(2, 3, 4, 6)), {}),
    "bool-2d": (arrays(Q, K, V, mask=bools(4, 6)), {}),
    "bool-broadcast": (arrays(Q, K, V, mask=bools(2, 1, 1, 6)), {}),
    "bool-empty-row": (arrays(Q, K, V, mask=bools(4, 6, empty_row=True)), {}),
    "bool-nothing": (arrays(Q, K, V, mask=np.zeros((4, 6), bool)), {}),
    "float": (arrays(Q, K, V, mask=floats(2, 3, 4, 6)), {}),
    "float-2d": (arrays(Q, K, V, mask=floats(4, 6)), {}),
    "float-empty-row": (arrays(Q, K, V, mask=floats(4, 6, empty_row=True)), {}),
    "float-1d": (arrays((3, 4, 5), (3, 6, 5), (3, 6, 5), mask=np.arange(6.0)), {}),
    "gqa": (arrays((2, 6, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)), {"enable_gqa": True}),
    "gqa-key-and-value-differ": (
        arrays((2, 6, 4, 5), (2, 3, 6, 5), (2, 2, 6, 5), mask=bools(4, 6)),
        {"enable_gqa": True},
    ),
    "gqa-one-head": (arrays((6, 4, 5), (1, 6, 5), (1, 6, 5)), {"enable_gqa": True}),
    "no-keys": (arrays(Q, (2, 3, 0, 5), (2, 3, 0, 7)), {}),
    "no-queries": (arrays((2, 3, 0, 5), K, V), {}),
    "no-batch": (arrays((0, 3, 4, 5), (0, 3, 6, 5), (0, 3, 6, 7)), {}),
    "large-scores": (arrays((2, 3, 4, 500), (2, 3, 6, 500), V), {"scale": 30.0}),
    "dropout": (arrays(Q, K, V), {"dropout_p": 0.4}),
    "dropout-mask": (arrays(Q, K, V, mask=bools(4, 6, empty_row=True)), {"dropout_p": 0.4}),
    "dropout-all": (arrays(Q, K, V), {"dropout_p": 1.0}),
}


@pytest.mark.parametrize("id", CASES)
def test_outputs_and_gradients(id):
    given, kwargs = CASES[id]
    masks = equal(THEIRS, OURS, given, **kwargs)
    assert len(masks) == (0 < kwargs.get("dropout_p", 0.0) < 1)


@pytest.mark.parametrize("index", range(25))
def test_torchs_own_samples(index):
    samples = torch_samples("nn.functional.scaled_dot_product_attention")
    assert len(samples) == 25
    inputs, kwargs = samples[index]
    given = dict(zip(("query", "key", "value"), inputs, strict=True))
    equal(THEIRS, OURS, given | {"attn_mask": kwargs.pop("attn_mask", None)}, **kwargs)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("masked", [False, True])
def test_no_further_from_the_truth_than_torch_in_lower_precision(dtype, masked):
    exact = [
        torch.randn(2, 4, n, 32, generator=torch.Generator().manual_seed(n)).to(
            getattr(torch, dtype)
        )
        for n in (65, 70, 70)
    ]
    mask = torch.from_numpy(bools(65, 70)) if masked else None
    truth = THEIRS(*(t.double() for t in exact), attn_mask=mask).numpy()
    theirs = THEIRS(*exact, attn_mask=mask).double().numpy()
    given = [jnp.asarray(t.float().numpy()).astype(dtype) for t in exact]
    got = OURS(*given, None if mask is None else jnp.asarray(mask.numpy()))
    assert got.dtype == dtype
    of_torch, of_ours = (np.linalg.norm(x - truth) for x in (theirs, np.asarray(got, np.float64)))
    eps = float(jnp.finfo(dtype).eps)
    assert of_ours <= 2 * of_torch + 2 * eps * np.linalg.norm(truth)


def test_a_mask_may_be_narrower_than_the_query_as_in_torch(x64):
    given = arrays(Q, K, V, mask=floats(4, 6).astype(np.float32))
    want = THEIRS(*(torch.from_numpy(a) for a in given.values()))
    got = OURS(*(jnp.asarray(a) for a in given.values()))
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-14)


def test_masked_garbage_spreads_as_in_torch():
    """An infinite score at a masked position is NaN in both: the mask is added, not selected."""
    q = np.ones((1, 1, 2, 3))
    k = np.ones((1, 1, 4, 3))
    k[..., 3, :] = np.inf
    mask = np.array([[True, True, True, False], [True, True, False, True]])
    want = THEIRS(*(torch.from_numpy(a) for a in (q, k, np.ones_like(k), mask)), dropout_p=0.0)
    with jax.enable_x64(True):
        got = OURS(*(jnp.asarray(a) for a in (q, k, np.ones_like(k), mask)))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want.numpy()))


REFUSED = {
    "widths": (arrays(Q, (2, 3, 6, 4), V), {}, ValueError, "width"),
    "lengths": (arrays(Q, K, (2, 3, 5, 7)), {}, ValueError, "length"),
    "vector": (arrays((5,), (6, 5), (6, 5)), {}, ValueError, "at least 2 axes"),
    "mask-shape": (arrays(Q, K, V, mask=bools(4, 5)), {}, ValueError, "broadcast"),
    "mask-larger": (
        arrays((3, 4, 5), (3, 6, 5), (3, 6, 5), mask=floats(2, 3, 4, 6)),
        {"dropout_p": 0.5},
        ValueError,
        "broadcast",
    ),
    "mask-and-causal": (
        arrays(Q, K, V, mask=floats(4, 6)),
        {"is_causal": True, "dropout_p": 0.5},
        ValueError,
        "exclude",
    ),
    "mask-integers": (arrays(Q, K, V, mask=np.ones((4, 6), int)), {}, TypeError, "bool or float"),
    "gqa-heads": (
        arrays((2, 5, 4, 5), (2, 3, 6, 5), (2, 3, 6, 5)),
        {"enable_gqa": True},
        ValueError,
        "divide",
    ),
    "gqa-matrices": (
        arrays((4, 5), (6, 5), (6, 5)),
        {"enable_gqa": True},
        ValueError,
        "at least 3 axes",
    ),
    "probability": (arrays(Q, K, V), {"dropout_p": 1.5}, ValueError, "between 0 and 1"),
}


@pytest.mark.parametrize("id", REFUSED)
def test_both_refuse(id, x64):
    given, kwargs, error, text = REFUSED[id]
    tensors = {k: None if v is None else torch.from_numpy(v) for k, v in given.items()}
    with pytest.raises((RuntimeError, IndexError)):
        THEIRS(**tensors, **kwargs)
    here = {k: None if v is None else jnp.asarray(v) for k, v in given.items()}
    with pytest.raises(error, match=text):
        OURS(**here, **kwargs, rngs=jax.random.key(0))


def test_both_refuse_a_mask_wider_than_the_query_and_mixed_dtypes(x64):
    q, k, v, _ = arrays(Q, K, K).values()
    wide, narrow = floats(4, 6), [a.astype(np.float32) for a in (q, k, v)]
    for given, text in [((*narrow, wide), "no wider"), ((narrow[0], k, v), "one floating dtype")]:
        with pytest.raises(RuntimeError):
            THEIRS(*(torch.from_numpy(a) for a in given))
        with pytest.raises(TypeError, match=text):
            OURS(*(jnp.asarray(a) for a in given))


def test_dropout_without_random_numbers_is_refused():
    given = [jnp.asarray(a) for a in list(arrays(Q, K, V).values())[:3]]
    with pytest.raises(ValueError, match="rngs"):
        OURS(*given, dropout_p=0.5)


def test_dropout_draws_from_the_key():
    given = [jnp.asarray(a) for a in list(arrays(Q, K, V).values())[:3]]
    first, again, other = (OURS(*given, dropout_p=0.5, rngs=jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


class Card:
    """An NVIDIA card, as far as the choice looks at it."""

    platform, compute_capability = "gpu", "9.0"

    class client:
        platform_version = "PJRT C API cuda 12090"


@pytest.fixture
def kernel(monkeypatch):
    """Have the choice see a card; its kernel is XLA's attention, which counts its calls."""
    attention, calls = jax.nn.dot_product_attention, []

    def fused(*args, implementation, **options):
        assert implementation == "cudnn"
        calls.append(options)
        return attention(*args, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", fused)
    monkeypatch.setattr(jax, "devices", lambda *_: [Card])
    with jax.default_matmul_precision("default"):
        yield calls


def halves(*shapes):
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in shapes)


@pytest.mark.parametrize(
    ("heads", "options"),
    [(4, {}), (4, {"is_causal": True}), (4, {"scale": 0.3}), (2, {"enable_gqa": True})],
)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_the_vendors_kernel_gets_the_same_question(kernel, lead, heads, options):
    q, k, v = halves((*lead, 4, 6, 8), (*lead, heads, 5, 8), (*lead, heads, 5, 8))
    got = OURS(q, k, v, **options)
    assert len(kernel) == 1
    with jax.default_matmul_precision("highest"):
        want = OURS(q, k, v, **options)
    assert len(kernel) == 1
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (got, want)), atol=2**-7)


@pytest.mark.parametrize(
    "case", ["float32", "mask", "dropout", "width 12", "width 136", "value", "heads", "old", "cpu"]
)
def test_the_vendors_kernel_is_left_alone(kernel, case, monkeypatch):
    width = int(case.partition("width ")[2] or 8)
    q, k, v = halves((2, 4, 6, width), (2, 4, 5, width), (2, 4, 5, width))
    options = {}
    if case == "float32":
        q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
    elif case == "mask":
        options = {"attn_mask": jnp.zeros((6, 5), bool)}
    elif case == "dropout":
        options = {"dropout_p": 0.5, "rngs": jax.random.key(0)}
    elif case == "value":
        v = v[..., :3]
    elif case == "heads":
        k, v = k[:, :1], v[:, :1]  # these broadcast
    elif case == "old":
        monkeypatch.setattr(Card, "compute_capability", "7.5")
    elif case == "cpu":
        monkeypatch.setattr(Card, "platform", "cpu")
    OURS(q, k, v, **options)
    assert kernel == []


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
def test_the_vendors_kernel_computes_the_same(causal):
    q, k, v = halves((2, 4, 64, 32), (2, 4, 48, 32), (2, 4, 48, 32))

    def total(q, k, v):
        out = OURS(q, k, v, is_causal=causal)
        return (out.astype(jnp.float32) ** 2).sum(), out

    results = {}
    for precision in ("default", "highest"):
        with jax.default_matmul_precision(precision):
            program = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True))
            is_fused = "cudnn" in program.lower(q, k, v).as_text().lower()
            assert is_fused == (precision == "default")
            grads, out = program(q, k, v)
            results[precision] = [np.asarray(x, np.float32) for x in (out, *grads)]
    for got, want in zip(*results.values(), strict=True):
        np.testing.assert_allclose(got, want, rtol=2**-5, atol=2**-5 * np.abs(want).max())
