"""Training of price policies: in every generation all candidates meet the same new traces; their cost is the delay."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TypedDict

import numpy as np
import torch

from ddrl_sched.agents.evolution import SearchState
from ddrl_sched.agents.finite import check_generation
from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Floats, Ints
from ddrl_sched.run.metrics import VALIDATION_METRIC
from ddrl_sched.run.rollout import mean_delay_s, rollout
from ddrl_sched.run.train import Progress
from ddrl_sched.run.validation import Validation, is_due, validate
from ddrl_sched.schedulers.base import Traits, traits_of
from ddrl_sched.schedulers.price_policy import PricePolicy

Trial = tuple[Floats, Floats, Ints]  # mean delay [seeds, candidates], late rate, both NaN without a task; tasks [seeds]


class EvolutionState(TypedDict):
    """Everything of an Evolution that evolves, as it was when the generation began."""

    search: SearchState
    generation: int
    tasks_seen: torch.Tensor  # [seeds]
    elapsed_s: float


class Evolution:
    """The training of all seeds side by side, to be iterated once; its state can be saved whenever it has yielded.

    Yields a Progress at the end of a generation and None at the moments between. `traces_of(generation)` gives traces
    [R = seeds] for each load. The cost of a candidate at a load is log(mean delay of its trace), how loads
    weigh against each other is up to the search (agents/evolution.py, unit). Progress holds means over all candidates
    and loads. `validation` is of the policy itself, after the generation.
    """

    def __init__(
        self,
        policy: PricePolicy,
        generations: int,
        traces_of: Callable[[int], list[Traces]],
        validation: Validation | None = None,
    ) -> None:
        self._policy, self._traits = policy, traits_of(policy)
        self._generations = generations
        self._traces_of = traces_of
        self._validation = validation
        self._began = time.monotonic()
        self._generation = 0  # the one that runs, or comes next
        self._tasks_seen = np.zeros(policy.n_seeds, np.int64)
        self._search = policy.search.state_dict()  # as the generation began

    def __iter__(self) -> Iterator[Progress | None]:
        """Train from where it stands to the end."""
        policy = self._policy
        rng = np.random.default_rng(0)  # policies draw from their own generators
        n_candidates = 2 * policy.search.settings.pairs
        while self._generation < self._generations:
            policy.act_with(policy.search.ask(), self._generation / max(self._generations - 1, 1))
            per_load = []
            for traces in self._traces_of(self._generation):
                per_load.append((yield from trial(policy, self._traits, traces, n_candidates, rng)))
            progress = self._judge(per_load)
            policy.act_with(None)
            if self._validation is not None and is_due(self._validation, self._generation, self._generations):
                delay_s = yield from validate(self._validation, policy, self._traits)
                progress = replace(progress, metrics=progress.metrics | {VALIDATION_METRIC: delay_s})
            self._generation, self._tasks_seen = self._generation + 1, progress.tasks_seen
            self._search = policy.search.state_dict()
            yield progress

    def _judge(self, per_load: Sequence[Trial]) -> Progress:
        """Judge the candidates of the generation by their trials."""
        search, generation = self._policy.search, self._generation
        delay_s = np.stack([delay for delay, _, _ in per_load])  # [loads, seeds, candidates]
        late = np.stack([rate for _, rate, _ in per_load])
        cost = np.log(np.where(np.isnan(delay_s), 1.0, delay_s))  # a trace without a task: the same for all candidates
        metrics = search.tell(cost, generation / max(self._generations - 1, 1))
        check_generation({"log_delay": cost, **metrics}, search.stack.flat, generation)
        seen = self._tasks_seen + sum(n_tasks for _, _, n_tasks in per_load) * delay_s.shape[2]
        values: dict[str, Floats] = {"log_delay": _mean(np.log(delay_s)), **metrics}
        elapsed_s = time.monotonic() - self._began
        return Progress(generation, seen, generation + 1, _mean(delay_s), _mean(late), values, elapsed_s)

    def state_dict(self) -> EvolutionState:
        """Everything that evolves, as it was when the generation began: what it has tried so far is tried again."""
        return {
            "search": self._search,
            "generation": self._generation,
            "tasks_seen": torch.from_numpy(self._tasks_seen),
            "elapsed_s": time.monotonic() - self._began,
        }

    def load_state_dict(self, state: EvolutionState) -> None:
        """Go on from what `state_dict` gave. ValueError on other names or shapes."""
        self._policy.search.load_state_dict(state["search"])
        self._search, self._generation = state["search"], state["generation"]
        self._tasks_seen = state["tasks_seen"].numpy().copy()
        self._began = time.monotonic() - state["elapsed_s"]


def _mean(values: Floats) -> Floats:
    """[seeds] mean of values [loads, seeds, candidates] over candidates and over the loads whose trace held a task."""
    if not np.isnan(values).any():
        mean: Floats = values.mean((0, 2))
        return mean
    some = ~np.isnan(values)
    n = some.sum((0, 2))
    part: Floats = np.where(n > 0, np.where(some, values, 0.0).sum((0, 2)) / np.maximum(n, 1), np.nan)
    return part


def trial(
    policy: PricePolicy, traits: Traits, traces: Traces, n_candidates: int, rng: np.random.Generator
) -> Generator[None, None, Trial]:
    """Run all candidates; those of a seed share its trace. Yields None after every window."""
    crossed = np.repeat(np.arange(policy.n_seeds), n_candidates)
    tasks = traces.tasks.replicas(crossed)
    outcome = None
    for step in rollout(replace(traces, tasks=tasks), policy, rng, traits=traits):
        outcome = step.outcome
        yield None
    n_tasks = traces.tasks.valid.sum(1)
    shape, some = (policy.n_seeds, n_candidates), np.maximum(n_tasks, 1)[:, None]
    if outcome is None:
        return np.full(shape, np.nan), np.full(shape, np.nan), n_tasks
    delay_s = mean_delay_s(outcome, tasks).reshape(shape)
    late = outcome.late.sum(1).reshape(shape) / some
    return delay_s, np.where(n_tasks[:, None] > 0, late, np.nan), n_tasks
