"""Interquartile means, probabilities of improvement, profiles and Holm: by hand, against scipy, simulated coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from ddrl_sched.report import statistics
from ddrl_sched.report.robust import (
    holm,
    improvement_probability,
    interquartile_mean_s,
    performance_profile,
    trimmed_mean,
)
from ddrl_sched.report.statistics import DelaySums


def sums(delays, scheduler="a", hash_="h", cluster=None):
    """One task per trace: delays [seeds][traces]."""
    delays = np.atleast_2d(np.asarray(delays, float))
    units = np.arange(delays.shape[1])
    cluster = units if cluster is None else np.asarray(cluster)
    return DelaySums(hash_, scheduler, scheduler, delays, np.ones_like(delays), cluster, units, len(delays))


@pytest.fixture
def few_resamples(monkeypatch):
    """Fewer in the two modules; what is kept of more is forgotten."""
    for name in ("statistics", "robust"):
        monkeypatch.setattr(f"ddrl_sched.report.{name}.N_RESAMPLES", 400)
    statistics.draws.cache_clear()
    yield
    statistics.draws.cache_clear()


@pytest.mark.parametrize("n", range(1, 14))
def test_the_middle_half_is_that_of_scipy(n):
    values = np.random.default_rng(n).random((3, n))
    assert trimmed_mean(values) == pytest.approx(trim_mean(values, 0.25, axis=1))


def test_one_failed_seed_does_not_move_the_interquartile_mean():
    good = [[1.0, 1.2], [1.1, 1.3], [0.9, 1.1], [1.0, 1.2], [1.05, 1.25]]
    failed = [*good[:4], [40.0, 60.0]]
    assert interquartile_mean_s(sums(good)).value == pytest.approx(np.mean([1.1, 1.1, 1.15]))
    assert interquartile_mean_s(sums(failed)).value == pytest.approx(np.mean([1.1, 1.1, 1.2]))
    assert math.isnan(interquartile_mean_s(sums(good[:3])).value)
    assert math.isnan(interquartile_mean_s(sums(np.ones((4, 2)), cluster=[0, 0])).lo)


def test_intervals_of_interquartile_means_hold_the_truth(few_resamples):
    """Seeds around 1, traces around 1: the log of both is normal, so the trimmed mean is near exp(0)."""
    rng, hits, n_worlds = np.random.default_rng(3), 0, 300
    for world in range(n_worlds):
        delays = np.exp(rng.normal(0, 0.2, (8, 1)) + rng.normal(0, 0.1, 12))
        found = interquartile_mean_s(sums(delays, hash_=str(world)))
        hits += found.lo <= np.exp(0.1**2 / 2) <= found.hi
    assert 0.9 <= hits / n_worlds <= 0.995


def test_probability_of_improvement_by_hand_and_as_mann_whitney():
    assert improvement_probability(sums([[1, 2, 5]]), sums([[2, 2, 4]])).value == pytest.approx((1 + 0.5 + 0) / 3)
    rng = np.random.default_rng(0)
    one, other = rng.random((7, 5)), rng.random((9, 5)) + 0.1
    expected = np.mean([mannwhitneyu(other[:, u], one[:, u]).statistic / 63 for u in range(5)])
    found = improvement_probability(sums(one), sums(other))
    assert found.value == pytest.approx(expected)
    assert improvement_probability(sums(other), sums(one)).value == pytest.approx(1 - expected)
    assert 0 <= found.lo < found.value < found.hi <= 1


def test_a_sure_win_on_few_traces_is_not_quite_sure():
    found = improvement_probability(sums([[1.0] * 5]), sums([[2.0] * 5]))
    assert found.value == found.hi == 1
    assert found.lo < 0.6
    assert math.isnan(improvement_probability(sums([[1.0, 1.0]], cluster=[0, 0]), sums([[2.0, 2.0]])).lo)


def test_intervals_of_probabilities_hold_the_truth():
    """Traces that one or the other wins by the toss of a coin that falls 7 times of 10."""
    rng, hits, n_worlds = np.random.default_rng(4), 0, 1000
    for _ in range(n_worlds):
        found = improvement_probability(sums(np.ones(20)), sums(np.where(rng.random(20) < 0.7, 2.0, 0.5)))
        hits += found.lo <= 0.7 <= found.hi
    assert 0.92 <= hits / n_worlds <= 0.99


def test_profiles_by_hand():
    """b is 2 and 1 times the best, c is overloaded once, d was not run everywhere."""
    cells = [("h1", "a", 1.0), ("h1", "b", 2.0), ("h1", "c", 1.5), ("h1", "d", 1.0),
             ("h2", "a", 4.0), ("h2", "b", 1.0), ("h2", "c", 3.0)]  # fmt: skip
    rows = pd.DataFrame(cells, columns=["scenario_hash", "scheduler", "mean_delay_s"])
    rows["state"] = np.where((rows.scheduler == "c") & (rows.scenario_hash == "h2"), "overloaded", "stable")
    found = performance_profile(rows)
    assert found.values.tolist() == [
        ["a", 1.0, 0.5],
        ["a", 4.0, 1.0],
        ["b", 1.0, 0.5],
        ["b", 2.0, 1.0],
        ["c", 1.5, 0.5],
    ]
    assert performance_profile(rows[rows.scenario_hash == "h1"]).empty


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([math.nan, 0.02])[1] == 0.02
    assert math.isnan(holm([math.nan, 0.02])[0])
    assert holm([]) == []
