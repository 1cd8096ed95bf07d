"""One job: validated settings in, a run folder out. `train` learns, `eval` evaluates, `sweep` does both."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddrl_sched.config import SINGLE_RULES, InputError, near, shown
from ddrl_sched.edge import published
from ddrl_sched.failures import TrainingError
from ddrl_sched.jobs import records
from ddrl_sched.jobs.content import training_hash
from ddrl_sched.jobs.estimate import durations_s, rule_s
from ddrl_sched.jobs.identity import Asked, JobSettings, ask, finished, is_gym, state
from ddrl_sched.jobs.lifecycle import Clock, Task, carry_out, stamp
from ddrl_sched.jobs.lock import claim, is_claimed
from ddrl_sched.jobs.reading import check_n_rows
from ddrl_sched.run.evaluate import check_replay, check_rows, check_size, evaluate
from ddrl_sched.run.problem import Problem, build_problem
from ddrl_sched.run.rollout import check_decision
from ddrl_sched.schedulers.base import Scheduler, traits_of
from ddrl_sched.schedulers.table import build as build_scheduler

if TYPE_CHECKING:
    from ddrl_sched.jobs.training import Watch  # torch comes with it

NOT_ESTIMATED: dict[str, Any] = {"estimate_s": None, "training_s": 0.0, "training": None}


@dataclass(frozen=True)
class Job:
    """A checked job."""

    asked: Asked
    problem: Problem
    scheduler: Scheduler  # where it learns the one of jobs/training.py
    watch: "Watch | None"  # told of every episode of training; may end the job by an exception


def plan_job(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check a job without running it: id, state, estimate_s, label, ...

    The state is "done", "failed", "running" (by a living process), "interrupted" or "to do". Jobs with the same
    `training` (None: no training) do it once: `training_s` of their estimates counts once. With options["try_out"]
    False the scheduler is asked nothing, which for one of the user's own is code: estimate_s is None.
    """
    if is_gym(data):
        from ddrl_sched.jobs import cartpole as cartpole_job  # lazy, as above

        return cartpole_job.plan_job(data, command)
    asked = ask(data, command, options)
    job, found = build(asked, options), state(asked, options)
    return {
        "job_id": asked.job_id,
        "state": "running" if found != "done" and is_claimed(asked.folder) else found,
        **(_estimate(job) if options.get("try_out", True) else NOT_ESTIMATED),
        "label": asked.label,
        "scenario": job.problem.env.name,
        "load": round(job.problem.plan.demand.load, 4),
    }


def run_job(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> str:
    """Run a job unless it is done. Returns "done", "skipped", "failed" or "claimed"; raises InputError, OSError.

    A job that was interrupted, by an OSError too (a full disk, ...), goes on from its last checkpoint. One that another
    process works on, or whose training another process does, is waited for, or with options["wait"] False passed over
    ("claimed").
    """
    if is_gym(data):
        from ddrl_sched.jobs import cartpole as cartpole_job  # lazy, as above

        return cartpole_job.run_job(data, command, options)
    asked = ask(data, command, options)
    if finished(asked, options):
        return "skipped"
    job = build(asked, options)
    with ExitStack() as turn:  # first the claim of the training, then that of the folder: all processes in this order
        if _shares(job, options) and not turn.enter_context(_claim_training(job, options)):
            return "claimed"
        task = Task(
            asked.folder, lambda: state(asked, options), lambda: _about(job), lambda clock: _work(job, clock, turn)
        )
        return carry_out(task, options)


def _shares(job: Job, options: Mapping[str, Any]) -> bool:
    """Whether other jobs of the experiment may have the same training; with --resume the folder may lie anywhere."""
    return _trains(job) and not options.get("resume")


def _claim_training(job: Job, options: Mapping[str, Any]) -> AbstractContextManager[bool]:
    """Of jobs with the same training one at a time looks for a finished one and, if there is none, trains."""
    name = [job.asked.label, records.code_version(), _training_of(job)]
    file = f".training-{records.canonical_hash(name)[:16]}"  # stays, like the claim of a folder
    return claim(job.asked.folder.parent, wait=options.get("wait", True), file=file)


def prepare(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> Job:
    """Validate a composed config (plain data) and build its job. Raises InputError naming keys."""
    return build(ask(data, command, options), options)


def build(asked: Asked, options: Mapping[str, Any]) -> Job:
    """The world and the scheduler of a job. Raises InputError naming keys where they do not fit."""
    settings = asked.settings
    problem = build_problem(settings.env, settings.workload, settings.evaluate.seed, asked.inputs)
    problem.check_traces(settings.evaluate.traces)
    _check_replay(settings, problem)
    scheduler: Scheduler
    if asked.learns:
        from ddrl_sched.jobs.training import build_learner  # lazy: torch comes with it

        scheduler = build_learner(asked, problem)
    else:
        keys = {key: value for key, value in settings.scheduler.items() if key != "name"}
        scheduler = build_scheduler(str(settings.scheduler.get("name")), keys)
        if options.get("try_out", True):
            _try_out(settings, problem, scheduler)
    job = Job(asked, problem, scheduler, options.get("watch"))
    check_size(problem, _n_seeds(job))
    if asked.command != "train":
        per_seed = settings.evaluate.traces * (1 if settings.evaluate.replay_rule is None else 2)
        check_n_rows({"seeds, evaluate.policy_seeds, evaluate.traces": _n_seeds(job) * per_seed})
    return job


def _try_out(settings: JobSettings, problem: Problem, scheduler: Scheduler) -> None:
    """InputError where the scheduler's decision about a few tasks, or its replay, is none for this world."""
    some = problem.training(settings.seed, range(1), 0, 0, 4)[0]
    check_decision(some, scheduler)
    if settings.evaluate.replay_rule is not None:
        check_replay(some, scheduler, settings.evaluate.replay_rule)


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


def _about(job: Job) -> dict[str, Any]:
    settings = job.asked.settings
    return {
        **stamp(),
        "job_id": job.asked.job_id,
        "experiment": settings.name,
        "settings": settings.model_dump(),
        "input_sha256": dict(job.asked.inputs),
        "overrides": job.asked.overrides,
        "seeds": list(range(_n_seeds(job))),
        "scenario_hash": job.problem.scenario_hash,
        "scheduler": job.asked.label,
        "learned": job.asked.learns,
        "baselines": settings.baselines,
    }


def _n_seeds(job: Job) -> int:
    if job.asked.learns or job.problem.nested:
        return job.asked.settings.seeds
    return job.asked.settings.evaluate.policy_seeds if traits_of(job.scheduler).draws else 1


def _trains(job: Job) -> bool:
    return job.asked.learns and job.asked.weights_of is None


def _work(job: Job, clock: Clock, turn: ExitStack) -> None:
    """Train or take over a training, then evaluate. `turn` holds the claim of the training, until it is found done."""
    asked, evaluation = job.asked, job.asked.settings.evaluate
    if _trains(job):
        from ddrl_sched.jobs.training import learn  # lazy, as above

        learn(asked, job.problem, job.scheduler, clock, turn, job.watch)
    if asked.command == "train":
        return
    beside = {"replay_rule": evaluation.replay_rule, "drawn_as": asked.drawn_as}
    rows = evaluate(job.problem, job.scheduler, asked.label, _n_seeds(job), evaluation.traces, **beside)
    check_rows(rows, asked.settings.env)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    records.write_table(asked.folder / "eval.parquet", columns, records.EVAL_SCHEMA)


def _training_of(job: Job) -> str:
    return training_hash(job.asked.settings.model_dump(), job.asked.inputs)


def _estimate(job: Job) -> dict[str, Any]:
    """Seconds on one core: as finished jobs of the scheduler in this experiment took, else estimated."""
    asked, problem, settings = job.asked, job.problem, job.asked.settings
    known = durations_s(asked.folder.parent).get(asked.label)
    if known is not None:
        return NOT_ESTIMATED | {"estimate_s": known}
    if not asked.learns:
        return NOT_ESTIMATED | {"estimate_s": rule_s(problem, job.scheduler, settings, _n_seeds(job))}
    from ddrl_sched.jobs.estimate_training import learner_s  # lazy, as above
    from ddrl_sched.jobs.training import trained_on

    problems = trained_on(asked, problem) if _trains(job) else []
    try:
        training_s, rest_s = learner_s(problem, job.scheduler, settings, problems)
    except TrainingError:  # it diverges while it is tried; the job itself will tell where
        return NOT_ESTIMATED
    training = f"{asked.label} {_training_of(job)}" if _trains(job) else None
    return {"estimate_s": training_s + rest_s, "training_s": training_s, "training": training}
