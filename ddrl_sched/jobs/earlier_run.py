"""Jobs that rest on an earlier run folder: evaluations of its weights (--run), interrupted trainings (--resume).

A run folder may be a stranger's: it is only data.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError, clean, shown
from ddrl_sched.display import note
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES, learnt_nothing
from ddrl_sched.jobs.request import Command, Weights, job_id
from ddrl_sched.jobs.schemas import JobRecord, TrainingRecord
from ddrl_sched.key_value import key_value
from ddrl_sched.labels import with_changes
from ddrl_sched.run.inputs import Inputs, input_files, value_at
from ddrl_sched.run.settings import MAX_NAME

WEIGHTS, CURVES = "weights.safetensors", "curves.parquet"
MAX_KEPT = 20  # overrides of a training's world that an evaluation of it repeats; its name has room for no more
OF_DECISIONS = ("scheduler.decisions", "scheduler.agent.eval_start")  # how trained weights decide; no part of training
OF_TRAINING = ("scheduler", "train", "agent", "seeds", "seed", "experiment")  # groups that --run does not change
OF_PROCESS = ("runs_dir", "launcher", "hydra")  # groups that change no result
WITH_RESUME = ("train.checkpoint_s", "launcher", "hydra")  # what --resume may be given: it concerns this process alone


@dataclass(frozen=True)
class Trained:
    """A finished training as it is to be evaluated."""

    trained_as: str  # its label
    label: str  # the same with the changed decisions
    settings: Mapping[str, object]  # changed by what was given on the command line
    weights: Weights
    overrides: list[str]  # those of its world that still hold, for its name in tables, then the given ones


def settings_of_run(source: Path, composed: Mapping[str, object], overrides: Sequence[str]) -> Trained:
    """What a finished run folder says of its training, with what the command line changes. InputError names keys."""
    try:
        source = records.trained_folder(source)
        job, manifest = records.read_finished(source)
        _check_trained(source, job, manifest)
    except (OSError, ValueError) as error:
        raise InputError(f"--run {source}: {clean(error)}") from None
    _note_code(source, job)
    plain = {key: value for key, value in job["settings"].items() if key != "capacity"}  # asked of them once
    changes = _changed_decisions(plain, composed, overrides)
    given: set[str] = set()
    for word in overrides:
        key, top = key_value(word).group, key_value(word).top
        if top in OF_PROCESS:
            continue
        _refuse_of_training(key, top, plain)
        try:
            plain[top] = merged(plain.get(top), composed.get(top), key.split(".")[1:])
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        given.add(key)
    _refuse_files(source, plain, given)
    label, weights = clean(job["scheduler"]), _weights(source, job, manifest)
    names = [clean(word) for word in job["overrides"] if len(word) <= MAX_NAME]
    kept = [word for word in names if (key := _of_world(word)) and not _is_replaced(key, given)][:MAX_KEPT]
    return Trained(label, relabelled(label, changes), plain, weights, [*kept, *overrides])


def _weights(source: Path, job: JobRecord, manifest: Mapping[str, str]) -> Weights:
    training: TrainingRecord = {
        "job_id": clean(job["job_id"]),
        "overrides": [clean(word) for word in job["overrides"] if len(word) <= MAX_NAME][:MAX_KEPT],
        "created": job["created"],
        "cpu_s": job["cpu_s"],
        "code_version": clean(job["code_version"]),
    }
    return Weights(source, manifest.get(WEIGHTS, ""), training)


def _changed_decisions(
    plain: Mapping[str, object], composed: Mapping[str, object], overrides: Sequence[str]
) -> dict[str, object]:
    """Changed values of OF_DECISIONS that the command line gives. InputError for one without effect."""
    given = {key_value(word).group for word in overrides}
    keys = [key for key in OF_DECISIONS if key in given and value_at(plain, key) is not None]
    changes = {key: value_at(composed, key) for key in keys if value_at(composed, key) != value_at(plain, key)}
    start, decides = OF_DECISIONS[1], OF_DECISIONS[0]
    decisions = value_at(composed if decides in keys else plain, decides)
    if start in changes and decisions != "greedy":
        raise InputError(f"{start}: has no effect with scheduler.decisions={decisions}")
    return changes


def _refuse_of_training(key: str, top: str, plain: Mapping[str, object]) -> None:
    """InputError for a key that an evaluation of trained weights cannot change."""
    decisions = [name for name in OF_DECISIONS if value_at(plain, name) is not None]
    if top in OF_TRAINING and key not in decisions:
        free = ", ".join(["env", "workload", "evaluate", "name", *decisions])
        raise InputError(f"{key}: belongs to the training; with --run only {free} can change")


def _note_code(source: Path, job: JobRecord) -> None:
    """Say that weights were trained by another version of the code: they are taken as they are."""
    before, now = clean(job["code_version"])[:12], fingerprint.code_version()[:12]
    if before != now:
        note(f"note: {clean(source)}: trained by code {before}, evaluated by {now}")


def _check_trained(source: Path, job: JobRecord, manifest: Mapping[str, str]) -> None:
    """ValueError for a finished training without weights, or of which a seed learnt nothing; OSError."""
    if job["learned"] and WEIGHTS not in manifest:
        raise ValueError("its weights were left out where it was packed; ddrl pack --weights-below SIZE keeps them")
    if CURVES not in manifest:
        return
    for seed, text in learnt_nothing(records.read_verified(source, CURVES, manifest, MAX_TABLE_BYTES)).items():
        if text:
            raise ValueError(f"seed {seed} {text} in its training, so its weights are those that it began with")


def _of_world(word: str) -> str:
    """The dotted key of an override below env; empty for any other."""
    key = key_value(word).key
    return key if key.startswith("env.") else ""


def _is_replaced(key: str, given: set[str]) -> bool:
    """Whether one of the given keys, a group/... being all of the group, is `key` or what it lies in."""
    return any(f"{key}.".startswith(f"{other.partition('/')[0]}.") for other in given)


def relabelled(label: str, changes: Mapping[str, object]) -> str:
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


def _refuse_files(source: Path, plain: Mapping[str, object], given: set[str]) -> None:
    """InputError if the folder, not the user, names a file outside the package: a stranger may name any."""
    for key, file in input_files(plain).items():
        if not given.intersection({key, *(key.rsplit(".", n)[0] for n in range(1, key.count(".") + 1))}):
            raise InputError(f"{key}: --run {source} names the file {shown(file)}; to read it, give +{key}=FILE")


@dataclass(frozen=True)
class Begun:
    """An interrupted job as it was begun."""

    label: str
    settings: Mapping[str, object]
    overrides: list[str]


def settings_of_begun(folder: Path, overrides: Sequence[str]) -> Begun:
    """What the run folder of an interrupted job says of it. InputError for overrides that would change the job."""
    foreign = [word for word in overrides if not key_value(word).group.startswith(WITH_RESUME)]
    if foreign:
        raise InputError(
            f"{foreign[0]}: with --resume only train.checkpoint_s can be given; the rest stands in {folder}"
        )
    try:
        job = records.read_job(records.run_folder(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"--resume {folder}: {clean(error)}") from None
    if "capacity" in job["settings"]:
        raise InputError(f"--resume {folder}: a search for a capacity goes on by the command that began it")
    return Begun(clean(job["scheduler"]), dict(job["settings"]), list(job["overrides"]))


def command_of_begun(folder: Path, identities: Mapping[Command, Mapping[str, object]], inputs: Inputs) -> Command:
    """The command whose job was begun in `folder`; InputError if it cannot go on there."""
    begun = records.read_job(folder)["job_id"]
    for command, identity in identities.items():
        if job_id(identity, inputs) == begun:
            return command
    raise InputError(f"--resume {folder}: begun with other code or input files, so it cannot go on bit for bit")


def merged(old: object, new: object, path: Sequence[str]) -> object:
    """`old` with the value at `path` taken from `new` (all of it where the path is empty)."""
    if path and isinstance(old, list) and isinstance(new, list) and path[0].isdecimal() and int(path[0]) < len(new):
        if len(old) != len(new):
            raise InputError(f"place {path[0]}: the training's list has {len(old)} entries, not {len(new)}")
        i = int(path[0])
        return [*old[:i], merged(old[i], new[i], path[1:]), *old[i + 1 :]]
    if not path or not isinstance(old, Mapping) or not isinstance(new, Mapping) or path[0] not in new:
        return new
    return {**old, path[0]: merged(old.get(path[0]), new[path[0]], path[1:])}
