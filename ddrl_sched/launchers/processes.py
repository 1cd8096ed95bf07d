"""launcher=processes: several jobs at once on this machine, by a pool of pebble.

Its workers stay from job to job, so torch and numba are loaded once for each; one that dies takes only its own job
along. (joblib and concurrent.futures end the whole pool then, the other running jobs included.)
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Annotated, Any, Literal

from pydantic import Field

from ddrl_sched.config import Settings
from ddrl_sched.extras import require
from ddrl_sched.failures import FAILED
from ddrl_sched.launchers.task import Report, Task, lost, work

POLL_S = 1.0


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
        while sent:
            ended, _ = wait(sent, POLL_S, FIRST_COMPLETED)
            if not ended and not pool.active:  # pebble forgets what it had where a worker dies before its first job
                raise RuntimeError("a worker died before it had a job")
            yield from (_report(pebble, future, sent.pop(future)) for future in ended)
    finally:
        pool.stop()
        pool.join()


def _report(pebble: Any, future: "Future[Report]", task: Task) -> Report:
    """What came of an ended task; a signal that ends the command is no part of it."""
    error = future.exception()  # ProcessExpired, or an answer that could not be read
    if error is None:
        return future.result()
    status = f", status {error.exitcode}" if isinstance(error, pebble.ProcessExpired) else ""
    return lost(task, f"{error}{status}")


def _work(task: Task) -> Report:
    """`work`, where a signal to the worker ends it and not, as an answer, the command."""
    try:
        return work(task)
    except SystemExit as stopped:
        os._exit(stopped.code if isinstance(stopped.code, int) else FAILED)
