"""Showing a training on the terminal: a bar with delay, tasks per second and time left."""

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ddrl_sched.run.train import Progress


def show(steps: Iterator[Progress], episodes: int, label: str) -> Iterator[Progress]:
    """Pass every step on and show it on standard error, if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[news]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        shown = bar.add_task(label, total=episodes, news="")
        for step in steps:
            rate = step.tasks_seen.sum() / max(step.elapsed_s, 1e-9)
            news = f"{step.told}, {rate:,.0f} tasks/s"
            bar.update(shown, completed=step.episode + 1, news=news)
            yield step
