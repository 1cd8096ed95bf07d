"""One job: validated settings in, a run folder out. `train` learns, `eval` evaluates, `sweep` does both."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pandas as pd
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ddrl_sched import stopping
from ddrl_sched.config import (
    SINGLE_RULES,
    EnvSettings,
    InputError,
    Settings,
    WorkloadSettings,
    clean,
    near,
    shown,
    validate,
)
from ddrl_sched.edge import published
from ddrl_sched.edge.input_file import PACKAGE
from ddrl_sched.run import checkpoint, records
from ddrl_sched.run.claim import claim, is_claimed
from ddrl_sched.run.curve import Curve
from ddrl_sched.run.evaluate import evaluate
from ddrl_sched.run.evolve import Evolution
from ddrl_sched.run.problem import Problem, build_problem
from ddrl_sched.run.progress import show
from ddrl_sched.run.rollout import Traces, check_decision
from ddrl_sched.run.seeding import stream
from ddrl_sched.run.train import Progress, Training
from ddrl_sched.schedulers.base import Scheduler, Trained
from ddrl_sched.schedulers.learned import LearnedSettings, Learner, learned_settings
from ddrl_sched.schedulers.price_policy import PricePolicy, PriceSettings, evolution_settings, price_settings
from ddrl_sched.schedulers.table import build

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=80)]
Loads = Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(max_length=1000)]
OWN_RULES = {"rand_coedge": "randcoedge", "optimal": "optimal"}  # of schedulers without learning, by yaml name
COMMON_RULE = "amcoedge"
LEARNED = ("learned", "price_policy")  # `name:` of the schedulers that learn
T = TypeVar("T")
WEIGHTS = "weights.safetensors"
MAX_EPISODE_CELLS = 400_000_000  # seeds x tasks x servers of an episode


class TrainSettings(Settings):
    """The budget of training."""

    name: Name
    episodes: Annotated[int, Field(ge=1, le=10**6)]
    episode_slots: Annotated[int, Field(ge=1, le=10**6)]
    episode_tasks: Annotated[int, Field(ge=0, le=10**7)]  # expected; an episode is lengthened to hold as many
    loads: Loads  # one after the other, episode by episode; empty: workload.load


class SavingSettings(Settings):
    """Keys of `train` that leave the result as it is; they are no part of a job's settings."""

    checkpoint_s: Annotated[float, Field(ge=0, le=86_400)]  # between two saves of the training's state


class EvaluateSettings(Settings):
    """The held-out traces."""

    seed: Annotated[int, Field(ge=0)]  # root of their streams, apart from training
    traces: Annotated[int, Field(ge=1, le=10_000)]  # published worlds: per draw
    policy_seeds: Annotated[int, Field(ge=1, le=1000)]  # repetitions of schedulers that draw random numbers
    replay_rule: str | None  # place the decisions again under this published rule


class JobSettings(Settings):
    """Everything that decides a job's result."""

    name: Name
    seed: Annotated[int, Field(ge=0)]
    seeds: Annotated[int, Field(ge=1, le=1000)]
    env: EnvSettings
    workload: WorkloadSettings
    scheduler: dict[str, Any]
    train: TrainSettings
    evaluate: EvaluateSettings
    baselines: Annotated[list[Annotated[str, Field(max_length=records.MAX_NAME)]], Field(max_length=100)]


@dataclass(frozen=True)
class Job:
    """A checked job."""

    settings: JobSettings
    problem: Problem
    learned: LearnedSettings | PriceSettings | None
    scheduler: Scheduler | None  # None where it learns
    label: str
    folder: Path
    job_id: str
    command: str
    overrides: list[str]
    weights_of: Path | None  # run folder of the weights to evaluate
    checkpoint_s: float | None  # where it trains
    watch: Callable[[Progress], None] | None  # told of every episode of training; may end the job by an exception


def is_gym(data: Mapping[str, Any]) -> bool:
    """Whether the environment is one of gymnasium's (run/cartpole_job.py) and no world of edge servers."""
    return isinstance(data.get("env"), Mapping) and data["env"].get("kind") == "gym"


def plan_job(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check a job without running it: id, state, estimate_s, label, ...

    The state is "done", "failed", "running" (by a living process), "interrupted" or "to do".
    """
    if is_gym(data):
        from ddrl_sched.run import cartpole_job  # lazy: gymnasium comes with it

        return cartpole_job.plan_job(data, command)
    job = prepare(data, command, options)
    state = _state(job, options)
    return {
        "job_id": job.job_id,
        "state": "running" if state != "done" and is_claimed(job.folder) else state,
        "estimate_s": _estimate_s(job),
        "label": job.label,
        "scenario": job.problem.env.name,
        "load": round(job.problem.plan.demand.load, 4),
    }


def run_job(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> str:
    """Run a job unless it is done. Returns "done", "skipped", "failed" or "claimed"; raises InputError, RecordsError.

    A job that was interrupted goes on from its last checkpoint. One that another process works on is waited for, or
    with options["wait"] False passed over ("claimed").
    """
    torch.set_num_threads(1)
    if is_gym(data):
        from ddrl_sched.run import cartpole_job  # lazy: gymnasium comes with it

        return cartpole_job.run_job(data, command, options)
    job = prepare(data, command, options)
    task = Task(job.folder, lambda: _state(job, options), lambda: _about(job), lambda clock: _work(job, clock))
    return carry_out(task, options)


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
    except records.RecordsError:
        raise
    except Exception as error:
        failure = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        records.write_job(folder, {**about, **clock.state_dict(), **failure})
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
    """Validate a composed config (plain data). Raises InputError naming keys."""
    plain = {key: value for key, value in data.items() if key not in ("label", "overrides", "runs_dir", "experiment")}
    label, overrides = str(data["label"]), [str(word) for word in data["overrides"]]
    source = Path(options["run"]) if options.get("run") else None
    begun = Path(options["resume"]) if options.get("resume") else None
    saving = _take_saving_settings(plain)
    manifest: Mapping[str, str] = {}
    if source is not None:
        label, plain, manifest = _settings_of_run(source, plain, overrides)
    if begun is not None:
        label, plain, overrides = _settings_of_begun(begun, overrides)
    if len(label) > records.MAX_NAME:
        raise InputError(f"scheduler: its name in tables must be at most {records.MAX_NAME} characters, got {label}")
    plain = _with_own_rule(plain, label)
    settings = _validated(plain)
    learned, scheduler = _scheduler(settings, command, source)
    problem = build_problem(settings.env, settings.workload, settings.evaluate.seed)
    problem.check_traces(settings.evaluate.traces)
    _check_replay(settings, problem)
    if scheduler is not None:
        check_decision(problem.training(settings.seed, range(1), 0, 0, 4)[0], scheduler)
    if learned is not None:
        _check_episodes(settings, problem)
        learner = _learner(settings, problem, learned)  # shapes, action tables and numbers must fit the world
        if source is not None:
            _load_weights(source, manifest, learner)
    identity = {
        "settings": _identity(settings, learned is not None),
        "label": label,
        "weights": manifest.get(WEIGHTS),
    }
    if begun is not None:
        command, job_id = _command_of_begun(begun, identity, problem)
        folder = begun
    else:
        job_id = _job_id(identity, command, problem)
        folder = Path(data["runs_dir"]) / settings.name / job_id
    _refuse_links(folder, begun or Path(data["runs_dir"]))
    checkpoint_s = validate(SavingSettings, saving, "train").checkpoint_s if learned is not None else None
    watch = options.get("watch")
    return Job(
        settings, problem, learned, scheduler, label, folder, job_id, command, overrides, source, checkpoint_s, watch
    )


def _refuse_links(folder: Path, root: Path) -> None:
    """InputError if a link between `root` and what is written in the job's folder leads elsewhere."""
    deepest = folder / checkpoint.FOLDER
    if deepest.resolve() != root.resolve() / deepest.relative_to(root):
        raise InputError(f"{folder}: a symbolic link leads elsewhere; nothing is written through it")


def _job_id(identity: Mapping[str, Any], command: str, problem: Problem) -> str:
    what = "train" if command == "train" else "evaluate"
    return records.job_id(
        {**identity, "what": what}, problem.content_sha256, records.SCHEMA_VERSION, records.code_version()
    )


def _take_saving_settings(plain: dict[str, Any]) -> dict[str, Any]:
    """The keys of SavingSettings, taken out of the composed group `train`."""
    train = plain.get("train")
    if not isinstance(train, Mapping):
        return {}
    plain["train"] = {key: value for key, value in train.items() if key not in SavingSettings.model_fields}
    return {key: value for key, value in train.items() if key in SavingSettings.model_fields}


def _validated(plain: Mapping[str, Any]) -> JobSettings:
    """The settings; keys are named as they stand in the yaml, without a prefix."""
    try:
        return validate(JobSettings, plain, "")
    except InputError as error:
        raise InputError("\n".join(line.removeprefix(".") for line in str(error).splitlines())) from None


def _with_own_rule(plain: dict[str, Any], label: str) -> dict[str, Any]:
    """env.rule own = the published rule set in which the scheduler was introduced."""
    env, scheduler = plain.get("env"), plain.get("scheduler")
    if not isinstance(env, Mapping) or not isinstance(scheduler, Mapping) or env.get("rule") != "own":
        return plain
    own = scheduler.get("published_rule") or OWN_RULES.get(label.partition("(")[0], COMMON_RULE)
    return {**plain, "env": {**env, "rule": own}}


def _scheduler(
    settings: JobSettings, command: str, source: Path | None
) -> tuple[LearnedSettings | PriceSettings | None, Scheduler | None]:
    name = settings.scheduler.get("name")
    if name in LEARNED:
        if command == "eval" and source is None:
            raise InputError(
                "ddrl eval: a learned scheduler needs its weights: --run DIR (ddrl sweep trains and evaluates)"
            )
        learned = learned_settings if name == "learned" else price_settings
        return learned(settings.scheduler), None
    if command == "train":
        raise InputError(f"ddrl train: scheduler {shown(name)} does not learn; ddrl eval evaluates it")
    if source is not None:
        raise InputError(f"--run {source}: its scheduler {shown(name)} does not learn, so there are no weights")
    keys = {key: value for key, value in settings.scheduler.items() if key != "name"}
    return None, build(str(name), keys)


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


def _identity(settings: JobSettings, learned: bool) -> dict[str, Any]:
    """What the result depends on: without learning, neither training nor its seeds."""
    plain = settings.model_dump()
    for key in ("name", "baselines"):
        plain.pop(key)
    if not learned:
        plain.pop("train")
    return plain


def _settings_of_run(
    source: Path, composed: dict[str, Any], overrides: list[str]
) -> tuple[str, dict[str, Any], Mapping[str, str]]:
    """(label, settings, manifest) of a finished run folder, which is only data.

    The settings are changed by what was given on the command line.
    """
    try:
        job, manifest = records.read_finished(source)
    except (OSError, ValueError) as error:
        raise InputError(f"--run {source}: {clean(error)}") from None
    plain = dict(job["settings"])
    given: set[str] = set()
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0].partition("@")[0]
        top = key.partition(".")[0].partition("/")[0]
        if top in ("runs_dir", "launcher", "hydra"):
            continue
        if top in ("scheduler", "train", "agent", "seeds", "seed", "experiment"):
            raise InputError(
                f"{key}: belongs to the training; with --run only env, workload, evaluate, name can change"
            )
        plain[top] = _merged(plain.get(top), composed.get(top), key.split(".")[1:])
        given.add(key)
    _refuse_files(source, plain, given)
    return clean(job["scheduler"]), plain, manifest


def _refuse_files(source: Path, plain: Mapping[str, Any], given: set[str]) -> None:
    """InputError if the folder, not the user, names a file outside the package: a stranger may name any."""
    for key in ("workload.path", "env.network.file"):
        value: Any = plain
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        theirs = not given.intersection({key, *(key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1))})
        if isinstance(value, str) and not value.startswith(PACKAGE) and theirs:
            raise InputError(f"{key}: --run {source} names the file {shown(value)}; to read it, give +{key}=FILE")


def _settings_of_begun(folder: Path, overrides: list[str]) -> tuple[str, dict[str, Any], list[str]]:
    """(label, settings, overrides) with which the job in `folder` was begun. The folder is only data."""
    own = ("train.checkpoint_s", "launcher", "hydra")  # what concerns this process alone
    foreign = [word for word in overrides if not word.lstrip("+~").startswith(own)]
    if foreign:
        raise InputError(
            f"{foreign[0]}: with --resume only train.checkpoint_s can be given; the rest stands in {folder}"
        )
    try:
        job = records.read_job(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"--resume {folder}: {clean(error)}") from None
    return clean(job["scheduler"]), dict(job["settings"]), list(job["overrides"])


def _command_of_begun(folder: Path, identity: Mapping[str, Any], problem: Problem) -> tuple[str, str]:
    """(command, job id) of the job that was begun in `folder`; InputError if it cannot go on there."""
    begun = records.read_job(folder)["job_id"]
    for command in ("train", "sweep"):
        if _job_id(identity, command, problem) == begun:
            return command, begun
    raise InputError(f"--resume {folder}: begun with other code or input files, so it cannot go on bit for bit")


def _merged(old: Any, new: Any, path: list[str]) -> Any:
    """`old` with the value at `path` taken from `new` (all of it where the path is empty)."""
    if not path or not isinstance(old, Mapping) or not isinstance(new, Mapping) or path[0] not in new:
        return new
    return {**old, path[0]: _merged(old.get(path[0]), new[path[0]], path[1:])}


def _state(job: Job, options: Mapping[str, Any]) -> str:
    state = state_of(job.folder, job.job_id)
    return "done" if state != "done" and options.get("accept_code") and _done_by_other_code(job) else state


def state_of(folder: Path, job_id: str) -> str:
    """Of the job in a run folder: "done", "failed", "interrupted", or "to do" where there is none."""
    try:
        job = records.read_job(folder)
    except (OSError, ValueError):
        return "to do"
    if job["job_id"] == job_id and records.is_done(folder):
        return "done"
    return "failed" if job["status"] == "failed" else "interrupted"


def _done_by_other_code(job: Job) -> bool:
    """Whether a finished folder of another code version holds the same settings; says so."""
    wanted = records.canonical_hash(_comparable(job.settings.model_dump()))
    for folder in sorted(job.folder.parent.glob("*")):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        same = records.canonical_hash(_comparable(other["settings"])) == wanted and other["scheduler"] == job.label
        same = same and job.weights_of is None and (folder / "eval.parquet").exists() == (job.command != "train")
        if same and records.is_done(folder):
            said = f"{job.label}: accepted from code {other['code_version'][:12]} ({folder})"
            print(clean(said), file=sys.stderr)
            return True
    return False


def _comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("name", "baselines")}


def _about(job: Job) -> dict[str, Any]:
    settings = job.settings
    return {
        **stamp(),
        "job_id": job.job_id,
        "experiment": settings.name,
        "settings": settings.model_dump(),
        "overrides": job.overrides,
        "seeds": list(range(_n_seeds(job))),
        "scenario_hash": job.problem.scenario_hash,
        "scheduler": job.label,
        "learned": job.learned is not None,
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
    if job.learned is not None or job.problem.nested:
        return job.settings.seeds
    return job.settings.evaluate.policy_seeds if getattr(job.scheduler, "draws", False) else 1


def _learner(
    settings: JobSettings, problem: Problem, learned: LearnedSettings | PriceSettings
) -> Learner | PricePolicy:
    shared = isinstance(learned, PriceSettings) or learned.sharing == "shared"
    per_seed = 1 if shared else problem.scenario.n_servers
    generators = [stream(settings.seed, "learner", seed, k) for seed in range(settings.seeds) for k in range(per_seed)]
    if isinstance(learned, PriceSettings):
        return PricePolicy(learned, problem.scenario, settings.seeds, generators)
    return Learner(learned, problem.scenario, settings.seeds, generators)


def _work(job: Job, clock: Clock) -> None:
    settings, problem = job.settings, job.problem
    scheduler = job.scheduler
    if job.learned is not None:
        learner = _learner(settings, problem, job.learned)
        trained = job.weights_of or _trained_before(job)
        if trained is not None:
            _load_weights(trained, records.read_manifest(trained), learner)
        else:
            _train(job, learner, clock)
        if trained is not None and job.weights_of is None:
            _copy_training(trained, job.folder)
        scheduler = learner
    if job.command == "train":
        return
    assert scheduler is not None
    evaluation = settings.evaluate
    rows = evaluate(problem, scheduler, job.label, _n_seeds(job), evaluation.traces, evaluation.replay_rule)
    records.write_table(job.folder / "eval.parquet", pd.DataFrame(rows), records.EVAL_SCHEMA)


def _trained_before(job: Job) -> Path | None:
    """A finished job of the experiment, by the same code, whose training was the same; only its evaluation differs."""
    wanted = _training_of(job.settings.model_dump())
    for folder in sorted(job.folder.parent.glob("*")):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        same = other["scheduler"] == job.label and other["code_version"] == records.code_version()
        same = same and other["packages"] == records.package_versions() and folder != job.folder
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
    settings, budget = job.settings, job.settings.train
    problems = [_at_load(job.problem, load) for load in budget.loads] or [job.problem]
    seeds = range(settings.seeds)

    def fresh(problem: Problem, episode: int) -> Traces:
        return problem.training(settings.seed, seeds, episode, budget.episode_slots, budget.episode_tasks)[0]

    def traces_of(episode: int) -> Traces:
        return fresh(problems[episode % len(problems)], episode)

    def every_load(episode: int) -> list[Traces]:
        return [fresh(problem, episode) for problem in problems]

    training: Training | Evolution
    if isinstance(learner, PricePolicy):
        training = Evolution(learner, budget.episodes, every_load)
    else:
        training = Training(learner, job.problem.scenario, budget.episodes, traces_of)
    curve = Curve()
    parts: dict[str, checkpoint.Stateful] = {"training": training, "curve": curve, "clock": clock}
    for progress in show(_resumable(job, training, parts), budget.episodes, job.label):
        curve.add(progress)
        if job.watch is not None:
            job.watch(progress)
    records.write_table(job.folder / "curves.parquet", curve.frame(), records.CURVES_SCHEMA)
    records.write_bytes(job.folder / WEIGHTS, save_tensors(learner.weights()))
    records.write_bytes(job.folder / "run.log", ("\n".join(curve.log) + "\n").encode())


def _resumable(job: Job, training: Iterable[T | None], parts: Mapping[str, checkpoint.Stateful]) -> Iterator[T]:
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


def _at_load(problem: Problem, load: float) -> Problem:
    return build_problem(problem.env, problem.workload.model_copy(update={"load": load}), problem.eval_seed)


def _load_weights(source: Path, manifest: Mapping[str, str], learner: Trained) -> None:
    """Weights of a run folder, checked against its manifest and the learner's shapes. Raises InputError."""
    try:
        tensors = load_tensors(records.read_verified(source, WEIGHTS, manifest, records.MAX_FILE_BYTES))
        for name, tensor in tensors.items():
            if tensor.dtype != torch.float32 or not tensor.isfinite().all():
                raise ValueError(f"{WEIGHTS}: {shown(name)} must hold finite numbers of 32 bits")
        learner.load_weights(tensors)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"--run {source}: {clean(error)}") from None


def _estimate_s(job: Job) -> float:
    """Rough seconds on one core: from finished jobs of the scheduler in this experiment, else from the task counts."""
    done = []
    for folder in job.folder.parent.glob("*"):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        if other["scheduler"] == job.label and other["duration_s"] is not None and other["status"] == "done":
            done.append(float(other["duration_s"]))
    if done:
        return sum(done) / len(done)
    settings, demand = job.settings, job.problem.plan.demand
    evaluated = demand.tasks_per_s * job.problem.scenario.horizon_s * settings.evaluate.traces * _n_seeds(job)
    seconds = 3.0 + 2e-5 * evaluated
    if job.learned is None:
        return seconds
    slots = settings.train.episodes * settings.train.episode_slots
    if isinstance(job.learned, PriceSettings):
        per_task = 1e-5 if job.learned.candidates == "any_subset" else 5e-6
        loads = max(1, len(settings.train.loads))
        tried = 2 * evolution_settings(job.learned).pairs * settings.seeds * loads
        return seconds + per_task * tried * slots * job.problem.scenario.slot_s * demand.tasks_per_s
    learning = job.learned.learning
    stack = settings.seeds * (1 if job.learned.sharing == "shared" else job.problem.scenario.n_servers)
    per_update = 0.008 + 1e-6 * stack * learning.batch
    trained = slots * job.problem.scenario.slot_s * demand.tasks_per_s * settings.seeds
    return seconds + slots * learning.updates / learning.every_slots * per_update + 1e-4 * (trained + evaluated)
