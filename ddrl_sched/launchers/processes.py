"""launcher=processes: several jobs at once on this machine, by executors of concurrent.futures with one process each.

A process stays from job to job, so torch and numba are loaded once for each; one that dies takes only its own job
along. (One executor with several processes ends all of them then, as joblib's does. A pool of pebble keeps the others,
but has lost jobs without a word where a process was killed just as it had taken one: a hundred random kills showed it.)
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Annotated, Literal

from pydantic import Field

from ddrl_sched import stopping
from ddrl_sched.config import Settings
from ddrl_sched.failures import FAILED
from ddrl_sched.launchers.task import Report, Task, lost, work

PATIENCE_S = 3.0  # for processes that save their state


class ProcessesSettings(Settings):
    """conf/launcher/processes.yaml."""

    name: Literal["processes"]
    n_jobs: Annotated[int, Field(ge=1, le=1000)]  # at once


class Worker:
    """A process that does one job after the other."""

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)
        with stopping.postponed():  # between the start of the process and our knowing of it
            before = set(multiprocessing.active_children())
            self._executor.submit(os.getpid)  # starts it
            self._process = (set(multiprocessing.active_children()) - before).pop()

    def send(self, task: Task) -> "Future[Report]":
        """The report of a task to come. Raises BrokenProcessPool if the process has died since its last job."""
        return self._executor.submit(_work, task)

    def report(self, future: "Future[Report]", task: Task) -> Report:
        """What came of an ended task; a signal that ends the command is no part of it."""
        error = future.exception()
        if error is None:
            return future.result()
        if not isinstance(error, BrokenProcessPool):
            return lost(task, error)  # an answer that could not be read
        self._process.join(PATIENCE_S)
        return lost(task, f"its process died, status {self._process.exitcode}")

    def is_alive(self) -> bool:
        """Whether it can be sent another task."""
        return self._process.is_alive()

    def terminate(self) -> None:
        """Ask it to save the state of its job and end."""
        self._process.terminate()

    def close(self, patience_s: float) -> None:
        """Wait for its end, and kill it if that takes too long."""
        self._process.join(patience_s)
        self._process.kill()
        self._executor.shutdown()


def run(tasks: Sequence[Task], settings: ProcessesSettings) -> Iterator[Report]:
    """The report of every task as it ends."""
    waiting = deque(tasks)
    workers: list[Worker] = []
    idle: list[Worker] = []
    sent: dict[Future[Report], tuple[Worker, Task]] = {}
    try:
        while waiting or sent:
            while waiting and len(sent) < settings.n_jobs:
                if not idle:
                    workers.append(Worker())
                    idle.append(workers[-1])
                worker = idle.pop()
                try:
                    sent[worker.send(waiting[0])] = worker, waiting[0]
                    waiting.popleft()
                except BrokenProcessPool:
                    _end([worker])
                    workers.remove(worker)
            for future in wait(sent, return_when=FIRST_COMPLETED).done:
                worker, task = sent.pop(future)
                report = worker.report(future, task)
                if worker.is_alive():
                    idle.append(worker)
                yield report
    finally:
        _end(workers)


def _end(workers: Sequence[Worker]) -> None:
    end = time.monotonic() + PATIENCE_S
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.close(max(end - time.monotonic(), 0.0))


def _begin() -> None:
    """In a new process: SIGINT is for the command to hand on, and the process does not outlive the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _work(task: Task) -> Report:
    """`work`, where a signal to the worker ends it and not, as an answer, the command."""
    try:
        return work(task)
    except SystemExit as stopped:
        os._exit(stopped.code if isinstance(stopped.code, int) else FAILED)
