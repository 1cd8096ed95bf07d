"""CartPole-v1: returns of the agents after each budget of steps, and what the published study claims beside them.

Intervals: 10,000 times seeds are drawn, jointly for both sides of a comparison (n - 1 of n, each counting n / (n - 1)
times: see statistics.py); the 2.5 and 97.5 % quantiles. Returns are bounded, so no normal law is assumed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from ddrl_sched.report.statistics import N_RESAMPLES, Estimate, Floats
from ddrl_sched.report.table import Cell, Column, Row, Table, of_estimate
from ddrl_sched.seeding import stream

MEASURES = {"episode_mean": "mean return over training, per episode", "step_mean": "the same, step-weighted",
            "final_greedy": "final greedy return"}  # fmt: skip
RETURN_COLUMNS = (
    Column("scheduler", "scheduler", "text"),
    *(Column(measure, text, "count", interval=True) for measure, text in MEASURES.items()),
    Column("solved", "solved", "word"),
    Column("steps_to_solve", "median steps to solve", "count"),
)
GAIN_COLUMNS = (
    Column("scheduler", "scheduler", "text"),
    Column("steps", "steps", "count"),
    Column("claimed_pct", "claimed", "change", "%", digits=2),
    *(
        Column(f"{measure}_gain_pct", f"gain in {text}", "change", "%", digits=1, interval=True)
        for measure, text in MEASURES.items()
    ),
)
KEY = ["scenario", "scenario_hash", "steps"]  # name of the environment, of which no two have one


def return_rows(df: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario, budget and agent: every measure with its interval, seeds that solved it, and when.

    `df` is Loaded.returns. `steps_to_solve`: median over all seeds, infinite where half of them never did.
    """
    rows = []
    for (*key, name), group in df.groupby([*KEY, "scheduler"]):
        row = {**dict(zip(KEY, key, strict=True)), "scheduler": name, "n_seeds": len(group)}
        for measure in MEASURES:
            row |= _with_bounds(measure, mean_of(group[measure].to_numpy()))
        solved = group.steps_to_solve
        row |= {"n_solved": int(solved.notna().sum()), "steps_to_solve": float(solved.fillna(math.inf).median())}
        rows.append(row)
    return pd.DataFrame(rows)


def gain_rows(df: pd.DataFrame, baselines: Sequence[str]) -> pd.DataFrame:
    """One row per scenario, budget, agent and baseline: the gain of each measure in percent, beside what was claimed.

    Without `baselines` those of published claims: methods of one family of settings (scheduler.published_gain_pct).
    """
    rows = []
    for key, group in df.groupby(KEY):
        by_name = {str(name): rows.set_index("seed") for name, rows in group.groupby("scheduler")}
        for name, baseline in _pairs(by_name, baselines):
            one, other = by_name[name].align(by_name[baseline], join="inner", axis=0)
            row = {**dict(zip(KEY, key, strict=True)), "scheduler": name, "baseline": baseline}
            row |= {"n_seeds": len(one), "claimed_pct": _claimed_gain_pct(by_name[name], by_name[baseline])}
            for measure in MEASURES:
                row |= _with_bounds(f"{measure}_gain_pct", gain_pct(one[measure].to_numpy(), other[measure].to_numpy()))
            rows.append(row)
    return pd.DataFrame(rows)


def return_tables(rows: pd.DataFrame, gains: pd.DataFrame) -> Iterator[Table]:
    """Tables of `return_rows` and `gain_rows`."""
    for (scenario, hash_, steps), group in rows.groupby(KEY) if len(rows) else ():
        title = f"{scenario} after {steps:,} steps, {group.n_seeds.max()} seeds"
        best_first = group.sort_values("step_mean", ascending=False).to_dict("records")
        about = {"scenario": scenario, "scenario_hash": hash_, "steps": steps}
        yield Table("returns", title, RETURN_COLUMNS, tuple(map(_return_row, best_first)), about=about)
    for scenario, some in gains.groupby("scenario") if len(gains) else ():
        title = f"{scenario}: gains, claimed and measured (seeds resampled in pairs)"
        sorted_ = some.sort_values(["scheduler", "baseline", "steps"]).to_dict("records")
        yield Table("return_gains", title, GAIN_COLUMNS, tuple(map(_gain_row, sorted_)), about={"scenario": scenario})


def _return_row(record: Mapping[str, Any]) -> Row:
    measures = [of_estimate([record[name] for name in _columns(measure)]) for measure in MEASURES]
    solved = Cell(f"{record['n_solved']} of {record['n_seeds']}")
    return Row((Cell(record["scheduler"]), *measures, solved, Cell(record["steps_to_solve"])))


def _gain_row(record: Mapping[str, Any]) -> Row:
    measures = [of_estimate([record[name] for name in _columns(f"{measure}_gain_pct")]) for measure in MEASURES]
    pair = Cell(f"{record['scheduler']} over {record['baseline']}")
    return Row((pair, Cell(record["steps"]), Cell(record["claimed_pct"]), *measures))


def mean_of(values: Floats) -> Estimate:
    """Mean over seeds with its interval; NaN bounds for one seed."""
    return _estimate(float(values.mean()), _resampled_means(values))


def gain_pct(values: Floats, baseline: Floats) -> Estimate:
    """100 (mean / mean of the baseline - 1) over the same seeds in the same order."""
    point = 100 * (values.mean() / baseline.mean() - 1)
    return _estimate(float(point), 100 * (_resampled_means(values) / _resampled_means(baseline) - 1))


def _resampled_means(values: Floats) -> Floats:
    """[resamples]; equal numbers of seeds give equal draws."""
    if len(values) < 2:
        return np.full(N_RESAMPLES, np.nan)
    means: Floats = _counts(len(values)) @ values / (len(values) - 1)
    return means


@lru_cache(maxsize=4)
def _counts(n: int) -> Floats:
    """[resamples, n] how often each seed is drawn."""
    drawn = stream(0, "report", "returns").multinomial(n - 1, np.full(n, 1 / n), size=N_RESAMPLES)
    return drawn.astype(np.float64)


def _estimate(value: float, resampled: Floats) -> Estimate:
    lo, hi = np.quantile(resampled, [0.025, 0.975]).tolist()
    return Estimate(value, lo, hi)


def _pairs(by_name: Mapping[str, pd.DataFrame], baselines: Sequence[str]) -> Iterator[tuple[str, str]]:
    if baselines:
        yield from ((name, base) for base in baselines if base in by_name for name in by_name if name != base)
        return
    for name, rows in by_name.items():
        for base, others in by_name.items():
            if (
                name != base
                and _shared_value(rows, "family") == _shared_value(others, "family")
                and math.isfinite(_claimed_gain_pct(rows, others))
            ):
                yield name, base


def _claimed_gain_pct(rows: pd.DataFrame, others: pd.DataFrame) -> float:
    """Gain in percent that was published for one method over another; NaN where none was."""
    gains = _shared_value(rows, "published_gain_pct")
    return float(gains.get(_shared_value(others, "published_as"), math.nan)) if isinstance(gains, dict) else math.nan


def _shared_value(rows: pd.DataFrame, column: str) -> object:
    """The value of a column that all rows of an agent share; None if there is no such column."""
    return rows[column].iloc[0] if column in rows else None


def _with_bounds(column: str, estimate: Estimate) -> dict[str, float]:
    return dict(zip(_columns(column), (estimate.value, estimate.lo, estimate.hi), strict=True))


def _columns(column: str) -> tuple[str, str, str]:
    """Names of a value and of the bounds of its interval."""
    return column, f"{column}_lo", f"{column}_hi"
