"""Means, reductions and their intervals: numbers by hand, then laws of resampling, then coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from ddrl_sched.report import statistics
from ddrl_sched.report.statistics import (
    DelaySums,
    common_traces,
    delay_sums,
    mean_delay_s,
    reduction_pct,
    task_mean,
    unpaired_reduction_pct,
)


def rows(delay_s, n_tasks=None, scheduler="a", scenario_hash="h", seeds=None, traces=None, clusters=None):
    """Rows of eval.parquet from mean delays [seed, trace]; NaN: that seed did not meet that trace."""
    delay_s = np.atleast_2d(np.asarray(delay_s, dtype=float))
    n_tasks = np.broadcast_to(10 if n_tasks is None else n_tasks, delay_s.shape)
    n_seeds, n_traces = delay_s.shape
    traces = range(n_traces) if traces is None else traces
    clusters = traces if clusters is None else clusters
    frame = pd.DataFrame(
        [
            {"seed": seed, "trace": trace, "cluster": cluster, "n_tasks": n_tasks[s, t], "mean_delay_s": delay_s[s, t]}
            for s, seed in enumerate(range(n_seeds) if seeds is None else seeds)
            for t, (trace, cluster) in enumerate(zip(traces, clusters, strict=True))
        ]
    ).dropna()
    return frame.assign(scheduler=scheduler, scenario_hash=scenario_hash)


def sums(*args, **kwargs):
    return delay_sums(rows(*args, **kwargs))


def width(estimate):
    return estimate.hi - estimate.lo


def test_mean_is_a_ratio_of_sums_over_traces():
    estimate = mean_delay_s(sums([1.0, 2.0], n_tasks=[30, 10]))
    assert estimate.value == pytest.approx((30 * 1 + 10 * 2) / 40)
    assert estimate.lo < estimate.value < estimate.hi


def test_mean_is_a_mean_over_seeds():
    estimate = mean_delay_s(sums([[1.0, 2.0], [3.0, 3.0]], n_tasks=[30, 10]))
    assert estimate.value == pytest.approx((1.25 + 3.0) / 2)


def test_reduction_by_hand():
    estimate = reduction_pct(sums([0.75, 1.5, 2.25]), sums([1.0, 2.0, 3.0], scheduler="b"))
    assert estimate.value == pytest.approx(25)
    assert (estimate.lo, estimate.hi) == pytest.approx((25, 25))  # every trace says the same: pairing leaves no doubt


def test_a_worse_scheduler_has_a_negative_reduction():
    estimate = reduction_pct(sums([1.2, 2.5, 3.5]), sums([1.0, 2.0, 3.0], scheduler="b"))
    assert estimate.value == pytest.approx(-20)
    assert estimate.lo < -20 < estimate.hi < 0


def test_interval_of_two_clusters_by_hand():
    """Logs of equal counts 1 and 2: a resample is one of the two traces, so se is half the distance of the logs."""
    estimate = mean_delay_s(sums([1.0, 2.0]))
    half = 12.7062 * math.log(2) / 2
    assert estimate.lo == pytest.approx(1.5 * math.exp(-half), rel=1e-2)
    assert estimate.hi == pytest.approx(1.5 * math.exp(half), rel=1e-2)


def test_interval_agrees_with_students_t_where_that_is_right():
    delays = np.exp(np.random.default_rng(3).normal(0, 0.05, 12))
    estimate = mean_delay_s(sums(delays))
    half = student.ppf(0.975, 11) * delays.std(ddof=1) / math.sqrt(12)
    assert math.log(estimate.hi / estimate.value) == pytest.approx(half / delays.mean(), rel=0.03)


def test_reduction_against_itself_is_zero():
    a = sums(np.random.default_rng(0).random((3, 8)) + 1)
    assert reduction_pct(a, a) == statistics.Estimate(0, 0, 0)


def test_pairing_shortens_the_interval():
    """A hard trace is hard for both; unpaired, its difficulty would drown a difference of 10 %."""
    rng = np.random.default_rng(5)
    hard = rng.lognormal(0, 1, 20)
    a, b = hard * rng.normal(0.9, 0.02, 20), hard * rng.normal(1.0, 0.02, 20)
    paired = reduction_pct(sums(a), sums(b, scheduler="b"))
    unpaired = unpaired_reduction_pct(sums(a), sums(b, scheduler="b", scenario_hash="other"))
    assert paired.value == pytest.approx(unpaired.value)
    assert width(paired) < width(unpaired) / 10
    assert paired.lo > 0 > unpaired.lo


def test_no_reduction_across_scenarios():
    with pytest.raises(ValueError, match="across scenarios h and other"):
        reduction_pct(sums([1.0, 2.0]), sums([1.0, 2.0], scenario_hash="other"))


def test_only_common_traces_are_compared():
    a = sums([1.0, 2.0, 3.0], traces=[0, 1, 2])
    b = sums([4.0, 6.0, 100.0], scheduler="b", traces=[1, 2, 9])
    assert [x.trace.tolist() for x in common_traces(a, b)] == [[1, 2], [1, 2]]
    assert reduction_pct(a, b).value == pytest.approx(50)
    nothing = reduction_pct(a, sums([1.0], scheduler="b", traces=[7]))
    assert all(math.isnan(x) for x in (nothing.value, nothing.lo, nothing.hi))


def test_one_cluster_has_no_interval():
    for one in (sums([[1.0], [2.0]]), sums([1.0, 2.0, 3.0], clusters=[0, 0, 0])):
        estimate = mean_delay_s(one)
        assert estimate.value > 0
        assert math.isnan(estimate.lo)
        assert math.isnan(estimate.hi)
        assert math.isnan(reduction_pct(one, one).lo)


def test_traces_of_a_cluster_are_resampled_together():
    """Four copies of a trace in one cluster say no more than one of them."""
    single = mean_delay_s(sums([1.0, 1.5, 2.0, 4.0]))
    copied = mean_delay_s(sums(np.repeat([1.0, 1.5, 2.0, 4.0], 4), clusters=np.repeat(range(4), 4)))
    apart = mean_delay_s(sums(np.repeat([1.0, 1.5, 2.0, 4.0], 4)))
    assert width(copied) == pytest.approx(width(single))
    assert width(apart) < 0.6 * width(single)


def test_seeds_widen_the_interval():
    traces = np.array([1.0, 1.1, 0.9, 1.05])
    same = mean_delay_s(sums([traces, traces, traces]))
    different = mean_delay_s(sums([0.7 * traces, traces, 1.3 * traces]))
    assert same.value == pytest.approx(different.value)
    assert width(same) == pytest.approx(width(mean_delay_s(sums(traces))))  # copies of a seed add nothing
    assert width(different) > 2 * width(same)


def test_seeds_that_own_their_traces_go_with_them():
    """Published worlds: seed i is trained and tested on draw i. A scheduler without seeds has the same estimate."""
    delay, tasks = [1.0, 2.0, 4.0], [10, 20, 40]
    nested = np.full((3, 3), np.nan)
    np.fill_diagonal(nested, delay)
    learned, plain = sums(nested, n_tasks=tasks), sums(delay, n_tasks=tasks)
    assert learned.n_seeds == 3
    assert learned.delay_s.shape == (1, 3)
    assert mean_delay_s(learned) == mean_delay_s(plain)
    estimate = reduction_pct(learned, sums(delay, n_tasks=tasks, scheduler="b"))
    assert (estimate.value, estimate.lo, estimate.hi) == (0, 0, 0)


def test_several_seeds_of_one_draw_are_averaged():
    delay = [[1.0, np.nan], [3.0, np.nan], [np.nan, 5.0]]
    nested = sums(delay)
    assert nested.delay_s.tolist() == [[20, 50]]
    assert nested.n_tasks.tolist() == [[10, 10]]
    assert nested.n_seeds == 3


def test_traces_that_a_seed_did_not_meet_are_left_out_and_named():
    ragged = sums([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]])
    assert ragged.trace.tolist() == [0, 2]
    assert ragged.notes == ("1 traces left out: not run with every seed",)
    assert sums([[1.0, 2.0], [1.0, 3.0]]).notes == ()


def test_order_of_rows_does_not_matter():
    frame = rows(np.random.default_rng(2).random((3, 6)), clusters=[5, 5, 1, 1, 0, 0])
    assert mean_delay_s(delay_sums(frame)) == mean_delay_s(delay_sums(frame.sample(frac=1, random_state=1)))


def test_very_many_seeds_are_resampled_in_groups(monkeypatch):
    """So that memory has a bound; the mean is that of all, and its interval about as wide."""
    delays = sums(np.random.default_rng(0).uniform(1.0, 2.0, (120, 6)))
    each = mean_delay_s(delays)
    monkeypatch.setattr(statistics, "MAX_SEEDS", 40)
    statistics._resampled_log_means.cache_clear()
    drawn = []
    counts = statistics.draws
    monkeypatch.setattr(statistics, "draws", lambda n, *name: drawn.append(n) or counts(n, *name))
    grouped = mean_delay_s(delays)
    assert sorted(drawn) == [6, 40]
    assert grouped.value == each.value
    assert width(grouped) == pytest.approx(width(each), rel=0.2)


def test_resampling_is_repeatable_and_chunks_change_nothing(monkeypatch):
    a = sums(np.random.default_rng(2).random((4, 9)) + 1)
    first = mean_delay_s(a)
    statistics.draws.cache_clear()
    monkeypatch.setattr(statistics, "CHUNK_CELLS", 1000)
    again = mean_delay_s(a)
    assert (again.lo, again.hi) == pytest.approx((first.lo, first.hi), rel=1e-12)


def test_resamples_pair_traces_but_not_seeds():
    delay = np.random.default_rng(8).random((5, 7)) + 1
    log_a, log_b = (
        statistics._resampled_log_means(sums(delay, scheduler=name)) for name in ("a", "b")
    )  # same delays, other seeds
    traces_only = [statistics._resampled_log_means(sums(delay[:1], scheduler=name)) for name in ("a", "b")]
    assert not np.allclose(log_a, log_b)
    assert np.array_equal(*traces_only)


def test_a_great_many_traces_are_grouped():
    delay = np.random.default_rng(8).random(50_000) + 0.5
    many = mean_delay_s(sums(delay))
    assert many.value == pytest.approx(delay.mean())
    assert width(many) == pytest.approx(2 * 1.96 * delay.std() / math.sqrt(len(delay)), rel=0.1)


def test_task_mean_weighs_by_tasks_and_skips_nan():
    frame = pd.DataFrame({"n_tasks": [1, 3, 5], "p95_delay_s": [1.0, 2.0, math.nan], "decide_us": [math.nan] * 3})
    assert task_mean(frame, "p95_delay_s") == pytest.approx(7 / 4)
    assert math.isnan(task_mean(frame, "decide_us"))


@pytest.mark.parametrize("dof", [1, 2, 5, 9, 10, 15, 30, 120])
def test_quantiles_of_t(dof):
    assert statistics.t_975(dof) == pytest.approx(student.ppf(0.975, dof), abs=1e-4)


@pytest.mark.parametrize("dof", [2.5, 3.7, 7.5, 11, 25, 50, 1000])
def test_quantiles_of_t_between_entries_err_to_the_wide_side(dof):
    exact = student.ppf(0.975, dof)
    assert exact - 1e-4 <= statistics.t_975(dof) <= 1.05 * exact
    assert statistics.t_975(math.inf) == pytest.approx(1.96, abs=1e-4)


def coverage(n_clusters, n_seeds, n_worlds, rng, spread=0.3):
    """Share of simulated comparisons whose interval holds the true reduction; means of traces are lognormal."""
    seed_spread = 0.1 if n_seeds > 1 else 0.0  # the luck of a single seed is in no interval
    truth = 100 * (1 - 0.8 * math.exp((spread**2 + seed_spread**2) / 2))
    hits = 0
    for world in range(n_worlds):
        hard = rng.normal(0, spread, (1, n_clusters))
        own = rng.normal(0, spread, n_clusters) + rng.normal(0, seed_spread, (n_seeds, 1))
        tasks = rng.poisson(100, (1, n_clusters)) + 1.0
        estimate = reduction_pct(world_sums(0.8 * np.exp(hard + own), tasks, world, "a"),
                                 world_sums(np.exp(hard), tasks, world, "b"))  # fmt: skip
        hits += estimate.lo <= truth <= estimate.hi
    return hits / n_worlds


def world_sums(delay_s, tasks, world, scheduler):
    units = np.arange(delay_s.shape[1])
    n_tasks = np.broadcast_to(tasks, delay_s.shape)
    return DelaySums(str(world), scheduler, scheduler, delay_s * n_tasks, n_tasks, units, units, len(delay_s))


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(statistics, "N_RESAMPLES", 500)
    statistics.draws.cache_clear()
    yield
    statistics.draws.cache_clear()


@pytest.mark.parametrize(("n_clusters", "n_seeds"), [(4, 2), (12, 5)])
def test_intervals_hold_the_truth(few_resamples, n_clusters, n_seeds):
    assert 0.91 <= coverage(n_clusters, n_seeds, 400, np.random.default_rng(1)) <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [1, 3, 10])
@pytest.mark.parametrize("n_clusters", [2, 3, 5, 10, 20, 50])
def test_intervals_hold_the_truth_everywhere(few_resamples, n_clusters, n_seeds):
    least = {2: 0.86, 3: 0.905}.get(n_clusters, 0.92)  # two or three clusters tell little about their own spread
    assert least <= coverage(n_clusters, n_seeds, 2500, np.random.default_rng(7), spread=0.2) <= 0.975
