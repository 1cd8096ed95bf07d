"""launcher=slurm and launcher=submitit_local: jobs by submitit, each in a process (an allocation) of its own.

The runs folder is shared by all machines; submitit keeps its orders, answers and logs in <runs_dir>/.submitit. A job
that Slurm pre-empts, or whose time is over, is queued again and goes on where the run folder lets it.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ddrl_sched.config import InputError, Settings
from ddrl_sched.extras import require
from ddrl_sched.launchers.task import Report, Task, lost, unsettled, work

POLL_S = 0.2
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
    n_jobs: Count  # of the job array at once
    minutes: Count
    retries: Annotated[int, Field(ge=0, le=100)]
    cpus_per_job: Count
    mem_gb: Annotated[float, Field(gt=0, le=100_000)] | None  # null: what the cluster gives
    partition: str | None
    account: str | None
    setup: list[str]  # shell lines before each job, such as "module load python"
    options: dict[str, str | int | float]  # further options of sbatch, such as {qos: low}


class Resumable:
    """`work` in the form that submitit queues again."""

    def __call__(self, task: Task) -> Report:
        """Do the task."""
        return work(task)

    def checkpoint(self, task: Task) -> Any:
        """What to queue when the time is over: the same again, for a run folder knows how far it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, task)


def run(tasks: Sequence[Task], settings: LocalSettings | SlurmSettings) -> Iterator[Report]:
    """The report of every task as it ends. Finished jobs are not submitted, open ones cancelled at the end."""
    submitit = require("submitit", "slurm", f"launcher={settings.name}")
    executor = _executor(submitit, settings, Path(tasks[0].data["runs_dir"], ".submitit"))
    waiting: deque[Task] = deque()
    yield from unsettled(tasks, waiting)
    running: list[tuple[Any, Task]] = []
    if isinstance(settings, SlurmSettings) and waiting:
        running = list(zip(executor.map_array(Resumable(), list(waiting)), waiting, strict=True))
        waiting.clear()
    try:
        while waiting or running:
            while waiting and len(running) < settings.n_jobs:
                running.append((executor.submit(Resumable(), waiting[0]), waiting.popleft()))
            for job, task in [pair for pair in running if pair[0].done()]:
                running.remove((job, task))
                yield _report(submitit, job, task)
            time.sleep(POLL_S)
    finally:
        for job, _ in running:
            job.cancel(check=False)


def _report(submitit: Any, job: Any, task: Task) -> Report:
    try:
        return job.result()
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
        return lost(task, error)


def _executor(submitit: Any, settings: LocalSettings | SlurmSettings, folder: Path) -> Any:
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
            slurm_array_parallelism=settings.n_jobs,
            slurm_setup=settings.setup,
            slurm_additional_parameters=settings.options,
            **{key: value for key, value in given.items() if value is not None},
        )
    return executor
