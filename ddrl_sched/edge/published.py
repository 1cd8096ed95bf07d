"""The author's slotted environments, exactly as published, as named rule sets: for reproduction only.

Of several servers per task: AMCoEdge (C. Xu et al. 2024) and its baselines; of one: LAD-TS (arXiv 2412.18212).

Time passes in slots. A station's tasks of a slot are decided one after the other, station 0 first; all servers announce
their queues at the slot's start and drain at its end. The rule sets differ in faults that `RuleSet` names one by one.
The state drains lazily: when a task of a later slot is placed. Probing, latency and overhead do not exist here:
information is free, and a task that asks for more than a rule knows is refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

import numpy as np

from ddrl_sched.edge import published_kernel as kernel
from ddrl_sched.edge.decision import check_arrays, check_given, kernel_array
from ddrl_sched.edge.published_kernel import ANY_SET, LOCAL_AND_ONE, ONE_SERVER, DecisionCodes, RuleSet, State, World
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Outcome, Scenario, Tasks

NEVER = 1 << 30
MOST_SERVERS = 12  # of "best" without candidates: 4095 sets

RULES = {
    "amcoedge": RuleSet(ANY_SET, True, False, NEVER, False, True, True, -10.0),
    "smcoedge": RuleSet(ANY_SET, False, True, 2, False, True, True, -2.0),
    "drlcoedge": RuleSet(LOCAL_AND_ONE, False, True, 1, True, True, True, -2.0),
    "randcoedge": RuleSet(LOCAL_AND_ONE, False, True, 1, False, True, False, np.nan),
    "optimal": RuleSet(ANY_SET, False, False, NEVER, False, True, False, np.nan),
    "dedgeai": RuleSet(ONE_SERVER, False, False, NEVER, False, False, True, np.nan),
    "opt_ts": RuleSet(ONE_SERVER, False, False, NEVER, False, False, False, np.nan),
}

_CHOICES = {"given": kernel.GIVEN, "best": kernel.BEST, "wrr": kernel.WRR}
_INFOS = {
    "static": kernel.STATIC,
    "announced": kernel.ANNOUNCED,
    "own": kernel.OWN,
    "tracked": kernel.TRACKED,
    "probed": kernel.RUNNING,
    "running": kernel.RUNNING,
}
_SPLITS = {
    "whole": kernel.WHOLE,
    "proportional": kernel.PROPORTIONAL,
    "cwa": kernel.CWA,
    "hecwa": kernel.HECWA,
    "water_filling": kernel.WATER_FILLING,
    "given": kernel.GIVEN_SHARES,
}


def initial_state(scenario: Scenario, n_replicas: int) -> State:
    """Slot 0 with empty queues."""
    r, e = n_replicas, scenario.n_servers
    return State(
        slot=np.zeros(r, np.int64),
        queue_gcycle=np.zeros((r, e)),
        slot_work_gcycle=np.zeros((r, e)),
        uplink_s=np.zeros((r, e)),
        own_slot_gcycle=np.zeros((r, e, e)),
        own_queue_gcycle=np.zeros((r, e, e)),
        own_gcycle=np.zeros((r, e, e)),
    )


def state_of(arrays: Mapping[str, object]) -> State:
    """The state with these arrays by the names of its fields."""
    return State._make(arrays[name] for name in State._fields)


def settled(state: State, outcome: Outcome) -> Bools:
    """[R, N] tasks whose delay is final: all that are decided."""
    final: Bools = ~np.isnan(outcome.delay_s)
    return final


def translated(decision: Decision) -> Decision:
    """In these additive worlds the exact equal finish is water-filling, and "like_own" is "own"."""
    split = "water_filling" if decision.split == "equal_finish" else decision.split
    info = "own" if decision.info == "like_own" else decision.info
    return replace(decision, split=split, info=info, split_info=decision.split_info or info)


def place(
    scenario: Scenario, state: State, tasks: Tasks, decision: Decision, *, lo: Ints, hi: Ints, outcome: Outcome
) -> State:
    """Decide and place tasks lo[r]..hi[r]-1 of every replica r, in order; padding is passed over.

    Decision arrays [R, M, ...] count from lo; results go into `outcome` (a fresh one) at absolute positions. The input
    state is left as it was. Shares rest on the running waits unless decision.split_info says otherwise (None: running).
    A server that water-filling leaves dry is not selected; with every other split a server counts with a share of 0
    too.

    delay_s is what the rule records: exactly the deadline if late (`late` is the published "failed"). The parts are
    those of the selected server that ends last (tie: the lower index) and sum to the raw make-span: wait (w_s, clipped
    where the rule clips it), transfer (x_s d / R_s where the rule charges it), compute and return.

    Raises ValueError for what the rule, or this decision, does not define.
    """
    world, rules = _world(scenario), RULES[scenario.rule]
    lo, hi = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
    _check_window(scenario, state, tasks, lo=lo, hi=hi, outcome=outcome)
    codes = _codes(scenario, decision, tasks, lo, hi)
    after = _copy(state)
    run = kernel.place_whole if rules.sets == ONE_SERVER else kernel.place_shares
    code, r, i = run(world, rules, codes, after, tasks, lo, hi, outcome)
    if code:
        raise ValueError(f"env.rule {scenario.rule}: task {i} of replica {r} {kernel.ERRORS[code]}")
    return after


def check_decision(scenario: Scenario, decision: Decision, tasks: Tasks) -> None:
    """ValueError for a decision about these tasks [R, M] that the rule does not define."""
    nothing = np.zeros(tasks.shape[0], np.int64)
    _codes(scenario, decision, tasks, nothing, nothing + tasks.shape[1])


def advance(scenario: Scenario, state: State, tasks: Tasks, until_s: Floats, outcome: Outcome) -> State:
    """Let time pass to until_s[R]: every slot that ends by then drains; -inf changes nothing.

    `tasks` and `outcome` are there because the clean physics needs them.
    """
    after = _copy(state)
    kernel.drain_until(_world(scenario), np.asarray(until_s, np.float64), after)
    return after


def finish(scenario: Scenario, state: State, tasks: Tasks, outcome: Outcome) -> State:
    """Drain the current slot. All delays were final when the tasks were placed."""
    end_s = (state.slot + 1).astype(np.float64) * scenario.slot_s
    return advance(scenario, state, tasks, end_s, outcome)


def estimates(scenario: Scenario, state: State, tasks: Tasks, *, lo: Ints, hi: Ints, info: str) -> Floats:
    """What a station of class `info` takes the servers' waits to be at each task's arrival: wait_s[R, M, E], padding 0.

    Nothing of the window itself is placed; slots that begin within it drain. Waits are not clipped at the deadline.
    """
    lo, hi = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
    wait_s = np.zeros((len(lo), int(np.max(hi - lo, initial=0)), scenario.n_servers))
    after, rules = _copy(state), RULES[scenario.rule]
    code = _code(info, _INFOS, "info")
    late, r, i = kernel.estimate(_world(scenario), rules, code, after, tasks, lo, hi, wait_s)
    if late:
        raise ValueError(f"env.rule {scenario.rule}: task {i} of replica {r} {kernel.ERRORS[late]}")
    return wait_s


def reward(scenario: Scenario, tasks: Tasks, outcome: Outcome) -> Floats:
    """The published reward [R, N]: minus the delay, minus 10 (or 2) deadlines if late; NaN where the rule has none."""
    rules = RULES[scenario.rule]
    if not rules.reward:
        return np.full(tasks.shape, np.nan)
    late = outcome.late & rules.censored
    return np.where(late, rules.late_reward * np.where(late, tasks.deadline_s, 1.0), -outcome.delay_s)


def greedy(rule: str) -> Decision:
    """The decision that `optimal` (best of all sets by kernel.CWA) and `opt_ts` (earliest finish) are named after."""
    return Decision("best", "running", split="cwa" if rule == "optimal" else "whole")


@lru_cache(maxsize=8)
def all_sets(sets: int, n_servers: int) -> Bools:
    """All sets a rule allows, [B, S, E], smaller ones first, then by lower index."""
    stations = range(n_servers)
    if sets == ANY_SET and n_servers > MOST_SERVERS:
        raise ValueError(f"scheduler.candidates: give them for more than {MOST_SERVERS} servers, got {n_servers}")
    if sets == LOCAL_AND_ONE:
        others = [[b, *(a for a in stations if a != b)] for b in stations]
        local = np.eye(n_servers, dtype=np.bool_)
        return local[:, None] | local[others]
    sizes = range(1, 2 if sets == ONE_SERVER else n_servers + 1)
    one = np.array([np.isin(stations, members) for size in sizes for members in combinations(stations, size)])
    return np.repeat(one[None], n_servers, axis=0)


def _copy(state: State) -> State:
    return State._make(array.copy() for array in state)


def _world(scenario: Scenario) -> World:
    if scenario.rule not in RULES:
        raise ValueError(f"env.rule: {scenario.rule!r} is no published rule; known are {', '.join(RULES)}")
    if not scenario.paired:
        raise ValueError(f"env.rule {scenario.rule}: every station has a server, and every server a station")
    servers = np.arange(scenario.n_servers)
    rate_mbps = scenario.link_mbps[servers - 1, servers]
    unlike = scenario.link_mbps != rate_mbps
    np.fill_diagonal(unlike, False)
    if unlike.any() or scenario.link_latency_s.any():
        raise ValueError(f"env.rule {scenario.rule}: a receiver has one rate for all senders, and no latency")
    return World(scenario.speed_gcps, rate_mbps, float(scenario.slot_s))


def _check_window(scenario: Scenario, state: State, tasks: Tasks, *, lo: Ints, hi: Ints, outcome: Outcome) -> None:
    n_replicas, n = tasks.shape
    if len(lo) != n_replicas or len(hi) != n_replicas or len(state.slot) != n_replicas:
        raise ValueError(f"lo, hi and state must have one entry per replica ({n_replicas})")
    if (lo < 0).any() or (hi > n).any():
        raise ValueError(f"lo and hi must lie within the {n} tasks")
    if outcome.share.shape != (n_replicas, n, scenario.n_servers):
        raise ValueError(f"outcome has shape {outcome.share.shape}, expected {(n_replicas, n, scenario.n_servers)}")
    if (tasks.speed_factor != 1.0).any():
        raise ValueError(f"env.rule {scenario.rule}: published servers never change their speed")


def _code(name: str, codes: dict[str, int], key: str) -> int:
    if name not in codes:
        raise ValueError(f"scheduler.{key}: the published rules do not know {name!r}; known are {', '.join(codes)}")
    return codes[name]


def _codes(scenario: Scenario, decision: Decision, tasks: Tasks, lo: Ints, hi: Ints) -> DecisionCodes:
    """The Decision as codes and arrays, or a ValueError for what makes no sense in a published world."""
    e = scenario.n_servers
    split = _code(decision.split, _SPLITS, "split")
    choice = _code(decision.choice, _CHOICES, "choice")
    _check_decision(decision, choice, split, RULES[scenario.rule])
    check_arrays(decision, tasks, lo, hi, (e, e))
    sets = ONE_SERVER if split == kernel.WHOLE else RULES[scenario.rule].sets
    candidates = decision.candidates
    if candidates is None and choice == kernel.BEST:
        candidates = all_sets(sets, e)
    return DecisionCodes(
        choice,
        _code(decision.info, _INFOS, "info"),
        split,
        _code(decision.split_info or "running", _INFOS, "split_info"),
        _code(decision.objective, {"finish": 0, "wait": 1}, "objective") == 1,
        _code(decision.weight, {"own": 0, "quota": 1}, "weight") == 1,
        kernel_array(decision.select, (0, 1, e), np.bool_),
        kernel_array(decision.share, (0, 1, e), np.float64),
        kernel_array(candidates, (0, 0, e), np.bool_),
        kernel_array(decision.price_s, (0, 1, e), np.float64),
        kernel_array(decision.use_price_s, (0, 1), np.float64),
    )


def _check_decision(decision: Decision, choice: int, split: int, rules: RuleSet) -> None:
    priced = decision.price_s is not None or decision.use_price_s is not None
    if rules.sets == ONE_SERVER and split != kernel.WHOLE:
        raise ValueError(f"scheduler.split: a single-server rule sends tasks whole, got {decision.split!r}")
    check_given(decision)
    if choice == kernel.WRR and (split != kernel.WHOLE or priced):
        raise ValueError("scheduler.choice: 'wrr' picks one server without prices: the split must be 'whole'")
    if choice == kernel.GIVEN and (decision.use_price_s is not None or (priced and split != kernel.WATER_FILLING)):
        raise ValueError("scheduler.price_s: with choice 'given' only split 'water_filling' weighs prices per share")
    if decision.objective == "wait" and priced:
        raise ValueError("scheduler.objective: 'wait' weighs no prices")
