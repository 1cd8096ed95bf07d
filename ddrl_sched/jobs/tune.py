"""Hyperparameter search: Optuna proposes settings of one scheduler, every trial is a job with a run folder of its own.

A study is a file below <runs_dir>/<name>/studies; started again it goes on to `n_trials`, and several processes may
work on it at the same time. After every trial trials/<scheduler>.csv and best/scheduler/<scheduler>_best.yaml are
written; `--config-dir <runs_dir>/<name>/best` makes the latter a choice of the scheduler group.
"""

import copy
import csv
import io
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from ddrl_sched.config import InputError, validate
from ddrl_sched.extras import require
from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.jobs.content import by_content, content_hash
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES
from ddrl_sched.jobs.scheduling import Job, plan_job, prepare, run_job
from ddrl_sched.jobs.search_space import (
    Choices,
    HalvingPruner,
    MedianPruner,
    Span,
    TuneSettings,
    changed,
    check_ends,
    space_of,
)
from ddrl_sched.jobs.strict_json import check_plain
from ddrl_sched.labels import with_changes
from ddrl_sched.run.train import Progress
from ddrl_sched.saving import make_folder
from ddrl_sched.seeding import stream

JOB, ERROR, NOTE = "job_id", "error", "note"  # attributes of a trial: its job, why it failed, how it ended early
MAX_LINE_BYTES = 1 << 20  # of a study on disk, where lines have some hundred
DIGITS = 3  # significant ones of a proposed number


class Pruned(Exception):  # noqa: N818  not an error
    """A trial is not worth its end."""


@dataclass(frozen=True)
class Search:
    """One study: what is varied around which job, and where it is kept."""

    settings: TuneSettings
    data: dict[str, Any]  # composed config of the job, with the traces of the search
    options: dict[str, Any]  # for its trials
    space: dict[str, Span | Choices]  # dotted key of the scheduler's yaml -> its values
    job: Job
    study_id: str
    folder: Path  # of the experiment

    @property
    def file(self) -> str:
        """Name of the scheduler in file names."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", self.job.asked.label)

    @property
    def journal(self) -> Path:
        """The study on disk."""
        return self.folder / "studies" / f"{self.file}-{self.study_id}.journal"


def tune(data: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Run trials until the study has `n_trials`. Returns "done", or "skipped" if it had them.

    Raises InputError for wrong settings or a study of another code version, RuntimeError if no trial finished.
    """
    optuna = require("optuna", "optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = _search(data, options)
    study = _study(optuna, search, accept_code=bool(options.get("accept_code")))
    ran = 0
    while (asked := _ask(optuna, study, search)) is not None:
        trial, claim = asked
        try:
            _run(optuna, study, trial, search)
        finally:
            _release(claim)
        ran += 1
        _write_results(study, search)
    if not _finished(study) and all(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
        raise RuntimeError(f"no trial of {search.job.asked.label} finished ({search.folder / 'trials'})")
    return "done" if ran else "skipped"


def plan_tune(data: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """As jobs.scheduling.plan_job, for a whole study. Raises InputError."""
    optuna = require("optuna", "optuna", "tune")
    search = _search(data, options)
    n_counted = 0
    if search.journal.exists():
        study = _study(optuna, search, accept_code=bool(options.get("accept_code")))
        n_counted = _n_counted(study.get_trials(deepcopy=False))
    left = max(0, search.settings.n_trials - n_counted)
    one = plan_job(search.data, "sweep", search.options)
    state = "to do" if not n_counted else f"{n_counted} of {search.settings.n_trials} trials" if left else "done"
    return {**one, "job_id": search.study_id, "state": state, "estimate_s": (one["estimate_s"] or 0.0) * left}


# Settings


def _search(data: Mapping[str, Any], options: Mapping[str, Any]) -> Search:
    settings = validate(TuneSettings, data["tune"], "tune")
    check_plain({"tune": settings.model_dump()}, [])
    job_data = copy.deepcopy({key: value for key, value in data.items() if key != "tune"})
    if job_data["evaluate"]["seed"] == settings.evaluate_seed:
        raise InputError("tune.evaluate_seed: must differ from evaluate.seed, whose traces are held out")
    job_data["evaluate"]["seed"] = settings.evaluate_seed
    job = prepare(job_data, "sweep", {})
    if job.problem.plan.trace is not None:
        raise InputError("tune: the evaluation windows of a trace are held out; search with synthetic arrivals")
    space = space_of(settings, job_data["scheduler"])
    check_ends(space, job_data["scheduler"])
    varied = {key: values.model_dump() for key, values in space.items()}
    constant = {key: value for key, value in settings.model_dump().items() if key not in ("n_trials", "space")}
    fixed = by_content(job.asked.settings.model_dump(exclude={"name", "baselines"}))
    study_id = records.canonical_hash([job.asked.label, fixed, constant, varied, content_hash(job.problem.inputs)])[:8]
    trial_options = {**options, "retry_failed": True, "accept_code": False, "wait": True}
    return Search(settings, job_data, trial_options, space, job, study_id, job.asked.folder.parent)


# The study


def _study(optuna: Any, search: Search, *, accept_code: bool) -> Any:
    """The study on disk, made if it is not there. InputError if another version of the code began it."""
    journal = optuna.storages.journal
    make_folder(search.journal.parent)
    with FileLock(search.journal.with_suffix(".lock")):  # one process at a time
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(
                journal.JournalFileBackend(str(search.journal), Writing(search.journal))
            ),
            study_name=search.study_id,
            pruner=_pruner(optuna, search),
            direction="minimize",
            load_if_exists=True,
        )
        began_with = study.user_attrs.get("code_version")
        if began_with is None:
            study.set_user_attr("code_version", records.code_version())
        elif began_with != records.code_version() and not accept_code:
            raise InputError(
                f"the study of {search.job.asked.label} was begun with another version of the code ({search.journal}): "
                "--accept-code continues it, another name= begins a new one"
            )
    return study


def _pruner(optuna: Any, search: Search) -> Any:
    chosen = search.settings.pruner
    if isinstance(chosen, MedianPruner):
        return optuna.pruners.MedianPruner(chosen.startup_trials, chosen.warm_up_episodes)
    if isinstance(chosen, HalvingPruner):
        return optuna.pruners.SuccessiveHalvingPruner(chosen.first_episodes, chosen.reduction)
    return optuna.pruners.NopPruner()


class Writing:
    """The lock under which a study is written, which ends with its process; a line that was not ended is cut off."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(journal.with_suffix(".writing"))

    def acquire(self) -> bool:
        """Wait for our turn. What stands behind the last newline would spoil the line that we add."""
        self._lock.acquire()
        with open(self._journal, "rb+") as file:
            end = file.seek(0, io.SEEK_END)
            file.seek(max(0, end - MAX_LINE_BYTES))
            tail = file.read()
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                file.truncate(end - len(tail) + whole)
        return True

    def release(self) -> None:
        """Let others write."""
        self._lock.release()


def _ask(optuna: Any, study: Any, search: Search) -> tuple[Any, FileLock] | None:
    """The next trial and our claim on it. None if there are enough.

    What is proposed depends on tune.seed and the trials so far alone, and a trial whose process died goes on as if it
    had never stopped, with all that it has reported; so does the study.
    """
    with FileLock(search.journal.with_suffix(".lock")):  # one process at a time
        if (lost := _lost(optuna, study, search)) is not None:
            return lost
        n_counted = _n_counted(study.get_trials(deepcopy=False))
        if n_counted >= search.settings.n_trials:
            return None
        seed = int(stream(search.settings.seed, "tune", n_counted).integers(2**32))
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=search.settings.startup_trials, seed=seed)
        trial = study.ask({key: _distribution(optuna, values) for key, values in search.space.items()})
        claim = _claim(search, trial.number)
        assert claim is not None  # its number is new
        return trial, claim


def _n_counted(trials: list[Any]) -> int:
    """Trials that count against n_trials: not those whose process died before all their settings were proposed."""
    return sum(trial.state.name != "FAIL" or ERROR in trial.user_attrs for trial in trials)


def _lost(optuna: Any, study: Any, search: Search) -> tuple[Any, FileLock] | None:
    """A trial that a process was working on that is no longer there, and our claim on it."""
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        claim = _claim(search, trial.number)
        if claim is None:
            continue
        if trial.params.keys() == search.space.keys():
            return optuna.trial.Trial(study, trial._trial_id), claim
        study.tell(trial.number, state=states.FAIL)  # the same settings are proposed anew
        _release(claim)
    return None


def _distribution(optuna: Any, values: Span | Choices) -> Any:
    """Choices are proposed by their index, so that they may be lists."""
    if isinstance(values, Choices):
        return optuna.distributions.CategoricalDistribution(range(len(values.choices)))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return optuna.distributions.IntDistribution(values.low, values.high, log=values.log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)


def _claim(search: Search, number: int) -> FileLock | None:
    """Our hold on a trial, which ends with this process, whatever ends that; None if a living process has it."""
    lock = FileLock(search.journal.with_suffix(f".{number}.claim"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _release(claim: FileLock) -> None:
    Path(claim.lock_file).unlink(missing_ok=True)
    claim.release()


# A trial


def _run(optuna: Any, study: Any, trial: Any, search: Search) -> None:
    """Run a trial as a job and tell the study how it ended, refused settings included.

    Raises OSError, and InputError where the job would be refused whatever is proposed.
    """
    states = optuna.trial.TrialState
    reported = study.trials[trial.number].intermediate_values  # by a process that died

    def watch(progress: Progress) -> None:
        delay_s = progress.delay_s[~np.isnan(progress.delay_s)]
        if len(delay_s) == 0:  # an episode of a real trace may hold no task
            return
        if progress.episode not in reported:
            trial.report(float(delay_s.mean()), progress.episode)
        if progress.episode >= max(reported, default=0) and trial.should_prune():
            raise Pruned(f"after {progress.episode + 1} of {search.job.asked.settings.train.episodes} episodes")

    data = _trial_data(search, trial.params)
    try:
        job = prepare(data, "sweep", {})
        trial.set_user_attr(JOB, job.asked.job_id)
        run_job(data, "sweep", {**search.options, "watch": watch})
        value = _objective_s(job.asked.folder)
    except Pruned as why:
        checkpoint.discard(job.asked.folder)
        trial.set_user_attr(NOTE, f"pruned {why}")
        study.tell(trial, state=states.PRUNED)
    except OSError:  # the disk is full, ...: the trial is not to blame and is repeated
        raise
    except Exception as error:
        if isinstance(error, InputError) and not _still_holds(search):
            raise
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
        study.tell(trial, state=states.FAIL)
        print(f"{data['label']}: {type(error).__name__}: {error}", file=sys.stderr)
    else:
        study.tell(trial, value)


def _still_holds(search: Search) -> bool:
    """Whether the job without what is proposed is what it was: an input file may have changed. Raises InputError."""
    return prepare(search.data, "sweep", {}).asked.job_id == search.job.asked.job_id


def _trial_data(search: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """The job of a trial: the scheduler's keys changed, and named after them."""
    changes = _changes(search, params)
    data = copy.deepcopy(search.data)
    data["scheduler"] = changed(data["scheduler"], changes)
    words = {f"scheduler.{path}": str(value).replace(" ", "") for path, value in changes.items()}
    data["label"] = with_changes(search.data["label"], words)
    data["overrides"] = [*search.data["overrides"], *(f"{path}={value}" for path, value in words.items())]
    return data


def _changes(search: Search, params: Mapping[str, Any]) -> dict[str, Any]:
    """{key of the scheduler: value} of what Optuna proposed."""
    changes: dict[str, Any] = {}
    for path, values in search.space.items():
        value = params[path]
        if isinstance(values, Choices):
            changes[path] = values.choices[value]
        else:
            changes[path] = value if isinstance(value, int) else _rounded(value, *values.ends)
    return changes


def _rounded(value: float, low: float, high: float) -> float:
    """A proposed number of DIGITS digits that is not beyond its span."""
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def _objective_s(folder: Path) -> float:
    """Mean delay of a finished trial over its seeds and traces."""
    table = records.read_verified(folder, "eval.parquet", records.read_manifest(folder), MAX_TABLE_BYTES)
    return float(pd.read_parquet(io.BytesIO(table), columns=["mean_delay_s"])["mean_delay_s"].mean())


# Results


def _write_results(study: Any, search: Search) -> None:
    """The table of all trials, and the best settings as a yaml of the scheduler group."""
    records.write_bytes(search.folder / "trials" / f"{search.file}.csv", _table(study, search).encode())
    finished = _finished(study)
    if finished:
        best = min(finished, key=lambda trial: (trial.value, trial.number))
        file = search.folder / "best" / "scheduler" / f"{search.file}_best.yaml"
        records.write_bytes(file, _best_yaml(best, len(finished), search).encode())


def _finished(study: Any) -> list[Any]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _table(study: Any, search: Search) -> str:
    """One line per trial that ended: number, state, mean delay, job and settings."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "mean_delay_s", "job_id", *search.space, "note"])
    for trial in study.get_trials(deepcopy=False):
        note = trial.user_attrs.get(ERROR) or trial.user_attrs.get(NOTE, "")
        if not trial.state.is_finished() or (trial.state.name == "FAIL" and not note):
            continue
        changes = _changes(search, trial.params)
        value = "" if trial.value is None or trial.state.name != "COMPLETE" else repr(trial.value)
        job_id = trial.user_attrs.get(JOB, "")  # none where its settings were refused
        rows.writerow([trial.number, trial.state.name.lower(), value, job_id, *changes.values(), note])
    return text.getvalue()


def _best_yaml(best: Any, n_finished: int, search: Search) -> str:
    job, settings = search.job, search.settings
    world = f"{job.problem.env.name}, {job.problem.workload.name}, load {job.problem.plan.demand.load:g}"
    value = f"mean delay {best.value:.5g} s on the traces of the search"
    head = [
        f"# {job.asked.label}, settings found by a search in {world}",
        f"# trial {best.number} of {settings.n_trials} ({n_finished} trained to their end), {job.asked.settings.seeds} "
        f"seeds, {job.asked.settings.train.episodes} episodes: {value}",
    ]
    scheduler = _trial_data(search, best.params)["scheduler"]
    return "\n".join([*head, yaml.safe_dump(scheduler, sort_keys=False, default_flow_style=None)])
