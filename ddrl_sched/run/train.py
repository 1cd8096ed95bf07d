"""Training: runs episodes and yields what happened; counting, showing and saving are up to others."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from ddrl_sched.agents.base import Array
from ddrl_sched.edge.session import Halt, Traces
from ddrl_sched.edge.types import Floats, Outcome, Scenario
from ddrl_sched.edge.world import world_of
from ddrl_sched.run.metrics import VALIDATION_METRIC
from ddrl_sched.run.reward import reward_of
from ddrl_sched.run.rollout import Step, mean_delay_s, rollout
from ddrl_sched.run.validation import Validation, is_due, validate
from ddrl_sched.schedulers.base import traits_of
from ddrl_sched.schedulers.learned import Learner, LearnerState


@dataclass(frozen=True)
class Progress:
    """One episode of all seeds."""

    episode: int  # number, from 0
    tasks_seen: NDArray[np.int64]  # [seeds] since the start
    updates: int  # since the start
    delay_s: Floats  # [seeds] mean delay of the episode's tasks, NaN where there was none
    late_rate: Floats  # [seeds]
    metrics: dict[str, Floats]  # [seeds] of the last update, mean over a seed's learners
    elapsed_s: float  # wall clock of training since the start

    @property
    def summary(self) -> str:
        """The mean delay over the seeds whose episode held a task, in words."""
        some = self.delay_s[~np.isnan(self.delay_s)]
        return f"mean delay {some.mean():.6f} s" if len(some) else "no task"


class TrainingState(TypedDict):
    """Everything of a Training that evolves, its learner included."""

    learner: LearnerState
    episode: int
    tasks_seen: torch.Tensor  # [seeds]
    elapsed_s: float
    slot: int
    metrics: dict[str, torch.Tensor]
    n_windows: int  # of the episode that were done
    world: dict[str, torch.Tensor]  # arrays of the world's state, empty between episodes
    outcome: dict[str, torch.Tensor]


class Training:
    """The training of all seeds side by side, to be iterated once; its state can be saved whenever it has yielded.

    Yields a Progress at the end of an episode and None at the moments between. `traces_of(episode)` gives the fresh
    traces [R = seeds] of an episode, all under the rule of `scenario`. Replica i trains seed i. A task's reward enters
    the memory when its delay is known and its station's next task has been observed. The end of an episode truncates:
    its last tasks are dropped, nothing counts as terminal. `validation` comes at the end of its episodes.
    """

    def __init__(
        self,
        learner: Learner,
        scenario: Scenario,
        episodes: int,
        traces_of: Callable[[int], Traces],
        validation: Validation | None = None,
    ) -> None:
        self._learner, self._traits = learner, traits_of(learner)
        self._world = world_of(scenario)
        self._episodes = episodes
        self._traces_of = traces_of
        self._validation = validation
        self._began = time.monotonic()
        self._episode = 0  # the one that runs, or comes next
        self._tasks_seen = np.zeros(learner.n_seeds, np.int64)
        self._halt: Halt | None = None  # within the episode
        self._slot = -1  # of the last updates in the episode
        self._metrics: dict[str, Floats] = {}  # of the last update in the episode

    def __iter__(self) -> Iterator[Progress | None]:
        """Train from where it stands to the end."""
        rng = np.random.default_rng(0)  # learners draw from their own generators
        while self._episode < self._episodes:
            traces = self._traces_of(self._episode)
            if self._halt is None:
                self._learner.start_episode()
                self._slot, self._metrics = -1, {}
            for step in rollout(traces, self._learner, rng, self._halt, traits=self._traits):
                self._learn(traces, step)
                self._halt = Halt(step.n_windows, step.state, step.outcome)
                yield None
            validated: dict[str, Floats] = {}
            if self._validation is not None and is_due(self._validation, self._episode, self._episodes):
                validated[VALIDATION_METRIC] = yield from validate(self._validation, self._learner, self._traits)
            progress = self._progress(traces, validated)
            self._halt, self._episode, self._tasks_seen = None, self._episode + 1, progress.tasks_seen
            yield progress

    def _learn(self, traces: Traces, step: Step) -> None:
        """Take in what a window brought; the updates are due when a slot (one without a task does not count) ends."""
        learner, scenario = self._learner, traces.scenario
        learner.record(step.window.lo, traces.tasks.origin, traces.tasks.arrive_s)
        if not step.window.epoch_ends:
            return
        settled = self._world.settled(step.state, step.outcome)
        rewards, known = reward_of(learner.settings.learning, traces, step.outcome, settled)
        learner.flush_transitions(rewards, known, scenario)
        now = int(step.window.epoch * scenario.announce_s / scenario.slot_s + 1e-9)
        if now > self._slot:
            self._slot = now
            progress = self._episode / max(self._episodes - 1, 1)
            self._metrics = _per_seed(learner.update(progress), learner.n_seeds) or self._metrics

    def _progress(self, traces: Traces, validated: dict[str, Floats]) -> Progress:
        n_tasks = traces.tasks.valid.sum(1)
        delay_s, late_rate = np.full((2, self._learner.n_seeds), np.nan)
        if self._halt is not None:  # a window of a real trace may hold no task
            outcome, some = self._halt.outcome, np.maximum(n_tasks, 1)
            delay_s = mean_delay_s(outcome, traces.tasks)
            late_rate = np.where(n_tasks > 0, outcome.late.sum(1) / some, np.nan)
        seen, elapsed_s = self._tasks_seen + n_tasks, time.monotonic() - self._began
        metrics = self._metrics | validated
        return Progress(self._episode, seen, self._learner.updates, delay_s, late_rate, metrics, elapsed_s)

    def state_dict(self) -> TrainingState:
        """Everything that evolves; tensors may share memory with it."""
        halt = self._halt
        return {
            "learner": self._learner.state_dict(),
            "episode": self._episode,
            "tasks_seen": torch.from_numpy(self._tasks_seen),
            "elapsed_s": time.monotonic() - self._began,
            "slot": self._slot,
            "metrics": _tensors(self._metrics),
            "n_windows": halt.n_windows if halt else 0,
            "world": _tensors(halt.state._asdict()) if halt else {},
            "outcome": _tensors(halt.outcome._asdict()) if halt else {},
        }

    def load_state_dict(self, state: TrainingState) -> None:
        """Go on from what `state_dict` gave. ValueError on other names or shapes."""
        self._learner.load_state_dict(state["learner"])
        self._episode, self._slot = state["episode"], state["slot"]
        self._tasks_seen = state["tasks_seen"].numpy().copy()
        self._began = time.monotonic() - state["elapsed_s"]
        self._metrics, self._halt = _arrays(state["metrics"]), None
        if state["n_windows"]:
            world = self._world.state_of(_arrays(state["world"]))
            self._halt = Halt(state["n_windows"], world, Outcome(**_arrays(state["outcome"])))


def _per_seed(metrics: dict[str, NDArray[np.float32]], n_seeds: int) -> dict[str, Floats]:
    return {name: np.asarray(value, np.float64).reshape(n_seeds, -1).mean(1) for name, value in metrics.items()}


def _tensors(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    return {name: tensor.numpy().copy() for name, tensor in tensors.items()}
