"""One decision alone is what the simulation makes of it, and measured waits are taken as they are."""

import numpy as np
import pytest

from ddrl_sched.edge import physics, split
from ddrl_sched.edge.one_decision import best_set, quote, resolve, simulated_quote
from ddrl_sched.edge.physics import empty_outcome
from ddrl_sched.edge.session import window_of
from ddrl_sched.edge.types import Decision
from ddrl_sched.schedulers.actions import table
from tests.builders import make_scenario, make_tasks, random_case

N_SERVERS = 4
SETS = table("any_subset", np.arange(N_SERVERS), N_SERVERS)
PROBED = np.ones((1, 1, N_SERVERS), bool)
PRICES = np.linspace(0.0, 0.02, N_SERVERS).reshape(1, 1, -1)
DECISIONS = {
    "eft": Decision("best", "running", "whole", candidates=table("single", np.arange(N_SERVERS), N_SERVERS)),
    "equal finish": Decision("given", "running", "equal_finish", select=PROBED),
    "own": Decision("given", "own", "equal_finish", select=PROBED),
    "static": Decision("given", "static", "proportional", select=PROBED),
    "best set": Decision("best", "announced", "equal_finish", candidates=SETS),
    "tracked": Decision("best", "tracked", "equal_finish", candidates=SETS),
    "jsq": Decision("best", "running", candidates=SETS, objective="wait"),
    "wrr": Decision("wrr", "own"),
    "quota": Decision("wrr", "tracked", weight="quota"),
    "priced": Decision("best", "probed", "equal_finish", candidates=SETS, probe=PROBED, price_s=PRICES),
    "own work": Decision("best", "own", "equal_finish", candidates=SETS, own_work_price=np.full((1, 1), 0.3)),
    "congestion": Decision("best", "running", "equal_finish", candidates=SETS, congestion=np.full((1, 1), 2.0)),
    "unseen": Decision("best", "tracked", "equal_finish", candidates=SETS, unseen_work_factor=np.full((1, 1), 2.5)),
    "at least": Decision("best", "own", "equal_finish", candidates=SETS, min_wait_ratio=np.full((1, 1), 0.8)),
    "given": Decision("given", "static", "given", select=PROBED, share=np.array([[[0.1, 0.2, 0.3, 0.4]]])),
}
LATER = {
    "probes the chosen": Decision("best", "tracked", "equal_finish", "probed", candidates=SETS, probe_selected=True),
    "splits by more": Decision("best", "announced", "equal_finish", "running", candidates=SETS),
}


def played(seed, decision, nominal=False):
    """(world, tasks, every state at an arrival, shares [N, E]) of a random world; nominal: without slowdowns."""
    case = random_case(np.random.default_rng(seed), N_SERVERS, 12)
    scenario, tasks = case.scenario, case.tasks
    if nominal:
        tasks = tasks._replace(speed_factor=np.ones_like(tasks.speed_factor))
    state, outcome, states = physics.initial_state(scenario, 1), empty_outcome(tasks, N_SERVERS), []
    for i in range(tasks.shape[1]):
        states.append(physics.advance(scenario, state, tasks, tasks.arrive_s[:, i], outcome))
        window = {"lo": np.array([i]), "hi": np.array([i + 1])}
        state = physics.place(scenario, states[-1], tasks, decision, **window, outcome=outcome)
    return scenario, tasks, states, outcome.share[0]


def factors(decision):
    """What a decision says of waits that its station cannot know exactly."""
    given = {key: getattr(decision, key) for key in ("unseen_work_factor", "min_wait_ratio")}
    return {key: float(array[0, 0]) for key, array in given.items() if array is not None}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", [*DECISIONS, *LATER])
def test_a_task_alone_gets_the_shares_of_the_simulation(name, seed):
    decision = (DECISIONS | LATER)[name]
    scenario, tasks, states, shares = played(seed, decision)
    for i, state in enumerate(states):
        at = scenario, state, tasks, (0, i)
        probed = None if decision.probe is None else decision.probe[0, 0]

        def after(selected, at=at):
            asked = selected if decision.probe_selected else None
            return simulated_quote(*at, info=decision.split_info, probed=asked)

        known = simulated_quote(*at, info=decision.info, probed=probed, **factors(decision))
        found = resolve(known, decision, after if name in LATER else None)
        np.testing.assert_array_equal(found, shares[i])


@pytest.mark.parametrize("name", ["eft", "equal finish", "best set", "congestion", "given"])
def test_measured_waits_give_what_a_station_with_that_knowledge_would_do(name):
    decision = DECISIONS[name]
    scenario, tasks, states, shares = played(7, decision, nominal=True)
    for i, state in enumerate(states):
        known = simulated_quote(scenario, state, tasks, (0, i), info=decision.info)
        measured = quote(scenario, known.task, known.quote.free_s, port_s=known.quote.port_s)
        np.testing.assert_array_equal(resolve(measured, decision), shares[i])


def test_a_measured_wait_sends_the_task_elsewhere():
    """Two equal servers, no link: the idle one gets all, or with equal finish a second more of the work."""
    scenario = make_scenario([1.0, 1.0])
    task = window_of(make_tasks([0.0], work_gcycle=3.0), np.array([0]), np.array([1]))
    either = table("single", np.arange(2), 2)
    known = quote(scenario, task, [1.0, 0.0])
    assert resolve(known, Decision("best", "own", "whole", candidates=either)).tolist() == [0.0, 1.0]
    both = Decision("given", "own", "equal_finish", select=np.ones((1, 1, 2), bool))
    np.testing.assert_allclose(resolve(known, both), [1 / 3, 2 / 3])


def test_round_robin_by_the_own_account():
    scenario, task = make_scenario([1.0, 3.0]), make_tasks([0.0], work_gcycle=1.0)
    assert resolve(quote(scenario, task, 0.0, own_gcycle=[0.0, 1.9]), Decision("wrr", "own")).tolist() == [0.0, 1.0]
    assert resolve(quote(scenario, task, 0.0, own_gcycle=[0.0, 2.1]), Decision("wrr", "own")).tolist() == [1.0, 0.0]


def test_what_cannot_be_meant_is_refused():
    scenario, tasks = make_scenario([1.0, 3.0]), make_tasks([0.0, 1.0], work_gcycle=1.0)
    with pytest.raises(ValueError, match="task: one task expected, got 1 x 2"):
        quote(scenario, tasks, 0.0)
    task = window_of(tasks, np.array([0]), np.array([1]))
    for wait_s in ([1.0], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="wait_s: 2 finite numbers expected"):
            quote(scenario, task, wait_s)
    with pytest.raises(ValueError, match=r"scheduler\.choice"):
        resolve(quote(scenario, task, 0.0), Decision("given", "own"))


def random_quote(rng, n, port):
    """What a task of station 0 is told in a world of n servers."""
    scenario = make_scenario(rng.uniform(1, 4, n), link_mbps=rng.uniform(20, 100, (n, n)), latency_s=0.002, port=port)
    task = make_tasks([0.0], input_mbit=rng.uniform(1, 5), work_gcycle=1.0, overhead_gcycle=0.1, n_servers=n)
    return quote(scenario, task, rng.uniform(0, 0.5, n), port_s=0.01).quote


@pytest.mark.parametrize("port", ["shared", "per_link"])
@pytest.mark.parametrize("units", [0, 3])
def test_no_set_ends_before_the_best_set(port, units):
    rng = np.random.default_rng(1)
    for _ in range(30):
        told = random_quote(rng, 4, port)
        best = best_set(told, units)
        assert best.exact
        assert best.share.sum() == pytest.approx(1.0)
        assert split.finish_of(told, best.share) == pytest.approx(best.finish_s, abs=1e-9)
        for mask in SETS.reshape(-1, 4):
            share = np.zeros(4)
            finish_s = split.equal_finish(told, mask, share)
            finish_s = split.round_to_units(told, units, mask, share) if units else finish_s
            assert best.finish_s <= finish_s + 1e-9


def test_the_best_set_by_hand():
    """Servers of 1 and 3 Gcycle/s, no links to speak of: 4 Gcycle are done in 1 s, by one alone in 4/3 s."""
    scenario = make_scenario([1.0, 3.0])
    told = quote(scenario, make_tasks([0.0], work_gcycle=4.0, n_servers=2), 0.0).quote
    best = best_set(told)
    assert best.share.tolist() == pytest.approx([0.25, 0.75])
    assert best.finish_s == pytest.approx(1.0)
    busy = quote(scenario, make_tasks([0.0], work_gcycle=4.0, n_servers=2), [5.0, 0.0]).quote
    assert best_set(busy).share.tolist() == [0.0, 1.0]


def test_of_many_servers_on_one_port_some_sets_are_compared():
    best = best_set(random_quote(np.random.default_rng(2), 14, "shared"))
    assert not best.exact
    assert best.share.sum() == pytest.approx(1.0)
