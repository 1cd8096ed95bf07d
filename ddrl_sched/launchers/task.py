"""One job on its way: what is sent, how it is done wherever it arrives, what comes home. Plain data both ways."""

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
from typing import Any

from ddrl_sched import stopping
from ddrl_sched.compiling import watch
from ddrl_sched.config import InputError, clean
from ddrl_sched.failures import DONE, FAILED, explain

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")  # a job computes with one
STATES = ("done", "skipped", "failed")  # how a job ends
RUNNING = "running"  # state of a report that says only that a task has begun
LAST = "manifest.json"  # of a run folder: with it the job counts as done
Report = dict[str, Any]  # code (exit status), state (of STATES), message; of a task also number, said, files


@dataclass(frozen=True)
class Task:
    """A composed job, and what a process elsewhere has to know to do it as it would be done here."""

    number: int
    data: dict[str, Any]  # what run_job takes
    command: str  # train | eval | sweep
    options: dict[str, Any]
    cwd: str  # where the command was given; relative paths of the config start there
    code_version: str
    fetch: bool = False  # no shared folder: the files of the run folder come home in the report


def run(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> Report:
    """Do a job in this process. Raises what run_job raises."""
    if _is_finished(data, command, options):
        return {"code": DONE, "state": "skipped"}
    with stopping.postponed():  # Python swallows some signals that come within an import
        from ddrl_sched.jobs.scheduling import run_job  # lazy: torch and numba come with it

    watch()
    if data.get("tune") is None:
        state = run_job(_without_tune(data), command, options)
    else:
        state = _tuning(command).tune(data, options)
    assert state in (*STATES, "claimed"), state  # claimed: another process works on it
    if state == "failed":
        return {"code": FAILED, "state": state, "message": _failed_before(data, command, options)}
    return {"code": DONE, "state": state}


def plan(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> Report:
    """Check a job without running it. Raises what plan_job raises."""
    with stopping.postponed():
        from ddrl_sched.jobs.scheduling import plan_job  # lazy: torch and numba come with it

    watch()
    if data.get("tune") is None:
        return {"plan": plan_job(_without_tune(data), command, options)}
    return {"plan": _tuning(command).plan_tune(data, options)}


def result(task: Task) -> str:
    """What a single job has found, for the command line; "" where it has no run folder of the usual kind."""
    from ddrl_sched.jobs.identity import ask, done_folder, is_gym

    if task.data.get("tune") is not None or is_gym(task.data):
        return ""
    folder = done_folder(ask(_without_tune(task.data), task.command, task.options), task.options)
    if folder is None:
        return ""
    from ddrl_sched.report.summary import brief

    return brief(folder)


def load_of(task: Task) -> float | None:
    """The load of what a finished job has evaluated, as its folder says; None where it evaluated nothing."""
    from ddrl_sched.jobs.identity import ask, done_folder, is_gym

    if task.data.get("tune") is not None or is_gym(task.data):
        return None
    folder = done_folder(ask(_without_tune(task.data), task.command, task.options), task.options)
    if folder is None or not (table := folder / "eval.parquet").is_file():
        return None
    from pyarrow import parquet  # the job that wrote it has loaded it

    (load, *_) = parquet.read_table(table, columns=["load"])["load"].to_pylist() or [None]
    return load


def _failed_before(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> str:
    """Why a job is not run again that has failed, with what its folder says about the error."""
    from ddrl_sched.jobs.identity import ask, is_gym
    from ddrl_sched.jobs.records import read_job

    again = "--retry-failed runs it again"
    if data.get("tune") is not None or is_gym(data):
        return f"failed before; {again}"
    folder = ask(_without_tune(data), command, options).folder
    return clean(f"failed before: {read_job(folder)['error']} ({folder}); {again}")


def _is_own(data: Mapping[str, Any]) -> bool:
    """Whether the scheduler is a class of the user's own."""
    scheduler = data.get("scheduler")
    return data.get("tune") is None and isinstance(scheduler, Mapping) and ":" in str(scheduler.get("name"))


def _state(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> Report:
    """The state of a job by its settings alone: neither its world nor its scheduler is built."""
    from ddrl_sched.jobs.identity import ask, state

    return {"plan": {"state": state(ask(data, command, options), options)}}


def _is_finished(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> bool:
    """Whether nothing of a job is left to do: told without loading torch."""
    from ddrl_sched.jobs.identity import ask, finished, is_gym

    if data.get("tune") is not None or is_gym(data):
        return False
    return finished(ask(_without_tune(data), command, options), options)


def _without_tune(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "tune"}


def _tuning(command: str) -> Any:
    """The module of the search. InputError for a command that does one training or evaluation."""
    if command != "sweep":
        raise InputError(f"tune: belongs to a search, which is ddrl sweep, not ddrl {command}")
    from ddrl_sched.jobs import tune  # lazy, as above

    return tune


def attempt(act: Callable[..., Report], task: Task) -> Report:
    """The report of `run` or `plan`; an error is part of it."""
    report: Report = {"code": DONE, "state": "done", "message": ""}
    try:
        return report | act(task.data, task.command, task.options)
    except Exception as error:
        if task.options.get("debug"):
            traceback.print_exc()
        code, message = explain(error)
        return report | {"code": code, "state": "failed", "message": message}


def work(task: Task) -> Report:
    """Do a task in a process of its own, perhaps on another machine, where signals end it as they end the command."""
    stopping.listen()
    return carry_out(task)


def carry_out(task: Task) -> Report:
    """Do a task in this process as one that was sent. What it prints comes home in `said`."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        if Path(task.cwd).is_dir():  # another machine may not have it
            os.chdir(task.cwd)
        report = _other_code(task) or (_run_and_pack(task) if task.fetch else attempt(run, task))
    return {"number": task.number, "said": said.getvalue(), **report}


def settled(task: Task) -> Report | None:
    """The report of a task that need not be sent: done, failed before, or wrong. None for one that is to be run."""
    checked = attempt(lambda *words: {"finished": _is_finished(*words)}, task)
    if checked.pop("finished", False):
        return {"number": task.number, **checked, "state": "skipped"}
    if _is_own(task.data):  # code of the user's, which may end the process: it is run where the job is
        checked = attempt(_state, task)
    else:
        checked = attempt(plan, replace(task, options=task.options | {"try_out": False}))
    if checked["code"] != DONE:
        return {"number": task.number, **checked}
    state = checked.pop("plan")["state"]
    if state == "done":
        return {"number": task.number, **checked, "state": "skipped"}
    if state == "failed" and not task.options.get("retry_failed"):
        message = _failed_before(task.data, task.command, task.options)
        return {"number": task.number, "code": FAILED, "state": "failed", "message": message}
    return None


def unsettled(tasks: Iterable[Task], to_send: deque[Task]) -> Iterator[Report]:
    """Report the tasks that need not be sent, and put the others into `to_send`."""
    for task in tasks:
        known = settled(task)
        if known is None:
            to_send.append(task)
        else:
            yield known


def failed(task: Task, message: str) -> Report:
    """The report of a task with which something went wrong outside of it."""
    return {"number": task.number, "code": FAILED, "state": "failed", "message": clean(message)}


def lost(task: Task, why: object) -> Report:
    """The report of a task that was sent and never answered: it has begun, perhaps, and is not marked as failed."""
    first = next((line.strip() for line in str(why).splitlines() if line.strip()), type(why).__name__)
    return failed(task, f"this job never ended: {first}; the same command again goes on with it")


def bring_home(report: Report, runs_dir: str) -> Report:
    """Write the fetched files of a report below `runs_dir`, folder by folder, unless they are done there already."""
    from ddrl_sched.jobs.records import RecordsError

    files: dict[Path, bytes] = {Path(name): content for name, content in report.get("files", {}).items()}
    try:
        for folder in sorted({path.parent for path in files}):
            inside = {path.name: content for path, content in files.items() if path.parent == folder}
            _write_folder(Path(runs_dir, folder), inside)
    except RecordsError as error:
        code, message = explain(error)
        report |= {"code": code, "state": "failed", "message": message}
    return {key: value for key, value in report.items() if key != "files"}


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files when no other process works on the job in `folder` and none has finished it; the manifest last."""
    from ddrl_sched.jobs.lock import claim
    from ddrl_sched.jobs.records import is_done, write_bytes

    with claim(folder, wait=True):
        if is_done(folder):
            return
        for name in sorted(files, key=lambda name: (name == LAST, name)):
            write_bytes(folder / name, files[name])


def _other_code(task: Task) -> Report | None:
    """A failure if this machine has another version of ddrl: its results would not belong together."""
    from ddrl_sched.jobs.records import code_version

    if code_version() == task.code_version:
        return None
    message = f"{platform.node()} has another version of ddrl installed"
    return {"code": FAILED, "state": "failed", "message": message}


def _run_and_pack(task: Task) -> Report:
    """Run in a folder that goes away, and take the files along, but for what only this process can use."""
    from ddrl_sched.jobs.records import RESUME

    with tempfile.TemporaryDirectory(prefix="ddrl-") as folder:
        report = attempt(run, replace(task, data={**task.data, "runs_dir": folder}))
        files = [path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()]
        sent = [path for path in files if path.name[0] != "." and path.parent.name != RESUME]
        return report | {"files": {str(path): Path(folder, path).read_bytes() for path in sent}}
