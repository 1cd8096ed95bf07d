"""The reward of a task: minus its delay, in the shape and the unit of the learner's settings."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from ddrl_sched.edge import published
from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Bools, Floats, Ints, Outcome, Scenario, Tasks

if TYPE_CHECKING:
    from ddrl_sched.schedulers.learned_settings import LearningSettings  # torch comes with it

Shape = Literal["linear", "log"]


def reward_of(learning: "LearningSettings", traces: Traces, outcome: Outcome, settled: Bools) -> tuple[Floats, Bools]:
    """(reward [R, N], where it is known [R, N]) by the learner's settings; published worlds: as published."""
    scenario, tasks = traces.scenario, traces.tasks
    if scenario.published:
        given = published.reward(scenario, tasks, outcome)
        own = np.where(np.isnan(given), -outcome.delay_s, given)
    else:
        own = own_reward(outcome.delay_s, learning.reward_shape, learning.reward_scale_s)
    if learning.reward == "own":
        return own, settled
    return _team_mean(own, settled, scenario, tasks)


def own_reward(delay_s: Floats, shape: Shape, scale_s: float) -> Floats:
    """Minus delays in units of scale_s ("linear"), or minus log(1 + delay / scale_s) ("log"); any array."""
    delay = delay_s / scale_s
    return -np.log1p(delay) if shape == "log" else -delay


def interval_of(tasks: Tasks, scenario: Scenario) -> Ints:
    """[R, N] number of the announcement interval in which each task arrives, 0 on padding."""
    return np.where(tasks.valid, np.floor(tasks.arrive_s / scenario.announce_s + 1e-9), 0).astype(np.int64)


def _team_mean(own: Floats, settled: Bools, scenario: Scenario, tasks: Tasks) -> tuple[Floats, Bools]:
    """Every task gets the mean of all tasks of its announcement interval, known when all of them are."""
    epoch = interval_of(tasks, scenario)
    cell = epoch + np.arange(len(epoch))[:, None] * (epoch.max() + 1)
    size = np.bincount(cell[tasks.valid], minlength=cell.max() + 1)
    known = tasks.valid & settled
    count = np.bincount(cell[known], minlength=len(size))
    total = np.bincount(cell[known], own[known], minlength=len(size))
    mean = total / np.maximum(count, 1)
    return mean[cell], (count == size)[cell] & tasks.valid
