"""Percentiles of pooled tasks from histograms: against numpy on the raw delays, and simulated coverage."""

import math

import numpy as np
import pandas as pd
import pytest

from ddrl_sched.report.percentiles import DelayTable, pooled_percentile, tasks_needed
from ddrl_sched.run.histogram import counts_of


def histograms(samples):
    """(rows, DelayTable) of raw delays: a list for each trace, rows labelled 10, 11, ..."""
    parts = [counts_of(np.asarray(sample)) for sample in samples]
    delays = pd.concat(
        [pd.DataFrame({"row": 10 + n, "bin": bins, "count": counts}) for n, (bins, counts) in enumerate(parts)]
    )
    n = len(samples)
    rows = pd.DataFrame(
        {"seed": 0, "cluster": range(n), "trace": range(n), "scenario_hash": "h", "scheduler": "s"},
        index=range(10, 10 + n),
    )
    return rows, DelayTable(delays)


def percentile(samples, q):
    rows, table = histograms(samples)
    return pooled_percentile(rows, table.of(rows.index.to_numpy()), q)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_pooled_percentile_is_numpys(q):
    """Not the mean of each trace's percentile: one of the traces is much slower."""
    rng = np.random.default_rng(0)
    samples = [rng.exponential(scale, 4000) for scale in (0.1, 0.1, 0.5)]
    found = percentile(samples, q)
    assert found.estimate.value == pytest.approx(np.quantile(np.concatenate(samples), q), rel=0.006)
    assert found.n_tasks == 12000
    assert found.estimate.lo < found.estimate.value < found.estimate.hi


def test_rows_are_found_by_their_labels_whatever_their_order():
    _, table = histograms([[1.0], [2.0, 2.0], [3.0]])
    counts = table.of(np.array([12, 11])).counts
    assert counts.sum(axis=1).tolist() == [1, 2]
    assert table.of(np.array([11, 99])) is None
    assert table.of(np.array([], dtype=np.int64)) is None


def test_tasks_beyond_a_delay():
    rows, table = histograms([[1.0, 2.0, 3.0], [2.5]])
    found = table.of(rows.index.to_numpy())
    assert found.beyond(2.2).tolist() == [1, 1]
    assert found.beyond(0.5).tolist() == [3, 1]
    assert found.beyond(9.0).tolist() == [0, 0]


@pytest.mark.parametrize("q", [0.95, 0.99])
def test_intervals_hold_the_truth(q):
    """Traces of lognormal hardness; the truth is the percentile of very many of them."""
    rng = np.random.default_rng(1)

    def world(n_traces, n_tasks):
        return [rng.exponential(hard, n_tasks) for hard in np.exp(rng.normal(0, 0.25, n_traces))]

    truth = np.quantile(np.concatenate(world(2000, 1000)), q)
    found = [percentile(world(12, 400), q).estimate for _ in range(300)]
    assert 0.9 <= np.mean([one.lo <= truth <= one.hi for one in found]) <= 0.99


def test_one_trace_has_no_interval():
    estimate = percentile([np.linspace(0.1, 1, 100)], 0.95).estimate
    assert math.isnan(estimate.lo)
    assert estimate.value == pytest.approx(0.955, rel=0.01)


@pytest.mark.parametrize("q", [0.95, 0.99])
def test_the_tasks_that_are_needed_are_enough(q):
    """With as many tasks, 95 % of percentiles lie within 1 %."""
    rng = np.random.default_rng(2)
    rows, table = histograms([rng.exponential(1.0, 400_000)])
    needed = tasks_needed(table.of(rows.index.to_numpy()), q)
    exact = q / (1 - q) * (1.96 / (0.01 * -math.log(1 - q))) ** 2  # density of the exponential law
    assert exact == pytest.approx(needed, rel=0.25)
    off = [abs(np.quantile(rng.exponential(1.0, int(needed)), q) / -math.log(1 - q) - 1) for _ in range(60)]
    assert np.mean(np.array(off) < 0.01) > 0.88


def test_few_tasks_are_marked():
    assert percentile([np.random.default_rng(n).exponential(1, 500) for n in range(4)], 0.99).rough
