"""The one table from `launcher.name` to the module that runs the jobs, imported when it is wanted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Literal

from ddrl_sched.config import InputError, Settings, near, shown, validate
from ddrl_sched.jobs import kinds
from ddrl_sched.jobs.request import Result
from ddrl_sched.launchers.task import Task, attempt, bring_home, failed

SERIAL = "serial"  # one after the other in the process of the command; needs no module
LAUNCHERS = {  # module:record of its yaml; the module's run(tasks, settings) yields results as they come
    "processes": "ddrl_sched.launchers.processes:ProcessesSettings",
    "ray": "ddrl_sched.launchers.ray_core:RaySettings",
    "slurm": "ddrl_sched.launchers.submitit_jobs:SlurmSettings",
    "submitit_local": "ddrl_sched.launchers.submitit_jobs:LocalSettings",
}


class SerialSettings(Settings):
    """conf/launcher/serial.yaml."""

    name: Literal["serial"]


def dispatch(tasks: Sequence[Task], launcher: Mapping[str, object]) -> Iterator[Result]:
    """Run `tasks` by the launcher of a composed config; a result for every task, in the order in which they end.

    Before it there may be one that says no more than that the task is running. A task whose process died has a result
    too. InputError for wrong settings or an extra that is not installed.
    """
    name = launcher.get("name")
    if name == SERIAL:
        validate(SerialSettings, launcher, "launcher")
        for task in tasks:
            yield Result("running", number=task.number)
            yield replace(attempt(kinds.run, task.spec), number=task.number)
        return
    if name not in LAUNCHERS:
        known = (SERIAL, *LAUNCHERS)
        raise InputError(f"launcher.name: expected one of {', '.join(known)}, got {shown(name)}{near(name, known)}")
    path, _, record = LAUNCHERS[name].partition(":")
    module = import_module(path)
    settings = validate(getattr(module, record), launcher, "launcher")
    waiting = {task.number: task for task in tasks}
    try:
        for result in module.run(tasks, settings):
            if result.state == "running":
                yield result
                continue
            task = waiting.pop(result.number)
            yield bring_home(result, task.runs_dir)
    except InputError:
        raise
    except Exception as error:  # of the engine: what it still had is lost, what has come home is not
        for task in waiting.values():
            yield failed(task, f"this job never ended: {name} failed: {type(error).__name__}: {error}")
