"""A scheduling job: tasks on edge servers. `train` learns, `eval` evaluates, `sweep` does both."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError, near, shown
from ddrl_sched.edge import published
from ddrl_sched.edge.env_settings import SINGLE_RULES
from ddrl_sched.failures import TrainingError
from ddrl_sched.jobs import records
from ddrl_sched.jobs.estimate import durations_s, rule_s
from ddrl_sched.jobs.lifecycle import Clock, carry_out, stamp
from ddrl_sched.jobs.lock import is_locked, lock
from ddrl_sched.jobs.reading import MAX_ROWS, MAX_TASK_ROWS, check_n_rows
from ddrl_sched.jobs.request import Ending, JobSpec, Plan
from ddrl_sched.jobs.schemas import DELAYS_SCHEMA, EVAL_SCHEMA, TASKS_SCHEMA, TIMELINE_SCHEMA, JobRecord
from ddrl_sched.jobs.state import is_finished, state
from ddrl_sched.run.evaluate import check_replay, check_rows, check_size, evaluate
from ddrl_sched.run.inputs import training_hash
from ddrl_sched.run.problem import Problem, build_problem
from ddrl_sched.run.rollout import check_decision
from ddrl_sched.run.settings import JobSettings
from ddrl_sched.schedulers.base import Scheduler, Traits, traits_of
from ddrl_sched.schedulers.table import build as build_scheduler

if TYPE_CHECKING:
    from ddrl_sched.jobs.training import Watch  # torch comes with it


@dataclass(frozen=True)
class Estimate:
    """CPU seconds of a job on one core; None where they are not known."""

    seconds: float | None = None
    training_s: float = 0.0  # of them for a training ...
    training: str | None = None  # ... with this name, which jobs that share it do once


@dataclass
class SchedulingJob:
    """A job with its world and its scheduler."""

    spec: JobSpec[JobSettings]
    problem: Problem
    scheduler: Scheduler  # where it learns the learner of jobs/training.py
    traits: Traits  # of the scheduler, read once
    watch: "Watch | None" = None  # told of every episode of training; may end the job by an exception
    turn: ExitStack | None = None  # holds the lock of a shared training until it is found done

    @property
    def n_seeds(self) -> int:
        """Seeds of the evaluation."""
        if self.spec.learns or self.problem.nested:
            return self.spec.settings.seeds
        return self.spec.settings.evaluate.policy_seeds if self.traits.draws else 1

    @property
    def trains(self) -> bool:
        """Whether it trains, or takes over the training of another job."""
        return self.spec.learns and self.spec.weights is None

    @property
    def training(self) -> str:
        """Hash of what its training depends on."""
        return training_hash(self.spec.settings.model_dump(), self.spec.inputs)

    def about(self) -> JobRecord:
        """What job.json says while it runs."""
        spec = self.spec
        return {
            **stamp(spec),
            "settings": spec.settings.model_dump(),
            "seeds": list(range(self.n_seeds)),
            "scenario_hash": self.problem.scenario_hash,
            "learned": spec.learns,
            "experiment": spec.settings.name,
            "baselines": spec.settings.baselines,
        }

    def estimate(self) -> Estimate:
        """As finished jobs of the scheduler in this experiment took, else judged by a few tasks and updates."""
        spec, problem, settings = self.spec, self.problem, self.spec.settings
        known = durations_s(spec.folder.parent).get(spec.label)
        if known is not None:
            return Estimate(known)
        if not spec.learns:
            return Estimate(rule_s(problem, self.scheduler, settings, self.n_seeds))
        from ddrl_sched.jobs.estimate_training import learner_s  # lazy: torch comes with it
        from ddrl_sched.jobs.training import trained_on

        problems = trained_on(settings, problem) if self.trains else []
        try:
            training_s, rest_s = learner_s(problem, self.scheduler, settings, problems)
        except TrainingError:  # it diverges while it is tried; the job itself will tell where
            return Estimate()
        return Estimate(training_s + rest_s, training_s, f"{spec.label} {self.training}" if self.trains else None)

    def train(self, clock: Clock) -> None:
        """Train, or take over a training, where there is one to be done."""
        if self.trains:
            from ddrl_sched.jobs.training import learn  # lazy, as above

            learn(self.spec, self.problem, self.scheduler, clock, turn=self.turn, watch=self.watch)

    def work(self, clock: Clock) -> None:
        """Train or take over a training, then evaluate."""
        self.train(clock)
        spec, evaluation = self.spec, self.spec.settings.evaluate
        if spec.command == "train":
            return
        found = evaluate(
            self.problem,
            self.scheduler,
            spec.label,
            self.n_seeds,
            evaluation.traces,
            traits=self.traits,
            replay_rule=evaluation.replay_rule,
            drawn_as=spec.drawn_as,
            keep_tasks=evaluation.tasks,
        )
        check_rows(found.rows, spec.settings.env)
        columns = {name: [row[name] for row in found.rows] for name in found.rows[0]}
        records.write_table(spec.folder / "eval.parquet", columns, EVAL_SCHEMA)
        if len(found.delays["row"]) <= MAX_ROWS:  # else too many traces: reports do without percentiles of all tasks
            records.write_table(spec.folder / "delays.parquet", found.delays, DELAYS_SCHEMA)
        if found.timeline is not None:
            records.write_table(spec.folder / "timeline.parquet", found.timeline, TIMELINE_SCHEMA)
        if found.tasks is not None:
            records.write_table(spec.folder / "tasks.parquet", found.tasks, TASKS_SCHEMA)


def check(spec: JobSpec[JobSettings]) -> None:
    """Build the job and drop it. Raises InputError. A class of the user's own may do anything: it is not built."""
    if not spec.own_class:
        build(spec, try_out=False)


def plan(spec: JobSpec[JobSettings]) -> Plan:
    """What is known of a job before it runs. Raises InputError naming keys.

    The state is "done", "failed", "running" (by a living process), "interrupted" or "to do". Jobs with the same
    `training` do it once: `training_s` of their estimates counts once. With flags.try_out False the scheduler, which
    may be code of the user's own, decides nothing: then nothing is estimated.
    """
    job = build(spec, try_out=spec.flags.try_out)
    estimate = job.estimate() if spec.flags.try_out else Estimate()
    return planned(job, estimate, round(job.problem.plan.demand.load, 4))


def planned(job: SchedulingJob, estimate: Estimate, load: float | None) -> Plan:
    """The plan of a job that takes so long, at this load (None: at several)."""
    spec, found = job.spec, state(job.spec)
    return Plan(
        job_id=spec.job_id,
        state="running" if found != "done" and is_locked(spec.folder) else found,
        label=spec.label,
        scenario=job.problem.env.name,
        load=load,
        estimate_s=estimate.seconds,
        training_s=estimate.training_s,
        training=estimate.training,
    )


def run(spec: JobSpec[JobSettings], watch: "Watch | None" = None) -> Ending:
    """Do a job, unless it is done. Raises InputError, OSError, TrainingError.

    A job that was interrupted, by an OSError too (a full disk, ...), goes on from its last checkpoint. One that another
    process works on, or whose training another process does, is waited for, or with flags.wait False passed over
    ("claimed").
    """
    if is_finished(spec):
        return "skipped"
    with in_turn(replace(build(spec), watch=watch)) as job:
        return "claimed" if job is None else carry_out(job)


@contextmanager
def in_turn(job: SchedulingJob) -> Iterator[SchedulingJob | None]:
    """The job, holding the lock of a training that others may share; None if another process has it and is passed over.

    First the lock of the training, then that of the folder (`carry_out`): all processes in this order.
    """
    with ExitStack() as turn:
        taken = not _shares(job) or turn.enter_context(_lock_training(job))
        yield replace(job, turn=turn) if taken else None


def _shares(job: SchedulingJob) -> bool:
    """Whether other jobs of the experiment may have the same training; with --resume the folder may lie anywhere."""
    return job.trains and job.spec.flags.resume is None


def _lock_training(job: SchedulingJob) -> AbstractContextManager[bool]:
    """Of jobs with the same training one at a time looks for a finished one and, if there is none, trains."""
    name = [job.spec.label, fingerprint.code_version(), job.training]
    file = f".training-{fingerprint.canonical_hash(name)[:16]}"  # stays, like the lock of a folder
    return lock(job.spec.folder.parent, wait=job.spec.flags.wait, file=file)


def build(spec: JobSpec[JobSettings], *, try_out: bool = True) -> SchedulingJob:
    """The world and the scheduler of a job. Raises InputError naming keys where they do not fit."""
    settings = spec.settings
    problem = build_problem(settings.env, settings.workload, settings.evaluate.seed, spec.inputs)
    problem.check_traces(settings.evaluate.traces)
    _check_replay(settings, problem)
    scheduler: Scheduler
    if spec.learns:
        from ddrl_sched.jobs.training import build_learner  # lazy: torch comes with it

        scheduler = build_learner(spec, problem)
    else:
        keys = {key: value for key, value in settings.scheduler.items() if key != "name"}
        scheduler = build_scheduler(str(settings.scheduler.get("name")), keys)
    traits = traits_of(scheduler)
    if try_out and not spec.learns:
        _try_out(settings, problem, scheduler, traits)
    job = SchedulingJob(spec, problem, scheduler, traits)
    check_size(problem, job.n_seeds)
    if spec.command != "train":
        per_seed = settings.evaluate.traces * (1 if settings.evaluate.replay_rule is None else 2)
        check_n_rows({"seeds, evaluate.policy_seeds, evaluate.traces": job.n_seeds * per_seed})
        if settings.evaluate.tasks:
            _check_tasks(problem, job.n_seeds, settings.evaluate.traces)
    return job


def _check_tasks(problem: Problem, n_seeds: int, n_traces: int) -> None:
    """InputError naming keys where what becomes of every task cannot be kept."""
    scenario, demand = problem.scenario, problem.plan.demand
    if scenario.published:
        text = f"env.rule {scenario.rule} knows no moments at which shares are sent and served"
        raise InputError(f"evaluate.tasks: only of clean worlds (env.rule=clean); {text}")
    n_tasks = demand.tasks_per_s * scenario.horizon_s
    rows = n_seeds * n_traces * n_tasks * scenario.n_servers
    if rows > MAX_TASK_ROWS:
        text = f"{n_seeds} seeds x {n_traces} traces x {n_tasks:,.0f} tasks x {scenario.n_servers} servers"
        most = f"tasks.parquet can have {MAX_TASK_ROWS:,} rows"
        raise InputError(f"evaluate.tasks: {text} are too many, {most}: evaluate.traces=1, or less env.clock.horizon_s")


def _try_out(settings: JobSettings, problem: Problem, scheduler: Scheduler, traits: Traits) -> None:
    """InputError where the scheduler's decision about a few tasks, or its replay, is none for this world."""
    some = problem.training(settings.seed, range(1), 0, 0, 4)[0]
    check_decision(some, scheduler, traits)
    if settings.evaluate.replay_rule is not None:
        check_replay(some, scheduler, traits, settings.evaluate.replay_rule)


def _check_replay(settings: JobSettings, problem: Problem) -> None:
    rule = settings.evaluate.replay_rule
    if rule is None:
        return
    if rule not in published.RULES:
        raise InputError(f"evaluate.replay_rule: unknown rule {shown(rule)}{near(rule, published.RULES)}")
    if not problem.nested:
        raise InputError("evaluate.replay_rule: only decisions of published worlds can be replayed")
    if (rule in SINGLE_RULES) != (problem.scenario.single):
        raise InputError(f"evaluate.replay_rule: {rule} and {problem.scenario.rule} (env.rule) share no kind of task")
