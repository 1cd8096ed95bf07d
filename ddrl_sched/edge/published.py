"""The author's slotted environments, exactly as published, as named rule sets (PAPER 4 and 5): for reproduction only.

Time passes in slots. A station's tasks of a slot are decided one after the other, station 0 first; all servers announce
their queues at the slot's start and drain at its end. The rule sets differ in faults that `Rule` names one by one. The
state drains lazily: when a task of a later slot is placed. Probing, latency and overhead do not exist here:
information is free, and a task that asks for more than a rule knows is refused.
"""

from collections import namedtuple
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ddrl_sched.edge.additive import cwa, hecwa, priced_water_filling, proportional, water_filling
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Outcome, Scenario, Tasks

ANY_SET, LOCAL_AND_ONE, ONE_SERVER = range(3)
NEVER = 1 << 30
_MOST_SERVERS = 12  # of "best" without candidates: 4095 sets


class Rule(NamedTuple):
    """In what one published environment differs from the others."""

    sets: int  # which sets may be selected: ANY_SET, LOCAL_AND_ONE, ONE_SERVER
    has_uplink: bool  # shares queue at the station's uplink, which is idle again at every slot's start
    capped_uplink: bool  # with two or more servers the uplink is never busy for longer than a slot
    clipped_waits: bool  # a wait counts as the deadline at most
    local_on_uplink_from: int  # the local share too is added to the uplink from this number of servers on
    local_pays_link: bool  # beside another server the local one pays d / R too; it always waits for the uplink
    censored: bool  # a late task is recorded as exactly the deadline
    reward: bool  # there is one: minus the recorded delay
    late_reward: float  # of a late task, in deadlines


RULES = {
    "amcoedge": Rule(ANY_SET, True, True, False, NEVER, False, True, True, -10.0),
    "smcoedge": Rule(ANY_SET, True, False, True, 2, False, True, True, -2.0),
    "drlcoedge": Rule(LOCAL_AND_ONE, True, False, True, 1, True, True, True, -2.0),
    "randcoedge": Rule(LOCAL_AND_ONE, True, False, True, 1, False, True, False, np.nan),
    "optimal": Rule(ANY_SET, True, False, False, NEVER, False, True, False, np.nan),
    "dedgeai": Rule(ONE_SERVER, False, False, False, NEVER, False, False, True, np.nan),
    "opt_ts": Rule(ONE_SERVER, False, False, False, NEVER, False, False, False, np.nan),
}

GIVEN, BEST, WRR = range(3)
_CHOICES = {"given": GIVEN, "best": BEST, "wrr": WRR}
STATIC, ANNOUNCED, OWN, TRACKED, RUNNING = range(5)
_INFOS = {
    "static": STATIC,
    "announced": ANNOUNCED,
    "own": OWN,
    "tracked": TRACKED,
    "probed": RUNNING,
    "running": RUNNING,
}
WHOLE, PROPORTIONAL, CWA, HECWA, WATER_FILLING, GIVEN_SHARES = range(6)
_SPLITS = {
    "whole": WHOLE,
    "proportional": PROPORTIONAL,
    "cwa": CWA,
    "hecwa": HECWA,
    "water_filling": WATER_FILLING,
    "given": GIVEN_SHARES,
}

_ERRORS = {
    1: "is of an earlier slot than the state: tasks must be placed in the order of their slots",
    2: "has overhead or indivisible units, which the published rules do not know",
    3: "has a result to return, which the published multi-server rules do not know",
    4: "has no server selected (or no candidate set lies within the selection)",
    5: "has more than one server selected: this rule, or the split 'whole', sends a task to one server",
    6: "must select its own server and at most one other under this rule",
    7: "has shares that are not non-negative numbers that sum to one within the selection",
}


@dataclass(frozen=True)
class State:
    """Everything that evolves. A plain value: `place` returns a new one."""

    slot: Ints  # [R] number of the current slot
    queue_gcycle: Floats  # [R, E] at the slot's start: what all servers announce
    slot_work_gcycle: Floats  # [R, E] placed in this slot by all stations
    uplink_s: Floats  # [R, B] time for which the station's uplink is taken in this slot
    own_slot_gcycle: Floats  # [R, B, E] placed by a station in this slot
    own_queue_gcycle: Floats  # [R, B, E] the queues at the slot's start, had nobody else placed anything
    own_gcycle: Floats  # [R, B, E] placed by a station since the start


class _World(NamedTuple):
    speed_gcps: Floats  # [E]
    rate_mbps: Floats  # [E] of the receiving server
    slot_s: float


class _Order(NamedTuple):
    """A Decision as codes and arrays; an array that was not given has length 0 along its first axis."""

    choice: int
    info: int
    split: int
    split_info: int
    by_wait: bool
    quota: bool
    select: Bools  # [R, M, E]
    share: Floats  # [R, M, E]
    candidates: Bools  # [B, S, E]
    price_s: Floats  # [R, M, E]
    use_price_s: Floats  # [R, M]


class _Scratch(NamedTuple):
    """Room for one task, [E] each."""

    mask: Bools
    trial: Bools
    cost_s: Floats  # seconds per whole task
    wait_s: Floats
    price_s: Floats
    share: Floats
    weight: Floats


_States = namedtuple("_States", [f.name for f in fields(State)])  # type: ignore[misc]
_Tasks = namedtuple("_Tasks", [f.name for f in fields(Tasks)])  # type: ignore[misc]
_Outcomes = namedtuple("_Outcomes", [f.name for f in fields(Outcome)])  # type: ignore[misc]


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


def place(
    scenario: Scenario, state: State, tasks: Tasks, decision: Decision, lo: Ints, hi: Ints, outcome: Outcome
) -> State:
    """Decide and place tasks lo[r]..hi[r]-1 of every replica r, in order; padding is passed over.

    Decision arrays [R, M, ...] count from lo; results are written into `outcome` at absolute positions. The input state
    is left as it was. Shares rest on the running waits unless decision.split_info says otherwise (None = running). A
    server that water-filling leaves dry is not selected; with every other split a server counts with a share of 0 too.

    delay_s is what the rule records: exactly the deadline if late (`late` is the published "failed"). The parts are
    those of the selected server that ends last (tie: the lower index) and sum to the raw make-span: wait (w_s, clipped
    where the rule clips it), transfer (x_s d / R_s where the rule charges it), compute and return.

    Raises ValueError for what the rule, or this decision, does not define.
    """
    world, rule = _world(scenario), RULES[scenario.rule]
    lo, hi = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
    _check_window(scenario, state, tasks, lo, hi, outcome)
    order = _order(scenario, decision, len(lo), int(np.max(hi - lo, initial=0)))
    after = _copy(state)
    arrays = _States(*_values(after))
    code, r, i = _place(world, rule, order, arrays, _Tasks(*_values(tasks)), lo, hi, _Outcomes(*_values(outcome)))
    if code:
        raise ValueError(f"env.rule {scenario.rule}: task {i} of replica {r} {_ERRORS[code]}")
    return after


def advance(scenario: Scenario, state: State, tasks: Tasks, until_s: Floats, outcome: Outcome) -> State:
    """Let time pass to until_s[R]: every slot that ends by then drains. `tasks` and `outcome` are not needed here."""
    after = _copy(state)
    _drain_all(_world(scenario), np.asarray(until_s, np.float64), _States(*_values(after)))
    return after


def finish(scenario: Scenario, state: State, tasks: Tasks, outcome: Outcome) -> State:
    """Drain the current slot. All delays were final when the tasks were placed."""
    end_s = (state.slot + 1).astype(np.float64) * scenario.slot_s
    return advance(scenario, state, tasks, end_s, outcome)


def estimates(scenario: Scenario, state: State, tasks: Tasks, lo: Ints, hi: Ints, info: str) -> Floats:
    """What a station of class `info` takes the servers' waits to be at each task's arrival: wait_s[R, M, E], padding 0.

    Nothing of the window itself is placed; slots that begin within it drain. Waits are not clipped at the deadline.
    """
    lo, hi = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
    wait_s = np.zeros((len(lo), int(np.max(hi - lo, initial=0)), scenario.n_servers))
    arrays, rule = _States(*_values(_copy(state))), RULES[scenario.rule]
    code = _code(info, _INFOS, "info")
    late, r, i = _estimate(_world(scenario), rule, code, arrays, _Tasks(*_values(tasks)), lo, hi, wait_s)
    if late:
        raise ValueError(f"env.rule {scenario.rule}: task {i} of replica {r} {_ERRORS[late]}")
    return wait_s


def reward(scenario: Scenario, tasks: Tasks, outcome: Outcome) -> Floats:
    """The published reward [R, N]: minus the delay, minus 10 (or 2) deadlines if late; NaN where the rule has none."""
    rule = RULES[scenario.rule]
    if not rule.reward:
        return np.full(tasks.shape, np.nan)
    late = outcome.late & rule.censored
    return np.where(late, rule.late_reward * np.where(late, tasks.deadline_s, 1.0), -outcome.delay_s)


def greedy(rule: str) -> Decision:
    """The decision that `optimal` (best of all sets by CWA) and `opt_ts` (earliest finish) are named after."""
    return Decision("best", "running", split="cwa" if rule == "optimal" else "whole")


@lru_cache(maxsize=8)
def all_sets(sets: int, n_servers: int) -> Bools:
    """All sets a rule allows, [B, S, E], smaller ones first, then by lower index."""
    stations = range(n_servers)
    if sets == ANY_SET and n_servers > _MOST_SERVERS:
        raise ValueError(f"scheduler.candidates: give them for more than {_MOST_SERVERS} servers, got {n_servers}")
    if sets == LOCAL_AND_ONE:
        others = [[b, *(a for a in stations if a != b)] for b in stations]
        local = np.eye(n_servers, dtype=np.bool_)
        return local[:, None] | local[others]
    sizes = range(1, 2 if sets == ONE_SERVER else n_servers + 1)
    one = np.array([np.isin(stations, members) for size in sizes for members in combinations(stations, size)])
    return np.repeat(one[None], n_servers, axis=0)


def _values(record: Any) -> list[Any]:
    return [getattr(record, f.name) for f in fields(record)]


def _copy(state: State) -> State:
    return State(*[value.copy() for value in _values(state)])


def _world(scenario: Scenario) -> _World:
    if scenario.rule not in RULES:
        raise ValueError(f"env.rule: {scenario.rule!r} is no published rule; known are {', '.join(RULES)}")
    servers = np.arange(scenario.n_servers)
    rate_mbps = scenario.link_mbps[(servers + 1) % len(servers), servers]
    if ((scenario.link_mbps != rate_mbps) & (servers[:, None] != servers)).any() or scenario.link_latency_s.any():
        raise ValueError(f"env.rule {scenario.rule}: a receiver has one rate for all senders, and no latency")
    return _World(scenario.speed_gcps, rate_mbps, float(scenario.slot_s))


def _check_window(scenario: Scenario, state: State, tasks: Tasks, lo: Ints, hi: Ints, outcome: Outcome) -> None:
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


def _order(scenario: Scenario, decision: Decision, n_replicas: int, width: int) -> _Order:
    """The Decision as codes and arrays, or a ValueError for what makes no sense in a published world."""
    e = scenario.n_servers
    split = _code(decision.split, _SPLITS, "split")
    choice = _code(decision.choice, _CHOICES, "choice")
    _check_decision(decision, choice, split, RULES[scenario.rule])
    sets = ONE_SERVER if split == WHOLE else RULES[scenario.rule].sets
    candidates = decision.candidates
    if candidates is None:
        candidates = all_sets(sets, e) if choice == BEST else np.zeros((0, 0, e), np.bool_)
    elif candidates.ndim != 3 or candidates.shape[::2] != (e, e):
        raise ValueError(f"scheduler.candidates: expected shape [{e}, S, {e}], got {list(candidates.shape)}")
    return _Order(
        choice,
        _code(decision.info, _INFOS, "info"),
        split,
        _code(decision.split_info or "running", _INFOS, "split_info"),
        _code(decision.objective, {"finish": 0, "wait": 1}, "objective") == 1,
        _code(decision.weight, {"own": 0, "quota": 1}, "weight") == 1,
        _window(decision.select, (n_replicas, width, e), np.bool_, "select"),
        _window(decision.share, (n_replicas, width, e), np.float64, "share"),
        np.ascontiguousarray(candidates, np.bool_),
        _window(decision.price_s, (n_replicas, width, e), np.float64, "price_s"),
        _window(decision.use_price_s, (n_replicas, width), np.float64, "use_price_s"),
    )


def _check_decision(decision: Decision, choice: int, split: int, rule: Rule) -> None:
    priced = decision.price_s is not None or decision.use_price_s is not None
    if rule.sets == ONE_SERVER and split != WHOLE:
        raise ValueError(f"scheduler.split: a single-server rule sends tasks whole, got {decision.split!r}")
    if choice == GIVEN and decision.select is None and decision.share is None:
        raise ValueError("scheduler.choice: 'given' needs select, or share")
    if (split == GIVEN_SHARES) != (decision.share is not None):
        raise ValueError("scheduler.split: 'given' and share go together")
    if choice != GIVEN and split == GIVEN_SHARES:
        raise ValueError(f"scheduler.split: 'given' shares need choice 'given', got {decision.choice!r}")
    if choice == WRR and (split != WHOLE or priced):
        raise ValueError("scheduler.choice: 'wrr' picks one server without prices: the split must be 'whole'")
    if choice == GIVEN and (decision.use_price_s is not None or (priced and split != WATER_FILLING)):
        raise ValueError("scheduler.price_s: with choice 'given' only split 'water_filling' weighs prices per share")
    if decision.objective == "wait" and priced:
        raise ValueError("scheduler.objective: 'wait' weighs no prices")


def _window(array: NDArray[Any] | None, shape: tuple[int, ...], dtype: type, key: str) -> NDArray[Any]:
    """The array of the decision, checked to cover the window [R, M, ...]; length 0 if it was not given."""
    if array is None:
        return np.zeros((0,) + (1,) * (len(shape) - 1), dtype)
    if array.ndim != len(shape) or array.shape[::2] != shape[::2] or array.shape[1] < shape[1]:
        raise ValueError(f"scheduler.{key}: expected shape {list(shape)}, got {list(array.shape)}")
    return np.ascontiguousarray(array, dtype)


@njit(cache=True, error_model="numpy")
def _place(
    world: _World, rule: Rule, order: _Order, state: Any, tasks: Any, lo: Ints, hi: Ints, outcome: Any
) -> tuple[int, int, int]:
    """Place the window of every replica; (error code, replica, task), code 0 if all went well."""
    e = len(world.speed_gcps)
    room = _Scratch(
        np.zeros(e, np.bool_),
        np.zeros(e, np.bool_),
        np.zeros(e),
        np.zeros(e),
        np.zeros(e),
        np.zeros(e),
        np.zeros(e),
    )
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            if not tasks.valid[r, i]:
                continue
            code = _enter(r, tasks.arrive_s[r, i], world, state)
            if code == 0 and (tasks.overhead_gcycle[r, i] != 0.0 or tasks.units[r, i] != 0):
                code = 2
            if code == 0 and order.split == WHOLE and rule.sets == ONE_SERVER:
                code = _place_whole(r, i, i - lo[r], world, rule, order, state, tasks, room, outcome)
            elif code == 0:
                code = _place_shares(r, i, i - lo[r], world, rule, order, state, tasks, room, outcome)
            if code != 0:
                return code, r, i
    return 0, 0, 0


@njit(cache=True, error_model="numpy")
def _estimate(
    world: _World, rule: Rule, info: int, state: Any, tasks: Any, lo: Ints, hi: Ints, wait_s: Floats
) -> tuple[int, int, int]:
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            if not tasks.valid[r, i]:
                continue
            code = _enter(r, tasks.arrive_s[r, i], world, state)
            if code != 0:
                return code, r, i
            _waits(r, tasks.origin[r, i], np.inf, info, world, rule, state, wait_s[r, i - lo[r]])
    return 0, 0, 0


@njit(cache=True, error_model="numpy")
def _drain_all(world: _World, until_s: Floats, state: Any) -> None:
    for r in range(len(until_s)):
        _enter(r, until_s[r], world, state)


@njit(cache=True, error_model="numpy")
def _enter(r: int, at_s: float, world: _World, state: Any) -> int:
    """Drain replica r up to the slot of at_s; 1 if that slot is over."""
    slot = int(at_s / world.slot_s + 1e-6)
    n_slots = slot - state.slot[r]
    if n_slots < 0:
        return 1
    if n_slots == 0:
        return 0
    for s in range(len(world.speed_gcps)):
        served = world.speed_gcps[s] * world.slot_s
        left = max(state.queue_gcycle[r, s] + state.slot_work_gcycle[r, s] - served, 0.0)
        state.queue_gcycle[r, s] = max(left - (n_slots - 1) * served, 0.0)
        state.slot_work_gcycle[r, s] = 0.0
        state.uplink_s[r, s] = 0.0
        for b in range(len(world.speed_gcps)):
            left = max(state.own_queue_gcycle[r, b, s] + state.own_slot_gcycle[r, b, s] - served, 0.0)
            state.own_queue_gcycle[r, b, s] = max(left - (n_slots - 1) * served, 0.0)
            state.own_slot_gcycle[r, b, s] = 0.0
    state.slot[r] = slot
    return 0


@njit(cache=True, error_model="numpy")
def _backlog_gcycle(r: int, b: int, s: int, info: int, state: Any) -> float:
    """Work before a new share on server s, as station b of this class knows it."""
    if info == RUNNING or (info == OWN and s == b):
        return state.queue_gcycle[r, s] + state.slot_work_gcycle[r, s]
    if info == TRACKED:
        return state.queue_gcycle[r, s] + state.own_slot_gcycle[r, b, s]
    if info == ANNOUNCED:
        return state.queue_gcycle[r, s]
    if info == OWN:
        return state.own_queue_gcycle[r, b, s] + state.own_slot_gcycle[r, b, s]
    return 0.0


@njit(cache=True, error_model="numpy")
def _waits(r: int, b: int, most_s: float, info: int, world: _World, rule: Rule, state: Any, wait_s: Floats) -> None:
    """w_s of the rule for station b, clipped at most_s."""
    uplink_s = state.uplink_s[r, b] if info >= OWN else 0.0
    for s in range(len(wait_s)):
        wait = _backlog_gcycle(r, b, s, info, state) / world.speed_gcps[s]
        if s != b or rule.local_pays_link:
            wait += uplink_s
        wait_s[s] = min(wait, most_s)


@njit(cache=True, error_model="numpy")
def _place_whole(
    r: int,
    i: int,
    j: int,
    world: _World,
    rule: Rule,
    order: _Order,
    state: Any,
    tasks: Any,
    room: _Scratch,
    outcome: Any,
) -> int:
    """A task of the single-server rules."""
    n_selected, server = 0, -1
    if order.choice == GIVEN:
        for s in range(len(world.speed_gcps)):
            if order.select[r, j, s]:
                n_selected += 1
                server = s
    else:
        _choose(r, i, j, world, rule, order, state, tasks, room)
        for s in range(len(world.speed_gcps)):
            if room.mask[s]:
                n_selected += 1
                server = s
    if n_selected != 1:
        return 4 if n_selected == 0 else 5
    b, work = tasks.origin[r, i], tasks.work_gcycle[r, i]
    wait = (state.queue_gcycle[r, server] + state.slot_work_gcycle[r, server]) / world.speed_gcps[server]
    transfer = tasks.input_mbit[r, i] / world.rate_mbps[server] if server != b else 0.0
    compute = work / world.speed_gcps[server]
    back = tasks.result_mbit[r, i] / world.rate_mbps[server]
    state.slot_work_gcycle[r, server] += work
    state.own_slot_gcycle[r, b, server] += work
    state.own_gcycle[r, b, server] += work
    for s in range(len(world.speed_gcps)):
        outcome.share[r, i, s] = 0.0
    outcome.share[r, i, server] = 1.0
    delay = wait + compute + back + transfer
    _record(r, i, wait, transfer, compute, back, delay, delay > tasks.deadline_s[r, i], outcome)
    return 0


@njit(cache=True, error_model="numpy")
def _record(
    r: int, i: int, wait: float, transfer: float, compute: float, back: float, delay: float, late: bool, outcome: Any
) -> None:
    outcome.wait_s[r, i] = wait
    outcome.transfer_s[r, i] = transfer
    outcome.compute_s[r, i] = compute
    outcome.return_s[r, i] = back
    outcome.delay_s[r, i] = delay
    outcome.late[r, i] = late
    outcome.probes[r, i] = 0


@njit(cache=True, error_model="numpy")
def _place_shares(
    r: int,
    i: int,
    j: int,
    world: _World,
    rule: Rule,
    order: _Order,
    state: Any,
    tasks: Any,
    room: _Scratch,
    outcome: Any,
) -> int:
    """A task of the multi-server rules."""
    if tasks.result_mbit[r, i] != 0.0:
        return 3
    b, most_s = tasks.origin[r, i], tasks.deadline_s[r, i] if rule.clipped_waits else np.inf
    if order.choice == GIVEN:
        _given_set(r, j, order, room.mask)
    else:
        _choose(r, i, j, world, rule, order, state, tasks, room)
    code = _check_set(b, room.mask, rule, order.split)
    if code != 0:
        return code
    _costs(r, i, world, tasks, rule, room.mask, room.cost_s)
    if order.split == GIVEN_SHARES:
        if not _given_shares(r, j, order, room.mask, room.share):
            return 7
    else:
        _prices(r, j, order, room.price_s)
        _waits(r, b, most_s, order.split_info, world, rule, state, room.wait_s)
        _split(order, world, room.cost_s, room.wait_s, room.price_s, room.mask, room.share)
    if order.split == GIVEN_SHARES or order.split_info != RUNNING:
        _waits(r, b, most_s, RUNNING, world, rule, state, room.wait_s)
    if order.split == WATER_FILLING:
        # The rule charges the local server by the set that is left.
        _costs(r, i, world, tasks, rule, room.mask, room.cost_s)
    _settle(r, i, world, rule, state, tasks, room, outcome)
    return 0


@njit(cache=True, error_model="numpy")
def _given_set(r: int, j: int, order: _Order, mask: Bools) -> None:
    for s in range(len(mask)):
        mask[s] = order.select[r, j, s] if len(order.select) > 0 else order.share[r, j, s] > 0.0


@njit(cache=True, error_model="numpy")
def _given_shares(r: int, j: int, order: _Order, mask: Bools, share: Floats) -> bool:
    """Copy the shares; False if they are no distribution on the mask."""
    total = 0.0
    for s in range(len(mask)):
        x = order.share[r, j, s]
        if not x >= 0.0 or (x > 0.0 and not mask[s]):
            return False
        share[s] = x
        total += x
    return abs(total - 1.0) <= 1e-9


@njit(cache=True, error_model="numpy")
def _check_set(b: int, mask: Bools, rule: Rule, split: int) -> int:
    n_selected = 0
    for s in range(len(mask)):
        if mask[s]:
            n_selected += 1
    if n_selected == 0:
        return 4
    if split == WHOLE and n_selected > 1:
        return 5
    if rule.sets == LOCAL_AND_ONE and (n_selected > 2 or not mask[b]):
        return 6
    return 0


@njit(cache=True, error_model="numpy")
def _costs(r: int, i: int, world: _World, tasks: Any, rule: Rule, mask: Bools, cost_s: Floats) -> None:
    """c_s of the rule: seconds per whole task on each server, if the servers of the mask are selected."""
    b, d, work, result = tasks.origin[r, i], tasks.input_mbit[r, i], tasks.work_gcycle[r, i], tasks.result_mbit[r, i]
    n_selected = 0
    for s in range(len(mask)):
        if mask[s]:
            n_selected += 1
    for s in range(len(mask)):
        cost_s[s] = work / world.speed_gcps[s] + result / world.rate_mbps[s]
        if s != b or (rule.local_pays_link and n_selected >= 2):
            cost_s[s] += d / world.rate_mbps[s]


@njit(cache=True, error_model="numpy")
def _prices(r: int, j: int, order: _Order, price_s: Floats) -> None:
    for s in range(len(price_s)):
        price_s[s] = order.price_s[r, j, s] if len(order.price_s) > 0 else 0.0


@njit(cache=True, error_model="numpy")
def _split(
    order: _Order, world: _World, cost_s: Floats, wait_s: Floats, price_s: Floats, mask: Bools, share: Floats
) -> None:
    """Shares on the mask; water-filling takes the servers that it leaves dry out of the mask."""
    if order.split == CWA:
        cwa(cost_s, wait_s, mask, share)
    elif order.split == HECWA:
        hecwa(cost_s, wait_s, mask, share)
    elif order.split == PROPORTIONAL:
        proportional(world.speed_gcps, mask, share)
    elif order.split == WHOLE:
        for s in range(len(mask)):
            share[s] = 1.0 if mask[s] else 0.0
    else:
        if len(order.price_s) > 0:
            priced_water_filling(cost_s, wait_s, price_s, mask, share)
        else:
            water_filling(cost_s, wait_s, mask, share)
        for s in range(len(mask)):
            mask[s] = share[s] > 0.0


@njit(cache=True, error_model="numpy")
def _settle(r: int, i: int, world: _World, rule: Rule, state: Any, tasks: Any, room: _Scratch, outcome: Any) -> None:
    """Record the task and add its shares to the uplink and to the slot's work."""
    b, d, work = tasks.origin[r, i], tasks.input_mbit[r, i], tasks.work_gcycle[r, i]
    n_selected, last, make_span, sending_s = 0, -1, -np.inf, 0.0
    for s in range(len(room.mask)):
        if room.mask[s]:
            n_selected += 1
    for s in range(len(room.mask)):
        x = room.share[s]
        outcome.share[r, i, s] = x
        if not room.mask[s]:
            continue
        end = x * room.cost_s[s] + room.wait_s[s]
        if end > make_span:
            make_span, last = end, s
        if s != b or n_selected >= rule.local_on_uplink_from:
            sending_s += x * d / world.rate_mbps[s]
        state.slot_work_gcycle[r, s] += x * work
        state.own_slot_gcycle[r, b, s] += x * work
        state.own_gcycle[r, b, s] += x * work
    state.uplink_s[r, b] += sending_s
    if rule.capped_uplink and n_selected >= 2:
        state.uplink_s[r, b] = min(state.uplink_s[r, b], world.slot_s)
    late = make_span > tasks.deadline_s[r, i]
    compute = room.share[last] * work / world.speed_gcps[last]
    pays = last != b or (rule.local_pays_link and n_selected >= 2)
    transfer = room.share[last] * d / world.rate_mbps[last] if pays else 0.0
    delay = tasks.deadline_s[r, i] if late else make_span
    _record(r, i, room.wait_s[last], transfer, compute, 0.0, delay, late, outcome)


@njit(cache=True, error_model="numpy")
def _choose(
    r: int, i: int, j: int, world: _World, rule: Rule, order: _Order, state: Any, tasks: Any, room: _Scratch
) -> None:
    """Set room.mask to what the choice "best" or "wrr" takes; empty if nothing is allowed."""
    b = tasks.origin[r, i]
    if order.choice == WRR:
        _least_used(r, j, b, tasks.work_gcycle[r, i], world, order, state, room)
        return
    _waits(r, b, tasks.deadline_s[r, i] if rule.clipped_waits else np.inf, order.info, world, rule, state, room.wait_s)
    _prices(r, j, order, room.price_s)
    best, chosen = np.inf, -1
    for k in range(order.candidates.shape[1]):
        if not _allowed(r, j, order, order.candidates[b, k]):
            continue
        room.trial[:] = order.candidates[b, k]
        value = _value(r, i, j, world, rule, order, tasks, room)
        # Equal up to rounding is a tie: the earlier candidate stays.
        if chosen < 0 or value < best - 1e-12 * abs(best):
            best, chosen = value, k
    for s in range(len(room.mask)):
        room.mask[s] = chosen >= 0 and order.candidates[b, chosen, s]


@njit(cache=True, error_model="numpy")
def _allowed(r: int, j: int, order: _Order, candidate: Bools) -> bool:
    """Whether the candidate is a set of servers within `select`."""
    n = 0
    for s in range(len(candidate)):
        if candidate[s]:
            n += 1
            if len(order.select) > 0 and not order.select[r, j, s]:
                return False
    return n > 0


@njit(cache=True, error_model="numpy")
def _value(r: int, i: int, j: int, world: _World, rule: Rule, order: _Order, tasks: Any, room: _Scratch) -> float:
    """Objective of the set room.trial: its longest wait, or its make-span and prices."""
    value = 0.0
    if order.by_wait:
        for s in range(len(room.trial)):
            if room.trial[s]:
                value = max(value, room.wait_s[s])
        return value
    _costs(r, i, world, tasks, rule, room.trial, room.cost_s)
    _split(order, world, room.cost_s, room.wait_s, room.price_s, room.trial, room.share)
    prices = 0.0
    for s in range(len(room.trial)):
        if room.trial[s]:
            value = max(value, room.share[s] * room.cost_s[s] + room.wait_s[s])
            prices += room.price_s[s] * room.share[s]
            if len(order.use_price_s) > 0:
                prices += order.use_price_s[r, j]
    return value + prices


@njit(cache=True, error_model="numpy")
def _least_used(r: int, j: int, b: int, work: float, world: _World, order: _Order, state: Any, room: _Scratch) -> None:
    """Weighted round robin: the allowed server with the least own work, this task included, relative to its weight."""
    room.weight[:] = world.speed_gcps
    if order.quota:
        _quotas(r, world, state, room)
    best, server = np.inf, -1
    for s in range(len(room.mask)):
        room.mask[s] = False
        if len(order.select) > 0 and not order.select[r, j, s]:
            continue
        placed = state.own_slot_gcycle[r, b, s] if order.quota else state.own_gcycle[r, b, s]
        used = (placed + work) / room.weight[s] if room.weight[s] > 0.0 else 1e300
        if used < best:
            best, server = used, s
    if server >= 0:
        room.mask[server] = True


@njit(cache=True, error_model="numpy")
def _quotas(r: int, world: _World, state: Any, room: _Scratch) -> None:
    """Free capacity that one slot's worth of work would use: f (H - Q/f)+ with a sum of slot x the sum of f."""
    total = np.sum(world.speed_gcps)
    for s in range(len(room.mask)):
        room.trial[s] = True
        room.cost_s[s] = total / world.speed_gcps[s]
        room.wait_s[s] = state.queue_gcycle[r, s] / (world.speed_gcps[s] * world.slot_s)
    water_filling(room.cost_s, room.wait_s, room.trial, room.weight)
