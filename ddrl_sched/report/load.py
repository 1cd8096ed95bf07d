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

import pandas as pd

from ddrl_sched.config import InputError, clean
from ddrl_sched.labels import LEARNS_THE_SAME, changed, with_changes
from ddrl_sched.report.differ import differing, leaves
from ddrl_sched.run import reading, records
from ddrl_sched.run.reading import MAX_REPORT_ROWS, SAME, SAME_ROW, check_delays

MAX_CHANGES = 20  # of a scenario that its name tells; finding short names takes their square
# one of them makes a folder a run folder
RUN_FILES = {"job.json", "eval.parquet", "returns.parquet", "curves.parquet", records.MANIFEST}

# label; world, workload and loads; hash of the settings that a training depends on; sha256 of the curves
OF_TRAINING = ["scheduler", "trained_on", "budget", "training"]
JOB_COLUMNS = ["job_id", "experiment", "learned", "baselines", "code_version", "created", "folder"]
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
    wanted = {"eval": records.EVAL_SCHEMA, "returns": records.RETURNS_SCHEMA} if evaluations else {}
    wanted |= {"curves": records.CURVES_SCHEMA} if curves else {}
    tables = {}
    for name, schema in wanted.items():
        file = f"{name}.parquet"
        if file not in manifest and not os.path.lexists(folder / file):
            continue
        room = None if name == "curves" else most  # most of its rows are other metrics
        data = records.read_verified(folder, file, manifest, reading.MAX_FILE_BYTES)
        frame = reading.parse_table(data, schema, file, room)
        if name == "curves":
            frame = _of_metrics(frame, curves, job, manifest[file], most)
        most = None if most is None else most - len(frame)
        if name != "curves":
            reading.check_table(name, frame, clean(job["scheduler"]))
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
    check_delays(frame)
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
