"""The tables of a run folder as they are read: which size, schema and numbers are accepted.

The report reads by these rules, which may be of a stranger's folder, and a job before it says that it is done: what is
written is what can be read.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.config import InputError, clean
from ddrl_sched.run import records

MAX_FILE_BYTES = 128_000_000
MAX_UNPACKED_BYTES = 256_000_000
MAX_ROWS = 1_000_000  # of one file
MAX_REPORT_ROWS = 300_000  # of all files of one report, which are held at once; real runs have some hundred each
MAX_SEEDS = 1000  # of one run
MAX_SCENARIOS = 8  # in the rows of one run: its own, and the rule under which decisions were placed again
LARGEST_S = 1e9  # seconds of a mean delay
SMALLEST_S = 1e-12  # of a delay in a curve, of which logs are taken
LARGEST_COUNT = 10**12  # tasks, updates
LARGEST_RETURN = 1e6  # steps of an episode

SCHEMAS = {"eval": records.EVAL_SCHEMA, "returns": records.RETURNS_SCHEMA, "curves": records.CURVES_SCHEMA}
DELAYS = ("delay_s", records.LOOKS)  # metrics of curves that reports show
SAME = ["scheduler", "scenario_hash"]  # what one curve or one line of a table stands for
SAME_ROW = [*SAME, "seed", "cluster", "trace"]
SCENARIO = ["scenario", "workload", "rule", "scenario_hash", "load", "info"]


def check_written(folder: Path, scheduler: str) -> None:
    """Read back the tables that a job has written. InputError where a report would refuse one, naming keys."""
    for name, schema in SCHEMAS.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            continue
        try:
            frame = parse_table(records.read_regular(path, MAX_FILE_BYTES), schema, path.name)
            check_table(name, frame, clean(scheduler))
        except ValueError as error:
            raise InputError(f"these results cannot be kept, no report would read them: {error}") from None


def check_table(name: str, frame: pd.DataFrame, scheduler: str) -> None:
    """ValueError if the rows of "eval", "returns" or "curves" are not of this scheduler, or cannot be averaged."""
    if name == "eval":
        _check_eval(frame, scheduler)
    elif name == "returns":
        _check_returns(frame, scheduler)
    else:
        for metric in DELAYS:
            check_delays(frame[frame.metric == metric])


def parse_table(data: bytes, schema: pa.Schema, name: str, most: int | None = None) -> pd.DataFrame:
    """A parquet file of exactly `schema`, page checksums verified. A text that stands in many rows is unpacked once.

    `most`: rows for which there is room.
    """
    footer = pq.read_metadata(pa.BufferReader(data))
    if footer.num_columns != len(schema) or not footer.schema.to_arrow_schema().equals(schema):
        raise ValueError(f"{name} has another schema than version {records.SCHEMA_VERSION}")
    unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if not 0 <= footer.num_rows <= MAX_ROWS or not 0 <= unpacked <= MAX_UNPACKED_BYTES:
        raise ValueError(f"{name} is too large: {footer.num_rows:,} rows, {unpacked:,} bytes unpacked")
    if most is not None and footer.num_rows > most:
        raise ValueError(
            f"{name} has {footer.num_rows:,} rows; with the folders before it that is more than the "
            f"{MAX_REPORT_ROWS:,} of one report: report fewer folders at once"
        )
    text = [f.name for f in schema if f.type == pa.string()]
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, read_dictionary=text)
    table = file.read(use_threads=False)
    return pd.DataFrame({f.name: _values(table[f.name], name) for f in schema})


def _values(column: pa.ChunkedArray, name: str) -> Any:
    if not pa.types.is_dictionary(column.type):
        return column.to_numpy()
    texts = np.empty(len(column), dtype=object)
    start = 0
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        if any(len(word) > records.MAX_NAME for word in words):
            raise ValueError(f"{name} holds a text of more than {records.MAX_NAME} characters")
        cleaned = np.array([clean(word) for word in words], dtype=object)
        texts[start : start + len(chunk)] = cleaned[chunk.indices.to_numpy()]
        start += len(chunk)
    return texts


def _check_eval(rows: pd.DataFrame, scheduler: str) -> None:
    """ValueError if rows are not of the job's scheduler or cannot be averaged: the rule for each column, in words."""
    if rows.empty:
        raise ValueError("eval.parquet has no rows")
    other = rows.scheduler[rows.scheduler != scheduler]
    if len(other):
        raise ValueError(f"eval.parquet is of scheduler {other.iloc[0]}, job.json of {scheduler}")
    if len(rows[SCENARIO].drop_duplicates()) > MAX_SCENARIOS:
        raise ValueError(f"eval.parquet: more than {MAX_SCENARIOS} scenarios in one run")
    rules = {
        "mean_delay_s": (f"in (0, {LARGEST_S:g}]", (rows.mean_delay_s > 0) & (rows.mean_delay_s <= LARGEST_S)),
        "n_tasks": ("1 .. 10^12", rows.n_tasks.between(1, 10**12)),
        "load": ("finite and not negative", np.isfinite(rows.load) & (rows.load >= 0)),
        "time_scale": ("finite and positive", np.isfinite(rows.time_scale) & (rows.time_scale > 0)),
        "seed": ("not negative", rows.seed >= 0),
        "trace": ("not negative", rows.trace >= 0),
        "cluster": ("not negative", rows.cluster >= 0),
        "late_rate": ("between 0 and 1", rows.late_rate.between(0, 1)),
    }
    for column, (expected, fits) in rules.items():
        if not fits.all():
            row = int(np.flatnonzero(~fits)[0])
            raise ValueError(f"eval.parquet: {column} is {rows[column].iloc[row]} in row {row}, expected {expected}")
    if rows.duplicated(SAME_ROW).any():
        raise ValueError("eval.parquet: a scheduler has two rows for one seed and trace")


def _check_returns(rows: pd.DataFrame, scheduler: str) -> None:
    """ValueError if rows of returns.parquet are not of the job's scheduler or cannot be averaged."""
    if rows.empty:
        raise ValueError("returns.parquet has no rows")
    if (rows.scheduler != scheduler).any() or rows.scenario_hash.nunique() > 1:
        raise ValueError(f"returns.parquet: all rows must be of scheduler {scheduler} and one scenario")
    for column in ("episode_mean", "step_mean", "final_greedy"):
        if not (rows[column].between(0, LARGEST_RETURN) | rows[column].isna()).all():
            raise ValueError(f"returns.parquet: {column} must lie in 0 .. {LARGEST_RETURN:g}")
    if rows.seed.nunique() > MAX_SEEDS:
        raise ValueError(f"returns.parquet: more than {MAX_SEEDS:,} seeds")
    if (rows.steps < 1).any() or (rows.seed < 0).any() or rows.duplicated([*SAME, "seed", "steps"]).any():
        raise ValueError("returns.parquet: each seed needs one row for each number of steps")


def check_delays(frame: pd.DataFrame) -> None:
    """ValueError for rows of curves.parquet, of metrics that are delays, with numbers out of range.

    Also where seeds have curves of different length.
    """
    for column in ("seed", "update", "tasks_seen"):
        if not frame[column].between(0, LARGEST_COUNT).all():
            raise ValueError(f"curves.parquet: {column} must lie in 0 .. 10^12")
    if not (frame.value.between(SMALLEST_S, LARGEST_S) | frame.value.isna()).all():
        raise ValueError(f"curves.parquet: delays must lie in 10^-12 .. {LARGEST_S:g} s")
    lengths = frame.groupby(["metric", "seed"]).size().groupby("metric")
    if (lengths.max() != lengths.min()).any() or frame.seed.nunique() > MAX_SEEDS:
        raise ValueError(f"curves.parquet: expected as many rows for each of at most {MAX_SEEDS:,} seeds")
