"""The numbers behind a report as csv: one frame, the first that holds a row."""

import pandas as pd

from ddrl_sched.report.table import Report


def render(report: Report) -> str:
    """The frame of the results (or of trainings, or seeds); returns of CartPole where there are only those."""
    return as_csv(next((frame for frame in report.frames.values() if len(frame)), pd.DataFrame()))


def as_csv(frame: pd.DataFrame) -> str:
    """A frame as csv with a header."""
    return str(frame.to_csv(index=False, lineterminator="\n"))
