"""The end of trainings: the validation delay (run/validation.py) and whether it still changes.

A look is one validation: the geometric mean over loads, without exploration. Fitted change: for each seed a line
through the log of its looks in the last quarter, times the length of that quarter; the mean over seeds with Student's
t. A seed that lacks one of them (a trace without a task) is left out.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ddrl_sched.report.load import Loaded, why_nothing
from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.statistics import Floats
from ddrl_sched.report.table import Cell, Column, Row, Table, of_estimate

FIT_FRACTION = 0.25  # part of the looks that is fitted
MIN_LOOKS = 9  # looks, so that three are fitted
SETTLED_PCT = 1.0  # a training has settled when its fitted change is smaller
DELAY = ["validation_delay_s", "validation_delay_lo_s", "validation_delay_hi_s"]  # at the last look
CHANGE = ["change_pct", "change_lo_pct", "change_hi_pct"]
COLUMNS = [
    "trained_on", "scheduler", "n_seeds", "updates", "tasks_seen", "looks", *DELAY, *CHANGE, "settled",
]  # fmt: skip


def why_no_training(found: Loaded) -> str:
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


def training_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table per world of training_rows."""
    for trained_on, group in rows.groupby("trained_on", sort=False):
        columns = _columns(*unit_of(group[DELAY[0]].median()))
        cells = tuple(map(_table_row, group.to_dict("records")))
        yield Table("training", f"Trained on {trained_on}", columns, cells, about={"trained_on": trained_on})


def _columns(scale: float, unit: str) -> tuple[Column, ...]:
    return (
        Column("scheduler", "scheduler", "text"),
        Column("n_seeds", "seeds", "count"),
        Column("updates", "updates", "count"),
        Column("tasks_seen", "tasks per seed", "count"),
        Column("looks", "looks", "count"),
        Column(DELAY[0], "delay at the last look", unit=unit, scale=scale, digits=4, interval=True),
        Column(CHANGE[0], "fitted change in the last quarter", "change", "%", digits=1, interval=True),
        Column("settled", f"below {SETTLED_PCT:g} %", "word"),
    )


def _table_row(record: Mapping[str, Any]) -> Row:
    counts = [Cell(record[name]) for name in ("n_seeds", "updates", "tasks_seen", "looks")]
    estimates = [of_estimate([record[name] for name in names]) for names in (DELAY, CHANGE)]
    return Row((Cell(record["scheduler"]), *counts, *estimates, Cell(record["settled"])))
