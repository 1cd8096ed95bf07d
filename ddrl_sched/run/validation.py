"""Validation of a learner while it trains: its mean delay, without exploring, on traces that stay the same."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Floats
from ddrl_sched.run.rollout import mean_delay_s, rollout
from ddrl_sched.schedulers.base import Trained, Traits


@dataclass(frozen=True)
class Validation:
    """When to validate, and on what."""

    every: int  # episodes
    traces: Callable[[], Iterable[Traces]]  # for each load one trace per training seed, the same every time
    generators: Callable[[], Sequence[np.random.Generator]]  # [learners] new ones, for decisions that are drawn


def is_due(validation: Validation, episode: int, episodes: int) -> bool:
    """Whether to validate after `episode` (numbered from 0); always after the last one."""
    return (episode + 1) % validation.every == 0 or episode + 1 == episodes


def validate(validation: Validation, scheduler: Trained, traits: Traits) -> Generator[None, None, Floats]:
    """Mean delay [seeds], s, the geometric mean over the loads: all weigh the same. Yields None after every window.

    The scheduler is left as in an evaluation; a training that goes on tells it so. NaN where a trace holds no task.
    """
    total, n_loads = np.zeros(scheduler.n_seeds), 0
    for traces in validation.traces():
        scheduler.start_evaluation(1, list(validation.generators()))
        outcome = None
        for step in rollout(traces, scheduler, np.random.default_rng(0), traits=traits):
            outcome = step.outcome
            yield None
        total += np.nan if outcome is None else np.log(mean_delay_s(outcome, traces.tasks))
        n_loads += 1
    mean_s: Floats = np.exp(total / n_loads)
    return mean_s
