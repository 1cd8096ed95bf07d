"""The clean continuous-time physics: the only code that computes a delay of the clean worlds.

A task is decided when it arrives; its shares are sent, served first come first served by arrival at the server, and
its results return. A share that is still on its way may be overtaken by one that was decided later and arrives
earlier, so shares wait in a small in-flight list per server until no later decision can come before them.
"""

from collections.abc import Mapping

import numpy as np

from ddrl_sched.edge import split
from ddrl_sched.edge.decision import check_arrays, check_given, check_sets, check_shares, kernel_array
from ddrl_sched.edge.physics_kernel import estimate, run
from ddrl_sched.edge.physics_resolve import CHOICES, INFOS, DecisionCodes
from ddrl_sched.edge.physics_state import State, World
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Outcome, Scenario, Tasks

_FIRST_ROOM = 8  # in-flight shares per server before the list grows


def initial_state(scenario: Scenario, n_replicas: int) -> State:
    """Idle servers and ports, nothing announced."""
    r, b, e, q = n_replicas, scenario.n_stations, scenario.n_servers, _FIRST_ROOM
    return State(
        server_free_s=np.zeros((r, e)),
        n_flight=np.zeros((r, e), np.int64),
        flight_arrive_s=np.zeros((r, e, q)),
        flight_gcycle=np.zeros((r, e, q)),
        flight_times_s=np.zeros((r, e, q, 3)),
        flight_task=np.zeros((r, e, q), np.int64),
        port_free_s=np.zeros((r, b, e)),
        announced_s=np.zeros((r, e)),
        announcement=np.full(r, -1, np.int64),
        own_free_s=np.zeros((r, b, e)),
        own_gcycle=np.zeros((r, b, e)),
        since_gcycle=np.zeros((r, b, e)),
    )


def state_of(arrays: Mapping[str, object]) -> State:
    """The state with these arrays by the names of its fields."""
    return State._make(arrays[name] for name in State._fields)


def settled(state: State, outcome: Outcome) -> Bools:
    """[R, N] tasks whose delay is final: decided, and no share of them still on its way."""
    final: Bools = ~np.isnan(outcome.delay_s)
    replica, server, place = np.nonzero(np.arange(state.flight_task.shape[2]) < state.n_flight[..., None])
    final[replica, state.flight_task[replica, server, place]] = False
    return final


def translated(decision: Decision) -> Decision:
    """The decision as it is: all of its terms are terms of this physics."""
    return decision


def empty_outcome(tasks: Tasks, n_servers: int, *, timing: bool = False, n_parts: int = 0) -> Outcome:
    """An Outcome to be filled by `place` and `finish`: NaN delays, no shares.

    timing: keep the moments of every share; n_parts: parts of the horizon for which occupancy is kept (0: none).
    """
    r, n = tasks.shape
    timing_s = np.full((r, n, n_servers, 4) if timing else (0, 0, 0, 4), np.nan)
    occupancy_s = np.zeros((r, n_servers, n_parts, 2) if n_parts else (0, 0, 0, 2))
    share, late, probes = np.zeros((r, n, n_servers)), np.zeros((r, n), np.bool_), np.zeros((r, n), np.int64)
    wait_s, transfer_s, compute_s, return_s, delay_s = np.full((5, r, n), np.nan)
    return Outcome(share, wait_s, transfer_s, compute_s, return_s, delay_s, late, probes, timing_s, occupancy_s)


def place(
    scenario: Scenario, state: State, tasks: Tasks, decision: Decision, *, lo: Ints, hi: Ints, outcome: Outcome
) -> State:
    """Decide and send tasks lo[r]..hi[r]-1 of every replica r, in order.

    Decision arrays [R, M, ...] count from lo. Shares whose service is settled are written into `outcome` at their
    absolute position; the rest follows in later calls or in `finish`. `outcome` must come from `empty_outcome`: only
    used shares are written. The input state is left as it was.

    Raises ValueError naming the field for a decision that does not fit these tasks.
    """
    lo, hi = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
    codes = checked_codes(scenario, decision, tasks, lo, hi)
    return _advance(scenario, state, tasks, codes, lo=lo, hi=hi, until_s=np.full(len(lo), -np.inf), outcome=outcome)


def check_decision(scenario: Scenario, decision: Decision, tasks: Tasks) -> None:
    """ValueError for a decision about these tasks [R, M] that this physics cannot carry out."""
    nothing = np.zeros(tasks.shape[0], np.int64)
    checked_codes(scenario, decision, tasks, nothing, nothing + tasks.shape[1])


def advance(scenario: Scenario, state: State, tasks: Tasks, until_s: Floats, outcome: Outcome) -> State:
    """Let time pass to until_s[R]: shares arrive, announcements up to and including that moment are made."""
    nothing = np.zeros(len(until_s), np.int64)
    codes = _codes(Decision("given", "static"), scenario.n_servers)
    return _advance(scenario, state, tasks, codes, lo=nothing, hi=nothing, until_s=until_s, outcome=outcome)


def finish(scenario: Scenario, state: State, tasks: Tasks, outcome: Outcome) -> State:
    """Serve everything that is still on its way: all placed tasks have their final delay afterwards."""
    return advance(scenario, state, tasks, np.full(len(state.announcement), np.inf), outcome)


def estimates(scenario: Scenario, state: State, tasks: Tasks, *, lo: Ints, hi: Ints, info: str) -> Floats:
    """Waits [R, M, E] in seconds that stations of class `info` expect at the arrival of tasks lo[r]..hi[r]-1.

    They rest on `state` as it is: placements and announcements after it are not known. "probed" is "tracked" here.
    """
    wait_s = np.zeros((len(lo), int((hi - lo).max(initial=0)), scenario.n_servers))
    estimate(numbers_of(scenario), state, tasks, lo, hi, INFOS[info], wait_s)
    return wait_s


def _advance(
    scenario: Scenario,
    state: State,
    tasks: Tasks,
    codes: DecisionCodes,
    *,
    lo: Ints,
    hi: Ints,
    until_s: Floats,
    outcome: Outcome,
) -> State:
    world = numbers_of(scenario)
    first, at, end = np.asarray(lo, np.int64), np.array(lo, np.int64), np.asarray(hi, np.int64)
    state = State._make(array.copy() for array in state)
    while run(world, codes, state, tasks, first, at, end, until_s, outcome):
        state = _with_more_room(state)
    return state


def _with_more_room(state: State) -> State:
    arrays = state._asdict()
    grown = {
        name: np.concatenate([array, np.zeros_like(array)], 2)
        for name, array in arrays.items()
        if name.startswith("flight_")
    }
    return state._replace(**grown)


def numbers_of(scenario: Scenario) -> World:
    """What the kernels read of a scenario. ValueError for a published one."""
    if scenario.published:
        raise ValueError(f"env.rule: the clean physics cannot compute the published rule {scenario.rule!r}")
    order = np.argsort(-scenario.link_mbps, axis=1, kind="stable")
    return World(
        scenario.speed_gcps,
        scenario.own_server,
        scenario.link_mbps,
        scenario.link_latency_s,
        scenario.return_mbps,
        scenario.return_latency_s,
        order,
        scenario.port == "shared",
        scenario.announce_s,
        scenario.probe_s,
        scenario.horizon_s,
    )


def checked_codes(scenario: Scenario, decision: Decision, tasks: Tasks, lo: Ints, hi: Ints) -> DecisionCodes:
    """The Decision for the kernel, which reads its arrays without looking at their bounds."""
    _check_words(decision)
    check_arrays(decision, tasks, lo, hi, scenario.link_mbps.shape)
    check_given(decision)
    if decision.select is not None:
        check_sets(decision.select, tasks, lo, hi)
    if decision.share is not None:
        check_shares(decision.share, decision.select, tasks, lo, hi)
    return _codes(decision, scenario.n_servers)


def _check_words(decision: Decision) -> None:
    for value, known, key in (
        (decision.choice, CHOICES, "choice"),
        (decision.info, INFOS, "info"),
        (decision.split, split.SPLITS, "split"),
        (decision.split_info or decision.info, INFOS, "split_info"),
        (decision.objective, ("finish", "wait"), "objective"),
        (decision.weight, ("own", "quota"), "weight"),
    ):
        if value not in known:
            raise ValueError(f"scheduler.{key}: {value!r} is none of {', '.join(known)}")
    if not 0.0 < decision.mean_work_gcycle < np.inf:
        raise ValueError(f"scheduler.mean_work_gcycle: expected a number > 0, got {decision.mean_work_gcycle!r}")


def _codes(decision: Decision, n_servers: int) -> DecisionCodes:
    per_server, per_task = (0, 1, n_servers), (0, 1)
    return DecisionCodes(
        CHOICES[decision.choice],
        INFOS[decision.info],
        split.SPLITS[decision.split],
        INFOS[decision.split_info or decision.info],
        decision.objective == "wait",
        decision.weight == "quota",
        bool(decision.probe_selected),
        float(decision.mean_work_gcycle),
        kernel_array(decision.select, per_server, np.bool_),
        kernel_array(decision.share, per_server, np.float64),
        kernel_array(decision.candidates, (0, 0, n_servers), np.bool_),
        kernel_array(decision.probe, per_server, np.bool_),
        kernel_array(decision.price_s, per_server, np.float64),
        *[kernel_array(array, per_task, np.float64) for array in _per_task(decision)],
    )


def _per_task(decision: Decision) -> tuple[Floats | None, ...]:
    return (
        decision.use_price_s,
        decision.congestion,
        decision.unseen_work_factor,
        decision.own_work_price,
        decision.min_wait_ratio,
    )
