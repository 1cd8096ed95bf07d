"""The end of trainings: the validation delay (run/validation.py) and whether it still changes.

A look is one validation: the geometric mean over loads, without exploration. Fitted change: for each seed a line
through the log of its looks in the last quarter, times the length of that quarter; the mean over seeds with Student's
t. A seed that lacks one of them (a trace without a task) is left out.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ddrl_sched.config import InputError, clean
from ddrl_sched.report.load import Loaded, load, print_notes, why_nothing
from ddrl_sched.report.sheets import Sheet, number, terminal_width, unit_of, with_interval
from ddrl_sched.report.statistics import Floats
from ddrl_sched.report.tables import publish
from ddrl_sched.run.metrics import VALIDATION_METRIC

FIT_FRACTION = 0.25  # part of the looks that is fitted
MIN_LOOKS = 9  # looks, so that three are fitted
SETTLED_PCT = 1.0  # a training has settled when its fitted change is smaller
DELAY = ["validation_delay_s", "validation_delay_lo_s", "validation_delay_hi_s"]  # at the last look
CHANGE = ["change_pct", "change_lo_pct", "change_hi_pct"]
COLUMNS = [
    "trained_on", "scheduler", "n_seeds", "updates", "tasks_seen", "looks", *DELAY, *CHANGE, "settled",
]  # fmt: skip


def main(
    paths: Sequence[Path | str], format: str, out: Path | str | None, strict: bool = False, *, wide: bool = False
) -> int:
    """Print the table of the trainings of the run folders at or below `paths`; with `out`, write it there too.

    Returns and raises what report.tables.main does.
    """
    found = load(paths, curves=(VALIDATION_METRIC,), evaluations=False)
    rows = training_rows(found.curves, found.notes) if len(found.curves) else pd.DataFrame()
    print_notes(found)
    if rows.empty:
        raise InputError(
            f"--training: nothing to show at or below {', '.join(map(clean, paths))}: {_why_nothing(found)}"
        )
    publish(rows, "training", _sheets, format, out, width=terminal_width(wide))
    return 3 if strict and found.skipped else 0


def _why_nothing(found: Loaded) -> str:
    """Why there is no row, and what to do."""
    if not found.n_read:
        return why_nothing(found)
    if not found.n_learned:
        return "no run has trained (rules do not learn); ddrl train, or ddrl sweep with a learned scheduler, trains"
    return (
        "the trainings never looked at validation traces (CartPole has none); with train.validate_every=N they look "
        "every N episodes (train=default does, train=fast and train=quick do not)"
    )


def training_rows(df: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """One row per scheduler and settings of training (COLUMNS), of several such trainings the newest, which is noted.

    `df`: Loaded.curves.
    """
    rows = []
    df = df.sort_values(["created", "folder"], kind="stable")
    for (trained_on, scheduler, _), group in df.groupby(["trained_on", "scheduler", "budget"]):
        newest = group[group.training == group.training.iloc[-1]]
        for folder in group.folder[group.training != group.training.iloc[-1]].unique():
            notes.append(f"{folder}: {scheduler} left out: the newer training in {newest.folder.iloc[-1]} counts")
        one = newest[newest.folder == newest.folder.iloc[-1]]  # others are copies of it
        row = _summary(one)
        if row["looks"] < MIN_LOOKS:
            text = f"a fitted change needs {MIN_LOOKS}"
            notes.append(f"{scheduler}: {row['looks']} looks in {one.folder.iloc[0]}, {text}")
        elif row["n_seeds"] < 2:
            notes.append(f"{scheduler}: {row['n_seeds']} seeds in {one.folder.iloc[0]}, an interval needs two")
        rows.append({"trained_on": trained_on, "scheduler": scheduler, **row})
    return pd.DataFrame(rows, columns=COLUMNS)


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    log_s = np.log(rows.pivot(index="number", columns="seed", values="value").to_numpy())  # [looks, seeds]
    late = log_s[len(log_s) - math.ceil(FIT_FRACTION * len(log_s)) :]
    late = late[:, ~np.isnan(late).any(0)]
    last, change = mean_and_interval(late[-1]), mean_and_interval(fitted_change(late))
    with np.errstate(over="ignore"):
        delay_s, change_pct = np.exp(last), 100 * np.expm1(change)
    return {
        "n_seeds": late.shape[1],
        "updates": int(rows["update"].max()),
        "tasks_seen": round(rows.groupby("seed").tasks_seen.max().mean()),
        "looks": len(log_s),
        **dict(zip(DELAY, delay_s.tolist(), strict=True)),
        **dict(zip(CHANGE, change_pct.tolist(), strict=True)),
        "settled": _settled(*change_pct[1:]),
    }


def _settled(lo: float, hi: float) -> str:
    """Whether all of an interval lies within the limit ("yes"), beyond it on one side ("no"), or neither ("open")."""
    if math.isnan(lo):
        return "unknown"
    if lo >= SETTLED_PCT or hi <= -SETTLED_PCT:
        return "no"
    return "yes" if lo > -SETTLED_PCT and hi < SETTLED_PCT else "open"


def fitted_change(log_s: Floats) -> Floats:
    """[seeds] change along the line fitted to log_s [looks, seeds], over as many looks; NaN with fewer than three."""
    n = len(log_s)
    if n < 3:
        return np.full(log_s.shape[1], np.nan)
    centred = np.arange(n) - (n - 1) / 2
    change: Floats = n * (centred @ log_s) / np.square(centred).sum()
    return change


def mean_and_interval(values: Floats) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t; NaN bounds for one seed, all NaN for none."""
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    if n < 2:
        return mean, math.nan, math.nan
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half


def _sheets(rows: pd.DataFrame) -> list[Sheet]:
    sheets = []
    for trained_on, group in rows.groupby("trained_on", sort=False):
        scale, unit = unit_of(group[DELAY[0]].median())
        header = ["scheduler", "seeds", "updates", "tasks per seed", "looks", f"delay at the last look, {unit} [95%]"]
        header += ["fitted change in the last quarter, % [95%]", f"below {SETTLED_PCT:g} %"]
        cells = [
            [
                row.scheduler,
                str(row.n_seeds),
                f"{row.updates:,}",
                f"{row.tasks_seen:,}",
                str(row.looks),
                with_interval([scale * getattr(row, name) for name in DELAY], partial(number, digits=4)),
                with_interval([getattr(row, name) for name in CHANGE], "{:+.1f}".format),
                row.settled,
            ]
            for row in group.itertuples()
        ]
        sheets.append(Sheet(f"Trained on {trained_on}", header, cells))
    return sheets
