"""Whether a scheduler keeps up with the tasks of a world: stable, backlogged or overloaded."""

import math
from typing import NamedTuple

import numpy as np

from ddrl_sched.report.statistics import Table as Rows
from ddrl_sched.report.statistics import units_of

STABLE, BACKLOGGED, OVERLOADED = "stable", "backlogged", "overloaded"
GROWTH = 1.5  # of queues: late over early. Queues that grow steadily have 7/3, those of a load of 1 sqrt(7/3) = 1.53
LEVEL = 0.05  # of the one-sided test


class State(NamedTuple):
    """The label of a row, the load that its scheduler causes, and by what factor its queues grow."""

    state: str
    caused_load: float  # work and overheads of all tasks over speed x horizon
    queue_growth: float  # mean queue of the last quarter over that of the second; NaN under published rules


def state_of(rows: Rows) -> State:
    """Of the rows of one scheduler in one world, columns of eval.parquet.

    Overloaded: it causes a load of 1 or more. Backlogged: queues of the last quarter of the horizon are longer than
    those of the second by more than GROWTH, and so over traces (one-sided paired t test at LEVEL). Stable: neither.
    """
    load = float(np.mean(rows["caused_load"]))
    _, unit, n_rows = units_of(np.asarray(rows["cluster"]), np.asarray(rows["trace"]))
    every = [np.bincount(unit, rows[name]) / n_rows for name in ("queue_early", "queue_late")]
    early, late = (queue[~np.isnan(every).any(axis=0)] for queue in every)
    growth = float(late.mean() / early.mean()) if early.sum() > 0 else math.nan
    if load >= 1:
        return State(OVERLOADED, load, growth)
    grows = growth > GROWTH and _greater(late - early)
    return State(BACKLOGGED if grows else STABLE, load, growth)


def _greater(differences: np.ndarray) -> bool:
    """Whether the mean of paired differences is significantly above 0; one alone says nothing."""
    n = len(differences)
    if n < 2 or not differences.mean() > 0:
        return False
    from scipy.special import stdtr  # lazy: only where queues are longer at all

    se = float(differences.std(ddof=1)) / math.sqrt(n)
    return se == 0 or float(stdtr(n - 1, -differences.mean() / se)) < LEVEL
