"""Running one scheduler over traces: ask it as often as its cadence says, let the world carry out what it decides."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numba import njit

from ddrl_sched.config import InputError, shown
from ddrl_sched.edge import physics, published
from ddrl_sched.edge.types import Decision, Floats, Ints, Outcome, Scenario, Tasks, locked, read_only
from ddrl_sched.failures import TrainingError, blamed_on, class_name
from ddrl_sched.schedulers.base import CADENCES, INFO_CLASSES, MAY_USE, Scheduler, View


@dataclass(frozen=True)
class Traces:
    """Traces to run on, and what a scheduler may know of their workload."""

    scenario: Scenario
    tasks: Tasks
    mean_work_gcycle: float
    slot_tasks: np.ndarray | None  # [N] see View
    drawn_order: bool


@dataclass(frozen=True)
class Step:
    """What happened between two questions to the scheduler."""

    view: View
    decision: Decision
    lo: Ints  # [R] first task decided
    hi: Ints  # [R] one behind the last
    state: Any  # of the world, after placing
    outcome: Outcome  # of all tasks so far; positions of undecided tasks are NaN
    epoch: int  # number of the announcement interval
    epoch_ends: bool  # no task of this interval is left
    decide_s: float  # CPU seconds for deciding and placing
    n_windows: int  # done so far


@dataclass(frozen=True)
class Halt:
    """Where a rollout can go on: what it had reached after a number of windows."""

    n_windows: int
    state: Any  # of the world
    outcome: Outcome


def mean_delay_s(outcome: Outcome, tasks: Tasks) -> Floats:
    """Mean delay [R] of all tasks of every replica that was followed to its end, NaN where there is none.

    TrainingError if a task has no delay: nothing is to be learnt from such a trace.
    """
    for trace, task in np.argwhere(tasks.valid & np.isnan(outcome.delay_s))[:1]:
        text = f"the task of trace {trace} that arrives at {tasks.arrive_s[trace, task]:g} s was never finished"
        raise TrainingError(f"{text}: its delay is no number")
    n_tasks = tasks.valid.sum(1)
    mean: Floats = np.where(n_tasks > 0, np.nansum(outcome.delay_s, 1) / np.maximum(n_tasks, 1), np.nan)
    return mean


def world_of(scenario: Scenario) -> Any:
    """The module that computes delays in this scenario: edge.physics or edge.published."""
    return physics if scenario.rule == "clean" else published


def rollout(
    traces: Traces, scheduler: Scheduler, rng: np.random.Generator, begin: Halt | None = None
) -> Iterator[Step]:
    """Run `scheduler` over all traces at once, yielding after every answer; everything is resolved after the last.

    With `begin` it goes on from there (and fills the outcome given with it). Raises InputError naming the scheduler
    for a decision that the world cannot carry out or that rests on more than its information class knows.
    """
    _check_class(scheduler)
    scenario, tasks = traces.scenario, traces.tasks
    world = world_of(scenario)
    if begin is None:
        begin = Halt(0, world.initial_state(scenario, tasks.shape[0]), physics.empty_outcome(tasks, scenario.n_servers))
    state, outcome = begin.state, begin.outcome
    windows, seen = list_windows(tasks, scenario.announce_s, scheduler.cadence), read_only(traces)
    memory_s = getattr(scheduler, "rate_memory_s", None)
    own_rate = None if memory_s is None else recent_rate(tasks, scenario.n_stations, memory_s)
    n_tasks = tasks.valid.sum(1)
    for number, (epoch, epoch_ends, lo, hi) in enumerate(islice(windows, begin.n_windows, None), begin.n_windows + 1):
        began = time.process_time()
        if scheduler.cadence != "trace":
            begin_s = np.where(lo < hi, epoch * scenario.announce_s, -np.inf)
            state = world.advance(scenario, state, tasks, begin_s, outcome)
        view = _view(seen, scheduler, _waits(traces, scheduler, world, state, lo, hi), lo, hi, own_rate)
        decision = _decide(scenario, scheduler, view, rng)
        with _decided_by(scheduler):
            state = world.place(scenario, state, tasks, decision, lo, hi, outcome)
        if (hi == n_tasks).all():
            state = world.finish(scenario, state, tasks, outcome)
        spent_s = time.process_time() - began
        yield Step(view, decision, lo, hi, state, outcome, epoch, epoch_ends, spent_s, number)


def check_decision(traces: Traces, scheduler: Scheduler) -> None:
    """Ask a scheduler about some tasks and drop the answer: InputError for what it cannot decide in this world.

    One that wants to know waits is not asked, for they need the world to run.
    """
    _check_class(scheduler)
    scenario, tasks = traces.scenario, traces.tasks
    if scheduler.cadence != "trace":
        return
    world, nothing = world_of(scenario), np.zeros(tasks.shape[0], np.int64)
    view = _view(read_only(traces), scheduler, None, nothing, nothing + tasks.shape[1], None)
    decision = _decide(scenario, scheduler, view, np.random.default_rng(0))
    with _decided_by(scheduler):
        world.check_decision(scenario, decision, view.tasks)


def _check_class(scheduler: Scheduler) -> None:
    """InputError for an information class or a cadence that does not exist, or a choice that rests on more."""
    with blamed_on(type(scheduler)):
        info, cadence = (getattr(scheduler, name, None) for name in ("info", "cadence"))
        choose_info: Any = getattr(scheduler, "choose_info", info)
        memory_s = getattr(scheduler, "rate_memory_s", None)
    if info not in INFO_CLASSES:
        expected = ", ".join(INFO_CLASSES)
        raise InputError(f"scheduler.info: expected one of {expected}, got {shown(info)} ({_name(scheduler)})")
    if cadence not in CADENCES:
        expected = ", ".join(CADENCES)
        raise InputError(f"scheduler.cadence: expected one of {expected}, got {shown(cadence)} ({_name(scheduler)})")
    if choose_info not in INFO_CLASSES:
        text = f"expected one of {', '.join(INFO_CLASSES)}, got {shown(choose_info)}"
        raise InputError(f"scheduler.choose_info: {text} ({_name(scheduler)})")
    if memory_s is not None and not (isinstance(memory_s, int | float) and 0.0 < memory_s < np.inf):
        text = f"expected seconds > 0, got {shown(memory_s)}"
        raise InputError(f"scheduler.rate_memory_s: {text} ({_name(scheduler)})")
    _check_use(scheduler, "choose_info", choose_info)


def _decide(scenario: Scenario, scheduler: Scheduler, view: View, rng: np.random.Generator) -> Decision:
    """The scheduler's decision for this world. InputError if it rests on more than the scheduler's class knows."""
    with blamed_on(type(scheduler)):
        decision = scheduler.decide(view, rng)
    if not isinstance(decision, Decision):
        raise InputError(f"scheduler.name: decide must answer a Decision, got {shown(decision)} ({_name(scheduler)})")
    _check_use(scheduler, "info", decision.info)
    _check_use(scheduler, "split_info", decision.split_info or decision.info)
    if decision.probe_selected or (decision.probe is not None and np.any(decision.probe)):
        _check_use(scheduler, "probe", "probed")
    if decision.choice == "wrr":
        _check_use(scheduler, "weight", "tracked" if decision.weight == "quota" else "own")
    if scheduler.info == "static" and (decision.balance is not None or decision.level is not None):
        _check_use(scheduler, "balance, level", "own")
    return _for_world(scenario, decision)


def _check_use(scheduler: Scheduler, key: str, used: str) -> None:
    """InputError if knowledge of the class `used` is above the scheduler's own; "level" knows what "own" knows."""
    needed = "own" if used == "level" else used
    if needed in INFO_CLASSES and needed not in MAY_USE[scheduler.info]:
        text = f"{scheduler.info} (scheduler.info) does not know what {needed} knows"
        raise InputError(f"scheduler.{key}: {text} ({_name(scheduler)})")


@contextmanager
def _decided_by(scheduler: Scheduler) -> Iterator[None]:
    """What the world says of a decision becomes an InputError that names the scheduler too."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{error} ({_name(scheduler)})") from error


def _name(scheduler: Scheduler) -> str:
    return class_name(type(scheduler))


def list_windows(tasks: Tasks, announce_s: float, cadence: str) -> Iterator[tuple[int, bool, Ints, Ints]]:
    """(epoch, whether the epoch ends with it, lo [R], hi [R]) of every question in the order of asking.

    "trace": one window; "epoch": one per announcement interval that holds a task; "arrival": each epoch in pieces in
    which no station has two tasks, so that every station knows all of its earlier placements.
    """
    n_tasks = tasks.valid.sum(1)
    start = np.zeros(len(n_tasks), np.int64)
    if cadence == "trace":
        yield 0, True, start, n_tasks
        return
    epochs = np.floor(tasks.arrive_s / announce_s + 1e-9).astype(np.int64)
    epochs = np.where(tasks.valid, epochs, np.iinfo(np.int64).max)
    lo = start
    for epoch in np.unique(epochs[tasks.valid]):
        end = np.array([np.searchsorted(row, epoch, "right") for row in epochs])
        while (lo < end).any():
            hi = end if cadence == "epoch" else _until_repeat(tasks.origin, lo, end)
            yield int(epoch), bool((hi == end).all()), lo, hi
            lo = hi


@njit(cache=True)
def _until_repeat(origin: Any, lo: Any, end: Any) -> Any:
    hi = end.copy()
    seen = np.zeros(origin.max() + 1, np.bool_)
    for r in range(len(lo)):
        seen[:] = False
        for i in range(lo[r], end[r]):
            if seen[origin[r, i]]:
                hi[r] = i
                break
            seen[origin[r, i]] = True
    return hi


def recent_rate(tasks: Tasks, n_stations: int, memory_s: float) -> Floats:
    """[R, N] tasks per second that a task's station has seen before it: exponentially weighted with time constant
    memory_s, and corrected for the short past at the start of a trace."""
    rate = np.zeros(tasks.shape)
    _recent_rate(tasks.origin, tasks.arrive_s, tasks.valid, n_stations, memory_s, rate)
    return rate


@njit(cache=True)
def _recent_rate(origin: Any, arrive_s: Any, valid: Any, n_stations: int, memory_s: float, rate: Any) -> None:
    for r in range(len(origin)):
        level, last = np.zeros(n_stations), np.zeros(n_stations)
        for i in range(origin.shape[1]):
            if not valid[r, i]:
                break
            b, now = origin[r, i], arrive_s[r, i]
            level[b] *= np.exp((last[b] - now) / memory_s)
            last[b] = now
            past = memory_s * (1.0 - np.exp(-now / memory_s))
            rate[r, i] = level[b] / past if past > 1e-9 else 0.0
            level[b] += 1.0


def window_of(tasks: Tasks, lo: Ints, hi: Ints) -> Tasks:
    """Tasks lo[r]..hi[r]-1 of every replica as a record [R, M] of its own (padding repeats a task, not valid)."""
    width = int((hi - lo).max(initial=0))
    if width == tasks.shape[1] and not lo.any():
        return tasks
    at = lo[:, None] + np.arange(width)
    inside = at < hi[:, None]
    at = np.minimum(at, tasks.shape[1] - 1)
    values = {}
    for name, value in tasks._asdict().items():
        values[name] = value if name.startswith("speed_") else np.take_along_axis(value, at, 1)
    return Tasks(**values)._replace(valid=inside)


def _waits(traces: Traces, scheduler: Scheduler, world: Any, state: Any, lo: Ints, hi: Ints) -> Floats | None:
    """View.wait_s by the class on which the scheduler's choice rests."""
    if scheduler.cadence == "trace":
        return None
    info = getattr(scheduler, "choose_info", scheduler.info)
    wait_s: Floats = world.estimates(traces.scenario, state, traces.tasks, lo, hi, info)
    return wait_s


def _view(
    seen: Traces, scheduler: Scheduler, wait_s: Floats | None, lo: Ints, hi: Ints, own_rate: Floats | None
) -> View:
    """What the scheduler sees of a window; `seen` is read only already."""
    scenario, tasks = seen.scenario, window_of(seen.tasks, lo, hi)
    age_s, rate = None, None
    if scheduler.cadence != "trace":
        announced_s = np.floor(tasks.arrive_s / scenario.announce_s + 1e-9) * scenario.announce_s
        age_s = np.maximum(tasks.arrive_s - announced_s, 0.0)
    if own_rate is not None:
        at = np.minimum(lo[:, None] + np.arange(tasks.shape[1]), own_rate.shape[1] - 1)
        rate = np.take_along_axis(own_rate, at, 1)
    if tasks is not seen.tasks:
        tasks = read_only(tasks)
    wait_s, age_s, rate = (array if array is None else locked(array) for array in (wait_s, age_s, rate))
    return View(scenario, tasks, wait_s, age_s, seen.mean_work_gcycle, seen.slot_tasks, seen.drawn_order, rate)


def _for_world(scenario: Scenario, decision: Decision) -> Decision:
    """In the additive worlds of the published rules the exact equal finish is water-filling, and "level" is "own"."""
    if scenario.rule == "clean":
        return decision
    split = "water_filling" if decision.split == "equal_finish" else decision.split
    info = "own" if decision.info == "level" else decision.info
    return replace(decision, split=split, info=info, split_info=decision.split_info or info)
