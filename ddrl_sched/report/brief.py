"""What a single job has found, in the few lines that the command line prints at its end."""

import json
import math
import os
import re
import shlex
from pathlib import Path

import pandas as pd

from ddrl_sched.config import clean
from ddrl_sched.report.load import read_folder
from ddrl_sched.report.sheets import unit_of
from ddrl_sched.report.statistics import delay_sums, mean_delay_s, task_mean
from ddrl_sched.run import records


def brief(folder: Path) -> str:
    """Result and place of a finished run folder. ValueError or OSError if it cannot be read."""
    found = read_folder(folder, curves=("delay_s",))
    place = clean(_from_here(folder))
    if "eval" in found:
        lines = [_evaluated(rows) for _, rows in found["eval"].groupby("rule", sort=False)]
        return "\n".join([*lines, f"results: {place}"])
    again = shlex.join(["ddrl", "eval", "--run", place, *_own_files(folder)])
    return "\n".join([_trained(found["curves"]), f"results: {place}", f"evaluate: {again}"])


def _own_files(folder: Path) -> list[str]:
    """What an evaluation must be given beside the folder, which alone may not make it read a file."""
    files = records.input_files(records.read_job(folder)["settings"])
    return [f"+{key}={_quoted(_from_here(Path(file)))}" for key, file in files.items()]


def _quoted(text: str) -> str:
    """As the value of an override: as it is, or in quotes."""
    return text if re.fullmatch(r"[\w./+-]+", text, re.ASCII) else json.dumps(text)


def _evaluated(rows: pd.DataFrame) -> str:
    mean, n_traces = mean_delay_s(delay_sums(rows)), len(rows[["cluster", "trace"]].drop_duplicates())
    scale, unit = unit_of(mean.value)
    interval = "" if math.isnan(mean.lo) else f" [{scale * mean.lo:.4g}, {scale * mean.hi:.4g}]"
    traces = f"{n_traces} trace" + "s" * (n_traces != 1)
    rule = "" if rows.rule.iloc[0] == "clean" else f" under the rule {rows.rule.iloc[0]}"
    late = f"late {100 * task_mean(rows, 'late_rate'):.3g} %"
    return f"mean delay {scale * mean.value:.4g} {unit}{interval} over {traces}, {late}{rule}"


def _trained(curves: pd.DataFrame) -> str:
    """An episode may hold no task (NaN): then the last one that did counts."""
    last = curves[curves.number == curves.number.max()]
    delay_s = curves.dropna(subset="value").groupby("seed").value.last()
    if delay_s.empty:
        return "no episode held a task"
    scale, unit = unit_of(delay_s.mean())
    which = "of each seed's last episode with a task" if last.value.isna().any() else "of the last episode"
    mean = f"{scale * delay_s.mean():.4g} {unit}"
    return f"mean delay {which} {mean} over {len(delay_s)} seed{'s' * (len(delay_s) != 1)}, while it explores"


def _from_here(folder: Path) -> str:
    """The path from the current folder if it lies below it."""
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
