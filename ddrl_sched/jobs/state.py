"""What has become of a job, told from its run folder alone."""

from pathlib import Path

from ddrl_sched import fingerprint
from ddrl_sched.config import Settings, clean
from ddrl_sched.display import note
from ddrl_sched.jobs import records
from ddrl_sched.jobs.request import JobSpec, State


def state(spec: JobSpec[Settings]) -> State:
    """Of a job: "done" (if that is accepted, by another version of the code) or what `state_of` says."""
    found = state_of(spec.folder, spec.job_id)
    return "done" if found != "done" and spec.flags.accept_code and _done_by_other_code(spec) else found


def is_finished(spec: JobSpec[Settings]) -> bool:
    """Whether nothing of a job is left to do: it is done, and its checkpoints are gone."""
    return state(spec) == "done" and not (spec.folder / records.RESUME).exists()


def done_folder(spec: JobSpec[Settings]) -> Path | None:
    """Where the results of a job are, if it is done."""
    if state_of(spec.folder, spec.job_id) == "done":
        return spec.folder
    return _done_by_other_code(spec) if spec.flags.accept_code else None


def state_of(folder: Path, job_id: str) -> State:
    """Of the job in a run folder: "done", "failed", "interrupted", or "to do" where there is none."""
    try:
        job = records.read_job(folder)
    except (OSError, ValueError):
        return "to do"
    if job["job_id"] == job_id and records.is_done(folder):
        return "done"
    return "failed" if job["status"] == "failed" else "interrupted"


def why_failed(spec: JobSpec[Settings]) -> str:
    """What the folder of a failed job says, and how it is run again."""
    error = records.read_job(spec.folder)["error"]
    return clean(f"failed before: {error} ({spec.folder}); --retry-failed runs it again")


def _done_by_other_code(spec: JobSpec[Settings]) -> Path | None:
    """A finished folder of the same job (settings, input files, weights) by another version of the code; says so."""
    for folder in sorted(spec.folder.parent.glob("*")):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        version = other["code_version"]
        same = version != fingerprint.code_version() and other["job_id"] == spec.id_by(version)
        if same and records.is_done(folder):
            note(clean(f"{spec.label}: accepted from code {version[:12]} ({folder})"))
            return folder
    return None
