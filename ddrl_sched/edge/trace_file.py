"""Trace files of the user: when, where and with what sizes tasks arrive.

Files are read strictly: a table reader says nothing about unsorted times, blank or infinite cells, shifted columns or
NUL bytes, so each is looked for and named with its line (edge/trace_table.py the form, edge/trace_times.py the times).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddrl_sched.config import LARGEST, InputError, clean, near, shown
from ddrl_sched.edge.input_file import MAX_TRACE_BYTES, content_sha256, read_bytes
from ddrl_sched.edge.trace_column import Bounds
from ddrl_sched.edge.types import Floats
from ddrl_sched.edge.workload_settings import TraceColumns

KEY = "workload.path"
LARGEST_SIZE = 1e12
MOST = 10**6  # units, steps
SCALED = ("input_mbit", "result_mbit", "work_gcycle")  # to the mean of env.tasks; any unit will do
TAKEN = ("origin", "deadline_s", "units", "steps")  # as they are


@dataclass(frozen=True)
class TraceFile:
    """Arrivals of a file."""

    time_s: Floats  # [n] after the first, never decreasing
    columns: Mapping[str, Floats]  # key of workload.columns (input_mbit, origin, ...) -> [n], of those that are given
    sha256: str  # of the file's content

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last arrival."""
        return float(self.time_s[-1])


def read_trace(
    path: str, columns: TraceColumns, n_stations: int, least_units: int = 0, sort: bool = False
) -> TraceFile:
    """Arrival times and what else `columns` names in a csv, jsonl or parquet file, csv and jsonl perhaps gzipped.

    `path` is a path or `package:NAME`. Times must not decrease unless they are to be sorted (stably); stations are
    whole numbers below n_stations, units at least least_units. Raises InputError that names file and line (or row).
    """
    from ddrl_sched.edge.trace_table import open_table  # lazy: pandas loads slowly, and most workloads have no file
    from ddrl_sched.edge.trace_times import read_times, time_column

    content = read_bytes(path, KEY, "traces", MAX_TRACE_BYTES)
    table = open_table(content, path, f"{KEY}: {clean(path)}", columns.separator)
    timestamp = columns.timestamp or time_column(table.names, table.head)
    given = {key: name for key in (*SCALED, *TAKEN) if (name := getattr(columns, key)) is not None}
    for key, name in {"timestamp": timestamp, **given}.items():
        _check_known(key, name, table.names, table.head)
    cells = table.read(list(dict.fromkeys((timestamp, *given.values()))))
    time_s, order = read_times(cells[timestamp], columns.time_unit, sort)
    bounds = _bounds(n_stations, least_units)
    values = {key: cells[name].numbers(bounds[key])[order] for key, name in given.items()}
    return TraceFile(time_s, values, content_sha256(content))


def _check_known(key: str, name: str, names: Sequence[str], head: str) -> None:
    if name not in names:
        columns = ", ".join(shown(c) for c in names[:20])
        hint = near(name, names) or f"; name one in workload.columns.{key}"
        raise InputError(f"{head}: no column {shown(name)}{hint} (columns: {columns})")


def _bounds(n_stations: int, least_units: int) -> dict[str, Bounds]:
    """Bounds of each key of workload.columns."""
    sizes = {key: Bounds(0, LARGEST_SIZE, from_low=False, whole=False) for key in SCALED}
    return sizes | {
        "origin": Bounds(0, n_stations - 1, from_low=True, whole=True),
        "deadline_s": Bounds(0, LARGEST, from_low=False, whole=False),
        "units": Bounds(least_units, MOST, from_low=True, whole=True),
        "steps": Bounds(1, MOST, from_low=True, whole=True),
    }
