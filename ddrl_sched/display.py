"""The one live display of the terminal: a row for a sweep, and one below it for the training of the job that runs."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

_live: "Progress | None" = None  # rich's display while a row is open


class Row:
    """A bar that grows to `total`; nothing where standard error is no terminal."""

    def __init__(self, live: "Progress | None", label: str, total: int) -> None:
        self._task = None if live is None else (live, live.add_task(label, total=total, news=""))

    def update(self, completed: int, news: object) -> None:
        """Show how far it is, and beside it `news`, which is asked for its words again and again."""
        if self._task is not None:
            live, number = self._task
            live.update(number, completed=completed, news=news)

    def close(self) -> None:
        """Take the row away."""
        if self._task is not None:
            live, number = self._task
            live.remove_task(number)


def on_terminal() -> bool:
    """Whether a bar can be shown: standard error is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def row(label: str, total: int) -> Iterator[Row]:
    """A row of the display while inside. The outermost one begins and ends it, and leaves nothing behind."""
    global _live
    if not on_terminal():
        yield Row(None, label, total)
        return
    outer, live = _live, _live or _display()
    shown = Row(live, label, total)
    try:
        _live = live
        live.start()
        yield shown
    finally:
        shown.close()
        _live = outer
        if outer is None:
            live.stop()


@contextmanager
def set_aside() -> Iterator[None]:
    """Inside, the display is off the terminal; what is printed stays above it."""
    if _live is None:
        yield
        return
    _live.stop()
    try:
        yield
    finally:
        _live.start()


def _display() -> "Progress":
    """Bars on standard error. What jobs print meanwhile appears above them, and files get what they would get."""
    from rich.console import Console  # lazy: takes a while, and most commands show none
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    label, news = Column(no_wrap=True, ratio=2), Column(no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("{task.description}", markup=False, table_column=label),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[news]}", markup=False, table_column=news),
    )
    stdout = sys.stdout.isatty()
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=stdout, expand=True)


def width_of(stream: TextIO) -> int | None:
    """Characters of a line on a stream: COLUMNS, or the terminal's; None for any number."""
    if re.fullmatch("0*[1-9][0-9]{0,5}", columns := os.environ.get("COLUMNS", "")):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # a pipe, a file, or nothing of that kind
        return None


def note(line: str) -> None:
    """Print a line on standard error, above the bar if there is one, wrapped between words to the terminal's width.

    A word that is longer, such as a path, stays whole (rich would break it, or the terminal's own wrapping any word).
    """
    width = width_of(sys.stderr)
    lines = [line]
    if width is not None and len(line) > width:
        lines = wrap(line, width, break_long_words=False, break_on_hyphens=False)
    with set_aside():
        print("\n".join(lines), file=sys.stderr, flush=True)


def duration(seconds: float | None) -> str:
    """Seconds in words: "42 s", "3 min", "1.5 h"; "?" where nothing is known."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def count(number: int, thing: str) -> str:
    """ "1 job", "2 jobs"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
