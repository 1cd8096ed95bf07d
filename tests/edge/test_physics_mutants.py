"""Seeded bugs of the physics: laws and the independent oracle catch each of them, and pass what has no bug.

None of the checks compares with the kernel itself. Plain Python copies run them, without numba.
"""

import numpy as np
import pytest

from ddrl_sched.edge.types import Decision
from ddrl_sched.seeding import stream
from tests import mutants
from tests.builders import carry_out, make_scenario, make_tasks, random_case
from tests.edge import test_physics_laws, test_physics_oracle

WORLDS = [
    {"seed": seed, "n_servers": 1 + seed % 4, "n_tasks": 3 + seed % 8, "port": ["shared", "per_link"][seed % 2]}
    for seed in range(24)
]
LAWS = (  # of tests.edge.test_physics_laws: functions of one world
    "test_work_in_is_work_out",
    "test_servers_end_with_the_last_service_of_the_oracle",
    "test_shares_sum_to_one_and_parts_sum_to_the_delay",
    "test_kernel_serves_whole_tasks_first_come_first_served_without_idling",
    "test_no_delay_is_under_its_physical_minimum",
    "test_late_is_delay_over_deadline_and_delays_stay_raw",
    "test_a_later_task_with_the_same_way_never_overtakes",
    "test_relabelling_stations_and_servers_relabels_the_result",
)
EXAMPLES = (  # numbers done in the head
    "test_deadline_is_met_when_the_delay_equals_it",
    "test_ties_at_the_server_go_by_order_of_decision",
    "test_earlier_arrival_at_the_server_goes_first_though_decided_later",
)
ORACLE = ("test_kernel_equals_oracle", "test_announcements_equal_oracle")


def rounded_shares_sum_to_one(physics, world):
    case = random_case(stream(world["seed"], "sum"), world["n_servers"], world["n_tasks"], world["port"])
    outcome = carry_out(physics, case.scenario, case.tasks, (1.0 + 5e-10) * case.share, case.probe)
    np.testing.assert_allclose(outcome.share.sum(axis=2), 1.0, rtol=0, atol=1e-12)


def equal_finish_ends_all_used_shares_together(physics, world):
    """A task alone in the world: its used shares end at one moment, computed here from what was used."""
    n, rng = world["n_servers"], stream(world["seed"], "equal")
    scenario = make_scenario(
        rng.uniform(1, 5, n),
        link_mbps=rng.uniform(1, 5, (n, n)),
        latency_s=rng.uniform(0, 0.2, (n, n)),
        port=world["port"],
        return_mbps=rng.uniform(1, 5, (n, n)),
        return_latency_s=rng.uniform(0, 0.2, (n, n)),
    )
    tasks = make_tasks([0.0], n_servers=n, input_mbit=2.0, result_mbit=1.0, work_gcycle=8.0, overhead_gcycle=0.5)
    outcome = physics.empty_outcome(tasks, n)
    decision = Decision("given", "running", split="equal_finish", select=np.ones((1, 1, n), np.bool_))
    state = physics.place(
        scenario,
        physics.initial_state(scenario, 1),
        tasks,
        decision,
        lo=np.array([0]),
        hi=np.array([1]),
        outcome=outcome,
    )
    physics.finish(scenario, state, tasks, outcome)
    ends, sent_s = [], 0.0
    for s in np.argsort(-scenario.link_mbps[0], kind="stable"):
        share = outcome.share[0, 0, s]
        if share == 0.0:
            continue
        end = (0.5 + share * 8.0) / scenario.speed_gcps[s]
        if s != 0:
            send = share * 2.0 / scenario.link_mbps[0, s]
            sent_s = sent_s + send if world["port"] == "shared" else send
            end += sent_s + scenario.link_latency_s[0, s]
            end += scenario.return_latency_s[0, s] + share * 1.0 / scenario.return_mbps[0, s]
        ends.append(end)
    np.testing.assert_allclose(ends, outcome.delay_s[0, 0], rtol=1e-9)


def first_breach(physics, monkeypatch):
    """Name of the first check that fails, "" if all pass."""
    monkeypatch.setattr(test_physics_laws, "physics", physics)
    monkeypatch.setattr(test_physics_oracle, "physics", physics)
    checks = [(name, getattr(test_physics_laws, name), ()) for name in EXAMPLES]
    for world in WORLDS:
        for module, names, extra in (
            (test_physics_laws, LAWS, {}),
            (test_physics_oracle, ORACLE, {"grid": world["seed"] % 3 == 0, "busy": 1.0}),
        ):
            checks += [(name, getattr(module, name).hypothesis.inner_test, (world | extra,)) for name in names]
        checks += [
            (check.__name__, check, (physics, world))
            for check in (rounded_shares_sum_to_one, equal_finish_ends_all_used_shares_together)
        ]
    for name, check, arguments in checks:
        try:
            check(*arguments)
        except AssertionError:
            return name
    return ""


def test_the_copy_without_a_bug_passes_every_check(monkeypatch):
    assert first_breach(mutants.physics(), monkeypatch) == ""


@pytest.mark.parametrize("bug", mutants.MUTANTS)
def test_every_bug_is_caught(bug, monkeypatch):
    caught = first_breach(mutants.physics(bug), monkeypatch)
    print(f"\n{bug}: caught by {caught}")
    assert caught
