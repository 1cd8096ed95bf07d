"""Comparison of runs: statistics, tables and figures as data, and what draws them.

`ddrl_sched.report(...)` is the function below: the package can be called, for its name is that of the command too.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddrl_sched.report.table import Report, ReportKind


def report(
    paths: str | Path | Sequence[str | Path], baselines: Sequence[str] = (), kind: "ReportKind" = "results"
) -> "Report":
    """The report of all run folders at or below some paths, as `ddrl report` prints it: tables and what is behind them.

    `kind`: results, training (how trainings ended) or by_seed (how far apart seeds are). Notes go to standard error.
    Raises InputError as the command line would print it.
    """
    from ddrl_sched.report.compute import read, report_of
    from ddrl_sched.report.load import print_notes

    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    found = read(listed, kind)
    try:
        return report_of(found, listed, baselines, kind)
    finally:
        print_notes(found)


class _Callable(ModuleType):
    """A package that is also the function of its name."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Callable
