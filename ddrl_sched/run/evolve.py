"""Training of price policies: every generation, all candidates meet the same fresh traces and are told their delay."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ddrl_sched.edge.types import Floats, Ints
from ddrl_sched.run.rollout import Traces, rollout
from ddrl_sched.run.train import Progress
from ddrl_sched.schedulers.price_policy import PricePolicy


def evolve(policy: PricePolicy, generations: int, traces_of: Callable[[int], list[Traces]]) -> Iterator[Progress]:
    """Train all seeds side by side; `traces_of(generation)` gives traces [R = seeds] for each load.

    The cost of a candidate at a load is log(mean delay of its trace), and all loads weigh the same: one policy for
    all of them, whatever the size of their delays. Progress holds means over all candidates and loads.
    """
    began = time.monotonic()
    n_seeds, n_candidates = policy.n_seeds, 2 * policy.search.settings.pairs
    tasks_seen = np.zeros(n_seeds, np.int64)
    rng = np.random.default_rng(0)  # policies draw from their own generators
    for generation in range(generations):
        policy.use(policy.search.ask())
        per_load = [_trial(policy, traces, n_candidates, rng) for traces in traces_of(generation)]
        delay_s = np.stack([delay for delay, _, _ in per_load])  # [loads, seeds, candidates]
        late = np.stack([rate for _, rate, _ in per_load])
        metrics = policy.search.tell(np.log(delay_s), generation / max(generations - 1, 1))
        policy.use(None)
        tasks_seen = tasks_seen + sum(n_tasks for _, _, n_tasks in per_load) * n_candidates
        values: dict[str, Floats] = {"log_delay": np.log(delay_s).mean((0, 2)), **metrics}
        elapsed_s = time.monotonic() - began
        delay = delay_s.mean((0, 2))
        yield Progress(generation, tasks_seen, generation + 1, delay, late.mean((0, 2)), values, elapsed_s)


def _trial(
    policy: PricePolicy, traces: Traces, n_candidates: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Ints]:
    """(mean delay [seeds, candidates], late rate, tasks of a trace [seeds]): candidates of a seed share its trace."""
    crossed = np.repeat(np.arange(policy.n_seeds), n_candidates)
    tasks = traces.tasks.replicas(crossed)
    outcome = None
    for step in rollout(replace(traces, tasks=tasks), policy, rng):
        outcome = step.outcome
    n_tasks = traces.tasks.valid.sum(1)
    shape, some = (policy.n_seeds, n_candidates), np.maximum(n_tasks, 1)[:, None]
    if outcome is None:
        return np.ones(shape), np.zeros(shape), n_tasks
    delay_s = np.nansum(outcome.delay_s, 1).reshape(shape) / some
    late = outcome.late.sum(1).reshape(shape) / some
    return np.where(n_tasks[:, None] > 0, delay_s, 1.0), late, n_tasks
