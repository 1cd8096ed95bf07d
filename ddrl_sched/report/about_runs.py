"""Tables about the runs behind a report: how to repeat them, in what their settings differ, code, packages, time."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ddrl_sched.config import clean
from ddrl_sched.jobs.schemas import JobRecord, TrainingRecord
from ddrl_sched.key_value import key_value
from ddrl_sched.report.budgets import training_command
from ddrl_sched.report.load import Loaded
from ddrl_sched.report.settings_diff import FlatSettings, diff_keys, flatten, truncate
from ddrl_sched.report.table import Cell, Column, Row, Table
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey

NOT_TOLD = ("name", "baselines", "scheduler.name")  # keys that only name
OF_COLUMNS = ("env.rule", "workload.load")  # keys that the titles of tables show
MAX_KEYS, MAX_VALUES = 60, 6  # that are listed
MAX_COMMANDS = 200
MAX_WORD = 300  # characters of a word of a command
Jobs = Mapping[str, JobRecord]  # by folder


def about_runs(found: Loaded) -> list[Table]:
    """The tables that have something to tell."""
    if not found.jobs:
        return []
    return [_commands(found), *_differences(found.jobs), _scenarios(found), _software(found.jobs), _time(found.jobs)]


def _commands(found: Loaded) -> Table:
    """A command line for each world and load, that runs all its schedulers again, and where its weights come from."""
    rows: list[Row] = []
    for key, group in found.rows.groupby(SCENARIO, sort=False) if len(found.rows) else ():
        jobs = [found.jobs[folder] for folder in dict.fromkeys(group.folder)]
        rows += [Row((Cell(ScenarioKey(*key).title()), Cell(line))) for line in commands(jobs)]
    for scenario, group in found.returns.groupby("scenario") if len(found.returns) else ():
        jobs = [found.jobs[folder] for folder in dict.fromkeys(group.folder)]
        rows += [Row((Cell(str(scenario)), Cell(line))) for line in commands(jobs)]
    capacities = found.capacities
    for (scenario, workload), group in capacities.groupby(["scenario", "workload"]) if len(capacities) else ():
        jobs = [found.jobs[folder] for folder in dict.fromkeys(group.folder)]
        rows += [Row((Cell(f"{scenario}, workload {workload}: highest load"), Cell(line))) for line in commands(jobs)]
    notes = ["Run them where the code version is the one below, then `ddrl report` on the folder that they wrote."]
    notes += trained_folders(list(found.jobs.values()))
    if len(rows) > MAX_COMMANDS:
        notes.append(f"{len(rows) - MAX_COMMANDS} more are left out; every job.json holds its own words.")
    columns = Column("table", "table", "text"), Column("command", "command", "text")
    return Table("commands", "Commands that repeat each table", columns, tuple(rows[:MAX_COMMANDS]), tuple(notes))


def commands(jobs: Sequence[JobRecord]) -> list[str]:
    """Command lines that run these jobs again: one for all schedulers whose other words are the same.

    Jobs that evaluated weights of an earlier training name its folder, which trained_folders explains.
    """
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for job in jobs:
        words = [truncate(clean(word), MAX_WORD) for word in job["overrides"] if _key(clean(word)) != "runs_dir"]
        if job["training"] is not None:
            found["ddrl", "eval", "--run", _trained_in(job["training"]), *sorted(words)] = []
            continue
        rest = tuple(sorted(word for word in words if _key(word) != "scheduler"))
        names = found["ddrl", "sweep", *rest]
        names += [word.partition("=")[2] for word in words if _key(word) == "scheduler"]
    return [shlex.join([*line[:2], *_of_schedulers(names), *line[2:]]) for line, names in found.items()]


def _of_schedulers(names: Sequence[str]) -> list[str]:
    return [f"scheduler={','.join(dict.fromkeys(names))}"] if names else []


def trained_folders(jobs: Sequence[JobRecord]) -> list[str]:
    """A sentence for each earlier training whose weights were evaluated: which folder commands mean, what makes it."""
    trainings = {of["job_id"]: of for job in jobs if (of := job["training"]) is not None}
    return [
        f"{_trained_in(of)}: put the folder {truncate(clean(name), MAX_WORD)}, one of those that "
        f"`{training_command(of['overrides'])}` makes."
        for name, of in sorted(trainings.items())
    ]


def _trained_in(training: TrainingRecord) -> str:
    return f"RUN_{truncate(clean(training['job_id']), MAX_WORD)}"


def _key(word: str) -> str:
    return key_value(word).key


def _differences(jobs: Jobs) -> Iterator[Table]:
    """Keys in which jobs differ: those of a scheduler among jobs of one label, all others among all jobs."""
    flat = {folder: flatten(job["settings"]) for folder, job in jobs.items()}
    rows = _rows_of_keys("all", list(flat.values()), beside="scheduler.")
    by_label: dict[str, list[FlatSettings]] = defaultdict(list)
    for folder, job in jobs.items():
        by_label[clean(job["scheduler"])].append(flat[folder])
    for label, some in sorted(by_label.items()):
        rows += _rows_of_keys(label, some, only="scheduler.")
    columns = (
        Column("runs", "among the runs of", "text"), Column("key", "key", "text"), Column("values", "values", "text"),
    )  # fmt: skip
    notes = [] if len(rows) <= MAX_KEYS else [f"{len(rows) - MAX_KEYS} more keys differ."]
    if not rows:
        notes = ["The runs differ in nothing but their schedulers, loads and names."]
    yield Table("settings", "What differs between the settings of the runs", columns, tuple(rows[:MAX_KEYS]),
                tuple(notes))  # fmt: skip


def _rows_of_keys(label: str, some: Sequence[FlatSettings], only: str = "", beside: str = "\0") -> list[Row]:
    keys = [key for key in diff_keys(some, only) if not key.startswith(beside) and key not in NOT_TOLD + OF_COLUMNS]
    return [Row((Cell(label), Cell(clean(key)), Cell(_values(some, key)))) for key in keys]


def _values(some: Sequence[FlatSettings], key: str) -> str:
    """ "2 (6 runs), 100 (3 runs), not set (1 run)", the most frequent first."""
    counts = Counter(of.get(key, "not set") for of in some).most_common()
    told = [f"{clean(value)} ({_runs(n)})" for value, n in counts[:MAX_VALUES]]
    return ", ".join(told) + (f", and {len(counts) - MAX_VALUES} more values" if len(counts) > MAX_VALUES else "")


def _runs(n: int) -> str:
    return f"{n:,} run{'s' * (n != 1)}"


def _scenarios(found: Loaded) -> Table:
    """The hash of every world; two tables of one hash and load are the same world."""
    columns = Column("table", "table", "text"), Column("hash", "scenario hash", "text"), Column("runs", "runs", "count")
    rows = []
    for key, group in found.rows.groupby(SCENARIO, sort=False) if len(found.rows) else ():
        world = ScenarioKey(*key)
        rows.append(Row((Cell(world.title()), Cell(world.scenario_hash), Cell(group.folder.nunique()))))
    return Table("hashes", "Scenarios", columns, tuple(rows))


def _software(jobs: Jobs) -> Table:
    """Versions of the code and of packages, with the number of runs where they differ; those without one are not."""
    columns = Column("name", "name", "text"), Column("version", "version", "text")
    of_each: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs.values():
        of_each["code (hash)"][clean(job["code_version"])[:16]] += 1
        versions = {*job["packages"].items(), *job["numerics"].items()}  # both may tell of the same package
        for name, version in sorted(versions, key=str):
            if version is not None:
                of_each[truncate(clean(name), 60)][truncate(clean(version), 60)] += 1
    rows = []
    for name, counts in of_each.items():
        told = [value if len(counts) == 1 else f"{value} ({_runs(n)})" for value, n in counts.most_common(MAX_VALUES)]
        rows.append(Row((Cell(name), Cell(", ".join(told)))))
    return Table("software", "Code and packages", columns, tuple(rows))


def _time(jobs: Jobs) -> Table:
    """CPU time by scheduler, training and evaluation together."""
    columns = (
        Column("scheduler", "scheduler", "text"), Column("runs", "runs", "count"),
        Column("cpu", "CPU time", unit="min", scale=1 / 60), Column("wall", "wall time", unit="min", scale=1 / 60),
    )  # fmt: skip
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for job in jobs.values():
        for of in (sums[clean(job["scheduler"])], sums["all"]):
            of[0] += 1
            of[1] += job["cpu_s"] or 0.0
            of[2] += job["duration_s"] or 0.0
    every = sums.pop("all")
    ranked = [*sorted(sums.items(), key=lambda item: (-item[1][1], item[0])), ("all", every)]
    rows = tuple(Row((Cell(name), Cell(int(of[0])), Cell(of[1]), Cell(of[2]))) for name, of in ranked)
    notes = ("Trained and evaluated; a training that several runs share is counted where it was made.",)
    return Table("time", "CPU time", columns, rows, notes)
