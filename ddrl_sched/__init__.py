"""ddrl_sched: schedulers for AI-generated-content tasks on collaborating edge servers, compared fairly.

`import ddrl_sched as ddrl` gives ddrl.evaluate, ddrl.train, ddrl.load, ddrl.table, ddrl.figure
(ddrl_sched/api.py) and ddrl.report.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddrl_sched.api import evaluate, figure, load, table, train
    from ddrl_sched.report import report

__all__ = ["evaluate", "figure", "load", "report", "table", "train"]


def __getattr__(name: str) -> object:
    """The functions of api.py, and the package `report`, which can be called; loaded when one is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'ddrl_sched' has no attribute {name!r}")
    if name == "report":
        return import_module("ddrl_sched.report")
    from ddrl_sched import api

    return getattr(api, name)
