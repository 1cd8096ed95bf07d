"""launcher=processes: several jobs at once on this machine, by a pool of pebble.

Its workers stay from job to job, so torch and numba are loaded once for each; one that dies takes only its own job
along. (joblib and concurrent.futures end the whole pool then, the other running jobs included.)
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from typing import Annotated, Literal

from pydantic import Field

from ddrl_sched.config import Settings
from ddrl_sched.extras import require
from ddrl_sched.failures import FAILED
from ddrl_sched.launchers.task import Report, Task, lost, work


class ProcessesSettings(Settings):
    """conf/launcher/processes.yaml."""

    name: Literal["processes"]
    n_jobs: Annotated[int, Field(ge=1, le=1000)]  # at once


def run(tasks: Sequence[Task], settings: ProcessesSettings) -> Iterator[Report]:
    """The report of every task as it ends."""
    pebble = require("pebble", "processes", "launcher=processes")
    pool = pebble.ProcessPool(min(settings.n_jobs, len(tasks)), context=multiprocessing.get_context("spawn"))
    try:
        sent: dict[Future[Report], Task] = {pool.schedule(_work, args=(task,)): task for task in tasks}
        for future in as_completed(sent):
            error = (
                future.exception()
            )  # ProcessExpired, or an answer that could not be read; a signal of ours is raised
            status = f", status {error.exitcode}" if isinstance(error, pebble.ProcessExpired) else ""
            yield future.result() if error is None else lost(sent[future], f"{error}{status}")
    finally:
        pool.stop()
        pool.join()


def _work(task: Task) -> Report:
    """`work`, where a signal to the worker ends it and not, as an answer, the command."""
    try:
        return work(task)
    except SystemExit as stopped:
        os._exit(stopped.code if isinstance(stopped.code, int) else FAILED)
