"""ddrl_sched: schedulers for AI-generated-content tasks on collaborating edge servers, compared fairly.

`import ddrl_sched as ddrl` gives ddrl.evaluate, ddrl.train, ddrl.load and ddrl.table (ddrl_sched/api.py).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddrl_sched.api import evaluate, load, table, train

__all__ = ["evaluate", "load", "table", "train"]


def __getattr__(name: str) -> object:
    """The functions of api.py, loaded when one is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'ddrl_sched' has no attribute {name!r}")
    from ddrl_sched import api

    return getattr(api, name)
