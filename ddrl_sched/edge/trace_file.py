"""Real request traces from csv files: read strictly, every fault with its line.

A table reader says nothing about unsorted times, blank or infinite cells, shifted columns, NUL bytes or a cut-off end,
so each is looked for. The checks are vectorised; the line is searched only when one of them has failed.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ddrl_sched.config import InputError, clean, near, shown
from ddrl_sched.edge.input_file import MAX_TRACE_BYTES, PACKAGE, first_line, read_bytes
from ddrl_sched.edge.types import Bools, Floats

MAX_ROWS = 2_000_000
LARGEST_SIZE = 1e12
LARGEST_S = 1e11  # the year 5138; milliseconds since 1970 are more
EARLIEST, LATEST = pd.Timestamp("1900-01-01", tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")
KEY = "workload.path"
TIME_NAMES = ("timestamp", "time", "time_s", "arrival", "arrival_time", "arrival_s", "arrive_s", "t")


@dataclass(frozen=True)
class TraceFile:
    """Arrivals of a file."""

    time_s: Floats  # [n] after the first, never decreasing
    sizes: Mapping[str, Floats]  # column -> [n], > 0
    sha256: str  # of the file's content

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last arrival."""
        return float(self.time_s[-1])


def read_trace(path: str, timestamp_column: str | None, size_columns: Sequence[str]) -> TraceFile:
    """Arrival times (seconds, or ISO 8601 timestamps) and sizes of a csv file with a header.

    `path` is a path or `package:NAME`. Lines must have the header's number of fields, times must not decrease, sizes be
    finite and > 0. `timestamp_column` null: the one column whose name says that it is a time (TIME_NAMES).
    Raises InputError that names file and line.
    """
    content = read_bytes(path, KEY, "traces", MAX_TRACE_BYTES)
    where = f"{KEY}: {clean(path)}"
    _check_bytes(content, where)
    header = _header(content, where, [*([timestamp_column] if timestamp_column else []), *size_columns])
    timestamp_column = timestamp_column or _time_column(header, where)
    _check_lines(content, where, len(header))
    if header[-1] in (timestamp_column, *size_columns) and not path.startswith(PACKAGE):
        _check_end(content, where, header[-1])
    table = _table(content, where)
    time_s = _times(table[timestamp_column], where, timestamp_column)
    sizes = {column: _sizes(table[column], where, column) for column in size_columns}
    return TraceFile(time_s, sizes, hashlib.sha256(content).hexdigest())


def _check_bytes(content: bytes, where: str) -> None:
    if not content:
        raise InputError(f"{where}: is empty")
    if (at := content.find(b"\0")) >= 0:
        raise InputError(f"{where}, line {_line_at(content, at)}: holds a NUL byte")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}, line {_line_at(content, error.start)}: is not UTF-8 text") from None
    if content.count(b"\r") != content.count(b"\r\n"):
        raise InputError(f"{where}: lines must end with a newline (or carriage return and newline)")
    n_lines = content.count(b"\n") + (not content.endswith(b"\n"))
    if n_lines - 1 > MAX_ROWS:
        raise InputError(f"{where}: must have at most {MAX_ROWS:,} rows, got {n_lines - 1:,}")
    if n_lines < 3:
        raise InputError(f"{where}: must have a header and at least two rows, got {n_lines} line(s)")


def _line_at(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _header(content: bytes, where: str, wanted: Sequence[str]) -> list[str]:
    header = _fields(content[: content.index(b"\n")].decode("utf-8-sig"), where, 1)
    doubles = sorted({name for name in header if header.count(name) > 1})
    if doubles:
        raise InputError(f"{where}, line 1: column {shown(doubles[0])} stands twice")
    for name in wanted:
        if name not in header:
            columns = ", ".join(shown(c) for c in header[:20])
            raise InputError(f"{where}, line 1: no column {shown(name)}{near(name, header)} (columns: {columns})")
    return header


def _time_column(header: Sequence[str], where: str) -> str:
    named = [name for name in header if name.strip().lower() in TIME_NAMES]
    if len(named) != 1:
        columns = ", ".join(shown(c) for c in header[:20])
        found = "several columns that sound" if named else "no column that sounds"
        raise InputError(
            f"{where}, line 1: {found} like a time (columns: {columns}); name it in workload.arrivals.timestamp_column"
        )
    return named[0]


def _fields(line: str, where: str, number: int) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r")], strict=True), [])
    except csv.Error as error:
        raise InputError(f"{where}, line {number}: {first_line(error)}") from None


def _check_lines(content: bytes, where: str, n_fields: int) -> None:
    """Every line has as many fields as the header, none is blank."""
    if b'"' in content:  # a comma may stand inside quotes: count with the csv reader
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
        counts = np.array([len(_fields(line, where, i + 1)) for i, line in enumerate(lines)])
    else:
        data = np.frombuffer(content.removesuffix(b"\n"), dtype=np.uint8)
        ends = np.append(np.flatnonzero(data == ord("\n")), len(data))
        counts = 1 + np.diff(np.searchsorted(np.flatnonzero(data == ord(",")), ends), prepend=0)
        starts = np.append(0, ends[:-1] + 1)
        counts[(ends == starts) | ((ends == starts + 1) & (data[np.minimum(starts, len(data) - 1)] == ord("\r")))] = 0
    if (counts == n_fields).all():
        return
    line = int(np.argmin(counts == n_fields))
    got = "is blank" if counts[line] == 0 else f"has {counts[line]} fields"
    raise InputError(f"{where}, line {line + 1}: {got}, the header has {n_fields}")


def _check_end(content: bytes, where: str, column: str) -> None:
    """The last column is used: without a newline behind it nobody knows whether its last number was cut off."""
    if not content.endswith(b"\n"):
        line = _line_at(content, len(content))
        raise InputError(
            f"{where}, line {line}: ends within column {shown(column)}, perhaps cut off (no newline follows)"
        )


def _table(content: bytes, where: str) -> pd.DataFrame:
    try:
        return pd.read_csv(
            io.BytesIO(content), dtype=str, na_filter=False, skip_blank_lines=False, encoding="utf-8-sig", engine="c"
        )
    except (ValueError, OverflowError) as error:  # pandas' own parser error is a ValueError
        raise InputError(f"{where}: {first_line(error)}") from None


def _times(cells: pd.Series, where: str, column: str) -> Floats:
    """Seconds after the first arrival."""
    numeric = not np.isnan(pd.to_numeric(cells.iloc[:1], errors="coerce").to_numpy(dtype=np.float64)[0])
    if numeric:
        seconds = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        _refuse(~np.isfinite(seconds), cells, where, f"{column} must be a finite number of seconds")
        limit = f"{column} must be in seconds (not milliseconds), at most {LARGEST_S:g}"
        _refuse(np.abs(seconds) > LARGEST_S, cells, where, limit)
        time_s = seconds - seconds[0]
    else:
        stamps = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
        wrong = stamps.isna() | ~cells.str.match(r"\s*\d{4}-")  # "now" is no timestamp
        _refuse(wrong.to_numpy(), cells, where, f"{column} must be seconds or an ISO 8601 timestamp")
        outside = (stamps < EARLIEST) | (stamps > LATEST)  # nanoseconds of 64 bits would wrap round
        _refuse(outside.to_numpy(), cells, where, f"{column} must be between {EARLIEST:%Y-%m-%d} and {LATEST:%Y-%m-%d}")
        ns = stamps.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]").astype(np.int64)
        time_s = (ns - ns[0]) / 1e9
    backwards = np.append(False, np.diff(time_s) < 0)
    _refuse(backwards, cells, where, f"{column} must not decrease")
    if not time_s[-1] > 0:
        raise InputError(f"{where}: all rows have the same {column}")
    return time_s


def _sizes(cells: pd.Series, where: str, column: str) -> Floats:
    values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~((values > 0) & (values <= LARGEST_SIZE))
    _refuse(wrong, cells, where, f"{column} must be a number in (0, {LARGEST_SIZE:g}]")
    return values


def _refuse(wrong: Bools, cells: pd.Series, where: str, expected: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{where}, line {row + 2}: {expected}, got {shown(str(cells.iloc[row]))}")
