"""What the decisions so far are worth: the rewards of the tasks that were placed, as they stand.

The reward of a task is that of our learners (run/reward.py). Its delay is final only when none of its shares is on its
way any more, so the sum is kept and told by its changes: over an episode they add up to the learners' rewards.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ddrl_sched.edge.physics_state import State
from ddrl_sched.edge.types import Floats, Ints, Outcome, Scenario, Tasks
from ddrl_sched.run.reward import Shape, interval_of, own_reward


@dataclass(frozen=True)
class Reward:
    """The reward of a task. team: the mean over the tasks of its announcement interval that were placed."""

    of: Literal["own", "team"]
    shape: Shape
    scale_s: float  # delay that counts as 1


class Ledger:
    """Rewards of the placed tasks of R replicas in G accounts."""

    def __init__(self, reward: Reward, n_accounts: int, scenario: Scenario, tasks: Tasks) -> None:
        r, n = tasks.shape
        self._reward, self._n_accounts, self._scenario = reward, n_accounts, scenario
        self._owner = np.full((r, n), -1, np.int64)  # account of each task
        self._interval = np.zeros((r, n), np.int64)
        self._own = np.zeros((r, n))  # reward of each placed task by its own delay
        self._open = np.zeros(r, np.int64)  # first task whose delay may still change
        self._counted = np.zeros(r, np.int64)  # tasks 0..counted-1 are placed and counted
        self._value = np.zeros((r, n_accounts))
        self._total = np.zeros((r, 1))  # [R, K] sum of own rewards in each interval
        self._count = np.zeros((r, 1))  # [R, K] placed tasks
        self._owned = np.zeros((r, 1, n_accounts))  # [R, K, G] of them those of each account

    def begin(self, replica: int, tasks: Tasks, owner: Ints, width: int) -> None:
        """Start a replica anew with a trace (R = 1); width: N of all replicas from now on."""
        n, interval = len(owner), interval_of(tasks, self._scenario)[0]
        self._owner, self._interval, self._own = (_at_least(a, width) for a in (self._owner, self._interval, self._own))
        self._owner[replica], self._interval[replica], self._own[replica] = -1, 0, 0.0
        self._owner[replica, :n], self._interval[replica, :n] = owner, interval
        last = int(interval.max(initial=0)) + 1
        self._total, self._count, self._owned = (_at_least(a, last) for a in (self._total, self._count, self._owned))
        for array in (self._open, self._counted, self._value, self._total, self._count, self._owned):
            array[replica] = 0

    def update(self, outcome: Outcome, state: State, at: Ints) -> Floats:
        """[R, G] change of the accounts, now that tasks up to at[r] are placed and have the delays of `outcome`."""
        place = self._open[:, None] + np.arange(int((at - self._open).max(initial=0)))
        r, column = np.nonzero(place < at[:, None])
        i = place[r, column]
        now = own_reward(outcome.delay_s[r, i], self._reward.shape, self._reward.scale_s)
        change = now - self._own[r, i]
        self._own[r, i] = now
        changes = self._own_changes(r, i, change) if self._reward.of == "own" else self._team_changes(r, i, change)
        self._counted = at.copy()
        on_its_way = np.arange(state.flight_task.shape[2]) < state.n_flight[..., None]
        first = np.where(on_its_way, state.flight_task, np.iinfo(np.int64).max).min((1, 2))
        self._open = np.minimum(at, first)
        return changes

    def _own_changes(self, r: Ints, i: Ints, change: Floats) -> Floats:
        owner = self._owner[r, i]
        mine = owner >= 0
        sums = np.zeros((len(self._open), self._n_accounts))
        np.add.at(sums, (r[mine], owner[mine]), change[mine])
        return sums

    def _team_changes(self, r: Ints, i: Ints, change: Floats) -> Floats:
        k, owner, fresh = self._interval[r, i], self._owner[r, i], i >= self._counted[r]
        np.add.at(self._total, (r, k), change)
        np.add.at(self._count, (r[fresh], k[fresh]), 1.0)
        mine = fresh & (owner >= 0)
        np.add.at(self._owned, (r[mine], k[mine], owner[mine]), 1.0)
        mean = self._total / np.maximum(self._count, 1.0)
        value = (self._owned * mean[..., None]).sum(1)
        changes: Floats = value - self._value
        self._value = value
        return changes


def _at_least(array: np.ndarray, width: int) -> np.ndarray:
    """The array [R, W, ...] with zeros behind it up to a width."""
    short = max(width - array.shape[1], 0)
    return np.pad(array, [(0, 0), (0, short), *[(0, 0)] * (array.ndim - 2)]) if short else array
