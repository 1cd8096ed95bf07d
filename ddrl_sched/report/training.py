"""How trainings ended: the delay at the last looks (run/validate.py), and whether it still changes.

A look is the geometric mean over loads and is free of exploration. Fitted change: for each seed a line through the log
of its looks in the last quarter of the updates, times the length of that quarter; the mean over seeds with Student's t.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ddrl_sched.config import InputError, clean
from ddrl_sched.report.load import load
from ddrl_sched.report.sheets import DRAW, Sheet
from ddrl_sched.report.statistics import Floats
from ddrl_sched.run import records

LAST = 0.25  # part of the updates that is fitted
SETTLED_PCT = 1.0  # a training has settled when its fitted change is smaller
COLUMNS = [
    "trained_on", "scheduler", "n_seeds", "updates", "tasks_seen", "looks", "validation_delay_s",
    "validation_delay_lo_s", "validation_delay_hi_s", "change_pct", "change_lo_pct", "change_hi_pct", "settled",
]  # fmt: skip


def main(paths: Sequence[Path | str], format: str, out: Path | str | None, strict: bool = False) -> int:
    """Print the table of the trainings of the run folders at or below `paths`; with `out`, write it there too.

    Returns and raises what report.tables.main does.
    """
    found = load(paths, curves=(records.LOOKS,))
    for path, reason in found.skipped:
        print(f"skipped: {path}: {reason}", file=sys.stderr)
    if found.curves.empty:
        some = f"no finished training with looks (train.validate_every) at or below {', '.join(map(clean, paths))}"
        raise InputError(some)
    rows = training_rows(found.curves)
    print(render(rows, format), end="")
    if out is not None:
        for form, ending in (("markdown", "md"), ("csv", "csv"), ("latex", "tex"), ("json", "json")):
            records.write_bytes(Path(out) / f"training.{ending}", render(rows, form).encode())
    return 3 if strict and found.skipped else 0


def training_rows(df: pd.DataFrame) -> pd.DataFrame:
    """One row per training (COLUMNS); of a scheduler's trainings on the same loads the newest. `df`: Loaded.curves."""
    rows = []
    for (trained_on, scheduler), group in df.sort_values("created").groupby(["trained_on", "scheduler"]):
        newest = group[group.training == group.training.iloc[-1]].drop_duplicates(["seed", "update"])
        rows.append({"trained_on": trained_on, "scheduler": scheduler, **_summary(newest)})
    return pd.DataFrame(rows, columns=COLUMNS)


def render(rows: pd.DataFrame, format: str) -> str:
    """The rows as "table", "markdown", "csv", "latex" or "json"."""
    if format == "csv":
        return str(rows.to_csv(index=False, lineterminator="\n"))
    if format == "json":
        plain = rows.astype(object).where(rows.notna(), None).to_dict("records")
        return json.dumps({"training": plain}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return "\n".join(DRAW[format](sheet) for sheet in _sheets(rows))


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    looks = rows.pivot(index="update", columns="seed", values="value").sort_index()
    log_s = np.log(looks.where((looks > 0) & np.isfinite(looks)).to_numpy())  # [looks, seeds]
    updates = looks.index.to_numpy(float)
    late = updates > (1 - LAST) * updates[-1]
    last, change = mean_and_interval(log_s[-1]), mean_and_interval(fitted_change(updates[late], log_s[late]))
    lo, hi = (100 * math.expm1(x) for x in change[1:])
    settled = "open"
    if math.isnan(lo):
        settled = "unknown"
    elif lo > -SETTLED_PCT and hi < SETTLED_PCT:
        settled = "yes"
    elif lo >= SETTLED_PCT or hi <= -SETTLED_PCT:
        settled = "no"
    return {
        "n_seeds": looks.shape[1],
        "updates": int(updates[-1]),
        "tasks_seen": round(rows.groupby("seed").tasks_seen.max().mean()),
        "looks": len(looks),
        **dict(zip(COLUMNS[6:9], np.exp(last).tolist(), strict=True)),
        "change_pct": 100 * math.expm1(change[0]),
        "change_lo_pct": lo,
        "change_hi_pct": hi,
        "settled": settled,
    }


def fitted_change(updates: Floats, log_s: Floats) -> Floats:
    """[seeds] change of log_s [looks, seeds] along its fitted line, over the last quarter of all updates [looks].

    NaN with fewer than three looks, or where a seed lacks one.
    """
    if len(updates) < 3:
        return np.full(log_s.shape[1], np.nan)
    centred = updates - updates.mean()
    slope: Floats = centred @ log_s / np.square(centred).sum()
    return slope * LAST * updates[-1]


def mean_and_interval(values: Floats) -> tuple[float, float, float]:
    """Mean over seeds and its 95 % interval by Student's t; NaN bounds for one seed, NaN where a value is."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return mean, math.nan, math.nan
    half = float(student.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half


def _sheets(rows: pd.DataFrame) -> list[Sheet]:
    header = ["scheduler", "seeds", "updates", "tasks seen", "looks", "delay at the last look, ms [95%]"]
    header += ["fitted change in the last quarter, % [95%]", f"below {SETTLED_PCT:g} %"]
    sheets = []
    for trained_on, group in rows.groupby("trained_on", sort=False):
        cells = [
            [
                row.scheduler,
                str(row.n_seeds),
                f"{row.updates:,}",
                f"{row.tasks_seen:,}",
                str(row.looks),
                _three([1e3 * getattr(row, name) for name in COLUMNS[6:9]], "{:,.4g}"),
                _three([getattr(row, name) for name in COLUMNS[9:12]], "{:+.1f}"),
                row.settled,
            ]
            for row in group.itertuples()
        ]
        sheets.append(Sheet(f"Trained on {trained_on}", header, cells))
    return sheets


def _three(values: Sequence[float], form: str) -> str:
    value, lo, hi = values
    if not math.isfinite(value):
        return "-"
    return form.format(value) + (f" [{form.format(lo)}, {form.format(hi)}]" if math.isfinite(lo) else "")
