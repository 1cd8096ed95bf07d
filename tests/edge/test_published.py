"""The published rule sets: numbers to do in the head, what tells the rules apart, laws. Golden vectors: test_replay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.edge import published
from ddrl_sched.edge.physics import empty_outcome
from ddrl_sched.edge.published_kernel import World, quotas
from ddrl_sched.edge.types import Decision, Scenario, Tasks

MULTI = ("amcoedge", "smcoedge", "drlcoedge", "randcoedge", "optimal")
BOTH, LOCAL, REMOTE = [True, True], [True, False], [False, True]


def scenario(rule, speed=(10.0, 20.0), rate=(50.0, 50.0), slot_s=1.0):
    n = len(speed)
    link = np.tile(np.array(rate, float), (n, 1))
    np.fill_diagonal(link, np.inf)
    zeros = np.zeros((n, n))
    return Scenario(
        "test",
        rule,
        np.array(speed, float),
        np.arange(n),
        link,
        zeros,
        link,
        zeros,
        "shared",
        slot_s,
        slot_s,
        0.0,
        0.0,
        10.0,
    )


def tasks(arrive_s, origin, work=2.0, d=5.0, deadline=1.0, result=0.0, n_servers=2):
    """One replica of tasks that need 2 Gcycle and 5 Mbit."""
    n = len(arrive_s)
    row = lambda value: np.broadcast_to(np.array(value, float), (1, n)).copy()  # noqa: E731
    return Tasks(
        origin=np.array([origin]),
        index=np.arange(n)[None],
        arrive_s=row(arrive_s),
        input_mbit=row(d),
        result_mbit=row(result),
        work_gcycle=row(work),
        overhead_gcycle=row(0.0),
        units=np.zeros((1, n), np.int64),
        deadline_s=row(deadline),
        valid=np.ones((1, n), bool),
        speed_change_s=np.zeros((1, n_servers, 1)),
        speed_factor=np.ones((1, n_servers, 1)),
    )


def place(world, stream, decision, state=None, lo=0, hi=None):
    outcome = empty_outcome(stream, world.n_servers)
    r, n = stream.shape
    state = published.initial_state(world, r) if state is None else state
    window = {"lo": np.full(r, lo), "hi": np.full(r, n if hi is None else hi)}
    return published.place(world, state, stream, decision, **window, outcome=outcome), outcome


def select(*sets, split="cwa", **more):
    return Decision("given", "running", split=split, select=np.array([sets]), **more)


# Numbers to do in the head. c_0 = 2/10 = .2, c_1 = 2/20 + 5/50 = .2 at station 0.


def test_two_servers_share_evenly_and_the_next_task_meets_their_work():
    state, outcome = place(scenario("amcoedge"), tasks([0, 0], [0, 0]), select(BOTH, BOTH))
    np.testing.assert_allclose(outcome.share[0], 0.5)
    # then w_0 = 1/10 and w_1 = 1/20 + uplink .05
    np.testing.assert_allclose(outcome.delay_s[0], [0.1, 0.2])
    np.testing.assert_allclose(state.uplink_s[0], [0.1, 0.0])
    np.testing.assert_allclose(state.slot_work_gcycle[0], [2.0, 2.0])
    parts = outcome.wait_s[0], outcome.transfer_s[0], outcome.compute_s[0], outcome.return_s[0]
    np.testing.assert_allclose(np.array(parts).sum(0), [0.1, 0.2])
    assert not outcome.late.any()


def test_a_remote_server_pays_the_receivers_rate():
    _, outcome = place(scenario("amcoedge", rate=(50.0, 25.0)), tasks([0], [0]), select(REMOTE))
    np.testing.assert_allclose([outcome.transfer_s[0, 0], outcome.compute_s[0, 0]], [0.2, 0.1])
    assert outcome.delay_s[0, 0] == pytest.approx(0.3)


def test_smcoedge_adds_the_local_share_to_the_uplink_of_two_or_more_servers():
    _, outcome = place(scenario("smcoedge"), tasks([0, 0], [0, 0]), select(BOTH, BOTH))
    # after the first: uplink .05 + .05; w = (.1, .15), L = (1 + .5 + .75) / 10
    np.testing.assert_allclose(outcome.delay_s[0], [0.1, 0.225])
    np.testing.assert_allclose(outcome.share[0, 1], [0.625, 0.375])
    alone, _ = place(scenario("smcoedge"), tasks([0], [0]), select(LOCAL))
    assert alone.uplink_s[0].tolist() == [0.0, 0.0]


def test_drlcoedge_charges_the_local_server_for_the_link():
    state, outcome = place(scenario("drlcoedge"), tasks([0], [0]), select(BOTH))
    np.testing.assert_allclose(outcome.share[0, 0], [0.4, 0.6])  # c = (.3, .2)
    assert outcome.delay_s[0, 0] == pytest.approx(0.12)
    assert outcome.transfer_s[0, 0] == pytest.approx(0.4 * 0.1)
    assert state.uplink_s[0, 0] == pytest.approx(0.1)


def test_drlcoedge_alone_waits_for_its_uplink_but_pays_no_link():
    state, outcome = place(scenario("drlcoedge"), tasks([0, 0], [0, 0]), select(LOCAL, LOCAL))
    np.testing.assert_allclose(outcome.delay_s[0], [0.2, 0.5])  # second: .2 of work + .1 of uplink + .2
    assert state.uplink_s[0, 0] == pytest.approx(0.2)
    np.testing.assert_allclose(state.slot_work_gcycle[0], [4.0, 0.0])


def test_randcoedge_keeps_the_local_server_free_of_the_link():
    state, outcome = place(scenario("randcoedge"), tasks([0, 0], [0, 0]), select(LOCAL, BOTH))
    # uplink .1 of the first; w = (.2, .1), L = (1 + 1 + .5) / 10
    np.testing.assert_allclose(outcome.delay_s[0], [0.2, 0.25])
    assert state.uplink_s[0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize(("rule", "uplinks"), [("amcoedge", [1.0, 10.0, 1.0]), ("optimal", [5.0, 10.0, 15.0])])
def test_the_uplink_is_capped_at_a_slot_unless_one_server_is_selected(rule, uplinks):
    # x = (1/2, 1/2) is forced by given shares; d / R = 10 s
    halves, whole = [0.5, 0.5], [0.0, 1.0]
    for shares, expected in zip(([halves], [whole], [whole, halves]), uplinks, strict=True):
        stream = tasks([0] * len(shares), [0] * len(shares), d=500.0)
        state, _ = place(scenario(rule), stream, Decision("given", "running", split="given", share=np.array([shares])))
        assert state.uplink_s[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "wait_s"), [("amcoedge", 10.0), ("optimal", 10.0), ("smcoedge", 1.0), ("drlcoedge", 1.0)]
)
def test_some_rules_clip_waits_at_the_deadline(rule, wait_s):
    _, outcome = place(scenario(rule), tasks([0, 0], [0, 0], work=[100.0, 2.0]), select(LOCAL, LOCAL))
    assert outcome.wait_s[0, 1] == pytest.approx(wait_s)
    assert outcome.delay_s[0, 1] == 1.0
    assert outcome.late[0].tolist() == [True, True]


@pytest.mark.parametrize(
    ("rule", "late"),
    [("amcoedge", -1.0), ("smcoedge", -0.2), ("drlcoedge", -0.2), ("randcoedge", None), ("optimal", None)],
)
def test_rewards(rule, late):
    stream = tasks([0, 1], [0, 0], deadline=[0.1, 0.3])
    world, decision = scenario(rule), select(LOCAL, LOCAL)
    _, outcome = place(world, stream, decision)
    expected = [np.nan, np.nan] if late is None else [late, -0.2]
    np.testing.assert_allclose(published.reward(world, stream, outcome)[0], expected)
    np.testing.assert_allclose(outcome.delay_s[0], [0.1, 0.2])  # late: exactly the deadline


def test_a_selected_server_with_a_zero_share_counts():
    # server 1 is taken for 3 s: CWA gives it nothing, yet the task "ends" there
    stream = tasks([0, 0], [1, 0], work=[60.0, 2.0], deadline=9.0)
    world = scenario("amcoedge")
    _, outcome = place(world, stream, select(REMOTE, BOTH))
    assert outcome.share[0, 1].tolist() == [1.0, 0.0]
    assert outcome.delay_s[0, 1] == pytest.approx(3.0)
    _, dry = place(world, stream, replace(select(REMOTE, BOTH), split="water_filling"))
    assert dry.delay_s[0, 1] == pytest.approx(0.2)


def test_queues_drain_by_one_slot_of_service_each_slot():
    world, stream = scenario("amcoedge"), tasks([0, 1, 4], [0, 0, 0], work=[25.0, 2.0, 2.0], deadline=9.0)
    state, outcome = place(world, stream, select(LOCAL, LOCAL, LOCAL))
    np.testing.assert_allclose(outcome.wait_s[0], [0.0, 1.5, 0.0])
    assert state.slot[0] == 4
    np.testing.assert_allclose(published.finish(world, state, stream, outcome).queue_gcycle[0], [0.0, 0.0])
    early, _ = place(world, stream, select(LOCAL), hi=1)
    at = lambda until_s: published.advance(world, early, stream, np.array([until_s]), outcome)  # noqa: E731
    assert [at(t).queue_gcycle[0, 0] for t in (-np.inf, 0.9, 1.0, 2.5, np.inf)] == [0.0, 0.0, 15.0, 5.0, 0.0]
    assert [at(t).slot_work_gcycle[0, 0] for t in (-np.inf, 1.0)] == [25.0, 0.0]


def test_slots_of_a_tenth_second_drain_a_tenth():
    world = scenario("amcoedge", slot_s=0.1)
    stream = tasks([0.0, 0.1 * 3], [0, 0], work=[25.0, 2.0], deadline=9.0)
    state, outcome = place(world, stream, select(LOCAL, LOCAL))
    assert state.slot[0] == 3
    np.testing.assert_allclose(outcome.wait_s[0, 1], 2.2)


def test_a_single_server_task_waits_computes_travels_and_returns():
    world = scenario("dedgeai")
    stream = tasks([0, 0, 0], [0, 0, 1], result=1.0, deadline=np.inf)
    state, outcome = place(world, stream, select(REMOTE, REMOTE, REMOTE, split="whole"))
    # .1 computing + .1 sending + .02 returning, then .1 s of waiting; from station 1 no sending, .2 of waiting
    np.testing.assert_allclose(outcome.delay_s[0], [0.22, 0.32, 0.32])
    np.testing.assert_allclose(state.slot_work_gcycle[0], [0.0, 6.0])
    np.testing.assert_allclose(published.reward(world, stream, outcome), -outcome.delay_s)
    assert outcome.share[0].tolist() == [[0.0, 1.0]] * 3


def test_opt_ts_takes_the_earliest_finish():
    # local .2 against remote .1 + .1 + .02 / .02 of result everywhere: local first, then remote
    stream = tasks([0, 0], [0, 0], result=1.0, deadline=np.inf)
    _, outcome = place(scenario("opt_ts", rate=(50.0, 49.0)), stream, published.greedy("opt_ts"))
    assert outcome.share[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_ties_go_to_the_smaller_set_then_to_the_lower_index():
    sets = published.all_sets(0, 3)[1]
    assert [np.flatnonzero(s).tolist() for s in sets] == [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]
    pairs = published.all_sets(1, 3)
    assert [np.flatnonzero(s).tolist() for s in pairs[1]] == [[1], [0, 1], [1, 2]]
    _, outcome = place(scenario("opt_ts", (10.0, 10.0), (np.inf, np.inf)), tasks([0], [1]), published.greedy("opt_ts"))
    assert outcome.share[0, 0].tolist() == [1.0, 0.0]


# What a decision may rest on.


def test_information_classes_see_what_they_may():
    world = scenario("amcoedge")
    stream = tasks([0, 0, 1, 1, 1], [0, 1, 0, 1, 0], work=[30.0, 20.0, 4.0, 8.0, 1.0], deadline=99.0)
    decision = select(
        LOCAL, BOTH, BOTH, LOCAL, split="given", share=np.array([[[1, 0], [0.5, 0.5], [0.5, 0.5], [1, 0]]])
    )
    state, _ = place(world, stream, decision, hi=4)
    # slot 0: W = (30 + 10, 10) -> Q = (30, 0). Slot 1: station 0 places (2, 2), station 1 (8, 0)
    sees = lambda info: published.estimates(world, state, stream, lo=np.array([4]), hi=np.array([5]), info=info)[0, 0]  # noqa: E731
    uplink_s = 0.5 * 5 / 50
    np.testing.assert_allclose(sees("static"), [0.0, 0.0])
    np.testing.assert_allclose(sees("announced"), [3.0, 0.0])
    np.testing.assert_allclose(sees("tracked"), [3.2, 0.1 + uplink_s])
    np.testing.assert_allclose(sees("own"), [4.0, 0.1 + uplink_s])
    np.testing.assert_allclose(sees("running"), [4.0, 0.1 + uplink_s])
    np.testing.assert_allclose(sees("probed"), sees("running"))


def test_a_station_that_sees_only_its_own_placements_drains_them_itself():
    stream = tasks([0, 0, 1], [0, 1, 0], work=[50.0, 20.0, 1.0], deadline=99.0)
    world = scenario("amcoedge")
    state, outcome = place(world, stream, select(REMOTE, REMOTE), hi=2)

    def sees(info):
        return published.estimates(world, state, stream, lo=np.array([2]), hi=np.array([3]), info=info)[0, 0, 1]

    assert sees("own") == pytest.approx((50 - 20) / 20)
    assert sees("announced") == pytest.approx((50 + 20 - 20) / 20)
    later = published.advance(world, state, stream, np.array([2.0]), outcome)
    assert later.own_queue_gcycle[0, :, 1].tolist() == [10.0, 0.0]


def test_a_choice_rests_on_its_class_and_the_shares_on_the_running_waits():
    # station 1 fills server 0 first; the announcement still says both are idle
    stream = tasks([0, 0], [1, 0], work=[50.0, 2.0], deadline=99.0)
    world = scenario("amcoedge", (10.0, 10.0), (1e9, 1e9))
    blind = Decision("best", "announced", split="whole", select=np.array([[LOCAL, BOTH]]))
    assert place(world, stream, blind)[1].share[0, 1].tolist() == [1.0, 0.0]
    assert place(world, stream, replace(blind, info="running"))[1].share[0, 1].tolist() == [0.0, 1.0]
    given = select(LOCAL, BOTH, split="water_filling")
    np.testing.assert_allclose(place(world, stream, given)[1].share[0, 1], [0.0, 1.0], atol=1e-12)
    trusting = replace(given, split_info="announced")
    np.testing.assert_allclose(place(world, stream, trusting)[1].share[0, 1], [0.5, 0.5])


@pytest.mark.parametrize(("rule", "servers"), [("randcoedge", 2), ("drlcoedge", 1)])
def test_the_best_set_counts_what_the_rule_charges_the_local_server(rule, servers):
    # d / R = .5: alone .2; with the other .15, but (.2 + .5)(.1 + .5) / 1.3 = .32 where the local share pays too
    _, outcome = place(scenario(rule), tasks([0], [0], d=25.0), Decision("best", "running", split="cwa"))
    assert (outcome.share[0, 0] > 0.0).sum() == servers


def test_least_wait_ignores_the_speed():
    stream = tasks([0, 0], [1, 0], work=[2.0, 200.0], deadline=99.0)
    world = scenario("opt_ts", (1.0, 100.0))
    least = Decision("best", "running", objective="wait")
    assert place(world, stream, least)[1].share[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_prices_move_the_choice():
    world, stream = scenario("amcoedge"), tasks([0], [0])
    best = Decision("best", "running", split="water_filling")
    assert place(world, stream, best)[1].share[0, 0].tolist() == pytest.approx([0.5, 0.5])
    dear = replace(best, price_s=np.array([[[0.0, 5.0]]]))
    assert place(world, stream, dear)[1].share[0, 0].tolist() == [1.0, 0.0]
    per_use = replace(best, use_price_s=np.array([[0.2]]))  # saves .1 at a price of .2
    assert place(world, stream, per_use)[1].share[0, 0].tolist() == [1.0, 0.0]
    given = select(BOTH, split="water_filling", price_s=np.array([[[0.0, 5.0]]]))
    assert place(world, stream, given)[1].share[0, 0].tolist() == [1.0, 0.0]


def test_weighted_round_robin_places_work_by_speed():
    n = 30
    for weight in ("own", "quota"):
        stream = tasks([0] * n, [0] * n, work=1.0, result=0.1, deadline=np.inf)
        state, _ = place(scenario("dedgeai"), stream, Decision("wrr", "own", weight=weight))
        np.testing.assert_allclose(state.slot_work_gcycle[0], [10.0, 20.0])


def test_quotas_fill_the_emptier_server_first():
    world = World(np.array([10.0, 20.0]), np.array([1.0, 1.0]), 1.0)
    np.testing.assert_allclose(quotas(world, np.zeros(2)), [1 / 3, 2 / 3])
    # server 0 is 1 s behind: H = (30 + 10) / 30 = 4/3, free capacity 10/3 and 80/3
    np.testing.assert_allclose(quotas(world, np.array([10.0, 0.0])), [1 / 9, 8 / 9])


# What makes no sense is refused in plain words.

WRONG = {
    "no published rule": ("clean", select(BOTH), {}),
    "no server selected": ("amcoedge", select([False, False]), {}),
    "more than one server": ("dedgeai", select(BOTH, split="whole"), {}),
    "sends tasks whole": ("dedgeai", select(LOCAL), {}),
    "own server and at most one": ("drlcoedge", select(REMOTE), {}),
    "overhead": ("amcoedge", select(BOTH), {"overhead_gcycle": np.ones((1, 1))}),
    "indivisible units": ("amcoedge", select(BOTH), {"units": np.ones((1, 1), np.int64)}),
    "result to return": ("amcoedge", select(BOTH), {"result_mbit": np.ones((1, 1))}),
    "never change their speed": ("amcoedge", select(BOTH), {"speed_factor": np.full((1, 2, 1), 0.5)}),
    "do not know 'equal_finish'": ("amcoedge", select(BOTH, split="equal_finish"), {}),
    "do not know 'clairvoyant'": ("amcoedge", Decision("best", "clairvoyant", split="cwa"), {}),
    "needs select": ("amcoedge", Decision("given", "running", split="cwa"), {}),
    "go together": ("amcoedge", select(BOTH, split="given"), {}),
    "sum to one": ("amcoedge", select(BOTH, split="given", share=np.array([[[0.5, 0.4]]])), {}),
    "within the selection": ("amcoedge", select(LOCAL, split="given", share=np.array([[[0.5, 0.5]]])), {}),
    "weighs prices per share": ("amcoedge", select(BOTH, price_s=np.ones((1, 1, 2))), {}),
    "weighs no prices": ("amcoedge", Decision("best", "own", objective="wait", price_s=np.ones((1, 1, 2))), {}),
    "'wrr' picks one server": ("amcoedge", Decision("wrr", "own", split="cwa"), {}),
    "select: expected shape": ("amcoedge", select([True, True, True]), {}),
    "candidates: expected shape": ("amcoedge", Decision("best", "own", candidates=np.ones((1, 1, 2), bool)), {}),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_a_rule_does_not_define_is_refused(words):
    rule, decision, changed = WRONG[words]
    with pytest.raises(ValueError, match=words):
        place(scenario(rule), tasks([0], [0])._replace(**changed), decision)


def test_a_slot_that_is_over_takes_no_task():
    world, stream = scenario("amcoedge"), tasks([0, 1], [0, 0])
    state, _ = place(world, stream, select(LOCAL, LOCAL))
    with pytest.raises(ValueError, match="earlier slot"):
        place(world, stream, select(LOCAL), state, hi=1)
    with pytest.raises(ValueError, match="earlier slot"):
        published.estimates(world, state, stream, lo=np.array([0]), hi=np.array([1]), info="running")


def test_senders_with_rates_of_their_own_are_refused():
    world = scenario("amcoedge", (1.0,) * 3, (9.0,) * 3)
    link = world.link_mbps.copy()
    link[0, 1] = 8.0
    with pytest.raises(ValueError, match="one rate for all senders"):
        place(replace(world, link_mbps=link), tasks([0], [0], n_servers=3), select([True, True, True]))


# Laws, on random streams and sets that every rule allows.


@st.composite
def streams(draw, rules=MULTI):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rule, n_servers, n = draw(st.sampled_from(rules)), draw(st.integers(2, 5)), draw(st.integers(1, 40))
    world = scenario(rule, rng.uniform(5, 60, n_servers), rng.uniform(40, 500, n_servers))
    order = np.lexsort((rng.integers(0, n_servers, n), rng.integers(0, 4, n)))
    slot, origin = np.sort(rng.integers(0, 4, n)), rng.integers(0, n_servers, n)[order]
    stream = tasks(slot, origin, rng.uniform(0.1, 20, n), rng.uniform(2, 5, n), rng.uniform(0.1, 2, n), 0.0, n_servers)
    sets = rng.random((n, n_servers)) < 0.5
    if published.RULES[rule].sets != 0:
        sets = np.eye(n_servers, dtype=bool)[rng.integers(0, n_servers, n)]
    sets[np.arange(n), origin] = True
    split = draw(st.sampled_from(["cwa", "hecwa", "water_filling", "proportional"]))
    return world, stream, Decision("given", "running", split=split, select=sets[None])


@settings(max_examples=60, deadline=None)
@given(streams())
def test_work_is_conserved_and_parts_sum_to_the_delay(problem):
    world, stream, decision = problem
    before = published.initial_state(world, 1)
    kept = [array.copy() for array in before]
    state, outcome = place(world, stream, decision, before)
    assert all(np.array_equal(array, k) for array, k in zip(before, kept, strict=True))
    np.testing.assert_allclose(outcome.share.sum(-1), 1.0)
    assert not (outcome.share[~decision.select] > 0.0).any()
    np.testing.assert_allclose(state.own_gcycle.sum(), stream.work_gcycle.sum())
    last = stream.arrive_s == stream.arrive_s[0, -1]
    np.testing.assert_allclose(state.slot_work_gcycle.sum(), stream.work_gcycle[last].sum())
    np.testing.assert_allclose(state.own_slot_gcycle.sum(1), state.slot_work_gcycle)
    raw = outcome.wait_s + outcome.transfer_s + outcome.compute_s + outcome.return_s
    np.testing.assert_allclose(np.minimum(raw, stream.deadline_s), outcome.delay_s, atol=1e-12)
    assert (outcome.late == (raw > stream.deadline_s)).all()
    assert (state.own_queue_gcycle <= state.queue_gcycle[:, None] + 1e-9).all()


@settings(max_examples=40, deadline=None)
@given(streams(), st.data())
def test_placing_in_pieces_is_placing_at_once(problem, data):
    world, stream, decision = problem
    cut = data.draw(st.integers(0, stream.shape[1]))
    state, outcome = place(world, stream, decision)
    half, first = place(world, stream, decision, hi=cut)
    rest = replace(decision, select=decision.select[:, cut:])
    end, second = place(world, stream, rest, half, lo=cut)
    np.testing.assert_array_equal(np.where(np.isnan(second.delay_s), first.delay_s, second.delay_s), outcome.delay_s)
    for name in state._fields:
        np.testing.assert_array_equal(getattr(end, name), getattr(state, name))


@settings(max_examples=20, deadline=None)
@given(streams())
def test_replicas_do_not_meet(problem):
    world, stream, decision = problem
    both = Tasks(*(np.repeat(array, 2, 0) for array in stream))
    other = np.ones_like(decision.select) if published.RULES[world.rule].sets == 0 else decision.select
    together = place(world, both, replace(decision, select=np.concatenate([other, decision.select])))[1]
    alone = place(world, stream, decision)[1]
    np.testing.assert_array_equal(together.delay_s[1], alone.delay_s[0])
    np.testing.assert_array_equal(together.share[1], alone.share[0])


@settings(max_examples=30, deadline=None)
@given(streams(rules=("amcoedge", "optimal")))
def test_no_set_beats_the_best_set_for_the_next_task(problem):
    world, stream, decision = problem
    n = stream.shape[1] - 1
    state, _ = place(world, stream, decision, hi=n)
    raw = lambda d: np.nansum([getattr(place(world, stream, d, state, n)[1], p)[0, n] for p in PARTS])  # noqa: E731
    best = raw(Decision("best", "running", split="cwa"))
    some = [select(s) for s in published.all_sets(0, world.n_servers)[0]]
    assert best == pytest.approx(min(map(raw, some)), rel=1e-9)
    # exact water-filling over all servers is at least as good as the best set by CWA
    assert raw(select(np.ones(world.n_servers, bool), split="water_filling")) <= best * (1 + 1e-9)


PARTS = ("wait_s", "transfer_s", "compute_s", "return_s")


@settings(max_examples=30, deadline=None)
@given(streams(rules=("amcoedge", "smcoedge", "drlcoedge", "randcoedge")))
def test_what_is_chosen_is_what_the_given_set_would_do(problem):
    """The estimate behind "best" with running information equals what then happens, for every rule's own costs."""
    world, stream, decision = problem
    n = stream.shape[1] - 1
    state, _ = place(world, stream, decision, hi=n)
    sets = published.all_sets(published.RULES[world.rule].sets, world.n_servers)[stream.origin[0, n]]
    raw = lambda d: np.nansum([getattr(place(world, stream, d, state, n)[1], p)[0, n] for p in PARTS])  # noqa: E731
    chosen = raw(Decision("best", "running", split="hecwa"))
    assert chosen == pytest.approx(min(raw(select(s, split="hecwa")) for s in sets), rel=1e-9)
