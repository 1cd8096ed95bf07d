"""The compiled loops of the clean physics (physics.py says what they mean). States and tasks are tuples of arrays.

Positions in the tuples: state = fields of physics.State, tasks = fields of Tasks, results = fields of Outcome.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ddrl_sched.edge import split
from ddrl_sched.edge.split import Quote
from ddrl_sched.edge.types import Bools, Floats, Ints

GIVEN, BEST, WRR = range(3)
CHOICES = {"given": GIVEN, "best": BEST, "wrr": WRR}
STATIC, OWN, ANNOUNCED, TRACKED, PROBED, RUNNING, LEVEL = range(7)
INFOS = {
    "static": STATIC,
    "own": OWN,
    "level": LEVEL,
    "announced": ANNOUNCED,
    "tracked": TRACKED,
    "probed": PROBED,
    "running": RUNNING,
}


class World(NamedTuple):
    speed_gcps: Floats
    link_mbps: Floats
    latency_s: Floats
    return_mbps: Floats
    return_latency_s: Floats
    order: Ints  # [B, E] fastest link first
    shared: bool
    announce_s: float
    probe_s: float


class Rule(NamedTuple):
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
    echo: Floats
    balance: Floats
    level: Floats


@njit(cache=True, error_model="numpy", inline="always")
def _factor_at(change_s: Floats, factor: Floats, at_s: float) -> int:
    piece = 0
    while piece + 1 < len(change_s) and change_s[piece + 1] <= at_s:
        piece += 1
    return piece


@njit(cache=True, error_model="numpy", inline="always")
def _service_end(change_s: Floats, factor: Floats, speed_gcps: float, start_s: float, gcycle: float) -> float:
    """End of a service of `gcycle` that starts at start_s on a server whose speed changes in pieces."""
    piece = _factor_at(change_s, factor, start_s)
    while piece + 1 < len(change_s):
        rate = speed_gcps * factor[piece]
        until_s = change_s[piece + 1]
        done = (until_s - start_s) * rate
        if done >= gcycle:
            break
        gcycle -= done
        start_s = until_s
        piece += 1
    return start_s + gcycle / (speed_gcps * factor[piece])


@njit(cache=True, error_model="numpy", inline="always")
def _remaining_s(change_s: Floats, factor: Floats, free_s: float, at_s: float) -> float:
    """Seconds of promised service at at_s, at the speed of that moment (nobody foresees a change of speed)."""
    if free_s <= at_s:
        return 0.0
    piece = _factor_at(change_s, factor, at_s)
    now = factor[piece]
    total, start_s = 0.0, at_s
    while piece + 1 < len(change_s) and change_s[piece + 1] < free_s:
        total += (change_s[piece + 1] - start_s) * factor[piece] / now
        start_s = change_s[piece + 1]
        piece += 1
    return total + (free_s - start_s) * factor[piece] / now


@njit(cache=True, error_model="numpy")
def _settle(r: int, s: int, until_s: float, world: World, state: Any, tasks: Any, results: Any) -> None:
    """Serve the shares that have arrived at server s by until_s and write the delays that end with them."""
    server_free_s, n_flight, arrive_s, gcycle, times_s, task = state[:6]
    arrivals, deadlines = tasks[2], tasks[8]
    change_s, factor = tasks[10][r, s], tasks[11][r, s]
    n = n_flight[r, s]
    done = 0
    while done < n and arrive_s[r, s, done] <= until_s:
        start = max(server_free_s[r, s], arrive_s[r, s, done])
        end = _service_end(change_s, factor, world.speed_gcps[s], start, gcycle[r, s, done])
        server_free_s[r, s] = end
        at = task[r, s, done]
        before, transfer, back = times_s[r, s, done]
        delay = end + back - arrivals[r, at]
        if not results[5][r, at] >= delay:
            results[1][r, at] = before + start - arrive_s[r, s, done]
            results[2][r, at] = transfer
            results[3][r, at] = end - start
            results[4][r, at] = back
            results[5][r, at] = delay
            results[6][r, at] = delay > deadlines[r, at]
        done += 1
    if done > 0:
        for i in range(done, n):
            arrive_s[r, s, i - done] = arrive_s[r, s, i]
            gcycle[r, s, i - done] = gcycle[r, s, i]
            times_s[r, s, i - done] = times_s[r, s, i]
            task[r, s, i - done] = task[r, s, i]
        n_flight[r, s] = n - done


@njit(cache=True, error_model="numpy", inline="always")
def _send(
    r: int, s: int, arrive: float, work: float, before: float, transfer: float, back: float, at: int, state: Any
) -> None:
    """Put a share on its way: insert it behind everything that arrives at server s no later."""
    n_flight, arrive_s, gcycle, times_s, task = state[1:6]
    i = n_flight[r, s]
    while i > 0 and arrive_s[r, s, i - 1] > arrive:
        arrive_s[r, s, i] = arrive_s[r, s, i - 1]
        gcycle[r, s, i] = gcycle[r, s, i - 1]
        times_s[r, s, i] = times_s[r, s, i - 1]
        task[r, s, i] = task[r, s, i - 1]
        i -= 1
    arrive_s[r, s, i] = arrive
    gcycle[r, s, i] = work
    times_s[r, s, i, 0] = before
    times_s[r, s, i, 1] = transfer
    times_s[r, s, i, 2] = back
    task[r, s, i] = at
    n_flight[r, s] += 1


@njit(cache=True, error_model="numpy")
def _pass_time(r: int, now: float, world: World, state: Any, tasks: Any, results: Any) -> None:
    """Make the last announcement that is due by `now` (before the arrivals of that moment), then serve to `now`."""
    announced_s, announcement, since = state[7], state[8], state[11]
    if now < np.inf:
        n = int(np.floor(now / world.announce_s))
        while (n + 1) * world.announce_s <= now:
            n += 1
        while n * world.announce_s > now:
            n -= 1
        if n > announcement[r]:
            announcement[r] = n
            moment = n * world.announce_s
            for s in range(len(world.speed_gcps)):
                if state[1][r, s] > 0:
                    _settle(r, s, moment, world, state, tasks, results)
                change_s, factor = tasks[10][r, s], tasks[11][r, s]
                rate = world.speed_gcps[s] * factor[_factor_at(change_s, factor, moment)]
                promised = 0.0
                for i in range(state[1][r, s]):
                    promised += state[3][r, s, i]
                announced_s[r, s] = _remaining_s(change_s, factor, state[0][r, s], moment) + promised / rate
            since[r] = 0.0
    for s in range(len(world.speed_gcps)):
        if state[1][r, s] > 0 and state[2][r, s, 0] <= now:
            _settle(r, s, now, world, state, tasks, results)


@njit(cache=True, error_model="numpy", inline="always")
def _exact_free_s(r: int, s: int, now: float, world: World, state: Any, tasks: Any) -> float:
    """Seconds until server s has served everything it was promised, shares on their way included."""
    change_s, factor = tasks[10][r, s], tasks[11][r, s]
    free_s = _remaining_s(change_s, factor, state[0][r, s], now)
    n = state[1][r, s]
    if n > 0:
        rate = world.speed_gcps[s] * factor[_factor_at(change_s, factor, now)]
        for i in range(n):
            free_s = max(free_s, state[2][r, s, i] - now) + state[3][r, s, i] / rate
    return free_s


@njit(cache=True, error_model="numpy", inline="always")
def _known(info: int, s: int, b: int, probed: Bools) -> bool:
    """Whether a station of this class knows server s exactly."""
    return info == RUNNING or (info != STATIC and s == b) or (info == PROBED and probed[s])


@njit(cache=True, error_model="numpy", inline="always")
def _wait_s(
    r: int, at: int, s: int, info: int, echo: float, probed: Bools, world: World, state: Any, tasks: Any
) -> tuple[float, float]:
    """Seconds until server s is free, as the station of task (r, at) believes at its arrival; the speed it assumes.

    `echo` says how much work all stations have placed since the announcement for each unit of the own (tracked).
    """
    b, now, speed = tasks[0][r, at], tasks[2][r, at], world.speed_gcps[s]
    if _known(info, s, b, probed):
        change_s, factor = tasks[10][r, s], tasks[11][r, s]
        rate = speed * factor[_factor_at(change_s, factor, now)]
        return _exact_free_s(r, s, now, world, state, tasks), rate
    if info == STATIC:
        return 0.0, speed
    if info == LEVEL:
        return _exact_free_s(r, b, now, world, state, tasks), speed
    if info == OWN:
        return max(state[9][r, b, s] - now, 0.0), speed
    if info == ANNOUNCED:
        return state[7][r, s], speed
    age = now - state[8][r] * world.announce_s
    return max(state[7][r, s] + echo * state[11][r, b, s] / speed - age, 0.0), speed


@njit(cache=True, error_model="numpy")
def estimate(world: World, state: Any, tasks: Any, lo: Ints, hi: Ints, info: int, wait_s: Floats) -> None:
    nothing = np.zeros(len(world.speed_gcps), np.bool_)
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            for s in range(len(world.speed_gcps)):
                wait_s[r, i - lo[r], s] = _wait_s(r, i, s, info, 1.0, nothing, world, state, tasks)[0]


@njit(cache=True, error_model="numpy")
def _quote(
    r: int,
    at: int,
    dispatch: float,
    info: int,
    echo: float,
    level: float,
    probed: Bools,
    world: World,
    state: Any,
    tasks: Any,
    q: Quote,
) -> None:
    """Fill the Quote of task (r, at) as a station of class `info` sees it.

    Servers that it does not know exactly are taken to be at least `level` times as busy as the station's own.
    """
    b, now = tasks[0][r, at], tasks[2][r, at]
    port_free_s = state[6]
    least_s = level * _exact_free_s(r, b, now, world, state, tasks) if level > 0.0 else 0.0
    for s in range(len(world.speed_gcps)):
        q.free_s[s], speed = _wait_s(r, at, s, info, echo, probed, world, state, tasks)
        if q.free_s[s] < least_s and not _known(info, s, b, probed):
            q.free_s[s] = least_s
        q.port_s[s] = dispatch
        q.send_s[s] = 0.0
        q.latency_s[s] = world.latency_s[b, s]
        q.unit_s[s] = tasks[5][r, at] / speed
        q.fixed_s[s] = tasks[6][r, at] / speed
        if s != b:
            if info != STATIC:
                q.port_s[s] = max(port_free_s[r, b, 0 if world.shared else s] - now, dispatch)
            q.send_s[s] = tasks[3][r, at] / world.link_mbps[b, s]
            q.unit_s[s] += tasks[4][r, at] / world.return_mbps[b, s]
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
def _least_wait(q: Quote, allowed: Bools, mask: Bools) -> None:
    best, server = np.inf, 0
    for s in range(len(allowed)):
        if allowed[s] and q.free_s[s] < best:
            best, server = q.free_s[s], s
    mask[:] = False
    mask[server] = True


@njit(cache=True, error_model="numpy")
def _least_used(r: int, b: int, work: float, quota: bool, world: World, state: Any, mask: Bools) -> None:
    """Weighted round robin: the server with the least own work, this task included, relative to its weight."""
    speed = world.speed_gcps
    n = len(speed)
    weight = speed.copy()
    placed = state[10][r, b]
    if quota:
        placed = state[11][r, b]
        announced_s = state[7][r]
        # Level H with sum of f (H - announced)+ = F x announce_s: the free capacity that one interval will use.
        by_wait = np.argsort(announced_s)
        total, level, need = 0.0, 0.0, np.sum(speed) * world.announce_s
        for i in range(n):
            s = by_wait[i]
            total += speed[s]
            need += speed[s] * announced_s[s]
            level = need / total
            if i + 1 == n or level <= announced_s[by_wait[i + 1]]:
                break
        for s in range(n):
            weight[s] = speed[s] * max(level - announced_s[s], 0.0)
    best, server = np.inf, 0
    for s in range(n):
        if weight[s] > 0.0 and (placed[s] + work) / weight[s] < best:
            best, server = (placed[s] + work) / weight[s], s
    mask[:] = False
    mask[server] = True


@njit(cache=True, error_model="numpy")
def _choose(
    q: Quote,
    rule: Rule,
    sets: Bools,
    allowed: Bools,
    priced: bool,
    price_s: Floats,
    use_price_s: float,
    trial: Floats,
    mask: Bools,
) -> None:
    """Set mask[E] to the candidate of least objective; candidates outside `allowed` are left out.

    Candidates are compared by their equal finish plus prices; a priced split is made of the chosen one only.
    """
    best, chosen = np.inf, -1
    weighed = priced and rule.split != split.EQUAL_FINISH
    for i in range(len(sets)):
        inside = True
        for s in range(len(allowed)):
            inside &= allowed[s] or not sets[i, s]
        if not inside:
            continue
        finish_s = split.split_task(q, rule.split, sets[i], weighed, price_s, 0.0, trial)
        value = split.objective_of(trial, finish_s, price_s, use_price_s)
        if value < best - 1e-12 or chosen < 0:
            best, chosen = value, i
    if chosen >= 0:
        mask[:] = sets[chosen]
    else:
        mask[:] = allowed


@njit(cache=True, error_model="numpy", inline="always")
def _dispatch(b: int, probed: Bools, world: World) -> tuple[float, int]:
    """Seconds until the probed servers have answered, and how many were asked."""
    asked, farthest = 0, 0.0
    for s in range(len(probed)):
        if probed[s] and s != b:
            asked += 1
            farthest = max(farthest, world.latency_s[b, s] + world.return_latency_s[b, s])
    return farthest + asked * world.probe_s, asked


@njit(cache=True, error_model="numpy")
def run(
    world: World, rule: Rule, state: Any, tasks: Any, lo: Ints, at: Ints, hi: Ints, until_s: Floats, results: Any
) -> bool:
    """Place tasks at[r]..hi[r]-1 of every replica; True if an in-flight list is full (at[r] says where to go on)."""
    n_servers = len(world.speed_gcps)
    room = state[2].shape[2]
    q_free, q_port, q_send = np.zeros(n_servers), np.zeros(n_servers), np.zeros(n_servers)
    q_latency, q_unit, q_fixed = np.zeros(n_servers), np.zeros(n_servers), np.zeros(n_servers)
    x, trial = np.zeros(n_servers), np.zeros(n_servers)
    mask, allowed = np.zeros(n_servers, np.bool_), np.zeros(n_servers, np.bool_)
    probed, price_s = np.zeros(n_servers, np.bool_), np.zeros(n_servers)
    total_gcps = np.sum(world.speed_gcps)
    for r in range(len(at)):
        while at[r] < hi[r]:
            i = at[r]
            j = i - lo[r]
            b, now = tasks[0][r, i], tasks[2][r, i]
            _pass_time(r, now, world, state, tasks, results)
            for s in range(n_servers):
                if state[1][r, s] >= room:
                    return True
            q = Quote(
                q_free,
                q_port,
                q_send,
                q_latency,
                q_unit,
                q_fixed,
                world.order[b],
                world.speed_gcps,
                world.shared,
                b,
            )
            allowed[:] = True
            if len(rule.select) > 0:
                allowed[:] = rule.select[r, j]
            probed[:] = False
            if len(rule.probe) > 0:
                probed[:] = rule.probe[r, j]
            dispatch, asked = _dispatch(b, probed, world)
            echo = rule.echo[r, j] if len(rule.echo) > 0 else 1.0
            level = rule.level[r, j] if len(rule.level) > 0 else 0.0
            _quote(r, i, dispatch, rule.info, echo, level, probed, world, state, tasks, q)

            # Prices of this task.
            use_price_s = 0.0
            priced = False
            price_s[:] = 0.0
            if len(rule.price_s) > 0:
                price_s[:] = rule.price_s[r, j]
                priced = True
            if len(rule.use_price_s) > 0:
                use_price_s += rule.use_price_s[r, j]
            if len(rule.balance) > 0:
                price_s += rule.balance[r, j] * state[10][r, b] / world.speed_gcps
                priced = True
            if len(rule.congestion) > 0:
                backlog = np.sum(q.free_s * world.speed_gcps)
                kappa = rule.congestion[r, j]
                use_price_s += kappa * tasks[6][r, i] / total_gcps * (1.0 + backlog / rule.mean_work_gcycle)
            # The set.
            if rule.choice == WRR:
                _least_used(r, b, tasks[5][r, i], rule.quota, world, state, mask)
            elif rule.choice == GIVEN:
                mask[:] = allowed
            elif rule.by_wait:
                _least_wait(q, allowed, mask)
            elif rule.candidates.shape[1] > 0:
                _choose(q, rule, rule.candidates[b], allowed, priced, price_s, use_price_s, trial, mask)
            else:
                _choose(q, rule, _prefixes(q, allowed), allowed, priced, price_s, use_price_s, trial, mask)
            # The shares.
            if rule.probe_selected:
                probed[:] = mask
                dispatch, asked = _dispatch(b, probed, world)
            if rule.probe_selected or rule.split_info != rule.info:
                _quote(r, i, dispatch, rule.split_info, echo, level, probed, world, state, tasks, q)
            x[:] = 0.0
            if rule.split == split.GIVEN:
                x[:] = rule.share[r, j]
            split.split_task(q, rule.split, mask, priced or use_price_s > 0.0, price_s, use_price_s, x)
            if tasks[7][r, i] > 0:
                split.round_to_units(q, tasks[7][r, i], mask, x)
            results[7][r, i] = asked
            _place_shares(r, i, dispatch, x, world, state, tasks, results)
            at[r] += 1
        if until_s[r] > -np.inf:
            _pass_time(r, until_s[r], world, state, tasks, results)
    return False


@njit(cache=True, error_model="numpy")
def _place_shares(
    r: int, i: int, dispatch: float, x: Floats, world: World, state: Any, tasks: Any, results: Any
) -> None:
    """Send the used shares of task (r, i) and keep the station's own account of them."""
    b, now = tasks[0][r, i], tasks[2][r, i]
    port_free_s, own_free_s, own, since = state[6], state[9], state[10], state[11]
    total = np.sum(x)
    for k in range(len(x)):
        s = world.order[b, k]
        if x[s] <= 0.0:
            continue
        share = x[s] / total
        results[0][r, i, s] = share
        work = tasks[6][r, i] + share * tasks[5][r, i]
        arrive, before, transfer, back = now + dispatch, dispatch, 0.0, 0.0
        if s != b:
            port = 0 if world.shared else s
            start = max(port_free_s[r, b, port], now + dispatch)
            sent = start + share * tasks[3][r, i] / world.link_mbps[b, s]
            port_free_s[r, b, port] = sent
            arrive = sent + world.latency_s[b, s]
            before, transfer = start - now, arrive - start
            back = world.return_latency_s[b, s] + share * tasks[4][r, i] / world.return_mbps[b, s]
        _send(r, s, arrive, work, before, transfer, back, i, state)
        own_free_s[r, b, s] = max(own_free_s[r, b, s], arrive) + work / world.speed_gcps[s]
        own[r, b, s] += work
        since[r, b, s] += work
