"""torch's masks replayed through the layers, and the layers' own masks judged by statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from scipy.stats import binom
from torch import nn as tnn

from fluxmod import nn
from fluxmod._errors import ReplayError
from fluxmod.nn import functional as F
from fluxmod.nn._random import replay
from parity_tests.nn.cases import Case, case_and_check, run
from parity_tests.nn.twins import input_to_torch_axes, to_flax_axes

PAIRS = {
    "Dropout": (tnn.Dropout, nn.Dropout),
    "Dropout1d": (tnn.Dropout1d, nn.Dropout1d),
    "Dropout2d": (tnn.Dropout2d, nn.Dropout2d),
    "Dropout3d": (tnn.Dropout3d, nn.Dropout3d),
    "AlphaDropout": (tnn.AlphaDropout, nn.AlphaDropout),
    "FeatureAlphaDropout": (tnn.FeatureAlphaDropout, nn.FeatureAlphaDropout),
}
SHAPES = {"Dropout": (4, 5), "Dropout1d": (4, 3, 7), "Dropout2d": (4, 3, 5, 7),
          "Dropout3d": (2, 3, 5, 7, 4), "AlphaDropout": (4, 5),
          "FeatureAlphaDropout": (4, 3, 5, 7)}  # fmt: skip
CHANCE = 1e-6
"""How often a correct sampler may fail a test, were its key not fixed."""


def draw(module, x, seed=0):
    """Output of a torch layer and the mask it drew for it."""
    torch.manual_seed(seed)
    out = module(x)
    torch.manual_seed(seed)
    return out, module(torch.ones_like(x)) != 0


# --- parity: evaluation and the edges of p in every check, masks replayed in training ------------


CASES = [
    Case(f"{name}-{id}", theirs, ours, (p,), {}, SHAPES[name], train=train)
    for name, (theirs, ours) in PAIRS.items()
    for id, p, train in [("eval", 0.3, False), ("p0", 0.0, True), ("p1", 1.0, True)]
] + [
    Case("printed", tnn.Dropout, nn.Dropout, (), {"p": 0.25, "inplace": True}, (3, 4), train=False)
]


@pytest.mark.parametrize(("case", "check"), case_and_check(CASES), ids=str)
def test_layer(case, check):
    run(case, check)


REPLAYED = [
    ("Dropout", (6,)),
    ("Dropout", (4, 5)),
    ("Dropout", (2, 5, 3)),
    ("Dropout", (2, 3, 5, 7)),
    ("Dropout1d", (4, 3, 7)),
    ("Dropout1d", (3, 7)),
    ("Dropout2d", (4, 3, 5, 7)),
    ("Dropout3d", (2, 3, 5, 7, 4)),
    ("Dropout3d", (3, 5, 7, 4)),
]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("name", "shape"), REPLAYED)
def test_torchs_mask_gives_torchs_numbers(name, shape, p, x64):
    theirs, ours = PAIRS[name][0](p), PAIRS[name][1](p)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape)).requires_grad_()
    want, mask = draw(theirs, x)
    want.sum().backward()
    if name != "Dropout":  # torch draws one number per channel, with a batch axis in front
        mask = mask.reshape(mask.shape if len(shape) == len(SHAPES[name]) else (1, *mask.shape))
        mask = mask.flatten(2)[..., :1].reshape(*mask.shape[:2], *[1] * (mask.ndim - 2))
    given = jnp.asarray(to_flax_axes(ours, 0, x.detach().numpy()))

    def total(given):
        with replay([mask.numpy()]):
            out = ours(given)
        return out.sum(), out

    grad, got = jax.grad(total, has_aux=True)(given)
    assert got.dtype == jnp.float64
    np.testing.assert_array_equal(input_to_torch_axes(ours, 0, got), want.detach().numpy())
    np.testing.assert_array_equal(input_to_torch_axes(ours, 0, grad), x.grad.numpy())


def test_dropout2d_takes_rank_3_as_a_batch_as_torch_does():
    x = torch.ones(4, 3, 7)
    with pytest.warns(UserWarning, match="3D input"):
        want, mask = draw(tnn.Dropout2d(0.5), x)
    ours = nn.Dropout2d(0.5)
    with replay([mask[..., :1].numpy()]):
        got = ours(jnp.moveaxis(jnp.ones((4, 3, 7)), 1, -1))
    np.testing.assert_array_equal(np.moveaxis(got, -1, 1), want.numpy())


def test_a_plain_dropout_on_a_feature_map_gets_torchs_mask_channels_last():
    x = torch.ones(2, 3, 5, 7)
    want, mask = draw(tnn.Dropout(0.5), x)
    with replay([mask.numpy()]):
        got = nn.Dropout(0.5)(jnp.ones((2, 5, 7, 3)))
    np.testing.assert_array_equal(np.moveaxis(got, -1, 1), want.numpy())


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_dropped_infinities_give_nan_as_in_torch(bad, p):
    x = torch.full((64,), bad)
    want, _ = draw(tnn.Dropout(p), x)
    _, mask = draw(tnn.Dropout(p), torch.ones(64))
    with replay([mask.numpy()] if p < 1 else []):
        got = nn.Dropout(p)(jnp.full(64, bad))
    np.testing.assert_array_equal(got, want.numpy())


def test_bfloat16_stays_bfloat16():
    x = torch.linspace(-3, 3, 64).bfloat16()
    want, mask = draw(tnn.Dropout(0.3), x)
    with replay([mask.float().numpy()]):
        got = nn.Dropout(0.3)(jnp.asarray(x.float().numpy()).astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    # torch rounds 1/(1-p) to bfloat16 or not, by kernel: one unit in the last place
    np.testing.assert_allclose(np.asarray(got, np.float32), want.float().numpy(), rtol=2**-7)


# --- replay refuses what it cannot do -----------------------------------------------------------


def test_replay_needs_as_many_masks_as_draws():
    layer, x = nn.Dropout(0.5), jnp.ones(3)

    def use(masks, calls):
        with replay([np.ones(3)] * masks):
            for _ in range(calls):
                layer(x)

    use(2, 2)
    with pytest.raises(ReplayError, match="mask 2 was asked for"):
        use(1, 2)
    with pytest.raises(ReplayError, match="1 masks were used of the 2"):
        use(2, 1)


def test_replay_refuses_a_mask_that_fits_both_ways_or_none():
    layer = nn.Dropout(0.5)
    mask = np.triu(np.ones((2, 4, 4)))

    def use(mask, shape):
        with replay([mask]):
            layer(jnp.ones(shape))

    with pytest.raises(ReplayError, match="both"):
        use(mask, (2, 4, 4))
    with pytest.raises(ReplayError, match="different arrays"):
        use(np.ones((2, 5)), (2, 6))


# --- the sampler --------------------------------------------------------------------------------


def within_binomial(kept: int, n: int, keep: float) -> bool:
    low, high = binom.ppf([CHANCE / 2, 1 - CHANCE / 2], n, keep)
    return bool(low <= kept <= high)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_rate_scale_and_mean(p):
    n = 200_000
    out = np.asarray(nn.Dropout(p, rngs=nnx.Rngs(1))(jnp.ones(n)))
    kept = out != 0
    assert within_binomial(int(kept.sum()), n, 1 - p)
    np.testing.assert_allclose(out[kept], 1 / (1 - p), rtol=1e-6)
    # mean 1, variance p / (1 - p); 4.9 deviations are p < 1e-6
    assert abs(out.mean() - 1) < 4.9 * np.sqrt(p / (1 - p) / n)


def test_neighbours_and_calls_are_independent():
    n = 100_000
    drop = nn.Dropout(0.5, rngs=nnx.Rngs(2))
    first, second = (np.asarray(drop(jnp.ones(n))) != 0 for _ in range(2))
    assert within_binomial(int((first == second).sum()), n, 0.5)
    assert within_binomial(int((first[1:] == first[:-1]).sum()), n - 1, 0.5)


def test_the_same_seed_gives_the_same_masks():
    a, b = (nn.Dropout(0.5, rngs=nnx.Rngs(3)) for _ in range(2))
    for _ in range(3):
        np.testing.assert_array_equal(a(jnp.ones(64)), b(jnp.ones(64)))


def test_calls_differ_under_jit():
    drop = nn.Dropout(0.5, rngs=nnx.Rngs(3))
    compiled = nnx.jit(lambda m, x: m(x))
    outs = [np.asarray(compiled(drop, jnp.ones(64))) for _ in range(2)]
    assert not np.array_equal(*outs)


@pytest.mark.parametrize(
    ("name", "shape", "space"),
    [
        ("Dropout1d", (400, 7, 50), (1,)),
        ("Dropout1d", (7, 5000), (0,)),
        ("Dropout2d", (400, 4, 3, 50), (1, 2)),
        ("Dropout2d", (400, 6, 50), (1,)),
        ("Dropout3d", (400, 2, 3, 2, 50), (1, 2, 3)),
        ("Dropout3d", (2, 3, 2, 5000), (0, 1, 2)),
    ],
)
def test_whole_channels_are_dropped_each_on_its_own(name, shape, space):
    out = np.asarray(PAIRS[name][1](0.3, rngs=nnx.Rngs(4))(jnp.ones(shape)))
    assert (out.max(space) == out.min(space)).all()
    channels = out.max(space) != 0
    assert within_binomial(int(channels.sum()), channels.size, 0.7)
    pairs = channels.reshape(-1)
    same = int((pairs[1:] == pairs[:-1]).sum())
    assert within_binomial(same, pairs.size - 1, 0.7**2 + 0.3**2)


# --- modes, sources of randomness, errors -------------------------------------------------------


def test_training_without_randomness_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"rngs=nnx.Rngs"):
        nn.Dropout(0.5)(jnp.ones(3))
    assert nn.Dropout(0.0)(jnp.ones(3)).tolist() == [1, 1, 1]


def test_randomness_may_be_given_to_the_call():
    drop = nn.Dropout(0.5)
    for source in (nnx.Rngs(0), nnx.Rngs(dropout=0), nnx.Rngs(0).dropout, jax.random.key(0)):
        assert set(np.unique(drop(jnp.ones(64), rngs=source))) == {0.0, 2.0}


def test_the_call_may_choose_the_mode():
    drop = nn.Dropout(0.5, rngs=nnx.Rngs(0))
    assert (np.asarray(drop(jnp.ones(64), deterministic=True)) == 1).all()
    drop.eval()
    assert 0 in np.asarray(drop(jnp.ones(64), deterministic=False))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_is_refused_as_in_torch(p):
    if p == p:
        with pytest.raises(ValueError, match="between 0 and 1"):
            tnn.Dropout(p)
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(p)
    with pytest.raises(ValueError, match="between 0 and 1"):
        F.dropout(jnp.ones(3), p, rngs=jax.random.key(0))


def test_a_wrong_rank_is_refused():
    with pytest.raises(RuntimeError, match="Expected 2D or 3D"):
        tnn.Dropout1d(0.5)(torch.ones(3))
    with pytest.warns(UserWarning, match="will result in an error"):  # ours is one already
        tnn.Dropout3d(0.5)(torch.ones(2, 3, 4))
    for layer, shape in [(nn.Dropout1d, (3,)), (nn.Dropout2d, (3, 4)), (nn.Dropout3d, (2, 3, 4))]:
        with pytest.raises(ValueError, match="axes"):
            layer(0.5, rngs=nnx.Rngs(0))(jnp.ones(shape))


def test_it_is_an_nnx_dropout():
    drop = nn.Dropout(0.25)
    assert isinstance(drop, nnx.Dropout)
    assert (drop.p, drop.rate) == (0.25, 0.25)


def test_random_state_is_no_weight():
    from fluxmod import convert

    net = nn.Sequential(nn.Linear(2, 2, rngs=nnx.Rngs(0)), nn.Dropout(0.5, rngs=nnx.Rngs(0)))
    assert list(convert.to_torch(net)) == ["0.weight", "0.bias"]
