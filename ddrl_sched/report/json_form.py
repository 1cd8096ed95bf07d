"""The numbers behind a report as JSON: every frame by its name, as records."""

import json
import math

import pandas as pd

from ddrl_sched.report.table import Report

Record = dict[str, object]


def render(report: Report) -> str:
    """{name: records} of every frame."""
    every = {name: plain(frame) for name, frame in report.frames.items()}
    return json.dumps(every, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def plain(frame: pd.DataFrame) -> list[Record]:
    """Records with None for what is no finite number."""
    rows: list[Record] = frame.to_dict("records")
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]
