"""What happens while numba compiles: the user is told once, and signals wait.

LLVM calls back into Python while it compiles and swallows what is raised there, so a signal must not raise in it.
"""

import sys
from contextlib import ExitStack
from typing import Any

from ddrl_sched import stopping

_watch: Any = None


def watch() -> None:
    """Be told of every kernel that numba compiles from now on, once per process. Imports numba."""
    global _watch
    if _watch is not None:
        return
    from numba.core import event  # lazy: takes half a second

    class Watch(event.Listener):
        """Compilations nest: a kernel compiles those it calls."""

        def __init__(self) -> None:
            self._depth = 0
            self._told = False
            self._waiting = ExitStack()

        def on_start(self, event: object) -> None:
            self._depth += 1
            if self._depth == 1:
                self._waiting.enter_context(stopping.postponed())
                shown = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # while there is a bar
                if not self._told and shown is sys.__stderr__:
                    print("compiling kernels (half a minute at most; they are kept)", file=sys.stderr, flush=True)
                self._told = True

        def on_end(self, event: object) -> None:
            self._depth -= 1
            if self._depth == 0:
                self._waiting.close()

    _watch = Watch()
    event.register("numba:compile", _watch)
