"""launcher=slurm and launcher=submitit_local: jobs by submitit, each in a process (an allocation) of its own.

The runs folder is shared by all machines; submitit keeps its orders, answers and logs in <runs_dir>/.submitit. A job
that Slurm pre-empts, or whose time is over, is queued again and goes on where the run folder lets it. Slurm gets the
jobs as arrays, no longer than the site allows; where it refuses one, those that it has taken go on.
"""

import io
import re
import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ddrl_sched.config import InputError, Settings
from ddrl_sched.display import note
from ddrl_sched.extras import require
from ddrl_sched.jobs.request import Result
from ddrl_sched.launchers.task import Task, failed, lost, unsettled, work

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

POLL_S = 0.2
GRACE_S = 15.0  # for an answer that a shared file system shows later than Slurm tells of the end
SCONTROL_S = 10.0  # for an answer of scontrol
USUAL_ARRAY = 1000  # jobs of an array where scontrol cannot be asked; Slurm's own default is 1001
HERE = ("FINISHED", "INTERRUPTED")  # states of processes of this machine, whose answers are there at once
OURS = ("array", "output", "error")  # options of sbatch without which submitit would not find its jobs
HELP = {"TIMEOUT": "launcher.minutes gives it more time", "OUT_OF_MEMORY": "launcher.mem_gb gives it more memory"}
Count = Annotated[int, Field(ge=1, le=100_000)]


class LocalSettings(Settings):
    """conf/launcher/submitit_local.yaml."""

    name: Literal["submitit_local"]
    n_jobs: Count  # at once
    minutes: Count  # longest time of a job before it is queued again
    retries: Annotated[int, Field(ge=0, le=100)]  # times a job is queued again whose time was over


class SlurmSettings(Settings):
    """conf/launcher/slurm.yaml."""

    name: Literal["slurm"]
    n_jobs: Count  # at once, of all arrays together
    max_array: Count | None  # jobs of an array; null: what the site allows
    max_submitted: Count | None  # jobs in Slurm's queue; null: as many as there are
    minutes: Count
    retries: Annotated[int, Field(ge=0, le=100)]
    cpus_per_job: Count
    mem_gb: Annotated[float, Field(gt=0, le=100_000)] | None  # null: what the cluster gives
    partition: str | None
    account: str | None
    setup: list[str]  # shell lines before each job, such as "module load python"
    options: dict[str, str | int | float | bool]  # further options of sbatch, such as {qos: low}


class Resumable:
    """`work` in the form that submitit queues again."""

    def __call__(self, task: Task) -> Result:
        """Do the task."""
        return work(task)

    def checkpoint(self, task: Task) -> "DelayedSubmission":
        """What to queue when the time is over: the same again, for a run folder knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)


@dataclass(frozen=True)
class Limits:
    """How many jobs may be submitted, and when."""

    array: int  # jobs of an array
    arrays: int  # at once
    submitted: int  # jobs that have not ended
    parallel: int  # jobs of an array that run at once

    def next_array(self, n_waiting: int, open_arrays: Sequence[int]) -> int:
        """Jobs of the array to submit now, given how many of each open array have not ended; 0: none."""
        size = min(self.array, n_waiting)
        fits = len(open_arrays) < self.arrays and sum(open_arrays) + size <= self.submitted
        return size if fits else 0


@dataclass
class Sent:
    """A submitted job."""

    job: "Job[Result]"  # of submitit
    task: Task
    array: int
    is_running: bool = False
    gone_s: float | None = None  # since when it has ended without an answer


class RefusedError(Exception):
    """Slurm takes no more jobs; the message is what it says."""


def limits_of(submitit: ModuleType, settings: LocalSettings | SlurmSettings, n_tasks: int) -> Limits:
    """Limits under which no more than n_jobs run at once; arrays that do so side by side share that number."""
    if isinstance(settings, LocalSettings):
        return Limits(1, settings.n_jobs, settings.n_jobs, 1)
    array = settings.max_array or _max_array(submitit)
    array = min(array, settings.max_submitted or array)
    needed = -(-n_tasks // array)
    submitted = settings.max_submitted or needed * array
    arrays = min(needed, settings.n_jobs, submitted // array)
    return Limits(array, arrays, submitted, settings.n_jobs // arrays)


def _max_array(submitit: ModuleType) -> int:
    """Jobs that the site allows in an array: their numbers, from 0, stay below MaxArraySize."""
    try:
        command = ["timeout", str(SCONTROL_S), "scontrol", "show", "config"]
        said = submitit.core.utils.CommandFunction(command, verbose=False)()
    except (OSError, submitit.core.utils.FailedJobError):
        if shutil.which("scontrol"):
            text = f"no answer of scontrol (within {SCONTROL_S:g} s), so arrays of {USUAL_ARRAY} jobs"
            note(f"note: {text} (launcher.max_array)")
        return USUAL_ARRAY
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
    return max(int(found[1]), 1) if found else USUAL_ARRAY


def run(tasks: Sequence[Task], settings: LocalSettings | SlurmSettings) -> Iterator[Result]:
    """The result of every task as it ends. Finished jobs are not submitted, open ones cancelled at the end."""
    submitit = require("submitit", "slurm", f"launcher={settings.name}")
    executor = _executor(submitit, settings, Path(tasks[0].runs_dir, ".submitit"))
    waiting: deque[Task] = deque()
    yield from unsettled(tasks, waiting)
    if waiting:
        limits = limits_of(submitit, settings, len(waiting))
        if isinstance(settings, SlurmSettings):
            executor.update_parameters(slurm_array_parallelism=limits.parallel)
        yield from _submit_and_wait(submitit, executor, waiting, limits)


def _submit_and_wait(
    submitit: ModuleType, executor: "AutoExecutor", waiting: deque[Task], limits: Limits
) -> Iterator[Result]:
    sent: list[Sent] = []
    n_arrays = 0
    try:
        while waiting or sent:
            open_arrays = [[one.array for one in sent].count(array) for array in {one.array for one in sent}]
            if size := limits.next_array(len(waiting), open_arrays):
                some, n_arrays = [waiting.popleft() for _ in range(size)], n_arrays + 1
                try:
                    sent += [Sent(job, task, n_arrays) for job, task in _submit(submitit, executor, some)]
                except RefusedError as refused:
                    yield from (failed(task, f"not submitted: {refused}") for task in (*some, *waiting))
                    waiting.clear()
                continue
            yield from _news(submitit, sent)
            time.sleep(POLL_S)
    finally:
        for one in sent:
            one.job.cancel(check=False)


def _submit(submitit: ModuleType, executor: "AutoExecutor", tasks: list[Task]) -> "list[tuple[Job[Result], Task]]":
    """Submit one array. Raises RefusedError."""
    errors = submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError
    try:
        with redirect_stderr(io.StringIO()):  # submitit prints what it raises
            return list(zip(executor.map_array(Resumable(), tasks), tasks, strict=True))
    except errors as error:
        words = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or "sbatch failed"
    except FileNotFoundError as error:
        if error.filename != "sbatch":
            raise
        words = "sbatch: not found"
    raise RefusedError(f"{words}{_which_limit(words)}")


def _which_limit(words: str) -> str:
    """The setting to change where Slurm refuses a number of jobs."""
    if "job array" in words:
        return "; launcher.max_array limits the jobs of an array"
    if re.search(r"limit|MaxSubmit", words, re.IGNORECASE):
        return "; launcher.max_submitted limits the jobs that are queued at once"
    return ""


def _news(submitit: ModuleType, sent: list[Sent]) -> Iterator[Result]:
    """Reports of the jobs that have begun or ended since the last time; the ended ones leave `sent`."""
    for one in list(sent):
        if _has_ended(one):
            sent.remove(one)
            yield _report(submitit, one)
        elif not one.is_running and one.job.state == "RUNNING":
            one.is_running = True
            yield Result("running", number=one.task.number)


def _has_ended(one: Sent) -> bool:
    """Whether the answer of a job is there, or none is to be expected any more."""
    if not one.job.done():
        one.gone_s = None
        return False
    one.gone_s = one.gone_s or time.monotonic()
    waited = one.job.state in HERE or time.monotonic() - one.gone_s >= GRACE_S
    return waited or one.job.paths.result_pickle.exists()


def _report(submitit: ModuleType, one: Sent) -> Result:
    job, task = one.job, one.task
    if not job.paths.result_pickle.exists():
        return lost(task, f"{_why(job)}, its log is {job.paths.stderr}")
    try:
        return job.result()
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
        said = [line.strip() for line in str(error).split("-" * 22)[-2:][0].splitlines() if line.strip()]
        return lost(task, said[-1] if said else type(error).__name__)


def _why(job: "Job[Result]") -> str:
    """How a job ended that has no answer, in Slurm's words."""
    state = job.state
    if state in HERE:
        return "its process died"
    nodes = job.get_info(mode="cache").get("NodeList") or ""
    where = f" on {nodes}" if nodes not in ("", "None assigned") else ""
    return f"Slurm says {state}{where}" + (f" ({HELP[state]})" if state in HELP else "")


def _executor(submitit: ModuleType, settings: LocalSettings | SlurmSettings, folder: Path) -> "AutoExecutor":
    cluster = "slurm" if isinstance(settings, SlurmSettings) else "local"
    times = {f"{cluster}_max_num_timeout": settings.retries}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **times)
    except RuntimeError as error:
        raise InputError(f"launcher={settings.name}: {error}") from None
    executor.update_parameters(name="ddrl", timeout_min=settings.minutes)
    if isinstance(settings, SlurmSettings):
        given = {"mem_gb": settings.mem_gb, "slurm_partition": settings.partition, "slurm_account": settings.account}
        executor.update_parameters(
            cpus_per_task=settings.cpus_per_job,
            slurm_setup=settings.setup,
            slurm_additional_parameters=_options(settings),
            **{key: value for key, value in given.items() if value is not None},
        )
    return executor


def _options(settings: SlurmSettings) -> dict[str, str | int | float]:
    """The options of sbatch: one that is true goes without a value, one that is false not at all."""
    for key in settings.options:
        if key in OURS:
            raise InputError(f"launcher.options.{key}: is set by ddrl itself")
    return {key: value for key, value in settings.options.items() if value is not False}
