from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn as tnn

from fluxmod import convert, nn
from parity_tests.compare import same
from parity_tests.nn.cases import CHECKS, Case, run
from parity_tests.nn.twins import Ints, build, call_flax, flax_inputs, inputs

ARGS = (12, 20, [5, 10, 15], 2.0)


def adaptive(id, x=((9, 12), (9,)), **kwargs):
    return Case(
        id, tnn.AdaptiveLogSoftmaxWithLoss, nn.AdaptiveLogSoftmaxWithLoss, ARGS, kwargs,
        [x[0], Ints(x[1], 20)],
    )  # fmt: skip


CASES = [
    adaptive("plain"),
    adaptive("bias", head_bias=True),
    adaptive("one", ((12,), ())),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer(case, check):
    run(case, check)


def test_all_log_probabilities_and_the_prediction(x64):
    theirs, ours = build(adaptive("all", ((40, 12), (40,))))
    (x, _) = inputs(adaptive("all", ((40, 12), (40,))))
    want = theirs.log_prob(torch.from_numpy(x))
    same({"log_prob": ours.log_prob(jnp.asarray(x))}, {"log_prob": want})
    np.testing.assert_array_equal(
        ours.predict(jnp.asarray(x)), theirs.predict(torch.from_numpy(x)).numpy()
    )


def test_a_prediction_from_the_head_stays_in_the_shortlist(x64):
    """torch looks into clusters only where the head points at one."""
    theirs, ours = build(adaptive("head"))
    for i, (_, weights) in enumerate(theirs.tail):
        weights.weight.data[:] = 0
        theirs.head.weight.data[5 + i] = theirs.head.weight.data[0] * (1 + 0.01 * i)
    convert.to_flax(theirs, ours)
    x = np.random.default_rng(0).standard_normal((50, 12))
    got = ours.predict(jnp.asarray(x))
    np.testing.assert_array_equal(got, theirs.predict(torch.from_numpy(x)).numpy())


def test_keys_are_torchs():
    ours = nn.AdaptiveLogSoftmaxWithLoss(*ARGS, head_bias=True, rngs=nnx.Rngs(0))
    wanted = tnn.AdaptiveLogSoftmaxWithLoss(*ARGS, head_bias=True).state_dict()
    assert list(convert.to_torch(ours)) == list(wanted)
    assert "tail.0.0.weight" in wanted


@pytest.mark.parametrize("cutoffs", [[], [0], [5, 5], [5, 3], [20], [2.5]])
def test_cutoffs_that_both_refuse(cutoffs):
    with pytest.raises(ValueError, match="cutoffs"):
        tnn.AdaptiveLogSoftmaxWithLoss(12, 20, cutoffs)
    with pytest.raises(ValueError, match="cutoffs"):
        nn.AdaptiveLogSoftmaxWithLoss(12, 20, cutoffs, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "shapes", [((3, 12), (4,)), ((12,), (1,)), ((3, 12), ()), ((3, 12), (3, 1))]
)
def test_shapes_that_both_refuse(shapes):
    x, y = (np.zeros(s) for s in shapes)
    with pytest.raises(RuntimeError):
        tnn.AdaptiveLogSoftmaxWithLoss(*ARGS)(torch.from_numpy(x), torch.from_numpy(y).long())
    with pytest.raises(ValueError, match="AdaptiveLogSoftmaxWithLoss"):
        nn.AdaptiveLogSoftmaxWithLoss(*ARGS, rngs=nnx.Rngs(0))(
            jnp.asarray(x), jnp.asarray(y, jnp.int32)
        )


def test_targets_out_of_range():
    ours = nn.AdaptiveLogSoftmaxWithLoss(*ARGS, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 12))
    with pytest.raises(IndexError, match="targets must lie in"):
        ours(x, jnp.array([1, 20]))
    output = jax.jit(lambda y: ours(x, y).output)(jnp.array([1, 20]))
    np.testing.assert_array_equal(jnp.isnan(output), [False, True])
    assert call_flax(ours, CASES[0], flax_inputs(ours, [np.ones((2, 12)), np.array([1, 2])]))
