"""How a job fills its run folder: locked by one process, gone on with where it stopped, recorded as it ended."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from ddrl_sched import fingerprint
from ddrl_sched.config import Settings
from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.jobs.lock import lock
from ddrl_sched.jobs.reading import check_written
from ddrl_sched.jobs.request import Ending, JobSpec
from ddrl_sched.jobs.schemas import SCHEMA_VERSION, JobRecord
from ddrl_sched.jobs.state import state


class Job(Protocol):
    """A job that fills a run folder."""

    @property
    def spec(self) -> JobSpec[Settings]:
        """What it is."""
        ...

    def about(self) -> JobRecord:
        """What job.json says while it runs."""
        ...

    def work(self, clock: "Clock") -> None:
        """Do it, and write its files into the folder."""
        ...


def carry_out(job: Job) -> Ending:
    """Do a job unless it is done, and record how it went; raises what its work raises."""
    folder = job.spec.folder
    if state(job.spec) == "done" and not (folder / checkpoint.FOLDER).exists():
        return "skipped"
    with lock(folder, wait=job.spec.flags.wait) as mine:
        return _run_locked(job) if mine else "claimed"


def _run_locked(job: Job) -> Ending:
    spec, found = job.spec, state(job.spec)  # it may have changed before the job was ours
    folder, flags = spec.folder, spec.flags
    if found == "done":
        checkpoint.discard(folder)
        return "skipped"
    about = job.about()
    if found == "failed" and not (flags.retry_failed or flags.resume):
        return "failed"
    records.remove_leftovers(folder)
    if found == "failed" and flags.retry_failed:
        checkpoint.discard(folder)
    clock = Clock()
    records.write_job(folder, about)
    try:
        job.work(clock)
        check_written(folder, about)
    except OSError:  # the disk is full, ...: the job is not to blame and can go on
        raise
    except Exception as error:
        failed: JobRecord = {**about, "status": "failed", "error": records.error_text(error)}
        records.write_job(folder, clock.noted_in(failed))
        raise
    done: JobRecord = {**about, "status": "done", "numerics": fingerprint.numerics()}
    records.write_job(folder, clock.noted_in(done))
    records.write_manifest(folder)
    checkpoint.discard(folder)
    return "done"


class Clock:
    """Time spent on a job, by all processes that worked on it one after the other (up to their last checkpoint)."""

    def __init__(self) -> None:
        self._began, self._began_cpu = time.monotonic(), time.process_time()

    def noted_in(self, about: JobRecord) -> JobRecord:
        """The same with the seconds so far."""
        spent = self.state_dict()
        return {**about, "duration_s": spent["duration_s"], "cpu_s": spent["cpu_s"]}

    def state_dict(self) -> dict[str, float]:
        """Seconds so far."""
        return {"duration_s": time.monotonic() - self._began, "cpu_s": time.process_time() - self._began_cpu}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Count these seconds too."""
        self._began -= state["duration_s"]
        self._began_cpu -= state["cpu_s"]


def stamp(spec: JobSpec[Settings]) -> JobRecord:
    """What job.json says of any job that begins now; what only its kind knows is left empty."""
    return {
        "schema_version": SCHEMA_VERSION,
        "job_id": spec.job_id,
        "experiment": "",
        "status": "running",
        "settings": {},
        "input_sha256": dict(spec.inputs),
        "overrides": list(spec.overrides),
        "seeds": [],
        "scenario_hash": "",
        "scheduler": spec.label,
        "learned": False,
        "baselines": [],
        "code_version": fingerprint.code_version(),
        "packages": fingerprint.package_versions(),
        "numerics": fingerprint.numerics(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": None,
        "cpu_s": None,
        "error": None,
        "training": None if spec.weights is None else spec.weights.training,
    }
