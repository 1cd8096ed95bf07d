"""What a single job has found, in the few lines that the command line prints at its end."""

import math
import os
from pathlib import Path

import pandas as pd

from ddrl_sched.config import clean
from ddrl_sched.report.read import read_folder
from ddrl_sched.report.sheets import unit_of
from ddrl_sched.report.statistics import delay_sums, mean_delay_s, task_mean


def brief(folder: Path) -> str:
    """Result and place of a finished run folder. ValueError or OSError if it cannot be read."""
    tables = read_folder(folder, curves=("delay_s",)).tables
    found = {name: pd.DataFrame(table) for name, table in tables.items()}
    place = clean(_from_here(folder))
    if "eval" in found:
        lines = [_evaluated(rows) for _, rows in found["eval"].groupby("rule", sort=False)]
        return "\n".join([*lines, f"results: {place}"])
    return "\n".join([_trained(found["curves"]), f"results: {place}", f"evaluate: ddrl eval --run {place}"])


def _evaluated(rows: pd.DataFrame) -> str:
    mean, n_traces = mean_delay_s(delay_sums(rows)), len(rows[["cluster", "trace"]].drop_duplicates())
    scale, unit = unit_of(mean.value)
    interval = "" if math.isnan(mean.lo) else f" [{scale * mean.lo:.4g}, {scale * mean.hi:.4g}]"
    traces = f"{n_traces} trace" + "s" * (n_traces != 1)
    rule = "" if rows.rule.iloc[0] == "clean" else f" under the rule {rows.rule.iloc[0]}"
    late = f"late {100 * task_mean(rows, 'late_rate'):.3g} %"
    return f"mean delay {scale * mean.value:.4g} {unit}{interval} over {traces}, {late}{rule}"


def _trained(curves: pd.DataFrame) -> str:
    delay_s = curves.groupby("seed").value.last()
    scale, unit = unit_of(delay_s.mean())
    mean = f"{scale * delay_s.mean():.4g} {unit}"
    return (
        f"mean delay of the last episode {mean} over {len(delay_s)} seed{'s' * (len(delay_s) != 1)}, while it explores"
    )


def _from_here(folder: Path) -> str:
    """The path from the current folder if it lies below it."""
    return os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
