"""The one table of kinds of jobs, and what can be done with a job of any kind."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast

from ddrl_sched import stopping
from ddrl_sched.compiling import watch
from ddrl_sched.config import InputError, Settings
from ddrl_sched.failures import DONE, FAILED
from ddrl_sched.jobs.request import Ending, JobSpec, Plan, Request, Result
from ddrl_sched.jobs.state import is_finished, why_failed


class Module(Protocol):
    """What the module of a kind has; loading it may load torch and numba."""

    def check(self, spec: JobSpec[Settings]) -> None:
        """Build what the job needs and drop it. Raises InputError. Code of the user's own is not run."""
        ...

    def plan(self, spec: JobSpec[Settings]) -> Plan:
        """What is known of the job before it runs. Raises InputError."""
        ...

    def run(self, spec: JobSpec[Settings]) -> Ending:
        """Do the job, unless it is done. Says how it ended; raises InputError, OSError, TrainingError, ..."""
        ...


@dataclass(frozen=True)
class Kind:
    """One kind of jobs."""

    resolver: str  # module with resolve(request) -> JobSpec
    module: str  # the Module


KINDS = {
    "scheduling": Kind("ddrl_sched.jobs.resolve", "ddrl_sched.jobs.scheduling"),
    "cartpole": Kind("ddrl_sched.jobs.cartpole", "ddrl_sched.jobs.cartpole"),
    "capacity": Kind("ddrl_sched.jobs.capacity_settings", "ddrl_sched.jobs.capacity"),
    "tune": Kind("ddrl_sched.jobs.tune", "ddrl_sched.jobs.tune"),
}


QUESTIONS = ("tune", "capacity")  # groups of a config, null in most, that ask for jobs of the kind of that name


def kind_of(request: Request) -> str:
    """Name of the kind of job that a request is about."""
    for name in QUESTIONS:
        if request.data.get(name) is not None:
            return name
    env = request.data.get("env")
    return "cartpole" if isinstance(env, Mapping) and env.get("kind") == "gym" else "scheduling"


def resolve(request: Request) -> JobSpec[Settings]:
    """Validate a request and name its job. Raises InputError naming keys."""
    name = kind_of(request)
    if name == "tune" and request.command != "sweep":
        raise InputError(f"tune: belongs to a search, which is ddrl sweep, not ddrl {request.command}")
    if name == "tune" and request.data.get("capacity") is not None:
        raise InputError("capacity: not with tune, which searches for the least mean delay")
    unasked = [key for key in QUESTIONS if key != name]
    request = replace(request, data={key: value for key, value in request.data.items() if key not in unasked})
    return cast(JobSpec[Settings], _loaded(KINDS[name].resolver).resolve(request))


def check(spec: JobSpec[Settings]) -> None:
    """Raise InputError where the job cannot be done, as far as that can be told without code of the user's own."""
    _module(spec).check(spec)


def plan(spec: JobSpec[Settings]) -> Plan:
    """What is known of a job before it runs. Raises InputError."""
    watch()
    return _module(spec).plan(spec)


def run(spec: JobSpec[Settings]) -> Result:
    """Do a job in this process, unless it is done. Raises InputError, OSError, TrainingError, ..."""
    if is_finished(spec):  # told without loading torch
        return Result("skipped")
    watch()
    state = _module(spec).run(spec)
    if state == "failed":
        return Result("failed", FAILED, why_failed(spec))
    return Result(state, DONE)


def _module(spec: JobSpec[Settings]) -> Module:
    return cast(Module, _loaded(KINDS[spec.kind].module))


def _loaded(name: str) -> ModuleType:
    with stopping.postponed():  # Python swallows some signals that come within an import
        return import_module(name)
