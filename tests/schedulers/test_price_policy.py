"""Price policies: at the start they are the rule they start from, the kernel's factors by hand, and they learn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddrl_sched.config import InputError
from ddrl_sched.edge import physics
from ddrl_sched.edge.session import Traces, recent_rate
from ddrl_sched.edge.types import Decision
from ddrl_sched.run.evolve import Evolution
from ddrl_sched.run.rollout import rollout
from ddrl_sched.schedulers.actions import table
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.price_policy import PricePolicy, actor_specs
from ddrl_sched.schedulers.price_settings import price_settings
from ddrl_sched.schedulers.probing import rank_of_others
from ddrl_sched.schedulers.table import build
from ddrl_sched.seeding import stream
from tests.builders import make_scenario, make_tasks
from tests.conf_files import names, plain
from tests.schedulers.test_schedulers import MEAN_WORK_GCYCLE, edge5, poisson

SLOT_TASKS = np.full(20, 0.3)
YAMLS = [
    name
    for name in names("scheduler")
    if plain("scheduler", name)["name"] == "price_policy" and not name.startswith("ablation/")
]


def sets(name, n):
    """The table of n stations that own a server each."""
    return table(name, np.arange(n), n)


def read(label, **changes):
    data = plain("scheduler", label)
    for key, value in changes.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    return data


def policy(label, scenario, n_seeds=1, first=0, **changes):
    generators = [stream(0, "learner", first + k) for k in range(n_seeds)]
    return PricePolicy(price_settings(read(label, **changes)), scenario, n_seeds, generators)


def run(scheduler, scenario, tasks, slot_tasks=None, drawn_order=True):
    traces = Traces(scenario, tasks, MEAN_WORK_GCYCLE, slot_tasks, drawn_order)
    return list(rollout(traces, scheduler, stream(0, "policy")))[-1].outcome


def fixed(label, **changes):
    settings = plain("scheduler", label) | changes
    return build(settings.pop("name"), settings)


def same(one, other):
    np.testing.assert_allclose(one.delay_s, other.delay_s, rtol=1e-9)
    np.testing.assert_array_equal(one.probes, other.probes)


def slotted(n_slots=40, seed=0, n_replicas=1, stations=5):
    """Tasks of the published kind: at each of 20 indices of each station and slot with probability 0.3."""
    rows = []
    for r in range(n_replicas):
        rng = np.random.default_rng([seed, r])
        slot, station, index = np.nonzero(rng.random((n_slots, stations, len(SLOT_TASKS))) < SLOT_TASKS)
        rows.append(
            (slot.astype(float), station, index, rng.uniform(2, 5, len(slot)), rng.uniform(0.3, 1.2, len(slot)))
        )
    width = max(len(row[0]) for row in rows)
    valid = np.arange(width) < np.array([[len(row[0])] for row in rows])

    def column(i, pad):
        return np.stack([np.pad(row[i], (0, width - len(row[i])), constant_values=pad) for row in rows])

    return make_tasks(
        column(0, n_slots),
        column(1, 0),
        input_mbit=column(3, 0),
        work_gcycle=column(4, 0),
        index=column(2, 0),
        valid=valid,
        n_servers=stations,
        deadline_s=1.0,
    )


def published5():
    return make_scenario([10, 20, 30, 40, 50], np.tile([400.0, 425, 450, 475, 500], (5, 1)), rule="amcoedge")


@pytest.mark.parametrize("label", YAMLS)
def test_every_yaml_is_built_and_decides(label):
    data = read(label)
    scenario = published5() if data["candidates"] == "all" else edge5("shared")
    tasks = slotted() if data["candidates"] == "all" else poisson(0.6, 300, 0.05)
    outcome = run(policy(label, scenario), scenario, tasks, SLOT_TASKS if data["candidates"] == "all" else None)
    assert np.isfinite(outcome.delay_s[tasks.valid]).all()


def test_without_learned_prices_it_is_shortest_expected_delay():
    scenario, tasks = edge5("shared"), poisson(0.6, 500, 0.05)
    start = {"own_work_price": 0.0, "unseen_work_factor": 1.0, "trust": 1.0}
    same(run(policy("ddrl_ats_price", scenario, learn=["price"], start=start), scenario, tasks),
         run(fixed("sed_tracked"), scenario, tasks))  # fmt: skip


def test_without_learned_prices_it_is_the_priced_rule_that_asks_everybody():
    scenario, tasks = edge5("shared", probe_s=0.002), poisson(0.6, 500, 0.05)
    everyone = np.ones((*tasks.shape, 5), bool)
    mean = {"mean_work_gcycle": MEAN_WORK_GCYCLE, "congestion": np.full(tasks.shape, 1.0)}
    rule = Decision("best", "probed", split="equal_finish", candidates=sets("any_subset", 5), probe=everyone, **mean)
    outcome = run(
        policy(
            "ddrl_amsa_price",
            scenario,
            start={"min_wait_ratio": 0.0, "probe": 1.0, "worth": 0.0},
            learn=["price", "congestion"],
        ),
        scenario,
        tasks,
    )
    same(outcome, run(_Rule(rule), scenario, tasks))
    assert (outcome.probes[tasks.valid] == 4).all()


@pytest.mark.parametrize(("load", "probe_s", "asked"), [(0.12, 0.0, 0), (0.8, 0.0, 4), (0.8, 0.5, 0)])
def test_it_asks_where_the_wait_is_worth_it(load, probe_s, asked):
    """Before any learning, by hand: mean work 0.7 Gcycle at 30 Gcycle/s, 2 ms (or 502 ms) for asking; zero at 1:1."""
    scenario, tasks = edge5("shared", probe_s=probe_s), poisson(load, 1000, 0.05)
    start = {"probe": -1.5, "worth": 1.0}
    outcome = run(policy("ddrl_amsa_price", scenario, start=start), scenario, tasks)
    late = tasks.valid & (np.arange(tasks.shape[1]) > 100)  # the count of arrivals has settled
    assert abs(outcome.probes[late].mean() - asked) < 0.1


class _Rule:
    info, cadence = "probed", "trace"

    def __init__(self, decision):
        self.decision = decision

    def decide(self, view, rng):
        return self.decision


def test_without_learned_prices_it_is_the_myopic_optimum_of_the_published_world():
    scenario, tasks = published5(), slotted()
    same(run(policy("ddrl_price_slotted", scenario), scenario, tasks, SLOT_TASKS, False),
         run(fixed("equal_finish"), scenario, tasks, SLOT_TASKS, False))  # fmt: skip


def test_the_price_of_seconds_can_be_the_published_formula():
    scenario, tasks = published5(), slotted()
    learned = policy("ddrl_price_slotted", scenario)
    learned.search.stack.params["price_of_seconds"][0, -2:, 0] = 1.0  # port and server
    outcome = run(learned, scenario, tasks, SLOT_TASKS, False)
    same(outcome, run(fixed("priced_slotted"), scenario, tasks, SLOT_TASKS, False))
    plain = run(fixed("equal_finish"), scenario, tasks, SLOT_TASKS, False)
    assert np.nanmean(outcome.delay_s) < np.nanmean(plain.delay_s)


def place(scenario, tasks, decision):
    outcome = physics.empty_outcome(tasks, scenario.n_servers)
    state = physics.initial_state(scenario, 1)
    n = np.array([tasks.shape[1]])
    physics.finish(
        scenario,
        physics.place(scenario, state, tasks, decision, lo=np.zeros(1, int), hi=n, outcome=outcome),
        tasks,
        outcome,
    )
    return outcome.share[0].argmax(1)


def test_echo_multiplies_own_work_since_the_announcement():
    # two remote servers of speed 2 and 1: work 2 takes 1 s or 2 s; station 0 has already placed 1 s on server 1
    scenario = make_scenario([1e-3, 2.0, 1.0])
    tasks = make_tasks([0.1, 0.1, 0.1], origin=0, work_gcycle=2.0, n_servers=3)

    def chosen(factor):
        decision = Decision(
            "best", "tracked", candidates=sets("single", 3), unseen_work_factor=np.full(tasks.shape, factor)
        )
        return place(scenario, tasks, decision).tolist()

    assert chosen(0.5) == [1, 1, 1]  # 1, then 1 + 0.4 (at age 0.1), then 1 + 0.9 < 2
    assert chosen(3.0) == [1, 2, 1]  # then 1 + 2.9 > 2; then both are late: 1 + 2.9 < 2 + 5.9


def test_balance_alone_is_weighted_round_robin():
    scenario, tasks = edge5("shared"), poisson(0.6, 1500)
    huge = np.full(tasks.shape, 1e9)
    rule = Decision("best", "static", candidates=sets("single", 5), own_work_price=huge)
    ours, theirs = run(_Rule(rule), scenario, tasks), run(fixed("wrr_own"), scenario, tasks)
    placed = [
        (o.share * tasks.work_gcycle[..., None])[tasks.valid].sum(0) / scenario.speed_gcps for o in (ours, theirs)
    ]
    assert np.ptp(placed[0]) / placed[0].mean() < 0.2
    assert np.ptp(placed[1]) / placed[1].mean() < 0.2


def test_level_takes_others_to_be_as_busy_as_the_own_server():
    # the own server holds 4 s of work; a remote one of equal speed looks empty, or as busy
    scenario = make_scenario([1.0, 1.0], link_mbps=1.0)
    tasks = make_tasks([0.0, 0.0], origin=0, work_gcycle=[4.0, 1.0], input_mbit=[0.0, 1.0], n_servers=2)
    first = np.array([[[True, False], [True, True]]])

    def chosen(ratio):
        rule = Decision(
            "best", "own", select=first, candidates=sets("single", 2), min_wait_ratio=np.full(tasks.shape, ratio)
        )
        return place(scenario, tasks, rule).tolist()

    assert chosen(0.0) == [0, 1]  # 1 s to send, 1 s to compute
    assert chosen(1.0) == [0, 0]  # 4 + 1 on both, and sending is longer than nothing
    assert chosen(0.5) == [0, 1]  # max(1, 2) + 1 < 5


def test_trust_is_the_share_of_the_announced_wait_that_counts():
    scenario = make_scenario([1.0, 2.0], link_mbps=1.0)
    tasks = make_tasks([0.2, 0.5], origin=0, input_mbit=1.0, n_servers=2)
    wait_s = np.array([[[1.0, 4.0], [2.0, 0.0]]])
    view = View(scenario, tasks, wait_s, tasks.arrive_s, 1.0, None, True, np.ones(tasks.shape))
    for trust in (0.25, 3.0):
        decision = policy("ddrl_ats_price", scenario, learn=["unseen_work_factor"], start={"trust": trust}).decide(
            view, stream(0)
        )
        np.testing.assert_allclose(wait_s + decision.price_s, trust * wait_s)


def test_recent_rate_of_a_steady_station_and_of_a_silent_one():
    tasks = make_tasks(np.arange(1, 200) * 0.1, origin=np.where(np.arange(199) == 150, 1, 0), n_servers=2)
    rate = recent_rate(tasks, 2, 3.0)[0]
    assert rate[0] == 0.0
    assert rate[150] == 0.0
    np.testing.assert_allclose(rate[100], 10.0, rtol=0.05)


def test_asks_only_where_the_actor_says_so():
    scenario, tasks = edge5("shared"), poisson(0.36, 200, 0.05)
    silent = policy("ddrl_amsa_price", scenario, start={"probe": -1.0, "worth": 0.0})
    assert run(silent, scenario, tasks).probes.sum() == 0
    bias = [name for name in silent.search.stack.params if name.startswith("bias")][-1]
    silent.search.stack.params[bias][0, 0, silent.settings.learn.index("probe")] = 3.0
    assert (run(silent, scenario, tasks).probes[tasks.valid] == 4).all()


class _Spy:
    """Passes on what a scheduler decides and keeps it, with what it saw."""

    def __init__(self, scheduler):
        self.scheduler, self.seen = scheduler, []
        for name in ("info", "cadence", "choose_info", "rate_memory_s"):
            setattr(self, name, getattr(scheduler, name))

    def decide(self, view, rng):
        decision = self.scheduler.decide(view, rng)
        self.seen.append((view, decision))
        return decision


def asking_spied(load, **start):
    scenario, tasks = edge5("shared", probe_s=0.02), poisson(load, 300, 0.05)
    spy = _Spy(policy("ddrl_amsa_price_asking", scenario, start={"worth": 0.0, **start}))
    return scenario, tasks, run(spy, scenario, tasks), spy.seen


@pytest.mark.parametrize(("probe", "rank", "asked"), [(0.5, 4.0, 1), (3.0, 4.0, 2), (3.0, 2.0, 4), (-0.5, 4.0, 0)])
def test_the_rank_says_how_many_are_asked(probe, rank, asked):
    """By hand: the j-th is asked where probe > rank x log j; 4 log 2 = 2.8, 4 log 3 = 4.4, 2 log 4 = 2.8."""
    _, tasks, outcome, _ = asking_spied(0.6, probe=probe, rank=rank)
    assert (outcome.probes[tasks.valid] == asked).all()


def test_the_actor_learns_how_many_are_asked():
    """A factor of two upon rank 2: 3 > 4 log 2, but not > 4 log 3; without it everybody was asked."""
    scenario, tasks = edge5("shared", probe_s=0.02), poisson(0.6, 300, 0.05)
    learner = policy(
        "ddrl_amsa_price_asking", scenario, start={"worth": 0.0, "probe": 3.0, "rank": 2.0}, actor={"kind": "mlp"}
    )
    bias = [name for name in learner.search.stack.params if name.startswith("bias")][-1]
    before_tanh = np.arctanh(np.log(2.0) / learner.settings.actor.bound)
    learner.search.stack.params[bias][0, 0, learner.settings.learn.index("rank")] = before_tanh
    assert (run(learner, scenario, tasks).probes[tasks.valid] == 2).all()


def test_rank_of_others_by_hand():
    """Overhead counts: 0.11 s + 3 / 20 is sooner than 3 / 10 though 0.11 s + 2 / 20 is later than 2 / 10."""

    def ranks(wait_s, speed, mbps):
        task = {"origin": [0], "work_gcycle": [2.0], "overhead_gcycle": [1.0], "input_mbit": [4.0]}
        tasks = SimpleNamespace(**{name: np.array([value]) for name, value in task.items()})
        n = len(speed)
        scenario = SimpleNamespace(
            n_servers=n, home=np.arange(n), speed_gcps=np.array(speed), link_mbps=np.tile(mbps, (n, 1))
        )
        return rank_of_others(View(scenario, tasks, np.array([[wait_s]]), None, 2.0, None, False))[0, 0]

    lan = [np.inf, 100.0, 100.0, 100.0]
    assert ranks([0.0, 0.11, 0.0, 0.5], [10.0, 20.0, 10.0, 10.0], lan).tolist() == [1, 1, 2, 3]
    assert ranks([0.0, 0.11, 0.0, 0.5], [10.0, 20.0, 10.0, 10.0], [np.inf, 4.0, 100.0, 100.0]).tolist() == [1, 3, 1, 2]
    alike = ranks([0.0] * 40, [10.0] * 40, [np.inf, *[100.0] * 39])
    assert alike.tolist() == [1, *range(1, 40)]


def test_the_one_asked_would_finish_first_and_nobody_unasked_is_used():
    scenario, tasks, outcome, seen = asking_spied(0.6, probe=0.5, rank=4.0)
    looked = 0
    for view, decision in seen:
        for r, i in np.argwhere(view.tasks.valid):
            own = view.tasks.origin[r, i]
            work = view.tasks.work_gcycle[r, i] + view.tasks.overhead_gcycle[r, i]
            finish_s = [
                view.wait_s[r, i, s]
                + work / scenario.speed_gcps[s]
                + view.tasks.input_mbit[r, i] / scenario.link_mbps[own, s]
                for s in range(5)
            ]
            first = min((s for s in range(5) if s != own), key=lambda s: finish_s[s])
            assert np.flatnonzero(decision.probe[r, i] & (np.arange(5) != own)).tolist() == [first]
            assert set(np.flatnonzero(decision.select[r, i])) == {own, first}
            looked += 1
    assert looked == tasks.valid.sum()
    assert ((outcome.share > 0.0).sum(-1)[tasks.valid] == 2).mean() > 0.3


def test_where_nobody_is_asked_everybody_may_be_used():
    _, tasks, outcome, seen = asking_spied(0.36, probe=-0.5, rank=4.0)
    assert all(decision.select[view.tasks.valid].all() for view, decision in seen)
    assert (outcome.share > 0.0).sum(-1)[tasks.valid].max() > 2


def traces_of(scenario, seed, n_seeds):
    tasks = slotted(40, seed, n_seeds)
    return Traces(scenario, tasks, MEAN_WORK_GCYCLE, SLOT_TASKS, False)


def trained(n_seeds, generations, first=0):
    scenario = published5()
    learner = policy("ddrl_price_slotted", scenario, n_seeds, first, evolution={"lr": 0.1, "pairs": 4})

    def fresh(generation):
        traces = traces_of(scenario, generation, first + n_seeds)
        return [replace(traces, tasks=traces.tasks.replicas(np.arange(first, first + n_seeds)))]

    list(Evolution(learner, generations, fresh))
    return learner


def test_learns_to_leave_servers_to_others():
    scenario, learner = published5(), trained(2, 30)
    held_out = traces_of(scenario, 999, 4)
    learner.start_evaluation(2, [np.random.default_rng(0)] * 2)
    ours = run(learner, scenario, held_out.tasks, SLOT_TASKS, False).delay_s
    myopic = run(fixed("equal_finish"), scenario, held_out.tasks, SLOT_TASKS, False).delay_s
    assert np.nanmean(ours) < 0.985 * np.nanmean(myopic)


def test_a_seed_in_a_stack_learns_as_alone():
    together, alone = trained(2, 3), trained(1, 3, first=1)
    np.testing.assert_allclose(
        together.search.stack.flat[1].numpy(), alone.search.stack.flat[0].numpy(), rtol=1e-4, atol=1e-6
    )


def test_weights_come_back():
    scenario, tasks = edge5("shared"), poisson(0.6, 200, 0.05)
    one, other = policy("ddrl_amsa_price", scenario), policy("ddrl_amsa_price", scenario, first=5)
    one.search.stack.flat += 0.3
    other.load_weights(one.weights())
    same(run(one, scenario, tasks), run(other, scenario, tasks))
    assert {spec.name for spec in actor_specs(one.settings)} == set(one.weights())
    wide = policy("ddrl_amsa_price", scenario, actor={"hidden": [12]})
    with pytest.raises(ValueError, match="shape"):
        wide.load_weights(one.weights())


def test_noise_at_the_start_changes_decisions_by_the_given_generators_alone():
    scenario, tasks = edge5("shared"), poisson(0.6, 200, 0.05)
    noisy = policy("ddrl_amsa_price", scenario, actor={"start": "noise", "steps": 2})
    noisy.search.stack.flat += 0.05 * torch.randn(noisy.search.stack.flat.shape, generator=torch.manual_seed(0))

    def delays(seed):
        noisy.start_evaluation(1, [np.random.default_rng(seed)])
        return run(noisy, scenario, tasks).delay_s

    first = delays(1)
    np.testing.assert_array_equal(first, delays(1))
    assert (first != delays(2)).any()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"learn": []}, "scheduler.learn"),
        ({"learn": ["price", "price"]}, "scheduler.learn"),
        ({"info": "tracked"}, "scheduler.learn"),
        ({"start": {"congestion": 0.0}}, "scheduler.start.congestion"),
        ({"learn": ["price", "rank"]}, "scheduler.start.rank"),
        ({"learn": ["price", "rank"], "info": "tracked"}, "scheduler.learn: rank"),
        ({"learn": ["price"], "info": "tracked", "keep_to_asked": True}, "scheduler.keep_to_asked"),
        ({"learn": ["price"], "info": "tracked", "start": {"rank": 1.0}}, "scheduler.start.rank"),
        ({"candidates": "all"}, "scheduler.candidates"),
        ({"actor": {"hidden": []}}, "scheduler.actor.hidden"),
        ({"evolution": {"pairs": 0}}, "scheduler.evolution.pairs"),
        ({"evolution": {"paris": 1}}, "scheduler.evolution.paris"),
        ({"start": {"min_wait_ratio": float("nan")}}, "scheduler.start.min_wait_ratio"),
    ],
)
def test_wrong_settings_are_named(changes, key):
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        price_settings(read("ddrl_amsa_price", **changes))


def test_yamls_from_before_servers_were_ranked_are_read():
    data = read("ddrl_amsa_price")
    del data["keep_to_asked"], data["start"]["rank"]
    settings = price_settings(data)
    assert not settings.keep_to_asked
    assert settings.start.rank == 0.0


def test_worlds_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="published rule"):
        policy("ddrl_amsa_price", published5())
    with pytest.raises(InputError, match="any_subset"):
        policy("ddrl_amsa_price", make_scenario(np.ones(20)))
