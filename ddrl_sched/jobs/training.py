"""The training of a job: its learner, trained from the last checkpoint on or taken over from another job.

Only jobs that learn import it, for torch comes with it.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ddrl_sched import fingerprint, stopping
from ddrl_sched.config import InputError, Settings, clean, shown
from ddrl_sched.display import note
from ddrl_sched.edge.session import Traces
from ddrl_sched.jobs import budget as budgets
from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.jobs.curve import Curve
from ddrl_sched.jobs.earlier_run import WEIGHTS
from ddrl_sched.jobs.lifecycle import Clock
from ddrl_sched.jobs.request import JobSpec
from ddrl_sched.jobs.schemas import CURVES_SCHEMA, JobRecord
from ddrl_sched.run.evolve import Evolution
from ddrl_sched.run.inputs import Inputs, training_hash
from ddrl_sched.run.problem import Problem
from ddrl_sched.run.progress import show
from ddrl_sched.run.settings import JobSettings
from ddrl_sched.run.train import Progress, Training
from ddrl_sched.run.validation import Validation
from ddrl_sched.schedulers.base import Scheduler, Trained
from ddrl_sched.schedulers.learned import Learner
from ddrl_sched.schedulers.learned_settings import learned_settings
from ddrl_sched.schedulers.price_policy import PricePolicy
from ddrl_sched.schedulers.price_settings import price_settings
from ddrl_sched.seeding import stream

T = TypeVar("T")
Watch = Callable[[Progress], None]
AFTER_ALL_EPISODES = 10**6  # train.episodes is at most that: the number of an episode that is never trained on
MAX_EPISODE_CELLS = 400_000_000  # seeds x tasks x servers of an episode


def build_learner(spec: JobSpec[JobSettings], problem: Problem) -> Learner | PricePolicy:
    """The learner of a job, with the weights of `spec.weights_of` if given. Raises InputError naming keys."""
    settings = spec.settings
    _check_episodes(settings, problem)
    torch.set_num_threads(1)
    try:
        learner = _learner(settings, problem)
        if spec.weights is not None:
            _load_weights(spec.weights.folder, learner, spec.weights.sha256)
    except InputError as error:
        raise error if spec.weights is None else InputError(f"{error} ({_size(spec, problem)})") from None
    if spec.weights is None:
        budgets.check_budget(learner, trained_on(settings, problem), settings.train)
    return learner


def learn(
    spec: JobSpec[JobSettings],
    problem: Problem,
    learner: Scheduler,
    clock: Clock,
    *,
    turn: ExitStack | None,
    watch: Watch | None,
) -> None:
    """Train, or take over a training, into the job's folder.

    `turn` holds the lock of the training, until it is found done. `watch` is told of every episode; it may end the job
    by an exception.
    """
    assert isinstance(learner, Learner | PricePolicy)
    trained = _trained_before(spec, problem)
    if trained is None:
        _train(spec, problem, learner, clock, watch)
    else:
        if turn is not None:
            turn.close()
        _load_weights(trained, learner)
        _copy_training(trained, spec.folder)


def _check_episodes(settings: JobSettings, problem: Problem) -> None:
    budget, scenario = settings.train, problem.scenario
    tasks = max(budget.episode_slots * scenario.slot_s * problem.plan.demand.tasks_per_s, budget.episode_tasks)
    cells = tasks * settings.seeds * (scenario.n_servers + 20)  # shares, and what else is known of a task
    if cells > MAX_EPISODE_CELLS:
        text = f"an episode holds {tasks:.4g} tasks for each of {settings.seeds} seeds on {scenario.n_servers} servers"
        raise InputError(f"train.episode_slots, train.episode_tasks: {text}, too many to be held at once")


def _learner(settings: JobSettings, problem: Problem) -> Learner | PricePolicy:
    prices = settings.scheduler["name"] == "price_policy"
    learned = None if prices else learned_settings(settings.scheduler)
    per_seed = problem.scenario.n_stations if learned is not None and learned.sharing == "per_station" else 1
    generators = [stream(settings.seed, "learner", seed, k) for seed in range(settings.seeds) for k in range(per_seed)]
    if learned is None:
        return PricePolicy(price_settings(settings.scheduler), problem.scenario, settings.seeds, generators)
    return Learner(learned, problem.scenario, settings.seeds, generators)


def _trained_before(spec: JobSpec[JobSettings], problem: Problem) -> Path | None:
    """A finished job of the experiment, by the same code, whose training was the same; only its evaluation differs."""
    wanted = training_hash(spec.settings.model_dump(), problem.inputs)
    for folder in sorted(spec.folder.parent.glob("*")):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        same = other["scheduler"] == spec.label and other["code_version"] == fingerprint.code_version()
        same = same and other["packages"] == fingerprint.package_versions() and folder != spec.folder
        same = same and (folder / WEIGHTS).exists()
        if same and _trained_alike(other, wanted, problem.inputs) and records.is_done(folder):
            return folder
    return None


def _trained_alike(other: JobRecord, wanted: str, inputs: Inputs) -> bool:
    """Whether a job.json is of the training `wanted`, and its input files had the content that they have now."""
    try:
        return other["input_sha256"] == inputs and training_hash(other["settings"], inputs) == wanted
    except ValueError:  # a stranger's settings
        return False


def _copy_training(source: Path, folder: Path) -> None:
    """The files of a training, checked, from one job's folder to another's: every folder is whole by itself."""
    manifest = records.read_manifest(source)
    for name in ("curves.parquet", WEIGHTS):
        records.write_bytes(folder / name, records.read_verified(source, name, manifest, records.MAX_FILE_BYTES))
    records.write_bytes(folder / "run.log", f"the training of {source.name}\n".encode())


def _train(
    spec: JobSpec[JobSettings], problem: Problem, learner: Learner | PricePolicy, clock: Clock, watch: Watch | None
) -> None:
    """Train, from the last checkpoint if there is one, then write curves, weights and the log."""
    settings, budget = spec.settings, spec.settings.train
    problems = trained_on(settings, problem)
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
        training = Training(learner, problem.scenario, budget.episodes, traces_of, looks)
    curve, before = Curve(), learner.weights()
    parts: dict[str, checkpoint.Stateful] = {"training": training, "curve": curve, "clock": clock}
    for progress in show(resumed(spec, training, parts), budget.episodes, spec.label):
        curve.add(progress)
        budgets.check_delays(progress)
        if watch is not None:
            watch(progress)
    budgets.check_learned(learner, curve.tasks_seen, before, budget)
    records.write_table(spec.folder / "curves.parquet", curve.frame(), CURVES_SCHEMA)
    records.write_bytes(spec.folder / WEIGHTS, save_tensors(learner.weights()))
    records.write_bytes(spec.folder / "run.log", ("\n".join(curve.log) + "\n").encode())


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


def resumed(
    spec: JobSpec[Settings], training: Iterable[T | None], parts: Mapping[str, checkpoint.Stateful]
) -> Iterator[T]:
    """What `training` yields, from the last checkpoint of the job on, saved with all `parts` as time passes."""
    about = {"job_id": spec.job_id, "packages": fingerprint.package_versions(), "numerics": fingerprint.numerics()}

    def save() -> None:
        checkpoint.save(spec.folder, about, parts)
        if stopping.asked():
            print(f"{spec.label}: state saved; the same command goes on from here ({spec.folder})", file=sys.stderr)

    try:
        checkpoint.load(spec.folder, about, parts)
    except ValueError as error:
        note(f"{spec.label}: trained from the start, for {error}")
    assert spec.checkpoint_s is not None
    yield from checkpoint.resumable(training, save, spec.checkpoint_s)


def trained_on(settings: JobSettings, problem: Problem) -> list[Problem]:
    """The job's problem at each of train.loads."""
    return [problem.at_load(load) for load in settings.train.loads] or [problem]


def _size(spec: JobSpec[JobSettings], problem: Problem) -> str:
    """What a reader should know of a world in which trained weights are refused."""
    assert spec.weights is not None
    here = f"env {spec.settings.env.name} has {problem.scenario.n_servers} servers"
    return f"{here}; most learned schedulers need as many as {spec.weights.folder} was trained with"


def _load_weights(source: Path, learner: Trained, sha256: str | None = None) -> None:
    """Weights of a run folder, checked against its manifest, `sha256` and the learner's shapes. Raises InputError."""
    try:
        manifest = records.read_manifest(source)
        if sha256 is not None and manifest.get(WEIGHTS) != sha256:
            raise ValueError(f"{WEIGHTS} changed while the job used it; give the command again")
        tensors = load_tensors(records.read_verified(source, WEIGHTS, manifest, records.MAX_FILE_BYTES))
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not tensor.isfinite().all():
                raise ValueError(f"{WEIGHTS}: {shown(name)} must hold finite numbers of 32 bits")
        learner.load_weights(tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"--run {source}: {clean(error)}") from None
