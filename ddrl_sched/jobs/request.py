"""A job on its way through the program: what was asked for, what that means, what will be and what has been done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError, Settings, clean
from ddrl_sched.failures import DONE
from ddrl_sched.jobs.schemas import SCHEMA_VERSION, TrainingRecord
from ddrl_sched.run.inputs import Inputs, content_hash
from ddrl_sched.run.settings import MAX_NAME

Command = Literal["train", "eval", "sweep"]
S_co = TypeVar("S_co", bound=Settings, covariant=True)


@dataclass(frozen=True)
class Flags:
    """Options of the command line that are no part of a config."""

    run: Path | None = None  # run folder of trained weights to evaluate
    resume: Path | None = None  # run folder of an interrupted job to finish
    accept_code: bool = False  # finished jobs of another version of the code count
    retry_failed: bool = False  # failed jobs are run again
    wait: bool = True  # for a job that another process works on, instead of passing it over
    try_out: bool = True  # a dry run asks the scheduler about some tasks, to check it and to estimate its time
    debug: bool = False  # errors come with their traceback


@dataclass(frozen=True)
class Request:
    """A job as it was asked for: the composed config as plain data, and what the command line says beside it."""

    command: Command
    data: Mapping[str, object]  # groups and keys of the config, without those of ddrl itself (runs_dir, launcher)
    label: str  # of the scheduler in tables
    overrides: Sequence[str]  # of the command line, canonical words
    runs_dir: Path
    flags: Flags = Flags()


@dataclass(frozen=True)
class Weights:
    """Trained weights that a job evaluates."""

    folder: Path  # their run folder
    sha256: str  # as they were when the job was asked for
    training: TrainingRecord  # what their job.json says of it


class World(NamedTuple):
    """Where tasks arrive, as far as settings tell."""

    name: str  # of the environment
    load: float | None  # offered load; None: that of a trace, which only its content tells
    hash: str  # of environment and workload


@dataclass(frozen=True)
class JobSpec(Generic[S_co]):
    """A job that is checked as far as its settings tell: a value that travels to the process that does it."""

    kind: str  # of jobs.kinds.KINDS
    request: Request
    settings: S_co
    label: str
    overrides: Sequence[str]  # that its job.json tells
    job_id: str
    folder: Path
    identity: Mapping[str, object]  # plain data that the job id is made of, beside input files and code
    inputs: Inputs = field(default_factory=dict)  # hashes of its input files, as they were when it was asked for
    weights: Weights | None = None
    drawn_as: str = ""  # name of the random streams of the evaluation
    learns: bool = False  # its scheduler is a learned one
    own_class: bool = False  # its scheduler is a class of the user's own
    world: World | None = None  # None: no world of tasks
    checkpoint_s: float | None = None  # seconds between two saves of a training

    @property
    def command(self) -> Command:
        """The command that asks for it."""
        return self.request.command

    @property
    def flags(self) -> Flags:
        """The options of that command."""
        return self.request.flags

    def id_by(self, version: str) -> str:
        """Its id by another version of the code."""
        return job_id(self.identity, self.inputs, version)

    def waiting(self, wait: bool) -> "JobSpec[S_co]":
        """The same, which waits for another process that works on it, or does not."""
        return replace(self, request=replace(self.request, flags=replace(self.flags, wait=wait)))

    def below(self, runs_dir: Path) -> "JobSpec[S_co]":
        """The same with its folder below another one than request.runs_dir."""
        folder = runs_dir / self.folder.relative_to(self.request.runs_dir)
        return replace(self, folder=folder, request=replace(self.request, runs_dir=runs_dir))


def job_id(identity: Mapping[str, object], inputs: Inputs, version: str | None = None) -> str:
    """16 hex digits that change with the validated settings, the input files, the record schema or the code.

    Raises InputError for settings that are no plain data, such as a key that is not text.
    """
    parts = [identity, content_hash(inputs), SCHEMA_VERSION, version or fingerprint.code_version()]
    try:
        return fingerprint.canonical_hash(parts)[:16]
    except ValueError as error:
        raise InputError(clean(str(error).removeprefix("cannot hash [0].settings."))) from None


def check_label(label: str) -> None:
    """InputError for a name that tables have no room for."""
    if len(label) > MAX_NAME:
        raise InputError(f"scheduler: its name in tables must be at most {MAX_NAME} characters, got {label}")


Ending = Literal["done", "skipped", "failed", "claimed"]  # claimed: another process works on it
State = Literal["to do", "running", "interrupted", "done", "failed", "refused"]


@dataclass(frozen=True)
class Plan:
    """What is known of a job before it runs."""

    job_id: str
    state: str  # of State, or how many trials of a search are done
    label: str
    scenario: str
    load: float | None  # offered load; None: no world of tasks
    estimate_s: float | None = None  # on one core; None: unknown
    training_s: float = 0.0  # of it for a training ...
    training: str | None = None  # ... which jobs with the same name here share: it is done once
    message: str = ""  # why it is refused


@dataclass(frozen=True)
class Result:
    """How a job ended, or that it has begun."""

    state: Ending | Literal["running"]
    code: int = DONE  # exit status
    message: str = ""  # of a failure
    number: int = 0  # of the job in its command
    said: str = ""  # what it printed where it ran
    files: Mapping[str, bytes] = field(default_factory=dict)  # path below runs_dir -> content, where no disk is shared
