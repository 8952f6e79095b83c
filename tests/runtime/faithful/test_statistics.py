"""Statistics against closed forms and brute force."""

import itertools
import math

import numpy as np
import pytest

from wmdsl.runtime.faithful import statistics
from wmdsl.runtime.faithful.statistics import Estimate


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = statistics.bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [statistics.bootstrap_mean(rng.normal(size=40), seed) for seed in range(200)]
    assert 0.90 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.98


def test_three_values_against_every_possible_draw():
    values = np.array([0.0, 1.0, 5.0])
    means = [np.mean(draw) for draw in itertools.product(values, repeat=3)]
    found = statistics.bootstrap_mean(values)
    assert found.low == np.quantile(means, 0.025, method="inverted_cdf")
    assert found.high == pytest.approx(np.quantile(means, 0.975, method="inverted_cdf"), abs=0.35)


def test_a_ratio_is_drawn_as_one():
    below = np.array([1.0, 2.0, 5.0, 10.0])
    found = statistics.bootstrap_ratio(3 * below, below)
    assert found == Estimate(3.0, 3.0, 3.0)


def test_one_situation_has_no_spread():
    assert statistics.bootstrap_mean(np.array([2.0])) == Estimate(2.0, 2.0, 2.0)


def brute_force_retrieval(distance):
    credit = []
    for row, own in zip(distance, range(len(distance)), strict=True):
        best = [j for j, value in enumerate(row) if value == min(row)]
        credit.append(1 / len(best) if own in best else 0.0)
    return credit


def test_retrieval_against_brute_force_with_ties():
    distance = np.random.default_rng(2).integers(0, 3, (50, 4, 4)).astype(float)
    expected = [brute_force_retrieval(one) for one in distance]
    assert np.allclose(statistics.retrieval(distance), expected)


def test_a_roll_that_ignores_the_action_retrieves_by_chance():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(7, 5, 3))
    same = rng.normal(size=(7, 1, 3)).repeat(5, 1)
    distance = np.linalg.norm(same[:, :, None] - truth[:, None], axis=-1)
    assert statistics.retrieval(distance).mean() == pytest.approx(1 / 5)


def test_the_truth_retrieves_itself():
    truth = np.random.default_rng(4).normal(size=(6, 5, 3))
    distance = np.linalg.norm(truth[:, :, None] - truth[:, None], axis=-1)
    assert statistics.retrieval(distance).mean() == 1


def test_ranks_share_ties():
    assert statistics.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_rank_correlation_without_ties_is_the_textbook_formula():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=9), rng.normal(size=9)
    differences = statistics.ranks(x) - statistics.ranks(y)
    expected = 1 - 6 * (differences**2).sum() / (9 * 80)
    assert statistics.rank_correlation(x, y) == pytest.approx(expected)
    assert statistics.rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert statistics.rank_correlation(x, -x) == pytest.approx(-1)


def test_a_constant_is_correlated_with_nothing():
    assert statistics.rank_correlation(np.ones(4), np.arange(4.0)) == 0


def test_spread_against_all_pairs():
    values = np.random.default_rng(6).normal(size=(3, 4, 2))
    expected = [
        np.mean([math.dist(a, b) for a, b in itertools.permutations(one, 2)]) for one in values
    ]
    assert np.allclose(statistics.spread(values), expected)


def test_the_first_horizon_beyond_a_threshold():
    horizons = np.array([0.2, 0.4, 0.6])
    assert statistics.first_beyond(np.array([0.1, 0.3, 0.2]), horizons, 0.25) == 0.4
    assert statistics.first_beyond(np.array([0.1, 0.2, 0.2]), horizons, 0.25) is None


def test_whole_intervals_are_compared():
    assert Estimate(3, 2, 4).above(Estimate(1, 0, 1.9))
    assert not Estimate(3, 2, 4).above(Estimate(1, 0, 2.1))
