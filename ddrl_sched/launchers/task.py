"""One job on its way: what is sent, how it is done wherever it arrives, what comes home."""

import io
import os
import platform
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from ddrl_sched import fingerprint, stopping
from ddrl_sched.config import Settings, clean
from ddrl_sched.failures import FAILED, explain
from ddrl_sched.jobs import kinds
from ddrl_sched.jobs.lock import lock
from ddrl_sched.jobs.records import MANIFEST, RESUME, RecordsError, is_done, write_bytes
from ddrl_sched.jobs.request import JobSpec, Result
from ddrl_sched.jobs.state import is_finished, state, why_failed

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")  # a job computes with one
STATES = ("done", "skipped", "failed")  # how a job ends


@dataclass(frozen=True)
class Task:
    """A job, and what a process elsewhere has to know to do it as it would be done here."""

    number: int  # in its command
    spec: JobSpec[Settings]
    cwd: str  # where the command was given
    code_version: str
    fetch: bool = False  # no shared folder: the files of the run folder come home in the result

    @property
    def runs_dir(self) -> Path:
        """Where run folders lie."""
        return self.spec.request.runs_dir


def attempt(act: Callable[[JobSpec[Settings]], Result], spec: JobSpec[Settings]) -> Result:
    """The result of what is done with a job; an error is part of it."""
    try:
        return act(spec)
    except Exception as error:
        if spec.flags.debug:
            traceback.print_exc()
        return failure(error)


def failure(error: BaseException) -> Result:
    """The result of a job that ended in an error."""
    code, message = explain(error)
    return Result("failed", code, message)


def work(task: Task) -> Result:
    """Do a task in a process of its own, perhaps on another machine, where signals end it as they end the command."""
    stopping.listen()
    return carry_out(task)


def carry_out(task: Task) -> Result:
    """Do a task in this process as one that was sent. What it prints comes home in `said`."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        if Path(task.cwd).is_dir():  # another machine may not have it
            os.chdir(task.cwd)
        result = _other_code(task) or (_run_and_pack(task) if task.fetch else attempt(kinds.run, task.spec))
    return replace(result, number=task.number, said=said.getvalue())


def settled(task: Task) -> Result | None:
    """The result of a task that need not be sent: done, failed before, or wrong. None for one that is to be run."""
    spec = task.spec
    if is_finished(spec):
        return Result("skipped", number=task.number)
    checked = attempt(_checked, spec)
    if checked.state == "failed":
        return replace(checked, number=task.number)
    found = state(spec)
    if found == "done":
        return Result("skipped", number=task.number)
    if found == "failed" and not spec.flags.retry_failed:
        return Result("failed", FAILED, why_failed(spec), task.number)
    return None


def _checked(spec: JobSpec[Settings]) -> Result:
    kinds.check(spec)
    return Result("done")


def unsettled(tasks: Iterable[Task], to_send: deque[Task]) -> Iterator[Result]:
    """The results of tasks that need not be sent; the others go into `to_send`."""
    for task in tasks:
        known = settled(task)
        if known is None:
            to_send.append(task)
        else:
            yield known


def failed(task: Task, message: str) -> Result:
    """The result of a task with which something went wrong outside of it."""
    return Result("failed", FAILED, clean(message), task.number)


def lost(task: Task, why: object) -> Result:
    """The result of a task that was sent and never answered: it has begun, perhaps, and is not marked as failed."""
    first = next((line.strip() for line in str(why).splitlines() if line.strip()), type(why).__name__)
    return failed(task, f"this job never ended: {first}; the same command again goes on with it")


def bring_home(result: Result, runs_dir: Path) -> Result:
    """Write the fetched files of a result below `runs_dir`, folder by folder, unless they are done there already."""
    files = {Path(name): content for name, content in result.files.items()}
    try:
        for folder in sorted({path.parent for path in files}):
            inside = {path.name: content for path, content in files.items() if path.parent == folder}
            _write_folder(runs_dir / folder, inside)
    except RecordsError as error:
        return replace(failure(error), number=result.number, said=result.said)
    return replace(result, files={})


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files when no other process works on the job in `folder` and none has finished it; the manifest last."""
    with lock(folder, wait=True):
        if is_done(folder):
            return
        for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
            write_bytes(folder / name, files[name])


def _other_code(task: Task) -> Result | None:
    """A failure if this machine has another version of ddrl: its results would not belong together."""
    if fingerprint.code_version() == task.code_version:
        return None
    return Result("failed", FAILED, f"{platform.node()} has another version of ddrl installed")


def _run_and_pack(task: Task) -> Result:
    """Run in a folder that goes away, and take the files along, but for what only this process can use."""
    with tempfile.TemporaryDirectory(prefix="ddrl-") as folder:
        result = attempt(kinds.run, task.spec.below(Path(folder)))
        files = [path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()]
        sent = [path for path in files if path.name[0] != "." and path.parent.name != RESUME]
        return replace(result, files={str(path): Path(folder, path).read_bytes() for path in sent})
