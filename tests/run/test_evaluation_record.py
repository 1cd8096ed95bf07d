"""What an evaluation keeps beside its means: histograms of delays, occupancy of servers, the load that is caused."""

import numpy as np
import pytest

from ddrl_sched.edge import physics
from ddrl_sched.run import histogram
from ddrl_sched.run.evaluate import caused_load
from tests.builders import given_shares, make_scenario, make_tasks


def carried_out(scenario, tasks, share, **record):
    """Outcome with a record of these shares [N, E], placed at once."""
    outcome = physics.empty_outcome(tasks, scenario.n_servers, **record)
    state = physics.initial_state(scenario, 1)
    lo, hi = np.array([0]), np.array([tasks.shape[1]])
    state = physics.place(scenario, state, tasks, given_shares(share), lo=lo, hi=hi, outcome=outcome)
    physics.finish(scenario, state, tasks, outcome)
    return outcome


def test_moments_of_shares_by_hand():
    """Station 0 sends half of a task of 2 Gcycle and 10 Mbit to server 1 (100 Mbit/s, 10 ms away), twice at once."""
    scenario = make_scenario([1.0, 2.0], link_mbps=100.0, latency_s=0.01)
    tasks = make_tasks([1.0, 1.0], origin=0, input_mbit=10.0, work_gcycle=2.0, n_servers=2)
    timing_s = carried_out(scenario, tasks, [[0.5, 0.5], [0.0, 1.0]], timing=True).timing_s[0]
    assert timing_s[0, 0].tolist() == [1.0, 1.0, 1.0, 2.0]
    assert timing_s[0, 1] == pytest.approx([1.0, 1.06, 1.06, 1.56])
    assert np.isnan(timing_s[1, 0]).all()
    assert timing_s[1, 1] == pytest.approx([1.05, 1.16, 1.56, 2.56])  # the port is free at 1.05, the server at 1.56


def test_a_record_changes_no_delay_and_adds_up():
    """Serving time of all parts is the work over the speed; time at the servers is wait there plus service."""
    rng = np.random.default_rng(3)
    scenario = make_scenario([1.0, 2.0, 4.0], link_mbps=50.0, latency_s=0.002)
    object.__setattr__(scenario, "horizon_s", 400.0)
    n = 200
    tasks = make_tasks(np.sort(rng.uniform(0, 60, n)), origin=rng.integers(0, 3, n), input_mbit=1.0, n_servers=3,
                       work_gcycle=rng.uniform(0.5, 2, n), overhead_gcycle=0.1)  # fmt: skip
    share = rng.dirichlet(np.ones(3), n) * (rng.random((n, 3)) < 0.7)
    share[share.sum(1) == 0, 0] = 1.0
    share /= share.sum(1, keepdims=True)
    plain = carried_out(scenario, tasks, share)
    kept = carried_out(scenario, tasks, share, timing=True, n_parts=8)
    assert plain.delay_s.tobytes() == kept.delay_s.tobytes()
    assert plain.timing_s.size == plain.occupancy_s.size == 0
    used = share > 0
    work = used * 0.1 + share * tasks.work_gcycle[0][:, None]
    _, arrive, start, end = kept.timing_s[0].transpose(2, 0, 1)
    assert end[used] - start[used] == pytest.approx((work / scenario.speed_gcps)[used])
    assert kept.occupancy_s[0, :, :, 0].sum(1) == pytest.approx(work.sum(0) / scenario.speed_gcps)
    assert kept.occupancy_s[0, :, :, 1].sum() == pytest.approx((end - arrive)[used].sum())
    assert (kept.occupancy_s[0, :, :, 0] <= 400 / 8 + 1e-9).all()


def test_what_lies_beyond_the_horizon_is_not_counted():
    scenario = make_scenario([1.0])
    object.__setattr__(scenario, "horizon_s", 10.0)
    tasks = make_tasks([1.0, 6.0], work_gcycle=[[2.0, 20.0]])
    occupancy_s = carried_out(scenario, tasks, [[1.0], [1.0]], n_parts=2).occupancy_s[0, 0]
    assert occupancy_s.tolist() == [[2.0, 2.0], [4.0, 4.0]]


def test_caused_load_counts_every_used_share():
    """Two tasks of 3 Gcycle with 1 Gcycle of overhead; three shares in all; 2 Gcycle/s for 10 s: 9 / 20."""
    scenario = make_scenario([1.0, 1.0])
    object.__setattr__(scenario, "horizon_s", 10.0)
    tasks = make_tasks([0.0, 1.0], work_gcycle=3.0, overhead_gcycle=1.0, n_servers=2)
    share = np.array([[[0.5, 0.5], [1.0, 0.0]]])
    assert caused_load(tasks, share, scenario).tolist() == [0.45]


def test_histograms_keep_counts_and_quantiles_to_half_a_percent():
    rng = np.random.default_rng(0)
    delay_s = rng.lognormal(-3.0, 0.8, 200_000)
    bins, counts = histogram.counts_of(delay_s)
    assert counts.sum() == len(delay_s)
    assert (np.diff(bins) > 0).all()
    assert (delay_s <= histogram.upper_end_s(histogram.bins_of(delay_s)) * (1 + 1e-12)).all()
    for q in (0.01, 0.5, 0.95, 0.99):
        assert histogram.quantile_s(bins, counts.astype(float), q) == pytest.approx(np.quantile(delay_s, q), rel=0.005)
    assert histogram.quantile_s(np.array([5, 7]), np.array([0.0, 2.0]), 0.5) == pytest.approx(1.01**6.5)


def test_delays_out_of_range_count_at_the_ends():
    bins = histogram.bins_of(np.array([0.0, 1e-15, 1e12]))
    assert bins.tolist() == [histogram.LOWEST_BIN, histogram.LOWEST_BIN, histogram.HIGHEST_BIN]
