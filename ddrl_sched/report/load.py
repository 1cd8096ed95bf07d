"""Read run folders into one table of evaluations; an unreadable folder is skipped and named with its reason."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from ddrl_sched.config import InputError, clean
from ddrl_sched.display import note
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import CURVE_KEY, MAX_REPORT_BINS, MAX_REPORT_ROWS, ROW_KEY, Columns, n_rows
from ddrl_sched.jobs.schemas import (
    CAPACITY_SCHEMA,
    CURVES_SCHEMA,
    DELAYS_SCHEMA,
    EVAL_SCHEMA,
    RETURNS_SCHEMA,
    TIMELINE_SCHEMA,
    JobRecord,
)
from ddrl_sched.report.read import Folder, Wanted, read_folder
from ddrl_sched.report.settings_diff import diff_text
from ddrl_sched.report.worlds import (
    SCENARIO,
    ScenarioKey,
    World,
    load_text,
    select_settings,
    unique_names,
    world_of_learner,
)

# a folder that holds one of them is a run folder
RUN_FILES = {"job.json", "eval.parquet", "capacity.parquet", "returns.parquet", "curves.parquet", records.MANIFEST}

# label; world, workload and loads; hash of the settings that a training depends on; sha256 of the curves
TRAINING_COLUMNS = ["scheduler", "trained_on", "budget", "training"]
JOB_COLUMNS = ["job_id", "experiment", "learned", "baselines", "code_version", "created", "folder"]
# columns that serve to choose and name rows and are dropped then
SELECTION_COLUMNS = ["variant", "trained_by", "settings", "inputs", "changes"]
TIMELINE_COLUMNS = ["scheduler", *SCENARIO, *TIMELINE_SCHEMA.names, "folder"]
GYM_SCENARIO = "CartPole-v1"
GYM_KEYS = (
    ("env.", "seed", "train."),
    ("train.name", "train.horizons"),
)  # (prefixes, exceptions) of the settings that make returns comparable


@dataclass
class Loaded:
    """What `load` has read.

    `rows`: columns of eval.parquet and JOB_COLUMNS. `curves`: likewise, with TRAINING_COLUMNS; empty unless asked for.
    `returns`: columns of returns.parquet (CartPole) and JOB_COLUMNS. `delays`: histograms of `rows`, where `row` is the
    index of a row there. `timelines`: TIMELINE_COLUMNS. Both are empty unless asked for. `capacities`: columns of
    capacity.parquet and JOB_COLUMNS.
    """

    rows: pd.DataFrame
    curves: pd.DataFrame
    delays: pd.DataFrame = field(default_factory=lambda: _concatenated([], DELAYS_SCHEMA.names))
    timelines: pd.DataFrame = field(default_factory=lambda: _concatenated([], TIMELINE_COLUMNS))
    returns: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=RETURNS_SCHEMA.names))
    capacities: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CAPACITY_SCHEMA.names))
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (folder, reason)
    notes: list[str] = field(default_factory=list)
    n_read: int = 0  # folders
    n_learned: int = 0  # those of a scheduler that learns
    jobs: dict[str, JobRecord] = field(default_factory=dict)  # by folder, of those whose rows or curves count


def load(
    paths: Sequence[Path | str],
    curves: Collection[str] = (),
    *,
    evaluations: bool = True,
    delays: bool = False,
    timelines: bool = False,
) -> Loaded:
    """Read every run folder at or below `paths`. InputError if a path does not exist or is no folder.

    Of curves these metrics are read; evaluations and returns are left alone if not wanted, histograms of delays and
    timelines unless they are wanted.

    A scenario is named after its yaml file and what was changed about it: edge5(probe_s=0.005). No two scenarios of
    one load have the same names.

    Where a scheduler has several runs in the same scenario, the newest counts, and a note says so: all of it if
    settings or code differ, else row by row.
    """
    found = Loaded(pd.DataFrame(), pd.DataFrame())
    folders: list[Folder] = []
    left, left_bins = MAX_REPORT_ROWS, MAX_REPORT_BINS
    wanted = Wanted(curves, evaluations, delays and evaluations, timelines and evaluations)
    for path in run_folders(paths, found.skipped):
        try:
            folder = read_folder(path, wanted, left, left_bins)
        except Exception as error:  # any failure to read a stranger's bytes is a reason to skip them
            found.skipped.append((clean(path), _error_text(error)))
            continue
        left, left_bins = left - folder.n_rows, left_bins - folder.n_bins
        folders.append(folder)
        if evaluations and not {"eval", "returns", "capacity"} & folder.tables.keys():
            found.notes.append(f"{clean(path)}: trained, not evaluated: nothing to compare")
    found.n_read, found.n_learned = len(folders), sum(bool(folder.about["learned"]) for folder in folders)
    found.rows = _newest_evaluations(folders, found.notes)
    if len(found.rows):
        found.delays, found.timelines = _delays(folders, found.rows), _timelines(folders, found.rows)
    found.rows = found.rows.drop(columns="eval_row", errors="ignore")
    found.returns = _newest_returns(folders, found.notes)
    found.capacities = _newest_capacities(folders, found.notes)
    found.curves = _trainings(folders)
    used = {*found.rows.folder, *found.curves.folder}
    used |= {*found.returns.get("folder", ()), *found.capacities.get("folder", ())}
    counted = [folder for folder in folders if folder.about["folder"] in used]
    found.jobs = {str(folder.about["folder"]): folder.job for folder in counted}
    found.notes += _remarks(counted)
    return found


def why_nothing(found: Loaded) -> str:
    """The reason that no evaluation was found, and what to do about it."""
    if found.n_read:
        return "what is there was only trained; ddrl eval --run DIR evaluates it, --training tells how it ended"
    if found.skipped:
        return f"all run folders there were skipped ({len(found.skipped)}, named above)"
    return "there is no run folder; ddrl eval, ddrl train and ddrl sweep write them (runs/NAME, or runs_dir=DIR)"


def print_notes(found: Loaded) -> None:
    """Print the skipped folders and the notes to standard error."""
    for path, reason in found.skipped:
        note(f"skipped: {path}: {reason}")
    for text in found.notes:
        note(f"note: {text}")


def run_folders(paths: Sequence[Path | str], skipped: list[tuple[str, str]]) -> Iterator[Path]:
    """Every run folder at or below `paths`, once; (place, reason) of what cannot be looked into goes to `skipped`.

    InputError if a path does not exist or is no folder.
    """
    seen = set()
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{clean(path)}: there is no such folder")
        if not path.is_dir():
            raise InputError(f"{clean(path)}: expected a folder (a run folder, or one that holds some)")
        for folder in _walk(path, skipped):
            real = os.path.realpath(folder)
            if real not in seen:
                seen.add(real)
                yield folder


def _walk(path: Path, skipped: list[tuple[str, str]]) -> Iterator[Path]:
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


def _error_text(error: Exception) -> str:
    text = " ".join(clean(" ".join(str(error).split())).split())[:300]
    return text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


def _remarks(folders: Sequence[Folder]) -> list[str]:
    """A note per scheduler and remark, with the first of its folders."""
    places: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        for remark in folder.remarks:
            places[f"{folder.scheduler}: {remark}"].append(folder.about["folder"])
    return [
        f"{text} ({of[0]}" + (f" and {len(of) - 1} more" if len(of) > 1 else "") + ")" for text, of in places.items()
    ]


def _concatenate(folders: Sequence[Folder], name: str) -> pd.DataFrame:
    """The tables of this name one after the other, the newest run last, with a column per entry of `about`."""
    some = [folder for folder in folders if name in folder.tables]
    if not some:
        return pd.DataFrame()
    some.sort(key=lambda folder: (folder.about["created"], folder.about["folder"]))
    tables: list[Columns] = [folder.tables[name] for folder in some]
    columns = {column: np.concatenate([table[column] for table in tables]) for column in tables[0]}
    n_of = [n_rows(table) for table in tables]
    of_row = np.repeat(np.arange(len(some)), n_of)
    if name == "eval":
        columns["eval_row"] = np.concatenate([np.arange(n) for n in n_of])  # position in its own table
    abouts = [{**folder.about, **folder.of_training} if name == "curves" else folder.about for folder in some]
    for column in abouts[0]:
        values = np.empty(len(some), dtype=object)
        values[:] = [about[column] for about in abouts]
        columns[column] = values[of_row]
    return pd.DataFrame(columns).astype({"created": float, "learned": bool})


def _delays(folders: Sequence[Folder], rows: pd.DataFrame) -> pd.DataFrame:
    """Histograms of the rows that count: `row` is their index."""
    parts: list[Columns] = []
    labels, eval_row = rows.index.to_numpy(), rows.eval_row.to_numpy()
    places = rows.groupby("folder").indices
    for folder in folders:
        at = places.get(folder.about["folder"])
        if at is None or "delays" not in folder.tables:
            continue
        index = np.full(n_rows(folder.tables["eval"]), -1)
        index[eval_row[at]] = labels[at]
        table = folder.tables["delays"] | {"row": index[folder.tables["delays"]["row"]]}
        kept = table["row"] >= 0
        parts.append(table if kept.all() else {name: column[kept] for name, column in table.items()})
    return _concatenated(parts, DELAYS_SCHEMA.names)


def _timelines(folders: Sequence[Folder], rows: pd.DataFrame) -> pd.DataFrame:
    """Timelines of the folders of which rows count, under the names of their scenario."""
    shared = ["scheduler", *SCENARIO, "folder"]
    firsts = rows[shared].drop_duplicates("folder")
    place = {name: number for number, name in enumerate(firsts.folder)}
    used = [folder for folder in folders if "timeline" in folder.tables and folder.about["folder"] in place]
    found = _concatenated([folder.tables["timeline"] for folder in used], TIMELINE_SCHEMA.names)
    lengths = [n_rows(folder.tables["timeline"]) for folder in used]
    of_row = np.repeat([place[folder.about["folder"]] for folder in used], lengths).astype(np.int64)
    return found.assign(**{name: firsts[name].array[of_row] for name in shared})[TIMELINE_COLUMNS]


def _concatenated(parts: Sequence[Columns], columns: Sequence[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in columns})


def _newest_returns(folders: Sequence[Folder], notes: list[str]) -> pd.DataFrame:
    """The rows of the newest run of each agent and scenario."""
    rows = _concatenate(folders, "returns")
    if rows.empty:
        return pd.DataFrame(columns=["scenario", *RETURNS_SCHEMA.names])
    winner = rows.groupby(CURVE_KEY).folder.transform("last")
    of_folder = rows.drop_duplicates("folder").set_index("folder")
    old = rows.assign(winner=winner)[rows.folder != winner]
    for (folder, scheduler, newer), _ in old.groupby(["folder", "scheduler", "winner"]):
        why = _what_differs(of_folder.loc[folder], of_folder.loc[newer])
        notes.append(f"{folder}: {scheduler} left out, made with other {why}: the newer {newer} counts")
    newest = rows[rows.folder == winner]
    of_hash = newest.drop_duplicates("scenario_hash", keep="last")
    worlds = [
        World(GYM_SCENARIO, "", {}, select_settings(of.settings, *GYM_KEYS), of.scenario_hash)
        for of in of_hash.itertuples()
    ]
    named = dict(zip(of_hash.scenario_hash, (scenario for scenario, _ in unique_names(worlds)), strict=True))
    newest = newest.assign(scenario=newest.scenario_hash.map(named))
    return newest.drop(columns=SELECTION_COLUMNS).reset_index(drop=True)


def _newest_capacities(folders: Sequence[Folder], notes: list[str]) -> pd.DataFrame:
    """The rows of the newest search of each scheduler, world and limit."""
    rows = _concatenate(folders, "capacity")
    if rows.empty:
        return pd.DataFrame(columns=CAPACITY_SCHEMA.names)
    rows["winner"] = rows.groupby([*CURVE_KEY, "at_most"]).folder.transform("last")
    of_folder = rows.drop_duplicates("folder").set_index("folder")
    old = rows[rows.folder != rows.winner]
    for (folder, scheduler, winner), _ in old.groupby(["folder", "scheduler", "winner"]):
        why = _what_differs(of_folder.loc[folder], of_folder.loc[winner])
        notes.append(f"{folder}: {scheduler} left out, made with other {why}: the newer {winner} counts")
    newest = rows[rows.folder == rows.winner]
    of_hash = newest.drop_duplicates("scenario_hash", keep="last")
    worlds = [
        World(of.scenario, of.workload, of.changes, select_settings(of.settings), of.scenario_hash, inputs=of.inputs)
        for of in of_hash.itertuples()
    ]
    named = dict(zip(of_hash.scenario_hash, unique_names(worlds), strict=True))
    names = {column: newest.scenario_hash.map({hash: name[place] for hash, name in named.items()})
             for place, column in enumerate(("scenario", "workload"))}  # fmt: skip
    return newest.assign(**names).drop(columns=[*SELECTION_COLUMNS, "winner"]).reset_index(drop=True)


def _trainings(folders: Sequence[Folder]) -> pd.DataFrame:
    """Rows of curves with the columns OF_TRAINING; no two worlds have one name, no two trainings one label in it."""
    rows = _concatenate(folders, "curves")
    if rows.empty:
        return pd.DataFrame(columns=[*CURVES_SCHEMA.names, *TRAINING_COLUMNS, "folder"])
    of_folder = rows.drop_duplicates("folder")
    worlds = of_folder.world.tolist()
    texts = [
        " ".join(filter(None, [*name, *world.cell])) for name, world in zip(unique_names(worlds), worlds, strict=True)
    ]
    learners = [
        world_of_learner(of.scheduler, text, of.settings, of.budget)
        for of, text in zip(of_folder.itertuples(), texts, strict=True)
    ]
    labels = [label for label, _ in unique_names(learners)]
    of_row = rows.folder.map({folder: place for place, folder in enumerate(of_folder.folder)})
    named = {"trained_on": np.array(texts, dtype=object)[of_row], "scheduler": np.array(labels, dtype=object)[of_row]}
    return rows.assign(**named).drop(columns=[*SELECTION_COLUMNS, "world"])


def _what_differs(old: pd.Series, new: pd.Series) -> str:
    """Name the settings (or the code) in which an older job differs from the newer one."""
    both = [{**job.settings, **job.inputs} for job in (old, new)]  # files differ where their content does
    words = [diff_text(both)] if old.variant.split()[0] != new.variant.split()[0] else []
    words += ["code"] * bool(old.code_version != new.code_version)
    return " and ".join(filter(None, words)) or "settings"


def _newest_evaluations(folders: Sequence[Folder], notes: list[str]) -> pd.DataFrame:
    """The rows of the newest settings and code of each scheduler and scenario; a repeated row counts once."""
    rows = _concatenate(folders, "eval")
    if rows.empty:
        return pd.DataFrame(columns=[*EVAL_SCHEMA.names, *JOB_COLUMNS])
    rows = _name_worlds(rows)
    current = rows.variant == rows.groupby(CURVE_KEY).variant.transform("last")
    kept = current & ~rows[current].duplicated(ROW_KEY, keep="last").reindex(rows.index, fill_value=False)
    rows["winner"] = rows.groupby(CURVE_KEY).folder.transform("last")
    of_folder = rows.drop_duplicates("folder").set_index("folder")
    old = rows[~kept].assign(repeated=current[~kept])
    for (folder, scheduler, winner, repeated), some in old.groupby(["folder", "scheduler", "winner", "repeated"]):
        other = _what_differs(of_folder.loc[folder], of_folder.loc[winner])
        why = "repeated there" if repeated else f"made with other {other}"
        notes.append(f"{folder}: {len(some)} rows of {scheduler} left out, {why}: the newer {winner} counts")
    if rows[kept].code_version.nunique() > 1:
        notes.append("results of different versions of the code stand side by side")
    of_name = ["scheduler", "scenario", "workload", "rule"]
    n_trainings = rows[kept].groupby(of_name).trained_by.transform("nunique")
    for (scheduler, *world), some in rows[kept][n_trainings > 1].groupby(of_name):
        trainings = some.drop_duplicates("trained_by").settings
        if len(trainings) > 1:
            what = diff_text(list(trainings), "train.") or "train"
            notes.append(f"{scheduler} in {' '.join(map(str, world))}: trained with different {what}")
    return rows[kept].drop(columns=[*SELECTION_COLUMNS, "winner"]).reset_index(drop=True)


def _name_worlds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the names of their scenarios and workloads: one for one world, whatever its commands stated."""
    groups = rows.groupby(SCENARIO, sort=False)
    worlds = [_world(ScenarioKey(*key), group) for key, group in groups[["folder", "changes", "settings", "inputs"]]]
    named = np.array(unique_names(worlds), dtype=object)[groups.ngroup()]
    return rows.assign(scenario=named[:, 0], workload=named[:, 1])


def _world(key: ScenarioKey, group: pd.DataFrame) -> World:
    """The world of rows; of the names of its jobs the least counts, for a longer one may state a default."""
    of_folders = group.drop_duplicates("folder")
    settings = select_settings(of_folders.settings.iloc[-1])
    cell = str(key.rule), load_text(key.load)
    same = [
        World(key.scenario, key.workload, changes, settings, key.scenario_hash, cell, inputs)
        for changes, inputs in zip(of_folders.changes, of_folders.inputs, strict=True)
    ]
    return min(same, key=World.names)
