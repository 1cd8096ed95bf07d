"""How long a training and the evaluation behind it take on one core, judged by a few of its own slots and updates."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ddrl_sched.agents.base import Batch
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs.estimate import START_S, known, per_unit_s
from ddrl_sched.run.evolve import trial
from ddrl_sched.run.problem import Problem
from ddrl_sched.run.rollout import rollout
from ddrl_sched.run.settings import JobSettings
from ddrl_sched.run.train import Training
from ddrl_sched.schedulers.base import Scheduler, Trained, traits_of
from ddrl_sched.schedulers.learned import Learner
from ddrl_sched.schedulers.price_policy import PricePolicy
from ddrl_sched.schedulers.price_settings import evolution_settings
from ddrl_sched.seeding import stream

FEW_SLOTS, FEW_TASKS = 6, 300  # tried
SHARE_TRIED = 0.05  # of the slots of a training, at most

_paces: dict[str, "Pace"] = {}  # what was tried in this process


@dataclass(frozen=True)
class Pace:
    """CPU seconds of a learner's work."""

    slot_s: float  # deciding, placing and remembering, all seeds
    update_s: float
    busy: float  # fraction of the slots that hold a task, after which updates are due


def learner_s(
    problem: Problem, scheduler: Scheduler, settings: JobSettings, trained_on: Sequence[Problem]
) -> tuple[float, float]:
    """CPU seconds of a job's training on these problems in turn (none: 0), and of the rest.

    The learner is used up by it: its weights and memory have changed.
    """
    if isinstance(scheduler, PricePolicy):
        searched_s = sum(_search_s(each, scheduler, settings) for each in trained_on)
        return searched_s, START_S + _evaluation_s(problem, scheduler, settings)
    assert isinstance(scheduler, Learner)
    scenario = problem.scenario
    pace = _pace(problem, scheduler, settings)
    evaluation_s = pace.slot_s * scenario.horizon_s / scenario.slot_s * settings.evaluate.traces
    trained_s = [training_s(each, scheduler, settings, pace) for each in trained_on]
    looked_s = n_looks(settings) * pace.slot_s * sum(episode_s(each, settings) for each in trained_on) / scenario.slot_s
    return sum(trained_s) / max(len(trained_s), 1) + looked_s, START_S + evaluation_s


def n_looks(settings: JobSettings) -> int:
    """How often a training looks at its policy (run/validation.py); a look plays one episode of every load."""
    every = settings.train.validate_every
    return -(-settings.train.episodes // every) if every else 0


def episode_s(problem: Problem, settings: JobSettings) -> float:
    """Simulated seconds of an episode."""
    return problem.training_s(settings.train.episode_slots, settings.train.episode_tasks)


def training_s(problem: Problem, learner: Learner, settings: JobSettings, pace: Pace) -> float:
    """CPU seconds of a training at this pace."""
    budget, learning = settings.train, learner.settings.learning
    slots = budget.episodes * episode_s(problem, settings) / problem.scenario.slot_s
    per_slot = problem.plan.demand.tasks_per_s * problem.scenario.slot_s * settings.seeds / learner.n_learners
    learns = max(slots - max(learning.start_slots, learning.batch / per_slot), 0.0)  # the memory fills first
    return slots * pace.slot_s + learns * pace.busy * learning.updates / learning.every_slots * pace.update_s


def _pace(problem: Problem, learner: Learner, settings: JobSettings) -> Pace:
    key = _key(problem, settings)
    if key not in _paces:
        _paces[key] = _tried(problem, learner, settings)
    return _paces[key]


def _tried(problem: Problem, learner: Learner, settings: JobSettings) -> Pace:
    scenario = problem.scenario
    slots = settings.train.episodes * episode_s(problem, settings) / scenario.slot_s
    few = max(1, min(FEW_SLOTS, int(SHARE_TRIED * slots)))
    tasks = FEW_TASKS if few == FEW_SLOTS else 0
    update_s = _cpu_s(lambda: learner.agent.update(_nothing(learner)))
    before = learner.updates
    traces = problem.training(settings.seed, range(settings.seeds), 0, few, tasks)[0]

    def play() -> None:
        for _ in Training(learner, scenario, 1, lambda _: traces):
            pass

    played_s = _cpu_s(play)
    updates = (learner.updates - before) / 2
    slots = traces.scenario.horizon_s / scenario.slot_s
    busy = len(np.unique(np.floor(traces.tasks.arrive_s[traces.tasks.valid] / scenario.slot_s))) / slots
    return Pace(max(played_s - updates * update_s, 0.0) / slots, update_s, busy)


def _key(problem: Problem, settings: JobSettings, *more: object) -> str:
    """What the pace of a learner hangs on."""
    scenario = problem.scenario
    return canonical_hash([settings.scheduler, settings.seeds, scenario.n_servers, scenario.rule, *more])


def _search_s(problem: Problem, policy: PricePolicy, settings: JobSettings) -> float:
    """CPU seconds of all generations on one problem."""
    budget = settings.train
    candidates = 2 * evolution_settings(policy.settings).pairs
    per_trial = settings.seeds * problem.plan.demand.tasks_per_s * episode_s(problem, settings)
    total = per_trial * (candidates * budget.episodes + n_looks(settings))

    def play(n_tasks: int) -> int:
        traces = problem.training(settings.seed, range(settings.seeds), 0, 0, -(-n_tasks // settings.seeds))[0]
        policy.act_with(policy.search.ask())
        for _ in trial(policy, traits_of(policy), traces, candidates, np.random.default_rng(0)):
            pass
        policy.act_with(None)
        return int(traces.tasks.valid.sum()) * candidates

    return total * known(_key(problem, settings, "search"), lambda: per_unit_s(play, total))


def _evaluation_s(problem: Problem, policy: Trained, settings: JobSettings) -> float:
    """CPU seconds of the evaluation of a price policy."""
    demand, traces = problem.plan.demand, settings.evaluate.traces
    total = demand.tasks_per_s * problem.scenario.horizon_s * traces * settings.seeds

    def play(n_tasks: int) -> int:
        made = problem.training(settings.seed, range(settings.seeds), 0, 0, -(-n_tasks // settings.seeds))[0]
        policy.start_evaluation(1, [stream(settings.seed, "estimate", k) for k in range(policy.n_learners)])
        for _ in rollout(made, policy, np.random.default_rng(0)):
            pass
        return int(made.tasks.valid.sum())

    return total * known(_key(problem, settings, "evaluation"), lambda: per_unit_s(play, total))


def _nothing(learner: Learner) -> Batch[torch.Tensor]:
    """A batch of zeros: what an update takes does not hang on the numbers."""
    shape = learner.n_learners, learner.settings.learning.batch
    spaces, latent = learner.agent.spaces, None
    distribution, seen = spaces.distribution, torch.zeros(*shape, spaces.n_obs)
    if learner.agent.keeps_latent:
        latent = torch.zeros(*shape, distribution.n_logits)
    action = torch.zeros(*shape, *distribution.action_shape, dtype=distribution.action_dtype)
    return Batch(seen, action, torch.zeros(shape), torch.zeros(shape), seen, latent, latent)


def _cpu_s(act: Callable[[], object]) -> float:
    """CPU seconds of the second of two calls: the first one may compile and load."""
    act()
    began = time.process_time()
    act()
    return time.process_time() - began
