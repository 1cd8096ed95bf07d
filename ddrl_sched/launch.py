"""From the command line to jobs. The only module that knows Hydra: it composes, hands plain data to `run.job`, reports.

Hydra runs the jobs (here or in processes of their own), and every job leaves a small report in a temporary folder,
which is read when all are through. Nothing of Hydra's own is written anywhere else.
"""

import json
import os
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.failures import BAD_INPUT, DONE, FAILED, explain
from ddrl_sched.listing import conf_dir

SHOWS = ("--cfg", "--info", "--hydra-help")  # Hydra's flags that print something and run nothing
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
OF_LAUNCHER = ("launcher=", "launcher.", "hydra/launcher", "hydra.launcher")
STATES = ("done", "skipped", "failed")  # what run_job answers, beside "claimed"


@dataclass(frozen=True)
class Told:
    """What every job of a command is told beside its config."""

    command: str  # train | eval | sweep
    options: dict[str, Any]  # of the command line, see cli.py
    phase: str  # "plan": check and estimate; "run"
    cwd: str  # where the command was given
    folder: str  # where the reports of the jobs go
    quiet: bool  # no line of its own for each job


def launch(
    command: str,
    overrides: Sequence[str],
    flags: Sequence[str],
    options: dict[str, Any],
    *,
    multirun: bool = False,
    dry_run: bool = False,
) -> int:
    """Compose and run what `ddrl <command> <overrides>` asks for. Returns the exit status.

    A job of a multirun that fails does not stop the others. Raises InputError for a config that cannot be composed.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")
    if any(flag.split("=")[0] in SHOWS for flag in flags):
        _hydra_main(command, [*flags, *overrides], _nothing)
        return DONE
    if dry_run:
        print(plan_table(plan(command, overrides, flags, options)))
        return DONE
    words = [*["--multirun"] * multirun, *flags, *overrides]
    reports = _jobs(command, words, options, "run", quiet=not multirun)
    for report in reports:
        if report["state"] == "claimed":
            _run_claimed(report, command, options)
    if not multirun and len(reports) == 1:
        return _tell(reports[0])
    print(summary(reports), flush=True)
    return _exit_status(reports)


def plan(command: str, overrides: Sequence[str], flags: Sequence[str], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Every job of a multirun, composed and checked by `run.job.plan_job`, in order. InputError if one is wrong."""
    here = [word for word in overrides if not word.startswith(OF_LAUNCHER)] + ["launcher=serial"]
    reports = _jobs(command, ["--multirun", *flags, *here], options, "plan", quiet=True)
    wrong = dict.fromkeys(report["message"] for report in reports if report["code"] == BAD_INPUT)
    if wrong:
        raise InputError("\n".join(wrong))
    for report in reports:
        if report["code"] != DONE:
            raise RuntimeError(report["message"])
    return [report["plan"] for report in reports]


def job(told: Told, config: DictConfig) -> None:
    """One job, called by Hydra, perhaps in another process. Leaves a report; a failure is part of it."""
    about = HydraConfig.get()
    words: Any = OmegaConf.to_container(about.overrides.task, resolve=False)
    overrides = [word for word in words if not word.startswith(OF_LAUNCHER)]
    report: dict[str, Any] = {"code": DONE, "state": "done", "message": "", "overrides": overrides, "label": ""}
    try:
        name = label(about.runtime.choices["scheduler"], overrides, told.command)
        # with --run and --resume the folder says which scheduler it is
        report["label"] = told.options.get("run") or told.options.get("resume") or name
        data = plain(config, overrides, name, told.cwd)
        if told.phase == "plan":
            report["plan"] = _plan_job(data, told)
        else:
            waits = {} if told.quiet else {"wait": False}  # one of many jobs is passed over while another has it
            report |= _run_job(data, told.command, told.options | waits)
    except Exception as error:
        if told.options.get("debug"):
            traceback.print_exc()
        report["code"], report["message"] = explain(in_users_words(error))
        report["state"] = "failed"
    if not told.quiet:
        print(_line(report), flush=True)
    number = OmegaConf.select(about, "job.num", throw_on_missing=False) or 0
    Path(told.folder, f"{number:06d}.json").write_text(json.dumps(report), encoding="utf-8")


def plain(config: DictConfig, overrides: list[str], label: str, cwd: str) -> dict[str, Any]:
    """The composed config as plain data, with `label` and `overrides`, without what concerns only the launcher."""
    data: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    data.pop("launcher", None)
    if not isinstance(data.get("runs_dir"), str):
        raise InputError(f"runs_dir: a folder expected, got {data.get('runs_dir')!r}")
    return {**data, "runs_dir": str(Path(cwd, data["runs_dir"])), "label": label, "overrides": overrides}


def label(scheduler: str, overrides: Sequence[str], command: str) -> str:
    """Name of a scheduler in tables: that of its yaml file, and what was changed about it on the command line.

    `scheduler.*` counts, and in train and eval `train.*` too; keys are cut to their last words: "best_k(k=2)".
    """
    roots = ("scheduler.",) if command == "sweep" else ("scheduler.", "train.")
    changes: dict[str, str] = {}
    for word in overrides:
        key, _, value = word.partition("=")
        path = key.lstrip("+~").rpartition("@")[2]  # of a group, agent@scheduler.agent=sac, the place it goes to
        if path.startswith(roots):
            changes[path] = value
    inside = ",".join(f"{_short(path, list(changes))}={changes[path]}" for path in sorted(changes))
    return clean(f"{scheduler}({inside})" if inside else scheduler)


def plan_table(plans: Sequence[dict[str, Any]]) -> str:
    """The jobs of a dry run, one line each, and what they will take."""
    head = ("job", "state", "time", "scheduler", "scenario", "load")
    rows = [
        (str(p["job_id"]), p["state"], duration(p["estimate_s"]), p["label"], p["scenario"], str(p["load"]))
        for p in plans
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    counts = ", ".join(f"{n} {state}" for state, n in Counter(p["state"] for p in plans).items())
    rest = sum(p["estimate_s"] or 0.0 for p in plans if p["state"] != "done")
    total = f"{len(plans)} jobs: {counts}; one at a time: {duration(rest)}"
    return "\n".join(line.rstrip() for line in [*lines, "", total])


def duration(seconds: float | None) -> str:
    """Seconds in words: "42 s", "3 min", "1.5 h"; "?" where nothing is known."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """How many jobs ended how, and every failed one by name."""
    counts = Counter(report["state"] for report in reports)
    lines = [f"{len(reports)} jobs: " + ", ".join(f"{counts[state]} {state}" for state in STATES)]
    return "\n".join([*lines, *(_line(report) for report in reports if report["code"] != DONE)])


def in_users_words(error: Exception) -> Exception:
    """An InputError that names the key, for what Hydra, OmegaConf and yaml say; any other error as it is."""
    if isinstance(error, MissingConfigException):
        return InputError(_missing_option(error))
    if isinstance(error, OverrideParseException):
        detail = "" if error.message.startswith("Error parsing") else f" ({_first_line(error.message)})"
        return InputError(f"cannot read {error.override!r}: KEY=VALUE expected{detail}")
    if isinstance(error, OmegaConfBaseException):
        return InputError(_bad_key(error))
    if isinstance(error, ConfigCompositionException):
        return InputError(_bad_override(error))
    if isinstance(error, HydraException):
        return InputError(_first_line(str(error)))
    if isinstance(error, YAMLError):
        return InputError(f"cannot read yaml: {' '.join(str(error).split())}")
    return error


def _plan_job(data: dict[str, Any], told: Told) -> dict[str, Any]:
    from ddrl_sched.run.job import plan_job  # lazy: torch and numba come with it

    return plan_job(data, told.command, told.options)


def _run_job(data: dict[str, Any], command: str, options: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the job; one that another process works on can be run again by what it holds."""
    from ddrl_sched.run.job import run_job  # lazy: torch and numba come with it

    state = run_job(data, command, options)
    if state == "claimed":
        return {"state": state, "again": data}
    assert state in STATES, state
    return {"state": state, "code": FAILED if state == "failed" else DONE}


def _run_claimed(report: dict[str, Any], command: str, options: dict[str, Any]) -> None:
    """Wait for the process that works on a job that was passed over, and finish the job if it did not."""
    data = report.pop("again")
    try:
        report |= _run_job(data, command, options)
    except Exception as error:
        report["code"], report["message"] = explain(error)
        report["state"] = "failed"
    print(_line(report), flush=True)


def _jobs(command: str, words: list[str], options: dict[str, Any], phase: str, *, quiet: bool) -> list[dict[str, Any]]:
    """Let Hydra run the jobs; their reports in order. A job whose process died has a report too."""
    with tempfile.TemporaryDirectory(prefix="ddrl-") as folder:
        told = Told(command, options, phase, os.getcwd(), folder, quiet)
        places = ["hydra.sweep.subdir=."] + [f"hydra.{mode}.dir={json.dumps(folder)}" for mode in ("run", "sweep")]
        died = ""
        try:
            _hydra_main(command, [*words, *places], partial(job, told))
        except InputError:
            raise
        except Exception as error:
            if options.get("debug"):
                traceback.print_exc()
            died = f"{type(error).__name__}: {_first_line(str(error))}"
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(Path(folder).glob("*.json"))]
    if died:
        lost = {"code": FAILED, "state": "failed", "message": died, "overrides": [], "label": "jobs that never ended"}
        reports.append(lost)
    return reports


def _hydra_main(command: str, words: list[str], task: Any) -> None:
    """hydra.main with `words` as its command line. Its errors are raised (not printed) in the user's words."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before = sys.argv
    sys.argv = [f"ddrl {command}", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command)(task)()
    except Exception as error:
        said = in_users_words(error)
        if isinstance(said, ValueError) and not isinstance(said, InputError):  # Hydra's: a job keeps its errors
            given = " ".join(word for word in words if not word.startswith(("-", "hydra.")))
            said = InputError(f"{_first_line(str(said))} (in {given})")
        raise said from error
    finally:
        sys.argv = before


def _nothing(_config: DictConfig) -> None:
    """A task for flags that run nothing."""


def _exit_status(reports: Sequence[dict[str, Any]]) -> int:
    """0, or the one status of all that failed, or 1 where they failed in several ways."""
    codes = {report["code"] for report in reports if report["code"] != DONE}
    return DONE if not codes else codes.pop() if len(codes) == 1 else FAILED


def _tell(report: dict[str, Any]) -> int:
    """Say how a job ended, an error on stderr. Returns the exit status."""
    if report["message"]:
        print(f"error: {report['message']}", file=sys.stderr)
    else:
        print(_line(report), file=sys.stderr if report["code"] else sys.stdout)
    return report["code"]


def _line(report: dict[str, Any]) -> str:
    words = [report["state"], report["label"], *report["overrides"]]
    line = "  ".join(clean(word) for word in words if word)
    return f"{line}\n  error: {report['message']}" if report["message"] else line


def _short(path: str, paths: list[str]) -> str:
    """The fewest last words of a dotted path that no other path ends with."""
    words = path.split(".")
    ends = (".".join(words[-n:]) for n in range(1, len(words) + 1))
    return next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in paths) == 1)


def _missing_option(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or not error.options:
        return _first_line(str(error))
    return f"{group}: there is no {name!r}{_hint(name, error.options)}"


def _bad_override(error: ConfigCompositionException) -> str:
    cause = error.__cause__
    message = _first_line(str(error))
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _bad_key(cause)
    if isinstance(cause, OmegaConfBaseException):
        return f"{message}: {_bad_key(cause)}" if message else _bad_key(cause)
    named = re.search(r"Could not override '([^']+)'", message)
    if message.startswith("Ambiguous value"):
        return f"{message}: several values need `ddrl sweep` or --multirun"
    if named:
        groups = [folder.name for folder in conf_dir().iterdir() if folder.is_dir()]
        return f"unknown key {named[1]!r}{_hint(named[1], groups)}"
    return message


def _bad_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key or "")
    if not isinstance(error, ConfigAttributeError | ConfigKeyError):
        return f"{key}: {_first_line(str(error))}" if key else _first_line(str(error))
    parent = error.parent_node
    known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    return f"unknown key {key!r}{_hint(key.rpartition('.')[2], known)}"


def _hint(word: str, known: Sequence[str]) -> str:
    """The known word that resembles `word`, or all of them where none does."""
    return near(word, known) or (f"; known: {', '.join(sorted(known))}" if known else "")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
