"""Schedulers compared in the same worlds: rows of delays and of reductions against baselines."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.report.percentiles import DelayTable, pooled_percentile
from ddrl_sched.report.robust import holm, improvement_probability, interquartile_mean_s
from ddrl_sched.report.stability import GROWTH, OVERLOADED, STABLE, state_of
from ddrl_sched.report.statistics import (
    NO_ESTIMATE,
    DelaySums,
    Estimate,
    common_traces,
    delay_sums,
    log_ratio,
    mean_delay_s,
    task_mean,
)
from ddrl_sched.report.statistics import Table as Rows
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey, title

COLUMNS = [
    *SCENARIO, "realised_load", "scheduler", "info", "n_seeds", "n_traces", "baseline", "mean_delay_s",
    "mean_delay_lo_s", "mean_delay_hi_s", "reduction_pct", "reduction_lo_pct", "reduction_hi_pct", "p95_delay_s",
    "p99_delay_s", "late_rate", "probes_per_task", "decide_us", "mean_servers",
    "state", "caused_load", "queue_growth", "n_tasks", "p95_delay_lo_s", "p95_delay_hi_s", "p95_tasks_needed",
    "p99_delay_lo_s", "p99_delay_hi_s", "p99_tasks_needed", "iqm_delay_s", "iqm_delay_lo_s", "iqm_delay_hi_s",
    "p_value", "p_holm", "detectable_pct", "better_pct", "better_lo_pct", "better_hi_pct", "best_p_holm",
    "best_detectable_pct",
]  # fmt: skip
MEANS = ("p95_delay_s", "p99_delay_s", "late_rate", "probes_per_task", "decide_us", "mean_servers")
INPUT_COLUMNS = [
    "scheduler", "stream", "scenario_hash", "seed", "cluster", "trace", "n_tasks", "mean_delay_s", "realised_load",
    "info", "learned", "caused_load", "queue_early", "queue_late", *MEANS,
]  # fmt: skip
OVER_LOADS = [
    "scenario", "workload", "rule", "loads", "scheduler", "baseline", "reduction_pct", "reduction_lo_pct",
    "reduction_hi_pct",
]  # fmt: skip
WORLD = ["scenario", "workload", "rule"]
PERCENTILES = {"p95": 0.95, "p99": 0.99}
AZURE = ("azure_conv", "azure_code")  # workloads whose arrivals are requests to language models
Record = dict[str, object]  # of a frame, by column


def report_rows(
    df: pd.DataFrame,
    baselines: Sequence[str],
    notes: list[str] | None = None,
    delays: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One row per scenario, load, scheduler and baseline (the baseline itself too, with reduction 0): COLUMNS.

    `df` and `delays` are Loaded's rows and delays; without histograms percentiles are task-weighted means over rows,
    without intervals. Rows stand in the order of their means, overloaded ones after the others.

    Without `baselines` those of the jobs count, and without these there is one row per scheduler with an empty
    baseline. Where a baseline was not run the reduction is NaN. What a reader should know beside the numbers is
    appended to `notes`. InputError for a baseline that no folder holds.
    """
    check_baselines(baselines, sorted(df.scheduler.unique()))
    remarks: dict[str, list[str]] = {}
    table = DelayTable(pd.DataFrame(columns=["row", "bin", "count"]) if delays is None else delays)
    rows: list[Record] = []
    needed = [*SCENARIO, *(name for name in (*INPUT_COLUMNS, "baselines") if name in df and name not in SCENARIO)]
    for key, group in by_load(df[needed]):
        names = list(dict.fromkeys(baselines)) or _baselines_of_jobs(group)
        rows += _World(key, group, table, remarks).rows(names)
    if notes is not None:
        notes += remark_lines(remarks)
    return pd.DataFrame(rows, columns=COLUMNS)


def by_load(df: pd.DataFrame) -> list[tuple[ScenarioKey, pd.DataFrame]]:
    """The rows of every scenario and load, loads in ascending order."""
    found = [(ScenarioKey(*key), group) for key, group in df.groupby(SCENARIO)]
    return sorted(found, key=lambda one: (*one[0][:3], one[0].load, one[0].scenario_hash))


def over_loads(rows: pd.DataFrame, notes: list[str] | None = None) -> pd.DataFrame:
    """Means of the reductions over the loads of a world at which all compared schedulers are stable: OVER_LOADS.

    `rows`: of report_rows. Schedulers are compared that were run at every load and are stable at one at least. The ends
    of an interval are the means of the ends: as wide as if the errors of all loads were one and the same. The scheduler
    with the largest mean against any baseline stands first. What is left out is appended to `notes`.
    """
    found: list[Record] = []
    for key, group in rows[rows.baseline != ""].groupby(WORLD, sort=False):
        loads = sorted(group.load.unique())
        if len(loads) < 2 or group.scenario_hash.nunique() != len(loads):
            continue
        everywhere = group[group.groupby("scheduler").load.transform("nunique") == len(loads)]
        able = set(everywhere.scheduler[everywhere.state == STABLE])
        compared = everywhere[everywhere.scheduler.isin(able)]
        unstable = compared[compared.state != STABLE]
        stable = [load for load in loads if load not in set(unstable.load)] if able else []
        if compared.reduction_pct.isna().all() and able:
            continue  # no baseline was run
        world = dict(zip(WORLD, key, strict=True))
        if notes is not None:
            notes += _left_out(unstable, sorted({*everywhere.scheduler} - able), ", ".join(map(str, key)))
        if len(stable) > 1:
            world["loads"] = ", ".join(f"{load:.6g}" for load in stable)
            found += _means(world, compared[compared.load.isin(stable)], len(stable))
    return pd.DataFrame(found, columns=OVER_LOADS)


def _means(world: Record, rows: pd.DataFrame, n_loads: int) -> list[Record]:
    """Rows of a world, the best first."""
    ends = ["reduction_pct", "reduction_lo_pct", "reduction_hi_pct"]
    values = rows[ends].to_numpy(float)
    means: list[Record] = []
    best: dict[str, float] = {}
    for (name, baseline), at in rows.groupby(["scheduler", "baseline"]).indices.items():
        if len(at) == n_loads and not np.isnan(values[at]).any():
            of_pair = _mean_of(values[at])
            means.append(world | {"scheduler": name, "baseline": baseline, **dict(zip(ends, of_pair, strict=True))})
            best[str(name)] = max(best.get(str(name), -math.inf), of_pair[0])
    return sorted(means, key=lambda row: -best[str(row["scheduler"])])


def _mean_of(values: np.ndarray) -> list[float]:
    """Of each column."""
    means: list[float] = [float(column.sum() / len(column)) for column in values.T]
    return means


def _left_out(unstable: pd.DataFrame, never: Sequence[str], world: str) -> list[str]:
    """ "means over loads (edge5, poisson, clean) without 0.9, where not stable: eft; without jsq: nowhere stable"."""
    at = [f"load {load:.6g}, where not stable: {_names(some.scheduler)}" for load, some in unstable.groupby("load")]
    words = at + ([f"{_names(never)}: stable at no load"] if never else [])
    return [f"means over loads ({world}) are without {'; without '.join(words)}"] if words else []


def _names(schedulers: Iterable[str]) -> str:
    return ", ".join(first_places(sorted(set(schedulers))).split("; "))


def captions(df: pd.DataFrame) -> dict[str, str]:
    """{scenario_hash: caption} of a table; real arrivals are named with the factor by which they were stretched."""
    texts = {}
    needed = df[[*SCENARIO, "cluster", "trace", "realised_load", "time_scale"]]
    for (scenario, workload, rule, scenario_hash, load_), group in needed.groupby(SCENARIO):
        text = f"{title(scenario, workload, rule, load_)} (realised {_realised(group):.3g})"
        low, high = group.time_scale.min(), group.time_scale.max()
        if (low, high) != (1, 1):
            factor = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} - {high:.3g}"
            azure = workload.partition("(")[0] in AZURE
            what = "real arrival pattern of language-model requests" if azure else "arrivals of a trace file"
            text += f"; {what}, time-scaled by a factor {factor}"
        texts[str(scenario_hash)] = text
    return texts


def check_baselines(baselines: Sequence[str], known: list[str]) -> None:
    """InputError for a baseline that is not among the known schedulers."""
    for name in baselines:
        if name not in known:
            some = f" (found: {', '.join(known)})"
            raise InputError(f"--baseline: no results of scheduler {clean(name)!r}{near(name, known)}{some}")


def _baselines_of_jobs(group: pd.DataFrame) -> list[str]:
    names = [name for tuple_ in dict.fromkeys(group.baselines) for name in tuple_] if "baselines" in group else []
    return list(dict.fromkeys(names)) or [""]


class _World:
    """The schedulers of one world and load, and what is told of each and of each pair."""

    def __init__(self, key: ScenarioKey, group: pd.DataFrame, table: DelayTable, remarks: dict[str, list[str]]) -> None:
        needed = [name for name in INPUT_COLUMNS if name in group]
        columns = {name: group[name].to_numpy() for name in needed} | {"label": group.index.to_numpy()}
        places = group.groupby("scheduler").indices
        by_scheduler: dict[str, Rows] = {
            str(name): {column: values[at] for column, values in columns.items()} for name, at in places.items()
        }
        self.key, self.where, self.remarks = key, key.title(), remarks
        self.sums = {name: delay_sums(rows) for name, rows in by_scheduler.items()}
        self.about = {name: _scheduler_row(rows, self.sums[name], table) for name, rows in by_scheduler.items()}
        for name, rows in by_scheduler.items():
            _add_remarks(rows, self.sums[name], f"{name} in {self.where}", remarks)
            if _may_grow(self.about[name]):
                add_remark(remarks, "queues grow, but one trace cannot tell (stable)", f"{name} in {self.where}")

    def rows(self, baselines: list[str]) -> list[Record]:
        """One for each scheduler and baseline, the best first."""
        pairs = {(name, baseline): self._pair(name, baseline) for name in self.sums for baseline in baselines}
        _adjust(pairs)
        against_best = self._against_best()
        found = [
            self.key._asdict() | self.about[name] | {"baseline": baseline} | against_best[name] | pair
            for (name, baseline), pair in pairs.items()
        ]
        return sorted(found, key=lambda row: (row["state"] == OVERLOADED, row["mean_delay_s"], row["scheduler"]))

    def _pair(self, name: str, baseline: str) -> dict[str, float]:
        """What sets a scheduler apart from a baseline."""
        if baseline and baseline not in self.sums:
            add_remark(self.remarks, f"baseline {baseline} was not run in", self.where)
        if baseline not in self.sums:
            nothing = ("p_value", "detectable_pct", *interval("better_pct", NO_ESTIMATE))
            return interval("reduction_pct", NO_ESTIMATE) | dict.fromkeys(nothing, math.nan)
        one, other = self.sums[name], self.sums[baseline]
        common = common_traces(one, other)[0].trace.size
        if common < max(one.trace.size, other.trace.size):
            text = f"{name} against {baseline} ({common}) in {self.where}"
            add_remark(self.remarks, "reduction over common traces only", text)
        ratio, better = log_ratio(one, other), improvement_probability(one, other)
        itself = name == baseline
        return {
            **interval("reduction_pct", ratio.reduction_pct()),
            "p_value": math.nan if itself else ratio.p_value(),
            "detectable_pct": math.nan if itself else ratio.detectable_pct(),
            **interval("better_pct", Estimate(100 * better.value, 100 * better.lo, 100 * better.hi)),
        }

    def _against_best(self) -> dict[str, dict[str, float]]:
        """For each scheduler: whether it can be told from the best, of those that are not overloaded."""
        rivals = [name for name, about in self.about.items() if about["state"] != OVERLOADED]
        best = min(rivals, key=lambda name: (self.about[name]["mean_delay_s"], name), default=None)
        spreads = {name: log_ratio(self.sums[name], self.sums[best]) for name in rivals if best not in (None, name)}
        p_holm = dict(zip(spreads, holm([spread.p_value() for spread in spreads.values()]), strict=True))
        return {
            name: {
                "best_p_holm": p_holm.get(name, math.nan),
                "best_detectable_pct": spreads[name].detectable_pct() if name in spreads else math.nan,
            }
            for name in self.sums
        }


def _adjust(pairs: dict[tuple[str, str], dict[str, float]]) -> None:
    """Add p_holm over all pairs of one table; two baselines against each other count once."""
    once = {frozenset(pair): of_pair["p_value"] for pair, of_pair in pairs.items()}
    adjusted = dict(zip(once, holm(list(once.values())), strict=True))
    for pair, of_pair in pairs.items():
        of_pair["p_holm"] = adjusted[frozenset(pair)]


def _scheduler_row(rows: Rows, sums: DelaySums, table: DelayTable) -> Record:
    return {
        "realised_load": _realised(rows),
        "scheduler": sums.scheduler,
        "info": "/".join(sorted(set(rows["info"]))),
        "n_seeds": sums.n_seeds,
        "n_traces": sums.trace.size,
        **interval("mean_delay_s", mean_delay_s(sums)),
        **{column: task_mean(rows, column) for column in MEANS},
        **state_of(rows)._asdict(),
        "n_tasks": int(rows["n_tasks"].sum()),
        **_percentiles(rows, table),
        **interval("iqm_delay_s", interquartile_mean_s(sums)),
    }


def _may_grow(about: Record) -> bool:
    """Whether a scheduler counts as stable only because nothing can be tested on a single trace."""
    growth = about["queue_growth"]
    return about["n_traces"] == 1 and about["state"] == STABLE and isinstance(growth, float) and growth > GROWTH


def _percentiles(rows: Rows, table: DelayTable) -> dict[str, float]:
    """Of the pooled tasks, where there is a histogram of each row."""
    found = table.of(rows["label"])
    columns: dict[str, float] = {}
    for name, q in PERCENTILES.items() if found else ():
        assert found
        percentile = pooled_percentile(rows, found, q)
        columns |= interval(f"{name}_delay_s", percentile.estimate)
        columns[f"{name}_tasks_needed"] = percentile.tasks_needed
    return columns


def _realised(rows: Rows) -> float:
    realised = dict(zip(zip(rows["cluster"], rows["trace"], strict=True), rows["realised_load"], strict=True))
    return float(np.mean(list(realised.values())))


def interval(column: str, estimate: Estimate) -> dict[str, float]:
    """ "mean_delay_s" -> mean_delay_s, mean_delay_lo_s, mean_delay_hi_s."""
    stem, _, unit = column.rpartition("_")
    return {column: estimate.value, f"{stem}_lo_{unit}": estimate.lo, f"{stem}_hi_{unit}": estimate.hi}


def _add_remarks(rows: Rows, sums: DelaySums, where: str, remarks: dict[str, list[str]]) -> None:
    n_clusters = len(set(sums.cluster.tolist()))
    for text in sums.notes:
        add_remark(remarks, text, where)
    if n_clusters < 2:
        add_remark(remarks, "no interval, for all traces are of one cluster", where)
    elif n_clusters < 5:
        add_remark(remarks, f"rough intervals (only {n_clusters} clusters of traces)", where)
    if "learned" in rows and rows["learned"].any() and sums.n_seeds == 1:
        add_remark(remarks, "one training seed, whose luck is not in the interval", where)


def add_remark(remarks: dict[str, list[str]], text: str, where: str) -> None:
    """Add a place to the places of a remark."""
    places = remarks.setdefault(text, [])
    if where not in places:
        places.append(where)


def remark_lines(remarks: dict[str, list[str]]) -> list[str]:
    """One line per remark, with its first places."""
    return [f"{text}: {first_places(where)}" for text, where in remarks.items()]


def first_places(places: list[str], most: int = 4) -> str:
    """The first `most` places, and the number of the others."""
    return "; ".join(places[:most]) + (f"; and {len(places) - most} more" if len(places) > most else "")
