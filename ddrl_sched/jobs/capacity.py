"""The capacity of a scheduler as a job: the highest load at which few enough tasks are late, sought by bisection.

Every load is looked at on the same traces: their random streams hang on evaluate.seed and not on the load, so a trace
at a higher load is the same trace with its arrivals nearer together. Schedulers are paired by traces as everywhere.
Every load that was looked at is kept in resume/, so that a job that was interrupted goes on with the next one.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError
from ddrl_sched.display import note
from ddrl_sched.jobs import checkpoint, records, scheduling
from ddrl_sched.jobs.capacity_settings import CapacityJobSettings, CapacitySettings, next_load
from ddrl_sched.jobs.estimate import durations_s
from ddrl_sched.jobs.lifecycle import Clock, carry_out
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES, check_n_rows, check_table, parse_table
from ddrl_sched.jobs.request import Ending, JobSpec, Plan
from ddrl_sched.jobs.scheduling import Estimate, SchedulingJob
from ddrl_sched.jobs.schemas import CAPACITY_SCHEMA, JobRecord
from ddrl_sched.jobs.state import is_finished
from ddrl_sched.run.evaluate import Row, Rows, check_size, evaluate
from ddrl_sched.run.inputs import world_hash
from ddrl_sched.run.problem import Problem

TABLE = "capacity.parquet"
TAKEN = ("scenario", "workload", "scheduler", "info", "seed", "trace", "cluster", "n_tasks", "mean_delay_s",
         "p99_delay_s")  # columns of an evaluation that are kept  # fmt: skip


@dataclass(frozen=True)
class CapacityJob:
    """A search with its world and its scheduler."""

    inner: SchedulingJob  # trains where the scheduler learns; its problem has workload.load
    spec: JobSpec[CapacityJobSettings]

    @property
    def scenario_hash(self) -> str:
        """Hash of what decides the tasks and their delays at every load."""
        return world_hash(self.spec.settings.model_dump(), self.inner.problem.inputs)

    def about(self) -> JobRecord:
        """What job.json says while it runs."""
        return {**self.inner.about(), "scenario_hash": self.scenario_hash}

    def estimate(self) -> Estimate:
        """As finished jobs of the scheduler in this experiment took, else an evaluation for each load."""
        known = durations_s(self.spec.folder.parent).get(self.spec.label)
        if known is not None:
            return Estimate(known)
        asked = self.spec.settings.capacity
        at_middle = replace(self.inner, problem=self.inner.problem.at_load((asked.low + asked.high) / 2))
        one = at_middle.estimate()
        if one.seconds is None:
            return one
        return replace(one, seconds=one.training_s + (one.seconds - one.training_s) * asked.most_loads)

    def work(self, clock: Clock) -> None:
        """Train or take over a training, then look at one load after the other."""
        self.inner.train(clock)
        rows = self._looked_at()
        while (load := next_load(late_rates(rows), self.spec.settings.capacity)) is not None:
            rows += self._at(load)
            _write(self._kept, rows)
        _write(self.spec.folder / TABLE, rows)

    def _at(self, load: float) -> Rows:
        """Rows of capacity.parquet of one load."""
        inner, evaluation = self.inner, self.spec.settings.evaluate
        found = evaluate(
            inner.problem.at_load(load),
            inner.scheduler,
            self.spec.label,
            inner.n_seeds,
            evaluation.traces,
            traits=inner.traits,
            drawn_as=self.spec.drawn_as,
        )
        deadline_s = self.spec.settings.env.tasks.deadline_s
        about: Row = {
            "scenario_hash": self.scenario_hash,
            "at_most": self.spec.settings.capacity.at_most,
            "deadline_s": np.nan if deadline_s is None else deadline_s,
            "load": load,
        }
        return [{**{key: row[key] for key in TAKEN}, **about, "n_late": _n_late(row)} for row in found.rows]

    @property
    def _kept(self) -> Path:
        """Where the loads looked at so far are kept, for this machine and these packages alone."""
        about = [self.spec.job_id, fingerprint.package_versions(), fingerprint.numerics()]
        name = checkpoint.LOADS.replace("*", fingerprint.canonical_hash(about)[:16])
        return self.spec.folder / checkpoint.FOLDER / name

    def _looked_at(self) -> Rows:
        """Rows of the loads that an interrupted process has looked at."""
        if not self._kept.exists():
            return []
        try:
            table = parse_table(records.read_regular(self._kept, MAX_TABLE_BYTES), CAPACITY_SCHEMA, self._kept.name)
            check_table("capacity", table, self.spec.label)
        except ValueError as error:
            note(f"{self.spec.label}: begun again, for {error}")
            return []
        columns = [column.tolist() for column in table.values()]
        return [dict(zip(table, values, strict=True)) for values in zip(*columns, strict=True)]


def late_rates(rows: Rows) -> dict[float, float]:
    """Share of late tasks by load: over all traces, the mean over seeds."""
    counts: dict[float, dict[int, tuple[int, int]]] = {}
    for row in rows:
        of_load = counts.setdefault(float(row["load"]), {})
        late, tasks = of_load.get(int(row["seed"]), (0, 0))
        of_load[int(row["seed"])] = late + int(row["n_late"]), tasks + int(row["n_tasks"])
    return {load: float(np.mean([late / n for late, n in seeds.values()])) for load, seeds in counts.items()}


def check(spec: JobSpec[CapacityJobSettings]) -> None:
    """Build the job and drop it. Raises InputError."""
    if not spec.own_class:
        _build(spec, try_out=False)


def plan(spec: JobSpec[CapacityJobSettings]) -> Plan:
    """What is known of the job before it runs, see scheduling.plan. Raises InputError."""
    job = _build(spec, try_out=spec.flags.try_out)
    return scheduling.planned(job.inner, job.estimate() if spec.flags.try_out else Estimate(), None)


def run(spec: JobSpec[CapacityJobSettings]) -> Ending:
    """Do the job, unless it is done, see scheduling.run. Raises InputError, OSError, TrainingError."""
    if is_finished(spec):
        return "skipped"
    with scheduling.in_turn(_build(spec).inner) as inner:
        return "claimed" if inner is None else carry_out(CapacityJob(inner, spec))


def _build(spec: JobSpec[CapacityJobSettings], *, try_out: bool = True) -> CapacityJob:
    """The job with its world. Raises InputError naming keys, also for what is wrong at one end of the loads only."""
    inner, asked = scheduling.build(spec, try_out=try_out), spec.settings.capacity
    for load in (asked.low, asked.high):
        problem = inner.problem.at_load(load)
        check_size(problem, inner.n_seeds)
        _check_resolution(problem, asked, spec.settings.evaluate.traces)
    n_rows = inner.n_seeds * spec.settings.evaluate.traces * asked.most_loads
    check_n_rows({"capacity.tolerance, seeds, evaluate.policy_seeds, evaluate.traces": n_rows})
    return CapacityJob(inner, spec)


def _check_resolution(problem: Problem, asked: CapacitySettings, n_traces: int) -> None:
    """InputError where so few tasks are counted that not one of them may be late."""
    scenario = problem.scenario
    n_tasks = problem.plan.demand.tasks_per_s * (scenario.horizon_s - scenario.warm_up_s) * n_traces
    if asked.at_most * n_tasks < 1:
        text = f"{asked.at_most:g} of about {n_tasks:.4g} tasks at load {problem.plan.demand.load:g} is less than one"
        raise InputError(f"capacity.at_most: {text}; evaluate.traces or env.clock.horizon_s would add some")


def _n_late(row: Row) -> int:
    return round(float(row["late_rate"]) * int(row["n_tasks"]))


def _write(path: Path, rows: Rows) -> None:
    records.write_table(path, {name: [row[name] for row in rows] for name in CAPACITY_SCHEMA.names}, CAPACITY_SCHEMA)
