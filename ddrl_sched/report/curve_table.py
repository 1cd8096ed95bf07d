"""All of curves.parquet, as it is drawn: one curve per metric."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import LARGEST_COUNT, MAX_SEEDS, MAX_TABLE_BYTES, Columns, n_rows, of_metrics, parse_table
from ddrl_sched.jobs.schemas import CURVES_SCHEMA
from ddrl_sched.report.terminal_plot import Curve

FILE = "curves.parquet"


def read_curves(folder: Path, manifest: dict[str, str]) -> Columns:
    """The checked table of a finished run. ValueError, OSError say why it cannot be read."""
    table = parse_table(records.read_verified(folder, FILE, manifest, MAX_TABLE_BYTES), CURVES_SCHEMA, FILE)
    for column in ("seed", "tasks_seen", "update"):
        if ((table[column] < 0) | (table[column] > LARGEST_COUNT)).any():
            raise ValueError(f"{FILE}: {column} must lie in 0 .. 10^12")
    if len(np.unique(table["seed"])) > MAX_SEEDS:
        raise ValueError(f"{FILE}: more than {MAX_SEEDS:,} seeds")
    return table


def curve_of(table: Columns, metric: str) -> Curve | None:
    """The curve of a metric over simulated tasks; None where there is none, or seeds differ in length."""
    rows = of_metrics(table, (metric,))
    seeds, n_of = np.unique(rows["seed"], return_counts=True)
    if not n_rows(rows) or len(set(n_of.tolist())) != 1:
        return None
    order = np.argsort(rows["seed"], kind="stable")
    shape = len(seeds), int(n_of[0])
    x = rows["tasks_seen"][order].reshape(shape).mean(0)
    value: NDArray[np.float64] = rows["value"][order].reshape(shape)
    return Curve(np.maximum.accumulate(x), value)
