"""Composing: the words of a command become jobs. Hydra composes them one after the other, in this process.

With `overrides`, which reads the words, `checked_files` and `composing_errors` it is all that knows Hydra. Nothing of
Hydra's own is written but in a temporary folder.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from ddrl_sched.checked_files import CheckedFiles
from ddrl_sched.composing_errors import first_line, in_users_words
from ddrl_sched.conf_folder import conf_dir
from ddrl_sched.config import InputError, Settings
from ddrl_sched.failures import explain
from ddrl_sched.jobs import kinds
from ddrl_sched.jobs.request import Command, Flags, JobSpec, Plan, Request, Result
from ddrl_sched.key_value import key_value
from ddrl_sched.labels import GYM_AGENT, LEARNED, label
from ddrl_sched.overrides import bound_sweeps, canonical, left_to_the_jobs, read_ranges_as_decimals, varied_budget
from ddrl_sched.stated_values import is_default

OF_LAUNCHER = ("launcher", "hydra/launcher", "hydra.launcher")  # keys that say how jobs run, not what they are
OF_PROGRAM = ("launcher", "runs_dir", "experiment")  # groups and keys of the config that are no part of a job
OPEN = ("launcher.options",)  # mappings of the config that take any key


@dataclass
class Job:
    """One job of a command, and what becomes of it."""

    number: int  # in its command
    overrides: list[str]
    label: str = ""  # or the run folder that says which scheduler it is
    spec: JobSpec[Settings] | None = None  # None: it could not be composed, or its settings are wrong
    launcher: Mapping[str, object] = field(default_factory=dict)
    plan: Plan | None = None
    result: Result | None = None


@dataclass(frozen=True)
class _Composing:
    """What is the same for all jobs of a command, and the jobs so far."""

    command: Command
    flags: Flags
    cwd: Path  # where the command was given
    words: Sequence[str]  # of the command line
    jobs: list[Job] = field(default_factory=list)


def compose(command: Command, words: list[str], flags: Flags) -> list[Job]:
    """The jobs of a command line, in order; what is wrong with one of them stands in its result.

    Raises InputError for what is wrong with all of them.
    """
    if any(key_value(word).key == "hydra/launcher" for word in words):
        raise InputError(
            "hydra/launcher: ddrl sends the jobs itself; launcher=NAME says how: serial, processes, ray, ..."
        )
    if not {"-m", "--multirun"}.isdisjoint(words):
        words = [left_to_the_jobs(word) for word in words]
    words = [_opened(word) for word in words]
    composing = _Composing(command, flags, Path.cwd(), words)
    with tempfile.TemporaryDirectory(prefix="ddrl-") as folder:
        places = ["hydra.sweep.subdir=."] + [f"hydra.{mode}.dir={json.dumps(folder)}" for mode in ("run", "sweep")]
        hydra_main(command, [*words, *places], partial(_add_job, composing))
    return composing.jobs


def is_of_launcher(word: str) -> bool:
    """Whether an override says how jobs run, not what they are."""
    key = key_value(word).key
    return any(key == each or key.startswith(f"{each}.") for each in OF_LAUNCHER)


def _add_job(composing: _Composing, config: DictConfig) -> None:
    """One job, called by Hydra; a failure is part of it."""
    about, flags = HydraConfig.get(), composing.flags
    words = cast(list[str], OmegaConf.to_container(about.overrides.task, resolve=False))
    overrides = [canonical(word) for word in words if not is_of_launcher(word)]
    job = Job(len(composing.jobs), overrides)
    composing.jobs.append(job)
    try:
        name = _label(composing, config, overrides)
        job.label = str(flags.run or flags.resume or name)  # the folder says which scheduler it is
        job.launcher = cast(dict[str, object], OmegaConf.to_container(config.launcher, resolve=True))
        job.spec = kinds.resolve(_request(composing, config, overrides, name))
    except Exception as error:
        if flags.debug:
            traceback.print_exc()
        code, message = explain(in_users_words(error))
        job.result = Result("failed", code, message, job.number)


def _label(composing: _Composing, config: DictConfig, overrides: list[str]) -> str:
    """Name of the job's scheduler in tables."""
    about = HydraConfig.get()
    learns = OmegaConf.select(config, "scheduler.name") in (*LEARNED, GYM_AGENT)
    varied = varied_budget(overrides, composing.words, about.sweeper.get("params")) if learns else ()
    chosen = about.runtime.choices["scheduler"]
    telling = [word for word in overrides if not is_default(chosen, word, overrides, config)]
    return label(chosen, telling, composing.command, varied)


def _request(composing: _Composing, config: DictConfig, overrides: list[str], label: str) -> Request:
    """The composed config as plain data, with what the command line says beside it."""
    data = cast(dict[str, object], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    if not isinstance(data.get("runs_dir"), str):
        raise InputError(f"runs_dir: a folder expected, got {data.get('runs_dir')!r}")
    runs_dir = composing.cwd / str(data["runs_dir"])
    plain = {key: value for key, value in data.items() if key not in OF_PROGRAM}
    return Request(composing.command, plain, label, overrides, runs_dir, composing.flags)


def _opened(word: str) -> str:
    """A key of an open mapping as one that Hydra adds where it is not there yet; any other word as it is."""
    return f"++{word}" if key_value(word).key.startswith(OPEN) and not key_value(word).prefix else word


def hydra_main(command: Command, words: list[str], task: Callable[[DictConfig], None]) -> None:
    """hydra.main with `words` as its command line. Its errors are raised (not printed) in the user's words."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    read_ranges_as_decimals()
    Plugins.instance()  # registers Hydra's own reader of files
    bound_sweeps()
    SourcesRegistry.instance().types["file"] = CheckedFiles
    CheckedFiles.folders.clear()
    CheckedFiles.files.clear()
    before = sys.argv
    sys.argv = [f"ddrl {command}", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)()
    except Exception as error:
        said = in_users_words(error)
        if isinstance(said, ValueError) and not isinstance(said, InputError):  # Hydra's: a job keeps its errors
            given = " ".join(word for word in words if not word.startswith(("-", "hydra.")))
            said = InputError(f"{first_line(str(said))} (in {given})")
        raise said from error
    finally:
        sys.argv = before
