"""When and where tasks arrive: the plan that meets a load, and arrival moments of each kind of workload."""

import math
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from ddrl_sched.config import InputError
from ddrl_sched.edge.env_settings import MULTI_RULES, EnvSettings, ImageTasks, homes_of
from ddrl_sched.edge.scenario import Demand
from ddrl_sched.edge.task_kinds import Streams, drawn_per_index, mean_sizes, mean_work_gcycle
from ddrl_sched.edge.trace_file import SCALED, TAKEN, TraceFile, read_trace
from ddrl_sched.edge.types import Bools, Floats, Ints, Scenario
from ddrl_sched.edge.workload_settings import (
    MAX_LOAD,
    BurstyArrivals,
    PoissonArrivals,
    PublishedMultiArrivals,
    PublishedSingleArrivals,
    TraceArrivals,
    TraceColumns,
    WorkloadSettings,
)

LEAST_RATE = 1e-9  # tasks per second: the longest horizon holds one


@dataclass(frozen=True)
class Plan:
    """A workload tuned to its load."""

    demand: Demand
    intensity: float  # poisson, trace: tasks per second; bursty: factor on its two loads; of an average station
    #                   published_multi: probability; published_single: largest count (a real number, see `_counts`)
    station_share: Floats | None  # [B] tasks of each station over those of an average one; None: the same everywhere
    n_indices: int  # indices that a station's tasks can have within a slot; 0 unless slotted
    time_scale: float  # factor by which a trace file is stretched, 1 otherwise and where it keeps its own rate
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
    share = _station_share(workload, homes_of(env, len(speed_gcps))[0])
    _check_match(env, workload)
    if not mean_work_gcycle(env) > 0:
        raise InputError("env.tasks: the mean work of a task is too small to be told from 0")
    plan = _plan(env, workload, share, speed_gcps)
    if not plan.demand.tasks_per_s >= LEAST_RATE:
        text = f"{plan.demand.load:.4g} is {plan.demand.tasks_per_s:.4g} tasks per second, at least {LEAST_RATE:g}"
        raise InputError(f"workload.load: {text} are needed")
    return plan


def training_rows(plan: Plan, arrivals: TraceArrivals) -> int:
    """Rows of the trace file in the part that training draws its windows from."""
    assert plan.trace is not None
    return int(np.searchsorted(plan.trace.time_s, arrivals.train_fraction * plan.trace.span_s))


def slot_tasks(workload: WorkloadSettings, plan: Plan) -> Floats | None:
    """Expected number of tasks [N] at index n of an average station's slot; None unless tasks arrive in slots."""
    if isinstance(workload.arrivals, PublishedMultiArrivals):
        return np.full(plan.n_indices, plan.intensity)
    if not isinstance(workload.arrivals, PublishedSingleArrivals):
        return None
    if plan.station_share is None:
        return _reached(plan.intensity, plan.n_indices)
    largest = _largest_counts(plan.intensity, plan.station_share)
    return np.mean([_reached(float(count), plan.n_indices) for count in largest], axis=0)


def _reached(largest: float, n_indices: int) -> Floats:
    """Probability [N] that the count of a slot, uniform 1..largest, is above each index."""
    whole, part = divmod(largest, 1.0)
    index = np.arange(n_indices)
    return (1 - part) * np.maximum(1 - index / whole, 0) + part * np.maximum(1 - index / (whole + 1), 0)


def draw_arrivals(
    scenario: Scenario, workload: WorkloadSettings, plan: Plan, streams: Streams, window: int | None
) -> Arrivals:
    """Arrivals of one trace. `window`: evaluation window of a trace file; None: a random one of its training part.

    Raises InputError (a window with too few tasks, or one that is not there).
    """
    kind, share = workload.arrivals, plan.station_share
    if isinstance(kind, PublishedMultiArrivals):
        shape = (_n_slots(scenario), scenario.n_stations, plan.n_indices)
        probability = plan.intensity if share is None else plan.intensity * share[:, None]
        slot, station, index = np.nonzero(streams("arrivals").random(shape) < probability)
        return Arrivals(_slot_starts(scenario, slot), station, index, None)
    if isinstance(kind, PublishedSingleArrivals):
        n = _n_slots(scenario)
        largest = plan.intensity if share is None else np.tile(_largest_counts(plan.intensity, share), n)
        counts = _counts(streams("arrivals"), largest, n * scenario.n_stations)
        slot, station = np.divmod(np.repeat(np.arange(len(counts)), counts), scenario.n_stations)
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
    station = _stations(scenario, plan, streams, row, len(arrive_s))
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


def _plan(env: EnvSettings, workload: WorkloadSettings, share: Floats | None, speed_gcps: Floats) -> Plan:
    arrivals = workload.arrivals
    if isinstance(arrivals, TraceArrivals):
        return _trace_plan(env, workload, arrivals, share, speed_gcps)
    mean_work = mean_work_gcycle(env)
    per_load = float(np.sum(speed_gcps)) / mean_work  # tasks per second at load 1
    if isinstance(arrivals, PublishedMultiArrivals | PublishedSingleArrivals):
        return _slotted_plan(env, workload, arrivals, share, (per_load, homes_of(env, len(speed_gcps))[0]))
    if isinstance(arrivals, BurstyArrivals):
        low, high = arrivals.mean_low_s, arrivals.mean_high_s
        average = (arrivals.low_load * low + arrivals.high_load * high) / (low + high)
        load = average if workload.load is None else workload.load
        demand = Demand(load, mean_work, load * per_load, math.inf, low * high / (low + high), slotted=False)
        return Plan(demand, load / average, share, 0, 1.0, None)
    assert workload.load is not None  # the settings see to it
    rate = workload.load * per_load
    return Plan(Demand(workload.load, mean_work, rate, math.inf, 0.0, slotted=False), rate, share, 0, 1.0, None)


def _check_match(env: EnvSettings, workload: WorkloadSettings) -> None:
    arrivals = workload.arrivals
    slotted = isinstance(arrivals, PublishedMultiArrivals | PublishedSingleArrivals)
    if env.published and not slotted:
        wanted = "published_multi" if env.rule in MULTI_RULES else "published_single"
        raise InputError(f"workload.arrivals.kind: rule {env.rule} needs {wanted}, got {arrivals.kind}")
    if drawn_per_index(env) and not slotted:
        raise InputError(f"env.tasks: per_index needs a workload in slots (published_...), got {arrivals.kind}")
    if env.published and workload.station_weights is not None:
        raise InputError(f"workload.station_weights: must be null under rule {env.rule}, whose stations are alike")
    if workload.columns is not None:
        _check_columns(env, workload.columns)


def _check_columns(env: EnvSettings, columns: TraceColumns) -> None:
    """InputError for a column that tasks of this kind have no use for, or that would be scaled to nothing."""
    unfit = {"offload": ("steps",), "generation": (), "images": ("work_gcycle", "result_mbit")}[env.tasks.kind]
    given = [key for key in (*SCALED, *TAKEN) if getattr(columns, key) is not None]
    for key in given:
        if key in unfit:
            raise InputError(f"workload.columns.{key}: must be null with env.tasks.kind {env.tasks.kind}")
        if key in SCALED and mean_sizes(env)[key] == 0:
            raise InputError(f"workload.columns.{key}: must be null where the mean {key} of env.tasks is 0")
    if "steps" in given and "work_gcycle" in given:
        raise InputError("workload.columns.steps: must be null where columns.work_gcycle says what a task needs")


def _station_share(workload: WorkloadSettings, n_stations: int) -> Floats | None:
    """Tasks of each station [B] over those of an average one. Raises InputError."""
    weights = workload.station_weights
    if weights is None:
        return None
    if len(weights) != n_stations:
        raise InputError(f"workload.station_weights: must have one per station ({n_stations}), got {len(weights)}")
    return np.array(weights, dtype=np.float64) * (n_stations / sum(weights))


def _slotted_plan(
    env: EnvSettings,
    workload: WorkloadSettings,
    arrivals: PublishedMultiArrivals | PublishedSingleArrivals,
    share: Floats | None,
    scale: tuple[float, int],
) -> Plan:
    """scale: tasks per second of all stations at load 1, and how many stations there are."""
    per_load, n_stations = scale
    per_slot = per_load * env.clock.slot_s / n_stations
    if isinstance(arrivals, PublishedMultiArrivals):
        n = arrivals.n_indices
        intensity = arrivals.probability if workload.load is None else workload.load * per_slot / n
        if intensity > 1:
            raise InputError(
                f"workload.load: at most {n / per_slot:.6g} with {n} indices per slot, got {workload.load}"
            )
        count = intensity * n
        _check_stations(share, intensity, 0.0, 1.0)
    else:
        intensity = float(arrivals.max_tasks) if workload.load is None else 2 * workload.load * per_slot - 1
        if intensity < 1:
            raise InputError(f"workload.load: at least {1 / per_slot:.6g} with 1 or more per slot, got {workload.load}")
        count = (intensity + 1) / 2
        _check_stations(share, count, 1.0, math.inf)
        n = math.ceil(intensity if share is None else _largest_counts(intensity, share).max())
    load = count / per_slot
    demand = Demand(load, mean_work_gcycle(env), load * per_load, math.inf, 0.0, slotted=True)
    return Plan(demand, intensity, share, n, 1.0, None)


def _check_stations(share: Floats | None, average: float, low: float, high: float) -> None:
    """InputError if a station's expected number of tasks, at an index or in a slot, is out of its bounds."""
    if share is None:
        return
    for b, expected in enumerate(average * share):
        if not low <= expected <= high:
            where = "at each index" if high == 1 else "in a slot"
            limit = f"at most {high:g}" if expected > high else f"at least {low:g}"
            text = f"station {b} would have {expected:.6g} tasks {where} on average, {limit} can be had"
            raise InputError(f"workload.station_weights: {text}")


def _trace_plan(
    env: EnvSettings, workload: WorkloadSettings, arrivals: TraceArrivals, share: Floats | None, speed_gcps: Floats
) -> Plan:
    assert workload.path is not None  # the settings see to both
    assert workload.columns is not None
    least_units = 1 if isinstance(env.tasks, ImageTasks) else 0
    trace = read_trace(workload.path, workload.columns, homes_of(env, len(speed_gcps))[0], least_units, workload.sort)
    mean_work = mean_work_gcycle(env, trace.columns)
    per_load = float(np.sum(speed_gcps)) / mean_work
    own_rate = (len(trace.time_s) - 1) / trace.span_s
    if workload.load is None:
        load, rate, time_scale = own_rate / per_load, own_rate, 1.0
        if load > MAX_LOAD:
            text = f"null keeps the file's own rate, {own_rate:.4g} tasks per second: load {load:.4g}"
            raise InputError(f"workload.load: {text}, at most {MAX_LOAD:g}")
    else:
        load, rate = workload.load, workload.load * per_load
        time_scale = own_rate / rate
    longest_s = (1 - arrivals.train_fraction) * trace.span_s * time_scale / arrivals.windows
    return Plan(Demand(load, mean_work, rate, longest_s, 0.0, slotted=False), rate, share, 0, time_scale, trace)


# ---- moments ---------------------------------------------------------------------------------------------------------


def _n_slots(scenario: Scenario) -> int:
    return max(1, round(scenario.horizon_s / scenario.slot_s))


def _slot_starts(scenario: Scenario, slot: Ints) -> Floats:
    return slot.astype(np.float64) * scenario.slot_s


def _stations(scenario: Scenario, plan: Plan, streams: Streams, row: Ints | None, n: int) -> Ints:
    """Where n tasks arrive: as the trace file says, or drawn, alike or by the stations' weights."""
    if plan.trace is not None and "origin" in plan.trace.columns:
        return plan.trace.columns["origin"][row].astype(np.int64)
    if plan.station_share is None:
        return streams("stations").integers(0, scenario.n_stations, n)
    ends = np.cumsum(plan.station_share)
    return np.searchsorted(ends[:-1] / ends[-1], streams("stations").random(n), side="right")


def _largest_counts(largest: float, share: Floats) -> Floats:
    """Largest count [B] of each station, as `_counts` takes it, where it is `largest` on average."""
    return (largest + 1) * share - 1


def _counts(rng: np.random.Generator, largest: float | Floats, n: int) -> Ints:
    """Counts [n], uniform 1..m; m mixes the integers around `largest` so that the mean is (largest + 1) / 2."""
    whole, part = np.divmod(largest, 1.0)
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
