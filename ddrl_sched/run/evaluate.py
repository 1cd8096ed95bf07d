"""Evaluation: any scheduler on the held-out traces of a problem, as rows of eval.parquet."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np

from ddrl_sched.config import InputError
from ddrl_sched.edge import physics
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.session import Halt, Traces
from ddrl_sched.edge.sizes import MAX_SPEEDS, n_speeds
from ddrl_sched.edge.types import Decision, Floats, Ints, Outcome, Scenario, Tasks
from ddrl_sched.edge.workload import TraceFacts
from ddrl_sched.edge.world import world_of
from ddrl_sched.failures import blamed_on
from ddrl_sched.run import histogram, task_record
from ddrl_sched.run.metrics import LARGEST_S
from ddrl_sched.run.problem import Problem
from ddrl_sched.run.rollout import Step, rollout
from ddrl_sched.schedulers.base import Scheduler, Traits, is_trained
from ddrl_sched.seeding import stream

Row = dict[str, str | int | float]  # in the columns of EVAL_SCHEMA
Rows = list[Row]
Decided = tuple[Decision, Ints, Ints]  # arrays [R, M, ...] about tasks lo[r]..hi[r]-1
_MAX_CELLS = 40_000_000  # replicas x tasks x servers held at once
_MOST_CELLS = 400_000_000  # the same where one trace has more: replicas x (tasks x servers + what is known of a task)
_MAX_STATE = 400_000_000  # replicas x stations x servers, of the several arrays of a state
_OF_A_TASK = 20  # numbers beside its shares
_PERCENTILES = (50, 95, 99)
_N_PARTS = 20  # of the horizon, in which the occupancy of servers is told
_EARLY, _LATE = slice(5, 10), slice(15, 20)  # of them, of which the queues are compared


class Evaluation(NamedTuple):
    """What was measured, as columns of eval.parquet, delays.parquet and timeline.parquet."""

    rows: Rows
    delays: dict[str, Ints]
    timeline: dict[str, Ints | Floats] | None  # None under a published rule, which knows no service in time
    tasks: task_record.Columns | None = None  # of tasks.parquet; None unless asked for


@dataclass(frozen=True)
class _Found:
    """Grows by a chunk of traces at a time."""

    rows: Rows
    bins: list[Ints]  # of each row
    counts: list[Ints]  # likewise
    occupancy_s: list[Floats]  # [E, T, 2] of each replica
    tasks: list[task_record.Columns]  # likewise, if they are to be kept

    def add(self, about: Row, where: "Where", traces: Traces, outcome: Outcome) -> None:
        """Take in the replicas of `traces`. ValueError naming env.clock.horizon_s where no task of one is counted."""
        tasks, scenario = traces.tasks, traces.scenario
        caused = caused_load(tasks, outcome.share, scenario)
        for r in range(len(where.seed)):
            counted = tasks.valid[r] & (tasks.arrive_s[r] >= scenario.warm_up_s)
            if not counted.any():
                text = f"trace {where.trace[r]} has no task after the warm-up of {scenario.warm_up_s:g} s"
                raise ValueError(f"env.clock.horizon_s: {text}")
            place = {key: value[r].item() for key, value in where._asdict().items()}
            queues = _queues(outcome.occupancy_s[r], scenario) if len(outcome.occupancy_s) else _NO_QUEUES
            summary = summarise(outcome, r, counted)
            self.rows.append({**about, **place, **summary, "caused_load": float(caused[r]), **queues})
            bins, counts = histogram.counts_of(outcome.delay_s[r, counted])
            self.bins.append(bins)
            self.counts.append(counts)
        self.occupancy_s.extend(outcome.occupancy_s)

    def evaluation(self, scenario: Scenario) -> Evaluation:
        """Everything so far."""
        row = np.repeat(np.arange(len(self.rows)), [len(bins) for bins in self.bins])
        delays = {"row": row, "bin": np.concatenate(self.bins), "count": np.concatenate(self.counts)}
        timeline = _timeline(np.mean(self.occupancy_s, axis=0), scenario) if self.occupancy_s else None
        tasks = task_record.joined(self.tasks) if self.tasks else None
        return Evaluation(self.rows, delays, timeline, tasks)


def caused_load(tasks: Tasks, share: Floats, scenario: Scenario) -> Floats:
    """[R] work of all tasks with the overhead of every used share, over what the servers can do in the horizon."""
    work = np.where(tasks.valid, tasks.work_gcycle + (share > 0).sum(2) * tasks.overhead_gcycle, 0.0).sum(1)
    caused: Floats = work / (scenario.speed_gcps.sum() * scenario.horizon_s)
    return caused


def _queues(occupancy_s: Floats, scenario: Scenario) -> dict[str, float]:
    """Mean number of shares at all servers in the second and in the last quarter of the horizon."""
    at_servers = occupancy_s[:, :, 1].sum(0) * _N_PARTS / scenario.horizon_s  # [T]
    return {"queue_early": float(at_servers[_EARLY].mean()), "queue_late": float(at_servers[_LATE].mean())}


_NO_QUEUES = {"queue_early": math.nan, "queue_late": math.nan}


def _timeline(occupancy_s: Floats, scenario: Scenario) -> dict[str, Ints | Floats]:
    """Columns of timeline.parquet from [E, T, 2], the mean over replicas."""
    n_servers, width_s = len(occupancy_s), scenario.horizon_s / _N_PARTS
    begin_s = np.tile(np.arange(_N_PARTS) * width_s, n_servers)
    return {
        "server": np.repeat(np.arange(n_servers), _N_PARTS),
        "begin_s": begin_s,
        "end_s": begin_s + width_s,
        "busy": occupancy_s[:, :, 0].ravel() / width_s,
        "queue": occupancy_s[:, :, 1].ravel() / width_s,
    }


def evaluate(
    problem: Problem,
    scheduler: Scheduler,
    label: str,
    n_seeds: int,
    n_traces: int,
    *,
    traits: Traits,
    replay_rule: str | None = None,
    drawn_as: str | None = None,
    keep_tasks: bool = False,
) -> Evaluation:
    """Run `scheduler` on every held-out trace once per seed and summarise; one row per seed and trace.

    n_seeds counts the training seeds of a learner, the repetitions of a scheduler that draws random numbers, else it
    is 1; in published worlds it is the number of draws and seed i meets draw i only. With `replay_rule` the same
    decisions, their sets and the scheduler's own split or given shares, are placed again under that published rule,
    which gives further rows. `traits`: those of the scheduler. Its random streams go by `drawn_as` (None: by `label`,
    its name in the rows). `keep_tasks`: with what became of every task; not in published worlds.
    """
    drawn_as = label if drawn_as is None else drawn_as
    _compile(problem, scheduler, traits)
    found = _Found([], [], [], [], [])
    for traces in _chunks(problem, n_seeds, n_traces):
        made, where, facts = _crossed(problem, traces, n_seeds)
        if is_trained(scheduler):
            names = (problem.eval_seed, "policy", drawn_as, traces.start)
            with blamed_on(type(scheduler)):
                scheduler.start_evaluation(len(traces), [stream(*names, k) for k in range(scheduler.n_learners)])
        rng = stream(0, "policy", drawn_as, traces.start)
        trail: list[task_record.Kept] | None = [] if keep_tasks else None
        outcome, decided, decide_s = _run(made, scheduler, traits, rng, keep=replay_rule is not None, trail=trail)
        about = _about(problem, label, traits, facts) | {
            "decide_us": 1e6 * decide_s / max(1, int(made.tasks.valid.sum()))
        }
        found.add(about, where, made, outcome)
        if trail is not None:
            found.tasks.extend(task_record.record(made, trail, outcome, where.seed, where.trace))
        if replay_rule is not None and replay_rule != made.scenario.rule:
            again = replace(made, scenario=replace(made.scenario, rule=replay_rule))
            placed = _place_again(again, decided)
            about |= {"rule": replay_rule, "scenario_hash": with_rule(problem, replay_rule).scenario_hash}
            found.add(about, where, again, placed)
    return found.evaluation(problem.scenario)


def with_rule(problem: Problem, rule: str) -> Problem:
    """The same problem under another published rule: same tasks, other delays, another hash."""
    env = problem.env.model_copy(update={"rule": rule})
    return replace(problem, env=env, scenario=replace(problem.scenario, rule=rule))


def check_size(problem: Problem, n_seeds: int) -> None:
    """InputError naming keys if one trace with all seeds is more than memory holds."""
    scenario = problem.scenario
    n_tasks = problem.plan.demand.tasks_per_s * scenario.horizon_s
    cells = n_seeds * n_tasks * (scenario.n_servers + _OF_A_TASK)
    about = f"one trace with {n_seeds} seeds or draws, {n_tasks:.4g} tasks and {scenario.n_servers} servers"
    if cells > _MOST_CELLS or _state_cells(problem) * n_seeds > _MAX_STATE:
        raise InputError(f"env.clock.horizon_s, seeds, evaluate.policy_seeds: {about} is too large to be held at once")
    if n_speeds(scenario, problem.env) * n_seeds > MAX_SPEEDS:
        text = f"{about} has {n_speeds(scenario, problem.env):.4g} changes of speed, too many to be held at once"
        raise InputError(f"env.slowdowns.mean_between_s, env.slowdowns.mean_duration_s: {text}")


def _state_cells(problem: Problem) -> float:
    """Numbers that a state holds of one replica, about."""
    b, e = problem.scenario.n_stations, problem.scenario.n_servers
    return 4.0 * b * e + 100.0 * e


def _chunks(problem: Problem, n_seeds: int, n_traces: int) -> Iterator[range]:
    """Traces in pieces that fit into memory."""
    demand, scenario = problem.plan.demand, problem.scenario
    cells = demand.tasks_per_s * scenario.horizon_s * scenario.n_servers * n_seeds
    most = (
        _MAX_CELLS // max(cells, 1.0),
        _MAX_STATE // (_state_cells(problem) * n_seeds),
        MAX_SPEEDS // (n_speeds(scenario, problem.env) * n_seeds),
    )
    at_once = max(1, min(n_traces, *(int(n) for n in most)))
    for first in range(0, n_traces, at_once):
        yield range(first, min(first + at_once, n_traces))


class Where(NamedTuple):
    """What a replica of an evaluation is."""

    seed: Ints  # [R]
    trace: Ints  # [R]
    cluster: Ints  # [R] unit in which traces are resampled
    realised_load: Floats  # [R]


def _crossed(problem: Problem, traces: range, n_seeds: int) -> tuple[Traces, Where, TraceFacts]:
    """Every seed meets every trace, seed-major; published draws belong to one seed each already."""
    made, facts, number, cluster = problem.evaluation(traces, n_seeds)
    seed = np.repeat(np.arange(n_seeds), len(traces))
    if not problem.nested:
        every = np.tile(np.arange(len(traces)), n_seeds)
        made, number, cluster = replace(made, tasks=made.tasks.replicas(every)), number[every], cluster[every]
    return made, Where(seed, number, cluster, np.resize(facts.realised_load, len(seed))), facts


def check_replay(made: Traces, scheduler: Scheduler, traits: Traits, rule: str) -> None:
    """Replay some tasks under `rule` and drop the outcome. Raises InputError naming evaluate.replay_rule.

    Only schedulers that decide once per trace are tried: others may change by deciding.
    """
    if traits.cadence == "trace":
        decided = _run(made, scheduler, traits, stream(0, "policy", "", 0), keep=True)[1]
        _place_again(replace(made, scenario=replace(made.scenario, rule=rule)), decided)


def _run(
    made: Traces,
    scheduler: Scheduler,
    traits: Traits,
    rng: np.random.Generator,
    *,
    keep: bool,
    trail: list[task_record.Kept] | None = None,
) -> tuple[Outcome, list[Decided], float]:
    """(outcome, decisions to be placed again if `keep`, CPU seconds of deciding and placing).

    `trail` gets the decisions as they were.
    """
    decided: list[Decided] = []
    scenario, tasks = made.scenario, made.tasks
    n_parts = 0 if scenario.published else _N_PARTS
    decide_s, outcome = 0.0, physics.empty_outcome(tasks, scenario.n_servers, n_parts=n_parts)
    begin = Halt(0, world_of(scenario).initial_state(scenario, tasks.shape[0]), outcome)
    for step in rollout(made, scheduler, rng, begin, traits=traits):
        decide_s += step.decide_s
        outcome = step.outcome
        if keep:
            decided.append((_as_given(step), step.window.lo, step.window.hi))
        if trail is not None:
            trail.append(task_record.kept(step.decision, step.window))
    return outcome, decided, decide_s


def _as_given(step: Step) -> Decision:
    """The step's decision with its sets given; of rules that the kernel carries out, the servers that got a share.

    Its arrays are copies: a scheduler may use its own again.
    """
    decision, lo, hi = step.decision, step.window.lo, step.window.hi
    arrays: dict[str, np.ndarray] = {
        f.name: value.copy() for f in fields(decision) if isinstance(value := getattr(decision, f.name), np.ndarray)
    }
    decision = replace(decision, **arrays)  # type: ignore[arg-type]
    if decision.choice == "given":
        return decision
    share = step.outcome.share
    select = np.zeros((len(lo), int((hi - lo).max(initial=0)), share.shape[2]), np.bool_)
    for r in range(len(lo)):
        select[r, : hi[r] - lo[r]] = share[r, lo[r] : hi[r]] > 0
    price_s = decision.price_s if decision.split == "water_filling" else None  # no other split weighs prices
    return replace(decision, choice="given", select=select, price_s=price_s, use_price_s=None)


def _place_again(traces: Traces, decided: list[Decided]) -> Outcome:
    """The decisions under the rule of these traces: the same sets, split the same way by the waits that now arise."""
    scenario, tasks = traces.scenario, traces.tasks
    world = world_of(scenario)
    outcome = physics.empty_outcome(tasks, scenario.n_servers)
    state = world.initial_state(scenario, tasks.shape[0])
    try:
        for decision, lo, hi in decided:
            state = world.place(scenario, state, tasks, decision, lo=lo, hi=hi, outcome=outcome)
    except ValueError as error:
        raise InputError(f"evaluate.replay_rule: {str(error).removeprefix('env.rule ')}") from error
    world.finish(scenario, state, tasks, outcome)
    return outcome


def _about(problem: Problem, label: str, traits: Traits, facts: TraceFacts) -> Row:
    return {
        "scenario": problem.env.name,
        "workload": problem.workload.name,
        "rule": problem.scenario.rule,
        "scenario_hash": problem.scenario_hash,
        "load": problem.plan.demand.load,
        "scheduler": label,
        "info": traits.info,
        "time_scale": facts.time_scale,
    }


def summarise(outcome: Outcome, replica: int, counted: np.ndarray) -> dict[str, float]:
    """Means and percentiles over the counted tasks [N] of one replica. ValueError if one of them has no delay."""
    delay_s = outcome.delay_s[replica, counted]
    if np.isnan(delay_s).any():
        raise ValueError("a counted task was never finished")
    percentiles = np.percentile(delay_s, _PERCENTILES)
    parts = {
        name: getattr(outcome, name)[replica, counted] for name in ("wait_s", "transfer_s", "compute_s", "return_s")
    }
    return {
        "n_tasks": int(counted.sum()),
        "mean_delay_s": float(delay_s.mean()),
        **{f"p{p}_delay_s": float(v) for p, v in zip(_PERCENTILES, percentiles, strict=True)},
        "late_rate": float(outcome.late[replica, counted].mean()),
        **{name: float(value.mean()) for name, value in parts.items()},
        "mean_servers": float((outcome.share[replica, counted] > 0).sum(1).mean()),
        "probes_per_task": float(outcome.probes[replica, counted].mean()),
    }


def check_rows(rows: Rows, env: EnvSettings) -> None:
    """InputError that names keys for a mean delay that a table of results cannot hold."""
    network = [key for key in type(env.network).model_fields if key.startswith(("latency", "rate", "missing"))]
    of_network = ", ".join(f"env.network.{key}" for key in network if not key.endswith("seed"))
    keys = {
        "wait_s": "workload.load, env.clock.horizon_s",
        "transfer_s": of_network,
        "compute_s": "env.servers.speed_gcps, env.tasks",
        "return_s": of_network,
    }
    for row in rows:
        if not 0.0 < float(row["mean_delay_s"]) <= LARGEST_S:
            part = max(keys, key=lambda name: float(row[name]))
            text = f"the mean delay of trace {row['trace']} is {row['mean_delay_s']:g} s, {part} {row[part]:g}"
            raise InputError(f"{keys[part]}: {text}; results hold delays in (0, {LARGEST_S:g}] s")


def _compile(problem: Problem, scheduler: Scheduler, traits: Traits) -> None:
    """Let numba compile the kernel before anything is timed: a few tasks of a trace of its own."""
    if is_trained(scheduler):
        return
    scenario = replace(problem.scenario, horizon_s=min(problem.scenario.horizon_s, 4 / problem.plan.demand.tasks_per_s))
    few = replace(problem, scenario=scenario)
    made, *_ = few.evaluation(range(1), 1) if problem.plan.trace is None else problem.evaluation(range(1), 1)
    for _ in rollout(made, scheduler, np.random.default_rng(0), traits=traits):
        pass
