"""`ddrl diff RUN RUN`: what sets two runs apart: settings, versions, results."""

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ddrl_sched.config import clean
from ddrl_sched.display import count, width_of
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES, SCHEMAS, Columns, check_table, n_rows, parse_table
from ddrl_sched.report.plain_text import PAGE, aligned, print_lines, seconds, wrapped
from ddrl_sched.report.settings_diff import diff_keys, flatten
from ddrl_sched.report.show import Run, open_run
from ddrl_sched.report.statistics import Estimate, common_traces, delay_sums, mean_delay_s, reduction_pct
from ddrl_sched.run.metrics import ELAPSED_METRIC

TIMES = ("decide_us",)  # columns of eval.parquet that are measured anew each time
ABOUT = ("scheduler", "experiment", "scenario_hash", "code_version")  # keys of job.json that are compared
MISSING = "(not there)"


def main(one: Path, other: Path) -> int:
    """Print what sets two run folders apart. InputError naming a folder that is none."""
    print_lines(told(open_run(one), open_run(other), width_of(sys.stdout) or PAGE))
    return 0


def told(one: Run, other: Run, width: int) -> Iterator[str]:
    """Lines of at most about `width` characters."""
    yield from aligned([["A", clean(one.folder)], ["B", clean(other.folder)]], width)
    yield from _differing("SETTINGS", _settings(one), _settings(other), width)
    yield from _differing("VERSIONS", one.job["packages"], other.job["packages"], width)
    yield from ["", "RESULTS"]
    for name, run in (("A", one), ("B", other)):
        if run.why_not:
            yield from wrapped(f"{name} has no results: {run.why_not}", width, "  ")
    if not one.why_not and not other.why_not:
        yield from _results(one, other, width)


def _settings(run: Run) -> dict[str, str]:
    job: Mapping[str, object] = {**run.job}
    return {key: str(job[key]) for key in ABOUT} | dict(flatten(run.job["settings"]))


def _differing(title: str, one: Mapping[str, object], other: Mapping[str, object], width: int) -> Iterator[str]:
    """A table of the keys that differ, or that none does."""
    texts = [{clean(key): clean(value) for key, value in each.items()} for each in (one, other)]
    keys = diff_keys(texts)
    yield from ["", title]
    if not keys:
        yield "the same"
        return
    rows = [[key, *(each.get(key, MISSING) for each in texts)] for key in keys]
    yield from aligned([["", "A", "B"], *rows], width)


def _results(one: Run, other: Run, width: int) -> Iterator[str]:
    compared = False
    for name in SCHEMAS:
        file = f"{name}.parquet"
        if file not in one.manifest or file not in other.manifest:
            continue
        compared = True
        a, b = _table(one, name), _table(other, name)
        if _equal(_lasting(a), _lasting(b)):
            yield from wrapped(f"{file}: {n_rows(a):,} rows, equal bit for bit{_but(name)}", width, "  ")
        elif name == "eval":
            yield from _evaluations(a, b, width)
        elif name == "returns":
            yield from _returns(a, b, width)
        else:
            yield from wrapped(f"{file}: not equal ({n_rows(a):,} and {n_rows(b):,} rows)", width, "  ")
    weights = [run.manifest.get("weights.safetensors") for run in (one, other)]
    if None not in weights:
        yield f"weights.safetensors: {'equal bit for bit' if weights[0] == weights[1] else 'not equal'}"
    if not compared:
        yield "no results that both have"


def _but(name: str) -> str:
    return {"eval": " but for the time of decisions", "curves": " but for the time that it took"}.get(name, "")


def _table(run: Run, name: str) -> Columns:
    """A checked table of a finished run. ValueError, OSError say why it cannot be read."""
    file = f"{name}.parquet"
    table = parse_table(
        records.read_verified(run.folder, file, run.manifest, MAX_TABLE_BYTES), SCHEMAS[name], clean(file)
    )
    check_table(name, table, clean(run.job["scheduler"]))
    return table


def _lasting(table: Columns) -> Columns:
    """Without labels, which say no number, and without what is measured anew each time."""
    kept = np.ones(n_rows(table), np.bool_) if "metric" not in table else table["metric"] != ELAPSED_METRIC
    return {name: column[kept] for name, column in table.items() if name not in (*TIMES, "scheduler")}


def _equal(one: Columns, other: Columns) -> bool:
    return n_rows(one) == n_rows(other) and all(_same(column, other[name]) for name, column in one.items())


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind == "f":
        return one.tobytes() == other.tobytes()
    return bool((one == other).all())


def _evaluations(one: Columns, other: Columns, width: int) -> Iterator[str]:
    """For each scenario that both have, means side by side and the paired reduction; then what only one has."""
    hashes = [dict.fromkeys(table["scenario_hash"].tolist()) for table in (one, other)]
    common = [scenario for scenario in hashes[0] if scenario in hashes[1]]
    for scenario in common:
        yield from _scenario(_of(one, scenario), _of(other, scenario), width)
    for name, own in zip("AB", hashes, strict=True):
        if common and len(own) > len(common):
            yield f"{name} alone has {count(len(own) - len(common), 'more scenario')}"
    if not common:
        text = "the scenarios differ (hash), so the delays below are of different tasks or servers: no reduction"
        yield from wrapped(text, width, "  ")
        means = [
            mean_delay_s(delay_sums(_of(table, next(iter(each)))))
            for table, each in zip((one, other), hashes, strict=True)
        ]
        yield from aligned([["", "A", "B"], ["mean delay", *map(_delay, means)]], width)


def _scenario(one: Columns, other: Columns, width: int) -> Iterator[str]:
    sums = common_traces(delay_sums(one), delay_sums(other))
    n_traces = len(sums[0].trace)
    if not n_traces:
        yield from wrapped("no trace that both have", width)
        return
    rows = [["", "A", "B"], ["mean delay", *(_delay(mean_delay_s(each)) for each in sums)]]
    for column, label in (("p99_delay_s", "p99, mean of traces"), ("wait_s", "waiting"), ("transfer_s", "transfer"),
                          ("compute_s", "computing"), ("return_s", "return")):  # fmt: skip
        rows.append([label, *(seconds(_weighted(table, column)) for table in (one, other))])
    for column, label, factor in (("late_rate", "late, %", 100), ("mean_servers", "servers per task", 1),
                                  ("probes_per_task", "probes per task", 1)):  # fmt: skip
        rows.append([label, *(f"{factor * _weighted(table, column):.4g}" for table in (one, other))])
    yield from wrapped(f"{one['scenario'][0]} {one['workload'][0]} {one['rule'][0]}, load {one['load'][0]:.4g}, "
                       f"{n_traces} common trace{'s' * (n_traces != 1)}", width, "  ")  # fmt: skip
    yield from aligned(rows, width, right=(1, 2))
    yield from wrapped(_verdict(reduction_pct(sums[1], sums[0])), width, "  ")


def _verdict(change: Estimate) -> str:
    """The paired reduction in words."""
    if math.isnan(change.value):
        return "B against A: nothing to compare"
    word = "shorter" if change.value > 0 else "longer"
    text = f"B against A: mean delay {abs(change.value):.3g} % {word}"
    if math.isnan(change.lo):
        return f"{text} (one trace: no interval)"
    sure = "" if change.lo > 0 or change.hi < 0 else ", which may be chance"
    return f"{text}; reduction {change.value:+.3g} % [{change.lo:+.3g}, {change.hi:+.3g}] paired, 95 %{sure}"


def _returns(one: Columns, other: Columns, width: int) -> Iterator[str]:
    """CartPole: mean greedy return after each budget that both have."""
    rows = [["steps", "greedy return, A", "B"]]
    for steps in sorted({*one["steps"].tolist()} & {*other["steps"].tolist()}):
        means = [table["final_greedy"][table["steps"] == steps].mean() for table in (one, other)]
        rows.append([f"{steps:,}", *(f"{mean:.4g}" for mean in means)])
    yield from aligned(rows, width, right=(0, 1, 2))


def _of(table: Columns, scenario: str) -> Columns:
    kept = table["scenario_hash"] == scenario
    return {name: column[kept] for name, column in table.items()}


def _weighted(table: Columns, column: str) -> float:
    return float(np.average(table[column], weights=table["n_tasks"]))


def _delay(mean: Estimate) -> str:
    interval = "" if math.isnan(mean.lo) else f" [{seconds(mean.lo)}, {seconds(mean.hi)}]"
    return seconds(mean.value) + interval
