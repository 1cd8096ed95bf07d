"""Studies: lists of sweeps and evaluations in conf/study/*.yaml, which `ddrl sweep study=NAME` runs one by one.

Finished jobs are skipped, so a study that was interrupted is started again by the same command. A step that fails does
not stop those after it.
"""

import re
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import yaml  # type: ignore[import-untyped]
from pydantic import AfterValidator, Field, model_validator

from ddrl_sched.conf_folder import choices, conf_dir
from ddrl_sched.config import InputError, Name, Positive, Seed, Settings, Text, clean, near, shown, validate
from ddrl_sched.display import count, duration, note
from ddrl_sched.failures import BAD_INPUT, DONE, explain, status_of
from ddrl_sched.jobs.request import Flags
from ddrl_sched.key_value import key_value
from ddrl_sched.launch import SHOWS, launch
from ddrl_sched.listing import config_folder
from ddrl_sched.overrides import has_several, parsed
from ddrl_sched.yaml_files import check, place, read, unreadable

STUDY = "study"  # key of the word that names one
MAX_STEPS = 1000


def _has_key(word: str) -> str:
    if not re.match(r"[+~]*[A-Za-z_][\w.@/-]*=", word):
        raise ValueError(f"must be KEY=VALUE, got {shown(word)}")
    return word


Word = Annotated[str, Field(max_length=10_000), AfterValidator(_has_key)]
Words = Annotated[list[Word], Field(max_length=100)]


def _has_keys(line: str) -> str:
    for word in line.split():
        _has_key(word)
    return line


Lines = Annotated[list[Annotated[Text, AfterValidator(_has_keys)]], Field(min_length=1, max_length=MAX_STEPS)]


class Step(Settings):
    """Sweeps, or evaluations of what another study has trained."""

    about: Text  # what it is for
    cpu_minutes: Positive  # measured once, or estimated by --dry-run
    sweep: Words | None = None  # words of `ddrl sweep`
    eval: Words | None = None  # words of `ddrl eval --run FOLDER`
    each: Lines | None = None  # one sweep or evaluation for each line, its words beside the others
    trained_in: Name | None = None  # with eval: results (below runs_dir) whose trained schedulers are the FOLDERs
    shipped: Name | None = None  # instead of trained_in: results that come with the project, in runs/published

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Step":
        if (self.sweep is None) == (self.eval is None):
            raise ValueError("one of sweep and eval must be given")
        if (self.eval is None) != (self.trained_in is None and self.shipped is None):
            raise ValueError("trained_in: it or shipped must be given with eval, and with nothing else")
        if self.trained_in is not None and self.shipped is not None:
            raise ValueError("shipped: not beside trained_in")
        return self

    def trained_folders(self, runs_dir: Path) -> list[Path]:
        """The run folders that it evaluates. InputError if there is none."""
        if self.shipped is not None:
            return _shipped(self.shipped)
        return trained(runs_dir / str(self.trained_in))


class Study(Settings):
    """What a yaml of conf/study holds."""

    name: Name  # of the results, below runs_dir
    evaluate_seed: Seed | None  # of the held-out traces, stated before it is run; null where nothing is held out
    steps: Annotated[list[Step], Field(min_length=1, max_length=MAX_STEPS)]
    # flags of `ddrl report` for each table that the study is about
    reports: Annotated[list[Annotated[list[Text], Field(max_length=10)]], Field(min_length=1, max_length=10)]


@dataclass(frozen=True)
class Command:
    """One command line of ddrl."""

    name: Literal["sweep", "eval"]
    words: list[str]
    run: Path | None = None  # of eval: the folder of the trained scheduler

    def __str__(self) -> str:
        flags = [] if self.run is None else ["--run", str(self.run)]
        return shlex.join(["ddrl", self.name, *flags, *self.words])


def run_study(words: Sequence[str], hydra_flags: Sequence[str], flags: Flags, *, dry_run: bool) -> int:
    """Run the study that `words` name, every step with the other words on top of its own. Returns the exit status.

    Raises InputError for a study that does not exist or cannot be read.
    """
    study, given = _study_of(words, hydra_flags)
    if shown_only := [flag for flag in hydra_flags if flag in SHOWS]:
        raise InputError(f"{shown_only[0]}: not with study, which has many configs; add it to one of its sweeps")
    for key in ("name", "runs_dir"):
        _value(given, key, "")
    for step in study.steps:
        if step.shipped is not None or step.trained_in not in (None, study.name):
            step.trained_folders(_runs_dir(given))
    _note_other_seed(study, given)
    statuses = []
    for number, step in enumerate(study.steps, 1):
        time = duration(60 * step.cpu_minutes)
        print(f"step {number} of {len(study.steps)}: {clean(step.about)} (about {time} of CPU)", flush=True)
        try:
            found = list(commands(study, step, given))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            statuses.append(BAD_INPUT)
            continue
        statuses += [_run(command, hydra_flags, flags, dry_run=dry_run) for command in found]
    failed = sum(status != DONE for status in statuses)
    total = duration(60 * sum(step.cpu_minutes for step in study.steps))
    print(f"study {study.name}: {count(len(statuses), 'command')}, {failed} failed; about {total} of CPU in all")
    folder = _runs_dir(given) / _value(given, "name", study.name)
    for report in study.reports:
        print("tables: " + shlex.join(["ddrl", "report", clean(folder), *report]), flush=True)
    return status_of(statuses)


def _study_of(words: Sequence[str], flags: Sequence[str]) -> tuple[Study, list[str]]:
    """The study that words name, and the other words."""
    names = [key_value(word).value for word in words if key_value(word).key == STUDY]
    given = [word for word in words if key_value(word).key != STUDY]
    if len(names) > 1:
        raise InputError(f"study: given {len(names)} times; one at a time")
    if any(key_value(word).key == "experiment" for word in given):
        raise InputError("experiment: not with study, whose steps name their experiments")
    own = [config_folder(value) for flag, value in pairwise(flags) if flag == "--config-dir"]
    return read_study(names[0], [conf_dir(), *own]), given


def read_study(name: str, folders: Sequence[Path]) -> Study:
    """The study of this name in folders of yaml files. InputError if there is none, or its yaml is wrong."""
    known = choices("study", folders)
    if name not in known:
        if name in choices("experiment", folders):
            raise InputError(f"study: there is no {clean(name)!r}; `ddrl sweep experiment={name}` is one sweep")
        hint = near(name, known) or f"; known: {', '.join(known)}"
        raise InputError(f"study: there is no {clean(name)!r}{hint}")
    file = known[name]
    check(file)
    try:
        return validate(Study, yaml.safe_load(read(file)), "")
    except yaml.YAMLError as error:
        raise unreadable(file, error) from None
    except InputError as error:
        lines = [f"{place(file)}: {line.removeprefix('.')}" for line in str(error).splitlines()]
        raise InputError("\n".join(lines)) from None


def _note_other_seed(study: Study, given: Sequence[str]) -> None:
    """Say that results are not of the traces that the study is registered with."""
    seed = study.evaluate_seed
    others = [word for word in given if key_value(word).key == "evaluate.seed" and key_value(word).value != str(seed)]
    if others and seed is not None:
        note(f"note: {clean(others[-1])}: the held-out traces of study {study.name} are those of evaluate.seed={seed}")


def commands(study: Study, step: Step, given: Sequence[str]) -> Iterator[Command]:
    """The commands of a step. A word that is `given` takes the place of the step's own with the same key.

    An evaluation of trained weights is not given words of a training, such as train.episodes. InputError where a step
    evaluates what has not been trained.
    """
    shared = [f"name={study.name}"]
    if study.evaluate_seed is not None:
        shared.append(f"evaluate.seed={study.evaluate_seed}")
    for line in step.each or [""]:
        if step.sweep is not None:
            yield Command("sweep", with_words([*shared, *step.sweep, *line.split()], given))
        if step.eval is not None:
            words = with_words([*shared, *step.eval, *line.split()], of_evaluation(given))
            yield from (Command("eval", words, folder) for folder in step.trained_folders(_runs_dir(given)))


def of_evaluation(given: Sequence[str]) -> list[str]:
    """The given words without those of a training, which trained weights have behind them."""
    from ddrl_sched.jobs.earlier_run import OF_TRAINING  # lazy: torch and pyarrow come with it

    return [word for word in given if key_value(word).top not in OF_TRAINING]


def with_words(words: Sequence[str], given: Sequence[str]) -> list[str]:
    """The words, then the given ones; of one key the last word counts."""
    by_key = {key_value(word).key: word for word in [*words, *given]}
    return list(by_key.values())


def trained(results: Path) -> list[Path]:
    """Run folders of a study's results, one for each scheduler that was trained: the first by name.

    InputError if there is none.
    """
    from ddrl_sched.jobs import records  # lazy: torch and pyarrow come with them
    from ddrl_sched.jobs.earlier_run import WEIGHTS

    first: dict[str, Path] = {}
    for file in sorted(results.glob("*/job.json")):
        try:
            job = records.read_job(file.parent)
        except (OSError, ValueError):  # the report names folders that cannot be read
            continue
        if job["learned"] and job["status"] == "done" and (file.parent / WEIGHTS).exists():
            first.setdefault(job["scheduler"], file.parent)
    if not first:
        raise InputError(
            f"{clean(results)}: no trained scheduler; run "
            f"`ddrl sweep study={clean(results.name)} runs_dir={clean(results.parent)}` first"
        )
    return list(first.values())


def _shipped(name: str) -> list[Path]:
    """Run folders of the trained schedulers that come with the repository. InputError in an installation without."""
    published = conf_dir().parent / "runs" / "published"
    if not published.is_dir():
        text = f"{clean(published)}: there is no such folder; results such as {clean(name)} come with the repository"
        raise InputError(f"shipped: {text}: run the study in a checkout of it")
    return trained(published / name)


def _run(command: Command, hydra_flags: Sequence[str], flags: Flags, *, dry_run: bool) -> int:
    """Run a command in this process. Its error is printed. Returns the exit status."""
    print(clean(command), flush=True)
    flags = flags if command.run is None else replace(flags, run=command.run.resolve())
    several = command.name == "sweep"
    try:
        return launch(command.name, command.words, hydra_flags, flags, multirun=several, dry_run=dry_run)
    except Exception as error:
        if flags.debug:
            traceback.print_exc()
        status, message = explain(error)
        print(f"error: {message}", file=sys.stderr, flush=True)
        return status


def _runs_dir(given: Sequence[str]) -> Path:
    """Where results are: as given, or as conf/base.yaml has it."""
    return Path(_value(given, "runs_dir", str(yaml.safe_load(read(conf_dir() / "base.yaml"))["runs_dir"])))


def _value(words: Sequence[str], key: str, default: str) -> str:
    """What the last word of a key says."""
    several = [word for word in words if key_value(word).key == key and (has_several(word) or word.startswith("~"))]
    if several:
        raise InputError(f"{key}: one value expected with study, got {shown(several[0])}")
    overrides = [parsed(word) for word in words if key_value(word).key == key]
    return str(overrides[-1].value()) if overrides and overrides[-1] is not None else default
