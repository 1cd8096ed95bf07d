"""Training: a generator that runs episodes and yields what happened; counting, showing and saving are up to others."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.edge import published
from ddrl_sched.edge.types import Bools, Floats, Outcome, Scenario, Tasks
from ddrl_sched.run.rollout import Step, Traces, rollout
from ddrl_sched.schedulers.learned import Learner


@dataclass(frozen=True)
class Progress:
    """One episode of all seeds."""

    episode: int  # number, from 0
    tasks_seen: NDArray[np.int64]  # [seeds] since the start
    updates: int  # since the start
    delay_s: Floats  # [seeds] mean delay of the episode's tasks, NaN where there was none
    late_rate: Floats  # [seeds]
    metrics: dict[str, Floats]  # [seeds] of the last update, mean over a seed's learners
    elapsed_s: float  # wall clock since the start


def train(learner: Learner, episodes: int, traces_of: Callable[[int], Traces]) -> Iterator[Progress]:
    """Train all seeds side by side; `traces_of(episode)` gives the fresh traces [R = seeds] of an episode.

    Replica i trains seed i. A task's reward enters the memory when its delay is known and its station's next task
    has been observed. The end of an episode truncates: its last tasks are dropped, nothing counts as terminal.
    """
    began = time.monotonic()
    tasks_seen = np.zeros(learner.n_seeds, np.int64)
    rng = np.random.default_rng(0)  # learners draw from their own generators
    for episode in range(episodes):
        traces = traces_of(episode)
        learner.start_episode()
        metrics: dict[str, Floats] = {}
        step: Step | None = None
        slot = -1
        for step in rollout(traces, learner, rng):
            learner.note(step.lo, traces.tasks.origin, traces.tasks.arrive_s)
            if not step.epoch_ends:
                continue
            settled = settled_tasks(step)
            rewards, known = reward_of(learner, traces, step.outcome, settled)
            learner.collect(rewards, known, traces.scenario)
            now = int(step.epoch * traces.scenario.announce_s / traces.scenario.slot_s + 1e-9)
            if now > slot:  # slots without a task do not count
                slot = now
                metrics = _per_seed(learner.update(), learner.n_seeds) or metrics
        n_tasks = traces.tasks.valid.sum(1)
        tasks_seen = tasks_seen + n_tasks
        delay_s, late_rate = np.full((2, learner.n_seeds), np.nan)
        if step is not None:  # a window of a real trace may hold no task
            some = np.maximum(n_tasks, 1)
            delay_s = np.where(n_tasks > 0, np.nansum(step.outcome.delay_s, 1) / some, np.nan)
            late_rate = np.where(n_tasks > 0, step.outcome.late.sum(1) / some, np.nan)
        elapsed_s = time.monotonic() - began
        yield Progress(episode, tasks_seen, learner.updates, delay_s, late_rate, metrics, elapsed_s)


def settled_tasks(step: Step) -> Bools:
    """[R, N] tasks whose delay is final: decided, and no share of them still on its way."""
    settled: Bools = ~np.isnan(step.outcome.delay_s)
    if hasattr(step.state, "n_flight"):
        room = step.state.flight_task.shape[2]
        replica, server, place = np.nonzero(np.arange(room) < step.state.n_flight[..., None])
        settled[replica, step.state.flight_task[replica, server, place]] = False
    return settled


def reward_of(learner: Learner, traces: Traces, outcome: Outcome, settled: Bools) -> tuple[Floats, Bools]:
    """(reward [R, N], where it is known [R, N]) by the learner's settings; published worlds: as published."""
    scenario, tasks = traces.scenario, traces.tasks
    learning = learner.settings.learning
    if scenario.rule != "clean":
        given = published.reward(scenario, tasks, outcome)
        own = np.where(np.isnan(given), -outcome.delay_s, given)
    else:
        delay = outcome.delay_s / learning.reward_scale_s
        own = -np.log1p(delay) if learning.reward_shape == "log" else -delay
    if learning.reward == "own":
        return own, settled
    return _team_mean(own, settled, scenario, tasks)


def _team_mean(own: Floats, settled: Bools, scenario: Scenario, tasks: Tasks) -> tuple[Floats, Bools]:
    """Every task gets the mean of all tasks of its announcement interval, known when all of them are."""
    epoch = np.where(tasks.valid, np.floor(tasks.arrive_s / scenario.announce_s + 1e-9), 0).astype(np.int64)
    cell = epoch + np.arange(len(epoch))[:, None] * (epoch.max() + 1)
    size = np.bincount(cell[tasks.valid], minlength=cell.max() + 1)
    known = tasks.valid & settled
    count = np.bincount(cell[known], minlength=len(size))
    total = np.bincount(cell[known], own[known], minlength=len(size))
    mean = total / np.maximum(count, 1)
    return mean[cell], (count == size)[cell] & tasks.valid


def _per_seed(metrics: dict[str, NDArray[np.float32]], n_seeds: int) -> dict[str, Floats]:
    return {name: np.asarray(value, np.float64).reshape(n_seeds, -1).mean(1) for name, value in metrics.items()}
