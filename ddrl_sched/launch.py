"""From the command line to jobs that have run: composes them, hands them to their launcher, says how they ended."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from textwrap import indent

from omegaconf import DictConfig

from ddrl_sched import fingerprint, stopping
from ddrl_sched.compose import Job, compose, hydra_main, is_of_launcher
from ddrl_sched.config import InputError, clean
from ddrl_sched.display import count
from ddrl_sched.dry_run import REFUSED, plan_table, refused
from ddrl_sched.failures import BAD_INPUT, DONE, ExplainedError, status_of
from ddrl_sched.jobs import kinds
from ddrl_sched.jobs.request import Command, Flags, Plan, Result
from ddrl_sched.jobs.state import done_folder
from ddrl_sched.launchers.overload import Overload
from ddrl_sched.launchers.progress import SweepProgress, say, sweep_progress
from ddrl_sched.launchers.table import dispatch
from ddrl_sched.launchers.task import STATES, THREADS, Task, failure
from ddrl_sched.listing import config_folder
from ddrl_sched.overrides import asks_for_nothing, check_words

SHOWS = ("--cfg", "--info", "--hydra-help")  # Hydra's flags that print something and run nothing
NOTHING = (
    "ddrl sweep: nothing to vary and no scheduler named; for example `ddrl sweep scheduler=eft,jsq "
    "workload.load=0.3,0.6` or `ddrl sweep experiment=quickstart` (`ddrl list` shows the choices)"
)


def launch(
    command: Command,
    overrides: Sequence[str],
    hydra_flags: Sequence[str],
    flags: Flags,
    *,
    multirun: bool = False,
    dry_run: bool = False,
) -> int:
    """Compose and run what `ddrl <command> <overrides>` asks for. Returns the exit status.

    A job of a multirun that fails does not stop the others. Raises InputError for a config that cannot be composed.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if any(flag.split("=")[0] in SHOWS for flag in hydra_flags):
        hydra_main(command, [*hydra_flags, *overrides], _nothing)
        return DONE
    for flag, value in pairwise(hydra_flags):
        if flag == "--config-dir":
            config_folder(value)
    check_words(overrides)
    if command == "sweep" and asks_for_nothing(overrides):
        raise InputError(NOTHING)
    if dry_run:
        return _show_plans(plan(command, overrides, hydra_flags, flags))
    words = [*["--multirun"] * multirun, *hydra_flags, *overrides]
    jobs = run_jobs(compose(command, words, flags), quiet=not multirun)
    if not multirun and len(jobs) == 1:
        return _tell(jobs[0])
    print(sweep_summary(jobs), flush=True)
    return status_of(_result(job).code for job in jobs)


def plan(command: Command, overrides: Sequence[str], hydra_flags: Sequence[str], flags: Flags) -> list[Job]:
    """Every job of a multirun, composed and checked, in order, with its plan.

    The plan of one that is bad input has the state REFUSED and a message; InputError if all are.
    """
    here = [word for word in overrides if not is_of_launcher(word)] + ["launcher=serial"]
    jobs = compose(command, ["--multirun", *hydra_flags, *here], flags)
    for job in jobs:
        job.plan = _plan(job)
    if jobs and all(job.plan is not None and job.plan.state == REFUSED for job in jobs):
        raise InputError("\n".join(dict.fromkeys(job.plan.message for job in jobs if job.plan is not None)))
    overload = _overload(jobs)
    for job in jobs:
        if job.spec is not None and job.plan is not None:
            overload.found(job.plan.load, job.spec)
    return jobs


def _plan(job: Job) -> Plan:
    """The plan of a job. Raises ExplainedError for what is no fault of its settings."""
    result = job.result
    if job.spec is not None and result is None:
        try:
            return kinds.plan(job.spec)
        except Exception as error:
            result = failure(error)
    assert result is not None
    if result.code != BAD_INPUT:
        raise ExplainedError(result.message)
    return refused(job.label, result.message)


def _show_plans(jobs: Sequence[Job]) -> int:
    """Print the table of a dry run. Raises InputError with what is wrong with some of the jobs."""
    plans = [job.plan for job in jobs if job.plan is not None]
    print(plan_table(plans, [job.overrides for job in jobs]))
    if wrong := dict.fromkeys(plan.message for plan in plans if plan.state == REFUSED):
        raise InputError("\n".join(wrong))
    return DONE


def run_jobs(jobs: list[Job], *, quiet: bool) -> list[Job]:
    """Run the composed jobs, and then those that other processes worked on: waited for, and finished if need be.

    A quiet command has no line of its own for each job.
    """
    overload = _overload(jobs)
    with sweep_progress(len(jobs), quiet=quiet) as progress:
        for job in jobs:
            if job.result is not None:  # it could not be composed
                _ended(job, progress, quiet=quiet)
        _send([job for job in jobs if job.result is None], progress, overload, wait=quiet, quiet=quiet)
        others = [job for job in jobs if job.result is not None and job.result.state == "claimed"]
        _send(others, progress, overload, wait=True, quiet=quiet)
    return jobs


def _send(waiting: Sequence[Job], progress: SweepProgress, overload: Overload, *, wait: bool, quiet: bool) -> None:
    """Run jobs by their launcher, and note their results as they end.

    `wait`: for jobs that another process works on; else they are passed over.
    """
    if not waiting:
        return
    launcher = waiting[0].launcher
    if any(job.launcher != launcher for job in waiting):
        raise InputError("launcher: must be the same for all jobs of a command")
    by_number = {job.number: job for job in waiting}
    for result in dispatch([_task(job, wait=wait) for job in waiting], launcher):
        if result.state == "running":
            progress.running(result.number)
            continue
        job = by_number[result.number]
        job.result = result
        if result.said:
            print(result.said, end="", file=sys.stderr, flush=True)
        _ended(job, progress, quiet=quiet)
        assert job.spec is not None
        overload.ended(job.spec, result.state)


def _task(job: Job, *, wait: bool) -> Task:
    assert job.spec is not None
    return Task(job.number, job.spec.waiting(wait), os.getcwd(), fingerprint.code_version())


def _ended(job: Job, progress: SweepProgress, *, quiet: bool) -> None:
    """Name one of many jobs that has come to an end. What went wrong is told when all have."""
    progress.ended(job.number, _result(job).state)
    if not quiet:
        say(_line(job))


def _overload(jobs: Sequence[Job]) -> Overload:
    """Notes on loads above 1: those that the config gives."""
    return Overload.of([job.spec for job in jobs if job.spec is not None])


def _nothing(_config: DictConfig) -> None:
    """A task for flags that run nothing."""


def sweep_summary(jobs: Sequence[Job]) -> str:
    """How many jobs ended how, and every failed one by name; what several have to say is said once, below them."""
    counts: Counter[str] = Counter(_result(job).state for job in jobs)
    lines = [f"{count(len(jobs), 'job')}: " + ", ".join(f"{counts[state]} {state}" for state in STATES)]
    failed: dict[str, list[str]] = {}
    for job in jobs:
        if _result(job).code != DONE:
            failed.setdefault(_result(job).message, []).append(_line(job))
    for message, names in failed.items():
        lines += [*names, *[indent(f"error: {message}", "  ")] * bool(message)]
    return "\n".join(lines)


def _tell(job: Job) -> int:
    """Say how a single job ended, an error on stderr, and what it has found. Returns the exit status."""
    result = _result(job)
    if result.message:
        print(f"error: {result.message}", file=sys.stderr)
    else:
        print(_line(job), file=sys.stderr if result.code else sys.stdout)
    if not result.code and job.spec is not None and (folder := done_folder(job.spec)) is not None:
        with stopping.postponed():
            from ddrl_sched.report.summary import summary

        print(summary(folder))
    return result.code


def _result(job: Job) -> Result:
    assert job.result is not None, "it has not run"
    return job.result


def _line(job: Job) -> str:
    """How a job ended, and its name."""
    words = [_result(job).state, job.label, *job.overrides]
    return "  ".join(clean(word) for word in words if word)
