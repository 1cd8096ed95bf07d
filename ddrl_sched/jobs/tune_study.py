"""The study of a search on disk: an Optuna journal that several processes share, its next trial, who runs it."""

import io
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError
from ddrl_sched.extras import require
from ddrl_sched.jobs.search_space import Choices, HalvingPruner, MedianPruner, Space, Span, TuneSettings
from ddrl_sched.saving import make_folder
from ddrl_sched.seeding import stream

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

JOB, ERROR, NOTE = "job_id", "error", "note"  # attributes of a trial: its job, why it failed, how it ended early
MAX_LINE_BYTES = 1 << 20  # of a study on disk, where lines have some hundred


class StudyFile(NamedTuple):
    """Where a study is kept, and what it is about."""

    journal: Path
    study_id: str
    label: str  # of the scheduler
    settings: TuneSettings
    space: Space

    def lock(self, suffix: str = ".lock") -> FileLock:
        """A lock beside the journal."""
        return FileLock(self.journal.with_suffix(suffix))


def optuna() -> ModuleType:
    """The library, quiet. InputError naming the extra to install."""
    library = require("optuna", "optuna", "tune")
    library.logging.set_verbosity(library.logging.WARNING)
    return library


def open_study(file: StudyFile, *, accept_code: bool) -> "Study":
    """The study on disk, made if it is not there. InputError if another version of the code began it."""
    library = optuna()
    make_folder(file.journal.parent)
    with file.lock():  # one process at a time
        backend = library.storages.journal.JournalFileBackend(str(file.journal), Writing(file.journal))
        study = library.create_study(
            storage=library.storages.JournalStorage(backend),
            study_name=file.study_id,
            pruner=_pruner(file.settings),
            direction="minimize",
            load_if_exists=True,
        )
        began_with = study.user_attrs.get("code_version")
        if began_with is None:
            study.set_user_attr("code_version", fingerprint.code_version())
        elif began_with != fingerprint.code_version() and not accept_code:
            raise InputError(
                f"the study of {file.label} was begun with another version of the code ({file.journal}): "
                "--accept-code continues it, another name= begins a new one"
            )
    return study


def _pruner(settings: TuneSettings) -> "BasePruner":
    pruners, chosen = optuna().pruners, settings.pruner
    if isinstance(chosen, MedianPruner):
        return pruners.MedianPruner(chosen.startup_trials, chosen.warm_up_episodes)
    if isinstance(chosen, HalvingPruner):
        return pruners.SuccessiveHalvingPruner(chosen.first_episodes, chosen.reduction)
    return pruners.NopPruner()


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


def next_trial(study: "Study", file: StudyFile) -> "tuple[Trial, FileLock] | None":
    """The next trial and our lock on it. None if there are enough.

    What is proposed depends on tune.seed and the trials so far alone, and a trial whose process died goes on as if it
    had never stopped, with all that it has reported; so does the study.
    """
    with file.lock():  # one process at a time
        if (lost := _lost(study, file)) is not None:
            return lost
        counted = n_counted(study.get_trials(deepcopy=False))
        if counted >= file.settings.n_trials:
            return None
        seed = int(stream(file.settings.seed, "tune", counted).integers(2**32))
        study.sampler = optuna().samplers.TPESampler(n_startup_trials=file.settings.startup_trials, seed=seed)
        trial = study.ask({key: _distribution(values) for key, values in file.space.items()})
        held = _lock_trial(file, trial.number)
        assert held is not None  # its number is new
        return trial, held


def n_counted(trials: "list[FrozenTrial]") -> int:
    """Trials that count against n_trials: not those whose process died before all their settings were proposed."""
    return sum(trial.state.name != "FAIL" or ERROR in trial.user_attrs for trial in trials)


def finished(study: "Study") -> "list[FrozenTrial]":
    """The trials that were evaluated."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def release(held: FileLock) -> None:
    """Give a trial back, and take the file of its lock away."""
    Path(held.lock_file).unlink(missing_ok=True)
    held.release()


def _lost(study: "Study", file: StudyFile) -> "tuple[Trial, FileLock] | None":
    """A trial that a process was working on that is no longer there, and our lock on it."""
    trials = optuna().trial
    for trial in study.get_trials(deepcopy=False, states=(trials.TrialState.RUNNING,)):
        held = _lock_trial(file, trial.number)
        if held is None:
            continue
        if trial.params.keys() == file.space.keys():
            return trials.Trial(study, trial._trial_id), held
        study.tell(trial.number, state=trials.TrialState.FAIL)  # the same settings are proposed anew
        release(held)
    return None


def _distribution(values: Span | Choices) -> "BaseDistribution":
    """Choices are proposed by their index, so that they may be lists."""
    distributions = optuna().distributions
    if isinstance(values, Choices):
        return distributions.CategoricalDistribution(range(len(values.choices)))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return distributions.IntDistribution(values.low, values.high, log=values.log)
    return distributions.FloatDistribution(values.low, values.high, log=values.log)


def _lock_trial(file: StudyFile, number: int) -> FileLock | None:
    """Our hold on a trial, which ends with this process, whatever ends that; None if a living process has it."""
    held = file.lock(f".{number}.claim")
    try:
        held.acquire(blocking=False)
    except Timeout:
        return None
    return held
