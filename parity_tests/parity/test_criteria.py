"""The two formulas that judge everything else."""

import numpy as np
import pytest

from fluxmod.parity.criteria import CRITERIA, distance, precision_limit, relative_l2


def test_distance_is_relative_to_the_largest_value():
    assert distance(np.array([100.0, 1.0 + 1e-8]), np.array([100.0, 1.0])) == pytest.approx(1e-10)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ([np.nan, 1.0], [1.0, np.nan]),
        ([np.inf, 1.0], [-np.inf, 1.0]),
        ([np.inf, 1.0], [np.nan, 1.0]),
        ([1.0, 2.0], [np.inf, 2.0]),
        ([1.0, np.inf], [1.0, 2.0]),
    ],
)
def test_special_values_at_other_places_are_infinitely_far(got, want):
    assert distance(np.array(got), np.array(want)) == np.inf
    assert distance(np.array(want), np.array(got)) == np.inf


def test_special_values_at_the_same_places_are_equal():
    values = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert distance(values, values.copy()) == 0.0


def test_shape_integers_and_empty():
    assert distance(np.zeros((2, 1)), np.zeros(2)) == np.inf
    assert distance(np.array([1, 2]), np.array([1, 3])) == np.inf
    assert distance(np.array([True]), np.array([True])) == 0.0
    assert distance(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0


def test_null_values_are_judged_by_their_group():
    noise, zero = np.array([1e-14]), np.array([0.0])
    assert distance(noise, zero) == np.inf
    assert distance(noise, zero, group=1.0) == pytest.approx(1e-11)
    assert distance(np.array([1e-3]), zero, group=1.0) == pytest.approx(1.0)


def test_relative_l2():
    truth = np.array([3.0, 4.0])
    assert relative_l2(truth + [0.0, 5e-7], truth) == pytest.approx(1e-7)
    assert relative_l2(np.array([np.nan, 4.0]), truth) == np.inf
    assert relative_l2(truth[:1], truth) == np.inf


def test_precision_limit_has_a_floor():
    eps = 2.0**-23
    assert precision_limit(0.0, eps) == CRITERIA["L2"].slack * eps
    assert precision_limit(1e-6, 0.0) == pytest.approx(4e-6)


def test_every_criterion_says_why():
    assert list(CRITERIA) == ["L0", "L1", "L2", "L3", "L4", "L5", "L6"]
    assert all(c.why and c.rule and c.shows for c in CRITERIA.values())
