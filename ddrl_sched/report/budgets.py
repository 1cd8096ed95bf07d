"""What the trainings behind a table took: CPU time, and the command of those that were done before."""

import math
import shlex
from collections.abc import Sequence

import pandas as pd

from ddrl_sched.config import clean
from ddrl_sched.display import duration
from ddrl_sched.jobs.schemas import JobRecord
from ddrl_sched.key_value import key_value

BUDGET_COLUMNS = ("trained_cpu_s", "trained_earlier")
OF_ONE_JOB = ("scheduler", "workload.load")  # words of a sweep that differ between its jobs


def budget_of(job: JobRecord) -> dict[str, object]:
    """BUDGET_COLUMNS of a job: CPU seconds of its training (evaluation included), and the command if it was earlier."""
    training = job["training"]
    seconds = job["cpu_s"] if training is None else training["cpu_s"]
    command = "" if training is None else training_command(training["overrides"])
    return {"trained_cpu_s": math.nan if seconds is None else float(seconds), "trained_earlier": command}


def training_command(overrides: Sequence[str]) -> str:
    """The command that trains again: that of the whole sweep where an experiment says what is in it."""
    words = [clean(word) for word in overrides]
    if any(key_value(word).key == "experiment" for word in words):
        words = [word for word in words if key_value(word).key not in OF_ONE_JOB]
    return shlex.join(["ddrl", "sweep", *words])


def budgets(df: pd.DataFrame) -> dict[str, str]:
    """{learned scheduler: "tuned/x 24 s"} of rows of evaluations, with the command of a training that was earlier.

    Of jobs that share a training the longest counts, for it did the training.
    """
    texts = {}
    for name, rows in df[df.learned.astype(bool)].groupby("scheduler"):
        seconds = float(rows.trained_cpu_s.max())
        time = "?" if math.isnan(seconds) else duration(seconds)
        earlier = ", ".join(sorted({*rows.trained_earlier} - {""}))
        texts[str(name)] = f"{name} {time}" + (f", earlier ({earlier})" if earlier else "")
    return texts
