"""`ddrl report --tensorboard DIR`: curves of trainings as event files, one run per seed, one tag per metric.

x is the number of simulated tasks (CartPole: steps); the wall time of an event is when the job began plus the seconds
that the training had taken. Needs the extra `tensorboard`, not torch.
"""

import io
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from ddrl_sched.config import InputError, clean
from ddrl_sched.display import count, note
from ddrl_sched.extras import require
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import Columns
from ddrl_sched.report.curve_table import FILE, read_curves
from ddrl_sched.report.load import run_folders
from ddrl_sched.run.metrics import ELAPSED_METRIC

EXTRA, OPTION = "tensorboard", "--tensorboard"
MAX_NAME = 80  # characters of a folder


def main(paths: Sequence[Path | str], out: Path) -> int:
    """Write event files of every finished training at or below `paths` into the folder `out`.

    Folders that cannot be read are named on standard error. InputError where there is no training, or no tensorboard.
    """
    require("tensorboard.summary.writer.record_writer", EXTRA, OPTION)
    skipped: list[tuple[str, str]] = []
    n_runs = 0
    for folder in run_folders(paths, skipped):
        try:
            job, manifest = records.read_finished(folder)
            table = read_curves(folder, manifest) if FILE in manifest else {}
        except (OSError, ValueError) as error:
            skipped.append((clean(folder), clean(error)))
            continue
        began_s = datetime.fromisoformat(job["created"]).timestamp()
        place = out / _name(job["scheduler"]) / _name(job["job_id"])
        for seed in np.unique(table["seed"]).tolist() if table else []:
            file = place / f"seed_{seed}" / f"events.out.tfevents.{int(began_s)}.ddrl"
            records.write_bytes(file, events_of(_of_seed(table, seed), began_s))
            n_runs += 1
    for path, reason in skipped:
        note(f"skipped: {path}: {reason}")
    if not n_runs:
        raise InputError(f"{OPTION}: no finished training at or below {', '.join(map(clean, paths))}")
    print(f"written: {count(n_runs, 'run')} below {clean(out)} (tensorboard --logdir {clean(out)})")
    return 0


def events_of(rows: Columns, began_s: float) -> bytes:
    """The event file of one seed; `began_s`: seconds since 1970 at which the job began."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(wall_time=began_s, file_version="brain.Event:2").SerializeToString())
    for step, elapsed_s, tag, value in _points(rows):
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.write(Event(wall_time=began_s + elapsed_s, step=step, summary=summary).SerializeToString())
    return file.getvalue()


def _points(rows: Columns) -> Iterator[tuple[int, float, str, float]]:
    """(tasks seen, seconds since the training began, metric, value) in the order in which they were measured."""
    timed = rows["metric"] == ELAPSED_METRIC
    elapsed_s = dict(zip(rows["tasks_seen"][timed].tolist(), rows["value"][timed].tolist(), strict=True))
    columns = (rows[name][~timed].tolist() for name in ("tasks_seen", "metric", "value"))
    for step, metric, value in zip(*columns, strict=True):
        yield step, elapsed_s.get(step, 0.0), metric, value


def _of_seed(table: Columns, seed: int) -> Columns:
    return {name: column[table["seed"] == seed] for name, column in table.items()}


def _name(text: str) -> str:
    """A label as the name of one folder, whatever it holds."""
    return re.sub(r"[^A-Za-z0-9_=,()+-]+", "_", text)[:MAX_NAME] or "_"
