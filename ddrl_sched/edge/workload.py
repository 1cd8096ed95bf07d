"""Task streams: from settings and named random streams to Tasks, all drawn up front, whatever is decided later."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ddrl_sched.config import InputError
from ddrl_sched.edge.arrivals import Arrivals, Plan, alternate, draw_arrivals, plan_workload
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.scenario import NamedStream, build_scenario, server_speeds
from ddrl_sched.edge.sizes import MAX_TASKS, check_trace
from ddrl_sched.edge.task_kinds import NO_COLUMNS, Columns, Streams, deadline_s, draw_sizes, mean_sizes, overhead_gcycle
from ddrl_sched.edge.trace_file import SCALED
from ddrl_sched.edge.types import Floats, Ints, Scenario, Tasks
from ddrl_sched.edge.workload_settings import TraceArrivals, WorkloadSettings


@dataclass(frozen=True)
class Replica:
    """Where the random numbers of one trace come from."""

    streams: (
        Streams  # of this trace: arrivals, modulation, stations, order, sizes, densities, steps, images, results, ...
    )
    draw: Streams  # of the draw of the world: what is drawn per index (densities, steps, results)
    window: int | None = None  # trace files: number of the evaluation window; None: a random training window


@dataclass(frozen=True)
class TraceFacts:
    """What is said of sampled traces in the records."""

    realised_load: Floats  # [R] work that arrived (without overhead) over what all servers can do in the horizon
    time_scale: float  # factor by which a trace file was stretched, 1 for synthetic workloads
    trace_sha256: str  # content of the trace file, "" for synthetic workloads


def build_world(env: EnvSettings, workload: WorkloadSettings, stream: NamedStream) -> tuple[Scenario, Plan]:
    """Scenario and plan of one environment under one workload; `stream(seed, *names)` makes generators.

    Raises InputError where the two do not fit, the load cannot be reached or a file is wrong.
    """
    plan = plan_workload(env, workload, server_speeds(env, stream))
    scenario = build_scenario(env, plan.demand, stream)
    _check_horizon(workload, plan, scenario)
    check_trace(
        scenario,
        env,
        workload,
        n_indices=plan.n_indices,
        n_tasks=plan.demand.tasks_per_s * scenario.horizon_s,
        n_traces=1,
    )
    return scenario, plan


def offered_load(env: EnvSettings, workload: WorkloadSettings, speed_gcps: Floats) -> float:
    """Long-run offered work (without overhead) over the sum of speeds [E], in expectation."""
    return plan_workload(env, workload, speed_gcps).demand.load


def sample(
    scenario: Scenario, env: EnvSettings, workload: WorkloadSettings, plan: Plan, replicas: Sequence[Replica]
) -> tuple[Tasks, TraceFacts]:
    """One trace per replica, padded at the end to a common N (padding: valid False, size 0, arriving at the horizon).

    Raises InputError (a trace file's window with too few tasks, or one that is not there; more than memory holds).
    """
    n_tasks = plan.demand.tasks_per_s * scenario.horizon_s
    check_trace(scenario, env, workload, n_indices=plan.n_indices, n_tasks=n_tasks, n_traces=len(replicas))
    traces = [sample_trace(scenario, env, workload, plan, replica) for replica in replicas]
    tasks = _stack(traces, scenario.horizon_s)
    capacity = float(np.sum(scenario.speed_gcps)) * scenario.horizon_s
    sha256 = plan.trace.sha256 if plan.trace else ""
    return tasks, TraceFacts(tasks.work_gcycle.sum(axis=1) / capacity, plan.time_scale, sha256)


def sample_trace(
    scenario: Scenario, env: EnvSettings, workload: WorkloadSettings, plan: Plan, replica: Replica
) -> Tasks:
    """One trace as Tasks with R = 1, without padding."""
    arrivals = draw_arrivals(scenario, workload, plan, replica.streams, replica.window)
    given = _given(env, plan, arrivals)
    sizes = draw_sizes(env, arrivals.index, plan.n_indices, replica.streams, replica.draw, given=given)
    order = _service_order(arrivals, workload, replica.streams)
    arrive_s, origin = arrivals.arrive_s[order], arrivals.station[order]
    slotted = plan.demand.slotted
    change_s, factor = _speeds(scenario, env, replica.streams)
    n = len(order)
    return Tasks(
        origin=origin[None],
        index=(arrivals.index[order] if slotted else _epoch_index(arrive_s, origin, scenario))[None],
        arrive_s=arrive_s[None],
        input_mbit=sizes.input_mbit[order][None],
        result_mbit=sizes.result_mbit[order][None],
        work_gcycle=sizes.work_gcycle[order][None],
        overhead_gcycle=np.full((1, n), overhead_gcycle(env)),
        units=sizes.units[order][None],
        deadline_s=given.get("deadline_s", np.full(n, deadline_s(env)))[order][None],
        valid=np.ones((1, n), dtype=np.bool_),
        speed_change_s=change_s[None],
        speed_factor=factor[None],
    )


def _check_horizon(workload: WorkloadSettings, plan: Plan, scenario: Scenario) -> None:
    horizon, arrivals = scenario.horizon_s, workload.arrivals
    n_cells = plan.n_indices * scenario.n_stations * horizon / scenario.slot_s
    expected = max(plan.demand.tasks_per_s * horizon, n_cells if plan.demand.slotted else 0.0)
    if expected > MAX_TASKS:
        raise InputError(f"env.clock.horizon_s: {horizon:.6g} s hold {expected:.4g} tasks, at most {MAX_TASKS:,} fit")
    if not isinstance(arrivals, TraceArrivals) or plan.trace is None:
        return
    if horizon > plan.demand.longest_s:
        limit = f"an evaluation window is {plan.demand.longest_s:.6g} s long (workload.arrivals.windows)"
        if workload.load is not None:
            limit += f", for time is scaled by {plan.time_scale:.3g} (workload.load=null keeps the file's own)"
        raise InputError(f"env.clock.horizon_s: at load {plan.demand.load:.6g} {limit}, got {horizon:.6g}")
    train_s = arrivals.train_fraction * plan.trace.span_s * plan.time_scale
    if horizon > train_s:
        limit = f"the training part is {train_s:.6g} s long, shorter than a trace of {horizon:.6g} s"
        raise InputError(f"workload.arrivals.train_fraction: {limit}")


def _given(env: EnvSettings, plan: Plan, arrivals: Arrivals) -> Columns:
    """What a trace file says of its tasks, sizes scaled to the mean of those that would be drawn."""
    if plan.trace is None:
        return NO_COLUMNS
    means = mean_sizes(env)
    scale = {key: means[key] / float(np.mean(values)) for key, values in plan.trace.columns.items() if key in SCALED}
    return {key: values[arrivals.row] * scale.get(key, 1.0) for key, values in plan.trace.columns.items()}


def _service_order(arrivals: Arrivals, workload: WorkloadSettings, streams: Streams) -> Ints:
    """By time; tasks that arrive together in an order drawn for the trace, or by station and index."""
    if workload.order == "drawn":
        return np.lexsort((streams("order").random(len(arrivals.arrive_s)), arrivals.arrive_s))
    return np.lexsort((arrivals.index, arrivals.station, arrivals.arrive_s))


def _epoch_index(arrive_s: Floats, origin: Ints, scenario: Scenario) -> Ints:
    """Number of each task among those of its station since the last announcement."""
    if len(arrive_s) == 0:
        return np.zeros(0, dtype=np.int64)
    group = np.floor(arrive_s / scenario.announce_s).astype(np.int64) * scenario.n_stations + origin
    order = np.argsort(group, kind="stable")
    first = np.append(True, np.diff(group[order]) != 0)
    start = np.maximum.accumulate(np.where(first, np.arange(len(group)), 0))
    index = np.empty(len(group), dtype=np.int64)
    index[order] = np.arange(len(group)) - start
    return index


def _speeds(scenario: Scenario, env: EnvSettings, streams: Streams) -> tuple[Floats, Floats]:
    """Pieces of the speed factor, starts and values [E, C]. After the horizon every server is at nominal speed."""
    if env.slowdowns is None:
        return np.zeros((scenario.n_servers, 1)), np.ones((scenario.n_servers, 1))
    rng, means = streams("slowdowns"), (env.slowdowns.mean_between_s, env.slowdowns.mean_duration_s)
    pieces = [alternate(rng, means, scenario.horizon_s) for _ in range(scenario.n_servers)]
    width = 1 + max(len(start_s) for start_s, _ in pieces)
    change_s, factor = np.full((len(pieces), width), np.inf), np.ones((len(pieces), width))
    for s, (start_s, slow) in enumerate(pieces):
        change_s[s, : len(start_s) + 1] = np.append(start_s, scenario.horizon_s)
        factor[s, : len(start_s)] = np.where(slow, env.slowdowns.factor, 1.0)
    return change_s, factor


_PADDING = {"deadline_s": np.inf, "speed_change_s": np.inf, "speed_factor": 1.0}


def _stack(traces: Sequence[Tasks], horizon_s: float) -> Tasks:
    """Traces with R = 1 as one record; every array is padded at the end of its last axis."""
    padding = {"arrive_s": horizon_s} | _PADDING
    arrays = {}
    for name in Tasks._fields:
        rows = [getattr(trace, name) for trace in traces]
        width = max(1, *(row.shape[-1] for row in rows))
        stacked = np.full((len(rows), *rows[0].shape[1:-1], width), padding.get(name, 0), dtype=rows[0].dtype)
        for r, row in enumerate(rows):
            stacked[r, ..., : row.shape[-1]] = row[0]
        arrays[name] = stacked
    return Tasks(**arrays)
