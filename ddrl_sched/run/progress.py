"""Showing a training on the terminal: a bar with delay, tasks per second and time left."""

import time
from collections.abc import Iterator

from ddrl_sched.display import duration, row
from ddrl_sched.run.train import Progress


def show(steps: Iterator[Progress], episodes: int, label: str) -> Iterator[Progress]:
    """Pass every step on and show it on standard error, if that is a terminal."""
    began, first = time.monotonic(), 0
    with row(label, episodes) as shown:
        for step in steps:
            done = step.episode + 1
            rate = step.tasks_seen.sum() / max(step.elapsed_s, 1e-9)
            news = f"{step.summary}, {rate:,.0f} tasks/s"
            if first:  # an interrupted training begins somewhere
                left_s = (time.monotonic() - began) / (done - first) * (episodes - done)
                news += f", {duration(left_s)} left"
            else:
                began, first = time.monotonic(), done
            shown.update(done, news)
            yield step
