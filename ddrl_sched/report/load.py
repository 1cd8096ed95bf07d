"""Run folders in, one table of evaluations out. A folder may come from a stranger: it is read as data or skipped.

Nothing of a folder is executed, instantiated, resolved or unpickled. JSON is limited in size, parquet must have the
exact schema of `run.records` and fit the manifest; links, pipes and devices are not followed; text loses control
characters.
"""

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.config import InputError, clean
from ddrl_sched.labels import LEARNS_THE_SAME, changed, with_changes
from ddrl_sched.report.differ import differing, leaves
from ddrl_sched.run import records

MAX_FILE_BYTES = 128_000_000
MAX_UNPACKED_BYTES = 256_000_000
MAX_ROWS = 1_000_000  # of one file
MAX_REPORT_ROWS = 300_000  # of all files of one report, which are held at once; real runs have some hundred each
MAX_SEEDS = 1000  # of one run of CartPole, as in its settings
MAX_BASELINES = 100
MAX_CHANGES = 20  # of a scenario that its name tells; finding short names takes their square
MAX_SCENARIOS = 8  # in the rows of one run: its own, and the rule under which decisions were placed again
LARGEST_S = 1e9  # seconds of a mean delay
LARGEST_COUNT = 10**12  # tasks, updates
LARGEST_RETURN = 1e6  # steps of an episode
# one of them makes a folder a run folder
RUN_FILES = {"job.json", "eval.parquet", "returns.parquet", "curves.parquet", records.MANIFEST}

# label; world, workload and loads; hash of the settings that a training depends on; sha256 of the curves
OF_TRAINING = ["scheduler", "trained_on", "budget", "training"]
JOB_COLUMNS = ["job_id", "experiment", "learned", "baselines", "code_version", "created", "folder"]
SAME = ["scheduler", "scenario_hash"]  # what one curve or one line of a table stands for
SAME_ROW = [*SAME, "seed", "cluster", "trace"]
SCENARIO = ["scenario", "workload", "rule", "scenario_hash", "load", "info"]
BESIDE = ("name", "baselines", "seeds")  # settings that do not make two runs of a scheduler different schedulers


@dataclass
class Loaded:
    """What was found. `rows`: columns of eval.parquet and JOB_COLUMNS; `curves` likewise, and OF_TRAINING (empty unless
    asked for).

    `returns`: columns of returns.parquet (CartPole) and JOB_COLUMNS.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    returns: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=records.RETURNS_SCHEMA.names))
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (folder, reason)
    notes: list[str] = field(default_factory=list)


def load(paths: Sequence[Path | str], curves: Collection[str] = (), *, evaluations: bool = True) -> Loaded:
    """Read every run folder at or below `paths`. InputError if a path does not exist or is no folder.

    Of curves these metrics are read; evaluations and returns are left alone if not wanted.

    A scenario is named after its yaml file and what was changed about it: edge5(probe_s=0.005).

    Where a scheduler has several runs in the same scenario, the newest counts, and a note says so: all of it if
    settings or code differ, else row by row.
    """
    tables: dict[str, list[pd.DataFrame]] = {"eval": [], "curves": [], "returns": []}
    found = Loaded(pd.DataFrame(), pd.DataFrame())
    left = MAX_REPORT_ROWS
    for folder in _run_folders(paths, found.skipped):
        try:
            read = read_folder(folder, curves, left, evaluations=evaluations)
        except Exception as error:  # whatever a stranger's bytes provoke is the reason why they are left out
            found.skipped.append((clean(folder), _reason(error)))
            continue
        left -= sum(map(len, read.values()))
        for name, table in read.items():
            tables[name].append(table)
        if evaluations and not {"eval", "returns"} & read.keys():
            found.notes.append(f"{clean(folder)}: trained, not evaluated: nothing to compare")
    found.rows = _newest(tables["eval"], found.notes)
    if tables["returns"]:
        found.returns = _newest_returns(tables["returns"], found.notes)
    if tables["curves"]:
        found.curves = pd.concat(tables["curves"], ignore_index=True)
    return found


def tell(found: Loaded) -> None:
    """Say on standard error what was left out, and the notes."""
    lines = [f"skipped: {path}: {reason}" for path, reason in found.skipped]
    sys.stderr.write("".join(line + "\n" for line in [*lines, *(f"note: {text}" for text in found.notes)]))


def read_folder(
    folder: Path, curves: Collection[str] = (), most: int | None = None, *, evaluations: bool = True
) -> dict[str, pd.DataFrame]:
    """{"eval": rows, "curves": rows of these metrics} of one run folder, those it has. ValueError, OSError say why not.

    `most`: rows that a report still has room for; a folder of more is refused before it is unpacked.
    """
    job, manifest = records.read_finished(folder)
    if len(job["baselines"]) > MAX_BASELINES:
        raise ValueError(f"job.json: at most {MAX_BASELINES} baselines expected, got {len(job['baselines'])}")
    wanted = {"eval": records.EVAL_SCHEMA, "returns": records.RETURNS_SCHEMA} if evaluations else {}
    wanted |= {"curves": records.CURVES_SCHEMA} if curves else {}
    tables = {}
    for name, schema in wanted.items():
        file = f"{name}.parquet"
        if file not in manifest and not os.path.lexists(folder / file):
            continue
        room = None if name == "curves" else most  # most of its rows are other metrics
        frame = parse_table(records.read_verified(folder, file, manifest, MAX_FILE_BYTES), schema, file, room)
        if name == "curves":
            frame = _of_metrics(frame, curves, job, manifest[file], most)
        most = None if most is None else most - len(frame)
        if name == "eval":
            _check_rows(frame, clean(job["scheduler"]))
        if name == "returns":
            _check_returns(frame, clean(job["scheduler"]))
        tables[name] = _with_job(frame, job, folder)
    return tables


def _of_metrics(
    frame: pd.DataFrame, metrics: Collection[str], job: dict[str, Any], sha256: str, most: int | None
) -> pd.DataFrame:
    """Rows of the metrics with the columns OF_TRAINING, and `number`: how many rows of its seed and metric came before.

    ValueError for more rows than `most`, numbers out of range, and seeds of different length.
    """
    frame = frame[frame.metric.isin(metrics)].reset_index(drop=True)
    if most is not None and len(frame) > most:
        raise ValueError(f"curves.parquet: with the folders before it more than {MAX_REPORT_ROWS:,} rows in one report")
    for column in ("seed", "update", "tasks_seen"):
        if not frame[column].between(0, LARGEST_COUNT).all():
            raise ValueError(f"curves.parquet: {column} must lie in 0 .. 10^12")
    if not (frame.value.between(1e-12, LARGEST_S) | frame.value.isna()).all():
        raise ValueError(f"curves.parquet: delays must lie in 10^-12 .. {LARGEST_S:g} s")
    lengths = frame.groupby(["metric", "seed"]).size().groupby("metric")
    if (lengths.max() != lengths.min()).any() or frame.seed.nunique() > MAX_SEEDS:
        raise ValueError(f"curves.parquet: expected as many rows for each of at most {MAX_SEEDS:,} seeds")
    number = frame.groupby(["metric", "seed"]).cumcount()
    trained_on, budget = _trained_on(job)
    named = {"scheduler": clean(job["scheduler"]), "trained_on": trained_on, "budget": budget}
    return frame.assign(number=number, training=sha256, **named)


def _learns_by(train: Any) -> Any:
    """The settings of a training, but for those that leave what is learned as it is."""
    if not isinstance(train, dict):
        return train
    return {key: value for key, value in train.items() if f"train.{key}" not in LEARNS_THE_SAME}


def _trained_on(job: dict[str, Any]) -> tuple[str, str]:
    """ "edge5(overhead_gcycle=0) poisson 0.36, 0.8" as far as the settings tell, and their hash."""
    groups = {name: job["settings"].get(name) for name in ("seed", "env", "workload", "scheduler", "train")}
    groups["train"] = _learns_by(groups["train"])
    env, workload, train = (
        groups[name] if isinstance(groups[name], dict) else {} for name in ("env", "workload", "train")
    )
    loads = train.get("loads")
    if isinstance(loads, list) and loads:
        groups["workload"] = {key: value for key, value in workload.items() if key != "load"}
    else:
        loads = [workload.get("load")]
    words = [word for word in job["overrides"] if len(word) <= records.MAX_NAME]
    changes = changed(words, ("env.", "workload.", "train."), ("workload.load", "train.loads", *LEARNS_THE_SAME))
    world = with_changes(str(env.get("name", "")), dict(islice(changes.items(), MAX_CHANGES)))
    rule = env.get("rule")
    names = [world, workload.get("name"), f"rule {rule}" if rule not in (None, "clean") else None]
    numbers = [f"{x:g}" for x in loads if isinstance(x, int | float)]
    text = " ".join([*(clean(name) for name in names if isinstance(name, str)), ", ".join(numbers)])
    return text[: records.MAX_NAME].strip(), records.canonical_hash(groups)


def parse_table(data: bytes, schema: pa.Schema, name: str, most: int | None = None) -> pd.DataFrame:
    """A parquet file of exactly `schema`, page checksums verified. A text that stands in many rows is unpacked once.

    `most`: as in read_folder.
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


def _run_folders(paths: Sequence[Path | str], skipped: list[tuple[str, str]]) -> Iterator[Path]:
    seen = set()
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{clean(path)}: there is no such folder")
        if not path.is_dir():
            raise InputError(f"{clean(path)}: expected a folder (a run folder, or one that holds some)")
        for folder in _below(path, skipped):
            real = os.path.realpath(folder)
            if real not in seen:
                seen.add(real)
                yield folder


def _below(path: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        skipped.append((clean(error.filename), f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(path, onerror=unreadable, followlinks=False):
        here = Path(place)
        if RUN_FILES.intersection([*folders, *files]):
            folders[:] = [name for name in folders if name not in RUN_FILES]
            yield here
        folders.sort()
        links = [name for name in folders if (here / name).is_symlink()]
        skipped.extend((clean(here / name), "a symbolic link, not followed") for name in links)


def _reason(error: Exception) -> str:
    text = " ".join(clean(" ".join(str(error).split())).split())[:300]
    return text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


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


def _check_rows(rows: pd.DataFrame, scheduler: str) -> None:
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


def _newest_returns(tables: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame:
    """Of an agent in a scenario, all rows of its newest run."""
    rows = _in_order_of_time(tables)
    winner = rows.groupby(SAME).folder.transform("last")
    of_folder = rows.drop_duplicates("folder").set_index("folder")
    old = rows.assign(winner=winner)[rows.folder != winner]
    for (folder, scheduler, newer), _ in old.groupby(["folder", "scheduler", "winner"]):
        why = _other(of_folder.loc[folder], of_folder.loc[newer])
        notes.append(f"{folder}: {scheduler} left out, made with other {why}: the newer {newer} counts")
    return rows[rows.folder == winner].drop(columns=["variant", "settings", "trained_by"]).reset_index(drop=True)


def _with_job(frame: pd.DataFrame, job: dict[str, Any], folder: Path) -> pd.DataFrame:
    created = datetime.fromisoformat(job["created"])
    settings = {key: value for key, value in job["settings"].items() if key not in BESIDE}
    about = {
        "job_id": clean(job["job_id"]),
        "experiment": clean(job["experiment"]),
        "learned": job["learned"],
        "code_version": clean(job["code_version"]),
        "created": created.replace(tzinfo=created.tzinfo or UTC).timestamp(),
        "folder": clean(folder),
        "variant": f"{records.canonical_hash(settings)[:16]} {clean(job['code_version'])}",
    }
    if "scenario_hash" in frame:
        compared = leaves(settings)
        budget = records.canonical_hash([_learns_by(settings.get("train"))])[:16] if job["learned"] else ""
        frame = frame.assign(settings=[compared] * len(frame), trained_by=budget)
    baselines = tuple(clean(name) for name in job["baselines"])
    words = [word for word in job["overrides"] if len(word) <= records.MAX_NAME]
    changes = dict(islice(changed(words, ("env.",), ("env.rule",)).items(), MAX_CHANGES))  # the rule has its column
    if changes and "scenario" in frame:
        names = {name: with_changes(name, changes)[: records.MAX_NAME] for name in frame.scenario.unique()}
        frame = frame.assign(scenario=frame.scenario.map(names))
    return frame.assign(**about, baselines=[baselines] * len(frame))


def _other(old: pd.Series, new: pd.Series) -> str:
    """What is different about the job of an older row."""
    words = [differing([old.settings, new.settings])] if old.variant.split()[0] != new.variant.split()[0] else []
    words += ["code"] * bool(old.code_version != new.code_version)
    return " and ".join(filter(None, words)) or "settings"


def _newest(tables: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame:
    """All rows; of a scheduler in a scenario only those of the newest settings and code, and no row twice."""
    if not tables:
        return pd.DataFrame(columns=[*records.EVAL_SCHEMA.names, *JOB_COLUMNS])
    rows = _in_order_of_time(tables)
    plain = rows.scenario.str.partition("(")[0]
    alike = rows.groupby([plain, "workload", "rule", "scenario_hash"])
    rows["scenario"] = alike.scenario.transform("min")  # one name, though one command may have stated a default
    current = rows.variant == rows.groupby(SAME).variant.transform("last")
    kept = current & ~rows[current].duplicated(SAME_ROW, keep="last").reindex(rows.index, fill_value=False)
    rows["winner"] = rows.groupby(SAME).folder.transform("last")
    of_folder = rows.drop_duplicates("folder").set_index("folder")
    old = rows[~kept].assign(repeated=current[~kept])
    for (folder, scheduler, winner, repeated), some in old.groupby(["folder", "scheduler", "winner", "repeated"]):
        other = _other(of_folder.loc[folder], of_folder.loc[winner])
        why = "repeated there" if repeated else f"made with other {other}"
        notes.append(f"{folder}: {len(some)} rows of {scheduler} left out, {why}: the newer {winner} counts")
    if rows[kept].code_version.nunique() > 1:
        notes.append("results of different versions of the code stand side by side")
    for (scheduler, *world), some in rows[kept].groupby(["scheduler", "scenario", "workload", "rule"]):
        trainings = some.drop_duplicates("trained_by").settings
        if len(trainings) > 1:
            what = differing(list(trainings), "train.") or "train"
            notes.append(f"{scheduler} in {' '.join(map(str, world))}: trained with different {what}")
    return rows[kept].drop(columns=["variant", "trained_by", "winner", "settings"]).reset_index(drop=True)


def _in_order_of_time(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows, the newest run last; empties `tables`, for rows may be many and need not be held twice."""
    tables.sort(key=lambda table: (table.created.iloc[0], table.folder.iloc[0]))
    rows = pd.concat(tables, ignore_index=True)
    tables.clear()
    return rows
