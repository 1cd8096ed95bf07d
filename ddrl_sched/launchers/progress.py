"""What a sweep says of itself while it runs: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ddrl_sched.display import Row, duration, on_terminal, row, set_aside
from ddrl_sched.launchers.task import STATES

EVERY, EVERY_S = 0.1, 30.0  # a line is due when this part of the jobs has ended, and this time has passed


class SweepProgress:
    """Counts the jobs of a sweep as they begin and end."""

    def __init__(self, n_jobs: int, shown: Row) -> None:
        self._n_jobs, self._row = n_jobs, shown
        self._counts: Counter[str] = Counter()
        self._running: set[int] = set()
        self._worked = 0  # jobs that took time
        self._began = self._said_s = time.monotonic()
        self._said = 0
        self._show()

    def running(self, number: int) -> None:
        """A job has begun."""
        self._running.add(number)
        self._show()

    def ended(self, number: int, state: str) -> None:
        """A job has come to an end: done, skipped or failed; or it is passed over, and comes again (claimed)."""
        self._worked += state == "done" or (state == "failed" and number in self._running)
        self._running.discard(number)
        if state != "claimed":
            self._counts[state] += 1
        self._show()
        self._say_if_due()

    def _show(self) -> None:
        self._row.update(self._counts.total(), self)

    def _say_if_due(self) -> None:
        """A line for who reads a file or a pipe, but none for the last job, which the summary follows."""
        n_ended, now = self._counts.total(), time.monotonic()
        due = n_ended - self._said >= EVERY * self._n_jobs and now - self._said_s >= EVERY_S
        if due and n_ended < self._n_jobs and not on_terminal():
            self._said, self._said_s = n_ended, now
            print(f"{n_ended} of {self._n_jobs} jobs: {self}", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        """Counts, and the time that is left as it seems now."""
        counts = {state: self._counts[state] for state in STATES} | {"running": len(self._running)}
        words = [f"{n} {state}" for state, n in counts.items() if n]
        left_s = self._left_s()
        return ", ".join(words + ([] if left_s is None else [f"{duration(left_s)} left"]))

    def _left_s(self) -> float | None:
        """Time for the rest at the pace of the jobs that took time; None before there is one."""
        n_left = self._n_jobs - self._counts.total()
        return (time.monotonic() - self._began) / self._worked * n_left if self._worked and n_left else None


@contextmanager
def sweep_progress(n_jobs: int, *, quiet: bool) -> Iterator[SweepProgress]:
    """Show how far a sweep is while inside, but for a quiet one; `say` prints beside it."""
    if quiet:
        yield SweepProgress(n_jobs, Row(None, "sweep", n_jobs))
        return
    with row("sweep", n_jobs) as shown:
        yield SweepProgress(n_jobs, shown)


def say(line: str) -> None:
    """Print a line on standard output, above the bar if there is one."""
    with set_aside():
        print(line, flush=True)
