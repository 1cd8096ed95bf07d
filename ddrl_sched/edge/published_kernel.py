"""The compiled loops of the published rule sets (published.py): one over whole tasks, one over divided ones.

For each task a loop resolves the decision (servers and shares) and then places it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ddrl_sched.edge.additive import cwa, hecwa, priced_water_filling, proportional, water_filling
from ddrl_sched.edge.types import Bools, Floats, Ints, Outcome, Tasks

ANY_SET, LOCAL_AND_ONE, ONE_SERVER = range(3)
GIVEN, BEST, WRR = range(3)
STATIC, ANNOUNCED, OWN, TRACKED, RUNNING = range(5)  # from OWN on a station knows its own uplink
WHOLE, PROPORTIONAL, CWA, HECWA, WATER_FILLING, GIVEN_SHARES = range(6)

PAST_SLOT, OVERHEAD, RESULT, NO_SERVER, MANY_SERVERS, NOT_LOCAL, BAD_SHARES = range(1, 8)
ERRORS = {
    PAST_SLOT: "is of an earlier slot than the state: tasks must be placed in the order of their slots",
    OVERHEAD: "has overhead or indivisible units, which the published rules do not know",
    RESULT: "has a result to return, which the published multi-server rules do not know",
    NO_SERVER: "has no server selected (or no candidate set lies within the selection)",
    MANY_SERVERS: "has more than one server selected: this rule, or the split 'whole', sends a task to one server",
    NOT_LOCAL: "must select its own server and at most one other under this rule",
    BAD_SHARES: "has shares that are not non-negative numbers that sum to one within the selection",
}


class RuleSet(NamedTuple):
    """In what one published environment differs from the others."""

    sets: int  # which sets may be selected: ANY_SET, LOCAL_AND_ONE, ONE_SERVER
    capped_uplink: bool  # with two or more servers the uplink is never busy for longer than a slot
    clipped_waits: bool  # a wait counts as the deadline at most
    local_on_uplink_from: int  # the local share too is added to the uplink from this number of servers on
    local_pays_link: bool  # beside another server the local one pays d / R too; it always waits for the uplink
    censored: bool  # a late task is recorded as exactly the deadline
    reward: bool  # there is one: minus the recorded delay
    late_reward: float  # of a late task, in deadlines


class World(NamedTuple):
    """Servers and clock."""

    speed_gcps: Floats  # [E]
    rate_mbps: Floats  # [E] of the receiving server
    slot_s: float


class DecisionCodes(NamedTuple):
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


class State(NamedTuple):
    """Everything that evolves. A plain value: `place` returns a new one."""

    slot: Ints  # [R] number of the current slot
    queue_gcycle: Floats  # [R, E] at the slot's start: what all servers announce
    slot_work_gcycle: Floats  # [R, E] placed in this slot by all stations
    uplink_s: Floats  # [R, B] time for which the station's uplink is taken in this slot
    own_slot_gcycle: Floats  # [R, B, E] placed by a station in this slot
    own_queue_gcycle: Floats  # [R, B, E] the queues at the slot's start, had nobody else placed anything
    own_gcycle: Floats  # [R, B, E] placed by a station since the start


@njit(cache=True, error_model="numpy", inline="always")
def _begin(r: int, i: int, world: World, state: State, tasks: Tasks) -> int:
    """Drain to the slot of task (r, i); an error code if it is none for these rules."""
    slot = _slot_of(tasks.arrive_s[r, i], world.slot_s)
    if slot < state.slot[r]:
        return PAST_SLOT
    if slot > state.slot[r]:
        drain(r, slot, world, state)
    if tasks.overhead_gcycle[r, i] != 0.0 or tasks.units[r, i] != 0:
        return OVERHEAD
    return 0


@njit(cache=True, error_model="numpy")
def place_whole(
    world: World, rules: RuleSet, codes: DecisionCodes, state: State, tasks: Tasks, lo: Ints, hi: Ints, outcome: Outcome
) -> tuple[int, int, int]:
    """Single-server rules: place the window of every replica; (error, replica, task), error 0 if all went well."""
    mask = np.zeros(len(world.speed_gcps), np.bool_)
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            if not tasks.valid[r, i]:
                continue
            error = _begin(r, i, world, state, tasks)
            if error == 0:
                error, server = _resolve_whole(r, i, i - lo[r], world, rules, codes, state, tasks, mask)
            if error != 0:
                return error, r, i
            _place_on(r, i, server, world, state, tasks, outcome)
    return 0, 0, 0


@njit(cache=True, error_model="numpy", inline="always")
def _resolve_whole(
    r: int,
    i: int,
    j: int,
    world: World,
    rules: RuleSet,
    codes: DecisionCodes,
    state: State,
    tasks: Tasks,
    mask: Bools,
) -> tuple[int, int]:
    """(error, server) of task (r, i), row j of the Decision."""
    given = codes.choice == GIVEN
    if not given:
        _choose(r, i, j, world, rules, codes, state, tasks, mask)
    n_selected, server = 0, 0
    for s in range(len(mask)):
        if codes.select[r, j, s] if given else mask[s]:
            n_selected += 1
            server = s
    if n_selected != 1:
        return NO_SERVER if n_selected == 0 else MANY_SERVERS, 0
    return 0, server


@njit(cache=True, error_model="numpy", inline="always")
def _place_on(r: int, i: int, server: int, world: World, state: State, tasks: Tasks, outcome: Outcome) -> None:
    """Queue the whole task (r, i) at a server and write what becomes of it."""
    speed, rate = world.speed_gcps, world.rate_mbps
    b, work = tasks.origin[r, i], tasks.work_gcycle[r, i]
    wait = (state.queue_gcycle[r, server] + state.slot_work_gcycle[r, server]) / speed[server]
    transfer = tasks.input_mbit[r, i] / rate[server] if server != b else 0.0
    compute = work / speed[server]
    back = tasks.result_mbit[r, i] / rate[server]
    state.slot_work_gcycle[r, server] += work
    state.own_slot_gcycle[r, b, server] += work
    state.own_gcycle[r, b, server] += work
    delay = wait + compute + back + transfer
    outcome.share[r, i, server] = 1.0
    outcome.wait_s[r, i] = wait
    outcome.transfer_s[r, i] = transfer
    outcome.compute_s[r, i] = compute
    outcome.return_s[r, i] = back
    outcome.delay_s[r, i] = delay
    outcome.late[r, i] = delay > tasks.deadline_s[r, i]
    outcome.probes[r, i] = 0


class Scratch(NamedTuple):
    """Arrays [E] that are used again for every task."""

    mask: Bools  # the chosen set
    cost_s: Floats  # of a whole task
    wait_s: Floats  # as the split knows it, then as it is
    price_s: Floats
    share: Floats


@njit(cache=True, error_model="numpy")
def place_shares(
    world: World, rules: RuleSet, codes: DecisionCodes, state: State, tasks: Tasks, lo: Ints, hi: Ints, outcome: Outcome
) -> tuple[int, int, int]:
    """Multi-server rules: place the window of every replica; (error, replica, task), error 0 if all went well."""
    e = len(world.speed_gcps)
    room = Scratch(np.zeros(e, np.bool_), np.zeros(e), np.zeros(e), np.zeros(e), np.zeros(e))
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            if not tasks.valid[r, i]:
                continue
            error = _begin(r, i, world, state, tasks)
            if error == 0 and tasks.result_mbit[r, i] != 0.0:
                error = RESULT
            if error == 0:
                error = _resolve_shares(r, i, i - lo[r], world, rules, codes, state, tasks, room)
            if error != 0:
                return error, r, i
            _place(r, i, world, rules, state, tasks, room, outcome)
    return 0, 0, 0


@njit(cache=True, error_model="numpy", inline="always")
def _resolve_shares(
    r: int,
    i: int,
    j: int,
    world: World,
    rules: RuleSet,
    codes: DecisionCodes,
    state: State,
    tasks: Tasks,
    room: Scratch,
) -> int:
    """Servers and shares of task (r, i), row j of the Decision, into `room`; an error code, 0 if all went well."""
    mask, share, cost_s, wait_s = room.mask, room.share, room.cost_s, room.wait_s
    speed, rate, b = world.speed_gcps, world.rate_mbps, tasks.origin[r, i]
    d, work = tasks.input_mbit[r, i], tasks.work_gcycle[r, i]
    most_s = tasks.deadline_s[r, i] if rules.clipped_waits else np.inf
    if codes.choice == GIVEN:
        for s in range(len(mask)):
            mask[s] = codes.select[r, j, s] if len(codes.select) > 0 else codes.share[r, j, s] > 0.0
    else:
        _choose(r, i, j, world, rules, codes, state, tasks, mask)
    n_selected = _count(mask)
    if n_selected == 0:
        return NO_SERVER
    if codes.split == WHOLE and n_selected > 1:
        return MANY_SERVERS
    if rules.sets == LOCAL_AND_ONE and (n_selected > 2 or not mask[b]):
        return NOT_LOCAL
    _unit_costs(b, d, work, rules.local_pays_link and n_selected >= 2, speed, rate, cost_s)
    if codes.split == GIVEN_SHARES:
        if not _are_shares(codes.share[r, j], mask):
            return BAD_SHARES
        share[:] = codes.share[r, j]
    else:
        _waits(r, b, codes.split_info, most_s, rules.local_pays_link, speed, state, wait_s)
        priced = len(codes.price_s) > 0
        if priced:
            room.price_s[:] = codes.price_s[r, j]
        _split(codes.split, priced, speed, cost_s, wait_s, room.price_s, mask, share)
        if codes.split == WATER_FILLING:  # the local server pays by the set that is left
            _unit_costs(b, d, work, rules.local_pays_link and _count(mask) >= 2, speed, rate, cost_s)
    if codes.split == GIVEN_SHARES or codes.split_info != RUNNING:
        _waits(r, b, RUNNING, most_s, rules.local_pays_link, speed, state, wait_s)
    return 0


@njit(cache=True, error_model="numpy")
def _are_shares(share: Floats, mask: Bools) -> bool:
    """Whether share[E] are non-negative, nothing outside the mask, and one in sum."""
    total = 0.0
    for s in range(len(mask)):
        total += share[s]
        if not share[s] >= 0.0 or (share[s] > 0.0 and not mask[s]):
            return False
    return abs(total - 1.0) <= 1e-9


@njit(cache=True, error_model="numpy", inline="always")
def _place(
    r: int, i: int, world: World, rules: RuleSet, state: State, tasks: Tasks, room: Scratch, outcome: Outcome
) -> None:
    """Queue the shares of task (r, i) that stand in `room` and write what becomes of it."""
    mask, share, cost_s, wait_s = room.mask, room.share, room.cost_s, room.wait_s
    speed, rate, b = world.speed_gcps, world.rate_mbps, tasks.origin[r, i]
    d, work, deadline = tasks.input_mbit[r, i], tasks.work_gcycle[r, i], tasks.deadline_s[r, i]
    n_selected = _count(mask)
    last, make_span_s, sending_s = 0, -np.inf, 0.0
    for s in range(len(mask)):
        x = share[s]
        outcome.share[r, i, s] = x
        if not mask[s]:
            continue
        end_s = x * cost_s[s] + wait_s[s]
        if end_s > make_span_s:
            make_span_s, last = end_s, s
        if s != b or n_selected >= rules.local_on_uplink_from:
            sending_s += x * d / rate[s]
        state.slot_work_gcycle[r, s] += x * work
        state.own_slot_gcycle[r, b, s] += x * work
        state.own_gcycle[r, b, s] += x * work
    state.uplink_s[r, b] += sending_s
    if rules.capped_uplink and n_selected >= 2:
        state.uplink_s[r, b] = min(state.uplink_s[r, b], world.slot_s)
    late = make_span_s > deadline
    pays = last != b or (rules.local_pays_link and n_selected >= 2)
    outcome.wait_s[r, i] = wait_s[last]
    outcome.transfer_s[r, i] = share[last] * d / rate[last] if pays else 0.0
    outcome.compute_s[r, i] = share[last] * work / speed[last]
    outcome.return_s[r, i] = 0.0
    outcome.delay_s[r, i] = deadline if late and rules.censored else make_span_s
    outcome.late[r, i] = late
    outcome.probes[r, i] = 0


@njit(cache=True, error_model="numpy")
def estimate(
    world: World, rules: RuleSet, info: int, state: State, tasks: Tasks, lo: Ints, hi: Ints, wait_s: Floats
) -> tuple[int, int, int]:
    """Fill wait_s[R, M, E] with what a station of this class knows at each task's arrival."""
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            if not tasks.valid[r, i]:
                continue
            slot = _slot_of(tasks.arrive_s[r, i], world.slot_s)
            if slot < state.slot[r]:
                return PAST_SLOT, r, i
            drain(r, slot, world, state)
            out = wait_s[r, i - lo[r]]
            _waits(r, tasks.origin[r, i], info, np.inf, rules.local_pays_link, world.speed_gcps, state, out)
    return 0, 0, 0


@njit(cache=True, error_model="numpy")
def drain_until(world: World, until_s: Floats, state: State) -> None:
    """Drain every replica up to the slot of until_s[R]; -inf leaves one as it is, inf empties it."""
    for r in range(len(until_s)):
        if until_s[r] > 0.0:
            drain(r, _slot_of(min(until_s[r], 1e12 * world.slot_s), world.slot_s), world, state)


@njit(cache=True, error_model="numpy")
def drain(r: int, slot: int, world: World, state: State) -> None:
    """End the slots of replica r before `slot`: queues drain, uplinks are idle again."""
    n_slots = slot - state.slot[r]
    if n_slots <= 0:
        return
    speed = world.speed_gcps
    for s in range(len(speed)):
        served = speed[s] * world.slot_s
        left = max(state.queue_gcycle[r, s] + state.slot_work_gcycle[r, s] - served, 0.0)
        state.queue_gcycle[r, s] = max(left - (n_slots - 1) * served, 0.0)
        state.slot_work_gcycle[r, s] = 0.0
        state.uplink_s[r, s] = 0.0
    for b in range(len(speed)):
        for s in range(len(speed)):
            served = speed[s] * world.slot_s
            left = max(state.own_queue_gcycle[r, b, s] + state.own_slot_gcycle[r, b, s] - served, 0.0)
            state.own_queue_gcycle[r, b, s] = max(left - (n_slots - 1) * served, 0.0)
            state.own_slot_gcycle[r, b, s] = 0.0
    state.slot[r] = slot


@njit(cache=True, error_model="numpy", inline="always")
def _slot_of(at_s: float, slot_s: float) -> int:
    return int(at_s / slot_s + 1e-6)


@njit(cache=True, error_model="numpy", inline="always")
def _count(mask: Bools) -> int:
    n = 0
    for s in range(len(mask)):
        if mask[s]:
            n += 1
    return n


@njit(cache=True, error_model="numpy", inline="always")
def _unit_costs(b: int, d: float, work: float, local_pays: bool, speed: Floats, rate: Floats, cost_s: Floats) -> None:
    """c_s of the rule: seconds per whole task on each server."""
    for s in range(len(cost_s)):
        cost_s[s] = work / speed[s]
        if s != b or local_pays:
            cost_s[s] += d / rate[s]


@njit(cache=True, error_model="numpy", inline="always")
def _waits(
    r: int, b: int, info: int, most_s: float, local_waits: bool, speed: Floats, state: State, wait_s: Floats
) -> None:
    """w_s of the rule as station b of this class knows it, clipped at most_s."""
    queue, slot_work, own_slot = state.queue_gcycle, state.slot_work_gcycle, state.own_slot_gcycle
    uplink_s = state.uplink_s[r, b] if info >= OWN else 0.0
    for s in range(len(wait_s)):
        if info == RUNNING or (info == OWN and s == b):
            backlog = queue[r, s] + slot_work[r, s]
        elif info == TRACKED:
            backlog = queue[r, s] + own_slot[r, b, s]
        elif info == ANNOUNCED:
            backlog = queue[r, s]
        elif info == OWN:
            backlog = state.own_queue_gcycle[r, b, s] + own_slot[r, b, s]
        else:
            backlog = 0.0
        wait = backlog / speed[s]
        if s != b or local_waits:
            wait += uplink_s
        wait_s[s] = min(wait, most_s)


@njit(cache=True, error_model="numpy")
def _split(
    split: int,
    priced: bool,
    speed: Floats,
    cost_s: Floats,
    wait_s: Floats,
    price_s: Floats,
    mask: Bools,
    share: Floats,
) -> None:
    """Shares on the mask; water-filling takes the servers that it leaves dry out of the mask."""
    if split == CWA:
        cwa(cost_s, wait_s, mask, share)
    elif split == HECWA:
        hecwa(cost_s, wait_s, mask, share)
    elif split == PROPORTIONAL:
        proportional(speed, mask, share)
    elif split == WHOLE:
        for s in range(len(mask)):
            share[s] = 1.0 if mask[s] else 0.0
    else:
        if priced:
            priced_water_filling(cost_s, wait_s, price_s, mask, share)
        else:
            water_filling(cost_s, wait_s, mask, share)
        for s in range(len(mask)):
            mask[s] = share[s] > 0.0


@njit(cache=True, error_model="numpy")
def _choose(
    r: int, i: int, j: int, world: World, rules: RuleSet, codes: DecisionCodes, state: State, tasks: Tasks, mask: Bools
) -> None:
    """Set mask to what the choice "best" or "wrr" takes; empty if nothing is allowed."""
    e, b, work = len(mask), tasks.origin[r, i], tasks.work_gcycle[r, i]
    allowed = np.ones(e, np.bool_)
    if len(codes.select) > 0:
        allowed[:] = codes.select[r, j]
    if codes.choice == WRR:
        placed = state.own_slot_gcycle[r, b] if codes.quota else state.own_gcycle[r, b]
        weight = quotas(world, state.queue_gcycle[r]) if codes.quota else world.speed_gcps
        _least_used(work, placed, weight, allowed, mask)
        return
    cost_s, wait_s, price_s = np.zeros(e), np.zeros(e), np.zeros(e)
    if len(codes.price_s) > 0:
        price_s[:] = codes.price_s[r, j]
    use_price_s = codes.use_price_s[r, j] if len(codes.use_price_s) > 0 else 0.0
    most_s = tasks.deadline_s[r, i] if rules.clipped_waits else np.inf
    _waits(r, b, codes.info, most_s, rules.local_pays_link, world.speed_gcps, state, wait_s)
    _unit_costs(b, tasks.input_mbit[r, i], work, False, world.speed_gcps, world.rate_mbps, cost_s)
    for s in range(e):
        cost_s[s] += tasks.result_mbit[r, i] / world.rate_mbps[s]
    link_s = tasks.input_mbit[r, i] / world.rate_mbps[b] if rules.local_pays_link else 0.0
    sets = codes.candidates[b]
    if codes.by_wait:
        _least_wait(sets, allowed, wait_s, mask)
    else:
        priced = len(codes.price_s) > 0
        split, speed = codes.split, world.speed_gcps
        _least_finish(b, link_s, split, priced, use_price_s, speed, sets, allowed, cost_s, wait_s, price_s, mask)


@njit(cache=True, error_model="numpy")
def _least_wait(sets: Bools, allowed: Bools, wait_s: Floats, mask: Bools) -> None:
    """The set whose longest wait is least; ties: the first."""
    best, chosen = np.inf, -1
    for k in range(len(sets)):
        longest, inside = -np.inf, True
        for s in range(len(mask)):
            if sets[k, s]:
                longest = max(longest, wait_s[s])
                inside &= allowed[s]
        if inside and longest > -np.inf and (chosen < 0 or _less(longest, best)):
            best, chosen = longest, k
    for s in range(len(mask)):
        mask[s] = chosen >= 0 and sets[chosen, s]


@njit(cache=True, error_model="numpy")
def _least_finish(
    b: int,
    link_s: float,
    split: int,
    priced: bool,
    use_price_s: float,
    speed: Floats,
    sets: Bools,
    allowed: Bools,
    cost_s: Floats,
    wait_s: Floats,
    price_s: Floats,
    mask: Bools,
) -> None:
    """The set of least make-span plus prices; ties: the first. Beside others the local server costs link_s more."""
    best, chosen, alone_s = np.inf, -1, cost_s[b]
    trial, share = np.zeros(len(mask), np.bool_), np.zeros(len(mask))
    for k in range(len(sets)):
        n_selected, last, inside = 0, 0, True
        for s in range(len(mask)):
            trial[s] = sets[k, s]
            if trial[s]:
                n_selected += 1
                last = s
                inside &= allowed[s]
        if n_selected == 0 or not inside:
            continue
        cost_s[b] = alone_s + link_s if n_selected >= 2 else alone_s
        if split == WHOLE:
            value, prices = cost_s[last] + wait_s[last], price_s[last] + use_price_s
        else:
            _split(split, priced, speed, cost_s, wait_s, price_s, trial, share)
            value, prices = _objective(trial, share, cost_s, wait_s, price_s, use_price_s)
        if chosen < 0 or _less(value + prices, best):
            best, chosen = value + prices, k
    for s in range(len(mask)):
        mask[s] = chosen >= 0 and sets[chosen, s]


@njit(cache=True, error_model="numpy")
def _objective(
    mask: Bools, share: Floats, cost_s: Floats, wait_s: Floats, price_s: Floats, use_price_s: float
) -> tuple[float, float]:
    """Make-span and prices of the shares on a set."""
    make_span_s, prices = 0.0, 0.0
    for s in range(len(mask)):
        if mask[s]:
            make_span_s = max(make_span_s, share[s] * cost_s[s] + wait_s[s])
            prices += price_s[s] * share[s] + use_price_s
    return make_span_s, prices


@njit(cache=True, error_model="numpy")
def _less(value: float, best: float) -> bool:
    """Less by more than rounding, so that the first of equals stays."""
    return value < best - 1e-12 * abs(best)


@njit(cache=True, error_model="numpy")
def _least_used(work: float, placed: Floats, weight: Floats, allowed: Bools, mask: Bools) -> None:
    """Weighted round robin: the allowed server with the least own work, this task included, relative to its weight.

    Servers of weight 0 come last.
    """
    best, server = np.inf, -1
    for s in range(len(mask)):
        mask[s] = False
        if allowed[s]:
            used = (placed[s] + work) / weight[s] if weight[s] > 0.0 else 1e300
            if used < best:
                best, server = used, s
    if server >= 0:
        mask[server] = True


@njit(cache=True, error_model="numpy")
def quotas(world: World, queue_gcycle: Floats) -> Floats:
    """Shares [E] of the free capacity that one slot's work would use: f (H - Q/f)+, scaled to sum to one.

    That is the water-filling of one task of (slot x sum f) Gcycle on the queues Q.
    """
    speed = world.speed_gcps
    cost, wait, weight = np.sum(speed) / speed, queue_gcycle / (speed * world.slot_s), np.zeros(len(speed))
    water_filling(cost, wait, np.ones(len(speed), np.bool_), weight)
    return weight
