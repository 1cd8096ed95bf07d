"""The result of one job, in the few lines that the command line prints at its end."""

import json
import math
import os
import re
import shlex
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ddrl_sched.config import clean
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import Columns
from ddrl_sched.report.capacity import capacity, late_counts
from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.read import Wanted, read_folder
from ddrl_sched.report.statistics import delay_sums, mean_delay_s, task_mean
from ddrl_sched.run.inputs import input_files


def summary(folder: Path) -> str:
    """Result and place of a finished run folder. ValueError or OSError if it cannot be read."""
    tables = read_folder(folder, Wanted(curves=("delay_s",))).tables
    place = clean(_from_here(folder))
    if "eval" in tables:
        rules = dict.fromkeys(tables["eval"]["rule"].tolist())
        lines = [_evaluated(_where(tables["eval"], tables["eval"]["rule"] == rule)) for rule in rules]
        return "\n".join([*lines, f"results: {place}"])
    if "capacity" in tables:
        return "\n".join([_carried(tables["capacity"]), f"results: {place}"])
    if "returns" in tables:
        return "\n".join([_returned(tables["returns"]), f"results: {place}"])
    again = shlex.join(["ddrl", "eval", "--run", place, *_own_files(folder)])
    return "\n".join([_trained(tables["curves"]), f"results: {place}", f"evaluate: {again}"])


def _where(table: Columns, wanted: npt.NDArray[np.bool_]) -> Columns:
    return {name: column[wanted] for name, column in table.items()}


def _own_files(folder: Path) -> list[str]:
    """Overrides that an evaluation needs beside the folder, for a folder alone may not make it read a file."""
    files = input_files(records.read_job(folder)["settings"])
    return [f"+{key}={_quoted(_from_here(Path(file)))}" for key, file in files.items()]


def _quoted(text: str) -> str:
    """As the value of an override: as it is, or in quotes."""
    return text if re.fullmatch(r"[\w./+-]+", text, re.ASCII) else json.dumps(text)


def _evaluated(rows: Columns) -> str:
    mean, n_traces = mean_delay_s(delay_sums(rows)), len({*zip(rows["cluster"], rows["trace"], strict=True)})
    scale, unit = unit_of(mean.value)
    interval = "" if math.isnan(mean.lo) else f" [{scale * mean.lo:.4g}, {scale * mean.hi:.4g}]"
    traces = f"{n_traces} trace" + "s" * (n_traces != 1)
    rule = "" if rows["rule"][0] == "clean" else f" under the rule {rows['rule'][0]}"
    late = f"late {100 * task_mean(rows, 'late_rate'):.3g} %"
    return f"mean delay {scale * mean.value:.4g} {unit}{interval} over {traces}, {late}{rule}"


def _carried(rows: Columns) -> str:
    """The highest load with few enough tasks late."""
    counts = late_counts(pd.DataFrame(rows))
    found = capacity(counts)
    value, lo, hi = found.estimate.value, found.estimate.lo, found.estimate.hi
    interval = "" if math.isnan(lo) else f" [{lo:.3g}, {hi:.3g}]"
    load = f"{found.outside} {value:g}" if found.outside else f"{value:.3g}{interval}"
    traces = f"{len(counts.trace)} trace" + "s" * (len(counts.trace) != 1)
    return f"highest load with at most {100 * counts.at_most:g} % of tasks late: {load} over {traces}"


def _returned(rows: Columns) -> str:
    """CartPole: the greedy policies after the last steps."""
    steps = rows["steps"].max()
    greedy = rows["final_greedy"][rows["steps"] == steps]
    seeds = f"{len(greedy)} seed{'s' * (len(greedy) != 1)}"
    return f"mean greedy return {greedy.mean():.4g} over {seeds} after {steps:,} steps"


def _trained(curves: Columns) -> str:
    """Mean delay of the last episode; where it held no task (NaN), of the last that did."""
    missing = np.isnan(curves["value"])
    delays_s = dict(zip(curves["seed"][~missing].tolist(), curves["value"][~missing].tolist(), strict=True))
    if not delays_s:
        return "no episode held a task"
    mean_s = sum(delays_s.values()) / len(delays_s)
    scale, unit = unit_of(mean_s)
    late = missing[curves["number"] == curves["number"].max()].any()
    which = "of each seed's last episode with a task" if late else "of the last episode"
    seeds = f"{len(delays_s)} seed{'s' * (len(delays_s) != 1)}"
    return f"mean delay {which} {scale * mean_s:.4g} {unit} over {seeds}, while it explores"


def _from_here(folder: Path) -> str:
    """The path from the current folder if it lies below it."""
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
