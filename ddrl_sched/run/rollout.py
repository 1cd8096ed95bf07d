"""Running one scheduler over traces: it decides as often as its cadence says, the world carries its decisions out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ddrl_sched.config import InputError, shown
from ddrl_sched.edge.decision import check_types
from ddrl_sched.edge.session import Halt, Session, Traces, Window
from ddrl_sched.edge.types import Decision, Floats, Outcome, Tasks
from ddrl_sched.failures import TrainingError, blamed_on
from ddrl_sched.schedulers.base import Scheduler, Traits, View, check_use, traits_of


@dataclass(frozen=True)
class Step:
    """A decision, and what the world made of it."""

    view: View
    decision: Decision
    window: Window
    state: object  # of the world, after placing
    outcome: Outcome  # of all tasks so far; positions of undecided tasks are NaN
    decide_s: float  # CPU seconds for deciding and placing
    n_windows: int  # done so far


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


def rollout(
    traces: Traces,
    scheduler: Scheduler,
    rng: np.random.Generator,
    begin: Halt | None = None,
    *,
    traits: Traits | None = None,
    cadence: str | None = None,
) -> Iterator[Step]:
    """Run `scheduler` over all traces at once, yielding after every decision; after the last all tasks are finished.

    With `begin` it goes on from there (and fills the outcome given with it). `traits`: those of the scheduler, if they
    were read before. With `cadence` it decides more often than it says of itself. Raises InputError naming the
    scheduler for a decision that the world cannot carry out or that rests on more than its information class knows.
    """
    traits = traits_of(scheduler) if traits is None else traits
    session = Session(traces, cadence or traits.cadence, traits.choose_info, traits.rate_memory_s, begin)
    while True:
        began = time.process_time()
        view = session.look()
        if view is None:
            return
        decision = decide(scheduler, traits, view, rng)
        with _decided_by(traits):
            outcome = session.act(decision)
        spent_s = time.process_time() - began
        assert session.window is not None
        assert session.decision is not None
        yield Step(view, session.decision, session.window, session.state, outcome, spent_s, session.n_windows)


def check_decision(traces: Traces, scheduler: Scheduler, traits: Traits) -> None:
    """Let a scheduler decide about some tasks and drop the decision: InputError for what cannot be carried out.

    One that sees waits is not tried, for they need the world to run.
    """
    if traits.cadence != "trace":
        return
    session = Session(traces, traits.cadence)
    if (view := session.look()) is None:
        return
    decision = decide(scheduler, traits, view, np.random.default_rng(0))
    with _decided_by(traits):
        session.check(decision)


def decide(scheduler: Scheduler, traits: Traits, view: View, rng: np.random.Generator) -> Decision:
    """The scheduler's decision. InputError if it rests on more than the scheduler's class knows."""
    with blamed_on(type(scheduler)):
        decision = scheduler.decide(view, rng)
        if not isinstance(decision, Decision):
            raise InputError(f"scheduler.name: decide must answer a Decision, got {shown(decision)} ({traits.name})")
    with _decided_by(traits):
        check_types(decision)
    check_use(traits, "info", decision.info)
    check_use(traits, "split_info", decision.split_info or decision.info)
    with blamed_on(type(scheduler)):
        probes = bool(decision.probe_selected) or (decision.probe is not None and bool(np.any(decision.probe)))
    if probes:
        check_use(traits, "probe", "probed")
    if decision.choice == "wrr":
        check_use(traits, "weight", "tracked" if decision.weight == "quota" else "own")
    if traits.info == "static" and (decision.own_work_price is not None or decision.min_wait_ratio is not None):
        check_use(traits, "own_work_price, min_wait_ratio", "own")
    return decision


@contextmanager
def _decided_by(traits: Traits) -> Iterator[None]:
    """What the world says of a decision becomes an InputError that names the scheduler too."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{error} ({traits.name})") from error
