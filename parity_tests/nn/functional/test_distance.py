from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from fluxmod.nn import functional as F
from parity_tests.nn.functional.both import equal

INF = math.inf
ROWS = np.array(
    [[1.0, 2.0, -2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, -3.0, 3.0], [0.0, 1.0, -2.0]]
)
"""Zero vectors, rows that meet, coordinates that tie."""

P = [0, 0.5, 1, 1.5, 2, 3, INF]


@pytest.mark.parametrize("p", [*P, -INF, -1.0])
def test_normalize_with_zero_vectors_and_ties(p):
    equal(torch.nn.functional.normalize, F.normalize, {"input": ROWS}, p=p)


@pytest.mark.parametrize("p", P)
def test_pdist_where_points_meet_and_coordinates_tie(p):
    equal(lambda input: torch.pdist(input, p), lambda input: F.pdist(input, p), {"input": ROWS})


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_pairwise_distance_where_points_meet(p, eps):
    arrays = {"x1": ROWS, "x2": ROWS * np.array([1, 1, 0, 0, 1])[:, None]}
    kwargs = {"p": p, "eps": eps, "keepdim": True}
    equal(torch.nn.functional.pairwise_distance, F.pairwise_distance, arrays, **kwargs)


@pytest.mark.parametrize("eps", [1e-8, 1.5])
def test_cosine_similarity_of_zero_and_of_short_vectors(eps):
    arrays = {"x1": ROWS, "x2": ROWS[::-1].copy()}
    equal(torch.nn.functional.cosine_similarity, F.cosine_similarity, arrays, eps=eps)


def test_cosine_similarity_broadcasts_and_counts_the_broadcast_axes():
    rng = np.random.default_rng(0)
    arrays = {"x1": rng.standard_normal((4, 1, 3)), "x2": rng.standard_normal((2, 3))}
    for dim in (0, 1, -1):
        equal(torch.nn.functional.cosine_similarity, F.cosine_similarity, arrays, dim=dim)


def test_normalize_over_several_axes():
    equal(torch.nn.functional.normalize, F.normalize, {"input": ROWS}, dim=(0, 1))


@pytest.mark.parametrize("function", [torch.pairwise_distance, torch.cosine_similarity])
def test_empty_batches(function):
    arrays = {"x1": np.zeros((0, 3)), "x2": np.zeros((0, 3))}
    equal(function, getattr(F, function.__name__), arrays)


def test_pdist_of_fewer_than_two_points_is_empty():
    assert F.pdist(jnp.ones((1, 3))).shape == F.pdist(jnp.ones((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: F.cosine_similarity(jnp.ones((2, 3)), jnp.ones((2, 3)), dim=2), IndexError),
        (lambda: F.cosine_similarity(jnp.ones((2, 3)), jnp.ones((4, 3))), ValueError),
        (lambda: F.cosine_similarity(jnp.ones(3, int), jnp.ones(3, int), 0), TypeError),
        (lambda: F.pairwise_distance(jnp.ones((2, 3)), jnp.ones((2, 4))), ValueError),
        (lambda: F.pdist(jnp.ones(3)), ValueError),
        (lambda: F.pdist(jnp.ones((2, 3)), -1.0), ValueError),
        (lambda: F.normalize(jnp.ones(3)), IndexError),
        (lambda: F.normalize(jnp.ones((3, 3), int)), TypeError),
    ],
)
def test_refused(call, error):
    with pytest.raises(error, match=r"cosine_similarity|pairwise_distance|pdist|normalize"):
        call()
