"""Times of trace files: numbers of some unit, ISO 8601 texts, or the timestamps of a parquet file."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ddrl_sched.config import InputError, clean, shown
from ddrl_sched.edge.iso8601 import AWARE, COMMON, iso_ns
from ddrl_sched.edge.trace_column import Column
from ddrl_sched.edge.types import Bools, Floats, Ints

LARGEST_S = 1e11  # the year 5138; milliseconds since 1970 are more
EARLIEST, LATEST = np.datetime64("1900-01-01", "s"), np.datetime64("2200-01-01", "s")
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LOW_NS, _HIGH_NS = (int(moment.astype(np.int64)) * 10**9 for moment in (EARLIEST - 1, LATEST + 1))
TIME_NAMES = ("timestamp", "time", "ts", "t", "datetime", "arrival", "arrive", "arrived_at", "arrival_time")
UNIT_NAMES = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"),
    "us": ("us", "µs", "μs", "usec", "usecs", "micros", "microsecond", "microseconds"),
    "ns": ("ns", "nsec", "nsecs", "nanos", "nanosecond", "nanoseconds"),
    "another unit": ("min", "mins", "minute", "minutes", "h", "hr", "hrs", "hour", "hours", "day", "days"),
}
UNIT_OF = {name: unit for unit, names in UNIT_NAMES.items() for name in names}
DATES = {8: "YYYYMMDD", 12: "YYYYMMDDhhmm", 14: "YYYYMMDDhhmmss"}  # by the number of digits
KEY = "workload.columns.time_unit"


def time_column(names: Sequence[str], head: str) -> str:
    """The one column that is named like a time, perhaps with a unit: timestamp, ts_ms, time_us, arrival (s).

    Raises InputError if none is, or several are.
    """
    found = [name for name in names if _sounds_like_time(name)]
    if len(found) != 1:
        columns = ", ".join(shown(c) for c in names[:20])
        sounds = "several columns that sound" if found else "no column that sounds"
        text = f"{sounds} like a time (columns: {columns}); name it in workload.columns.timestamp"
        raise InputError(f"{head}: {text}")
    return found[0]


def read_times(column: Column, unit: str | None, sort: bool) -> tuple[Floats, Ints]:
    """(seconds after the first arrival [n], never decreasing; row of each [n]); rows are sorted stably if `sort`.

    unit: of numbers (s, ms, us, ns); None: by the column's name, else seconds. Raises InputError that names the line.
    """
    ticks, per_second = _ticks(column, unit)
    order = np.argsort(ticks, kind="stable") if sort else np.arange(len(ticks))
    ticks = ticks[order]
    backwards = np.append(False, ticks[1:] < ticks[:-1])
    column.refuse(backwards, "must not decrease", " (workload.sort=true sorts the rows by time)")
    time_s: Floats = (ticks - ticks[0]) / per_second
    if not time_s[-1] > 0:
        raise InputError(f"{column.where}: all rows have the same {clean(column.name)}")
    return time_s, order


def _sounds_like_time(name: str) -> bool:
    words = _words(name)
    whole = "_".join(words)
    return whole in TIME_NAMES or (words[-1:] != [] and words[-1] in UNIT_OF and "_".join(words[:-1]) in TIME_NAMES)


def _words(name: str) -> list[str]:
    """Words of a name in small letters: ts_ms, tsMs, TS[ms] -> ts, ms."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-zµμ]+|[A-Z]+(?![a-z])|\d+", name)]


def _ticks(column: Column, unit: str | None) -> tuple[Floats | Ints, int]:
    """Moments [n] as numbers (integers where they can be exact), and how many of them make a second."""
    if not column.is_time and (column.cells.dtype.kind in "iuf" or _is_number(column.cells.iloc[0])):
        return _numbers(column, unit)
    if unit is not None:
        text = f"must be null, for {shown(column.name)} holds timestamps, no numbers"
        raise InputError(f"{KEY}: {text} ({column.at(0)})")
    return (_moments_ns(column) if column.is_time else _iso_ns(column)), 10**9


def _is_number(cell: str) -> bool:
    return not np.isnan(float(pd.to_numeric(cell, errors="coerce")))


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(column: Column, unit: str | None) -> tuple[Floats | Ints, int]:
    values = column.to_numeric()
    if unit is None:
        _refuse_dates(column, values)
    unit = unit or _unit_by_name(column)
    name = {"s": "", "ms": "milli", "us": "micro", "ns": "nano"}[unit] + "seconds"
    column.refuse(~np.isfinite(values.astype(np.float64)), f"must be a finite number of {name}")
    size = np.abs(values.astype(np.float64))
    too_large = size / PER_SECOND[unit] > LARGEST_S
    if too_large.any():
        limit = f"must be in {name}, at most {LARGEST_S * PER_SECOND[unit]:g}"
        column.refuse(too_large, limit, _likely_unit(float(size[np.argmax(too_large)])))
    if values.dtype.kind == "i" and size.max() > 2**62:
        values = values.astype(np.float64)  # differences of 64 bits would wrap round
    return values, PER_SECOND[unit]


def _unit_by_name(column: Column) -> str:
    words = _words(column.name)
    within = {UNIT_OF[word] for word in words if UNIT_OF.get(word) in PER_SECOND}
    if len(within) > 1:
        text = f"the name of column {shown(column.name)} names several units ({', '.join(sorted(within))})"
        raise InputError(f"{KEY}: {text}; say which ({column.at(0)})")
    unit = UNIT_OF.get(words[-1], next(iter(within), "s")) if words else "s"
    if unit not in PER_SECOND:
        text = f"the name of column {shown(column.name)} ends like {unit}; say s, ms, us or ns"
        raise InputError(f"{KEY}: {text} ({column.at(0)})")
    return unit


def _likely_unit(value: float) -> str:
    """The unit in which a number would be a time of 1980 to 2100, as a hint."""
    for unit, per_second in PER_SECOND.items():
        if 3.1e8 < value / per_second < 4.2e9:
            return f", which looks like {unit} since 1970 ({KEY}={unit})"
    return f" ({KEY} says which unit)"


def _refuse_dates(column: Column, values: Floats | Ints) -> None:
    """InputError for whole numbers that can all be read as dates: 20240510 is hardly meant as a number of seconds."""
    if values.dtype.kind != "i":
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**53)
        if not whole.all():
            return
    numbers = values.astype(np.int64)
    digits = len(str(int(numbers[0])))
    if digits in DATES and _are_dates(numbers, digits).all():
        form = "2024-05-10" if digits == 8 else "20240510T000000"
        hint = f"; write {form}, or say {KEY} if it is a number of that unit"
        column.refuse(np.ones(len(values), np.bool_), f"looks like a date ({DATES[digits]})", hint)


def _are_dates(values: Ints, digits: int) -> Bools:
    clock = values % 10 ** (digits - 8) * 10 ** (14 - digits)  # hhmmss
    day = values // 10 ** (digits - 8)
    year, month, day = day // 10_000, day // 100 % 100, day % 100
    of_day = (clock // 10_000 < 25) & (clock // 100 % 100 < 60) & (clock % 100 < 61)
    return (year >= 1900) & (year < 2200) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31) & of_day


# ---- timestamps ------------------------------------------------------------------------------------------------------


def _moments_ns(column: Column) -> Ints:
    """Nanoseconds since 1970 [n] of the cells of a parquet file."""
    moments = column.cells.to_numpy()
    _refuse_outside(column, moments)
    return moments.astype("datetime64[ns]").astype(np.int64)


def _refuse_outside(column: Column, moments: NDArray[np.datetime64]) -> None:
    """Nanoseconds of 64 bits would wrap round."""
    unit = np.datetime_data(moments.dtype)[0]
    outside = (moments < EARLIEST.astype(f"datetime64[{unit}]")) | (moments > LATEST.astype(f"datetime64[{unit}]"))
    column.refuse(outside, f"must be between {EARLIEST.astype(object):%Y-%m-%d} and {LATEST.astype(object):%Y-%m-%d}")


def _iso_ns(column: Column) -> Ints:
    """Nanoseconds since 1970 [n] of ISO 8601 texts, without a zone as if in UTC."""
    cells = column.cells.astype(object).str.strip()
    common = cells.str.fullmatch(COMMON).to_numpy(dtype=np.bool_)
    moments = pd.to_datetime(cells.where(common), format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    rest = np.flatnonzero(moments.isna().to_numpy())
    moments = moments.clip(pd.Timestamp(EARLIEST - 1), pd.Timestamp(LATEST + 1))  # else 64 bits may wrap round
    ns = moments.to_numpy(dtype="datetime64[ns]").astype(np.int64)
    for row in rest:
        try:
            ns[row] = min(max(iso_ns(cells.iloc[row]), _LOW_NS), _HIGH_NS)
        except ValueError as error:
            because = f" ({error})" if str(error) else ""
            column.refuse(np.arange(len(cells)) == row, f"must be seconds or an ISO 8601 timestamp{because}")
    _refuse_outside(column, ns.view("datetime64[ns]"))
    aware = cells.str.contains(AWARE).to_numpy(dtype=np.bool_)
    column.refuse(aware != aware[0], f"must have {'a' if aware[0] else 'no'} time zone like the first row")
    return ns
