"""Margin losses at their kinks, with broadcasting, weights and labels in every form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as T

from fluxmod.nn import functional as F
from parity_tests.nn.functional.both import equal

X = np.array([[0.5, -0.5, 0.5, 1.5], [2.0, 1.0, 0.0, -1.0], [0.0, 1.0, 0.0, 1.0]])
"""Values whose differences are 0, 1 and 2: on the kink of a margin of 1."""
SIGNS = np.array([[1, -1, 1, -1], [-1, 1, 1, -1], [1, 1, -1, -1]])
LABELS = np.array([[3, 0, -1, 1], [1, -1, 5 % 4, 2], [-1, 0, 1, 2]])
REDUCTIONS = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])


def agree(name, arrays, **kwargs):
    equal(getattr(T, name), getattr(F, name), arrays, **kwargs)


@REDUCTIONS
def test_hinge_and_ranking_on_their_kinks(reduction):
    agree("hinge_embedding_loss", {"input": X, "target": SIGNS}, reduction=reduction)
    arrays = {"input1": X, "input2": X[::-1].copy(), "target": SIGNS}
    agree("margin_ranking_loss", arrays, margin=1.0, reduction=reduction)


def test_ranking_broadcasts():
    agree("margin_ranking_loss", {"input1": X, "input2": X[:1], "target": SIGNS[:, :1]})


@REDUCTIONS
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_multi_margin(reduction, p, weighted):
    weight = torch.arange(1.0, 5.0).double() if weighted else None
    labels = np.array([3, 0, 1])

    def theirs(input):
        return T.multi_margin_loss(
            input, torch.from_numpy(labels), p, 1.0, weight, reduction=reduction
        )

    def ours(input):
        given = None if weight is None else jnp.asarray(weight.numpy())
        return F.multi_margin_loss(input, jnp.asarray(labels), p, 1.0, given, reduction=reduction)

    equal(theirs, ours, {"input": X})


@REDUCTIONS
@pytest.mark.parametrize("labels", [LABELS, np.array([[0, 0, 2, -1]] * 3)], ids=["any", "twice"])
def test_multilabel_margin_reads_labels_up_to_minus_one(reduction, labels):
    agree("multilabel_margin_loss", {"input": X, "target": labels}, reduction=reduction)
    agree("multilabel_margin_loss", {"input": X[0], "target": labels[0]}, reduction=reduction)


@pytest.mark.parametrize("label", [np.array(1), np.array([1])], ids=["scalar", "vector"])
def test_multi_margin_of_one_row(label):
    agree("multi_margin_loss", {"input": X[0], "target": label}, reduction="none")


@REDUCTIONS
def test_multilabel_soft_margin_with_weight(reduction):
    arrays = {"input": X, "target": (SIGNS > 0).astype(float), "weight": X[1] + 2}
    agree("multilabel_soft_margin_loss", arrays, reduction=reduction)


def test_soft_margin_overflows_where_torch_does():
    x = np.array([800.0, -800.0, 1.0])
    agree("soft_margin_loss", {"input": x, "target": np.array([1, 1, -1])}, reduction="none")


@REDUCTIONS
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_cosine_embedding_with_zero_vectors(reduction, margin):
    arrays = {
        "input1": X * [[1], [0], [1]],
        "input2": X[::-1].copy(),
        "target": np.array([1, -1, -1]),
    }
    agree("cosine_embedding_loss", arrays, margin=margin, reduction=reduction)


@REDUCTIONS
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_triplets_with_swap_and_a_tie(reduction, p):
    arrays = {"anchor": X, "positive": X[[0, 0, 1]], "negative": X[[0, 1, 0]]}
    for swap in (False, True):
        agree("triplet_margin_loss", arrays, p=p, swap=swap, reduction=reduction)


def test_gaussian_variances_below_eps_and_in_every_form():
    target = X[::-1].copy()
    for var in (np.abs(X), np.abs(X[:, :1]), np.abs(X[:, 0])):  # with zeros, which eps replaces
        arrays = {"input": X, "target": target, "var": var}
        agree("gaussian_nll_loss", arrays, full=True, eps=1e-2)
    agree("gaussian_nll_loss", {"input": X, "target": target}, var=2.0)


def test_poisson_stirling_starts_above_one():
    target = np.array([[0.5, 1.0, 2.0, 7.0]] * 3)
    for log_input in (True, False):
        arrays = {"input": np.abs(X), "target": target}
        agree("poisson_nll_loss", arrays, log_input=log_input, full=True, eps=1e-3)


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("multi_margin_loss", (X, np.array([4, 0, 1])), IndexError),
        ("multilabel_margin_loss", (X, LABELS + 2), IndexError),
        ("multilabel_margin_loss", (X, LABELS - 1), IndexError),
        ("gaussian_nll_loss", (X, X, -X), ValueError),
    ],
)
def test_values_out_of_range_are_refused_where_they_are_known(name, args, error):
    tensors = [torch.from_numpy(a) for a in args]
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        getattr(T, name)(*tensors)
    with pytest.raises(error, match=name):
        getattr(F, name)(*map(jnp.asarray, args))


def test_compiled_code_gives_nan_for_a_label_out_of_range():
    loss = jax.jit(lambda y: F.multi_margin_loss(jnp.asarray(X), y, reduction="none"))
    np.testing.assert_array_equal(jnp.isnan(loss(jnp.array([4, 0, -1]))), [True, False, True])


def test_integers_are_refused():
    whole = jnp.ones((2, 3), jnp.int32)
    for name in ("hinge_embedding_loss", "soft_margin_loss", "multilabel_soft_margin_loss"):
        with pytest.raises(TypeError, match=name):
            getattr(F, name)(whole, whole)
