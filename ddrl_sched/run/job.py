"""One job: validated settings in, a run folder out. `train` learns, `eval` evaluates, `sweep` does both."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ddrl_sched import stopping
from ddrl_sched.config import SINGLE_RULES, InputError, clean, near, shown
from ddrl_sched.edge import published
from ddrl_sched.failures import TrainingError
from ddrl_sched.run import budget as budgets
from ddrl_sched.run import checkpoint, records
from ddrl_sched.run.claim import claim, is_claimed
from ddrl_sched.run.curve import Curve
from ddrl_sched.run.estimate import estimate_s
from ddrl_sched.run.evaluate import check_replay, check_rows, evaluate
from ddrl_sched.run.evolve import Evolution
from ddrl_sched.run.identity import WEIGHTS, Asked, JobSettings, ask, finished, is_gym, state
from ddrl_sched.run.problem import Problem, build_problem
from ddrl_sched.run.progress import show
from ddrl_sched.run.reading import check_written
from ddrl_sched.run.rollout import Traces, check_decision
from ddrl_sched.run.seeding import stream
from ddrl_sched.run.train import Progress, Training
from ddrl_sched.run.validate import Validation
from ddrl_sched.schedulers.base import Scheduler, Trained
from ddrl_sched.schedulers.learned import Learner, learned_settings
from ddrl_sched.schedulers.price_policy import PricePolicy, price_settings
from ddrl_sched.schedulers.table import build as build_scheduler

T = TypeVar("T")
NOT_ESTIMATED: dict[str, Any] = {"estimate_s": None, "training_s": 0.0, "training": None}
AFTER_ALL_EPISODES = 10**6  # train.episodes is at most that: the number of an episode that is never trained on
MAX_EPISODE_CELLS = 400_000_000  # seeds x tasks x servers of an episode


@dataclass(frozen=True)
class Job:
    """A checked job."""

    asked: Asked
    problem: Problem
    scheduler: Scheduler  # where it learns a Learner or a PricePolicy, with the weights of `asked.weights_of` if given
    watch: Callable[[Progress], None] | None  # told of every episode of training; may end the job by an exception


def plan_job(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check a job without running it: id, state, estimate_s, label, ...

    The state is "done", "failed", "running" (by a living process), "interrupted" or "to do". Jobs with the same
    `training` (None: no training) do it once: `training_s` of their estimates counts once. With options["try_out"]
    False the scheduler is asked nothing, which for one of the user's own is code: estimate_s is None.
    """
    if is_gym(data):
        from ddrl_sched.run import cartpole_job  # lazy: gymnasium comes with it

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
    torch.set_num_threads(1)
    if is_gym(data):
        from ddrl_sched.run import cartpole_job  # lazy: gymnasium comes with it

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
    return job.asked.learns and job.asked.weights_of is None and not options.get("resume")


def _claim_training(job: Job, options: Mapping[str, Any]) -> AbstractContextManager[bool]:
    """Of jobs with the same training one at a time looks for a finished one and, if there is none, trains."""
    name = [job.asked.label, records.code_version(), _training_of(job.asked.settings.model_dump())]
    file = f".training-{records.canonical_hash(name)[:16]}"  # stays, like the claim of a folder
    return claim(job.asked.folder.parent, wait=options.get("wait", True), file=file)


@dataclass(frozen=True)
class Task:
    """What fills a run folder."""

    folder: Path
    state: Callable[[], str]  # of the folder, see state_of
    about: Callable[[], dict[str, Any]]  # what job.json says while it runs
    work: Callable[["Clock"], None]


def carry_out(task: Task, options: Mapping[str, Any]) -> str:
    """Do a task unless it is done, and record how it went; returns and raises what `run_job` does."""
    if task.state() == "done" and not (task.folder / checkpoint.FOLDER).exists():
        return "skipped"
    with claim(task.folder, wait=options.get("wait", True)) as mine:
        return _run_claimed(task, options) if mine else "claimed"


def _run_claimed(task: Task, options: Mapping[str, Any]) -> str:
    folder, state = task.folder, task.state()  # it may have changed before the job was ours
    if state == "done":
        checkpoint.discard(folder)
        return "skipped"
    about = task.about()
    if state == "failed" and not (options.get("retry_failed") or options.get("resume")):
        print(f"{about['scheduler']}: failed before ({folder}); --retry-failed runs it again", file=sys.stderr)
        return "failed"
    records.remove_leftovers(folder)
    if state == "failed" and options.get("retry_failed"):
        checkpoint.discard(folder)
    clock = Clock()
    records.write_job(folder, about)
    try:
        task.work(clock)
        check_written(folder, about["scheduler"])
    except OSError:  # the disk is full, ...: the job is not to blame and can go on
        raise
    except Exception as error:
        records.write_job(folder, {**about, **clock.state_dict(), **records.failure(error)})
        raise
    records.write_job(folder, {**about, **clock.state_dict(), "status": "done", "numerics": records.numerics()})
    records.write_manifest(folder)
    checkpoint.discard(folder)
    return "done"


class Clock:
    """Time spent on a job, by all processes that worked on it one after the other (up to their last checkpoint)."""

    def __init__(self) -> None:
        self._began, self._began_cpu = time.monotonic(), time.process_time()

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"duration_s": time.monotonic() - self._began, "cpu_s": time.process_time() - self._began_cpu}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count these seconds too."""
        self._began -= state["duration_s"]
        self._began_cpu -= state["cpu_s"]


def prepare(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> Job:
    """Validate a composed config (plain data) and build its job. Raises InputError naming keys."""
    return build(ask(data, command, options), options)


def build(asked: Asked, options: Mapping[str, Any]) -> Job:
    """The world and the scheduler of a job. Raises InputError naming keys where they do not fit."""
    settings = asked.settings
    problem = build_problem(settings.env, settings.workload, settings.evaluate.seed)
    problem.check_traces(settings.evaluate.traces)
    _check_replay(settings, problem)
    scheduler: Scheduler
    if asked.learns:
        _check_episodes(settings, problem)
        try:
            scheduler = learner = _learner(settings, problem)
            if asked.weights_of is not None:
                _load_weights(asked.weights_of, learner)
        except InputError as error:
            raise error if asked.weights_of is None else InputError(f"{error} ({_size(asked, problem)})") from None
        if asked.weights_of is None:
            budgets.check_budget(learner, _trained_on(settings, problem), settings.train)
    else:
        keys = {key: value for key, value in settings.scheduler.items() if key != "name"}
        scheduler = build_scheduler(str(settings.scheduler.get("name")), keys)
        if options.get("try_out", True):
            _try_out(settings, problem, scheduler)
    job = Job(asked, problem, scheduler, options.get("watch"))
    if asked.command != "train":
        per_seed = settings.evaluate.traces * (1 if settings.evaluate.replay_rule is None else 2)
        budgets.check_rows({"seeds, evaluate.policy_seeds, evaluate.traces": _n_seeds(job) * per_seed})
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
    if (rule in SINGLE_RULES) != (problem.scenario.rule in SINGLE_RULES):
        raise InputError(f"evaluate.replay_rule: {rule} and {problem.scenario.rule} (env.rule) share no kind of task")


def _check_episodes(settings: JobSettings, problem: Problem) -> None:
    budget, scenario = settings.train, problem.scenario
    tasks = max(budget.episode_slots * scenario.slot_s * problem.plan.demand.tasks_per_s, budget.episode_tasks)
    cells = tasks * settings.seeds * scenario.n_servers
    if cells > MAX_EPISODE_CELLS:
        text = f"an episode holds {tasks:.4g} tasks for each of {settings.seeds} seeds on {scenario.n_servers} servers"
        raise InputError(f"train.episode_slots, train.episode_tasks: {text}, too many to be held at once")


def _about(job: Job) -> dict[str, Any]:
    settings = job.asked.settings
    return {
        **stamp(),
        "job_id": job.asked.job_id,
        "experiment": settings.name,
        "settings": settings.model_dump(),
        "overrides": job.asked.overrides,
        "seeds": list(range(_n_seeds(job))),
        "scenario_hash": job.problem.scenario_hash,
        "scheduler": job.asked.label,
        "learned": job.asked.learns,
        "baselines": settings.baselines,
    }


def stamp() -> dict[str, Any]:
    """What job.json says of any job that begins now."""
    return {
        "schema_version": records.SCHEMA_VERSION,
        "status": "running",
        "code_version": records.code_version(),
        "packages": records.package_versions(),
        "numerics": records.numerics(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": None,
        "cpu_s": None,
        "error": None,
    }


def _n_seeds(job: Job) -> int:
    if job.asked.learns or job.problem.nested:
        return job.asked.settings.seeds
    return job.asked.settings.evaluate.policy_seeds if getattr(job.scheduler, "draws", False) else 1


def _learner(settings: JobSettings, problem: Problem) -> Learner | PricePolicy:
    prices = settings.scheduler["name"] == "price_policy"
    learned = None if prices else learned_settings(settings.scheduler)
    per_seed = problem.scenario.n_servers if learned is not None and learned.sharing == "per_station" else 1
    generators = [stream(settings.seed, "learner", seed, k) for seed in range(settings.seeds) for k in range(per_seed)]
    if learned is None:
        return PricePolicy(price_settings(settings.scheduler), problem.scenario, settings.seeds, generators)
    return Learner(learned, problem.scenario, settings.seeds, generators)


def _work(job: Job, clock: Clock, turn: ExitStack) -> None:
    """Train or take over a training, then evaluate. `turn` holds the claim of the training, until it is found done."""
    settings, problem = job.asked.settings, job.problem
    scheduler = job.scheduler
    if isinstance(scheduler, Learner | PricePolicy) and job.asked.weights_of is None:
        trained = _trained_before(job)
        if trained is None:
            _train(job, scheduler, clock)
        else:
            turn.close()
            _load_weights(trained, scheduler)
            _copy_training(trained, job.asked.folder)
    if job.asked.command == "train":
        return
    evaluation = settings.evaluate
    beside = {"replay_rule": evaluation.replay_rule, "drawn_as": job.asked.drawn_as}
    rows = evaluate(problem, scheduler, job.asked.label, _n_seeds(job), evaluation.traces, **beside)
    check_rows(rows, settings.env)
    records.write_table(job.asked.folder / "eval.parquet", pd.DataFrame(rows), records.EVAL_SCHEMA)


def _trained_before(job: Job) -> Path | None:
    """A finished job of the experiment, by the same code, whose training was the same; only its evaluation differs."""
    wanted = _training_of(job.asked.settings.model_dump())
    for folder in sorted(job.asked.folder.parent.glob("*")):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        same = other["scheduler"] == job.asked.label and other["code_version"] == records.code_version()
        same = same and other["packages"] == records.package_versions() and folder != job.asked.folder
        same = same and (folder / WEIGHTS).exists()
        if same and _training_of(other["settings"]) == wanted and records.is_done(folder):
            return folder
    return None


def _training_of(settings: Mapping[str, Any]) -> str:
    """Hash of what a training depends on: with train.loads not on workload.load."""
    parts = {key: settings[key] for key in ("seed", "seeds", "env", "scheduler", "train", "workload")}
    if settings["train"]["loads"]:
        parts["workload"] = {key: value for key, value in settings["workload"].items() if key != "load"}
    return records.canonical_hash([*parts.values(), settings["evaluate"]["seed"]])


def _copy_training(source: Path, folder: Path) -> None:
    """The files of a training, checked, from one job's folder to another's: every folder is whole by itself."""
    manifest = records.read_manifest(source)
    for name in ("curves.parquet", WEIGHTS):
        records.write_bytes(folder / name, records.read_verified(source, name, manifest, records.MAX_FILE_BYTES))
    records.write_bytes(folder / "run.log", f"the training of {source.name}\n".encode())


def _train(job: Job, learner: Learner | PricePolicy, clock: Clock) -> None:
    """Train, from the last checkpoint if there is one, then write curves, weights and the log."""
    settings, budget = job.asked.settings, job.asked.settings.train
    problems = _trained_on(settings, job.problem)
    seeds = range(settings.seeds)

    def fresh(problem: Problem, episode: int) -> Traces:
        return problem.training(settings.seed, seeds, episode, budget.episode_slots, budget.episode_tasks)[0]

    def traces_of(episode: int) -> Traces:
        return fresh(problems[episode % len(problems)], episode)

    def every_load(episode: int) -> list[Traces]:
        return [fresh(problem, episode) for problem in problems]

    looks = _validation(settings, problems, learner.n_learners) if budget.validate_every else None
    budgets.check_looks(looks)
    training: Training | Evolution
    if isinstance(learner, PricePolicy):
        training = Evolution(learner, budget.episodes, every_load, looks)
    else:
        training = Training(learner, job.problem.scenario, budget.episodes, traces_of, looks)
    curve, before = Curve(), learner.weights()
    parts: dict[str, checkpoint.Stateful] = {"training": training, "curve": curve, "clock": clock}
    for progress in show(resumed(job.asked, training, parts), budget.episodes, job.asked.label):
        curve.add(progress)
        budgets.check_delays(progress)
        if job.watch is not None:
            job.watch(progress)
    budgets.check_learned(learner, curve.tasks_seen, before, budget)
    records.write_table(job.asked.folder / "curves.parquet", curve.frame(), records.CURVES_SCHEMA)
    records.write_bytes(job.asked.folder / WEIGHTS, save_tensors(learner.weights()))
    records.write_bytes(job.asked.folder / "run.log", ("\n".join(curve.log) + "\n").encode())


def _validation(settings: JobSettings, problems: list[Problem], n_learners: int) -> Validation:
    """Looks at one trace per seed and load, as long as an episode and drawn apart from all that are trained on.

    Of a real trace it is another random window of the part for training, which others may overlap.
    """
    budget, seeds = settings.train, range(settings.seeds)
    size = budget.episode_slots, budget.episode_tasks

    def traces() -> Iterator[Traces]:
        return (each.training(settings.seed, seeds, AFTER_ALL_EPISODES, *size)[0] for each in problems)

    def generators() -> list[np.random.Generator]:
        return [stream(settings.seed, "validation", k) for k in range(n_learners)]

    return Validation(budget.validate_every, traces, generators)


class Resumable(Protocol):
    """What a job must tell so that its training can be taken up again."""

    @property
    def folder(self) -> Path: ...
    @property
    def job_id(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def checkpoint_s(self) -> float | None: ...


def resumed(job: Resumable, training: Iterable[T | None], parts: Mapping[str, checkpoint.Stateful]) -> Iterator[T]:
    """What `training` yields, from the last checkpoint of the job on, saved with all `parts` as time passes."""
    about = {"job_id": job.job_id, "packages": records.package_versions(), "numerics": records.numerics()}

    def save() -> None:
        checkpoint.save(job.folder, about, parts)
        if stopping.asked():
            print(f"{job.label}: state saved; the same command goes on from here ({job.folder})", file=sys.stderr)

    try:
        checkpoint.load(job.folder, about, parts)
    except ValueError as error:
        print(f"{job.label}: trained from the start, for {error}", file=sys.stderr)
    assert job.checkpoint_s is not None
    yield from checkpoint.resumable(training, save, job.checkpoint_s)


def _trained_on(settings: JobSettings, problem: Problem) -> list[Problem]:
    """The job's problem at each of train.loads."""
    return [_at_load(problem, load) for load in settings.train.loads] or [problem]


def _at_load(problem: Problem, load: float) -> Problem:
    return build_problem(problem.env, problem.workload.model_copy(update={"load": load}), problem.eval_seed)


def _size(asked: Asked, problem: Problem) -> str:
    """What a reader should know of a world in which trained weights are refused."""
    here = f"env {asked.settings.env.name} has {problem.scenario.n_servers} servers"
    return f"{here}; most learned schedulers need as many as {asked.weights_of} was trained with"


def _load_weights(source: Path, learner: Trained) -> None:
    """Weights of a run folder, checked against its manifest and the learner's shapes. Raises InputError."""
    try:
        manifest = records.read_manifest(source)
        tensors = load_tensors(records.read_verified(source, WEIGHTS, manifest, records.MAX_FILE_BYTES))
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not tensor.isfinite().all():
                raise ValueError(f"{WEIGHTS}: {shown(name)} must hold finite numbers of 32 bits")
        learner.load_weights(tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"--run {source}: {clean(error)}") from None


def _estimate(job: Job) -> dict[str, Any]:
    """Seconds on one core: as finished jobs of the scheduler in this experiment took, else estimated."""
    done = []
    for folder in job.asked.folder.parent.glob("*"):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        if other["scheduler"] == job.asked.label and other["duration_s"] is not None and other["status"] == "done":
            done.append(float(other["duration_s"]))
    if done:
        return {"estimate_s": sum(done) / len(done), "training_s": 0.0, "training": None}
    trains = job.asked.learns and job.asked.weights_of is None
    trained_on = _trained_on(job.asked.settings, job.problem) if trains else []
    try:
        training_s, rest_s = estimate_s(job.problem, job.scheduler, job.asked.settings, _n_seeds(job), trained_on)
    except TrainingError:  # it diverges while it is tried; the job itself will tell where
        return NOT_ESTIMATED
    training = f"{job.asked.label} {_training_of(job.asked.settings.model_dump())}" if trains else None
    return {"estimate_s": training_s + rest_s, "training_s": training_s, "training": training}
