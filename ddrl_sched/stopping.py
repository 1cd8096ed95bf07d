"""How a signal ends the program: at once, or, while work is postponing it, when the work has saved its state.

SIGINT leaves with 130; SIGTERM, SIGUSR2 (the warning of a batch system) and SIGHUP with 143. A second signal of the
same kind kills. Imports the standard library alone, so that it can be in place before anything heavy is loaded.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
PATIENCE_S = 4.0  # the longest that a signal is postponed
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)

_before: dict[int, Any] = {}  # handlers that were there before ours
_asked: int | None = None  # the signal that came and waits
_came: int | None = None  # the one that came first
_postponed = False


class Stopped(SystemExit):
    """The program ends because of a signal; its code is the exit status."""


def listen() -> None:
    """Put the handlers in place, once per process and in its main thread. Under nohup SIGHUP stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        now = signal.getsignal(number)
        if now is not _note and not (number == signal.SIGHUP and now is signal.SIG_IGN):
            _before[number] = signal.signal(number, _note)


@contextmanager
def postponed() -> Iterator[None]:
    """Inside, a signal waits (PATIENCE_S at most) until `leave_if_asked` is called; at the outermost end it acts."""
    global _postponed
    outer, _postponed = _postponed, True
    try:
        yield
    finally:
        _postponed = outer
        if not outer:
            leave_if_asked()


def asked() -> bool:
    """Whether a signal waits."""
    return _asked is not None


def leave_if_asked() -> None:
    """End the program if a signal waits. A handler that was there before ours, such as a batch system's, has its turn.

    Raises Stopped.
    """
    global _asked
    if _asked is None:
        return
    number, _asked = _asked, None
    before = _before.get(number)
    if callable(before) and before is not signal.default_int_handler:
        signal.signal(number, before)
        signal.raise_signal(number)
    raise Stopped(INTERRUPTED if number == signal.SIGINT else TERMINATED)


def insist() -> None:
    """At the very end: raise Stopped if a signal came, in case somebody's code has swallowed the one before."""
    if _came is not None:
        raise Stopped(INTERRUPTED if _came == signal.SIGINT else TERMINATED)


def _note(number: int, _frame: FrameType | None) -> None:
    global _asked, _came
    _came = number if _came is None else _came
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the program at once
    _asked = number
    if not _postponed:
        leave_if_asked()
    status = INTERRUPTED if number == signal.SIGINT else TERMINATED
    late = threading.Timer(PATIENCE_S, os._exit, [status])  # the last checkpoint is on the disk
    late.daemon = True
    late.start()
