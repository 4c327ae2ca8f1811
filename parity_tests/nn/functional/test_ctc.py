"""CTC: every form of its arguments, infeasible alignments, and torch's gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fluxmod.nn import functional as F
from parity_tests.nn.functional.both import equal

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((7, 4, 5))
PROBS = torch.from_numpy(LOGITS).log_softmax(-1).numpy()
LABELS = np.array([[1, 2, 2], [3, 1, 4], [2, 2, 2], [1, 4, 3]])
STEPS, COUNTS = (7, 6, 4, 0), (3, 2, 3, 0)  # sample 2 does not fit: three equal labels, four steps


def both(x=PROBS, labels=LABELS, steps=STEPS, counts=COUNTS, **kwargs):
    def theirs(x):
        return torch.nn.functional.ctc_loss(
            x, torch.from_numpy(np.asarray(labels)), steps, counts, **kwargs
        )

    def ours(x):
        return F.ctc_loss(x, jnp.asarray(labels), steps, counts, **kwargs)

    equal(theirs, ours, {"x": x})


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_with_a_sample_that_does_not_fit(reduction, zero_infinity):
    both(reduction=reduction, zero_infinity=zero_infinity)


def test_lengths_as_arrays_labels_one_after_another():
    flat = np.concatenate([row[:n] for row, n in zip(LABELS, COUNTS, strict=True)])
    tensors = torch.tensor(STEPS), torch.tensor(COUNTS)

    def theirs(x):
        return torch.nn.functional.ctc_loss(x, torch.from_numpy(flat), *tensors, reduction="none")

    def ours(x):
        lengths = jnp.array(STEPS), jnp.array(COUNTS)
        return F.ctc_loss(x, jnp.asarray(flat), *lengths, reduction="none")

    equal(theirs, ours, {"x": PROBS})


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_without_a_batch(reduction):
    both(PROBS[:, 0], LABELS[0], (7,), (3,), reduction=reduction)


def test_another_blank_and_empty_targets():
    both(blank=4, labels=np.where(LABELS == 4, 0, LABELS), reduction="none", steps=(7, 7, 7, 7))
    both(labels=np.zeros((4, 0), np.int64), counts=(0,) * 4, reduction="none")


def test_impossible_classes_give_nan_gradients_where_torch_does():
    x = PROBS.copy()
    x[:, 0, 3] = -np.inf  # not among the labels
    x[2, 1, 3] = -np.inf  # among them
    both(x, reduction="none", zero_infinity=True)


def test_the_gradient_is_that_of_the_logits_behind_a_log_softmax(x64):
    """Against finite differences, which know nothing of torch."""

    def loss(logits):
        probs = jax.nn.log_softmax(logits, -1)
        return F.ctc_loss(probs, jnp.asarray(LABELS), (7, 6, 6, 7), COUNTS, reduction="sum")

    along = jnp.asarray(RNG.standard_normal(LOGITS.shape))
    x = jnp.asarray(LOGITS)
    wanted = (loss(x + 1e-6 * along) - loss(x - 1e-6 * along)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(x), along), wanted, rtol=1e-7)


@pytest.mark.parametrize("form", ["padded", "flat"])
def test_lengths_may_be_traced(form, x64):
    flat = np.concatenate([row[:n] for row, n in zip(LABELS, COUNTS, strict=True)])
    labels = jnp.asarray(LABELS if form == "padded" else flat)
    args = jnp.asarray(PROBS), labels, jnp.array(STEPS), jnp.array(COUNTS)
    np.testing.assert_allclose(
        jax.jit(lambda *a: F.ctc_loss(*a, reduction="none"))(*args),
        F.ctc_loss(*args, reduction="none"),
        rtol=1e-13,
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"x": PROBS[0]}, ValueError),
        ({"x": PROBS[0, 0]}, ValueError),
        ({"steps": (8, 7, 7, 7)}, ValueError),
        ({"steps": (7, 7, 7)}, ValueError),
        ({"counts": (4, 2, 2, 2)}, ValueError),
        ({"counts": (3, -2, 2, 2)}, ValueError),
        ({"labels": LABELS.reshape(-1)}, ValueError),
        ({"blank": 5}, ValueError),
        ({"reduction": "median"}, ValueError),
    ],
)
def test_both_refuse(change, error):
    given = {"x": PROBS, "labels": LABELS, "steps": STEPS, "counts": COUNTS, **change}
    x, labels, steps, counts = (given.pop(k) for k in ("x", "labels", "steps", "counts"))
    with pytest.raises((RuntimeError, ValueError)):
        torch.nn.functional.ctc_loss(
            torch.from_numpy(x), torch.from_numpy(labels), steps, counts, **given
        )
    with pytest.raises(error, match="ctc_loss"):
        F.ctc_loss(jnp.asarray(x), jnp.asarray(labels), steps, counts, **given)


def test_labels_that_are_no_integers_are_refused():
    """torch reads them as what they are not."""
    with pytest.raises(TypeError, match="labels must be integers"):
        F.ctc_loss(jnp.asarray(PROBS), jnp.asarray(LABELS * 1.0), STEPS, COUNTS)


def test_bfloat16_computes_in_float32():
    x = jnp.asarray(PROBS, jnp.bfloat16)
    got = F.ctc_loss(x, jnp.asarray(LABELS), STEPS, COUNTS, reduction="none")
    want = F.ctc_loss(x.astype(jnp.float32), jnp.asarray(LABELS), STEPS, COUNTS, reduction="none")
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, want.astype(jnp.bfloat16))
