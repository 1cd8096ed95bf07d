"""Jobs from plain data, as `compose` makes requests of a command line: what the tests of jobs call."""

from dataclasses import asdict
from pathlib import Path

from ddrl_sched.jobs import kinds, scheduling, tune_study
from ddrl_sched.jobs.request import Flags, Request
from ddrl_sched.jobs.state import is_finished

BESIDE = ("label", "overrides", "runs_dir", "experiment")  # of a request, not of its data


def request_of(data, command="sweep", flags=None):
    """The request that `data`, a config with label, overrides and runs_dir, and flags by name stand for."""
    given = {key: value for key, value in (flags or {}).items() if key != "watch"}
    given |= {key: Path(given[key]) for key in ("run", "resume") if given.get(key)}
    plain = {key: value for key, value in data.items() if key not in BESIDE}
    overrides = [str(word) for word in data["overrides"]]
    return Request(command, plain, str(data["label"]), overrides, Path(data["runs_dir"]), Flags(**given))


def ask(data, command="sweep", flags=None):
    """The JobSpec of a request."""
    return kinds.resolve(request_of(data, command, flags))


def run_job(data, command="sweep", flags=None):
    """Do a job; the state in which it ended."""
    spec = ask(data, command, flags)
    if watch := (flags or {}).get("watch"):
        return scheduling.run(spec, watch)
    return kinds.run(spec).state


def plan_job(data, command="sweep", flags=None):
    """What is known of a job before it runs, as a dict."""
    return asdict(kinds.plan(ask(data, command, flags)))


def prepare(data, command="sweep", flags=None):
    """The job with its world and scheduler."""
    return scheduling.build(ask(data, command, flags))


def finished(spec):
    """Whether nothing of it is left to do."""
    return is_finished(spec)


def tune(data, flags=None):
    """Run a search; the state in which it ended."""
    return kinds.run(ask(data, "sweep", flags)).state


def plan_tune(data, flags=None):
    """What is known of a search before it runs, as a dict."""
    return plan_job(data, "sweep", flags)


optuna = tune_study.optuna
