"""What a scheduler knew of each task, asked, chose, and what became of every share: the columns of tasks.parquet.

The decisions of an evaluation are carried out once more, task by task, by the same kernel, and looked at on the way.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np

from ddrl_sched.edge import physics
from ddrl_sched.edge.one_decision import TaskQuote, resolve, simulated_quote
from ddrl_sched.edge.physics_resolve import dispatch_s
from ddrl_sched.edge.physics_state import State
from ddrl_sched.edge.session import Traces, Window
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Outcome, Scenario, Tasks

Columns = dict[str, np.ndarray]
PER_TASK = ("arrive_s", "input_mbit", "work_gcycle", "overhead_gcycle", "result_mbit", "units", "deadline_s")
OF_OUTCOME = ("delay_s", "wait_s", "transfer_s", "compute_s", "return_s", "late")
MOMENTS = ("sent_s", "arrived_s", "started_s", "ended_s")  # of a share, as Outcome.timing_s


class Kept(NamedTuple):
    """A decision of an evaluation and the tasks that it is about."""

    decision: Decision
    window: Window


class Seen(NamedTuple):
    """One task at the moment of its decision, per server [E]."""

    seen_wait_s: Floats  # by which the servers were chosen
    split_wait_s: Floats  # by which the work was divided: what was asked is exact here
    exact_wait_s: Floats
    port_s: Floats  # until the station may send there, without the time that asking takes
    send_s: Floats  # the whole input
    latency_s: Floats
    unit_s: Floats  # computing the whole task, and returning its result
    fixed_s: Floats  # the overhead of a used share, and the latency of its return
    asking_s: Floats  # that asking takes, the same for all servers
    own: Bools  # the station's own server
    asked: Bools
    chosen: Bools


def kept(decision: Decision, window: Window) -> Kept:
    """The decision with copies of its arrays: a scheduler may use its own again."""
    arrays = {
        field.name: array.copy()
        for field in fields(decision)
        if isinstance(array := getattr(decision, field.name), np.ndarray)
    }
    return Kept(replace(decision, **arrays), window)  # type: ignore[arg-type]


def record(traces: Traces, decided: list[Kept], before: Outcome, seed: Ints, trace: Ints) -> Iterator[Columns]:
    """Columns of tasks.parquet of each replica in turn: one row per task and server.

    `before`: what became of the tasks in the evaluation; `seed`, `trace`: [R] of the replicas. For clean worlds alone.
    """
    for r in range(len(seed)):
        tasks = traces.tasks.replicas(slice(r, r + 1))
        outcome, seen = _again(traces.scenario, tasks, decided, r)
        assert np.array_equal(outcome.delay_s[0], before.delay_s[r], equal_nan=True)
        columns = _columns(tasks, outcome, seen)
        n = len(columns["task"])
        yield {"seed": np.full(n, seed[r]), "trace": np.full(n, trace[r])} | columns


def joined(parts: list[Columns]) -> Columns:
    """The columns of all replicas."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _again(scenario: Scenario, tasks: Tasks, decided: list[Kept], r: int) -> tuple[Outcome, list[Seen]]:
    """Replica r carried out once more, and what its stations knew; `tasks` are its own."""
    outcome = physics.empty_outcome(tasks, scenario.n_servers, timing=True)
    state, seen = physics.initial_state(scenario, 1), []
    for decision, window in decided:
        for i in range(int(window.lo[r]), int(window.hi[r])):
            one = about_one(decision, r, i - int(window.lo[r]))
            state = physics.advance(scenario, state, tasks, tasks.arrive_s[:, i], outcome)
            seen.append(_seen(scenario, state, tasks, i, one))
            lo = np.array([i])
            state = physics.place(scenario, state, tasks, one, lo=lo, hi=lo + 1, outcome=outcome)
    physics.finish(scenario, state, tasks, outcome)
    return outcome, seen


def about_one(decision: Decision, r: int, j: int) -> Decision:
    """What a decision says of row (r, j) of its arrays [R, M, ...], as a decision about one task."""
    arrays = {
        field.name: array[r : r + 1, j : j + 1]
        for field in fields(decision)
        if field.name != "candidates" and isinstance(array := getattr(decision, field.name), np.ndarray)
    }
    return replace(decision, **arrays)  # type: ignore[arg-type]


def _seen(scenario: Scenario, state: State, tasks: Tasks, i: int, one: Decision) -> Seen:
    nothing = np.zeros(scenario.n_servers, np.bool_)
    asked_first = nothing if one.probe is None else one.probe[0, 0]
    own = scenario.home == tasks.origin[0, i]
    chosen, asked = nothing.copy(), [asked_first]
    by_split: list[TaskQuote] = []

    def quoted(info: str, probed: Bools) -> TaskQuote:
        factor = 1.0 if one.unseen_work_factor is None else float(one.unseen_work_factor[0, 0])
        ratio = 0.0 if one.min_wait_ratio is None else float(one.min_wait_ratio[0, 0])
        return simulated_quote(
            scenario, state, tasks, (0, i), info=info, probed=probed, unseen_work_factor=factor, min_wait_ratio=ratio
        )

    def after_choosing(selected: Bools) -> TaskQuote:
        chosen[:] = selected
        if one.probe_selected:
            asked[0] = selected
        if not one.probe_selected and one.split_info in (None, one.info):
            return known
        by_split.append(quoted(one.split_info or one.info, asked[0]))
        return by_split[0]

    known = quoted(one.info, asked_first)
    resolve(known, one, after_choosing)
    exact = simulated_quote(scenario, state, tasks, (0, i), info="running").quote
    splits = by_split[0] if by_split else known
    waits = (known.quote.free_s, splits.quote.free_s, exact.free_s)
    rest = (exact.port_s, exact.send_s, exact.latency_s, exact.unit_s, exact.fixed_s)
    asking_s, _ = dispatch_s(int(tasks.origin[0, i]), asked[0], physics.numbers_of(scenario))
    return Seen(*waits, *rest, np.full(scenario.n_servers, asking_s), own, asked[0] & ~own, chosen)


def _columns(tasks: Tasks, outcome: Outcome, seen: list[Seen]) -> Columns:
    n, n_servers = len(seen), outcome.share.shape[2]
    per_task: Columns = {"task": np.arange(n), "station": tasks.origin[0, :n]}
    per_task |= {name: getattr(tasks, name)[0, :n] for name in PER_TASK}
    per_task |= {name: getattr(outcome, name)[0, :n] for name in OF_OUTCOME}
    columns = {name: np.repeat(values, n_servers) for name, values in per_task.items()}
    columns["server"] = np.tile(np.arange(n_servers), n)
    for name in Seen._fields:
        columns[name] = np.concatenate([getattr(one, name) for one in seen]) if seen else np.zeros(0)
    columns["share"] = outcome.share[0, :n].ravel()
    for k, name in enumerate(MOMENTS):
        columns[name] = outcome.timing_s[0, :n, :, k].ravel()
    return columns
