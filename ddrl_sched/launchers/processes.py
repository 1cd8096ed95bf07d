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
from dataclasses import replace
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Annotated, Any, Literal

from pydantic import Field

from ddrl_sched import stopping
from ddrl_sched.config import Settings
from ddrl_sched.failures import FAILED
from ddrl_sched.jobs.request import Result
from ddrl_sched.launchers.task import Task, lost, work

PATIENCE_S = 3.0  # for processes that save their state
LONGEST = 1800  # characters of a text that comes home; what fits into a pipe is written at once, or not at all


class ProcessesSettings(Settings):
    """conf/launcher/processes.yaml."""

    name: Literal["processes"]
    n_jobs: Annotated[int, Field(ge=1, le=1000)]  # at once


class _Context(SpawnContext):
    """The spawn context, which remembers the process that it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[SpawnProcess] = []

    def Process(self, *args: Any, **keys: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.made.append(SpawnProcess(*args, **keys))
        return self.made[-1]


class Worker:
    """A process that does one job after the other."""

    def __init__(self) -> None:
        context = _Context()
        self._executor = ProcessPoolExecutor(1, context, _begin)
        self._executor.submit(os.getpid)  # starts it
        (self._process,) = context.made

    def send(self, task: Task) -> "Future[Result]":
        """The result of a task to come. Raises BrokenProcessPool if the process has died since its last job."""
        if not self._process.is_alive():
            raise BrokenProcessPool
        return self._executor.submit(_work, task)

    def report(self, future: "Future[Result]", task: Task) -> Result:
        """What came of an ended task; a signal that ends the command is no part of it."""
        error = future.exception()
        if error is None:
            return future.result()
        if not isinstance(error, BrokenProcessPool):
            return lost(task, error)  # an answer that could not be read
        return self.died_with(task)

    def died_with(self, task: Task) -> Result:
        """The result of a task whose process is dead."""
        end = time.monotonic() + PATIENCE_S  # two threads wait for the exit status; one may look before it is noted
        while (status := self._process.exitcode) is None and time.monotonic() < end:
            time.sleep(0.01)
        return lost(task, f"its process died, status {status}")

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


def run(tasks: Sequence[Task], settings: ProcessesSettings) -> Iterator[Result]:
    """The result of every task as it ends."""
    waiting = deque(tasks)
    workers: list[Worker] = []
    idle: list[Worker] = []
    sent: dict[Future[Result], tuple[Worker, Task]] = {}
    try:
        while waiting or sent:
            while waiting and len(sent) < settings.n_jobs:
                task, is_new = waiting.popleft(), not idle
                worker = _start(workers) if is_new else idle.pop()
                try:
                    sent[worker.send(task)] = worker, task
                except BrokenProcessPool:
                    _end(workers, worker)
                    if is_new:
                        yield worker.died_with(task)
                    else:  # it died between two jobs
                        waiting.appendleft(task)
                else:
                    yield Result("running", number=task.number)
            for future in wait(sent, return_when=FIRST_COMPLETED).done:
                worker, task = sent.pop(future)
                report = worker.report(future, task)
                if worker.is_alive():
                    idle.append(worker)
                else:
                    _end(workers, worker)
                yield report
    finally:
        _end(workers, *workers)


def _start(workers: list[Worker]) -> Worker:
    with stopping.postponed():  # between the start of a process and our knowing of it
        workers.append(Worker())
    return workers[-1]


def _end(workers: list[Worker], *some: Worker) -> None:
    """End some of the workers, all at the same time, and forget them."""
    with stopping.postponed():  # a second signal must not leave one behind
        end = time.monotonic() + PATIENCE_S
        for worker in some:
            worker.terminate()
        for worker in some:
            worker.close(max(end - time.monotonic(), 0.0))
            workers.remove(worker)


def _begin() -> None:
    """In a new process: until a job listens, SIGINT is for the command alone; it does not outlive the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stopping.PATIENCE_S)
    os._exit(stopping.TERMINATED)  # something has swallowed the signal


def _work(task: Task) -> Result:
    """`work`, where a signal to the worker ends it and not, as an answer, the command."""
    try:
        result = work(task)
    except SystemExit as stopped:
        os._exit(stopped.code if isinstance(stopped.code, int) else FAILED)
    return replace(result, said=_short(result.said), message=_short(result.message))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n[...]\n{text[-LONGEST // 2 :]}"
