"""What a scheduler sees (View) and the one protocol that all of them follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ddrl_sched.edge.types import Bools, Decision, Floats, Scenario, Tasks

# Class: all classes on whose knowledge its decisions may rest (announced and own do not contain each other).
MAY_USE = {
    "static": ("static",),
    "announced": ("static", "announced"),
    "own": ("static", "own"),
    "tracked": ("static", "announced", "own", "tracked"),
    "probed": ("static", "announced", "own", "tracked", "probed"),
    "running": ("static", "announced", "own", "tracked", "probed", "running"),
}
INFO_CLASSES = tuple(MAY_USE)
CADENCES = ("trace", "epoch", "arrival")  # how often a scheduler is asked, see Scheduler


@dataclass(frozen=True)
class View:
    """What a scheduler may see when it is asked. Read only. M is the width of the window it is asked about."""

    scenario: Scenario  # capacities, rates, latencies
    tasks: Tasks  # [R, M] the tasks to decide: a whole trace, an epoch, or one task per station (see `cadence`)
    wait_s: Floats | None  # [R, M, E] waits as the scheduler's class knows them at each arrival; None at cadence trace
    age_s: Floats | None  # [R, M] age of the last announcement at each arrival
    mean_work_gcycle: float  # of the workload
    slot_tasks: Floats | None  # [N] expected number of tasks at index n of a station's slot; None unless slotted
    drawn_order: bool  # True: tasks that arrive together are served in drawn order; False: station 0 first
    own_rate: Floats | None = None  # [R, M] tasks/s at the own station lately, for those with `rate_memory_s`

    @property
    def local(self) -> Bools:
        """[R, M, E] whether the server is that of the task's own station (which may have none)."""
        here: Bools = self.tasks.origin[..., None] == self.scenario.home
        return here

    @property
    def work_s(self) -> Floats:
        """[R, M, E] computing time of the whole task at nominal speed, without its overhead."""
        seconds: Floats = self.tasks.work_gcycle[..., None] / self.scenario.speed_gcps
        return seconds

    @property
    def send_s(self) -> Floats:
        """[R, M, E] time to send the whole input to the server, without latency and waiting; 0 where local."""
        seconds: Floats = self.tasks.input_mbit[..., None] / self.scenario.link_mbps[self.tasks.origin]
        return seconds


class Scheduler(Protocol):
    """One scheduler. `cadence` says how often it is asked.

    "trace": once per trace (its Decision is a rule that the world's kernel carries out task by task),
    "epoch": once per announcement interval, "arrival": for as many tasks together as come from different stations.
    """

    @property
    def info(self) -> str:
        """Information class, one of INFO_CLASSES, shown in every table."""
        ...

    @property
    def cadence(self) -> str:
        """How often it is asked, one of CADENCES."""
        ...

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """Decision for view.tasks, arrays [R, M, ...]. `rng` is the scheduler's own named stream."""
        ...


@runtime_checkable
class Trained(Scheduler, Protocol):
    """A scheduler with weights that were learned: several training seeds, decided for side by side, seed-major."""

    n_seeds: int
    n_learners: int

    def start_evaluation(self, n_traces: int, generators: Sequence[np.random.Generator]) -> None:
        """No exploration from now on; random numbers come from `generators` [n_learners]."""
        ...

    def weights(self) -> dict[str, Any]:
        """Copies of the learned tensors by name."""
        ...

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Take over weights; ValueError on other names or shapes."""
        ...
