"""Capacity from late rates: crossings by hand, laws of resampling, words outside of the loads, coverage."""

import math

import numpy as np
import pandas as pd
import pytest

from ddrl_sched.jobs.capacity_settings import CapacitySettings, next_load
from ddrl_sched.report import statistics
from ddrl_sched.report.capacity import capacity, capacity_rows, isotonic, late_counts, load_rows, more_load_pct
from ddrl_sched.report.capacity_tables import capacity_tables
from ddrl_sched.report.numbers import cell_text

LOADS = (0.4, 0.6, 0.8)


def rows(late, loads=LOADS, n_tasks=10_000, scheduler="a", **about):
    """Rows of capacity.parquet from numbers of late tasks [load, trace] or [load, seed, trace]."""
    late = np.asarray(late, dtype=float)
    late = late[:, None] if late.ndim == 2 else late
    tasks = np.broadcast_to(n_tasks, late.shape)
    world = {"scenario": "w", "workload": "poisson", "scenario_hash": "h", "info": "static", "at_most": 0.01}
    world |= {"deadline_s": 0.1, "mean_delay_s": 0.02, "p99_delay_s": 0.09, "scheduler": scheduler} | about
    place = [
        {"load": loads[k], "seed": s, "trace": t, "cluster": t, "n_tasks": int(tasks[k, s, t]), "n_late": late[k, s, t]}
        for k, s, t in np.ndindex(late.shape)
    ]
    return pd.DataFrame(place).astype({"n_late": int}).assign(**world)


def found(*args, **kwargs):
    return capacity(late_counts(rows(*args, **kwargs)))


def test_a_load_at_which_the_limit_is_met_is_the_capacity():
    assert found([[10, 30], [90, 110], [500, 700]]).estimate.value == pytest.approx(0.6)


def test_the_crossing_is_where_the_logarithm_crosses():
    """1 of 1,000 at .4 and 1 of 10 at .6: the hundredth is half way."""
    assert found([[10, 10], [1000, 1000], [5000, 5000]]).estimate.value == pytest.approx(0.5)


def test_none_late_counts_as_half_a_task():
    value = found([[0, 0], [4000, 4000], [9000, 9000]]).estimate.value
    part = math.log(0.01 / (0.5 / 20_000)) / math.log(0.4 / (0.5 / 20_000))
    assert value == pytest.approx(0.4 + 0.2 * part)


def test_late_rates_that_fall_are_made_to_rise():
    """Halves of a dip: 2 % and .5 % become 1 %, by the mean of the logarithms."""
    assert isotonic(np.array([[0.0, 3.0, 1.0, 5.0]])).tolist() == [[0.0, 2.0, 2.0, 5.0]]
    assert isotonic(np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])).tolist() == [[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]]
    loads = (0.4, 0.5, 0.6, 0.7)
    assert found([[1, 1], [200, 200], [50, 50], [5000, 5000]], loads).estimate.value == pytest.approx(0.6, abs=1e-9)


def test_the_rate_is_a_mean_over_seeds_and_a_ratio_over_traces():
    """Seeds with 0.5 % and 1.5 % are 1 % together; a trace of more tasks weighs more."""
    late = [[[10, 10], [10, 10]], [[50, 50], [150, 150]], [[900, 900], [900, 900]]]
    assert found(late).estimate.value == pytest.approx(0.6)
    n_tasks = np.array([1000, 9000])
    assert found([[1, 1], [100, 0], [1000, 9000]], n_tasks=n_tasks).estimate.value == pytest.approx(0.6)


def test_words_where_the_limit_is_not_crossed():
    below, above = found([[300, 200], [400, 400], [500, 500]]), found([[0, 0], [1, 1], [50, 60]])
    assert (below.outside, below.estimate.value) == ("below", pytest.approx(0.4))
    assert (above.outside, above.estimate.value) == ("at least", pytest.approx(0.8))
    assert math.isnan(below.estimate.lo)
    assert math.isnan(above.estimate.hi)
    one_load = found([[300, 200]], loads=(0.4,))
    assert (one_load.outside, one_load.estimate.value) == ("below", pytest.approx(0.4))


def test_one_trace_has_no_interval():
    estimate = found([[10], [100], [1000]]).estimate
    assert (estimate.value, math.isnan(estimate.lo), math.isnan(estimate.hi)) == (pytest.approx(0.6), True, True)


def test_bounds_stay_within_the_loads_that_were_looked_at():
    estimate = found([[1, 0], [400, 0], [900, 0]]).estimate
    assert LOADS[0] <= estimate.lo <= estimate.value <= estimate.hi <= LOADS[-1]


def test_what_a_hard_trace_does_to_both_cancels():
    """Every trace has its own factor on late rates; one scheduler carries a tenth more on each of them."""
    factor = np.exp(np.random.default_rng(0).normal(0, 0.5, 12))
    one, other = (
        late_counts(rows(np.outer([20, 100, 500], factor), scheduler=name, loads=loads, n_tasks=10**6, at_most=1e-4))
        for name, loads in (("a", (0.44, 0.66, 0.88)), ("b", LOADS))
    )
    gain = more_load_pct(one, other)
    assert gain.value == pytest.approx(10, abs=0.2)
    alone = capacity(one).estimate
    assert alone.hi - alone.lo > 0.02
    assert gain.hi - gain.lo < 0.5
    assert more_load_pct(other, one).value == pytest.approx(100 * (1 / 1.1 - 1), abs=0.2)


def test_a_difference_is_taken_over_common_traces_and_one_world():
    many = rows([[10, 10, 90], [100, 100, 900], [1000, 1000, 9000]])
    few = rows([[10, 10], [100, 100], [1000, 1000]], scheduler="b")
    assert more_load_pct(late_counts(many), late_counts(few)).value == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="no comparison across scenarios"):
        more_load_pct(late_counts(many), late_counts(few.assign(scenario_hash="other")))
    below = late_counts(rows([[200, 200], [300, 300], [400, 400]], scheduler="b"))
    assert math.isnan(more_load_pct(late_counts(many), below).value)


def test_rows_stand_in_descending_order_with_words_at_the_ends():
    df = pd.concat(
        [
            rows([[10, 10], [120, 100], [1000, 1000]], scheduler="middle"),
            rows([[200, 200], [300, 300], [400, 400]], scheduler="never"),
            rows([[1, 1], [1, 1], [1, 1]], scheduler="always"),
            rows([[10, 10], [20, 30], [1000, 1000]], scheduler="best"),
        ]
    )
    table = capacity_rows(df, ["middle"])
    assert list(table.scheduler) == ["always", "best", "middle", "never"]
    assert list(table.outside) == ["at least", "", "", "below"]
    assert list(table.more_load_pct.notna()) == [False, True, True, False]
    (drawn,) = capacity_tables(table)
    assert drawn.title == "w, workload poisson: highest load with at most 1 % of tasks late (deadline 0.1 s)"
    column = drawn.column("capacity")
    texts = [cell_text(column, cell) for cell in drawn.cells("capacity")]
    assert (texts[0], texts[-1]) == ("at least 0.8", "below 0.4")
    assert not any(cell.best for cell in drawn.cells("capacity"))  # how much "at least" is nobody knows
    (known,) = capacity_tables(table[table.scheduler != "always"])
    assert [cell.best for cell in known.cells("capacity")] == [True, False, False]
    assert list(load_rows(df)[lambda t: t.scheduler == "middle"].late_rate) == pytest.approx([0.001, 0.011, 0.1])


def test_nothing_read_makes_no_rows():
    assert capacity_rows(late_free(), []).empty
    assert load_rows(late_free()).empty


def late_free():
    return rows([[1]], loads=(0.4,)).iloc[:0]


ASKED = CapacitySettings(at_most=0.01, low=0.05, high=0.99, tolerance=0.005)


def searched(rng, n_traces, n_seeds, noise, truth=0.7, steepness=25.0):
    """A search as a job does it: late rates rise as exp(steepness load), every trace and seed has its own factor.

    One seed is that of a rule, which has none of its own: of one training nothing can be said about others.
    """
    of_seeds = 0.5 * noise if n_seeds > 1 else 0.0
    traces, seeds = rng.normal(0, noise, n_traces), rng.normal(0, of_seeds, n_seeds)
    factor = np.exp(traces - noise**2 / 2) * np.exp(seeds - of_seeds**2 / 2)[:, None]  # of mean 1
    seen = {}

    def late(load):
        rate = np.minimum(0.01 * np.exp(steepness * (load - truth)) * factor, 1.0)
        return rng.binomial(10_000, rate)

    while (load := next_load({k: v.mean() / 10_000 for k, v in seen.items()}, ASKED)) is not None:
        seen[load] = late(load)
    loads = sorted(seen)
    return rows(np.array([seen[load] for load in loads]), tuple(loads))


@pytest.mark.parametrize(("n_traces", "n_seeds"), [(3, 1), (10, 1), (10, 5)])
def test_the_interval_covers_the_truth(monkeypatch, n_traces, n_seeds):
    """With lognormal factors. 250 searches each: the standard error of a coverage is 1.4 per cent."""
    monkeypatch.setattr(statistics, "N_RESAMPLES", 1000)
    statistics.draws.cache_clear()
    rng = np.random.default_rng(n_traces)
    bounds = [capacity(late_counts(searched(rng, n_traces, n_seeds, 0.5))).estimate for _ in range(250)]
    statistics.draws.cache_clear()
    covered = np.mean([x.lo <= 0.7 <= x.hi for x in bounds])
    assert 0.91 <= covered <= 0.985
    assert np.mean([x.value for x in bounds]) == pytest.approx(0.7, abs=0.01)
