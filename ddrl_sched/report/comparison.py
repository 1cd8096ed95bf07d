"""Schedulers compared in the same worlds: rows of delays and of reductions against baselines."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.report.statistics import (
    DelaySums,
    Estimate,
    common_traces,
    delay_sums,
    mean_delay_s,
    reduction_pct,
    task_mean,
)
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey, title

COLUMNS = [
    *SCENARIO, "realised_load", "scheduler", "info", "n_seeds", "n_traces", "baseline", "mean_delay_s",
    "mean_delay_lo_s", "mean_delay_hi_s", "reduction_pct", "reduction_lo_pct", "reduction_hi_pct", "p95_delay_s",
    "p99_delay_s", "late_rate", "probes_per_task", "decide_us", "mean_servers",
]  # fmt: skip
MEANS = ("p95_delay_s", "p99_delay_s", "late_rate", "probes_per_task", "decide_us", "mean_servers")
INPUT_COLUMNS = [
    "scheduler", "stream", "scenario_hash", "seed", "cluster", "trace", "n_tasks", "mean_delay_s", "realised_load",
    "info", "learned", *MEANS,
]  # fmt: skip
OVER_LOADS = [
    "scenario", "workload", "rule", "loads", "scheduler", "baseline", "reduction_pct", "reduction_lo_pct",
    "reduction_hi_pct",
]  # fmt: skip
AZURE = ("azure_conv", "azure_code")  # workloads whose arrivals are requests to language models
Record = dict[str, object]  # of a frame, by column
NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)


def report_rows(df: pd.DataFrame, baselines: Sequence[str], notes: list[str] | None = None) -> pd.DataFrame:
    """One row per scenario, load, scheduler and baseline (the baseline itself too, with reduction 0): COLUMNS.

    `df` is Loaded.rows. Without `baselines` those of the jobs count, and without these there is one row per scheduler
    with an empty baseline. Where a baseline was not run the reduction is NaN. What a reader should know beside the
    numbers is appended to `notes`. InputError for a baseline that no folder holds.
    """
    check_baselines(baselines, sorted(df.scheduler.unique()))
    remarks: dict[str, list[str]] = {}
    rows: list[Record] = []
    for key, group in by_load(df):
        names = list(dict.fromkeys(baselines)) or _baselines_of_jobs(group)
        rows += _scenario_rows(key, group, names, remarks)
    if notes is not None:
        notes += remark_lines(remarks)
    return pd.DataFrame(rows, columns=COLUMNS)


def by_load(df: pd.DataFrame) -> list[tuple[ScenarioKey, pd.DataFrame]]:
    """The rows of every scenario and load, loads in ascending order."""
    found = [(ScenarioKey(*key), group) for key, group in df.groupby(SCENARIO)]
    return sorted(found, key=lambda one: (*one[0][:3], one[0].load, one[0].scenario_hash))


def over_loads(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of the reductions over all loads of a world, for schedulers that were run at each of them: OVER_LOADS.

    `rows`: of report_rows. The ends of an interval are the means of the ends: as wide as if the errors of all loads
    were one and the same. The scheduler with the largest mean against any baseline stands first.
    """
    ends = ["reduction_pct", "reduction_lo_pct", "reduction_hi_pct"]
    found: list[Record] = []
    for key, group in rows[rows.baseline != ""].groupby(["scenario", "workload", "rule"], sort=False):
        loads = sorted(group.load.unique())
        if len(loads) < 2 or group.scenario_hash.nunique() != len(loads):
            continue
        world = dict(zip(("scenario", "workload", "rule"), key, strict=True))
        world["loads"] = ", ".join(f"{load:.6g}" for load in loads)
        means = [
            world | {"scheduler": name, "baseline": baseline, **of_pair[ends].mean()}
            for (name, baseline), of_pair in group.groupby(["scheduler", "baseline"])
            if len(of_pair) == len(loads) and of_pair[ends].notna().all(axis=None)
        ]
        best: dict[str, float] = {}
        for row in means:
            best[row["scheduler"]] = max(best.get(row["scheduler"], -math.inf), row["reduction_pct"])
        found += sorted(means, key=lambda row: -best[str(row["scheduler"])])
    return pd.DataFrame(found, columns=OVER_LOADS)


def captions(df: pd.DataFrame) -> dict[str, str]:
    """{scenario_hash: caption} of a table; real arrivals are named with the factor by which they were stretched."""
    texts = {}
    for (scenario, workload, rule, scenario_hash, load_), group in df.groupby(SCENARIO):
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


def _scenario_rows(
    scenario: ScenarioKey, group: pd.DataFrame, baselines: list[str], remarks: dict[str, list[str]]
) -> list[Record]:
    needed = [name for name in INPUT_COLUMNS if name in group]  # rows of few columns are cut out faster
    by_scheduler = {str(name): rows for name, rows in group[needed].groupby("scheduler")}
    sums = {name: delay_sums(rows) for name, rows in by_scheduler.items()}
    where = scenario.title()
    rows = []
    for name in sums:
        about = scenario._asdict() | _scheduler_row(by_scheduler[name], sums[name])
        _add_remarks(by_scheduler[name], sums[name], f"{name} in {where}", remarks)
        for baseline in baselines:
            gain = _gain(sums, name, baseline, where, remarks)
            rows.append(about | {"baseline": baseline, **interval("reduction_pct", gain)})
    return sorted(rows, key=lambda row: (row["mean_delay_s"], row["scheduler"]))


def _scheduler_row(rows: pd.DataFrame, sums: DelaySums) -> Record:
    return {
        "realised_load": _realised(rows),
        "scheduler": sums.scheduler,
        "info": "/".join(sorted(rows["info"].unique())),
        "n_seeds": sums.n_seeds,
        "n_traces": sums.trace.size,
        **interval("mean_delay_s", mean_delay_s(sums)),
        **{column: task_mean(rows, column) for column in MEANS},
    }


def _realised(rows: pd.DataFrame) -> float:
    realised = dict(zip(zip(rows.cluster, rows.trace, strict=True), rows.realised_load, strict=True))
    return float(np.mean(list(realised.values())))


def interval(column: str, estimate: Estimate) -> dict[str, float]:
    """ "mean_delay_s" -> mean_delay_s, mean_delay_lo_s, mean_delay_hi_s."""
    stem, _, unit = column.rpartition("_")
    return {column: estimate.value, f"{stem}_lo_{unit}": estimate.lo, f"{stem}_hi_{unit}": estimate.hi}


def _gain(sums: dict[str, DelaySums], name: str, baseline: str, where: str, remarks: dict[str, list[str]]) -> Estimate:
    if not baseline:
        return NO_ESTIMATE
    if baseline not in sums:
        add_remark(remarks, f"baseline {baseline} was not run in", where)
        return NO_ESTIMATE
    one, other = sums[name], sums[baseline]
    common = common_traces(one, other)[0].trace.size
    if common < max(one.trace.size, other.trace.size):
        add_remark(remarks, "reduction over common traces only", f"{name} against {baseline} ({common}) in {where}")
    return reduction_pct(one, other)


def _add_remarks(rows: pd.DataFrame, sums: DelaySums, where: str, remarks: dict[str, list[str]]) -> None:
    n_clusters = len(set(sums.cluster.tolist()))
    for text in sums.notes:
        add_remark(remarks, text, where)
    if n_clusters < 2:
        add_remark(remarks, "no interval, for all traces are of one cluster", where)
    elif n_clusters < 5:
        add_remark(remarks, f"rough intervals (only {n_clusters} clusters of traces)", where)
    if "learned" in rows and rows.learned.any() and sums.n_seeds == 1:
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
