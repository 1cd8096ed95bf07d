"""How a job fills its run folder: claimed by one process, gone on with where it stopped, recorded as it ended."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.jobs.lock import claim
from ddrl_sched.jobs.reading import check_written


@dataclass(frozen=True)
class Task:
    """What fills a run folder."""

    folder: Path
    state: Callable[[], str]  # of the folder, see state_of
    about: Callable[[], dict[str, Any]]  # what job.json says while it runs
    work: Callable[["Clock"], None]


def carry_out(task: Task, options: Mapping[str, Any]) -> str:
    """Do a task unless it is done, and record how it went; returns and raises what `run_job` does."""
    if task.state() == "done" and not (task.folder / checkpoint.FOLDER).exists():
        return "skipped"
    with claim(task.folder, wait=options.get("wait", True)) as mine:
        return _run_claimed(task, options) if mine else "claimed"


def _run_claimed(task: Task, options: Mapping[str, Any]) -> str:
    folder, state = task.folder, task.state()  # it may have changed before the job was ours
    if state == "done":
        checkpoint.discard(folder)
        return "skipped"
    about = task.about()
    if state == "failed" and not (options.get("retry_failed") or options.get("resume")):
        return "failed"
    records.remove_leftovers(folder)
    if state == "failed" and options.get("retry_failed"):
        checkpoint.discard(folder)
    clock = Clock()
    records.write_job(folder, about)
    try:
        task.work(clock)
        check_written(folder, about)
    except OSError:  # the disk is full, ...: the job is not to blame and can go on
        raise
    except Exception as error:
        records.write_job(folder, {**about, **clock.state_dict(), **records.failure(error)})
        raise
    records.write_job(folder, {**about, **clock.state_dict(), "status": "done", "numerics": records.numerics()})
    records.write_manifest(folder)
    checkpoint.discard(folder)
    return "done"


class Clock:
    """Time spent on a job, by all processes that worked on it one after the other (up to their last checkpoint)."""

    def __init__(self) -> None:
        self._began, self._began_cpu = time.monotonic(), time.process_time()

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"duration_s": time.monotonic() - self._began, "cpu_s": time.process_time() - self._began_cpu}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count these seconds too."""
        self._began -= state["duration_s"]
        self._began_cpu -= state["cpu_s"]


def stamp() -> dict[str, Any]:
    """What job.json says of any job that begins now."""
    return {
        "schema_version": records.SCHEMA_VERSION,
        "status": "running",
        "code_version": records.code_version(),
        "packages": records.package_versions(),
        "numerics": records.numerics(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": None,
        "cpu_s": None,
        "error": None,
    }
