"""Where no published fault acts, clean and published delays coincide.

Links without length, no overhead, no result, no deadline, tasks that arrive together at the slot's start, station 0
first: then a share waits for the work placed before it on its server, in both worlds.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.edge import physics, published
from ddrl_sched.edge.types import Decision
from ddrl_sched.seeding import stream
from tests.builders import given_shares, make_scenario, make_tasks

conformance = settings(max_examples=60, deadline=None, derandomize=True)
sizes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**9),
        "n_servers": st.integers(1, 5),
        "n_slots": st.integers(1, 5),
        "most": st.integers(1, 4),
        "busy": st.sampled_from([0.2, 1.0, 3.0]),
    }
)


def slotted_tasks(rng, n_servers, n_slots, most, busy):
    """Up to `most` tasks per station and slot, station by station."""
    rows = [
        (slot, station, index)
        for slot in range(n_slots)
        for station in range(n_servers)
        for index in range(rng.integers(0, most + 1))
    ] or [(0, 0, 0)]
    slot, station, index = np.array(rows).T
    size = rng.uniform(2.0, 5.0, len(rows))
    work = size * rng.uniform(0.1, 0.3, len(rows)) * busy
    return make_tasks(slot.astype(float), station, size, work_gcycle=work, index=index, n_servers=n_servers)


def follow(world, scenario, tasks, decision):
    outcome = physics.empty_outcome(tasks, scenario.n_servers)
    state = world.initial_state(scenario, 1)
    n_tasks = tasks.shape[1]
    state = world.place(scenario, state, tasks, decision, lo=np.array([0]), hi=np.array([n_tasks]), outcome=outcome)
    world.finish(scenario, state, tasks, outcome)
    return outcome


def both(rule, size, decide, link_mbps=np.inf):
    rng = stream(size["seed"], "conformance")
    tasks = slotted_tasks(rng, **{key: value for key, value in size.items() if key != "seed"})
    decision = decide(rng, tasks, size["n_servers"])
    scenario = make_scenario(rng.uniform(0.3, 2.0, size["n_servers"]), link_mbps)
    published_scenario = replace(scenario, rule=rule)
    return follow(physics, scenario, tasks, decision), follow(published, published_scenario, tasks, decision)


def assert_coincide(rule, size, decide):
    clean, theirs = both(rule, size, decide)
    np.testing.assert_allclose(clean.delay_s, theirs.delay_s, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(clean.share, theirs.share, atol=1e-12)
    assert not theirs.late.any()


def any_sets(rng, tasks, n_servers):
    share = rng.dirichlet(np.ones(n_servers), tasks.shape[1]) * (rng.random((tasks.shape[1], n_servers)) < 0.6)
    share[share.sum(axis=1) == 0.0, 0] = 1.0
    return given_shares(share / share.sum(axis=1, keepdims=True))


def local_and_one(rng, tasks, n_servers):
    n = tasks.shape[1]
    share, part = np.zeros((n, n_servers)), rng.uniform(0.1, 0.9, n)
    np.add.at(share, (np.arange(n), tasks.origin[0]), part)
    np.add.at(share, (np.arange(n), rng.integers(0, n_servers, n)), 1.0 - part)
    return given_shares(share)


def one_server(rng, tasks, n_servers):
    select = np.eye(n_servers, dtype=np.bool_)[None, rng.integers(0, n_servers, tasks.shape[1])]
    return Decision("given", "static", select=select)


@pytest.mark.parametrize("rule", ["amcoedge", "smcoedge", "optimal"])
@conformance
@given(sizes)
def test_rules_of_any_set_coincide_with_the_clean_physics(rule, size):
    assert_coincide(rule, size, any_sets)


@pytest.mark.parametrize("rule", ["drlcoedge", "randcoedge"])
@conformance
@given(sizes)
def test_rules_of_two_servers_coincide_with_the_clean_physics(rule, size):
    assert_coincide(rule, size, local_and_one)


@pytest.mark.parametrize("rule", ["dedgeai", "opt_ts"])
@conformance
@given(sizes)
def test_rules_of_one_server_coincide_with_the_clean_physics(rule, size):
    assert_coincide(rule, size, one_server)


def test_slow_links_tell_the_worlds_apart():
    """The published uplink and rates act on them in another way: the agreement above is not one of empty worlds."""
    size = {"seed": 1, "n_servers": 3, "n_slots": 4, "most": 3, "busy": 1.0}
    clean, theirs = both("amcoedge", size, any_sets, link_mbps=20.0)
    assert np.max(np.abs(clean.delay_s - theirs.delay_s)) > 0.01
