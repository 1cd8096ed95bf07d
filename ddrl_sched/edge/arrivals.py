"""When and where tasks arrive: the plan that meets a load, and arrival moments of each kind of workload."""

import math
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from ddrl_sched.config import (
    MULTI_RULES,
    BurstyArrivals,
    EnvSettings,
    ImageTasks,
    InputError,
    PoissonArrivals,
    PublishedMultiArrivals,
    PublishedSingleArrivals,
    TraceArrivals,
    WorkloadSettings,
)
from ddrl_sched.edge.scenario import Demand
from ddrl_sched.edge.task_kinds import Streams, drawn_per_index, mean_work_gcycle
from ddrl_sched.edge.trace_file import TraceFile, read_trace
from ddrl_sched.edge.types import Bools, Floats, Ints, Scenario

MAX_TASKS = 5_000_000  # expected, per trace: beyond it memory, not time, is the limit


@dataclass(frozen=True)
class Plan:
    """A workload tuned to the load it was asked for."""

    demand: Demand
    intensity: float  # poisson, trace: tasks per second; bursty: factor on its two loads;
    #                   published_multi: probability; published_single: largest count (a real number, see `_counts`)
    n_indices: int  # indices that a station's tasks can have within a slot; 0 unless slotted
    time_scale: float  # factor by which a trace file is stretched, 1 otherwise
    trace: TraceFile | None


@dataclass(frozen=True)
class Arrivals:
    """Arrivals of one trace, in order of time, station and index."""

    arrive_s: Floats  # [n]
    station: Ints  # [n]
    index: Ints  # [n] the published index; 0 where the workload has none
    row: Ints | None  # [n] row of the trace file


def plan_workload(env: EnvSettings, workload: WorkloadSettings, speed_gcps: Floats) -> Plan:
    """Tune the workload to its load on servers of speeds [E]: time is stretched, or the published counts change.

    Raises InputError: a load that the workload cannot reach, a workload that the rule or the tasks cannot have, a
    wrong trace file.
    """
    arrivals = workload.arrivals
    _check_match(env, workload)
    mean_work = mean_work_gcycle(env)
    per_load = float(np.sum(speed_gcps)) / mean_work  # tasks per second at load 1
    if isinstance(arrivals, PublishedMultiArrivals | PublishedSingleArrivals):
        return _slotted_plan(env, workload, arrivals, per_load, len(speed_gcps))
    if isinstance(arrivals, BurstyArrivals):
        low, high = arrivals.mean_low_s, arrivals.mean_high_s
        average = (arrivals.low_load * low + arrivals.high_load * high) / (low + high)
        load = average if workload.load is None else workload.load
        demand = Demand(load, mean_work, load * per_load, math.inf, low * high / (low + high), slotted=False)
        return Plan(demand, load / average, 0, 1.0, None)
    assert workload.load is not None  # the settings see to it
    rate = workload.load * per_load
    if isinstance(arrivals, PoissonArrivals):
        return Plan(Demand(workload.load, mean_work, rate, math.inf, 0.0, slotted=False), rate, 0, 1.0, None)
    return _trace_plan(workload, arrivals, mean_work, rate)


def slot_tasks(workload: WorkloadSettings, plan: Plan) -> Floats | None:
    """Expected number of tasks [N] at index n of a station's slot; None unless tasks arrive in slots."""
    if isinstance(workload.arrivals, PublishedMultiArrivals):
        return np.full(plan.n_indices, plan.intensity)
    if not isinstance(workload.arrivals, PublishedSingleArrivals):
        return None
    whole, part = divmod(plan.intensity, 1.0)
    index = np.arange(plan.n_indices)
    return (1 - part) * np.maximum(1 - index / whole, 0) + part * np.maximum(1 - index / (whole + 1), 0)


def draw_arrivals(
    scenario: Scenario, workload: WorkloadSettings, plan: Plan, streams: Streams, window: int | None
) -> Arrivals:
    """Arrivals of one trace. `window`: evaluation window of a trace file; None: a random one of its training part.

    Raises InputError (a window with too few tasks, or one that is not there).
    """
    kind = workload.arrivals
    if isinstance(kind, PublishedMultiArrivals):
        shape = (_n_slots(scenario), scenario.n_servers, plan.n_indices)
        slot, station, index = np.nonzero(streams("arrivals").random(shape) < plan.intensity)
        return Arrivals(_slot_starts(scenario, slot), station, index, None)
    if isinstance(kind, PublishedSingleArrivals):
        counts = _counts(streams("arrivals"), plan.intensity, _n_slots(scenario) * scenario.n_servers)
        slot, station = np.divmod(np.repeat(np.arange(len(counts)), counts), scenario.n_servers)
        index = np.arange(len(slot)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Arrivals(_slot_starts(scenario, slot), station, index, None)
    row = None
    if isinstance(kind, PoissonArrivals):
        arrive_s = _unit_poisson(streams("arrivals"), plan.intensity * scenario.horizon_s) / plan.intensity
    elif isinstance(kind, BurstyArrivals):
        arrive_s = _bursty(scenario, kind, plan, streams)
    elif isinstance(kind, TraceArrivals):
        arrive_s, row = _window(scenario, kind, plan, streams, window)
    else:
        assert_never(kind)
    station = streams("stations").integers(0, scenario.n_servers, len(arrive_s))
    return Arrivals(arrive_s, station, np.zeros(len(arrive_s), dtype=np.int64), row)


def alternate(rng: np.random.Generator, mean_s: tuple[float, float], until_s: float) -> tuple[Floats, Bools]:
    """A two-state process with exponential dwells, in equilibrium at 0: starts of dwells [C], is it in state 1 [C]."""
    second = bool(rng.random() < mean_s[1] / (mean_s[0] + mean_s[1]))
    dwells = np.zeros(1)
    n = 16 + int(2 * until_s / (mean_s[0] + mean_s[1]))
    while np.sum(dwells) <= until_s:
        pairs = rng.exponential(size=(n, 2)) * (mean_s[::-1] if second else mean_s)
        dwells = np.append(dwells, pairs)
    start_s = np.cumsum(dwells)
    start_s = start_s[start_s < until_s] if until_s > 0 else start_s[:1]
    return start_s, (np.arange(len(start_s)) + second) % 2 == 1


# ---- plans -----------------------------------------------------------------------------------------------------------


def _check_match(env: EnvSettings, workload: WorkloadSettings) -> None:
    arrivals = workload.arrivals
    slotted = isinstance(arrivals, PublishedMultiArrivals | PublishedSingleArrivals)
    if env.rule != "clean" and not slotted:
        wanted = "published_multi" if env.rule in MULTI_RULES else "published_single"
        raise InputError(f"workload.arrivals.kind: rule {env.rule} needs {wanted}, got {arrivals.kind}")
    if drawn_per_index(env) and not slotted:
        raise InputError(f"env.tasks: per_index needs a workload in slots (published_...), got {arrivals.kind}")
    if isinstance(arrivals, TraceArrivals) and isinstance(env.tasks, ImageTasks):
        mapped = [key for key, column in arrivals.columns if column is not None]
        if mapped:
            raise InputError(f"workload.arrivals.columns.{mapped[0]}: must be null with env.tasks.kind images")


def _slotted_plan(
    env: EnvSettings,
    workload: WorkloadSettings,
    arrivals: PublishedMultiArrivals | PublishedSingleArrivals,
    per_load: float,
    n_stations: int,
) -> Plan:
    per_slot = per_load * env.clock.slot_s / n_stations  # tasks per station and slot at load 1
    if isinstance(arrivals, PublishedMultiArrivals):
        n = arrivals.n_indices
        intensity = arrivals.probability if workload.load is None else workload.load * per_slot / n
        if intensity > 1:
            raise InputError(
                f"workload.load: at most {n / per_slot:.6g} with {n} indices per slot, got {workload.load}"
            )
        count = intensity * n
    else:
        intensity = float(arrivals.max_tasks) if workload.load is None else 2 * workload.load * per_slot - 1
        if intensity < 1:
            raise InputError(f"workload.load: at least {1 / per_slot:.6g} with 1 or more per slot, got {workload.load}")
        n, count = math.ceil(intensity), (intensity + 1) / 2
    load = count / per_slot
    demand = Demand(load, mean_work_gcycle(env), load * per_load, math.inf, 0.0, slotted=True)
    return Plan(demand, intensity, n, 1.0, None)


def _trace_plan(workload: WorkloadSettings, arrivals: TraceArrivals, mean_work: float, rate: float) -> Plan:
    assert workload.load is not None  # the settings see to both
    assert workload.path is not None
    columns = [column for _, column in arrivals.columns if column is not None]
    trace = read_trace(workload.path, arrivals.timestamp_column, list(dict.fromkeys(columns)))
    time_scale = (len(trace.time_s) - 1) / trace.span_s / rate
    longest_s = (1 - arrivals.train_fraction) * trace.span_s * time_scale / arrivals.windows
    return Plan(Demand(workload.load, mean_work, rate, longest_s, 0.0, slotted=False), rate, 0, time_scale, trace)


# ---- moments ---------------------------------------------------------------------------------------------------------


def _n_slots(scenario: Scenario) -> int:
    return max(1, round(scenario.horizon_s / scenario.slot_s))


def _slot_starts(scenario: Scenario, slot: Ints) -> Floats:
    return slot.astype(np.float64) * scenario.slot_s


def _counts(rng: np.random.Generator, largest: float, n: int) -> Ints:
    """Counts [n], uniform 1..m; m mixes the integers around `largest` so that the mean is (largest + 1) / 2."""
    whole, part = divmod(largest, 1.0)
    u = rng.random((2, n))
    return 1 + np.floor(u[0] * (whole + (u[1] < part))).astype(np.int64)


def _unit_poisson(rng: np.random.Generator, until: float) -> Floats:
    """Points of a Poisson process of rate 1 before `until`: the same ones, and more, for a later `until`."""
    points = np.zeros(1)
    while points[-1] < until:
        missing = until - points[-1]
        gaps = rng.exponential(size=int(missing + 4 * math.sqrt(missing)) + 8)
        points = np.append(points, points[-1] + np.cumsum(gaps))
    return points[1 : np.searchsorted(points, until)]


def _bursty(scenario: Scenario, kind: BurstyArrivals, plan: Plan, streams: Streams) -> Floats:
    """Unit Poisson points carried through the inverse of the accumulated rate."""
    start_s, high = alternate(streams("modulation"), (kind.mean_low_s, kind.mean_high_s), scenario.horizon_s)
    rate = np.where(high, kind.high_load, kind.low_load) * plan.intensity * plan.demand.tasks_per_s / plan.demand.load
    edges_s = np.append(start_s, scenario.horizon_s)
    total = np.append(0.0, np.cumsum(rate * np.diff(edges_s)))
    points = _unit_poisson(streams("arrivals"), float(total[-1]))
    piece = np.searchsorted(total, points, side="right") - 1
    return np.minimum(edges_s[piece] + (points - total[piece]) / rate[piece], np.nextafter(scenario.horizon_s, 0))


def _window(
    scenario: Scenario, kind: TraceArrivals, plan: Plan, streams: Streams, window: int | None
) -> tuple[Floats, Ints]:
    """Moments in the world's time, and rows, of one window of the file."""
    assert plan.trace is not None
    trace, length = plan.trace, scenario.horizon_s / plan.time_scale
    train = kind.train_fraction * trace.span_s
    if window is None:
        begin = streams("windows").random() * max(train - length, 0.0)
    else:
        begin = train + window * (trace.span_s - train) / kind.windows
    low, high = np.searchsorted(trace.time_s, (begin, begin + length))
    _check_window(kind, window, int(high - low))
    arrive_s = (trace.time_s[low:high] - begin) * plan.time_scale
    return np.clip(arrive_s, 0.0, np.nextafter(scenario.horizon_s, 0)), np.arange(low, high)


def _check_window(kind: TraceArrivals, window: int | None, n_tasks: int) -> None:
    if window is None:
        return
    if not 0 <= window < kind.windows:
        asked = f"window {window + 1} was asked for (see evaluate.traces)"
        raise InputError(f"workload.arrivals.windows: there are {kind.windows} evaluation windows; {asked}")
    if n_tasks < kind.min_tasks:
        raise InputError(
            f"workload.arrivals.windows: evaluation window {window + 1} of {kind.windows} holds {n_tasks} tasks, "
            f"at least {kind.min_tasks} (workload.arrivals.min_tasks) are wanted: use fewer windows or a longer file"
        )
