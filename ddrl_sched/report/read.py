"""One run folder in, its tables out as columns. It may come from a stranger: it is read as data or refused.

Nothing of it is executed, instantiated, resolved or unpickled. JSON is limited in size, parquet must have the exact
schema of `run.records` and fit the manifest; links, pipes and devices are not followed; text loses control characters.

A table is a dict of arrays of one length, for pandas takes longer over a folder of a few rows than to read it.
"""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.config import clean
from ddrl_sched.labels import LEARNS_THE_SAME
from ddrl_sched.report.differ import Leaves, leaves
from ddrl_sched.report.worlds import changes_of, own_files, world_of_training
from ddrl_sched.run import records

MAX_FILE_BYTES = 128_000_000
MAX_UNPACKED_BYTES = 256_000_000
MAX_ROWS = 1_000_000  # of one file
MAX_REPORT_ROWS = 300_000  # of all files of one report, which are held at once; real runs have some hundred each
MAX_SEEDS = 1000  # of one run of CartPole, as in its settings
MAX_BASELINES = 100
MAX_SCENARIOS = 8  # in the rows of one run: its own, and the rule under which decisions were placed again
LARGEST_S = 1e9  # seconds of a mean delay
LARGEST_COUNT = 10**12  # tasks, updates
LARGEST_RETURN = 1e6  # steps of an episode

SAME = ["scheduler", "scenario_hash"]  # what one curve or one line of a table stands for
SAME_ROW = [*SAME, "seed", "cluster", "trace"]
SCENARIO = ["scenario", "workload", "rule", "scenario_hash", "load", "info"]
BESIDE = ("name", "baselines", "seeds")  # settings that do not make two runs of a scheduler different schedulers

Columns = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Folder:
    """A finished run. `tables`: columns of "eval", "returns" and "curves", those it has."""

    scheduler: str
    about: Mapping[str, Any]  # a value per column that all its rows share
    tables: Mapping[str, Columns]
    remark: str  # "its training made 0 updates", or ""

    @property
    def n_rows(self) -> int:
        """Of all its tables."""
        return sum(map(n_rows, self.tables.values()))


def n_rows(table: Columns) -> int:
    """Rows of a table."""
    return len(next(iter(table.values())))


def read_folder(
    folder: Path, curves: Collection[str] = (), most: int | None = None, *, evaluations: bool = True
) -> Folder:
    """A run folder with rows of these metrics of its curves. ValueError, OSError say why it cannot be read.

    `most`: rows that a report still has room for; a folder of more is refused before it is unpacked.
    """
    job, manifest = records.read_finished(folder)
    if len(job["baselines"]) > MAX_BASELINES:
        raise ValueError(f"job.json: at most {MAX_BASELINES} baselines expected, got {len(job['baselines'])}")
    wanted = {"eval": records.EVAL_SCHEMA, "returns": records.RETURNS_SCHEMA} if evaluations else {}
    wanted |= {"curves": records.CURVES_SCHEMA} if curves else {}
    about, tables = _about(job, folder), {}
    for name, schema in wanted.items():
        file = f"{name}.parquet"
        if file not in manifest and not os.path.lexists(folder / file):
            continue
        room = None if name == "curves" else most  # most of its rows are other metrics
        table = parse_table(records.read_verified(folder, file, manifest, MAX_FILE_BYTES), schema, file, room)
        if name == "curves":
            table = _of_metrics(table, curves, most)
            about |= _about_training(job, about["settings"], manifest[file])
        if name == "eval":
            _check_rows(table, clean(job["scheduler"]))
        if name == "returns":
            _check_returns(table, clean(job["scheduler"]))
        most = None if most is None else most - n_rows(table)
        tables[name] = table
    remark = _learnt_nothing(folder, job, manifest) if "returns" not in tables else ""
    return Folder(clean(job["scheduler"]), about, tables, remark)


def parse_table(data: bytes, schema: pa.Schema, name: str, most: int | None = None) -> Columns:
    """A parquet file of exactly `schema`, page checksums verified. A text that stands in many rows is unpacked once.

    `most`: as in read_folder.
    """
    text = [f.name for f in schema if f.type == pa.string()]
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, read_dictionary=text)
    footer = file.metadata
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
    table = file.read(use_threads=False)
    return {f.name: _values(table[f.name], name) for f in schema}


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


def _about(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What all rows of a job share. `settings`: its leaves; `changes`: what the name of its world tells."""
    created = datetime.fromisoformat(job["created"])
    settings = {key: value for key, value in job["settings"].items() if key not in BESIDE}
    of_job = leaves(settings)
    learns_by = records.canonical_hash([_learns_by(settings.get("train"))])[:16] if job["learned"] else ""
    return {
        "job_id": clean(job["job_id"]),
        "experiment": clean(job["experiment"]),
        "learned": job["learned"],
        "baselines": tuple(clean(name) for name in job["baselines"]),
        "code_version": clean(job["code_version"]),
        "created": created.replace(tzinfo=created.tzinfo or UTC).timestamp(),
        "folder": clean(folder),
        "variant": f"{records.canonical_hash(settings)[:16]} {clean(job['code_version'])}",
        "trained_by": learns_by,
        "settings": of_job,
        "changes": changes_of(job, ("env.",), ("env.rule",)) | own_files(job["settings"]),
    }


def _about_training(job: dict[str, Any], of_job: Leaves, curves_sha256: str) -> dict[str, Any]:
    """What all rows of curves share beside: `world` that was trained in, hashes of the settings and of the curves."""
    groups = {name: job["settings"].get(name) for name in ("seed", "env", "workload", "scheduler", "train")}
    groups["train"] = _learns_by(groups["train"])
    if isinstance(groups["train"], dict) and groups["train"].get("loads") and isinstance(groups["workload"], dict):
        groups["workload"] = {key: value for key, value in groups["workload"].items() if key != "load"}
    return {
        "scheduler": clean(job["scheduler"]),
        "world": world_of_training(job, of_job),
        "budget": records.canonical_hash(groups),
        "training": curves_sha256,
    }


def _learns_by(train: Any) -> Any:
    """The settings of a training, but for those that leave what is learned as it is."""
    if not isinstance(train, dict):
        return train
    return {key: value for key, value in train.items() if f"train.{key}" not in LEARNS_THE_SAME}


def _learnt_nothing(folder: Path, job: dict[str, Any], manifest: Mapping[str, str]) -> str:
    """ "its training made 0 updates", "its training saw no task", or ""; told from the footer of the curves."""
    if not job["learned"] or "curves.parquet" not in manifest:
        return ""
    data = records.read_regular(folder / "curves.parquet", MAX_FILE_BYTES)
    footer = pq.read_metadata(pa.BufferReader(data))
    if not footer.schema.to_arrow_schema().equals(records.CURVES_SCHEMA):
        return ""
    for column, text in (("tasks_seen", "saw no task"), ("update", "made 0 updates")):
        place = records.CURVES_SCHEMA.get_field_index(column)
        every = [footer.row_group(i).column(place).statistics for i in range(footer.num_row_groups)]
        if every and all(one is not None and one.has_min_max and one.max == 0 for one in every):
            return f"its training {text}"
    return ""


def _of_metrics(table: Columns, metrics: Collection[str], most: int | None) -> Columns:
    """Rows of the metrics, and `number`: how many rows of its seed and metric came before.

    ValueError for more rows than `most`, numbers out of range, and seeds of different length.
    """
    wanted = np.isin(table["metric"].astype(str), list(metrics))
    table = {name: column[wanted] for name, column in table.items()}
    if most is not None and n_rows(table) > most:
        raise ValueError(f"curves.parquet: with the folders before it more than {MAX_REPORT_ROWS:,} rows in one report")
    for column in ("seed", "update", "tasks_seen"):
        if not _between(table[column], 0, LARGEST_COUNT).all():
            raise ValueError(f"curves.parquet: {column} must lie in 0 .. 10^12")
    if not (_between(table["value"], 1e-12, LARGEST_S) | np.isnan(table["value"])).all():
        raise ValueError(f"curves.parquet: delays must lie in 10^-12 .. {LARGEST_S:g} s")
    n_of: Counter[tuple[str, int]] = Counter()
    number = np.empty(n_rows(table), dtype=np.int64)
    for row, key in enumerate(zip(table["metric"].tolist(), table["seed"].tolist(), strict=True)):
        number[row] = n_of[key]
        n_of[key] += 1
    lengths = {(metric, n) for (metric, _), n in n_of.items()}
    if len(lengths) > len({metric for metric, _ in lengths}) or len({seed for _, seed in n_of}) > MAX_SEEDS:
        raise ValueError(f"curves.parquet: expected as many rows for each of at most {MAX_SEEDS:,} seeds")
    return table | {"number": number}


def _check_rows(rows: Columns, scheduler: str) -> None:
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
    }
    for column, (expected, fits) in rules.items():
        if not fits.all():
            row = int(np.flatnonzero(~fits)[0])
            raise ValueError(f"eval.parquet: {column} is {rows[column][row]} in row {row}, expected {expected}")
    if _n_distinct(rows, SAME_ROW) < n_rows(rows):
        raise ValueError("eval.parquet: a scheduler has two rows for one seed and trace")


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
    repeated = _n_distinct(rows, [*SAME, "seed", "steps"]) < n_rows(rows)
    if (rows["steps"] < 1).any() or (rows["seed"] < 0).any() or repeated:
        raise ValueError("returns.parquet: each seed needs one row for each number of steps")


def _between(values: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    fits: np.ndarray[Any, Any] = (values >= low) & (values <= high)
    return fits


def _n_distinct(table: Columns, names: Sequence[str]) -> int:
    return len(set(zip(*(table[name].tolist() for name in names), strict=True)))
