"""How long a job without learning will take on one core, judged by a few of its own tasks.

Trying costs little: it ends when it has taken a tenth of what it promises, and what was learnt of a scheduler holds for
the other loads, traces and seeds of a sweep. Jobs that learn: estimate_training.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs import records
from ddrl_sched.run.problem import Problem
from ddrl_sched.run.rollout import rollout
from ddrl_sched.run.settings import JobSettings
from ddrl_sched.schedulers.base import Scheduler

START_S = 0.5  # files, and what else every job does once
FIRST, MOST, GROWTH = 8, 512, 4  # tasks tried: the fewest, the most, and the factor in between
ENOUGH_S = 0.05  # a try of this length tells

_known: dict[str, float] = {}  # what was tried in this process: key -> seconds


@lru_cache(maxsize=8)
def durations_s(experiment: Path) -> dict[str, float]:
    """{scheduler: mean seconds} of the jobs that are done in the folder of an experiment, read once per process."""
    found: dict[str, list[float]] = {}
    for folder in experiment.glob("*"):
        try:
            job = records.read_job(folder)
        except (OSError, ValueError):
            continue
        if job["duration_s"] is not None and job["status"] == "done":
            found.setdefault(job["scheduler"], []).append(float(job["duration_s"]))
    return {name: sum(seconds) / len(seconds) for name, seconds in found.items()}


def rule_s(problem: Problem, scheduler: Scheduler, settings: JobSettings, n_seeds: int) -> float:
    """CPU seconds of the evaluation of a scheduler without weights."""
    n_tasks = problem.plan.demand.tasks_per_s * problem.scenario.horizon_s * settings.evaluate.traces * n_seeds

    def play(wanted: int) -> int:
        traces = problem.training(settings.seed, range(1), 0, 0, wanted)[0]
        for _ in rollout(traces, scheduler, np.random.default_rng(0)):
            pass
        return int(traces.tasks.valid.sum())

    key = canonical_hash([settings.scheduler, problem.scenario.n_servers, problem.scenario.rule])
    return START_S + n_tasks * known(key, lambda: per_unit_s(play, n_tasks))


def known(key: str, measure: Callable[[], float]) -> float:
    """What `measure` gave for this key before in this process, else what it gives now."""
    if key not in _known:
        _known[key] = measure()
    return _known[key]


def per_unit_s(play: Callable[[int], int], total: float) -> float:
    """CPU seconds of one of `total` units of work, of which `play(n)` does about n and answers how many it did.

    The first and smallest try loads and compiles, and counts only if trying more would take over a tenth of all.
    """
    seconds, spent_s, n = 0.0, 0.0, FIRST
    loaded = False
    while True:
        began = time.process_time()
        done = max(play(n), 1)
        took_s = time.process_time() - began
        seconds = took_s / done
        spent_s += took_s
        if loaded and (took_s >= ENOUGH_S or n >= MOST):
            return seconds
        n, loaded = (n * GROWTH if loaded else n), True
        if spent_s > 0.1 * seconds * total and n > FIRST:
            return seconds
