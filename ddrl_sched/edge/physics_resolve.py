"""Which servers a task goes to, and with which shares: a Decision carried out on what the station knows. Compiled.

`resolve` reads the state and leaves it as it is; physics_kernel.py places what it answers.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ddrl_sched.edge import split
from ddrl_sched.edge.physics_state import State, World, exact_free_s
from ddrl_sched.edge.split import Quote
from ddrl_sched.edge.types import Bools, Floats, Tasks

GIVEN, BEST, WRR = range(3)
CHOICES = {"given": GIVEN, "best": BEST, "wrr": WRR}
STATIC, OWN, ANNOUNCED, TRACKED, PROBED, RUNNING, LIKE_OWN = range(7)
INFOS = {
    "static": STATIC,
    "own": OWN,
    "like_own": LIKE_OWN,
    "announced": ANNOUNCED,
    "tracked": TRACKED,
    "probed": PROBED,
    "running": RUNNING,
}


class DecisionCodes(NamedTuple):
    """A Decision as codes and arrays; arrays that were not given have length 0 along R."""

    choice: int
    info: int
    split: int
    split_info: int
    by_wait: bool
    quota: bool
    probe_selected: bool
    mean_work_gcycle: float
    select: Bools
    share: Floats
    candidates: Bools
    probe: Bools
    price_s: Floats
    use_price_s: Floats
    congestion: Floats
    unseen_work_factor: Floats
    own_work_price: Floats
    min_wait_ratio: Floats


class Scratch(NamedTuple):
    """Arrays that are used again for every task: what is known of it, and what is decided."""

    free_s: Floats  # [E] as the fields of Quote
    port_s: Floats
    send_s: Floats
    latency_s: Floats
    unit_s: Floats
    fixed_s: Floats
    price_s: Floats  # [E] of a unit share
    trial: Floats  # [E] shares that are compared
    allowed: Bools  # [E] servers that may be chosen
    probed: Bools  # [E] servers that were probed
    selected: Bools  # [E] the chosen set
    share: Floats  # [E] the answer


@njit(cache=True, error_model="numpy")
def scratch(n: int) -> Scratch:
    """Room for tasks of a world with n servers."""
    return Scratch(
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
        np.zeros(n),
    )


@njit(cache=True, error_model="numpy", inline="always")
def _known(info: int, s: int, own: int, probed: Bools) -> bool:
    """Whether a station of this class, with the server `own`, knows server s exactly."""
    return info == RUNNING or (info != STATIC and s == own) or (info == PROBED and probed[s])


@njit(cache=True, error_model="numpy", inline="always")
def wait_s(
    r: int, i: int, s: int, info: int, unseen: float, probed: Bools, world: World, state: State, tasks: Tasks
) -> tuple[float, float]:
    """Seconds until server s is free, as the station of task (r, i) believes at its arrival; the speed it assumes.

    `unseen` says how much work all stations have placed since the announcement for each unit of the own (tracked).
    """
    b, now, speed = tasks.origin[r, i], tasks.arrive_s[r, i], world.speed_gcps[s]
    own = world.own[b]
    if _known(info, s, own, probed):
        return exact_free_s(r, s, now, world, state, tasks)
    if info == STATIC:
        return 0.0, speed
    if info == LIKE_OWN:
        return (exact_free_s(r, own, now, world, state, tasks)[0] if own >= 0 else 0.0), speed
    if info == OWN:
        return max(state.own_free_s[r, b, s] - now, 0.0), speed
    if info == ANNOUNCED:
        return state.announced_s[r, s], speed
    age = now - state.announcement[r] * world.announce_s
    return max(state.announced_s[r, s] + unseen * state.since_gcycle[r, b, s] / speed - age, 0.0), speed


@njit(cache=True, error_model="numpy", inline="always")
def quote_of(b: int, world: World, room: Scratch) -> Quote:
    """The Quote for a task of station b whose numbers stand, or will stand, in `room`."""
    return Quote(
        room.free_s,
        room.port_s,
        room.send_s,
        room.latency_s,
        room.unit_s,
        room.fixed_s,
        world.order[b],
        world.speed_gcps,
        world.shared,
        world.own[b],
    )


@njit(cache=True, error_model="numpy", inline="always")
def fill_quote(
    r: int,
    i: int,
    dispatch: float,
    info: int,
    unseen: float,
    least_ratio: float,
    probed: Bools,
    world: World,
    state: State,
    tasks: Tasks,
    q: Quote,
) -> None:
    """Fill the Quote of task (r, i) as a station of class `info` sees it.

    Servers that it does not know exactly are taken to be at least `least_ratio` times as busy as the station's own.
    """
    b, now = tasks.origin[r, i], tasks.arrive_s[r, i]
    own = world.own[b]
    least_s = 0.0
    if least_ratio > 0.0 and own >= 0:
        least_s = least_ratio * exact_free_s(r, own, now, world, state, tasks)[0]
    for s in range(len(world.speed_gcps)):
        q.free_s[s], speed = wait_s(r, i, s, info, unseen, probed, world, state, tasks)
        if q.free_s[s] < least_s and not _known(info, s, own, probed):
            q.free_s[s] = least_s
        q.port_s[s] = dispatch
        q.send_s[s] = 0.0
        q.latency_s[s] = world.latency_s[b, s]
        q.unit_s[s] = tasks.work_gcycle[r, i] / speed
        q.fixed_s[s] = tasks.overhead_gcycle[r, i] / speed
        if s != own:
            if info != STATIC:
                q.port_s[s] = max(state.port_free_s[r, b, 0 if world.shared else s] - now, dispatch)
            q.send_s[s] = tasks.input_mbit[r, i] / world.link_mbps[b, s]
            q.unit_s[s] += tasks.result_mbit[r, i] / world.return_mbps[b, s]
            q.fixed_s[s] += world.return_latency_s[b, s]


@njit(cache=True, error_model="numpy")
def _prefixes(q: Quote, allowed: Bools) -> Bools:
    """Sets to compare where all subsets are too many: the servers by single finish, the first 1, 2, ... of them."""
    n = len(allowed)
    ends = np.full(n, np.inf)
    count = 0
    for s in range(n):
        if allowed[s]:
            ends[s] = split.single_finish(q, s)
            count += 1
    by_end = np.argsort(ends)
    sets = np.zeros((count, n), np.bool_)
    for i in range(count):
        for j in range(i + 1):
            sets[i, by_end[j]] = True
    return sets


@njit(cache=True, error_model="numpy")
def _least_wait(q: Quote, allowed: Bools, selected: Bools) -> None:
    best, server = np.inf, 0
    for s in range(len(allowed)):
        if allowed[s] and q.free_s[s] < best:
            best, server = q.free_s[s], s
    selected[:] = False
    selected[server] = True


@njit(cache=True, error_model="numpy")
def _least_used(r: int, b: int, work: float, quota: bool, world: World, state: State, selected: Bools) -> None:
    """Weighted round robin: the server with the least own work, this task included, relative to its weight."""
    speed = world.speed_gcps
    n = len(speed)
    weight = speed.copy()
    placed = state.own_gcycle[r, b]
    if quota:
        placed = state.since_gcycle[r, b]
        announced_s = state.announced_s[r]
        # Level H with sum of f (H - announced)+ = F x announce_s: the free capacity that one interval will use.
        by_wait = np.argsort(announced_s)
        total, height, need = 0.0, 0.0, np.sum(speed) * world.announce_s
        for i in range(n):
            s = by_wait[i]
            total += speed[s]
            need += speed[s] * announced_s[s]
            height = need / total
            if i + 1 == n or height <= announced_s[by_wait[i + 1]]:
                break
        for s in range(n):
            weight[s] = speed[s] * max(height - announced_s[s], 0.0)
    best, server = np.inf, 0
    for s in range(n):
        if weight[s] > 0.0 and (placed[s] + work) / weight[s] < best:
            best, server = (placed[s] + work) / weight[s], s
    selected[:] = False
    selected[server] = True


@njit(cache=True, error_model="numpy")
def _least_objective(q: Quote, rule: int, sets: Bools, priced: bool, use_price_s: float, room: Scratch) -> None:
    """Select the candidate of least objective; candidates outside `allowed` are left out.

    Candidates are compared by their equal finish plus prices; a priced split is made of the chosen one only.
    """
    allowed, price_s, trial = room.allowed, room.price_s, room.trial
    best, chosen = np.inf, -1
    weighed = priced and rule != split.EQUAL_FINISH
    for i in range(len(sets)):
        inside = True
        for s in range(len(allowed)):
            inside &= allowed[s] or not sets[i, s]
        if not inside:
            continue
        finish_s = split.split_task(q, rule, sets[i], weighed, price_s, 0.0, trial)
        value = split.objective_of(trial, finish_s, price_s, use_price_s)
        if value < best - 1e-12 or chosen < 0:
            best, chosen = value, i
    if chosen >= 0:
        room.selected[:] = sets[chosen]
    else:
        room.selected[:] = allowed


@njit(cache=True, error_model="numpy", inline="always")
def dispatch_s(b: int, probed: Bools, world: World) -> tuple[float, int]:
    """Seconds until the probed servers have answered, and how many they are."""
    n_probed, farthest = 0, 0.0
    for s in range(len(probed)):
        if probed[s] and s != world.own[b]:
            n_probed += 1
            farthest = max(farthest, world.latency_s[b, s] + world.return_latency_s[b, s])
    return farthest + n_probed * world.probe_s, n_probed


@njit(cache=True, error_model="numpy", inline="always")
def _fill_prices(
    r: int, i: int, j: int, q: Quote, codes: DecisionCodes, world: World, state: State, tasks: Tasks, price_s: Floats
) -> tuple[bool, float]:
    """Prices of the task: fills price_s[E]; returns whether a share has one, and the price of every used share."""
    use_price_s = 0.0
    priced = False
    price_s[:] = 0.0
    if len(codes.price_s) > 0:
        price_s[:] = codes.price_s[r, j]
        priced = True
    if len(codes.use_price_s) > 0:
        use_price_s += codes.use_price_s[r, j]
    if len(codes.own_work_price) > 0:
        price_s += codes.own_work_price[r, j] * state.own_gcycle[r, tasks.origin[r, i]] / world.speed_gcps
        priced = True
    if len(codes.congestion) > 0:
        backlog = np.sum(q.free_s * world.speed_gcps)
        kappa, total_gcps = codes.congestion[r, j], np.sum(world.speed_gcps)
        use_price_s += kappa * tasks.overhead_gcycle[r, i] / total_gcps * (1.0 + backlog / codes.mean_work_gcycle)
    return priced, use_price_s


@njit(cache=True, error_model="numpy", inline="always")
def resolve(
    r: int, i: int, j: int, world: World, codes: DecisionCodes, state: State, tasks: Tasks, room: Scratch
) -> tuple[float, int]:
    """Choose servers and shares of task (r, i), row j of the Decision: they stand in room.selected and room.share.

    Returns the seconds until it is dispatched, and how many servers were probed.
    """
    b = tasks.origin[r, i]
    q = quote_of(b, world, room)
    room.probed[:] = False
    if len(codes.probe) > 0:
        room.probed[:] = codes.probe[r, j]
    dispatch, n_probed = dispatch_s(b, room.probed, world)
    unseen = codes.unseen_work_factor[r, j] if len(codes.unseen_work_factor) > 0 else 1.0
    least_ratio = codes.min_wait_ratio[r, j] if len(codes.min_wait_ratio) > 0 else 0.0
    fill_quote(r, i, dispatch, codes.info, unseen, least_ratio, room.probed, world, state, tasks, q)
    priced, use_price_s = select_servers(r, i, j, q, codes, world, state, tasks, room)
    if codes.probe_selected:
        room.probed[:] = room.selected
        dispatch, n_probed = dispatch_s(b, room.probed, world)
    if codes.probe_selected or codes.split_info != codes.info:
        fill_quote(r, i, dispatch, codes.split_info, unseen, least_ratio, room.probed, world, state, tasks, q)
    split_work(r, i, j, q, codes, tasks, priced, use_price_s, room)
    return dispatch, n_probed


@njit(cache=True, error_model="numpy", inline="always")
def select_servers(
    r: int,
    i: int,
    j: int,
    q: Quote,
    codes: DecisionCodes,
    world: World,
    state: State,
    tasks: Tasks,
    room: Scratch,
) -> tuple[bool, float]:
    """Choose the servers of task (r, i) by its Quote, into room.selected; returns what `_fill_prices` does."""
    b = tasks.origin[r, i]
    room.allowed[:] = True
    if len(codes.select) > 0:
        room.allowed[:] = codes.select[r, j]
    priced, use_price_s = _fill_prices(r, i, j, q, codes, world, state, tasks, room.price_s)
    if codes.choice == WRR:
        _least_used(r, b, tasks.work_gcycle[r, i], codes.quota, world, state, room.selected)
    else:
        choose(q, b, codes, priced, use_price_s, room)
    return priced, use_price_s


@njit(cache=True, error_model="numpy", inline="always")
def split_work(
    r: int,
    i: int,
    j: int,
    q: Quote,
    codes: DecisionCodes,
    tasks: Tasks,
    priced: bool,
    use_price_s: float,
    room: Scratch,
) -> None:
    """Divide task (r, i) over room.selected by its Quote, into room.share."""
    room.share[:] = 0.0
    if codes.split == split.GIVEN:
        room.share[:] = codes.share[r, j]
    divide(q, codes, tasks.units[r, i], priced, use_price_s, room)


@njit(cache=True, error_model="numpy", inline="always")
def choose(q: Quote, b: int, codes: DecisionCodes, priced: bool, use_price_s: float, room: Scratch) -> None:
    """Select the servers of a task of station b among room.allowed, by what is quoted for it."""
    if codes.choice == GIVEN:
        room.selected[:] = room.allowed
    elif codes.by_wait:
        _least_wait(q, room.allowed, room.selected)
    elif codes.candidates.shape[1] > 0:
        _least_objective(q, codes.split, codes.candidates[b], priced, use_price_s, room)
    else:
        _least_objective(q, codes.split, _prefixes(q, room.allowed), priced, use_price_s, room)


@njit(cache=True, error_model="numpy", inline="always")
def divide(q: Quote, codes: DecisionCodes, units: int, priced: bool, use_price_s: float, room: Scratch) -> None:
    """Fill room.share over room.selected, by what is quoted for the task; `units` > 0: in whole units."""
    weighed = priced or use_price_s > 0.0
    split.split_task(q, codes.split, room.selected, weighed, room.price_s, use_price_s, room.share)
    if units > 0:
        split.round_to_units(q, units, room.selected, room.share)
