"""A report from run folders: what is read, the rows and tables of what was asked for. Prints nothing."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ddrl_sched.config import InputError, clean
from ddrl_sched.report.budgets import budgets
from ddrl_sched.report.by_seed import seed_rows, seed_tables
from ddrl_sched.report.capacity import capacity_rows, load_rows
from ddrl_sched.report.capacity_tables import capacity_tables
from ddrl_sched.report.comparison import captions, check_baselines, over_loads, report_rows
from ddrl_sched.report.comparison_tables import comparison_tables, over_loads_tables
from ddrl_sched.report.load import Loaded, load, why_nothing
from ddrl_sched.report.published_study import published_rows, published_tables
from ddrl_sched.report.returns import gain_rows, return_rows, return_tables
from ddrl_sched.report.table import Report, ReportKind
from ddrl_sched.run.metrics import CURVE_METRICS, VALIDATION_METRIC

Paths = Sequence[Path | str]


def compute(paths: Paths, baselines: Sequence[str] = (), kind: ReportKind = "results") -> Report:
    """The report of the run folders at or below `paths`; without `baselines` those of the jobs count.

    `kind`: results, or how trainings ended, or how far apart seeds are. InputError if nothing can be read, a path is
    missing or a baseline unknown.
    """
    return report_of(read(paths, kind), paths, baselines, kind)


def read(paths: Paths, kind: ReportKind, *, figures: bool = False) -> Loaded:
    """What a report of this kind needs of the run folders, and its figures too. InputError if a path is missing."""
    metrics = CURVE_METRICS if figures else (VALIDATION_METRIC,)
    if kind == "training":
        return load(paths, curves=metrics, evaluations=False)
    if figures and kind == "results":
        return load(paths, curves=metrics, delays=True, timelines=True)
    return load(paths, delays=kind == "results")


def report_of(found: Loaded, paths: Paths, baselines: Sequence[str], kind: ReportKind) -> Report:
    """The report of what was read; remarks are appended to found.notes. Raises as `compute` does."""
    where = f"at or below {', '.join(map(clean, paths))}"
    if kind == "training":
        return _trainings(found, where)
    return _seeds(found, where) if kind == "by_seed" else _results(found, where, baselines)


def _results(found: Loaded, where: str, baselines: Sequence[str]) -> Report:
    if found.rows.empty and found.returns.empty and found.capacities.empty:
        raise InputError(f"no finished evaluation {where}: {why_nothing(found)}")
    of_returns, of_capacities = set(found.returns.scheduler), set(found.capacities.scheduler)
    check_baselines(baselines, sorted({*found.rows.scheduler, *of_returns, *of_capacities}))
    elsewhere = (of_returns | of_capacities) - set(found.rows.scheduler)
    of_rows = [name for name in baselines if name not in elsewhere]
    rows = report_rows(found.rows, of_rows, found.notes, found.delays)
    means, published = over_loads(rows, found.notes), published_rows(found.rows, found.notes)
    returns, gains = return_rows(found.returns), gain_rows(found.returns, baselines)
    capacities = capacity_rows(found.capacities, baselines)
    tables = (
        *comparison_tables(rows, captions(found.rows), budgets(found.rows)),
        *over_loads_tables(means, rows),
        *published_tables(published),
        *return_tables(returns, gains),
        *capacity_tables(capacities),
    )
    frames = {"rows": rows, "over_loads": means, "published": published}
    frames |= {"returns": returns, "return_gains": gains} if len(returns) else {}
    if len(capacities):
        frames |= {"capacities": capacities, "capacity_loads": load_rows(found.capacities)}
    return Report("results", tables, frames, found)


def _trainings(found: Loaded, where: str) -> Report:
    from ddrl_sched.report.training import training_rows, training_tables, why_no_training  # loads scipy

    curves = found.curves[found.curves.metric == VALIDATION_METRIC] if len(found.curves) else found.curves
    rows = training_rows(curves, found.notes) if len(curves) else pd.DataFrame()
    if rows.empty:
        raise InputError(f"--training: nothing to show {where}: {why_no_training(found)}")
    return Report("training", tuple(training_tables(rows)), {"training": rows}, found)


def _seeds(found: Loaded, where: str) -> Report:
    rows = seed_rows(found.rows, found.notes)
    if rows.empty:
        why = "train with seeds=N and evaluate, as ddrl sweep does" if len(found.rows) else why_nothing(found)
        raise InputError(f"no results of a training with several seeds on edge servers {where}: {why}")
    return Report("by_seed", tuple(seed_tables(rows)), {"by_seed": rows}, found)
