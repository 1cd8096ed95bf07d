"""Hyperparameter search: Optuna proposes settings of one scheduler, every trial is a job with a run folder of its own.

A study is a file below <runs_dir>/<name>/studies; started again it goes on to `n_trials`, and several processes may
work on it at the same time. After every trial trials/<scheduler>.csv and best/scheduler/<scheduler>_best.yaml are
written; `--config-dir <runs_dir>/<name>/best` makes the latter a choice of the scheduler group.
"""

import copy
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import yaml  # type: ignore[import-untyped]

from ddrl_sched.config import InputError, validate
from ddrl_sched.display import note
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs import checkpoint, records, scheduling
from ddrl_sched.jobs import resolve as scheduling_settings
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES
from ddrl_sched.jobs.request import Ending, Flags, JobSpec, Plan, Request
from ddrl_sched.jobs.scheduling import SchedulingJob
from ddrl_sched.jobs.search_space import Choices, Space, TuneSettings, changed, check_ends, space_of
from ddrl_sched.jobs.strict_json import check_plain
from ddrl_sched.jobs.tune_study import (
    ERROR,
    JOB,
    NOTE,
    StudyFile,
    finished,
    n_counted,
    next_trial,
    open_study,
    optuna,
    release,
)
from ddrl_sched.labels import with_changes
from ddrl_sched.run.inputs import by_content, content_hash
from ddrl_sched.run.settings import JobSettings
from ddrl_sched.run.train import Progress

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from ddrl_sched.jobs.training import Watch

DIGITS = 3  # significant ones of a proposed number


class Pruned(Exception):  # noqa: N818  not an error
    """A trial is not worth its end."""


@dataclass(frozen=True)
class Search:
    """One study: what is varied around which job, and where it is kept."""

    settings: TuneSettings
    request: Request  # of the job, with the traces of the search
    spec: JobSpec[JobSettings]  # of the job as it is before anything is varied
    space: Space  # dotted key of the scheduler's yaml -> its values
    study_id: str

    @property
    def folder(self) -> Path:
        """The folder of the experiment."""
        return self.spec.folder.parent

    @property
    def name(self) -> str:
        """Name of the scheduler in file names."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", self.spec.label)

    @property
    def file(self) -> StudyFile:
        """The study on disk."""
        journal = self.folder / "studies" / f"{self.name}-{self.study_id}.journal"
        return StudyFile(journal, self.study_id, self.spec.label, self.settings, self.space)


def resolve(request: Request) -> JobSpec[TuneSettings]:
    """Validate a request for a search and name its study. Raises InputError naming keys."""
    search = _search(request)
    return JobSpec(
        kind="tune",
        request=request,
        settings=search.settings,
        label=request.label,
        overrides=request.overrides,
        job_id=search.study_id,
        folder=search.folder,
        identity={},
        learns=search.spec.learns,
        own_class=search.spec.own_class,
        world=search.spec.world,
    )


def check(spec: JobSpec[TuneSettings]) -> None:
    """Build the job around which is searched. Raises InputError."""
    scheduling.check(_search(spec.request).spec)


def plan(spec: JobSpec[TuneSettings]) -> Plan:
    """What is known of the search before it goes on. Raises InputError."""
    search, counted = _search(spec.request), 0
    optuna()
    if search.file.journal.exists():
        study = open_study(search.file, accept_code=spec.flags.accept_code)
        counted = n_counted(study.get_trials(deepcopy=False))
    left = max(0, search.settings.n_trials - counted)
    one = scheduling.plan(search.spec)
    state = "to do" if not counted else f"{counted} of {search.settings.n_trials} trials" if left else "done"
    return replace(one, job_id=search.study_id, state=state, estimate_s=(one.estimate_s or 0.0) * left)


def run(spec: JobSpec[TuneSettings]) -> Ending:
    """Run trials until the study has `n_trials`: "done", or "skipped" if it had them.

    Raises InputError for wrong settings or a study of another code version, RuntimeError if no trial finished.
    """
    optuna()
    search = _search(spec.request)
    job = scheduling.build(search.spec)
    study = open_study(search.file, accept_code=spec.flags.accept_code)
    ran = 0
    while (taken := next_trial(study, search.file)) is not None:
        trial, held = taken
        try:
            _run(study, trial, search)
        finally:
            release(held)
        ran += 1
        _write_results(study, search, job)
    if not finished(study) and all(trial.state.is_finished() for trial in study.get_trials(deepcopy=False)):
        raise RuntimeError(f"no trial of {spec.label} finished ({search.folder / 'trials'})")
    return "done" if ran else "skipped"


def _search(request: Request) -> Search:
    """The study of a request. Raises InputError naming keys."""
    settings = validate(TuneSettings, cast(Mapping[str, object], request.data["tune"]), "tune")
    check_plain({"tune": settings.model_dump()}, [])
    job_request = _on_other_traces(request, settings)
    spec = scheduling_settings.resolve(job_request)
    if spec.settings.workload.arrivals.kind == "trace":
        raise InputError("tune: the evaluation windows of a trace are held out; search with synthetic arrivals")
    scheduler = spec.settings.scheduler
    space = space_of(settings, scheduler)
    check_ends(space, scheduler)
    varied = {key: values.model_dump() for key, values in space.items()}
    constant = settings.model_dump(exclude={"n_trials", "space"})
    fixed = by_content(spec.settings.model_dump(exclude={"name", "baselines"}))
    study_id = canonical_hash([spec.label, fixed, constant, varied, content_hash(spec.inputs)])[:8]
    return Search(settings, job_request, spec, space, study_id)


def _on_other_traces(request: Request, settings: TuneSettings) -> Request:
    """The job that is searched around, evaluated on traces that are not the held-out ones."""
    evaluation = request.data.get("evaluate")
    if not isinstance(evaluation, Mapping):
        raise InputError("evaluate: a group of keys expected")
    if evaluation.get("seed") == settings.evaluate_seed:
        raise InputError("tune.evaluate_seed: must differ from evaluate.seed, whose traces are held out")
    data = {key: value for key, value in request.data.items() if key != "tune"}
    data["evaluate"] = {**evaluation, "seed": settings.evaluate_seed}
    flags = Flags(retry_failed=True, try_out=request.flags.try_out, debug=request.flags.debug)
    return replace(request, data=data, flags=flags)


# A trial


def _run(study: "Study", trial: "Trial", search: Search) -> None:
    """Run a trial as a job and tell the study how it ended, refused settings included.

    Raises OSError, and InputError where the job would be refused whatever is proposed.
    """
    states = optuna().trial.TrialState
    request = _trial_request(search, trial.params)
    folder: Path | None = None
    try:
        spec = scheduling_settings.resolve(request)
        folder = spec.folder
        scheduling.build(spec)
        trial.set_user_attr(JOB, spec.job_id)
        scheduling.run(spec, _watching(study, trial, search))
        value = _objective_s(folder)
    except Pruned as why:
        assert folder is not None
        checkpoint.discard(folder)
        trial.set_user_attr(NOTE, f"pruned {why}")
        study.tell(trial, state=states.PRUNED)
    except OSError:  # the disk is full, ...: the trial is not to blame and is repeated
        raise
    except Exception as error:
        if isinstance(error, InputError) and not _still_holds(search):
            raise
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
        study.tell(trial, state=states.FAIL)
        note(f"{request.label}: {type(error).__name__}: {error}")
    else:
        study.tell(trial, value)


def _watching(study: "Study", trial: "Trial", search: Search) -> "Watch":
    """What is told of every episode of a trial, and ends one that is not worth its end by Pruned."""
    reported = study.trials[trial.number].intermediate_values  # by a process that died

    def watch(progress: Progress) -> None:
        delay_s = progress.delay_s[~np.isnan(progress.delay_s)]
        if len(delay_s) == 0:  # an episode of a real trace may hold no task
            return
        if progress.episode not in reported:
            trial.report(float(delay_s.mean()), progress.episode)
        if progress.episode >= max(reported, default=0) and trial.should_prune():
            raise Pruned(f"after {progress.episode + 1} of {search.spec.settings.train.episodes} episodes")

    return watch


def _still_holds(search: Search) -> bool:
    """Whether the job without what is proposed is what it was: an input file may have changed. Raises InputError."""
    spec = scheduling_settings.resolve(search.request)
    scheduling.build(spec)
    return spec.job_id == search.spec.job_id


def _trial_request(search: Search, params: Mapping[str, object]) -> Request:
    """The job of a trial: the scheduler's keys changed, and named after them."""
    changes, request = _changes(search, params), search.request
    scheduler = request.data["scheduler"]
    assert isinstance(scheduler, Mapping)
    data = {**copy.deepcopy(dict(request.data)), "scheduler": changed(scheduler, changes)}
    words = {f"scheduler.{path}": str(value).replace(" ", "") for path, value in changes.items()}
    overrides = [*request.overrides, *(f"{path}={value}" for path, value in words.items())]
    return replace(request, data=data, label=with_changes(request.label, words), overrides=overrides)


def _changes(search: Search, params: Mapping[str, object]) -> dict[str, object]:
    """{key of the scheduler: value} of what Optuna proposed."""
    changes: dict[str, object] = {}
    for path, values in search.space.items():
        value = params[path]
        assert isinstance(value, int | float)
        if isinstance(values, Choices):
            changes[path] = values.choices[int(value)]
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


def _write_results(study: "Study", search: Search, job: SchedulingJob) -> None:
    """The table of all trials, and the best settings as a yaml of the scheduler group."""
    records.write_bytes(search.folder / "trials" / f"{search.name}.csv", _table(study, search).encode())
    done = finished(study)
    if done:
        best = min(done, key=lambda trial: (trial.value, trial.number))
        file = search.folder / "best" / "scheduler" / f"{search.name}_best.yaml"
        records.write_bytes(file, _best_yaml(best, len(done), search, job).encode())


def _table(study: "Study", search: Search) -> str:
    """One line per trial that ended: number, state, mean delay, job and settings."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "mean_delay_s", "job_id", *search.space, "note"])
    for trial in study.get_trials(deepcopy=False):
        remark = trial.user_attrs.get(ERROR) or trial.user_attrs.get(NOTE, "")
        if not trial.state.is_finished() or (trial.state.name == "FAIL" and not remark):
            continue
        changes = _changes(search, trial.params)
        value = "" if trial.value is None or trial.state.name != "COMPLETE" else repr(trial.value)
        job_id = trial.user_attrs.get(JOB, "")  # none where its settings were refused
        rows.writerow([trial.number, trial.state.name.lower(), value, job_id, *changes.values(), remark])
    return text.getvalue()


def _best_yaml(best: "FrozenTrial", n_finished: int, search: Search, job: SchedulingJob) -> str:
    spec, settings = search.spec, search.settings
    world = f"{job.problem.env.name}, {job.problem.workload.name}, load {job.problem.plan.demand.load:g}"
    value = f"mean delay {best.value:.5g} s on the traces of the search"
    head = [
        f"# {spec.label}, settings found by a search in {world}",
        f"# trial {best.number} of {settings.n_trials} ({n_finished} trained to their end), {spec.settings.seeds} "
        f"seeds, {spec.settings.train.episodes} episodes: {value}",
    ]
    scheduler = _trial_request(search, best.params).data["scheduler"]
    assert isinstance(scheduler, Mapping)
    stated = {**scheduler, "chosen_on": [*(scheduler.get("chosen_on") or []), _chosen_on(spec.settings)]}
    return "\n".join([*head, yaml.safe_dump(stated, sort_keys=False, default_flow_style=None)])


def _chosen_on(settings: JobSettings) -> dict[str, object]:
    """The traces of the search, for a report on the best settings to tell when it meets them."""
    load = settings.workload.load
    traces = {"world": settings.env.name, "seed": settings.evaluate.seed, "workload": settings.workload.name}
    return {**traces, **({} if load is None else {"loads": [load]}), "traces": settings.evaluate.traces}
