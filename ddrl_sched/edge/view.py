"""What a scheduler may see when it decides."""

from dataclasses import dataclass
from typing import NamedTuple

from ddrl_sched.edge.types import Bools, Floats, Ints, Scenario, Tasks


class Earlier(NamedTuple):
    """How many tasks were decided before each task of a window, since the trace began."""

    own: Ints  # [R, M] of its station
    own_now: Ints  # [R, M] of its station, that arrived at the same moment
    all_now: Ints  # [R, M] of all stations, that arrived at the same moment


@dataclass(frozen=True)
class View:
    """What a scheduler may see when it decides. Read only. M is the width of the window that it decides about."""

    scenario: Scenario  # capacities, rates, latencies
    tasks: Tasks  # [R, M] the tasks to decide: a whole trace, an epoch, or one task per station (see `cadence`)
    wait_s: Floats | None  # [R, M, E] waits as the scheduler's class knows them at each arrival; None at cadence trace
    age_s: Floats | None  # [R, M] age of the last announcement at each arrival
    mean_work_gcycle: float  # of the workload
    slot_tasks: Floats | None  # [N] expected number of tasks at index n of a station's slot; None unless slotted
    drawn_order: bool  # True: tasks that arrive together are served in drawn order; False: station 0 first
    own_rate: Floats | None = None  # [R, M] tasks/s at the own station lately, for those with `rate_memory_s`
    earlier: Earlier | None = None  # what was decided before each task

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
