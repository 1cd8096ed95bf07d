"""What a job is called and whether it is done: told from its settings, without torch, the world or a scheduler."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from ddrl_sched.config import EnvSettings, InputError, Seed, Settings, WorkloadSettings, clean, shown, validate
from ddrl_sched.display import note
from ddrl_sched.edge.input_file import MAX_GML_BYTES, MAX_TRACE_BYTES, content_sha256, read_bytes
from ddrl_sched.jobs import records
from ddrl_sched.jobs.content import Inputs, by_content, content_hash, input_files, value_at
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES, learnt_nothing
from ddrl_sched.jobs.records import NETWORK_FILE, TRACE_FILE
from ddrl_sched.jobs.strict_json import check_plain
from ddrl_sched.labels import GYM_AGENT, LEARNED, with_changes
from ddrl_sched.provenance import provenance_of
from ddrl_sched.schedulers.table import own_source

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=80)]
Loads = Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(max_length=1000)]
Baselines = Annotated[list[Annotated[str, Field(max_length=records.MAX_NAME)]], Field(max_length=records.MAX_BASELINES)]
COMMON_RULE = "amcoedge"  # env.rule own, where a scheduler was published under no rule
WEIGHTS, CURVES = "weights.safetensors", "curves.parquet"
MAX_KEPT = 20  # overrides of a training's world that an evaluation of it repeats; its name has room for no more
OF_DECISIONS = ("scheduler.decisions", "scheduler.agent.eval_start")  # how trained weights decide; no part of training


class TrainSettings(Settings):
    """The budget of training."""

    name: Name
    episodes: Annotated[int, Field(ge=1, le=10**6)]
    episode_slots: Annotated[int, Field(ge=1, le=10**6)]
    episode_tasks: Annotated[int, Field(ge=0, le=10**7)]  # expected; an episode is lengthened to hold as many
    loads: Loads  # one after the other, episode by episode; empty: workload.load
    validate_every: Annotated[int, Field(ge=0, le=10**6)] = 0  # episodes between two looks (run/validation); 0: none


class SavingSettings(Settings):
    """Keys of `train` that leave the result as it is; they are no part of a job's settings."""

    checkpoint_s: Annotated[float, Field(ge=0, le=86_400)]  # between two saves of the training's state


class EvaluateSettings(Settings):
    """The held-out traces."""

    seed: Seed  # root of their streams, apart from training
    traces: Annotated[int, Field(ge=1, le=10_000)]  # published worlds: per draw
    policy_seeds: Annotated[int, Field(ge=1, le=1000)]  # repetitions of schedulers that draw random numbers
    replay_rule: str | None  # place the decisions again under this published rule


class JobSettings(Settings):
    """Everything that decides a job's result."""

    name: Name
    seed: Seed
    seeds: Annotated[int, Field(ge=1, le=1000)]
    env: EnvSettings
    workload: WorkloadSettings
    scheduler: dict[str, Any]
    train: TrainSettings
    evaluate: EvaluateSettings
    baselines: Baselines


@dataclass(frozen=True)
class Asked:
    """A job as it was asked for."""

    settings: JobSettings
    inputs: Inputs  # of its input files, as they were when it was asked for
    label: str
    folder: Path
    job_id: str
    command: str
    overrides: list[str]
    id_by: Callable[[str], str]  # code version -> what the job's id is by that code, for the files as they are now
    weights_of: Path | None  # run folder of the weights to evaluate
    weights_sha256: str | None  # of these weights, as they were when it was asked for
    drawn_as: str  # name of the random streams of the evaluation
    checkpoint_s: float | None  # where it trains

    @property
    def learns(self) -> bool:
        """The scheduler is a learned one."""
        return self.settings.scheduler.get("name") in LEARNED


def ask(data: Mapping[str, Any], command: str, options: Mapping[str, Any]) -> Asked:
    """Validate a composed config (plain data) and name its job. Raises InputError naming keys."""
    plain = {key: value for key, value in data.items() if key not in ("label", "overrides", "runs_dir", "experiment")}
    label, overrides = str(data["label"]), [str(word) for word in data["overrides"]]
    source = Path(options["run"]) if options.get("run") else None
    begun = Path(options["resume"]) if options.get("resume") else None
    saving = take_saving_settings(plain)
    manifest: Mapping[str, str] = {}
    plain = _with_stream(plain)
    of_training = label
    if source is not None:
        trained = _settings_of_run(source, plain, overrides)
        of_training, plain, manifest, overrides = trained.label, trained.settings, trained.manifest, trained.overrides
        label = _relabelled(of_training, trained.decisions)
    if begun is not None:
        label, plain, overrides = _settings_of_begun(begun, overrides)
        of_training = label
    if len(label) > records.MAX_NAME:
        raise InputError(f"scheduler: its name in tables must be at most {records.MAX_NAME} characters, got {label}")
    _refuse_gym(plain, label, source or begun)
    settings = _validated(_with_own_rule(_with_whole_paths(plain)))
    check_plain(settings.model_dump(), overrides)
    learns = settings.scheduler.get("name") in LEARNED
    drawn_as = _drawn_as(settings.scheduler, of_training)
    _check_command(command, label, learns, source)
    identity = {"settings": by_content(_identity(settings, learns)), "label": label, "weights": manifest.get(WEIGHTS)}
    if of_training != label:
        identity["drawn_as"] = drawn_as
    if not learns and (file := own_source(str(settings.scheduler.get("name")))):
        identity["source"] = records.file_hash(file)
    inputs = read_inputs(settings.env, settings.workload)
    content = content_hash(inputs)
    if begun is not None:
        command, job_id = _command_of_begun(begun, identity, content)
        folder = begun
    else:
        job_id = _job_id(identity, command, content, records.code_version())
        folder = Path(data["runs_dir"]) / settings.name / job_id
    _refuse_links(folder, begun or Path(data["runs_dir"]))
    checkpoint_s = validate(SavingSettings, saving, "train").checkpoint_s if learns else None
    id_by = partial(_job_id, identity, command, content)
    return Asked(
        settings=settings,
        inputs=inputs,
        label=label,
        folder=folder,
        job_id=job_id,
        command=command,
        overrides=overrides,
        id_by=id_by,
        weights_of=source,
        weights_sha256=manifest.get(WEIGHTS),
        drawn_as=drawn_as,
        checkpoint_s=checkpoint_s,
    )


def is_gym(data: Mapping[str, Any]) -> bool:
    """Whether the environment is one of gymnasium's (jobs/cartpole.py) and no world of edge servers."""
    return isinstance(data.get("env"), Mapping) and data["env"].get("kind") == "gym"


def _refuse_gym(plain: Mapping[str, Any], label: str, folder: Path | None) -> None:
    """InputError for what belongs to jobs/cartpole.py."""
    if is_gym(plain):
        text = (
            "CartPole-v1 is evaluated while it is trained; the command that began a run goes on with it, and no other"
        )
        raise InputError(f"{folder}: {text}")
    if isinstance(plain.get("scheduler"), Mapping) and plain["scheduler"].get("name") == GYM_AGENT:
        raise InputError(f"scheduler: {label} needs env=cartpole train=cartpole (experiment=cartpole has both)")


def read_inputs(env: EnvSettings, workload: WorkloadSettings) -> Inputs:
    """Hashes of the files that tasks and network come from: a trace, a graph. Raises InputError."""
    network, found = env.network, {}
    if workload.path is not None:
        found[TRACE_FILE] = read_bytes(workload.path, TRACE_FILE, "traces", MAX_TRACE_BYTES)
    if network.kind == "graph":
        found[NETWORK_FILE] = read_bytes(network.file, NETWORK_FILE, "topologies", MAX_GML_BYTES)
    return {key: content_sha256(content) for key, content in found.items()}


def _with_whole_paths(plain: dict[str, Any]) -> dict[str, Any]:
    """Input files by their whole path, so that a run folder can be gone on with from anywhere."""
    for key, value in input_files(plain).items():
        whole = os.path.abspath(os.path.expanduser(value))
        plain = _merged(plain, _nested(key, whole), key.split("."))
    return plain


def _nested(key: str, value: object) -> dict[str, Any]:
    """{"a": {"b": value}} of the dotted key "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _check_command(command: str, label: str, learns: bool, source: Path | None) -> None:
    """InputError where a scheduler that learns and the command, or --run, do not go together."""
    if learns and command == "eval" and source is None:
        raise InputError(f"ddrl eval: {label} needs trained weights: --run DIR (ddrl sweep trains and evaluates)")
    if not learns and command == "train":
        raise InputError(f"ddrl train: scheduler {label} does not learn; ddrl eval evaluates it")
    if not learns and source is not None:
        raise InputError(f"--run {source}: its scheduler {label} does not learn, so there are no weights")


def _refuse_links(folder: Path, root: Path) -> None:
    """InputError if a link between `root` and what is written in the job's folder leads elsewhere."""
    deepest = folder / records.RESUME
    if deepest.resolve() != root.resolve() / deepest.relative_to(root):
        raise InputError(f"{folder}: a symbolic link leads elsewhere; nothing is written through it")


def _job_id(identity: Mapping[str, Any], command: str, content: str, code_version: str) -> str:
    what = "train" if command == "train" else "evaluate"
    try:
        return records.job_id({**identity, "what": what}, content, records.SCHEMA_VERSION, code_version)
    except ValueError as error:  # a key below `scheduler` that is not text, for example
        raise InputError(clean(str(error).removeprefix("cannot hash [0].settings."))) from None


def take_saving_settings(plain: dict[str, Any]) -> dict[str, Any]:
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


def _with_stream(plain: dict[str, Any]) -> dict[str, Any]:
    """scheduler.stream, where its yaml names none, is the name of the scheduler's class, not that of the yaml."""
    scheduler = plain.get("scheduler")
    if not isinstance(scheduler, Mapping) or scheduler.get("stream") is not None:
        return plain
    return {**plain, "scheduler": {**scheduler, "stream": scheduler.get("name")}}


def _drawn_as(scheduler: Mapping[str, Any], label: str) -> str:
    """Name of the random streams: scheduler.stream and what was changed about the yaml, as the label says it.

    Folders from before that key have the label alone.
    """
    name, bracket, changes = label.partition("(")
    return f"{provenance_of(scheduler).stream or name}{bracket}{changes}"


def _with_own_rule(plain: dict[str, Any]) -> dict[str, Any]:
    """env.rule own = the published rule set in which the scheduler was introduced."""
    env, scheduler = plain.get("env"), plain.get("scheduler")
    if not isinstance(env, Mapping) or not isinstance(scheduler, Mapping) or env.get("rule") != "own":
        return plain
    own = provenance_of(scheduler).published_rule or COMMON_RULE
    return {**plain, "env": {**env, "rule": own}}


def _identity(settings: JobSettings, learned: bool) -> dict[str, Any]:
    """What the result depends on: without learning, neither training nor its seeds."""
    plain = settings.model_dump()
    for key in ("name", "baselines"):
        plain.pop(key)
    if not learned:
        plain.pop("train")
    return plain


class _Trained(NamedTuple):
    """A finished training as it is to be evaluated."""

    label: str
    settings: dict[str, Any]  # changed by what was given on the command line
    manifest: Mapping[str, str]
    overrides: list[str]  # those of its world that still hold, for its name in tables, then the given ones
    decisions: dict[str, object]  # changed values of OF_DECISIONS


def _settings_of_run(source: Path, composed: dict[str, Any], overrides: list[str]) -> _Trained:
    """What a finished run folder, which is only data, says of its training."""
    try:
        job, manifest = records.read_finished(source)
        _check_trained(source, manifest)
    except (OSError, ValueError) as error:
        raise InputError(f"--run {source}: {clean(error)}") from None
    plain = dict(job["settings"])
    given: set[str] = set()
    changes: dict[str, object] = {}
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0].partition("@")[0]
        top = key.partition(".")[0].partition("/")[0]
        if top in ("runs_dir", "launcher", "hydra"):
            continue
        if key in OF_DECISIONS and value_at(plain, key) is not None:
            if value_at(composed, key) != value_at(plain, key):
                changes[key] = value_at(composed, key)
        elif top in ("scheduler", "train", "agent", "seeds", "seed", "experiment"):
            free = [
                "env",
                "workload",
                "evaluate",
                "name",
                *(name for name in OF_DECISIONS if value_at(plain, name) is not None),
            ]
            raise InputError(f"{key}: belongs to the training; with --run only {', '.join(free)} can change")
        try:
            plain[top] = _merged(plain.get(top), composed.get(top), key.split(".")[1:])
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        given.add(key)
    _refuse_files(source, plain, given)
    start, decisions = "scheduler.agent.eval_start", value_at(plain, "scheduler.decisions")
    if start in changes and decisions != "greedy":
        raise InputError(f"{start}: has no effect with scheduler.decisions={decisions}")
    names = [clean(word) for word in job["overrides"] if len(word) <= records.MAX_NAME]
    kept = [word for word in names if (key := _of_world(word)) and not _is_replaced(key, given)][:MAX_KEPT]
    return _Trained(clean(job["scheduler"]), plain, manifest, [*kept, *overrides], changes)


def _check_trained(source: Path, manifest: Mapping[str, str]) -> None:
    """ValueError for a finished training of which a seed learnt nothing; OSError."""
    if CURVES not in manifest:
        return
    for seed, text in learnt_nothing(records.read_verified(source, CURVES, manifest, MAX_TABLE_BYTES)).items():
        if text:
            raise ValueError(f"seed {seed} {text} in its training, so its weights are those that it began with")


def _of_world(word: str) -> str:
    """The dotted key of an override below env, of a group the place it goes to; empty for any other."""
    key = word.lstrip("+~").partition("=")[0].rpartition("@")[2]
    return key if key.startswith("env.") else ""


def _is_replaced(key: str, given: set[str]) -> bool:
    """Whether one of the given keys, a group/... being all of the group, is `key` or what it lies in."""
    return any(f"{key}.".startswith(f"{other.partition('/')[0]}.") for other in given)


def _relabelled(label: str, changes: Mapping[str, object]) -> str:
    """The name of a training with other decisions: what it says of a key is replaced, the rest is added."""
    added = {}
    for key, value in changes.items():
        said = re.compile(rf"(?<=[(,]){key.rpartition('.')[2]}=[^,()\[\]]*")
        if said.search(label):
            words = f"{key.rpartition('.')[2]}={value}"
            label = said.sub(lambda _, words=words: words, label)  # type: ignore[misc]
        else:
            added[key] = value
    return with_changes(label, added)


def _refuse_files(source: Path, plain: Mapping[str, Any], given: set[str]) -> None:
    """InputError if the folder, not the user, names a file outside the package: a stranger may name any."""
    for key, file in input_files(plain).items():
        if not given.intersection({key, *(key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1))}):
            raise InputError(f"{key}: --run {source} names the file {shown(file)}; to read it, give +{key}=FILE")


def _settings_of_begun(folder: Path, overrides: list[str]) -> tuple[str, dict[str, Any], list[str]]:
    """(label, settings, overrides) with which the job in `folder` was begun. The folder is only data."""
    own = ("train.checkpoint_s", "launcher", "hydra")  # what concerns this process alone
    foreign = [word for word in overrides if not word.lstrip("+~").startswith(own)]
    if foreign:
        raise InputError(
            f"{foreign[0]}: with --resume only train.checkpoint_s can be given; the rest stands in {folder}"
        )
    try:
        job = records.read_job(records.run_folder(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"--resume {folder}: {clean(error)}") from None
    return clean(job["scheduler"]), dict(job["settings"]), list(job["overrides"])


def _command_of_begun(folder: Path, identity: Mapping[str, Any], content: str) -> tuple[str, str]:
    """(command, job id) of the job that was begun in `folder`; InputError if it cannot go on there."""
    begun = records.read_job(folder)["job_id"]
    for command in ("train", "sweep"):
        if _job_id(identity, command, content, records.code_version()) == begun:
            return command, begun
    raise InputError(f"--resume {folder}: begun with other code or input files, so it cannot go on bit for bit")


def _merged(old: Any, new: Any, path: list[str]) -> Any:
    """`old` with the value at `path` taken from `new` (all of it where the path is empty)."""
    if path and isinstance(old, list) and isinstance(new, list) and path[0].isdecimal() and int(path[0]) < len(new):
        if len(old) != len(new):
            raise InputError(f"place {path[0]}: the training's list has {len(old)} entries, not {len(new)}")
        i = int(path[0])
        return [*old[:i], _merged(old[i], new[i], path[1:]), *old[i + 1 :]]
    if not path or not isinstance(old, Mapping) or not isinstance(new, Mapping) or path[0] not in new:
        return new
    return {**old, path[0]: _merged(old.get(path[0]), new[path[0]], path[1:])}


def state(job: Asked, options: Mapping[str, Any]) -> str:
    """Of a job: "done" (perhaps, if that is accepted, by another version of the code) or what `state_of` says."""
    found = state_of(job.folder, job.job_id)
    return "done" if found != "done" and options.get("accept_code") and _done_by_other_code(job) else found


def finished(job: Asked, options: Mapping[str, Any]) -> bool:
    """Whether nothing of a job is left to do: it is done, and its checkpoints are gone."""
    return state(job, options) == "done" and not (job.folder / records.RESUME).exists()


def done_folder(job: Asked, options: Mapping[str, Any]) -> Path | None:
    """Where the results of a job are, if it is done."""
    if state_of(job.folder, job.job_id) == "done":
        return job.folder
    return _done_by_other_code(job) if options.get("accept_code") else None


def state_of(folder: Path, job_id: str) -> str:
    """Of the job in a run folder: "done", "failed", "interrupted", or "to do" where there is none."""
    try:
        job = records.read_job(folder)
    except (OSError, ValueError):
        return "to do"
    if job["job_id"] == job_id and records.is_done(folder):
        return "done"
    return "failed" if job["status"] == "failed" else "interrupted"


def _done_by_other_code(job: Asked) -> Path | None:
    """A finished folder of the same job (settings, input files, weights) by another version of the code; says so."""
    for folder in sorted(job.folder.parent.glob("*")):
        try:
            other = records.read_job(folder)
        except (OSError, ValueError):
            continue
        version = other["code_version"]
        same = version != records.code_version() and other["job_id"] == job.id_by(version)
        if same and records.is_done(folder):
            note(clean(f"{job.label}: accepted from code {version[:12]} ({folder})"))
            return folder
    return None
