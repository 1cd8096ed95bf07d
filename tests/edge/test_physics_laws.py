"""Laws that any physics of servers and links obeys, whatever the numbers: conservation, symmetry, monotony, scaling."""

from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.edge import physics
from ddrl_sched.seeding import stream
from tests.builders import Case, carry_out, given_shares, make_scenario, make_tasks, place_in_windows, random_case
from tests.oracle import simulate

PARTS = ("wait_s", "transfer_s", "compute_s", "return_s")
worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**9),
        "n_servers": st.integers(1, 5),
        "n_tasks": st.integers(1, 14),
        "port": st.sampled_from(["shared", "per_link"]),
    }
)
law = settings(max_examples=80, deadline=None, derandomize=True)


def case_of(world):
    rest = {key: value for key, value in world.items() if key != "seed"}
    return random_case(stream(world["seed"], "laws"), **rest)


def steady(case):
    """The same case without changes of speed."""
    e = case.scenario.n_servers
    tasks = case.tasks._replace(speed_change_s=np.zeros((1, e, 1)), speed_factor=np.ones((1, e, 1)))
    return replace(case, tasks=tasks)


def outcome_of(case):
    return carry_out(physics, case.scenario, case.tasks, case.share, case.probe)


# --- conservation ------------------------------------------------------------------------------------------------


@law
@given(worlds)
def test_work_in_is_work_out(world):
    case = case_of(world)
    _, states = place_in_windows(physics, case.scenario, case.tasks, case.share, (0, world["n_tasks"]), case.probe)
    used = case.share[0] > 0
    put_in = used * case.tasks.overhead_gcycle[0][:, None] + case.share[0] * case.tasks.work_gcycle[0][:, None]
    np.testing.assert_allclose(states[-1].own_gcycle[0].sum(axis=0), put_in.sum(axis=0), atol=1e-9)
    assert (states[-1].n_flight == 0).all()
    served = np.zeros(world["n_servers"])
    result = simulate(case.scenario, case.tasks, case.share[0], case.probe[0])
    for server, intervals in enumerate(result.intervals):
        served[server] = sum(work_between(case, server, start, end) for start, end, _ in intervals)
    np.testing.assert_allclose(served, put_in.sum(axis=0), atol=1e-9)


def work_between(case, server, start, end):
    """Gcycle that a server does from start to end at its changing speed."""
    edges = np.append(case.tasks.speed_change_s[0, server], np.inf)
    seconds = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0.0, None)
    return case.scenario.speed_gcps[server] * float(seconds @ case.tasks.speed_factor[0, server])


@law
@given(worlds)
def test_servers_end_with_the_last_service_of_the_oracle(world):
    case = case_of(world)
    _, states = place_in_windows(physics, case.scenario, case.tasks, case.share, (0, world["n_tasks"]), case.probe)
    result = simulate(case.scenario, case.tasks, case.share[0], case.probe[0])
    ends = [max((end for _, end, _ in intervals), default=0.0) for intervals in result.intervals]
    np.testing.assert_allclose(states[-1].server_free_s[0], ends, atol=1e-9)


@law
@given(worlds)
def test_shares_sum_to_one_and_parts_sum_to_the_delay(world):
    case = case_of(world)
    outcome = outcome_of(case)
    np.testing.assert_allclose(outcome.share.sum(axis=2), 1.0, atol=1e-12)
    np.testing.assert_allclose(sum(getattr(outcome, part) for part in PARTS), outcome.delay_s, atol=1e-9)
    for part in PARTS:
        assert (getattr(outcome, part) >= -1e-12).all()


@law
@given(worlds)
def test_no_server_idles_while_a_share_is_there(world):
    case = case_of(world)
    result = simulate(case.scenario, case.tasks, case.share[0], case.probe[0])
    for server, intervals in enumerate(result.intervals):
        reached = {share.task: share.reach_s for share in result.shares if share.server == server}
        free = 0.0
        for start, end, task in intervals:
            assert start == pytest.approx(max(free, reached[task]), abs=1e-9)
            free = end


@law
@given(worlds)
def test_kernel_serves_whole_tasks_first_come_first_served_without_idling(world):
    """With fast links and whole tasks the start of service can be read off the outcome."""
    case = steady(case_of(world))
    rng = stream(world["seed"], "whole")
    n, e = world["n_tasks"], world["n_servers"]
    server = rng.integers(0, e, n)
    latency = rng.uniform(0.0, 1.0, (e, e))
    scenario = make_scenario(case.scenario.speed_gcps, latency_s=latency, port=world["port"])
    outcome = carry_out(physics, scenario, case.tasks, np.eye(e)[server])
    arrive, origin = case.tasks.arrive_s[0], case.tasks.origin[0]
    reach = arrive + scenario.link_latency_s[origin, server]
    start = arrive + outcome.wait_s[0] + outcome.transfer_s[0]
    for s in range(e):
        free = 0.0
        for i in sorted(np.flatnonzero(server == s), key=lambda i: (reach[i], i)):
            assert start[i] == pytest.approx(max(free, reach[i]), abs=1e-9)
            free = start[i] + outcome.compute_s[0, i]


# --- bounds and flags --------------------------------------------------------------------------------------------


@law
@given(worlds)
def test_no_delay_is_under_its_physical_minimum(world):
    case = case_of(world)
    outcome = outcome_of(case)
    tasks, scenario = case.tasks, case.scenario
    top = scenario.speed_gcps * case.tasks.speed_factor[0].max(axis=1)
    for i in range(world["n_tasks"]):
        b = tasks.origin[0, i]
        for s in np.flatnonzero(case.share[0, i] > 0):
            x = case.share[0, i, s]
            least = (tasks.overhead_gcycle[0, i] + x * tasks.work_gcycle[0, i]) / top[s]
            if s != b:
                least += scenario.link_latency_s[b, s] + x * tasks.input_mbit[0, i] / scenario.link_mbps[b, s]
                least += scenario.return_latency_s[b, s] + x * tasks.result_mbit[0, i] / scenario.return_mbps[b, s]
            assert outcome.delay_s[0, i] >= least - 1e-9


@law
@given(worlds)
def test_late_is_delay_over_deadline_and_delays_stay_raw(world):
    case = case_of(world)
    outcome = outcome_of(case)
    np.testing.assert_array_equal(outcome.late, outcome.delay_s > case.tasks.deadline_s)
    strict = replace(case, tasks=case.tasks._replace(deadline_s=np.full((1, world["n_tasks"]), 1e-6)))
    np.testing.assert_array_equal(outcome_of(strict).delay_s, outcome.delay_s)


def test_deadline_is_met_when_the_delay_equals_it():
    tasks = make_tasks([0.0, 10.0], work_gcycle=[2.0, 2.5], deadline_s=2.0)
    outcome = carry_out(physics, make_scenario([1.0]), tasks, [[1.0], [1.0]])
    assert outcome.late.tolist() == [[False, True]]


# --- order -------------------------------------------------------------------------------------------------------


def test_earlier_arrival_at_the_server_goes_first_though_decided_later():
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0)
    tasks = make_tasks([0.0, 1.0], origin=[0, 1], n_servers=2, input_mbit=4.0, work_gcycle=4.0)
    assert carry_out(physics, scenario, tasks, [[0, 1.0], [0, 1.0]]).delay_s.tolist() == [[9.0, 4.0]]


def test_ties_at_the_server_go_by_order_of_decision():
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0)
    tasks = make_tasks([0.0, 1.0], origin=[0, 1], n_servers=2, input_mbit=1.0, work_gcycle=2.0)
    assert carry_out(physics, scenario, tasks, [[0, 1.0], [0, 1.0]]).delay_s.tolist() == [[3.0, 4.0]]


@law
@given(worlds)
def test_a_later_task_with_the_same_way_never_overtakes(world):
    case = case_of(world)
    n, e = world["n_tasks"], world["n_servers"]
    server = stream(world["seed"], "way").integers(0, e)
    tasks = case.tasks._replace(origin=np.zeros((1, n), np.int64))
    outcome = carry_out(physics, case.scenario, tasks, np.tile(np.eye(e)[server], (n, 1)))
    served = tasks.arrive_s + outcome.delay_s - outcome.return_s
    assert (np.diff(served[0]) >= -1e-9).all()


# --- symmetry, monotony, scaling ---------------------------------------------------------------------------------


@law
@given(worlds)
def test_relabelling_stations_and_servers_relabels_the_result(world):
    case = case_of(world)
    e = world["n_servers"]
    at = stream(world["seed"], "labels").permutation(e)  # old label of each place
    place_of = np.argsort(at)
    scenario = replace(
        case.scenario,
        speed_gcps=case.scenario.speed_gcps[at],
        link_mbps=case.scenario.link_mbps[np.ix_(at, at)],
        link_latency_s=case.scenario.link_latency_s[np.ix_(at, at)],
        return_mbps=case.scenario.return_mbps[np.ix_(at, at)],
        return_latency_s=case.scenario.return_latency_s[np.ix_(at, at)],
    )
    tasks = case.tasks._replace(
        origin=place_of[case.tasks.origin],
        speed_change_s=case.tasks.speed_change_s[:, at],
        speed_factor=case.tasks.speed_factor[:, at],
    )
    relabelled = outcome_of(Case(scenario, tasks, case.share[:, :, at], case.probe[:, :, at]))
    original = outcome_of(case)
    np.testing.assert_allclose(relabelled.delay_s, original.delay_s, atol=1e-9)
    np.testing.assert_allclose(relabelled.share, original.share[:, :, at], atol=1e-12)


@law
@given(worlds, st.integers(0, 13), st.floats(0.01, 5.0))
def test_more_work_or_overhead_shortens_no_delay(world, which, more):
    """FCFS by arrival at the server: arrivals do not depend on work, so ends of service only move back."""
    case = case_of(world)
    before = outcome_of(case).delay_s
    for name in ("work_gcycle", "overhead_gcycle"):
        heavier = getattr(case.tasks, name).copy()
        heavier[0, which % world["n_tasks"]] += more
        after = outcome_of(replace(case, tasks=case.tasks._replace(**{name: heavier}))).delay_s
        assert (after >= before - 1e-9).all()
        assert after[0, which % world["n_tasks"]] > before[0, which % world["n_tasks"]] - 1e-9


def test_more_work_lengthens_the_own_delay_by_its_service():
    scenario = make_scenario([2.0])
    delays = [carry_out(physics, scenario, make_tasks([0.0], work_gcycle=w), [[1.0]]).delay_s[0, 0] for w in (3.0, 5.0)]
    assert delays == [1.5, 2.5]


@law
@given(worlds, st.sampled_from([0.25, 3.0, 100.0]))
def test_a_world_a_times_as_fast_has_delays_a_times_as_short(world, a):
    case = case_of(world)
    scenario = replace(
        case.scenario,
        speed_gcps=case.scenario.speed_gcps * a,
        link_mbps=case.scenario.link_mbps * a,
        link_latency_s=case.scenario.link_latency_s / a,
        return_mbps=case.scenario.return_mbps * a,
        return_latency_s=case.scenario.return_latency_s / a,
        announce_s=case.scenario.announce_s / a,
        probe_s=case.scenario.probe_s / a,
    )
    tasks = case.tasks._replace(arrive_s=case.tasks.arrive_s / a, speed_change_s=case.tasks.speed_change_s / a)
    fast = outcome_of(replace(case, scenario=scenario, tasks=tasks))
    slow = outcome_of(case)
    np.testing.assert_allclose(fast.delay_s * a, slow.delay_s, rtol=1e-9, atol=1e-9)


@law
@given(worlds, st.sampled_from([0.125, 7.0]))
def test_units_of_work_and_data_are_arbitrary(world, a):
    case = case_of(world)
    rates = {name: getattr(case.scenario, name) * a for name in ("speed_gcps", "link_mbps", "return_mbps")}
    scenario = replace(case.scenario, **rates)
    names = ("input_mbit", "result_mbit", "work_gcycle", "overhead_gcycle")
    tasks = case.tasks._replace(**{name: getattr(case.tasks, name) * a for name in names})
    np.testing.assert_allclose(
        outcome_of(replace(case, scenario=scenario, tasks=tasks)).delay_s, outcome_of(case).delay_s, atol=1e-9
    )


@law
@given(worlds, st.floats(0.0, 50.0))
def test_a_later_start_of_everything_changes_no_delay(world, later):
    case = case_of(world)
    change = case.tasks.speed_change_s + later
    change[:, :, 0] = 0.0
    tasks = case.tasks._replace(arrive_s=case.tasks.arrive_s + later, speed_change_s=change)
    np.testing.assert_allclose(outcome_of(replace(case, tasks=tasks)).delay_s, outcome_of(case).delay_s, atol=1e-8)


@law
@given(worlds)
def test_the_past_does_not_depend_on_the_future(world):
    case = case_of(world)
    half = world["n_tasks"] // 2
    tasks = case.tasks._replace(valid=np.arange(world["n_tasks"])[None] < half)
    outcome, _ = place_in_windows(physics, case.scenario, tasks, case.share, (0, half), case.probe)
    full = outcome_of(case)
    # A later decision may overtake a share on its way; tasks before the first such arrival are fixed.
    result = simulate(case.scenario, tasks, case.share[0], case.probe[0])
    if half < world["n_tasks"]:
        fixed = [max((s.reach_s for s in result.shares if s.task == i), default=0.0) for i in range(half)]
        kept = np.array(fixed) <= case.tasks.arrive_s[0, half]
        np.testing.assert_allclose(outcome.delay_s[0, :half][kept], full.delay_s[0, :half][kept], atol=1e-9)
    assert np.isnan(outcome.delay_s[0, half:]).all()


# --- values ------------------------------------------------------------------------------------------------------


@law
@given(worlds)
def test_place_and_finish_leave_their_arguments_alone(world):
    case = case_of(world)
    n, half = world["n_tasks"], world["n_tasks"] // 2
    outcome = physics.empty_outcome(case.tasks, world["n_servers"])
    first = physics.initial_state(case.scenario, 1)
    decision = given_shares(case.share, case.probe)
    middle = physics.place(
        case.scenario, first, case.tasks, decision, lo=np.array([0]), hi=np.array([half]), outcome=outcome
    )
    kept = deepcopy((case.tasks, decision, first, middle))
    rest = given_shares(case.share[:, half:], case.probe[:, half:])
    for _ in range(2):  # the same state twice: the same future
        again = physics.empty_outcome(case.tasks, world["n_servers"])
        last = physics.place(
            case.scenario, middle, case.tasks, rest, lo=np.array([half]), hi=np.array([n]), outcome=again
        )
        physics.finish(case.scenario, last, case.tasks, again)
        for before, after in zip(kept, (case.tasks, decision, first, middle), strict=True):
            assert_same_record(before, after)


def assert_same_record(before, after):
    names = before._fields if isinstance(before, tuple) else [f.name for f in fields(before)]
    for name in names:
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name), err_msg=name)


def test_nothing_is_written_beyond_the_window():
    tasks = make_tasks([0.0, 1.0, 2.0])
    scenario = make_scenario([1.0])
    outcome = physics.empty_outcome(tasks, 1)
    state = physics.initial_state(scenario, 1)
    state = physics.place(
        scenario, state, tasks, given_shares([[1.0]]), lo=np.array([0]), hi=np.array([1]), outcome=outcome
    )
    physics.finish(scenario, state, tasks, outcome)
    assert outcome.delay_s[0, 0] == 1.0
    assert np.isnan(outcome.delay_s[0, 1:]).all()
    assert (outcome.share[0, 1:] == 0).all()


def test_a_full_list_of_shares_on_their_way_grows():
    n = 100
    scenario = make_scenario([1.0, 1.0], latency_s=1000.0)
    tasks = make_tasks(np.arange(n) * 0.5, n_servers=2, work_gcycle=1.0)
    share = np.tile([0.0, 1.0], (n, 1))
    outcome = carry_out(physics, scenario, tasks, share)
    np.testing.assert_allclose(outcome.delay_s[0], 2001.0 + 0.5 * np.arange(n))
