"""From the command line to jobs: composes them with Hydra, hands plain data to `jobs.scheduling`, reports.

With `overrides`, which reads the words, `checked_files` and `composing_errors` it is all that knows Hydra. Hydra
composes the jobs one after the other in this process; then they go to `launchers`, whichever it is. Nothing of Hydra's
own is written but in a temporary folder.
"""

import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import Any

import hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from ddrl_sched.checked_files import CheckedFiles
from ddrl_sched.composing_errors import first_line, in_users_words
from ddrl_sched.config import InputError, clean
from ddrl_sched.display import count, duration
from ddrl_sched.failures import BAD_INPUT, DONE, FAILED, ExplainedError, explain
from ddrl_sched.labels import GYM_AGENT, LEARNED, label
from ddrl_sched.launchers.overload import Overload
from ddrl_sched.launchers.progress import SweepProgress, say, sweep_progress
from ddrl_sched.launchers.table import SERIAL, dispatch
from ddrl_sched.launchers.task import RUNNING, STATES, THREADS, Report, Task, attempt
from ddrl_sched.launchers.task import plan as plan_task
from ddrl_sched.launchers.task import result as result_of_task
from ddrl_sched.listing import conf_dir, config_folder
from ddrl_sched.overrides import (
    asks_for_nothing,
    bound_sweeps,
    canonical,
    check_words,
    left_to_the_jobs,
    read_ranges_as_decimals,
    varied_budget,
)
from ddrl_sched.stated_values import is_default

SHOWS = ("--cfg", "--info", "--hydra-help")  # Hydra's flags that print something and run nothing
SHOWN = ("scheduler", "env=", "workload.load=")  # how overrides start that other columns of a dry run show
REFUSED = "refused"  # state of a job of a dry run
NOTHING = (
    "ddrl sweep: nothing to vary and no scheduler named; for example `ddrl sweep scheduler=eft,jsq "
    "workload.load=0.3,0.6` or `ddrl sweep experiment=quickstart` (`ddrl list` shows the choices)"
)
OF_LAUNCHER = ("launcher=", "launcher.", "hydra/launcher", "hydra.launcher")
OPEN = ("launcher.options",)  # mappings of the config that take any key


@dataclass(frozen=True)
class Told:
    """What every job of a command is told beside its config."""

    command: str  # train | eval | sweep
    options: dict[str, Any]  # of the command line, see cli.py
    phase: str  # "plan": check and estimate; "run"
    cwd: str  # where the command was given
    quiet: bool  # no line of its own for each job
    words: Sequence[str] = ()  # of the command line
    reports: list[Report] = field(default_factory=list)  # of all jobs, in order


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
    for flag, value in pairwise(flags):
        if flag == "--config-dir":
            config_folder(value)
    check_words(overrides)
    if command == "sweep" and asks_for_nothing(overrides):
        raise InputError(NOTHING)
    if dry_run:
        plans = plan(command, overrides, flags, options)
        print(plan_table(plans))
        if wrong := dict.fromkeys(plan["message"] for plan in plans if plan["state"] == REFUSED):
            raise InputError("\n".join(wrong))
        return DONE
    words = [*["--multirun"] * multirun, *flags, *overrides]
    reports = _jobs(command, words, options, "run", quiet=not multirun)
    if not multirun and len(reports) == 1:
        return _tell(reports[0])
    print(summary(reports), flush=True)
    return _exit_status(reports)


def plan(command: str, overrides: Sequence[str], flags: Sequence[str], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Every job of a multirun, composed and checked by `jobs.scheduling.plan_job`, in order.

    One that is bad input has the state REFUSED and a message; InputError if all are.
    """
    here = [word for word in overrides if not _is_of_launcher(word)] + ["launcher=serial"]
    reports = _jobs(command, ["--multirun", *flags, *here], options, "plan", quiet=True)
    wrong = dict.fromkeys(report["message"] for report in reports if report["code"] == BAD_INPUT)
    if reports and all(report["code"] == BAD_INPUT for report in reports):
        raise InputError("\n".join(wrong))
    for report in reports:
        if report["code"] not in (DONE, BAD_INPUT):
            raise ExplainedError(report["message"])
    unknown = {"job_id": "-", "state": REFUSED, "estimate_s": None, "scenario": "-", "load": "-"}
    return [
        {"overrides": report["overrides"]}
        | (report["plan"] if report["code"] == DONE else unknown | {key: report[key] for key in ("label", "message")})
        for report in reports
    ]


def job(told: Told, config: DictConfig) -> None:
    """One job, called by Hydra. Adds its report; a failure is part of it. One that is to run waits in it."""
    about = HydraConfig.get()
    words: Any = OmegaConf.to_container(about.overrides.task, resolve=False)
    overrides = [canonical(word) for word in words if not _is_of_launcher(word)]
    report: Report = {"code": DONE, "state": "done", "message": "", "overrides": overrides, "label": ""}
    told.reports.append(report)
    try:
        learns = OmegaConf.select(config, "scheduler.name") in (*LEARNED, GYM_AGENT)
        varied = varied_budget(overrides, told.words, about.sweeper.get("params")) if learns else ()
        chosen = about.runtime.choices["scheduler"]
        telling = [word for word in overrides if not is_default(chosen, word, overrides, config)]
        name = label(chosen, telling, told.command, varied)
        # with --run and --resume the folder says which scheduler it is
        report["label"] = told.options.get("run") or told.options.get("resume") or name
        data = plain(config, overrides, name, told.cwd)
        launcher: Any = OmegaConf.to_container(config.launcher, resolve=True)
    except Exception as error:
        if told.options.get("debug"):
            traceback.print_exc()
        report["code"], report["message"] = explain(in_users_words(error))
        report["state"] = "failed"
    else:
        waits = {} if told.quiet else {"wait": False}  # one of many jobs is passed over while another process has it
        task = Task(len(told.reports) - 1, data, told.command, told.options | waits, told.cwd, "")
        report |= {"task": task, "launcher": launcher, "state": "waiting"}
        if told.phase == "plan":
            report |= attempt(plan_task, task)


def _is_of_launcher(word: str) -> bool:
    """Whether an override says how jobs run, not what they are."""
    return word.lstrip("+~").startswith(OF_LAUNCHER)


def plain(config: DictConfig, overrides: list[str], label: str, cwd: str) -> dict[str, Any]:
    """The composed config as plain data, with `label` and `overrides`, without what concerns only the launcher."""
    data: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    data.pop("launcher", None)
    if not isinstance(data.get("runs_dir"), str):
        raise InputError(f"runs_dir: a folder expected, got {data.get('runs_dir')!r}")
    return {**data, "runs_dir": str(Path(cwd, data["runs_dir"])), "label": label, "overrides": overrides}


def plan_table(plans: Sequence[dict[str, Any]]) -> str:
    """The jobs of a dry run, one line each, and what they will take; a training that jobs share counts once."""
    plans = _sharing(plans)
    said = [
        [clean(word) for word in p["overrides"] if p["state"] == REFUSED or not word.startswith(SHOWN)] for p in plans
    ]
    varied = ["  ".join(word for word in words if any(word not in other for other in said)) for words in said]
    head = ("job", "state", "time", "scheduler", "scenario", "load", "" if not any(varied) else "also")
    rows = [
        (str(p["job_id"]), p["state"], duration(p["estimate_s"]), p["label"], p["scenario"], str(p["load"]), words)
        for p, words in zip(plans, varied, strict=True)
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    counts = ", ".join(f"{n} {state}" for state, n in Counter(p["state"] for p in plans).items())
    rest = sum(p["estimate_s"] or 0.0 for p in plans if p["state"] != "done")
    total = f"{count(len(plans), 'job')}: {counts}; one at a time: {duration(rest)}"
    return "\n".join(line.rstrip() for line in [*lines, "", total])


def _sharing(plans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Plans in which a training that an earlier job does, or has done, takes no time."""
    trained: set[str] = set()
    changed = []
    for plan in plans:
        training = plan.get("training")
        shared = training in trained
        changed.append({**plan, "estimate_s": plan["estimate_s"] - plan["training_s"]} if shared else plan)
        if training is not None:
            trained.add(training)
    return changed


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """How many jobs ended how, and every failed one by name; what several have to say is said once, below them."""
    counts = Counter(report["state"] for report in reports)
    lines = [f"{count(len(reports), 'job')}: " + ", ".join(f"{counts[state]} {state}" for state in STATES)]
    failed: dict[str, list[str]] = {}
    for report in reports:
        if report["code"] != DONE:
            failed.setdefault(report["message"], []).append(_line(report))
    for message, names in failed.items():
        lines += [*names, *[indent(f"error: {message}", "  ")] * bool(message)]
    return "\n".join(lines)


def _jobs(command: str, words: list[str], options: dict[str, Any], phase: str, *, quiet: bool) -> list[Report]:
    """Let Hydra compose the jobs, and run them where their launcher says. Their reports in order."""
    if any(word.startswith("hydra/launcher") for word in words):
        raise InputError(
            "hydra/launcher: ddrl sends the jobs itself; launcher=NAME says how: serial, processes, ray, ..."
        )
    if not {"-m", "--multirun"}.isdisjoint(words):
        words = [left_to_the_jobs(word) for word in words]
    words = [_opened(word) for word in words]
    told = Told(command, options, phase, os.getcwd(), quiet, words)
    with tempfile.TemporaryDirectory(prefix="ddrl-") as folder:
        places = ["hydra.sweep.subdir=."] + [f"hydra.{mode}.dir={json.dumps(folder)}" for mode in ("run", "sweep")]
        _hydra_main(command, [*words, *places], partial(job, told))
    overload = _overload(told)
    if phase == "run":
        _run(told, overload)
    return told.reports


def _opened(word: str) -> str:
    """A key of an open mapping as one that Hydra adds where it is not there yet; any other word as it is."""
    return f"++{word}" if word.partition("=")[0].startswith(OPEN) else word


def _run(told: Told, overload: Overload) -> None:
    """Run the composed jobs, and then those that other processes worked on: waited for, and finished if need be."""
    with sweep_progress(len(told.reports), quiet=told.quiet) as progress:
        for number, report in enumerate(told.reports):
            if report["state"] == "failed":  # it could not be composed
                _ended(number, report, told, progress)
        _send([report for report in told.reports if report["state"] == "waiting"], told, progress, overload)
        claimed = [report for report in told.reports if report["state"] == "claimed"]
        for report in claimed:
            report["task"] = replace(report["task"], options=told.options)
        _send(claimed, told, progress, overload)


def _send(waiting: Sequence[Report], told: Told, progress: SweepProgress, overload: Overload) -> None:
    """Run jobs by their launcher, and complete their reports as they end."""
    if not waiting:
        return
    launcher = waiting[0]["launcher"]
    if any(report["launcher"] != launcher for report in waiting):
        raise InputError("launcher: must be the same for all jobs of a command")
    version = _code_version(launcher)
    for told_of in dispatch([replace(report["task"], code_version=version) for report in waiting], launcher):
        number = told_of["number"]
        if told_of["state"] == RUNNING:
            progress.running(number)
            continue
        report = told.reports[number]
        report |= {key: told_of[key] for key in ("code", "state", "message")}
        if told_of.get("said"):
            print(told_of["said"], end="", file=sys.stderr, flush=True)
        _ended(number, report, told, progress)
        overload.ended(report["task"], report["state"])


def _ended(number: int, report: Report, told: Told, progress: SweepProgress) -> None:
    """Name one of many jobs that has come to an end. What went wrong is told when all have."""
    progress.ended(number, report["state"])
    if not told.quiet:
        say(_line(report))


def _code_version(launcher: Mapping[str, Any]) -> str:
    """What processes elsewhere are compared with; jobs of this process need none."""
    if launcher.get("name") == SERIAL:
        return ""
    from ddrl_sched.jobs.records import code_version  # lazy: pyarrow comes with it

    return code_version()


def _overload(told: Told) -> Overload:
    """Notes on loads above 1: those that the config gives, and those of plans."""
    overload = Overload.of([report["task"] for report in told.reports if "task" in report])
    for report in told.reports:
        if "plan" in report:
            overload.found(report["plan"]["load"], report["task"])
    return overload


def _hydra_main(command: str, words: list[str], task: Any) -> None:
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
    if not report["code"] and (found := result_of_task(report["task"])):
        print(found)
    return report["code"]


def _line(report: dict[str, Any]) -> str:
    """How a job ended, and its name."""
    words = [report["state"], report["label"], *report["overrides"]]
    return "  ".join(clean(word) for word in words if word)
