"""`ddrl show RUN`: one run folder told: its state, results, last training curve, settings and files.

The folder may be a stranger's: it is read as data, whatever of it is printed has lost its control characters, and
nothing is written.
"""

import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ddrl_sched.config import InputError, clean
from ddrl_sched.display import duration, width_of
from ddrl_sched.jobs import records
from ddrl_sched.jobs.lock import is_locked
from ddrl_sched.jobs.schemas import JobRecord
from ddrl_sched.report.curve_table import FILE as CURVES
from ddrl_sched.report.curve_table import curve_of, read_curves
from ddrl_sched.report.plain_text import PAGE, aligned, print_lines, wrapped
from ddrl_sched.report.settings_diff import FlatSettings, flatten
from ddrl_sched.report.stated_settings import stated
from ddrl_sched.report.summary import summary
from ddrl_sched.report.terminal_plot import draw
from ddrl_sched.run.metrics import VALIDATION_METRIC

CURVE_OF = {  # metrics of which the first that a training has is drawn: title, unit
    VALIDATION_METRIC: ("validation delay of the greedy policy", "s"),
    "delay_s": ("mean delay of training episodes, while it explores", "s"),
    "greedy_return": ("mean return of the greedy policy", "steps"),
}
STATE_FILE = f"{records.RESUME}/state.pt"
MAX_LISTED = 40  # files


class Run(NamedTuple):
    """A run folder that can be told of."""

    folder: Path
    job: JobRecord
    manifest: dict[str, str]  # empty unless the run is finished and whole
    why_not: str  # why it does not count as finished; ""


def main(folder: Path) -> int:
    """Print what is known of a run folder. InputError if there is none."""
    print_lines(told(open_run(folder), width_of(sys.stdout) or PAGE))
    return 0


def open_run(folder: Path) -> Run:
    """The run in a folder, or in the only run folder inside it. InputError naming it where there is none."""
    try:
        inside = sorted(file.parent for file in folder.glob("*/job.json"))
        folder = inside[0] if len(inside) == 1 and not (folder / "job.json").exists() else records.run_folder(folder)
        job = records.read_job(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{clean(folder)}: {clean(error)}") from None
    try:
        job, manifest = records.read_finished(folder)
    except (OSError, ValueError) as error:
        return Run(folder, job, {}, clean(error))
    return Run(folder, job, manifest, "")


def told(run: Run, width: int) -> Iterator[str]:
    """Lines of at most about `width` characters."""
    yield from _head(run, width)
    yield from _results(run, width)
    yield from _curve(run, width)
    yield from _settings(run.job, width)
    yield from _files(run, width)


def _head(run: Run, width: int) -> Iterator[str]:
    job = run.job
    began = datetime.fromisoformat(job["created"])
    cpu_s, seconds = job["cpu_s"], job["duration_s"]
    took = "" if seconds is None else f", took {duration(seconds)}"
    took += "" if cpu_s is None else f" ({duration(cpu_s)} of CPU time)"
    seeds = f"{len(job['seeds'])} seed{'s' * (len(job['seeds']) != 1)}"
    python = job["packages"].get("python")
    rows = [
        ["run", clean(run.folder)],
        ["status", f"{_status(run)}{took}"],
        ["scheduler", f"{clean(job['scheduler'])}, {'learned' if job['learned'] else 'a rule'}, {seeds}"],
        ["scenario", clean(job["scenario_hash"])],
        ["begun", f"{began:%Y-%m-%d %H:%M} {began.tzname() or ''}".rstrip()],
        ["code", clean(job["code_version"])[:16] + (f", Python {clean(python)}" if python else "")],
        ["command", clean(" ".join(job["overrides"])) or "(no words)"],
    ]
    yield from aligned(rows, width)


def _status(run: Run) -> str:
    """ "done", "failed: ...", "running", "interrupted ...", or why a folder that says done is not."""
    status = run.job["status"]
    if not run.why_not:
        return "done"
    if status == "failed":
        return f"failed: {clean(run.job['error'] or 'no reason given')}; --retry-failed with the same command runs it"
    if status == "done":
        return f"not usable: {run.why_not}"
    if is_locked(run.folder):
        return f"running{_saved(run.folder)}"
    return f"interrupted{_saved(run.folder)}; the same command goes on with it"


def _saved(folder: Path) -> str:
    """How long ago the state of its training was saved."""
    try:
        ago_s = time.time() - os.stat(folder / STATE_FILE, follow_symlinks=False).st_mtime
    except OSError:
        return ""
    return f", state of the training saved {duration(max(ago_s, 0.0))} ago"


def _results(run: Run, width: int) -> Iterator[str]:
    """The lines that the command printed at its end, but for the place, which is known."""
    if not run.manifest:
        return
    try:
        lines = summary(run.folder).splitlines()
    except (OSError, ValueError, KeyError) as error:
        lines = [f"no results: {clean(error)}"]
    yield from ["", "RESULTS"]
    for line in lines:
        if not line.startswith("results: "):
            yield from wrapped(line, width, "  ")


def _curve(run: Run, width: int) -> Iterator[str]:
    if CURVES not in run.manifest:
        return
    try:
        table = read_curves(run.folder, run.manifest)
    except (OSError, ValueError) as error:
        yield from ["", f"no curve: {clean(error)}"]
        return
    for metric, (title, unit) in CURVE_OF.items():
        curve = curve_of(table, metric)
        if curve is not None and (lines := draw(curve, title, unit, min(width, PAGE))):
            yield from ["", "TRAINING", *lines]
            steps = "steps" if metric == "greedy_return" else "simulated tasks"
            yield from wrapped(f"over {steps} per seed; mean of {len(curve.value)} seeds and their span", width)
            return


def _settings(job: JobRecord, width: int) -> Iterator[str]:
    """Those that differ from the yaml files first, then all others, a paragraph for each group."""
    own = flatten(job["settings"])
    default = flatten(stated(job["settings"], job["scheduler"]))
    changed = [key for key in own if key in default and own[key] != default[key]]
    if changed:
        yield from ["", "SETTINGS that differ from the yaml files that they name"]
        yield from aligned([[clean(key), clean(own[key]), f"(yaml: {clean(default[key])})"] for key in changed], width)
    yield from ["", "SETTINGS" if not changed else "OTHER SETTINGS"]
    for group, words in _paragraphs({key: own[key] for key in own if key not in changed}).items():
        yield from wrapped(f"{group}: {', '.join(words)}", width, "  ")


def _paragraphs(settings: FlatSettings) -> dict[str, list[str]]:
    """{group: ["key value", ...]}; keys that stand alone are a group of their own."""
    groups: dict[str, list[str]] = {}
    for key, value in settings.items():
        group, _, rest = clean(key).partition(".")
        groups.setdefault(group if rest else "job", []).append(f"{rest or group} {clean(value)}")
    return groups


def _files(run: Run, width: int) -> Iterator[str]:
    yield from ["", "FILES"]
    rows = []
    for file in sorted(run.folder.iterdir()):
        size = f"{file.lstat().st_size:,}" if file.is_file() and not file.is_symlink() else "-"
        kept = "sha256 fits" if file.name in run.manifest else ""
        rows.append([clean(file.name) + "/" * (file.is_dir() and not file.is_symlink()), size, kept])
    yield from aligned(rows[:MAX_LISTED], width, right=(1,))
    if len(rows) > MAX_LISTED:
        yield f"and {len(rows) - MAX_LISTED} more"
