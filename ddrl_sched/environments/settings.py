"""From names of yaml files to what an environment is made of: checked as on the command line, with its errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ddrl_sched.api import Value, command_words
from ddrl_sched.compose import compose
from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Traces
from ddrl_sched.environments.ledger import Reward
from ddrl_sched.jobs.request import Command, Flags
from ddrl_sched.overrides import check_words
from ddrl_sched.run.problem import Problem, build_problem
from ddrl_sched.run.settings import JobSettings
from ddrl_sched.schedulers.base import Scheduler, Traits, traits_of
from ddrl_sched.schedulers.learned_settings import LearnedSettings, learned_settings
from ddrl_sched.schedulers.price_settings import PriceSettings, price_settings
from ddrl_sched.schedulers.table import build

SETS, PRICES = "tuned/amcoedge", "ddrl_amsa_price"  # whose settings an environment has unless it is told
_PRICE_REWARD = ("linear", 0.05)  # price policies are searched by the mean delay; scale as of the other learners


@dataclass(frozen=True)
class Rule:
    """A scheduler that decides for the stations without an agent."""

    scheduler: Scheduler
    traits: Traits


@dataclass(frozen=True)
class EdgeSettings:
    """A world at one or several loads, and a learner's way to see it and to act in it."""

    problems: Sequence[Problem]  # one for each load
    learner: LearnedSettings | PriceSettings
    reward: Reward
    episode_slots: int
    episode_tasks: int

    def trace(self, seed: int, episode: int) -> Traces:
        """The training trace (R = 1) of an episode, as `ddrl train seed=SEED` draws it for its first seed.

        With several loads episode k has load number (seed + k) modulo their number.
        """
        problem = self.problems[(seed + episode) % len(self.problems)]
        return problem.training(seed, range(1), episode, self.episode_slots, self.episode_tasks)[0]


def edge_settings(
    *,
    env: str = "edge5",
    workload: str = "poisson",
    load: float | Sequence[float] | None = None,
    actions: str = "any_subset",
    learner: str | None = None,
    reward: Literal["own", "team"] | None = None,
    split: str | None = None,
    episode_slots: int = 12,
    settings: Mapping[str, Value] | None = None,
) -> EdgeSettings:
    """Compose the yaml files. Raises InputError as the command line would print it.

    env, workload, learner: names of yaml files (`ddrl list`); learner None: SETS, for actions "continuous" PRICES.
    What is None stays as the yaml files have it. `settings`: further keys, with __ for the dot.
    """
    continuous = actions == "continuous"
    loads = list(load) if isinstance(load, Sequence) else [load]
    given: dict[str, Value] = {
        "env": env,
        "workload": workload,
        "workload.load": loads[0] if loads else None,
        "scheduler": learner or (PRICES if continuous else SETS),
        "scheduler.actions.name": None if continuous else actions,
        "scheduler.learning.reward": None if continuous else reward,
        "scheduler.split": split,
        "train.episode_slots": episode_slots,
    }
    composed = _composed("train", command_words(given, settings or {}))
    problems = [_problem(composed, each) for each in loads]
    _check_loads(problems)
    found: LearnedSettings | PriceSettings
    if composed.scheduler["name"] == "price_policy":
        found = price_settings(composed.scheduler)
        rewarded = Reward(reward or "own", _PRICE_REWARD[0], _PRICE_REWARD[1])  # type: ignore[arg-type]
    else:
        found = learned_settings(composed.scheduler)
        rewarded = Reward(found.learning.reward, found.learning.reward_shape, found.learning.reward_scale_s)
    if continuous != isinstance(found, PriceSettings):
        raise InputError(f"actions: {actions} does not go with the learner {given['scheduler']}")
    return EdgeSettings(problems, found, rewarded, composed.train.episode_slots, composed.train.episode_tasks)


def rule_of(name: str, env: str) -> Rule:
    """The rule `name` for the stations without an agent. InputError unless it is one that the kernel carries out."""
    composed = _composed("eval", command_words({"scheduler": name, "env": env}, {}))
    keys = {key: value for key, value in composed.scheduler.items() if key != "name"}
    scheduler = build(str(composed.scheduler["name"]), keys)
    traits = traits_of(scheduler)
    if traits.cadence != "trace":
        raise InputError(f"others: a rule of cadence trace expected, {name} has cadence {traits.cadence}")
    return Rule(scheduler, traits)


def _composed(command: Command, given: list[str]) -> JobSettings:
    check_words(given)
    (job,) = compose(command, given, Flags())
    if job.spec is None:
        assert job.result is not None
        raise InputError(job.result.message)
    if not isinstance(job.spec.settings, JobSettings):
        raise InputError("env: a world of servers and tasks expected, got a gym")
    return job.spec.settings


def _problem(composed: JobSettings, load: float | None) -> Problem:
    """The problem at a load; None: that of the workload's yaml."""
    workload = composed.workload
    if load is not None:
        workload = workload.model_copy(update={"load": load})
    problem = build_problem(composed.env, workload, composed.evaluate.seed)
    if problem.scenario.published:
        raise InputError(f"env.rule: environments are of clean physics, {composed.env.name} has {composed.env.rule}")
    return problem


def _check_loads(problems: Sequence[Problem]) -> None:
    if not problems:
        raise InputError("load: at least one number expected")
    for problem in problems:
        load = problem.workload.load
        if load is not None and not 0.0 < load <= 10.0:
            raise InputError(f"load: numbers in (0, 10] expected, got {load!r}")
    if len(problems) > 1 and problems[0].plan.demand.slotted:
        raise InputError("load: one number expected for a slotted workload")
