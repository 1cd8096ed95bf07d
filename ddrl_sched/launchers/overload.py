"""Announcing loads at which no scheduler keeps up: once for each load and world of a command."""

import json
from collections.abc import Sequence

from ddrl_sched.config import clean
from ddrl_sched.display import note
from ddrl_sched.labels import GYM_AGENT
from ddrl_sched.launchers.task import Task, load_of

MOST = 10  # the largest workload.load


class Overload:
    """What has been said about the loads of a command."""

    def __init__(self, n_worlds: int) -> None:
        self._n_worlds = n_worlds
        self._noted: set[tuple[float, str]] = set()
        self._looked: set[str] = set()  # worlds whose load only a finished job knows

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "Overload":
        """Note the loads that the jobs were given, before they run."""
        tasks = [task for task in tasks if _has_load(task)]
        overload = cls(len({_world(task) for task in tasks}))
        for task in tasks:
            load = task.data["workload"].get("load")
            overload._note(load, _world(task), "workload.load=")
        return overload

    def found(self, load: object, task: Task) -> None:
        """Note the load of a job that was given none."""
        if _has_load(task) and task.data["workload"].get("load") is None:
            self._note(load, _world(task), "workload.load=null is a load of ")

    def ended(self, task: Task, state: str) -> None:
        """Look up the load of a job that was given none, now that it is done; once for each world."""
        if state != "done" or not _has_load(task) or task.data["workload"].get("load") is not None:
            return
        key = json.dumps([task.data["env"], task.data["workload"]], sort_keys=True, default=str)
        if key not in self._looked:
            self._looked.add(key)
            self.found(load_of(task), task)

    def _note(self, load: object, world: str, said: str) -> None:
        if isinstance(load, bool) or not isinstance(load, int | float) or (load, world) in self._noted:
            return
        if not 1 <= load <= MOST:  # more is refused
            return
        self._noted.add((load, world))
        where = f" in {clean(world)}" if self._n_worlds > 1 else ""
        note(f"note: {said}{load:.6g}{where}: overload, queues grow as long as a trace lasts")


def _has_load(task: Task) -> bool:
    """Whether the config is one of tasks on servers, as far as is known before it is validated."""
    env, workload, scheduler = (task.data.get(key) for key in ("env", "workload", "scheduler"))
    if not isinstance(env, dict) or not isinstance(workload, dict) or not isinstance(scheduler, dict):
        return False
    return scheduler.get("name") != GYM_AGENT


def _world(task: Task) -> str:
    return str(task.data["env"].get("name"))
