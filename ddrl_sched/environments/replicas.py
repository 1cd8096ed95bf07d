"""One decision at a time in R traces: the loop behind the Gymnasium environments, single and as a vector.

An agent decides for one station, and a rule for the others; or it decides for all stations in the order of arrival.
Tasks of one window of the learner's cadence are seen as of the start of the window, which is what our learners see.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Bools, Floats, Ints
from ddrl_sched.environments.faces import Face, Sight
from ddrl_sched.environments.ledger import Reward
from ddrl_sched.environments.settings import Rule
from ddrl_sched.environments.simulation import Simulation
from ddrl_sched.run.rollout import decide

FEWEST = 3  # tasks of the agent in an episode; traces with fewer are passed over
MOST_TRIES = 1000


class Steps(NamedTuple):
    """What one decision in each replica brought."""

    reward: Floats  # [R]
    ended: Bools  # [R] the next task is the last one, which is seen and not decided
    delay_s: Floats  # [R] of the decided task, as it stands
    late: Bools  # [R]
    share: Floats  # [R, E]
    station: Ints  # [R] where it arrived
    elapsed_s: Floats  # [R] from its arrival to that of the next task of the agent


class Replicas:
    """R traces. `draw(replica)` gives the next trace (R = 1) of a replica; see `start`."""

    def __init__(
        self,
        face: Face,
        sight: Sight,
        reward: Reward,
        draw: Callable[[int], Traces],
        first: Traces,
        *,
        n_replicas: int,
        station: int | None,
        rule: Rule | None,
    ) -> None:
        self._face, self._draw, self._station, self._rule = face, draw, station, rule
        self.simulation = Simulation(
            first,
            n_replicas,
            sight=sight,
            reward=reward,
            n_accounts=1,
        )
        self._every = np.arange(n_replicas)
        self._tasks_of: list[Ints] = [np.zeros(0, np.int64)] * n_replicas  # the agent's tasks of each trace
        self._turn = np.zeros(n_replicas, np.int64)  # number of the next one among them
        self._next = np.zeros(n_replicas, np.int64)  # its position along N
        self._window = np.full(n_replicas, -1, np.int64)  # begin of the window that was seen
        self._rng = np.random.default_rng(0)  # of rules that draw
        n_seen = face.observation_space.shape[0]
        self._seen = np.zeros((n_replicas, 1, n_seen), np.float32)  # [R, M, O] of the window
        self._wait_s = np.zeros((n_replicas, 1, first.scenario.n_servers))  # [R, M, E]

    def start(self, replica: int) -> None:
        """Begin the next trace of a replica; `look` then sees its first task. Traces with few tasks are passed over."""
        for _ in range(MOST_TRIES):
            traces = self._draw(replica)
            valid, origin = traces.tasks.valid[0], traces.tasks.origin[0]
            mine = valid if self._station is None else valid & (origin == self._station)
            if mine.sum() >= FEWEST:
                break
        else:
            text = f"{MOST_TRIES} traces in turn have fewer than {FEWEST} tasks of the agent"
            raise InputError(f"load, train.episode_slots: {text}")
        self.simulation.begin(replica, traces, np.where(mine, 0, -1))
        self._tasks_of[replica] = np.flatnonzero(mine)
        self._turn[replica], self._next[replica] = 0, self._tasks_of[replica][0]
        self._window[replica] = -1

    def restart_rule(self, seed: int) -> None:
        """Begin the random numbers of a rule that draws anew, so that a seed gives the same episodes each time."""
        self._rng = np.random.default_rng(seed)

    def look(self) -> np.ndarray:
        """[R, O] what is seen of the next task of every replica; a new array."""
        sim, i = self.simulation, self._next
        lo, hi, epoch = (array[self._every, i] for array in sim.windows)
        fresh = lo != self._window
        if fresh.any():
            self._decide_others(np.where(fresh, lo, sim.at))
            hi = np.where(fresh, hi, lo)
            view = sim.look(lo, hi, epoch)
            self._keep(view.wait_s, self._face.observe(view), fresh)
            self._window = np.where(fresh, lo, self._window)
        return self._seen[self._every, i - lo]

    def _keep(self, wait_s: Floats | None, seen: np.ndarray, fresh: Bools) -> None:
        assert wait_s is not None
        width = seen.shape[1]
        short = max(width - self._seen.shape[1], 0)
        if short:
            self._seen = np.pad(self._seen, [(0, 0), (0, short), (0, 0)])
            self._wait_s = np.pad(self._wait_s, [(0, 0), (0, short), (0, 0)])
        self._seen[fresh, :width], self._wait_s[fresh, :width] = seen[fresh], wait_s[fresh]

    def _decide_others(self, until: Ints) -> None:
        """Let the rule decide the tasks of the other stations up to until[r]."""
        sim = self.simulation
        if self._rule is None or (sim.at >= until).all():
            return
        until = np.maximum(until, sim.at)
        view = sim.view(sim.at, until, None)
        sim.place(sim.at, until, decide(self._rule.scheduler, self._rule.traits, view, self._rng))

    def step(self, actions: np.ndarray, active: Bools) -> tuple[np.ndarray, Steps]:
        """Decide the next task of the `active` replicas [R]; (what is seen of the one after it, what it brought).

        A replica that ended must be started again before it is active.
        """
        sim, decided = self.simulation, self._next.copy()
        self._decide_others(np.where(active, decided, sim.at))
        lo, hi = np.where(active, decided, sim.at), np.where(active, decided + 1, sim.at)
        origin = sim.tasks.origin[self._every, decided][:, None]
        wait_s = self._wait_s[self._every, decided - sim.windows.lo[self._every, decided]][:, None]
        sim.place(lo, hi, self._face.decision(origin, actions[:, None], lambda: sim.view(lo, hi, wait_s)))
        self._turn += active
        self._next = np.array([tasks[turn] for tasks, turn in zip(self._tasks_of, self._turn, strict=True)])
        seen = self.look()
        return seen, self._brought(decided)

    def _brought(self, decided: Ints) -> Steps:
        sim, every = self.simulation, self._every
        reward = sim.value()[:, 0]
        ended = self._turn == np.array([len(tasks) - 1 for tasks in self._tasks_of])
        outcome, arrive_s = sim.outcome, sim.tasks.arrive_s
        return Steps(
            reward,
            ended,
            outcome.delay_s[every, decided],
            outcome.late[every, decided],
            outcome.share[every, decided],
            sim.tasks.origin[every, decided],
            arrive_s[every, self._next] - arrive_s[every, decided],
        )
