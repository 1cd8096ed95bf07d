"""The oracle against numbers done in the head, then the kernel against the oracle."""

import numpy as np
import pytest

from tests.builders import make_scenario, make_tasks
from tests.oracle import simulate

# --- the oracle itself -------------------------------------------------------------------------------------------


def test_oracle_one_local_task_takes_work_over_speed():
    result = simulate(make_scenario([4.0]), make_tasks([1.0], work_gcycle=6.0, overhead_gcycle=2.0), [[1.0]])
    assert result.delay_s == [2.0]  # (2 + 6) / 4
    assert result.wait_s == [0.0]
    assert result.compute_s == [2.0]
    assert result.intervals == [[(1.0, 3.0, 0)]]


def test_oracle_second_task_waits_for_the_first():
    result = simulate(make_scenario([1.0]), make_tasks([0.0, 1.0], work_gcycle=[3.0, 1.0]), [[1.0], [1.0]])
    assert result.delay_s == [3.0, 3.0]
    assert result.wait_s == [0.0, 2.0]
    assert result.compute_s == [3.0, 1.0]


def test_oracle_remote_share_pays_way_there_and_back():
    scenario = make_scenario([1.0, 2.0], link_mbps=4.0, latency_s=0.25)
    tasks = make_tasks([1.0], n_servers=2, input_mbit=2.0, result_mbit=1.0, work_gcycle=4.0)
    result = simulate(scenario, tasks, [[0.0, 1.0]])
    assert result.transfer_s == [0.75]  # 2 / 4 + 0.25
    assert result.compute_s == [2.0]
    assert result.return_s == [0.5]  # 0.25 + 1 / 4
    assert result.delay_s == [3.25]


@pytest.mark.parametrize(("port", "delay"), [("shared", 6.0), ("per_link", 4.0)])
def test_oracle_fastest_link_sends_first_and_a_shared_port_sends_one_after_the_other(port, delay):
    scenario = make_scenario([1.0, 8.0, 8.0], link_mbps=[[1, 2, 1]] * 3, port=port)
    tasks = make_tasks([0.0], n_servers=3, input_mbit=8.0, work_gcycle=0.0)
    result = simulate(scenario, tasks, [[0.0, 0.5, 0.5]])  # 4 Mbit at 2 Mbit/s, then 4 Mbit at 1 Mbit/s
    assert result.delay_s == [delay]
    assert result.wait_s == [delay - 4.0]


def test_oracle_equal_links_send_to_the_lower_server_first():
    scenario = make_scenario([1.0, 1.0, 1.0], link_mbps=1.0)
    result = simulate(scenario, make_tasks([0.0], n_servers=3, input_mbit=2.0), [[0.0, 0.5, 0.5]])
    assert [(share.server, share.reach_s) for share in result.shares] == [(1, 1.0), (2, 2.0)]


def test_oracle_port_stays_busy_for_the_next_task_but_local_shares_pass():
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0)
    tasks = make_tasks([0.0, 1.0, 1.0], n_servers=2, input_mbit=3.0, work_gcycle=1.0)
    result = simulate(scenario, tasks, [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert result.wait_s == [0.0, 2.0, 0.0]
    assert result.delay_s == [4.0, 6.0, 1.0]


def test_oracle_servers_serve_by_arrival_at_the_server_not_by_decision():
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0)
    tasks = make_tasks([0.0, 1.0], origin=[0, 1], n_servers=2, input_mbit=4.0, work_gcycle=4.0)
    result = simulate(scenario, tasks, [[0.0, 1.0], [0.0, 1.0]])
    assert result.delay_s == [9.0, 4.0]  # the first arrives at 4 and waits until 5
    assert result.wait_s == [1.0, 0.0]
    assert [task for _, _, task in result.intervals[1]] == [1, 0]


def test_oracle_ties_at_the_server_go_by_order_of_decision():
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0)
    tasks = make_tasks([0.0, 1.0], origin=[0, 1], n_servers=2, input_mbit=1.0, work_gcycle=2.0)
    result = simulate(scenario, tasks, [[0.0, 1.0], [0.0, 1.0]])  # both are at server 1 at time 1
    assert result.delay_s == [3.0, 4.0]


def test_oracle_every_share_pays_the_overhead_and_the_last_share_counts():
    scenario = make_scenario([1.0, 2.0])
    tasks = make_tasks([0.0], n_servers=2, work_gcycle=4.0, overhead_gcycle=1.0)
    result = simulate(scenario, tasks, [[0.5, 0.5]])
    assert result.delay_s == [3.0]
    assert result.intervals == [[(0.0, 3.0, 0)], [(0.0, 1.5, 0)]]


def test_oracle_probes_delay_the_dispatch_and_the_own_server_is_free():
    scenario = make_scenario([1.0, 1.0, 1.0], latency_s=[[0, 1, 2]] * 3, probe_s=0.5)
    tasks = make_tasks([0.0, 10.0], n_servers=3)
    result = simulate(scenario, tasks, [[1.0, 0, 0], [1.0, 0, 0]], probes=[[1, 1, 1], [1, 0, 0]])
    assert result.probes == [2, 0]
    assert result.wait_s == [5.0, 0.0]  # round trip 2 x 2 and two probes of 0.5
    assert result.delay_s == [6.0, 1.0]


def test_oracle_integrates_the_speed():
    tasks = make_tasks([0.0], work_gcycle=4.0, speed_change_s=[[0.0, 1.0, 3.0]], speed_factor=[[1.0, 0.5, 2.0]])
    result = simulate(make_scenario([1.0]), tasks, [[1.0]])
    assert result.delay_s == [4.0]  # 1 + 2 x 0.5 + 1 x 2


def test_oracle_announces_waiting_and_flying_work_before_the_arrivals_of_the_moment():
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0, announce_s=1.0)
    tasks = make_tasks([0.0, 1.0], n_servers=2, input_mbit=4.0, work_gcycle=4.0)
    result = simulate(scenario, tasks, [[0.5, 0.5], [1.0, 0.0]])
    assert result.announced == [(0.0, [0.0, 0.0], [0.0, 0.0]), (1.0, [1.0, 0.0], [0.0, 2.0])]


def test_oracle_late_is_strictly_more_than_the_deadline():
    tasks = make_tasks([0.0, 10.0], work_gcycle=[2.0, 2.5], deadline_s=2.0)
    assert simulate(make_scenario([1.0]), tasks, [[1.0], [1.0]]).late == [False, True]
