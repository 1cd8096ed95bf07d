"""How long a job will take on one core, judged by a few of its own slots and updates."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ddrl_sched.agents.base import Batch
from ddrl_sched.run.identity import JobSettings
from ddrl_sched.run.problem import Problem
from ddrl_sched.run.rollout import rollout
from ddrl_sched.run.train import Training
from ddrl_sched.schedulers.base import Scheduler
from ddrl_sched.schedulers.learned import Learner
from ddrl_sched.schedulers.price_policy import PricePolicy, evolution_settings

START_S = 0.5  # files, and what else every job does once
FEW_SLOTS, FEW_TASKS = 6, 300  # tried


@dataclass(frozen=True)
class Pace:
    """CPU seconds of a learner's work."""

    slot_s: float  # deciding, placing and remembering, all seeds
    update_s: float
    busy: float  # fraction of the slots that hold a task, after which updates are due


def estimate_s(
    problem: Problem, scheduler: Scheduler, settings: JobSettings, n_seeds: int, trained_on: Sequence[Problem]
) -> tuple[float, float]:
    """CPU seconds of a job's training on these problems in turn (none: 0), and of the rest.

    A Learner is used up by it: its weights and memory have changed.
    """
    demand, scenario = problem.plan.demand, problem.scenario
    evaluated = demand.tasks_per_s * scenario.horizon_s * settings.evaluate.traces * n_seeds
    if isinstance(scheduler, PricePolicy):
        searched_s = sum(_search_s(each, scheduler, settings) for each in trained_on)
        return searched_s, START_S + 2e-5 * evaluated
    if not isinstance(scheduler, Learner):
        return 0.0, START_S + _task_s(problem, scheduler, settings.seed) * evaluated
    pace = _pace(problem, scheduler, settings)
    evaluation_s = pace.slot_s * scenario.horizon_s / scenario.slot_s * settings.evaluate.traces
    trained_s = [training_s(each, scheduler, settings, pace) for each in trained_on]
    looked_s = n_looks(settings) * pace.slot_s * sum(episode_s(each, settings) for each in trained_on) / scenario.slot_s
    return sum(trained_s) / max(len(trained_s), 1) + looked_s, START_S + evaluation_s


def n_looks(settings: JobSettings) -> int:
    """How often a training looks at its policy (run/validate.py); a look plays one episode of every load."""
    every = settings.train.validate_every
    return -(-settings.train.episodes // every) if every else 0


def episode_s(problem: Problem, settings: JobSettings) -> float:
    """Simulated seconds of an episode."""
    budget = settings.train
    one = problem.training(settings.seed, range(1), 0, budget.episode_slots, budget.episode_tasks)[0]
    return one.scenario.horizon_s


def training_s(problem: Problem, learner: Learner, settings: JobSettings, pace: Pace) -> float:
    """CPU seconds of a training at this pace."""
    budget, learning = settings.train, learner.settings.learning
    slots = budget.episodes * episode_s(problem, settings) / problem.scenario.slot_s
    per_slot = problem.plan.demand.tasks_per_s * problem.scenario.slot_s * settings.seeds / learner.n_learners
    learns = max(slots - max(learning.start_slots, learning.batch / per_slot), 0.0)  # the memory fills first
    return slots * pace.slot_s + learns * pace.busy * learning.updates / learning.every_slots * pace.update_s


def _pace(problem: Problem, learner: Learner, settings: JobSettings) -> Pace:
    scenario, update_s = problem.scenario, _cpu_s(lambda: learner.agent.update(_nothing(learner)))
    before = learner.updates
    traces = problem.training(settings.seed, range(settings.seeds), 0, FEW_SLOTS, FEW_TASKS)[0]

    def play() -> None:
        for _ in Training(learner, scenario, 1, lambda _: traces):
            pass

    played_s = _cpu_s(play)
    updates = (learner.updates - before) / 2
    slots = traces.scenario.horizon_s / scenario.slot_s
    busy = len(np.unique(np.floor(traces.tasks.arrive_s[traces.tasks.valid] / scenario.slot_s))) / slots
    return Pace(max(played_s - updates * update_s, 0.0) / slots, update_s, busy)


def _task_s(problem: Problem, scheduler: Scheduler, seed: int) -> float:
    """CPU seconds per task of a scheduler that does not learn, the drawing of the task included."""
    n_tasks = 0

    def play() -> None:
        nonlocal n_tasks
        traces = problem.training(seed, range(1), 0, 0, FEW_TASKS)[0]
        n_tasks = int(traces.tasks.valid.sum())
        for _ in rollout(traces, scheduler, np.random.default_rng(0)):
            pass

    return _cpu_s(play) / max(n_tasks, 1)


def _search_s(problem: Problem, policy: PricePolicy, settings: JobSettings) -> float:
    """CPU seconds of all generations on one problem."""
    budget, demand = settings.train, problem.plan.demand
    per_task = 1e-5 if policy.settings.candidates == "any_subset" else 5e-6
    tried = 2 * evolution_settings(policy.settings).pairs * budget.episodes + n_looks(settings)
    return per_task * tried * settings.seeds * budget.episode_slots * problem.scenario.slot_s * demand.tasks_per_s


def _nothing(learner: Learner) -> Batch:
    """A batch of zeros: what an update takes does not hang on the numbers."""
    shape = learner.n_learners, learner.settings.learning.batch
    spaces, latent = learner.agent.spaces, None
    head, seen = spaces.head, torch.zeros(*shape, spaces.n_obs)
    if learner.agent.keeps_latent:
        latent = torch.zeros(*shape, head.n_logits)
    action = torch.zeros(*shape, *head.action_shape, dtype=head.action_dtype)
    return Batch(seen, action, torch.zeros(shape), torch.zeros(shape), seen, latent, latent)


def _cpu_s(act: Callable[[], object]) -> float:
    """CPU seconds of the second of two calls: the first one may compile and load."""
    act()
    began = time.process_time()
    act()
    return time.process_time() - began
