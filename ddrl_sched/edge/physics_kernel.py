"""The compiled loop of the clean physics: time passes, a decision is resolved, its shares are placed; task by task."""

import numpy as np
from numba import njit

from ddrl_sched.edge.physics_resolve import DecisionCodes, resolve, scratch, wait_s
from ddrl_sched.edge.physics_state import State, World, pass_time
from ddrl_sched.edge.types import Floats, Ints, Outcome, Tasks


@njit(cache=True, error_model="numpy")
def run(
    world: World,
    codes: DecisionCodes,
    state: State,
    tasks: Tasks,
    lo: Ints,
    at: Ints,
    hi: Ints,
    until_s: Floats,
    outcome: Outcome,
) -> bool:
    """Place tasks at[r]..hi[r]-1 of every replica; True if an in-flight list is full (at[r] says where to go on)."""
    n_servers, space = len(world.speed_gcps), state.flight_arrive_s.shape[2]
    room = scratch(n_servers)
    for r in range(len(at)):
        while at[r] < hi[r]:
            i = at[r]
            pass_time(r, tasks.arrive_s[r, i], world, state, tasks, outcome)
            for s in range(n_servers):
                if state.n_flight[r, s] >= space:
                    return True
            dispatch, n_probed = resolve(r, i, i - lo[r], world, codes, state, tasks, room)
            outcome.probes[r, i] = n_probed
            place_shares(r, i, dispatch, room.share, world, state, tasks, outcome)
            at[r] += 1
        if until_s[r] > -np.inf:
            pass_time(r, until_s[r], world, state, tasks, outcome)
    return False


@njit(cache=True, error_model="numpy", inline="always")
def place_shares(
    r: int, i: int, dispatch: float, x: Floats, world: World, state: State, tasks: Tasks, outcome: Outcome
) -> None:
    """Send the used shares of task (r, i) and keep the station's own account of them."""
    b, now = tasks.origin[r, i], tasks.arrive_s[r, i]
    total = np.sum(x)
    for k in range(len(x)):
        s = world.order[b, k]
        if x[s] <= 0.0:
            continue
        share = x[s] / total
        outcome.share[r, i, s] = share
        work = tasks.overhead_gcycle[r, i] + share * tasks.work_gcycle[r, i]
        arrive, before, transfer, back = now + dispatch, dispatch, 0.0, 0.0
        if s != world.own[b]:
            port = 0 if world.shared else s
            start = max(state.port_free_s[r, b, port], now + dispatch)
            sent = start + share * tasks.input_mbit[r, i] / world.link_mbps[b, s]
            state.port_free_s[r, b, port] = sent
            arrive = sent + world.latency_s[b, s]
            before, transfer = start - now, arrive - start
            back = world.return_latency_s[b, s] + share * tasks.result_mbit[r, i] / world.return_mbps[b, s]
        _send(r, s, arrive, work, before, transfer, back, i, state)
        state.own_free_s[r, b, s] = max(state.own_free_s[r, b, s], arrive) + work / world.speed_gcps[s]
        state.own_gcycle[r, b, s] += work
        state.since_gcycle[r, b, s] += work


@njit(cache=True, error_model="numpy", inline="always")
def _send(
    r: int, s: int, arrive: float, work: float, before: float, transfer: float, back: float, i_task: int, state: State
) -> None:
    """Put a share on its way: insert it behind everything that arrives at server s no later."""
    n_flight, task = state.n_flight, state.flight_task
    arrive_s, gcycle, times_s = state.flight_arrive_s, state.flight_gcycle, state.flight_times_s
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
    task[r, s, i] = i_task
    n_flight[r, s] += 1


@njit(cache=True, error_model="numpy")
def estimate(world: World, state: State, tasks: Tasks, lo: Ints, hi: Ints, info: int, waits_s: Floats) -> None:
    """Fill waits_s[R, M, E] with what a station of class `info` expects at each task's arrival."""
    nothing = np.zeros(len(world.speed_gcps), np.bool_)
    for r in range(len(lo)):
        for i in range(lo[r], hi[r]):
            for s in range(len(world.speed_gcps)):
                waits_s[r, i - lo[r], s] = wait_s(r, i, s, info, 1.0, nothing, world, state, tasks)[0]
