"""What evolves in the clean physics, and how time passes in it: compiled (physics.py says what it means)."""

from typing import NamedTuple

import numpy as np
from numba import njit

from ddrl_sched.edge.types import Floats, Ints, Outcome, Tasks


class World(NamedTuple):
    """The numbers of a Scenario that delays depend on."""

    speed_gcps: Floats  # [E]
    own: Ints  # [B] server of a station, -1: none
    link_mbps: Floats  # [B, E]
    latency_s: Floats  # [B, E]
    return_mbps: Floats  # [B, E]
    return_latency_s: Floats  # [B, E]
    order: Ints  # [B, E] fastest link first
    shared: bool  # one port per station
    announce_s: float
    probe_s: float
    horizon_s: float


class State(NamedTuple):
    """Everything that evolves. A plain value: `place` returns a new one."""

    server_free_s: Floats  # [R, E] end of the service of all shares that have arrived
    n_flight: Ints  # [R, E] shares on their way
    flight_arrive_s: Floats  # [R, E, Q] sorted; ties in order of decision
    flight_gcycle: Floats  # [R, E, Q] overhead + share of the work
    flight_times_s: Floats  # [R, E, Q, 3] wait before sending, transfer, return
    flight_task: Ints  # [R, E, Q] position along N
    port_free_s: Floats  # [R, B, E]; with a shared port only [..., 0] is used
    announced_s: Floats  # [R, E] seconds of promised work at the last announcement
    announcement: Ints  # [R] number of the last announcement, -1 before the first
    own_free_s: Floats  # [R, B, E] end of a station's own placements if nobody else placed any
    own_gcycle: Floats  # [R, B, E] placed by a station since the start
    since_gcycle: Floats  # [R, B, E] placed by a station since the last announcement


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


@njit(cache=True, error_model="numpy", inline="always")
def _keep_record(
    r: int,
    s: int,
    i: int,
    before: float,
    arrive: float,
    start: float,
    end: float,
    world: World,
    tasks: Tasks,
    outcome: Outcome,
) -> None:
    """Write what `empty_outcome` was asked to keep of a share of task (r, i) that is served from start to end."""
    if len(outcome.timing_s) > 0:
        moments = outcome.timing_s[r, i, s]
        moments[0], moments[1], moments[2], moments[3] = tasks.arrive_s[r, i] + before, arrive, start, end
    if len(outcome.occupancy_s) > 0:
        parts = outcome.occupancy_s[r, s]
        width = world.horizon_s / len(parts)
        for part in range(int(arrive / width), len(parts)):
            begin, until = part * width, (part + 1) * width
            if begin >= end:
                break
            parts[part, 0] += max(min(end, until) - max(start, begin), 0.0)
            parts[part, 1] += min(end, until) - max(arrive, begin)


@njit(cache=True, error_model="numpy")
def _settle(r: int, s: int, until_s: float, world: World, state: State, tasks: Tasks, outcome: Outcome) -> None:
    """Serve the shares that have arrived at server s by until_s and write the delays that end with them."""
    server_free_s, n_flight, task = state.server_free_s, state.n_flight, state.flight_task
    arrive_s, gcycle, times_s = state.flight_arrive_s, state.flight_gcycle, state.flight_times_s
    change_s, factor = tasks.speed_change_s[r, s], tasks.speed_factor[r, s]
    n = n_flight[r, s]
    done = 0
    while done < n and arrive_s[r, s, done] <= until_s:
        start = max(server_free_s[r, s], arrive_s[r, s, done])
        end = _service_end(change_s, factor, world.speed_gcps[s], start, gcycle[r, s, done])
        server_free_s[r, s] = end
        at = task[r, s, done]
        before, transfer, back = times_s[r, s, done]
        _keep_record(r, s, at, before, arrive_s[r, s, done], start, end, world, tasks, outcome)
        delay = end + back - tasks.arrive_s[r, at]
        if not outcome.delay_s[r, at] >= delay:
            outcome.wait_s[r, at] = before + start - arrive_s[r, s, done]
            outcome.transfer_s[r, at] = transfer
            outcome.compute_s[r, at] = end - start
            outcome.return_s[r, at] = back
            outcome.delay_s[r, at] = delay
            outcome.late[r, at] = delay > tasks.deadline_s[r, at]
        done += 1
    if done > 0:
        for i in range(done, n):
            arrive_s[r, s, i - done] = arrive_s[r, s, i]
            gcycle[r, s, i - done] = gcycle[r, s, i]
            times_s[r, s, i - done] = times_s[r, s, i]
            task[r, s, i - done] = task[r, s, i]
        n_flight[r, s] = n - done


@njit(cache=True, error_model="numpy")
def pass_time(r: int, now: float, world: World, state: State, tasks: Tasks, outcome: Outcome) -> None:
    """Make the last announcement that is due by `now` (before the arrivals of that moment), then serve to `now`."""
    if now < np.inf:
        n = int(np.floor(now / world.announce_s))
        while (n + 1) * world.announce_s <= now:
            n += 1
        while n * world.announce_s > now:
            n -= 1
        if n > state.announcement[r]:
            state.announcement[r] = n
            moment = n * world.announce_s
            _announce(r, moment, world, state, tasks, outcome)
    for s in range(len(world.speed_gcps)):
        if state.n_flight[r, s] > 0 and state.flight_arrive_s[r, s, 0] <= now:
            _settle(r, s, now, world, state, tasks, outcome)


@njit(cache=True, error_model="numpy", inline="always")
def _announce(r: int, moment: float, world: World, state: State, tasks: Tasks, outcome: Outcome) -> None:
    """All servers publish the seconds of work promised to them; stations count their own placements anew."""
    for s in range(len(world.speed_gcps)):
        if state.n_flight[r, s] > 0:
            _settle(r, s, moment, world, state, tasks, outcome)
        change_s, factor = tasks.speed_change_s[r, s], tasks.speed_factor[r, s]
        rate = world.speed_gcps[s] * factor[_factor_at(change_s, factor, moment)]
        promised = 0.0
        for i in range(state.n_flight[r, s]):
            promised += state.flight_gcycle[r, s, i]
        state.announced_s[r, s] = _remaining_s(change_s, factor, state.server_free_s[r, s], moment) + promised / rate
    state.since_gcycle[r] = 0.0


@njit(cache=True, error_model="numpy", inline="always")
def exact_free_s(r: int, s: int, now: float, world: World, state: State, tasks: Tasks) -> tuple[float, float]:
    """Seconds until server s has served everything it was promised, shares on their way included; its speed now."""
    change_s, factor = tasks.speed_change_s[r, s], tasks.speed_factor[r, s]
    rate = world.speed_gcps[s] * factor[_factor_at(change_s, factor, now)]
    free_s = _remaining_s(change_s, factor, state.server_free_s[r, s], now)
    for i in range(state.n_flight[r, s]):
        free_s = max(free_s, state.flight_arrive_s[r, s, i] - now) + state.flight_gcycle[r, s, i] / rate
    return free_s, rate
