"""The tables of a run folder as they are read: which size, schema and numbers are accepted.

The report reads by these rules, which may be of a stranger's folder, and a job before it says that it is done: what is
written is what can be read.

A table is a dict of arrays of one length, for pandas takes longer over a folder of a few rows than to read it.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.config import InputError, clean
from ddrl_sched.jobs import records
from ddrl_sched.jobs.schemas import (
    CAPACITY_SCHEMA,
    CURVES_SCHEMA,
    DELAYS_SCHEMA,
    EVAL_SCHEMA,
    RETURNS_SCHEMA,
    SCHEMA_VERSION,
    TASKS_SCHEMA,
    TIMELINE_SCHEMA,
    JobRecord,
)
from ddrl_sched.run.histogram import HIGHEST_BIN, LOWEST_BIN
from ddrl_sched.run.inputs import value_at
from ddrl_sched.run.metrics import LARGEST_S, SMALLEST_S, VALIDATION_METRIC
from ddrl_sched.run.settings import MAX_NAME

MAX_TABLE_BYTES = 128_000_000  # of a parquet file, which is read whole
MAX_UNPACKED_BYTES = 256_000_000
MAX_ROWS = 1_000_000  # of one file
MAX_REPORT_ROWS = 300_000  # of all files of one report, which are held at once; real runs have some hundred each
MAX_REPORT_BINS = 20_000_000  # rows of delays.parquet of one report
MAX_TASK_ROWS = 500_000  # of tasks.parquet: tasks times servers
MAX_SEEDS = 1000  # of one run
MAX_SCENARIOS = 8  # in the rows of one run: its own, and the rule under which decisions were placed again
LARGEST_COUNT = 10**12  # tasks, updates
LARGEST_RETURN = 1e6  # steps of an episode

SCHEMAS = {
    "eval": EVAL_SCHEMA,
    "delays": DELAYS_SCHEMA,
    "timeline": TIMELINE_SCHEMA,
    "tasks": TASKS_SCHEMA,
    "capacity": CAPACITY_SCHEMA,
    "returns": RETURNS_SCHEMA,
    "curves": CURVES_SCHEMA,
}
DELAYS = ("delay_s", VALIDATION_METRIC)  # metrics of curves that reports show
LEARNT_NOTHING = (("tasks_seen", "saw no task"), ("update", "made 0 updates"))  # counts that stay 0, what is missing
CURVE_KEY = ["scheduler", "scenario_hash"]  # what one curve or one line of a table stands for
ROW_KEY = [*CURVE_KEY, "seed", "cluster", "trace"]
CAPACITY_WORLD = ["scenario", "workload", "scenario_hash", "info", "at_most"]  # of a search: the same in all its rows
SCENARIO = ["scenario", "workload", "rule", "scenario_hash", "load", "info"]

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]


def n_rows(table: Columns) -> int:
    """Rows of a table."""
    return len(next(iter(table.values())))


def check_n_rows(rows: Mapping[str, int]) -> None:
    """InputError for {keys: number of rows they make} that are more than a report takes."""
    for keys, n in rows.items():
        if n > MAX_REPORT_ROWS:
            raise InputError(f"{keys}: {n:,} rows of results, one run can have {MAX_REPORT_ROWS:,}")


def check_written(folder: Path, job: JobRecord) -> None:
    """Read back the tables that a job has written, and compare them with what its job.json says.

    InputError where a report would refuse one, naming keys, and for results of another scenario.
    """
    for name, schema in SCHEMAS.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            continue
        try:
            table = parse_table(records.read_regular(path, MAX_TABLE_BYTES), schema, path.name)
            check_table(name, table, clean(job["scheduler"]))
        except ValueError as error:
            raise InputError(f"these results cannot be kept, no report would read them: {error}") from None
        _check_scenario(path.name, table, job)
        if name == "eval":
            evaluated = table
        elif name == "delays":
            check_counts(evaluated, table)


def _check_scenario(file: str, table: Columns, job: JobRecord) -> None:
    """InputError if results are not of the scenario of job.json; those placed again are of another rule's."""
    if "scenario_hash" not in table:
        return
    rule = value_at(job["settings"], "env.rule")
    own = table["rule"] == rule if "rule" in table else np.ones(n_rows(table), dtype=np.bool_)
    found = set(table["scenario_hash"][own].tolist())
    if found != {job["scenario_hash"]}:
        texts = ", ".join(sorted(found)) or f"none under rule {rule}"
        raise InputError(
            f"these results cannot be kept: {file} is of scenario {texts}, job.json of {job['scenario_hash']}"
        )


def check_table(name: str, table: Columns, scheduler: str) -> None:
    """ValueError if the rows of a table of SCHEMAS are not of this scheduler, or cannot be averaged."""
    if name == "eval":
        _check_eval(table, scheduler)
    elif name == "capacity":
        _check_capacity(table, scheduler)
    elif name == "returns":
        _check_returns(table, scheduler)
    elif name == "delays":
        _check_histograms(table)
    elif name == "timeline":
        _check_timeline(table)
    elif name == "tasks":
        _check_tasks(table)
    else:
        for metric in DELAYS:
            check_delays(of_metrics(table, (metric,)))


def parse_table(
    data: bytes, schema: pa.Schema, name: str, most: int | None = None, *, columns: Sequence[str] | None = None
) -> Columns:
    """A parquet file of exactly `schema`, page checksums verified. A text that stands in many rows is unpacked once.

    `most`: rows for which there is room; `columns`: those that are wanted (None: all).
    """
    text = [f.name for f in schema if f.type == pa.string()]
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, read_dictionary=text)
    footer = file.metadata
    if footer.num_columns != len(schema) or not footer.schema.to_arrow_schema().equals(schema):
        raise ValueError(f"{name} has another schema than version {SCHEMA_VERSION}")
    unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if not 0 <= footer.num_rows <= MAX_ROWS or not 0 <= unpacked <= MAX_UNPACKED_BYTES:
        raise ValueError(f"{name} is too large: {footer.num_rows:,} rows, {unpacked:,} bytes unpacked")
    if most is not None and footer.num_rows > most:
        raise ValueError(
            f"{name} has {footer.num_rows:,} rows; with the folders before it that is more than the "
            f"{MAX_REPORT_ROWS:,} of one report: report fewer folders at once"
        )
    table = file.read(columns, use_threads=False)
    return {column: _values(table[column], name) for column in table.column_names}


def _values(column: pa.ChunkedArray, name: str) -> Array:
    if not pa.types.is_dictionary(column.type):
        return column.to_numpy()
    texts = np.empty(len(column), dtype=object)
    start = 0
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        if any(len(word) > MAX_NAME for word in words):
            raise ValueError(f"{name} holds a text of more than {MAX_NAME} characters")
        cleaned = np.array([clean(word) for word in words], dtype=object)
        texts[start : start + len(chunk)] = cleaned[chunk.indices.to_numpy()]
        start += len(chunk)
    return texts


def learnt_nothing(curves: bytes) -> dict[int, str]:
    """{seed: "saw no task", "made 0 updates" or ""} of a curves.parquet. ValueError if it cannot be read."""
    table = parse_table(
        curves, CURVES_SCHEMA, "curves.parquet", columns=[column for column, _ in LEARNT_NOTHING] + ["seed"]
    )
    seeds, of_row = np.unique(table["seed"], return_inverse=True)
    found = np.full(len(seeds), "", dtype=object)
    for column, text in reversed(LEARNT_NOTHING):
        most = np.zeros(len(seeds), np.int64)
        np.maximum.at(most, of_row, table[column])
        found[most == 0] = text
    return dict(zip(seeds.tolist(), found.tolist(), strict=True))


def _check_eval(rows: Columns, scheduler: str) -> None:
    """ValueError if rows are not of the job's scheduler or cannot be averaged: the rule for each column, in words."""
    if not n_rows(rows):
        raise ValueError("eval.parquet has no rows")
    other = set(rows["scheduler"].tolist()) - {scheduler}
    if other:
        raise ValueError(f"eval.parquet is of scheduler {min(other)}, job.json of {scheduler}")
    if _n_distinct(rows, SCENARIO) > MAX_SCENARIOS:
        raise ValueError(f"eval.parquet: more than {MAX_SCENARIOS} scenarios in one run")
    load, scale, late_rate = rows["load"], rows["time_scale"], rows["late_rate"]
    rules = {
        "mean_delay_s": (f"in (0, {LARGEST_S:g}]", (rows["mean_delay_s"] > 0) & (rows["mean_delay_s"] <= LARGEST_S)),
        "n_tasks": ("1 .. 10^12", _between(rows["n_tasks"], 1, 10**12)),
        "load": ("finite and not negative", np.isfinite(load) & (load >= 0)),
        "time_scale": ("finite and positive", np.isfinite(scale) & (scale > 0)),
        "seed": ("not negative", rows["seed"] >= 0),
        "trace": ("not negative", rows["trace"] >= 0),
        "cluster": ("not negative", rows["cluster"] >= 0),
        "late_rate": ("between 0 and 1", _between(late_rate, 0, 1)),
        "caused_load": ("finite and not negative", np.isfinite(rows["caused_load"]) & (rows["caused_load"] >= 0)),
    }
    _check_rules("eval.parquet", rows, rules)
    if _n_distinct(rows, ROW_KEY) < n_rows(rows):
        raise ValueError("eval.parquet: a scheduler has two rows for one seed and trace")


def _check_rules(file: str, rows: Columns, rules: Mapping[str, tuple[str, Array]]) -> None:
    """ValueError for the first row that does not fit; `rules`: column -> what is expected, whether each row fits."""
    for column, (expected, fits) in rules.items():
        if not fits.all():
            row = int(np.flatnonzero(~fits)[0])
            raise ValueError(f"{file}: {column} is {rows[column][row]} in row {row}, expected {expected}")


def _check_capacity(rows: Columns, scheduler: str) -> None:
    """ValueError if rows of capacity.parquet are not of the job's scheduler, or no late rates can be told from them."""
    if not n_rows(rows):
        raise ValueError("capacity.parquet has no rows")
    if set(rows["scheduler"].tolist()) != {scheduler} or _n_distinct(rows, CAPACITY_WORLD) > 1:
        raise ValueError(f"capacity.parquet: all rows must be of scheduler {scheduler} in one scenario")
    at_most, deadline_s, n_tasks = rows["at_most"], rows["deadline_s"], rows["n_tasks"]
    rules = {
        "at_most": ("in (0, 1)", (at_most > 0) & (at_most < 1)),
        "deadline_s": ("positive, or NaN", (deadline_s > 0) | np.isnan(deadline_s)),
        "load": ("in (0, 1)", (rows["load"] > 0) & (rows["load"] < 1)),
        "seed": ("not negative", rows["seed"] >= 0),
        "trace": ("not negative", rows["trace"] >= 0),
        "n_tasks": ("1 .. 10^12", _between(n_tasks, 1, LARGEST_COUNT)),
        "n_late": ("0 .. n_tasks", (rows["n_late"] >= 0) & (rows["n_late"] <= n_tasks)),
        "mean_delay_s": (f"in (0, {LARGEST_S:g}]", (rows["mean_delay_s"] > 0) & (rows["mean_delay_s"] <= LARGEST_S)),
        "p99_delay_s": (f"in (0, {LARGEST_S:g}]", (rows["p99_delay_s"] > 0) & (rows["p99_delay_s"] <= LARGEST_S)),
    }
    _check_rules("capacity.parquet", rows, rules)
    axes = [["load"], ["seed"], ["cluster", "trace"]]
    n_cells = math.prod(_n_distinct(rows, names) for names in axes)
    if not n_cells == n_rows(rows) == _n_distinct(rows, [name for names in axes for name in names]):
        raise ValueError("capacity.parquet: expected one row for each load, seed and trace")


def _check_histograms(table: Columns) -> None:
    """ValueError unless bins ascend in every row of eval.parquet and hold some tasks."""
    row, bin_, count = table["row"], table["bin"], table["count"]
    fits = _between(row, 0, MAX_ROWS) & _between(bin_, LOWEST_BIN, HIGHEST_BIN) & _between(count, 1, LARGEST_COUNT)
    if not fits.all():
        bad = int(np.flatnonzero(~fits)[0])
        raise ValueError(f"delays.parquet: row {row[bad]}, bin {bin_[bad]}, count {count[bad]} is out of range")
    ascend = (np.diff(row) > 0) | ((np.diff(row) == 0) & (np.diff(bin_) > 0))
    if not ascend.all():
        raise ValueError("delays.parquet: rows and bins are not in ascending order")


def check_counts(eval_rows: Columns, delays: Columns) -> None:
    """ValueError unless the histograms hold as many tasks as the rows of eval.parquet they belong to."""
    n_tasks = eval_rows["n_tasks"]
    if (delays["row"] >= len(n_tasks)).any():
        raise ValueError(f"delays.parquet: a histogram of row {delays['row'].max()}, eval.parquet has {len(n_tasks)}")
    counted = np.bincount(delays["row"], delays["count"], minlength=len(n_tasks))
    if not np.array_equal(counted, n_tasks):
        row = int(np.flatnonzero(counted != n_tasks)[0])
        raise ValueError(f"delays.parquet: {counted[row]:.0f} tasks of row {row}, eval.parquet has {n_tasks[row]}")


def _check_timeline(table: Columns) -> None:
    """ValueError unless servers, times, busy and queue are in range."""
    begin_s, end_s = table["begin_s"], table["end_s"]
    fits = _between(table["server"], 0, MAX_ROWS) & (begin_s >= 0) & (begin_s < end_s) & (end_s <= LARGEST_S)
    fits &= _between(table["busy"], 0, 1 + 1e-9) & (table["queue"] >= 0) & np.isfinite(table["queue"])
    if not fits.all():
        raise ValueError(f"timeline.parquet: row {int(np.flatnonzero(~fits)[0])} is out of range")


MOMENTS = ("sent_s", "arrived_s", "started_s", "ended_s")  # of a used share


def _check_tasks(table: Columns) -> None:
    """ValueError unless numbers are in range, every task has a row per server, and used shares have their moments."""
    for column in ("seed", "trace", "task", "station", "server", "units"):
        if not _between(table[column], 0, LARGEST_COUNT).all():
            raise ValueError(f"tasks.parquet: {column} must lie in 0 .. 10^12")
    for column, values in table.items():
        if values.dtype.kind == "f" and column not in MOMENTS and not _between(values, 0, LARGEST_S).all():
            raise ValueError(f"tasks.parquet: {column} must lie in 0 .. {LARGEST_S:g}")
    n_servers = int(table["server"].max(initial=-1)) + 1
    if n_rows(table) % max(n_servers, 1) or (table["server"] != np.arange(n_rows(table)) % max(n_servers, 1)).any():
        raise ValueError("tasks.parquet: expected a row for each server of each task, in order")
    used = table["share"] > 0
    for early, late in (("arrive_s", "sent_s"), *pairwise(MOMENTS)):
        if not (table[early] <= table[late] + 1e-9)[used].all() or not np.isfinite(table[late][used]).all():
            raise ValueError(f"tasks.parquet: a share has no {late} after its {early}")


def of_metrics(table: Columns, metrics: Collection[str]) -> Columns:
    """Rows of curves.parquet of these metrics."""
    wanted = np.isin(table["metric"].astype(str), list(metrics))
    return {name: column[wanted] for name, column in table.items()}


def check_delays(table: Columns) -> Array:
    """How many rows of its seed and metric come before each row of curves.parquet, of metrics that are delays.

    ValueError for numbers out of range, and for seeds with curves of different length.
    """
    for column in ("seed", "update", "tasks_seen"):
        if not _between(table[column], 0, LARGEST_COUNT).all():
            raise ValueError(f"curves.parquet: {column} must lie in 0 .. 10^12")
    if not (_between(table["value"], SMALLEST_S, LARGEST_S) | np.isnan(table["value"])).all():
        raise ValueError(f"curves.parquet: delays must lie in 10^-12 .. {LARGEST_S:g} s")
    n_of: Counter[tuple[str, int]] = Counter()
    number = np.empty(n_rows(table), dtype=np.int64)
    for row, key in enumerate(zip(table["metric"].tolist(), table["seed"].tolist(), strict=True)):
        number[row] = n_of[key]
        n_of[key] += 1
    lengths = {(metric, n) for (metric, _), n in n_of.items()}
    if len(lengths) > len({metric for metric, _ in lengths}) or len({seed for _, seed in n_of}) > MAX_SEEDS:
        raise ValueError(f"curves.parquet: expected as many rows for each of at most {MAX_SEEDS:,} seeds")
    return number


def _check_returns(rows: Columns, scheduler: str) -> None:
    """ValueError if rows of returns.parquet are not of the job's scheduler or cannot be averaged."""
    if not n_rows(rows):
        raise ValueError("returns.parquet has no rows")
    if set(rows["scheduler"].tolist()) != {scheduler} or _n_distinct(rows, ["scenario_hash"]) > 1:
        raise ValueError(f"returns.parquet: all rows must be of scheduler {scheduler} and one scenario")
    for column in ("episode_mean", "step_mean", "final_greedy"):
        if not (_between(rows[column], 0, LARGEST_RETURN) | np.isnan(rows[column])).all():
            raise ValueError(f"returns.parquet: {column} must lie in 0 .. {LARGEST_RETURN:g}")
    if _n_distinct(rows, ["seed"]) > MAX_SEEDS:
        raise ValueError(f"returns.parquet: more than {MAX_SEEDS:,} seeds")
    repeated = _n_distinct(rows, [*CURVE_KEY, "seed", "steps"]) < n_rows(rows)
    if (rows["steps"] < 1).any() or (rows["seed"] < 0).any() or repeated:
        raise ValueError("returns.parquet: each seed needs one row for each number of steps")


def _between(values: Array, low: float, high: float) -> Array:
    fits: Array = (values >= low) & (values <= high)
    return fits


def _n_distinct(table: Columns, names: Sequence[str]) -> int:
    return len(set(zip(*(table[name].tolist() for name in names), strict=True)))
