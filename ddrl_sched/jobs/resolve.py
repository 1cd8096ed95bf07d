"""What a scheduling job is called and what decides it: told from its settings, without torch or the world.

The scheduler is not built either; a class of the user's own counts by the content of its file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ddrl_sched.config import InputError, Settings, validate
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs import records
from ddrl_sched.jobs.earlier_run import command_of_begun, merged, settings_of_begun, settings_of_run
from ddrl_sched.jobs.request import Command, JobSpec, Request, Weights, World, check_label, job_id
from ddrl_sched.jobs.strict_json import check_plain
from ddrl_sched.labels import GYM_AGENT, LEARNED
from ddrl_sched.provenance import provenance_of, without_claims
from ddrl_sched.run.inputs import by_content, input_files, read_inputs
from ddrl_sched.run.settings import JobSettings, SavingSettings
from ddrl_sched.schedulers.table import own_source

COMMON_RULE = "amcoedge"  # env.rule own, where a scheduler was published under no rule


@dataclass(frozen=True)
class _Stated:
    """The settings of a job, from the command line or from an earlier run folder."""

    plain: Mapping[str, object]
    label: str
    trained_as: str  # label of its training
    overrides: list[str]
    weights: Weights | None = None


def resolve(request: Request) -> JobSpec[JobSettings]:
    """Validate a request and name its job. Raises InputError naming keys."""
    plain, saving = without_saving(request.data)
    stated = _stated(request, _with_stream(plain))
    check_label(stated.label)
    _refuse_gym(stated.plain, stated.label, request.flags.run or request.flags.resume)
    settings = validated(JobSettings, _with_own_rule(_with_whole_paths(stated.plain)))
    check_plain(settings.model_dump(), stated.overrides)
    _check_command(request, settings, stated.label)
    inputs = read_inputs(settings.env, settings.workload)
    drawn_as = _drawn_as(settings.scheduler, stated.trained_as)
    begun = request.flags.resume
    if begun is not None:
        identities = {command: _identity(settings, stated, drawn_as, command) for command in _COMMANDS}
        request = replace(request, command=command_of_begun(begun, identities, inputs))
    identity = _identity(settings, stated, drawn_as, request.command)
    name = job_id(identity, inputs)
    folder = begun or request.runs_dir / settings.name / name
    _refuse_links(folder, begun or request.runs_dir)
    learns = learns_by(settings)
    return JobSpec(
        kind="scheduling",
        request=request,
        settings=settings,
        label=stated.label,
        overrides=stated.overrides,
        job_id=name,
        folder=folder,
        identity=identity,
        inputs=inputs,
        weights=stated.weights,
        drawn_as=drawn_as,
        learns=learns,
        world=_world(settings),
        own_class=":" in str(settings.scheduler.get("name")),
        checkpoint_s=validate(SavingSettings, saving, "train").checkpoint_s if learns else None,
    )


_COMMANDS: tuple[Command, ...] = ("train", "sweep")  # of jobs that can be begun and gone on with


def _world(settings: JobSettings) -> World:
    env, workload = settings.env, settings.workload
    return World(env.name, workload.load, canonical_hash([env.model_dump(), workload.model_dump()]))


def learns_by(settings: JobSettings) -> bool:
    """Whether the scheduler is a learned one."""
    return settings.scheduler.get("name") in LEARNED


def _stated(request: Request, plain: Mapping[str, object]) -> _Stated:
    flags, overrides = request.flags, list(request.overrides)
    if flags.run is not None:
        trained = settings_of_run(flags.run, plain, overrides)
        return _Stated(trained.settings, trained.label, trained.trained_as, trained.overrides, trained.weights)
    if flags.resume is not None:
        begun = settings_of_begun(flags.resume, overrides)
        return _Stated(begun.settings, begun.label, begun.label, begun.overrides)
    return _Stated(plain, request.label, request.label, overrides)


def _identity(settings: JobSettings, stated: _Stated, drawn_as: str, command: Command) -> dict[str, object]:
    """What the result depends on, beside input files and code: without learning, neither training nor its seeds."""
    plain = settings.model_dump(exclude={"name", "baselines"} | (set() if learns_by(settings) else {"train"}))
    identity: dict[str, object] = {
        "settings": by_content(without_claims(plain)),
        "label": stated.label,
        "weights": stated.weights.sha256 if stated.weights else None,
        "what": "train" if command == "train" else "evaluate",
    }
    if stated.trained_as != stated.label:
        identity["drawn_as"] = drawn_as
    if not learns_by(settings) and (file := own_source(str(settings.scheduler.get("name")))):
        identity["source"] = records.file_hash(file)
    return identity


def _refuse_gym(plain: Mapping[str, object], label: str, folder: Path | None) -> None:
    """InputError for a run folder, or a scheduler, of the other kind of jobs (jobs/cartpole.py)."""
    env = plain.get("env")
    if isinstance(env, Mapping) and env.get("kind") == "gym":
        text = (
            "CartPole-v1 is evaluated while it is trained; the command that began a run goes on with it, and no other"
        )
        raise InputError(f"{folder}: {text}")
    scheduler = plain.get("scheduler")
    if isinstance(scheduler, Mapping) and scheduler.get("name") == GYM_AGENT:
        raise InputError(f"scheduler: {label} needs env=cartpole train=cartpole (experiment=cartpole has both)")


def _with_whole_paths(plain: Mapping[str, object]) -> Mapping[str, object]:
    """Input files by their whole path, so that a run folder can be gone on with from anywhere."""
    for key, value in input_files(plain).items():
        whole = os.path.abspath(os.path.expanduser(value))
        top, *path = key.split(".")
        plain = {**plain, top: merged(plain.get(top), _nested(path, whole), path)}
    return plain


def _nested(path: list[str], value: object) -> object:
    """{"a": {"b": value}} of the path a, b."""
    for part in reversed(path):
        value = {part: value}
    return value


def _check_command(request: Request, settings: JobSettings, label: str) -> None:
    """InputError where a scheduler that learns and the command, or --run, do not go together."""
    learns, source = learns_by(settings), request.flags.run
    if learns and request.command == "eval" and source is None:
        raise InputError(f"ddrl eval: {label} needs trained weights: --run DIR (ddrl sweep trains and evaluates)")
    if not learns and request.command == "train":
        raise InputError(f"ddrl train: scheduler {label} does not learn; ddrl eval evaluates it")
    if not learns and source is not None:
        raise InputError(f"--run {source}: its scheduler {label} does not learn, so there are no weights")


def _refuse_links(folder: Path, root: Path) -> None:
    """InputError if a link between `root` and what is written in the job's folder leads elsewhere."""
    deepest = folder / records.RESUME
    if deepest.resolve() != root.resolve() / deepest.relative_to(root):
        raise InputError(f"{folder}: a symbolic link leads elsewhere; nothing is written through it")


def without_saving(data: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """(the composed config without them, the keys of SavingSettings), which stand in its group `train`."""
    train = data.get("train")
    if not isinstance(train, Mapping):
        return dict(data), {}
    saving = {key: value for key, value in train.items() if key in SavingSettings.model_fields}
    return {**data, "train": {key: value for key, value in train.items() if key not in saving}}, saving


S = TypeVar("S", bound=Settings)


def validated(model: type[S], plain: Mapping[str, object]) -> S:
    """The settings; keys are named as they stand in the yaml, without a prefix. Raises InputError."""
    try:
        return validate(model, plain, "")
    except InputError as error:
        raise InputError("\n".join(line.removeprefix(".") for line in str(error).splitlines())) from None


def _with_stream(plain: Mapping[str, object]) -> Mapping[str, object]:
    """scheduler.stream, where its yaml names none, is the name of the scheduler's class, not that of the yaml."""
    scheduler = plain.get("scheduler")
    if not isinstance(scheduler, Mapping) or scheduler.get("stream") is not None:
        return plain
    return {**plain, "scheduler": {**scheduler, "stream": scheduler.get("name")}}


def _drawn_as(scheduler: Mapping[str, object], label: str) -> str:
    """Name of the random streams: scheduler.stream and what was changed about the yaml, as the label says it.

    Folders from before that key have the label alone.
    """
    name, bracket, changes = label.partition("(")
    return f"{provenance_of(scheduler).stream or name}{bracket}{changes}"


def _with_own_rule(plain: Mapping[str, object]) -> Mapping[str, object]:
    """env.rule own = the published rule set in which the scheduler was introduced."""
    env, scheduler = plain.get("env"), plain.get("scheduler")
    if not isinstance(env, Mapping) or not isinstance(scheduler, Mapping) or env.get("rule") != "own":
        return plain
    own = provenance_of(scheduler).published_rule or COMMON_RULE
    return {**plain, "env": {**env, "rule": own}}
