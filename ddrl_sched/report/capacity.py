"""Capacity: the highest load at which few enough tasks are late, with its interval, from loads that a search looked at.

Estimator. The late rate at a load is the mean over seeds of (late tasks / tasks) over all traces; none late counts as
half a task. Its logarithm is made to rise with the load (isotonic regression), and is linear between two loads. The
capacity is where it crosses the limit. Where it is beyond the limit at the lowest load, or within it at the highest
one, there is no crossing, and words say so.

Resampling as in statistics.py: traces are drawn jointly for all schedulers and loads, seeds for each scheduler, of n
units n - 1, each counting n / (n - 1) times; the interval is value * exp(-+ t se), with the degrees of freedom of
traces and seeds together, here from the jackknife. A bound beyond the loads that were looked at is the last of them.
Two schedulers are compared by the ratio of their capacities, on the traces that both have. Simulated coverage of whole
searches in which every trace (and seed) has a lognormal factor on late rates: 93 - 96 % from 3 traces on. Of a single
training it tells what these weights carry, not what another training would.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from ddrl_sched.report.statistics import NO_ESTIMATE, Estimate, Floats, draws, group_starts, spread

MAX_UNITS = 200  # traces (or seeds): neighbours are resampled together beyond that
KEY = ["scenario", "workload", "scenario_hash", "at_most", "deadline_s"]  # what schedulers of one table share
CAPACITY = ("capacity", "capacity_lo", "capacity_hi")
MORE_LOAD = ("more_load_pct", "more_load_lo_pct", "more_load_hi_pct")
COLUMNS = [*KEY, "scheduler", "info", "n_seeds", "n_traces", "n_loads", "outside", *CAPACITY, "baseline", *MORE_LOAD]
Outside = Literal["", "below", "at least"]  # of the loads that were looked at: capacity is below, or at least ...


@dataclass(frozen=True, eq=False)
class LateCounts:
    """What one scheduler did in one world at L loads. Axes: S seeds, U traces (sorted by cluster, then trace)."""

    scheduler: str
    scenario_hash: str  # of the world at any load
    stream: str  # name of its random numbers, by which seeds are resampled
    at_most: float
    load: Floats  # [L] ascending
    n_late: Floats  # [L, S, U]
    n_tasks: Floats  # [L, S, U]
    cluster: npt.NDArray[np.int64]  # [U]
    trace: npt.NDArray[np.int64]  # [U]


@dataclass(frozen=True)
class Capacity:
    """The highest load; where it lies `outside` of the loads that were looked at, the last one on that side."""

    estimate: Estimate
    outside: Outside


def late_counts(rows: pd.DataFrame) -> LateCounts:
    """Of rows of capacity.parquet of one scheduler in one world: one for each load, seed and trace."""
    rows = rows.sort_values(["load", "seed", "cluster", "trace"])
    shape = rows.load.nunique(), rows.seed.nunique(), -1
    counts = [rows[name].to_numpy(np.float64).reshape(shape) for name in ("n_late", "n_tasks")]
    units = rows[: counts[0].shape[2]]
    first = rows.iloc[0]
    return LateCounts(
        scheduler=str(first.scheduler),
        scenario_hash=str(first.scenario_hash),
        stream=str(first["stream" if "stream" in rows else "scheduler"]),
        at_most=float(first.at_most),
        load=np.unique(rows.load.to_numpy(np.float64)),
        n_late=counts[0],
        n_tasks=counts[1],
        cluster=units.cluster.to_numpy(np.int64),
        trace=units.trace.to_numpy(np.int64),
    )


def capacity(counts: LateCounts) -> Capacity:
    """The highest load with its interval; without bounds where it lies outside, or there is one trace only."""
    samples = _samples(counts)
    value = math.exp(samples.point)
    if samples.outside:
        return Capacity(Estimate(value, math.nan, math.nan), samples.outside)
    lo, hi = np.clip(np.exp(_bounds(samples)), counts.load[0], counts.load[-1]).tolist()
    return Capacity(Estimate(value, lo, hi), "")


def more_load_pct(counts: LateCounts, baseline: LateCounts) -> Estimate:
    """By how many per cent its capacity is above that of the baseline, on common traces; NaN where one lies outside.

    ValueError across two worlds or limits.
    """
    if (counts.scenario_hash, counts.at_most) != (baseline.scenario_hash, baseline.at_most):
        raise ValueError(f"no comparison across scenarios {counts.scenario_hash} and {baseline.scenario_hash}")
    if counts is baseline:
        return Estimate(0.0, 0.0, 0.0)
    common = {*_units(counts)} & {*_units(baseline)}
    if not common:
        return NO_ESTIMATE
    one, other = _samples(_cut(counts, common)), _samples(_cut(baseline, common))
    if one.outside or other.outside:
        return NO_ESTIMATE
    lo, hi = _bounds(one, other)
    return Estimate(*(100 * math.expm1(x) for x in (one.point - other.point, lo, hi)))


def capacity_rows(df: pd.DataFrame, baselines: Sequence[str]) -> pd.DataFrame:
    """One row per world, limit, scheduler and baseline, the largest capacity first: COLUMNS.

    `df` is Loaded.capacities. Without `baselines` those of the jobs count, and without these the baseline is empty.
    """
    rows: list[dict[str, object]] = []
    for key, group in df.groupby(KEY, dropna=False):
        names = list(dict.fromkeys(baselines)) or _baselines_of_jobs(group)
        by_name = {str(name): late_counts(some) for name, some in group.groupby("scheduler")}
        infos = {str(name): "/".join(sorted(some["info"].unique())) for name, some in group.groupby("scheduler")}
        about = dict(zip(KEY, key, strict=True))
        of_world = [{**about, "info": infos[name], **_row(counts)} for name, counts in by_name.items()]
        for row in sorted(of_world, key=_order):
            for name in names:
                gain = NO_ESTIMATE
                if name in by_name:
                    gain = more_load_pct(by_name[str(row["scheduler"])], by_name[name])
                rows.append({**row, "baseline": name, **_named(MORE_LOAD, gain)})
    return pd.DataFrame(rows, columns=COLUMNS)


def load_rows(df: pd.DataFrame) -> pd.DataFrame:
    """One row per world, limit, scheduler and load that was looked at: late rate, mean and p99 over all traces.

    p99 is the task-weighted mean of that of each trace, as in other tables.
    """
    rows = []
    for (*key, name, load), group in df.groupby([*KEY, "scheduler", "load"], dropna=False):
        by_seed = group.groupby("seed")[["n_late", "n_tasks"]].sum()
        rows.append(
            {
                **dict(zip(KEY, key, strict=True)),
                "scheduler": name,
                "load": load,
                "n_tasks": int(group.n_tasks.sum()),
                "late_rate": float((by_seed.n_late / by_seed.n_tasks).mean()),
                **{x: float(np.average(group[x], weights=group.n_tasks)) for x in ("mean_delay_s", "p99_delay_s")},
            }
        )
    return pd.DataFrame(rows)


def _row(counts: LateCounts) -> dict[str, Any]:
    found = capacity(counts)
    n_loads, n_seeds, n_traces = counts.n_late.shape
    sizes = {"n_seeds": n_seeds, "n_traces": n_traces, "n_loads": n_loads}
    return {"scheduler": counts.scheduler, **sizes, "outside": found.outside, **_named(CAPACITY, found.estimate)}


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, float, str]:
    """What is at least the highest load stands first, what is below the lowest one last."""
    return row["outside"] == "below", row["outside"] == "", -row["capacity"], row["scheduler"]


def _named(names: Sequence[str], estimate: Estimate) -> dict[str, float]:
    return dict(zip(names, (estimate.value, estimate.lo, estimate.hi), strict=True))


def _baselines_of_jobs(group: pd.DataFrame) -> list[str]:
    names = [name for tuple_ in dict.fromkeys(group.baselines) for name in tuple_] if "baselines" in group else []
    return list(dict.fromkeys(names)) or [""]


# The estimator


@dataclass(frozen=True, eq=False)
class _Samples:
    """The logarithm of a capacity: as it is, resampled, and what every trace and seed does to it."""

    point: float
    outside: Outside
    resampled: Floats  # [resamples]
    of_traces: Floats  # [U] jackknife pseudo-values
    of_seeds: Floats  # [S]


def _bounds(one: _Samples, other: _Samples | None = None) -> tuple[float, float]:
    """Bounds of the logarithm of a capacity, or of the ratio of two; NaN with one trace."""
    if other is None:
        effects = [one.of_traces, one.of_seeds]
        return spread(one.point, one.resampled, effects, enough=len(one.of_traces) > 1).interval()
    effects = [one.of_traces - other.of_traces, one.of_seeds, other.of_seeds]
    enough = len(one.of_traces) > 1
    return spread(one.point - other.point, one.resampled - other.resampled, effects, enough=enough).interval()


@lru_cache(maxsize=64)  # a baseline is met once for each scheduler
def _samples(counts: LateCounts) -> _Samples:
    counts = _grouped(counts)
    _, n_seeds, n_traces = counts.n_late.shape
    point, outside = _crossing(counts, np.ones((1, n_traces)), np.ones((1, n_seeds)))
    traces = draws(n_traces, "report", counts.scenario_hash, "traces").astype(np.float64)
    seeds = draws(n_seeds, "report", counts.scenario_hash, "seeds", counts.stream).astype(np.float64)
    return _Samples(
        point=float(point[0]),
        outside=outside[0],
        resampled=_crossing(counts, traces, seeds)[0],
        of_traces=_jackknife(counts, float(point[0]), 2),
        of_seeds=_jackknife(counts, float(point[0]), 1),
    )


def _jackknife(counts: LateCounts, point: float, axis: Literal[1, 2]) -> Floats:
    """[n] n times the point less n - 1 times that without one trace (axis 2) or seed (axis 1), for each of them."""
    n = counts.n_late.shape[axis]
    if n < 2:
        return np.full(n, point)
    without, every = 1.0 - np.eye(n), np.ones((n, counts.n_late.shape[3 - axis]))
    weights = (without, every) if axis == 2 else (every, without)
    values: Floats = n * point - (n - 1) * _crossing(counts, *weights)[0]
    return values


def _crossing(counts: LateCounts, traces: Floats, seeds: Floats) -> tuple[Floats, list[Outside]]:
    """Logarithm of the capacity [M], and on which side it lies outside, for weights traces [M, U] and seeds [M, S]."""
    n_loads, n_seeds, n_traces = counts.n_late.shape
    late, tasks = (
        (traces @ x.reshape(-1, n_traces).T).reshape(-1, n_loads, n_seeds) for x in (counts.n_late, counts.n_tasks)
    )
    by_seed = seeds / seeds.sum(axis=1, keepdims=True)  # [M, S]
    rate = np.einsum("mls,ms->ml", late / tasks, by_seed)
    least = 0.5 / np.einsum("mls->ml", tasks)
    excess = isotonic(np.log(np.maximum(rate, least) / counts.at_most))  # [M, L]
    beyond = excess > 0
    place = np.where(beyond.any(axis=1), beyond.argmax(axis=1), n_loads)  # the first load beyond the limit
    right = np.clip(place, 1, n_loads - 1) if n_loads > 1 else np.zeros(len(place), np.int64)
    left, row = np.maximum(right - 1, 0), np.arange(len(place))
    rise = excess[row, right] - excess[row, left]
    part = np.clip(-excess[row, left] / np.where(rise > 0, rise, 1.0), 0.0, 1.0)
    load = counts.load[left] + part * (counts.load[right] - counts.load[left])
    load = np.where(place == 0, counts.load[0], np.where(place == n_loads, counts.load[-1], load))
    outside: list[Outside] = ["below" if p == 0 else "at least" if p == n_loads else "" for p in place.tolist()]
    return np.log(load), outside


def isotonic(values: Floats) -> Floats:
    """The rising sequences [M, L] nearest to `values` [M, L] in least squares.

    Value i is the largest over j <= i of the least over k >= i of the means of values j..k (Barlow and others 1972).
    """
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    fit = np.full(values.shape, -np.inf)
    for first in range(values.shape[1]):
        means = (sums[:, first + 1 :] - sums[:, [first]]) / np.arange(1, values.shape[1] - first + 1)
        least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fit[:, first:] = np.maximum(fit[:, first:], least)
    return fit


def _grouped(counts: LateCounts) -> LateCounts:
    """At most MAX_UNITS traces and seeds: neighbours are taken together; traces of one cluster always are."""
    starts = group_starts(counts.cluster, MAX_UNITS)
    seeds = np.arange(0, counts.n_late.shape[1], math.ceil(counts.n_late.shape[1] / MAX_UNITS))
    late, tasks = (
        np.add.reduceat(np.add.reduceat(x, starts, axis=2), seeds, axis=1) for x in (counts.n_late, counts.n_tasks)
    )
    return replace(counts, n_late=late, n_tasks=tasks, cluster=counts.cluster[starts], trace=counts.trace[starts])


def _units(counts: LateCounts) -> list[tuple[int, int]]:
    return [*zip(counts.cluster.tolist(), counts.trace.tolist(), strict=True)]


def _cut(counts: LateCounts, units: set[tuple[int, int]]) -> LateCounts:
    kept = [unit in units for unit in _units(counts)]
    if all(kept):
        return counts
    return replace(
        counts,
        n_late=counts.n_late[:, :, kept],
        n_tasks=counts.n_tasks[:, :, kept],
        cluster=counts.cluster[kept],
        trace=counts.trace[kept],
    )
