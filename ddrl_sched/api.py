"""The program from Python: the same settings, checks and errors as on the command line, results as DataFrames.

`import ddrl_sched as ddrl` has these functions, and ddrl.report (report/__init__.py); nothing heavy is loaded before
one is called.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddrl_sched.config import InputError
from ddrl_sched.failures import BAD_INPUT, ExplainedError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ddrl_sched.compose import Job
    from ddrl_sched.jobs.request import Command, Flags

Value = str | int | float | bool | None | Sequence[float]
Paths = str | Path | Sequence[str | Path]
TABLES = ("eval.parquet", "capacity.parquet")  # an evaluation has one of them


def evaluate(
    scheduler: str | None = None,
    *,
    env: str | None = None,
    workload: str | None = None,
    load: float | None = None,
    traces: int | None = None,
    run: str | Path | None = None,
    runs_dir: str | Path | None = None,
    **settings: Value,
) -> "pd.DataFrame":
    """Evaluate a scheduler on held-out traces: one row for each seed and trace, columns of eval.parquet.

    `scheduler`, `env`, `workload`: names of yaml files (`ddrl list`); `load`: offered load; `run`: run folder of
    trained weights. Further `settings` by their keys, with __ for the dot: evaluate("priced", scheduler__congestion=2).
    With capacity="p99": the loads of that search, columns of capacity.parquet.
    Results stay in `runs_dir`, or are dropped (None). Raises InputError as the command line would print it.
    """
    from ddrl_sched.jobs.request import Flags

    given = {"scheduler": scheduler, "env": env, "workload": workload, "workload.load": load, "evaluate.traces": traces}
    flags = Flags(run=None if run is None else Path(run).resolve())
    return _rows(command_words(given, settings), "eval", flags, runs_dir)


def train(
    scheduler: str,
    *,
    env: str | None = None,
    workload: str | None = None,
    budget: str | None = None,
    seeds: int | None = None,
    runs_dir: str | Path = "runs",
    **settings: Value,
) -> Path:
    """Train a learned scheduler; the run folder with its weights and curves.

    `budget`: name of a yaml of the group `train`. The rest as of `evaluate`. A training that is done is not repeated.
    """
    from ddrl_sched.jobs.request import Flags

    given = {"scheduler": scheduler, "env": env, "workload": workload, "train": budget, "seeds": seeds}
    words = [*command_words(given, settings), f"runs_dir={_quoted(str(Path(runs_dir).resolve()))}"]
    return _folder(_job(words, "train", Flags()))


def load(paths: Paths) -> "pd.DataFrame":
    """The evaluations of all run folders at or below some paths, one row for each seed and trace.

    Of several runs of one scheduler in one scenario the newest counts. Raises InputError where a path is missing.
    """
    from ddrl_sched.report.load import load as read
    from ddrl_sched.report.load import print_notes

    found = read(_listed(paths))
    print_notes(found)
    return found.rows


def table(paths: Paths, baselines: Sequence[str] = ()) -> "pd.DataFrame":
    """The table of `ddrl report`: a row for each scheduler, scenario and baseline, means with paired 95 % intervals."""
    from ddrl_sched.report import report

    return report(paths, baselines).frames["rows"]


def figure(paths: Paths, name: str, baselines: Sequence[str] = ()) -> "Figure":
    """One figure of the page of `ddrl report --format html`, as a Figure of matplotlib.

    `name`: that of its files, as "delay-by-load". InputError naming the figures that these results have.
    """
    from ddrl_sched.report.compute import read, report_of
    from ddrl_sched.report.draw import picture
    from ddrl_sched.report.load import print_notes
    from ddrl_sched.report.page import chart_of

    found = read(_listed(paths), "results", figures=True)
    try:
        return picture(chart_of(report_of(found, _listed(paths), baselines, "results"), name))
    finally:
        print_notes(found)


def _rows(words: list[str], command: "Command", flags: "Flags", runs_dir: str | Path | None) -> "pd.DataFrame":
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="ddrl-") as folder:
        place = folder if runs_dir is None else str(Path(runs_dir).resolve())
        job = _job([*words, f"runs_dir={_quoted(place)}"], command, flags)
        found = [_folder(job) / name for name in TABLES]
        return pd.read_parquet(next(file for file in found if file.exists()))


def _job(words: list[str], command: "Command", flags: "Flags") -> "Job":
    """Do the one job that the words stand for. Raises InputError, or ExplainedError for what is no fault of them."""
    from ddrl_sched.compose import compose
    from ddrl_sched.launch import run_jobs
    from ddrl_sched.overrides import check_words

    check_words(words)
    (job,) = run_jobs(compose(command, words, flags), quiet=True)
    assert job.result is not None
    if job.result.code == BAD_INPUT:
        raise InputError(job.result.message)
    if job.result.code:
        raise ExplainedError(job.result.message)
    return job


def _folder(job: "Job") -> Path:
    from ddrl_sched.jobs.state import done_folder

    assert job.spec is not None
    folder = done_folder(job.spec)
    assert folder is not None
    return folder


def command_words(given: Mapping[str, Value], settings: Mapping[str, Value]) -> list[str]:
    """Words of a command line; what is None is left as the yaml files have it. __ in `settings` is a dot."""
    words: dict[str, Value] = {key: value for key, value in given.items() if value is not None}
    words |= {key.replace("__", "."): value for key, value in settings.items()}
    return [f"{key}={_text(value)}" for key, value in words.items()]


def _text(value: Value) -> str:
    """A value as the command line spells it; a text stays as it is, for it may be the name of a yaml or a list."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return f"[{','.join(map(_text, value))}]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _listed(paths: Paths) -> list[str | Path]:
    return [paths] if isinstance(paths, str | Path) else list(paths)
