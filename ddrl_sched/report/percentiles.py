"""Percentiles of the pooled tasks of a scheduler, from the histograms of delays.parquet, with intervals.

Interval (Woodruff 1952): the share of tasks beyond the percentile is a ratio of sums over traces, so it has an interval
over clusters and seeds as a mean delay has (its logarithm -+ t se, linearised); the ends of that are read off as
percentiles of the same histogram.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from ddrl_sched.report.statistics import DelaySums, Estimate, Floats, delay_sums, linearised, t_975
from ddrl_sched.report.statistics import Table as Rows
from ddrl_sched.run.histogram import GAMMA, quantile_s

Ints = np.ndarray
WITHIN = 0.01  # relative half width of the interval that a percentile should have
Z = 1.96


@dataclass(frozen=True)
class Percentile:
    """A percentile of pooled tasks, s. `tasks_needed`: for WITHIN, if tasks were independent."""

    estimate: Estimate
    n_tasks: int
    tasks_needed: float

    @property
    def rough(self) -> bool:
        """Whether it rests on fewer tasks than it needs."""
        return self.n_tasks < self.tasks_needed


@dataclass(frozen=True)
class Histograms:
    """Histograms of rows. `counts` [N, B]: tasks of row n in bin b; bins ascend."""

    bins: Ints  # [B]
    counts: Floats

    @cached_property
    def total(self) -> Floats:
        """[B] of all rows."""
        total: Floats = self.counts.sum(axis=0)
        return total

    def quantile_s(self, q: float) -> float:
        """Of all tasks together."""
        return float(quantile_s(self.bins, self.total, q))

    def beyond(self, delay_s: float) -> Floats:
        """[N] tasks with more delay; within a bin they count as evenly spread on the logarithmic scale."""
        place = self.bins - math.log(delay_s) / math.log(GAMMA)  # of a bin's upper end above the delay, in bins
        tasks: Floats = self.counts @ np.clip(place, 0.0, 1.0)
        return tasks


class DelayTable:
    """delays.parquet of all rows of a report, found by the labels of rows."""

    def __init__(self, delays: pd.DataFrame) -> None:
        columns = (delays[name].to_numpy(np.int64) for name in ("row", "bin", "count"))
        self._row, self._bin, self._count = columns
        if np.any(np.diff(self._row) < 0):
            order = np.argsort(self._row, kind="stable")
            self._row, self._bin, self._count = self._row[order], self._bin[order], self._count[order]

    def of(self, labels: Ints) -> Histograms | None:
        """Of the rows with these labels, in their order; None where one has no histogram."""
        begins, ends = (np.searchsorted(self._row, labels, side) for side in ("left", "right"))
        if not len(labels) or (begins == ends).any():
            return None
        at = np.concatenate([np.arange(*span) for span in zip(begins, ends, strict=True)])
        bins, place = np.unique(self._bin[at], return_inverse=True)
        counts = np.zeros((len(labels), len(bins)))
        np.add.at(counts, (np.repeat(np.arange(len(labels)), ends - begins), place.reshape(-1)), self._count[at])
        return Histograms(bins, counts)


def pooled_percentile(rows: Rows, found: Histograms, q: float) -> Percentile:
    """The percentile (q in 0 .. 1) of all tasks of the rows of one scheduler in one scenario."""
    value = found.quantile_s(q)
    n_tasks = int(found.counts.sum())
    lo, hi = _bounds(_tail_sums(rows, found, value), found, q)
    return Percentile(Estimate(value, lo, hi), n_tasks, tasks_needed(found, q))


def tasks_needed(found: Histograms, q: float) -> float:
    """Independent tasks of which a percentile is within WITHIN in 95 % of cases: q (1 - q) (z / (WITHIN x f(x)))^2.

    x f(x), the density on the logarithmic scale, is the slope between the percentiles half of the tail away. With
    exponential delays that is 205,000 for p99 within 1 %.
    """
    half = (1 - q) / 2
    width = math.log(found.quantile_s(q + half) / found.quantile_s(q - half))
    return q * (1 - q) * (Z * width / (WITHIN * 2 * half)) ** 2


def _tail_sums(rows: Rows, found: Histograms, delay_s: float) -> DelaySums:
    """DelaySums whose mean is the share of tasks beyond a delay."""
    n_tasks = found.counts.sum(axis=1)
    columns = {name: np.asarray(rows[name]) for name in ("seed", "cluster", "trace", "scenario_hash", "scheduler")}
    return delay_sums(columns | {"n_tasks": n_tasks, "mean_delay_s": found.beyond(delay_s) / n_tasks})


def _bounds(tail: DelaySums, found: Histograms, q: float) -> tuple[float, float]:
    if not tail.delay_s.sum() > 0:
        return math.nan, math.nan
    se, dof = linearised(tail)
    if math.isnan(se):
        return math.nan, math.nan
    factor = math.exp(min(t_975(dof) * se, 50.0)) if se > 0 else 1.0
    return found.quantile_s(max(0.0, 1 - (1 - q) * factor)), found.quantile_s(1 - (1 - q) / factor)
