"""R traces that run side by side, each at its own pace: what is decided is placed at once, and valued at once.

Axes as in edge/types.py; G accounts of rewards (one agent, or one for each station). Clean worlds only.
"""

from typing import NamedTuple, TypeVar

import numpy as np

from ddrl_sched.edge import physics
from ddrl_sched.edge.physics_state import State
from ddrl_sched.edge.session import Traces, earlier_tasks, list_windows, recent_rate, view_of
from ddrl_sched.edge.types import Decision, Floats, Ints, Outcome, Scenario, Tasks, read_only
from ddrl_sched.edge.view import Earlier, View
from ddrl_sched.environments.faces import Sight
from ddrl_sched.environments.ledger import Ledger, Reward

T = TypeVar("T", "Windows", Earlier, Outcome)


class Windows(NamedTuple):
    """The window of a learner's cadence in which each task lies: tasks lo..hi-1 of its replica."""

    lo: Ints  # [R, N]
    hi: Ints  # [R, N]
    epoch: Ints  # [R, N] number of the announcement interval


class Simulation:
    """The worlds of R replicas. A replica is empty until `begin` gives it a trace; it may be given others later."""

    def __init__(
        self,
        first: Traces,
        n_replicas: int,
        *,
        sight: Sight,
        reward: Reward,
        n_accounts: int,
    ) -> None:
        """`first`: a trace of the world (R = 1); `sight`: what a View tells, and how often."""
        self.scenario: Scenario = first.scenario
        self._sight = sight
        every = np.zeros(n_replicas, np.int64)
        self.tasks: Tasks = Tasks._make(array[every] for array in first.tasks)
        self._seen: Traces = read_only(first)
        self.windows = Windows(*(np.zeros(self.tasks.shape, np.int64) for _ in range(3)))
        self._earlier = Earlier(*(np.zeros(self.tasks.shape, np.int64) for _ in range(3)))
        self._own_rate = None if sight.rate_memory_s is None else np.zeros(self.tasks.shape)
        self._state: State = physics.initial_state(self.scenario, n_replicas)
        self.outcome: Outcome = physics.empty_outcome(self.tasks, self.scenario.n_servers)
        self.at = every.copy()  # [R] next task to be placed
        self._ledger = Ledger(reward, n_accounts, self.scenario, self.tasks)

    def begin(self, replica: int, traces: Traces, owner: Ints) -> None:
        """Start a trace (R = 1) in a replica. owner [N]: account of each task's reward, -1 for none."""
        fresh = traces.tasks
        self.tasks = Tasks._make(_with_row(old, replica, row) for old, row in zip(self.tasks, fresh, strict=True))
        self.tasks.valid[replica, fresh.shape[1] :] = False
        self.tasks.speed_change_s[replica, :, fresh.speed_change_s.shape[2] :] = np.inf
        self._seen = read_only(Traces(self.scenario, self.tasks, *_facts(traces)))
        self.windows = _with_rows(
            self.windows, replica, windows_of(fresh, self.scenario.announce_s, self._sight.cadence)
        )
        self._earlier = _with_rows(self._earlier, replica, earlier_tasks(fresh, self.scenario.n_stations))
        if self._own_rate is not None and self._sight.rate_memory_s is not None:
            rate = recent_rate(fresh, self.scenario.n_stations, self._sight.rate_memory_s)
            self._own_rate = _with_row(self._own_rate, replica, rate)
        self.outcome = _with_rows(self.outcome, replica, physics.empty_outcome(fresh, self.scenario.n_servers))
        self._forget(replica)
        self._ledger.begin(replica, fresh, owner, self.tasks.shape[1])

    def _forget(self, replica: int) -> None:
        idle = physics.initial_state(self.scenario, 1)
        for array, at_first in zip(self._state, idle, strict=True):
            if array.shape[1:] == at_first.shape[1:]:  # lists of shares on their way may have grown; they are empty
                array[replica] = at_first[0]
        self.at[replica] = 0

    def place(self, lo: Ints, hi: Ints, decision: Decision) -> None:
        """Carry out a decision about tasks lo[r]..hi[r]-1, none where lo[r] = hi[r]. ValueError as physics.place."""
        self._state = physics.place(
            self.scenario, self._state, self.tasks, decision, lo=lo, hi=hi, outcome=self.outcome
        )
        self.at = np.maximum(self.at, hi)

    def look(self, lo: Ints, hi: Ints, epoch: Ints) -> View:
        """What may be seen of windows lo[r]..hi[r]-1 of the intervals `epoch`, as of now: as Session.look."""
        some = lo < hi
        begin_s = np.where(some, epoch * self.scenario.announce_s, -np.inf)
        self._state = physics.advance(self.scenario, self._state, self.tasks, begin_s, self.outcome)
        wait_s = physics.estimates(self.scenario, self._state, self.tasks, lo=lo, hi=hi, info=self._sight.choose_info)
        return self.view(lo, hi, wait_s)

    def view(self, lo: Ints, hi: Ints, wait_s: Floats | None) -> View:
        """The View of tasks lo[r]..hi[r]-1 with these waits; None: as a rule of cadence "trace" sees it."""
        return view_of(
            self._seen,
            lo,
            hi,
            earlier=self._earlier,
            wait_s=wait_s,
            own_rate=None if wait_s is None else self._own_rate,
            aged=wait_s is not None,
        )

    def value(self) -> Floats:
        """[R, G] by how much the rewards of all placed tasks have changed since the last call.

        All that was placed is served in thought, as if nothing came after it. A later share may overtake one that is on
        its way: what it takes from the earlier task is then part of the later change.
        """
        physics.finish(self.scenario, self._state, self.tasks, self.outcome)  # the state after it is dropped
        return self._ledger.update(self.outcome, self._state, self.at)


def windows_of(tasks: Tasks, announce_s: float, cadence: str) -> Windows:
    """The windows [1, N] of one trace in which a learner of this cadence decides."""
    found = Windows(*(np.zeros(tasks.shape, np.int64) for _ in range(3)))
    for window in list_windows(tasks, announce_s, cadence):
        lo, hi = int(window.lo[0]), int(window.hi[0])
        for array, value in zip(found, (lo, hi, window.epoch), strict=True):
            array[0, lo:hi] = value
    return found


def _facts(traces: Traces) -> tuple[float, np.ndarray | None, bool]:
    return traces.mean_work_gcycle, traces.slot_tasks, traces.drawn_order


def _with_rows(records: T, replica: int, row: T) -> T:
    return type(records)(*(_with_row(old, replica, new) for old, new in zip(records, row, strict=True)))


def _with_row(array: np.ndarray, replica: int, row: np.ndarray) -> np.ndarray:
    """The array [R, ...] with row [1, ...] in the place of a replica; it grows where the row is longer.

    What stands behind a shorter trace is never placed; behind the pieces of a speed the last one goes on. An array
    without replicas (moments that nobody asked for) stays as it is.
    """
    if len(array) == 0:
        return array
    short = [max(new - old, 0) for old, new in zip(array.shape[1:], row.shape[1:], strict=True)]
    if any(short):
        array = np.pad(array, [(0, 0), *((0, n) for n in short)], mode="edge" if array.ndim == 3 else "constant")
    place = array[replica]
    place[tuple(slice(n) for n in row.shape[1:])] = row[0]
    return array
