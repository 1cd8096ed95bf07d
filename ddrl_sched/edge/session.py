"""One decision at a time: a Session looks at the next one and acts on it. Whoever decides does so between the two."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numba import njit

from ddrl_sched.edge.physics import empty_outcome
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Outcome, Scenario, Tasks, locked, read_only
from ddrl_sched.edge.view import Earlier, View
from ddrl_sched.edge.world import world_of

A = TypeVar("A", Floats, Ints)
CADENCES = ("trace", "epoch", "arrival")  # how often a scheduler decides, see list_windows


@dataclass(frozen=True)
class Traces:
    """Traces to run on, and what a scheduler may know of their workload."""

    scenario: Scenario
    tasks: Tasks
    mean_work_gcycle: float
    slot_tasks: np.ndarray | None  # [N] see View
    drawn_order: bool


@dataclass(frozen=True)
class Halt:
    """Where a session can go on: what it had reached after a number of windows."""

    n_windows: int
    state: Any  # of the world
    outcome: Outcome


@dataclass(frozen=True)
class Window:
    """Tasks that are decided together: lo[r]..hi[r]-1 of every replica r."""

    lo: Ints  # [R]
    hi: Ints  # [R]
    epoch: int  # number of the announcement interval
    epoch_ends: bool  # no task of this interval is left


class Session:
    """The decisions about some traces, one after the other: `look` at the next, then `act`, until look gives None.

    cadence: "trace" one decision for all tasks (a rule that the world carries out), "epoch" one per announcement
    interval, "arrival" one for as many tasks as come from different stations. `wait_info` is the class by which
    View.wait_s is told (None: not told; so it is at cadence "trace"), `rate_memory_s` the time constant of
    View.own_rate (None: not told). With `begin` it goes on from there, and fills the outcome given with it.
    """

    def __init__(
        self,
        traces: Traces,
        cadence: str,
        wait_info: str | None = None,
        rate_memory_s: float | None = None,
        begin: Halt | None = None,
    ) -> None:
        scenario, tasks = traces.scenario, traces.tasks
        self._world = world_of(scenario)
        if begin is None:
            state = self._world.initial_state(scenario, tasks.shape[0])
            begin = Halt(0, state, empty_outcome(tasks, scenario.n_servers))
        self.state, self.outcome, self.n_windows = begin.state, begin.outcome, begin.n_windows
        self._traces, self._seen, self._cadence, self._wait_info = traces, read_only(traces), cadence, wait_info
        self._own_rate = None if rate_memory_s is None else recent_rate(tasks, scenario.n_stations, rate_memory_s)
        self._earlier = earlier_tasks(tasks, scenario.n_stations)
        self._windows = list_windows(tasks, scenario.announce_s, cadence)
        for _ in range(begin.n_windows):
            next(self._windows)
        self.window: Window | None = None  # that was looked at last
        self.decision: Decision | None = None  # about it, in the terms of the world; None until it is acted on
        self._n_tasks = tasks.valid.sum(1)

    def look(self) -> View | None:
        """What a scheduler may see of the next decision; None: there is no more."""
        window = self.window = next(self._windows, None)
        self.decision = None
        if window is None:
            return None
        scenario, tasks = self._traces.scenario, self._traces.tasks
        wait_s = None
        if self._cadence != "trace":
            begin_s = np.where(window.lo < window.hi, window.epoch * scenario.announce_s, -np.inf)
            self.state = self._world.advance(scenario, self.state, tasks, begin_s, self.outcome)
            if self._wait_info is not None:
                lo, hi = window.lo, window.hi
                wait_s = self._world.estimates(scenario, self.state, tasks, lo=lo, hi=hi, info=self._wait_info)
        return view_of(
            self._seen,
            window.lo,
            window.hi,
            earlier=self._earlier,
            wait_s=wait_s,
            own_rate=self._own_rate,
            aged=self._cadence != "trace",
        )

    def act(self, decision: Decision) -> Outcome:
        """Carry out what was decided; what became of all tasks so far. ValueError for what the world cannot do."""
        window, scenario, tasks = self.window, self._traces.scenario, self._traces.tasks
        if window is None or self.decision is not None:
            raise ValueError("nothing was looked at: act follows look")
        translated = self._world.translated(decision)
        self.state = self._world.place(
            scenario, self.state, tasks, translated, lo=window.lo, hi=window.hi, outcome=self.outcome
        )
        self.decision = translated
        if (window.hi == self._n_tasks).all():
            self.state = self._world.finish(scenario, self.state, tasks, self.outcome)
        self.n_windows += 1
        return self.outcome

    def check(self, decision: Decision) -> None:
        """ValueError for a decision that the world cannot carry out in the window that was looked at last."""
        assert self.window is not None
        tasks = window_of(self._traces.tasks, self.window.lo, self.window.hi)
        self._world.check_decision(self._traces.scenario, self._world.translated(decision), tasks)


def view_of(
    seen: Traces,
    lo: Ints,
    hi: Ints,
    *,
    earlier: Earlier,
    wait_s: Floats | None = None,
    own_rate: Floats | None = None,
    aged: bool = True,
) -> View:
    """The View of tasks lo[r]..hi[r]-1 of read-only traces. earlier, own_rate: of whole traces [R, N].

    wait_s [R, M, E] is that of the window; without `aged` the age of announcements is not told (cadence "trace").
    """
    scenario, age_s = seen.scenario, None
    tasks = window_of(seen.tasks, lo, hi)
    if aged:
        announced_s = np.floor(tasks.arrive_s / scenario.announce_s + 1e-9) * scenario.announce_s
        age_s = np.maximum(tasks.arrive_s - announced_s, 0.0)
    rate = None if own_rate is None else _part(own_rate, lo, tasks.shape[1])
    earlier = read_only(Earlier(*(_part(array, lo, tasks.shape[1]) for array in earlier)))
    if tasks is not seen.tasks:
        tasks = read_only(tasks)
    wait_s, age_s, rate = (array if array is None else locked(array) for array in (wait_s, age_s, rate))
    mean, slot_tasks, drawn = seen.mean_work_gcycle, seen.slot_tasks, seen.drawn_order
    return View(scenario, tasks, wait_s, age_s, mean, slot_tasks, drawn, rate, earlier)


def _part(array: A, lo: Ints, width: int) -> A:
    """[R, M] of array [R, N] from lo[r] on (padding repeats the last)."""
    if width == array.shape[1] and not lo.any():
        return array
    return np.take_along_axis(array, np.minimum(lo[:, None] + np.arange(width), array.shape[1] - 1), 1)


def list_windows(tasks: Tasks, announce_s: float, cadence: str) -> Iterator[Window]:
    """The windows in the order in which they are decided.

    "trace": one window; "epoch": one per announcement interval that holds a task; "arrival": each epoch in pieces in
    which no station has two tasks, so that every station knows all of its earlier placements.
    """
    n_tasks = tasks.valid.sum(1)
    start = np.zeros(len(n_tasks), np.int64)
    if cadence == "trace":
        yield Window(start, n_tasks, 0, True)
        return
    epochs = np.floor(tasks.arrive_s / announce_s + 1e-9).astype(np.int64)
    epochs = np.where(tasks.valid, epochs, np.iinfo(np.int64).max)
    lo = start
    for epoch in np.unique(epochs[tasks.valid]):
        end = np.array([np.searchsorted(row, epoch, "right") for row in epochs])
        while (lo < end).any():
            hi = end if cadence == "epoch" else _until_repeat(tasks.origin, lo, end)
            yield Window(lo, hi, int(epoch), bool((hi == end).all()))
            lo = hi


@njit(cache=True)
def _until_repeat(origin: Ints, lo: Ints, end: Ints) -> Ints:
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


def earlier_tasks(tasks: Tasks, n_stations: int) -> Earlier:
    """What was decided before each task of whole traces, [R, N]."""
    counts = Earlier(*(np.zeros(tasks.shape, np.int64) for _ in range(3)))
    _count_earlier(tasks.origin, tasks.arrive_s, n_stations, *counts)
    return counts


@njit(cache=True)
def _count_earlier(origin: Ints, arrive_s: Floats, n_stations: int, own: Ints, own_now: Ints, all_now: Ints) -> None:
    count, before = np.zeros(n_stations, np.int64), np.zeros(n_stations, np.int64)
    for r in range(len(origin)):
        count[:] = 0
        first = 0
        for i in range(origin.shape[1]):
            if i == 0 or arrive_s[r, i] != arrive_s[r, i - 1]:
                first = i
                before[:] = count
            b = origin[r, i]
            own[r, i] = count[b]
            own_now[r, i] = count[b] - before[b]
            all_now[r, i] = i - first
            count[b] += 1


def recent_rate(tasks: Tasks, n_stations: int, memory_s: float) -> Floats:
    """[R, N] tasks per second that a task's station has seen before it: exponentially weighted with time constant
    memory_s, and corrected for the short past at the start of a trace."""
    rate = np.zeros(tasks.shape)
    _recent_rate(tasks.origin, tasks.arrive_s, tasks.valid, n_stations, memory_s, rate)
    return rate


@njit(cache=True)
def _recent_rate(origin: Ints, arrive_s: Floats, valid: Bools, n_stations: int, memory_s: float, rate: Floats) -> None:
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
