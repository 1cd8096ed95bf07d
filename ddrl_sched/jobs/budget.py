"""Whether a training can learn anything: told from its settings before it starts, and from what it did at its end."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ddrl_sched.agents.finite import check_weights
from ddrl_sched.config import InputError
from ddrl_sched.edge.arrivals import training_rows
from ddrl_sched.edge.types import Floats
from ddrl_sched.edge.workload_settings import BurstyArrivals, TraceArrivals
from ddrl_sched.failures import TrainingError
from ddrl_sched.jobs.reading import MAX_REPORT_ROWS, MAX_ROWS
from ddrl_sched.jobs.records import MAX_FILE_BYTES
from ddrl_sched.run.metrics import LARGEST_S, SMALLEST_S, VALIDATION_METRIC
from ddrl_sched.run.problem import Problem
from ddrl_sched.run.settings import TrainSettings
from ddrl_sched.run.train import Progress
from ddrl_sched.run.validation import Validation
from ddrl_sched.schedulers.learned import LATENT, Learner
from ddrl_sched.schedulers.price_policy import PricePolicy

FEWEST_ROWS = 2  # of a trace file's training part
MOST_METRICS = 10  # rows of curves.parquet per episode and seed
BUDGET = "train.episodes, train.episode_slots, train.episode_tasks"


def check_budget(learner: Learner | PricePolicy, problems: Sequence[Problem], train: TrainSettings) -> None:
    """InputError, naming keys, where a training on these problems (its loads, in turn) could not make one update.

    Also where its weights, or the rows of its curve, would be more than a reader takes.
    """
    for problem in problems:
        _check_trace(problem)
    _check_size(learner, train)
    if isinstance(learner, Learner):
        _check_start(learner, problems, train)
        _check_memory(learner, problems, train)


def _check_trace(problem: Problem) -> None:
    """A trace file's training part holds requests."""
    arrivals, trace = problem.workload.arrivals, problem.plan.trace
    if not isinstance(arrivals, TraceArrivals) or trace is None:
        return
    rows = training_rows(problem.plan, arrivals)
    if rows < FEWEST_ROWS:
        part = f"the training part, the first {arrivals.train_fraction:g} of the file's time, holds {rows} of its"
        raise InputError(
            f"workload.arrivals.train_fraction: {part} {len(trace.time_s):,} rows ({problem.workload.path}, "
            "workload.path): give a larger fraction or a file whose requests begin earlier"
        )


def _check_size(learner: Learner | PricePolicy, train: TrainSettings) -> None:
    looks = learner.n_seeds * train.episodes
    if looks > MAX_REPORT_ROWS or looks * MOST_METRICS > MAX_ROWS:
        most = min(MAX_REPORT_ROWS, MAX_ROWS // MOST_METRICS)
        raise InputError(f"train.episodes, seeds: {looks:,} episodes of all seeds, a curve can have {most:,}")
    size = sum(tensor.numel() * tensor.element_size() for tensor in learner.weights().values())
    if size >= MAX_FILE_BYTES:
        key = "scheduler.actor.hidden" if isinstance(learner, PricePolicy) else "scheduler.agent.hidden"
        raise InputError(f"{key}, seeds: the weights take {size:,} bytes, a file of a run can have {MAX_FILE_BYTES:,}")


def _check_start(learner: Learner, problems: Sequence[Problem], train: TrainSettings) -> None:
    """The slot of the first update comes."""
    learning = learner.settings.learning
    slots = _in_turn([_most_slots(problem, train) for problem in problems], train.episodes)
    every = learning.every_slots
    first = max(1, math.ceil(learning.start_slots / every)) * every
    if first > slots:
        key = "start_slots" if learning.start_slots > slots else "every_slots"
        text = f"the first update would come after {first:,} slots, the training has at most {slots:,.0f} ({BUDGET})"
        raise InputError(f"scheduler.learning.{key}: {text}")


def _check_memory(learner: Learner, problems: Sequence[Problem], train: TrainSettings) -> None:
    """The memory of every learner comes to hold a batch."""
    learning = learner.settings.learning
    if learning.batch > learning.memory:
        text = f"at most scheduler.learning.memory ({learning.memory:,} transitions), got {learning.batch:,}"
        raise InputError(f"scheduler.learning.batch: {text}")
    tasks = _in_turn([_most_tasks(problem, train) for problem in problems], train.episodes)
    most, of, keys = tasks * learner.n_seeds / learner.n_learners, "a learner", [BUDGET]
    if learner.settings.sharing == "per_station" and (least := _least_station(problems, train, tasks)):
        station, held, key = least
        if held < most:
            most, of, keys = held, f"the learner of station {station}", [BUDGET, key]
    if learning.batch > math.floor(most):
        trace = [] if problems[0].plan.trace is None else ["workload.arrivals.train_fraction, workload.path"]
        text = f"{learning.batch:,} transitions for an update, the whole training gives {of} about {math.floor(most):,}"
        raise InputError(f"scheduler.learning.batch: {text} ({', '.join([*keys, *trace])})")


def _least_station(problems: Sequence[Problem], train: TrainSettings, tasks: float) -> tuple[int, float, str] | None:
    """(station, most tasks of a seed in the training, key that decides) of the one that has the fewest; None if alike.

    `tasks`: those of all stations.
    """
    plan = problems[0].plan
    if plan.trace is not None and "origin" in plan.trace.columns:
        of_each = zip(*(_most_of_each(problem, train) for problem in problems), strict=True)  # [stations][loads]
        most = [_in_turn(per_load, train.episodes) for per_load in of_each]
        return int(np.argmin(most)), min(most), "workload.columns.origin"
    if plan.station_share is None:
        return None
    least = int(plan.station_share.argmin())
    mean = tasks * float(plan.station_share[least]) / len(plan.station_share)
    return least, _hardly_more(mean) if mean > 0 else 0.0, "workload.station_weights"


def _in_turn(per_load: Sequence[float], episodes: int) -> float:
    """Sum over the episodes of what one at each load has, the loads taken in turn."""
    rounds, rest = divmod(episodes, len(per_load))
    return rounds * sum(per_load) + sum(per_load[:rest])


def _most_slots(problem: Problem, train: TrainSettings) -> int:
    """Slots of an episode after which there may be updates: they end with an announcement."""
    scenario = problem.scenario
    return math.ceil(_length_s(problem, train) / max(scenario.slot_s, scenario.announce_s) - 1e-9)


def _length_s(problem: Problem, train: TrainSettings) -> float:
    return problem.training_s(train.episode_slots, train.episode_tasks)


def _most_tasks(problem: Problem, train: TrainSettings) -> float:
    """Tasks that an episode of a seed holds at most (where they are random: hardly ever more than that)."""
    length_s, plan, arrivals = _length_s(problem, train), problem.plan, problem.workload.arrivals
    if plan.trace is not None:
        return _most_at_once(_training_times(problem), problem, train)
    if plan.demand.slotted:
        slots = max(1, round(length_s / problem.scenario.slot_s))
        return float(slots * problem.scenario.n_stations * plan.n_indices)
    rate = plan.demand.tasks_per_s
    if isinstance(arrivals, BurstyArrivals):
        rate *= plan.intensity * max(arrivals.low_load, arrivals.high_load) / plan.demand.load
    return _hardly_more(rate * length_s)


def _training_times(problem: Problem) -> Floats:
    """Moments of the rows of a trace file's training part."""
    assert problem.plan.trace is not None
    assert isinstance(problem.workload.arrivals, TraceArrivals)
    return problem.plan.trace.time_s[: training_rows(problem.plan, problem.workload.arrivals)]


def _most_of_each(problem: Problem, train: TrainSettings) -> list[float]:
    """[stations] rows of each that a window of a trace file's training part holds at most."""
    assert problem.plan.trace is not None
    time_s = _training_times(problem)
    origin = problem.plan.trace.columns["origin"][: len(time_s)]
    order = np.argsort(origin, kind="stable")
    ends = np.searchsorted(origin[order], np.arange(1, problem.scenario.n_servers))
    return [_most_at_once(part, problem, train) for part in np.split(time_s[order], ends)]


def _most_at_once(time_s: Floats, problem: Problem, train: TrainSettings) -> float:
    """How many of these moments of a trace file an episode holds at most."""
    behind = np.searchsorted(time_s, time_s + _length_s(problem, train) / problem.plan.time_scale, "right")
    return float((behind - np.arange(len(time_s))).max(initial=0))


def _hardly_more(mean: float) -> float:
    """A number of tasks that Poisson ones with this mean hardly ever exceed."""
    return mean + 6 * math.sqrt(mean) + 10


def check_learned(
    learner: Learner | PricePolicy, tasks_seen: np.ndarray, before: Mapping[str, Tensor], train: TrainSettings
) -> None:
    """TrainingError, naming the keys that help, for a training that ended without having learned anything.

    `tasks_seen` [seeds]; `before`: the weights with which it began.
    """
    for seed in np.flatnonzero(tasks_seen == 0):
        text = f"no task in {train.episodes:,} episodes; longer ones or more of them may help ({BUDGET}, workload)"
        raise TrainingError(f"seed {seed} has learned nothing: {text}")
    if isinstance(learner, Learner) and learner.updates == 0:
        learning, held = learner.settings.learning, int(learner.memory.size.min())
        raise TrainingError(
            f"nothing was learned: 0 updates in {learner.slots} slots, where the first may come after "
            f"{learning.start_slots} (scheduler.learning.start_slots) and a learner held {held} transitions of "
            f"{learning.batch} for a batch (scheduler.learning.batch): a longer training helps ({BUDGET})"
        )
    after = learner.weights()
    check_weights(after, learner.n_learners // learner.n_seeds)
    check_changed(before, after, learner.n_seeds)


def check_changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor], n_seeds: int) -> None:
    """TrainingError that names the seed whose weights are all as they were when its training began."""
    same = torch.ones(n_seeds, dtype=torch.bool)
    for name in after.keys() - {LATENT}:  # which decisions change, not updates
        tensor = after[name]
        same &= (tensor == before[name]).view(n_seeds, -1).all(1)
    for seed in torch.nonzero(same).flatten().tolist():
        raise TrainingError(
            f"seed {seed} has learned nothing: its weights are as they were at the start; a longer training or larger "
            f"learning rates may help ({BUDGET}, scheduler)"
        )


def check_looks(looks: Validation | None) -> None:
    """InputError where a trace that is looked at holds no task: its looks would say nothing."""
    for traces in () if looks is None else looks.traces():
        for seed in np.flatnonzero(~traces.tasks.valid.any(1)):
            raise InputError(
                f"train.validate_every: the trace of {traces.scenario.horizon_s:g} s on which seed {seed} would be "
                "looked at holds no task; longer ones do (train.episode_slots, train.episode_tasks), 0 means no looks"
            )


def check_delays(progress: Progress) -> None:
    """TrainingError where mean delays of an episode (NaN: it held no task) are none that a report can show."""
    for what, delay_s in {
        "mean delay": progress.delay_s,
        "look": progress.metrics.get(VALIDATION_METRIC, np.zeros(0)),
    }.items():
        for seed in np.flatnonzero(~((delay_s >= SMALLEST_S) & (delay_s <= LARGEST_S)) & ~np.isnan(delay_s)):
            text = f"the {what} of seed {seed} in episode {progress.episode} is {delay_s[seed]:g} s"
            limits = f"results hold {SMALLEST_S:g} .. {LARGEST_S:g} s"
            raise TrainingError(f"{text}, {limits}: see env.network, env.servers, env.tasks, workload.load")


def check_steps(start: int, batch: int, memory: int, steps: int) -> None:
    """InputError where learners that make one transition per step could not make one update in so many steps."""
    if batch > memory:
        raise InputError(f"scheduler.learning.batch: at most scheduler.learning.memory ({memory:,}), got {batch:,}")
    for key, wanted in (("start_steps", start), ("batch", batch)):
        if wanted > steps:
            text = f"{wanted:,} steps before the first update, the training has {steps:,} (train.horizons)"
            raise InputError(f"scheduler.learning.{key}: {text}")
