from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn as tnn

from fluxmod import nn
from parity_tests.nn.cases import CHECKS, Case, both_raise, run


def flat(id, *args, x, flax=None, **extra):
    """``flax``: the arguments there, where axes are counted in the Flax array."""
    return Case(
        id, tnn.Flatten, nn.Flatten, args, {}, x, flax_args=flax, flax_kwargs=extra,
        skip={"repr": "the text shows other axes"} if flax else {},
    )  # fmt: skip


def unflat(id, dim, sizes, *, x, **extra):
    return Case(id, tnn.Unflatten, nn.Unflatten, (dim, sizes), {}, x, flax_kwargs=extra)


CASES = [
    flat("image", x=(2, 3, 5, 7)),
    flat("volume", x=(2, 3, 5, 7, 4)),
    flat("one-pixel", x=(2, 3, 1, 1)),
    flat("matrix", x=(2, 3)),
    flat("rank-3-is-no-map", x=(2, 3, 5)),
    flat("sequence-map", x=(2, 3, 5), channels_last=True),
    flat("rank-4-that-is-no-map", x=(2, 3, 5, 7), channels_last=False),
    flat("vector", 0, x=(4,)),
    flat("scalar", 0, x=()),
    flat("all-of-rank-3", 0, x=(2, 3, 5)),
    flat("first-two", 0, 1, x=(2, 3, 5)),
    flat("all-but-last", 0, -2, x=(2, 3, 5)),
    flat("negative-start", -2, x=(2, 3, 5)),
    flat("space-of-an-image", 2, x=(2, 3, 5, 7), flax=(1, 2)),
    flat("space-of-an-image-negative", 2, x=(2, 3, 5, 7), flax=(1, -2)),
    flat("space-of-a-volume", 2, x=(2, 3, 5, 7, 4), flax=(1, -2)),
    flat("part-of-the-space-of-a-volume", 2, 3, x=(2, 3, 5, 7, 4), flax=(1, 2)),
    flat("empty-batch", x=(0, 3, 5, 7)),
    unflat("image", 1, (3, 5, 7), x=(2, 105)),
    unflat("volume", 1, (3, 5, 7, 2), x=(2, 210)),
    unflat("image-from-the-last", -1, (3, 5, 7), x=(2, 105)),
    unflat("image-inferred", 1, (3, -1, 7), x=(2, 105)),
    unflat("heads", 1, (3, 5), x=(2, 15)),
    unflat("heads-of-a-sequence", -1, (3, 5), x=(2, 4, 15)),
    unflat("heads-of-a-sequence-counted", 2, (3, 5), x=(2, 4, 15)),
    unflat("rows", 0, (2, 3), x=(6, 4)),
    unflat("no-map", 1, (3, 5, 7), x=(2, 105), channels_last=False),
    unflat("sequence-map", 1, (3, 5), x=(2, 15), channels_last=True),
]
OF_WEIGHTS = ("param_grads", "state", "round_trip")  # and there are none


@pytest.mark.parametrize(
    ("case", "check"),
    [(c, check) for c in CASES for check in CHECKS if check not in (*OF_WEIGHTS, *c.skip)],
    ids=str,
)
def test_layer(case, check):
    run(case, check)


REFUSED = [
    (flat("backwards", 2, 1, x=(2, 3, 4)), ValueError),
    (flat("start-too-high", 3, x=(2, 3, 4)), IndexError),
    (flat("vector-from-1", x=(4,)), IndexError),
    (flat("scalar-from-1", x=()), IndexError),
    (flat("end-too-low", 0, -4, x=(2, 3, 4)), IndexError),
    (unflat("sizes-too-large", 1, (2, 4), x=(2, 6)), ValueError),
    (unflat("two-inferred", 1, (-1, -1), x=(2, 6)), ValueError),
    (unflat("negative", 1, (-2, -3), x=(2, 6)), ValueError),
    (unflat("inferred-beside-0", 1, (0, -1), x=(2, 6)), ValueError),
    (unflat("inferred-not-whole", 1, (4, -1), x=(2, 6)), ValueError),
    (unflat("no-sizes", 1, (), x=(2, 6)), ValueError),
    (unflat("axis-too-high", 5, (2, 3), x=(2, 6)), IndexError),
    (unflat("one-int", 1, 5, x=(2, 5)), TypeError),
    (unflat("floats", 1, (2.0, 3), x=(2, 6)), TypeError),
]


@pytest.mark.parametrize(("case", "error"), REFUSED, ids=lambda v: str(getattr(v, "id", "")))
def test_refused_as_in_torch(case, error):
    both_raise(case, error)


def test_named_dimensions_are_refused_with_a_reason():
    with pytest.raises(TypeError, match="tuple of ints"):
        nn.Unflatten("features", (("a", 2), ("b", 3)))


@pytest.mark.parametrize(("start", "end"), [(0, -1), (2, -1), (0, 1), (1, -1)])
def test_a_range_that_would_mix_channels_and_space_is_refused(start, end):
    x = jnp.ones((2, 5, 7, 3))
    if (start, end) == (1, -1):
        assert nn.Flatten(start, end)(x).shape == (2, 105)
        return
    with pytest.raises(ValueError, match="channels_last=False"):
        nn.Flatten(start, end)(x)


def test_the_next_linear_has_torchs_weight_unpermuted():
    """The order of features after a flatten is torch's, element by element."""
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    want = torch.flatten(torch.from_numpy(x), 1).numpy()
    got = nn.Flatten()(jnp.moveaxis(jnp.asarray(x), 1, -1))
    np.testing.assert_array_equal(got, want)
    back = nn.Unflatten(1, (3, 4, 5))(got)
    np.testing.assert_array_equal(jnp.moveaxis(back, -1, 1), x)
