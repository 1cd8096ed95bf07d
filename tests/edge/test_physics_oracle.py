"""The oracle against numbers done in the head, then the kernel against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.edge import physics
from ddrl_sched.edge.types import Decision
from ddrl_sched.seeding import stream
from tests.builders import make_scenario, make_tasks, place_in_windows, random_case, stack_cases
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


def test_oracle_the_way_back_has_its_own_rate_and_latency_in_the_kernel_too():
    """2 / 4 + 0.25 there, 2 s of work, 0.75 + 1 / 2 back; asking costs the round trip 0.25 + 0.75."""
    scenario = make_scenario([1.0, 2.0], link_mbps=4.0, latency_s=0.25, return_mbps=2.0, return_latency_s=0.75)
    tasks = make_tasks([1.0], n_servers=2, input_mbit=2.0, result_mbit=1.0, work_gcycle=4.0)
    assert simulate(scenario, tasks, [[0.0, 1.0]]).delay_s == [4.0]
    assert simulate(scenario, tasks, [[0.0, 1.0]], probes=[[0, 1]]).delay_s == [5.0]
    decision = Decision("given", "static", select=np.array([[[False, True]]]), probe=np.array([[[False, True]]]))
    outcome = physics.empty_outcome(tasks, 2)
    state = physics.initial_state(scenario, 1)
    state = physics.place(scenario, state, tasks, decision, lo=np.array([0]), hi=np.array([1]), outcome=outcome)
    physics.finish(scenario, state, tasks, outcome)
    assert (outcome.transfer_s[0, 0], outcome.return_s[0, 0], outcome.delay_s[0, 0]) == (0.75, 1.25, 5.0)


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


# --- the kernel against the oracle -------------------------------------------------------------------------------

worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**9),
        "n_servers": st.integers(1, 5),
        "n_tasks": st.integers(1, 14),
        "port": st.sampled_from(["shared", "per_link"]),
        "grid": st.booleans(),
        "busy": st.sampled_from([0.3, 1.0, 4.0]),
    }
)


def case_of(world):
    rest = {key: value for key, value in world.items() if key != "seed"}
    return random_case(stream(world["seed"], "oracle"), **rest)


def assert_outcome_is(outcome, result, deadline_s, grid):
    n = len(result.delay_s)
    np.testing.assert_allclose(outcome.delay_s[0, :n], result.delay_s, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(outcome.probes[0, :n], result.probes)
    parts = ("wait_s", "transfer_s", "compute_s", "return_s")
    total = sum(getattr(outcome, part)[0, :n] for part in parts)
    np.testing.assert_allclose(total, result.delay_s, rtol=1e-9, atol=1e-9)
    # The parts belong to the last share; when two end together either may be taken as last.
    clear = np.array(result.gap_s) > (0.0 if grid else 1e-7)
    for part in parts:
        ours, theirs = getattr(outcome, part)[0, :n], np.array(getattr(result, part))
        np.testing.assert_allclose(ours[clear], theirs[clear], rtol=1e-9, atol=1e-9, err_msg=part)
    settled = np.abs(np.array(result.delay_s) - deadline_s) > 1e-9
    settled |= grid
    np.testing.assert_array_equal(outcome.late[0, :n][settled], np.array(result.late)[settled])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(worlds)
def test_kernel_equals_oracle(world):
    case = case_of(world)
    n = case.tasks.shape[1]
    result = simulate(case.scenario, case.tasks, case.share[0], case.probe[0])
    outcome, _ = place_in_windows(physics, case.scenario, case.tasks, case.share, (0, n), case.probe)
    assert_outcome_is(outcome, result, case.tasks.deadline_s[0], world["grid"])
    np.testing.assert_allclose(outcome.share, case.share, atol=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(worlds, st.lists(st.integers(0, 14), max_size=5))
def test_windows_change_nothing(world, cuts):
    case = case_of(world)
    n = case.tasks.shape[1]
    cuts = [0, *sorted(min(cut, n) for cut in cuts), n]
    at_once, one = place_in_windows(physics, case.scenario, case.tasks, case.share, (0, n), case.probe)
    in_parts, many = place_in_windows(physics, case.scenario, case.tasks, case.share, cuts, case.probe)
    for name in ("share", "wait_s", "transfer_s", "compute_s", "return_s", "delay_s", "late", "probes"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(in_parts, name), err_msg=name)
    for name in ("server_free_s", "n_flight", "port_free_s", "announced_s", "announcement", "own_gcycle"):
        np.testing.assert_array_equal(getattr(one[-1], name), getattr(many[-1], name), err_msg=name)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(worlds)
def test_announcements_equal_oracle(world):
    case = case_of(world)
    n = case.tasks.shape[1]
    announced = simulate(case.scenario, case.tasks, case.share[0], case.probe[0]).announced
    _, states = place_in_windows(physics, case.scenario, case.tasks, case.share, range(n + 1), case.probe)
    change, factor = case.tasks.speed_change_s[0], case.tasks.speed_factor[0]
    for task in range(n):
        due = [entry for entry in announced if entry[0] <= case.tasks.arrive_s[0, task]]
        moment, waiting, flying = due[-1]
        now = [factor[s][np.flatnonzero(change[s] <= moment)[-1]] for s in range(world["n_servers"])]
        promised_s = (np.array(waiting) + flying) / (case.scenario.speed_gcps * now)
        assert states[task + 1].announcement[0] == len(due) - 1
        np.testing.assert_allclose(states[task + 1].announced_s[0], promised_s, rtol=1e-9, atol=1e-9)


def test_replicas_do_not_touch_each_other():
    cases = [random_case(stream(seed, "replicas"), 3, 10) for seed in range(4)]
    cases = [type(case)(cases[0].scenario, case.tasks, case.share, case.probe) for case in cases]
    tasks, share, probe = stack_cases(cases)
    together, _ = place_in_windows(physics, cases[0].scenario, tasks, share, (0, 4, 10), probe)
    for r, case in enumerate(cases):
        result = simulate(case.scenario, case.tasks, case.share[0], case.probe[0])
        np.testing.assert_allclose(together.delay_s[r], result.delay_s, rtol=1e-9)
