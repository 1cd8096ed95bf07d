"""Trace files as people have them: four forms, separators, units and names of times, columns, and their refusals."""

import datetime
import gzip
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge import trace_table
from ddrl_sched.edge.iso8601 import iso_ns
from ddrl_sched.edge.trace_file import read_trace
from ddrl_sched.edge.workload_settings import TraceColumns

TIMES = [10.0, 10.25, 12.0]
EXPECTED = [0.0, 0.25, 2.0]
zipped = partial(gzip.compress, mtime=0)  # the same bytes in every process, for they are in names of tests
PLAIN = b"t,size\n10,1\n10.25,2\n12,3\n"
START = datetime.datetime(2024, 5, 10)


def read(path, sort=False, least_units=0, **columns):
    """The columns of a trace file for a world of three stations."""
    return read_trace(str(path), TraceColumns(**columns), 3, least_units, sort)


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def refusal(path, **columns):
    with pytest.raises(InputError) as caught:
        read(path, **columns)
    assert str(caught.value).isprintable()
    return str(caught.value)


# ---- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", PLAIN),
        ("a.csv", PLAIN[:-1]),
        ("a.csv.gz", zipped(PLAIN)),
        ("two_parts.csv.gz", zipped(PLAIN[:12]) + zipped(PLAIN[12:])),
        ("a.tsv", PLAIN.replace(b",", b"\t")),
        ("a.csv", PLAIN.replace(b",", b";")),
        ("a.csv", PLAIN.replace(b",", b"|")),
        ("a.csv", b't;"size";"a,b"\n10;1;x\n10.25;2;x\n12;3;x\n'),
        ("a.jsonl", b'{"t": 10, "size": 1}\n{"size": 2, "t": 10.25}\n{"t": "12", "size": 3e0}\n'),
        ("a.jsonl", b'{"t": 10, "size": 1}\r\n{"size": 2, "t": 10.25}\r\n{"t": 12.0, "size": 3}'),
        ("a.jsonl.gz", zipped(b'{"t": 10, "size": 1}\n{"size": 2, "t": 10.25}\n{"t": 12.0, "size": 3}\n')),
    ],
)
def test_one_table_in_all_forms_of_text(tmp_path, name, content):
    trace = read(written(tmp_path, name, content), work_gcycle="size")
    assert trace.time_s.tolist() == EXPECTED
    assert trace.columns["work_gcycle"].tolist() == [1, 2, 3]


def stamps(unit, zone=None):
    moments = [START + datetime.timedelta(seconds=s) for s in TIMES]
    return pa.array(moments, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False).cast(pa.timestamp(unit, tz=zone))


@pytest.mark.parametrize(
    "times",
    [
        pa.array(TIMES),
        pa.array(["10", "10.25", "12"]),
        pa.array(["10", "10.25", "12"]).dictionary_encode(),
        pa.array(["2024-05-10T10:00:00", "2024-05-10T10:00:00.25", "2024-05-10T10:00:02"]),
        pa.array(TIMES).cast(pa.decimal128(20, 3)),
        stamps("ms"),
        stamps("us"),
        stamps("ns", "Europe/Berlin"),
    ],
    ids=lambda times: str(times.type),
)
def test_one_table_in_all_types_of_parquet(tmp_path, times):
    pq.write_table(pa.table({"t": times, "size": [1, 2, 3], "list": [[1], [], [2]]}), tmp_path / "a.parquet")
    trace = read(tmp_path / "a.parquet", work_gcycle="size")
    assert trace.time_s.tolist() == EXPECTED
    assert trace.columns["work_gcycle"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": [1, None, 3]}, "row 2: t has no value"),
        ({"t": [1.0, float("nan"), 3.0]}, "row 2: t must be a finite number of seconds, got 'nan'"),
        ({"t": [3.0, 2.0, 4.0]}, r"row 2: t must not decrease.*workload\.sort=true"),
        ({"t": [[1], [2], [3]]}, "column 't' must hold numbers, texts or timestamps, got list"),
        ({"t": [True, False, True]}, "column 't' must hold numbers, texts or timestamps, got bool"),
        ({"t": [1]}, "at least two rows"),
        ({"t": ["x" * 2000, "2", "3"]}, "row 1: t must have at most 1000 characters"),
        ({"t": pa.array([0, 2**33, 3], pa.timestamp("s"))}, "row 2: t must be between 1900-01-01 and 2200-01-01"),
        ({"u": [1, 2, 3]}, "no column that sounds like a time"),
    ],
)
def test_faults_of_a_parquet_file(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.parquet")


def test_what_unpacks_to_too_much_is_refused_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_table, "MAX_TRACE_BYTES", 10_000)
    bomb = zipped(b"t\n" + b"1\n" * 10_000)
    assert "must be at most 10,000 bytes, unpacked" in refusal(written(tmp_path, "a.csv.gz", bomb))
    pq.write_table(pa.table({"t": np.zeros(2_000_001, np.int64)}), tmp_path / "a.parquet")
    assert "must have at most 2,000,000 rows, got 2,000,001" in refusal(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", zipped(PLAIN)[:-9], "ends within its gzip data"),
        ("a.csv.gz", PLAIN, "is no sound gzip file"),
        ("a.csv.gz", zipped(b""), "is empty"),
        ("a.csv", b"PK\x03\x04rest", "is a zip archive or a spreadsheet"),
        ("a.csv", b'{"t": 1}\n{"t": 2}\n', "must be named .jsonl"),
        ("a.parquet", PLAIN, "is no sound parquet file"),
        ("a.csv", b"t,a;b\n1,2;3\n2,3;4\n", "workload.columns.separator says"),
        ("a.csv", b"t;size\n0,5;1\n1,5;2\n", "line 2: t must be seconds .*decimal commas are not read"),
        ("a.csv", b"t;size\n0;1\n1,5;2\n", "line 3: t must be a finite number .*decimal commas are not read"),
        ("a.jsonl", b'{"t": 1}\n[1]\n', "line 2: is no JSON object, got"),
        ("a.jsonl", b'{"t": 1}\n\n{"t": 2}\n', "line 2: is blank"),
        ("a.jsonl", b'{"t": 1}\n{"u": 2}\n', "line 2: has no key 't', which line 1 has"),
        ("a.jsonl", b'{"t": 1}\n{"t": 2, "u": 2}\n', "line 2: has a key 'u', which line 1 has not"),
        ("a.jsonl", b'{"t": 1}\n{"t": 2, "t": 3}\n', "line 2: .*the key t stands twice"),
        ("a.jsonl", b'{"t": 1}\n{"t": NaN}\n', "line 2: .*NaN is no number"),
        ("a.jsonl", b'{"t": 1}\n{"t": {"s": 2}}\n', "line 2: 't' must be a number or a text"),
        ("a.jsonl", b'{"t": 1}\n{"t": null}\n', "line 2: 't' must be a number or a text, got None"),
        ("a.jsonl", b'{"t": 1}\n{"t": ' + b"[" * 50_000 + b"\n", "line 2: "),
        ("a.jsonl", b'{"t": 1}\n{"t": "\\ud800"}\n', "line 2: t must be a finite number"),
    ],
)
def test_faults_of_a_form_are_named(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read(written(tmp_path, name, content))


def test_a_separator_that_is_given_is_taken(tmp_path):
    path = written(tmp_path, "a.csv", b"t,a;b\n1,2;3\n2,3;4\n")
    assert read(path, separator=",").time_s.tolist() == [0, 1]
    assert "no column that sounds like a time" in refusal(path, separator=";")
    path.write_bytes(b"t,a\n1,2\n2,3\n")
    text = refusal(path, separator=";")
    assert "line 1: is separated by comma, not by semicolon (workload.columns.separator)" in text
    other = written(tmp_path, "a.jsonl", b'{"t": 1}\n{"t": 2}\n')
    assert refusal(other, separator=";").startswith("workload.columns.separator: must be null for a jsonl file")
    words = [TraceColumns(separator=sign).separator for sign in (",", ";", "\t", "|", "tab")]
    assert words == ["comma", "semicolon", "tab", "pipe", "tab"]


# ---- times -----------------------------------------------------------------------------------------------------------


def csv_of(tmp_path, name, cells):
    return written(tmp_path, "a.csv", "\n".join([name, *map(str, cells)]).encode() + b"\n")


@pytest.mark.parametrize(
    ("name", "unit", "per_second"),
    [
        ("timestamp", None, 1),
        ("ts", "ms", 1000),
        ("ts_ms", None, 1000),
        ("timestampMs", None, 1000),
        ("time_us", None, 10**6),
        ("arrival (ns)", None, 10**9),
        ("TIMESTAMP", "ns", 10**9),
        ("ts_ms", "s", 1),
    ],
)
def test_the_unit_is_found_in_the_name_or_given(tmp_path, name, unit, per_second):
    start = 1_700_000_000 * per_second
    path = csv_of(tmp_path, name, [start, start + per_second // 4, start + 2 * per_second])
    expected = [0, 0 if per_second == 1 else 0.25, 2]
    assert read(path, time_unit=unit).time_s.tolist() == expected


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("t", [1700000000000, 1700000000001], r"line 2: .*workload\.columns\.time_unit=ms"),
        ("t", [1700000000000000, 1700000000000001], r"line 2: .*workload\.columns\.time_unit=us"),
        ("ts_ms", [1700000000000000000, 1700000000000000001], r"line 2: .*workload\.columns\.time_unit=ns"),
        ("time_min", [1, 2], r"workload\.columns\.time_unit: the name of column 'time_min' ends like another unit"),
        ("t", [20240510, 20240511], r"line 2: t looks like a date \(YYYYMMDD\)"),
        ("t", [202405101200, 202405101201], r"line 2: t looks like a date \(YYYYMMDDhhmm\)"),
        ("ts_ms", [20240510120000, 20240510120001], r"line 2: ts_ms looks like a date \(YYYYMMDDhhmmss\)"),
        ("t", ["2024-W19-5", "2024-W19-6"], "line 2: .*week dates are not read"),
        ("t", ["2024-131", "2024-132"], "line 2: .*ordinal dates are not read"),
        ("t", ["2024-05-10T10:00", "2024-05-10T10:01Z"], "line 3: t must have no time zone like the first row"),
        ("t", ["20240510T10Z", "20240510T11"], "line 3: t must have a time zone like the first row"),
        ("t", ["2024-05-10T25:00", "2024-05-10T26:01"], "line 2: .*no such time of day"),
        ("t", ["2024-02-30", "2024-03-01"], "line 2: .*must be seconds or an ISO 8601 timestamp"),
        ("t", ["9999-01-01T24:00", "2024-03-01"], "line 2: t must be between 1900"),
        ("t", ["2024-05-10", "2024-05"], "line 3: t must be seconds or an ISO 8601 timestamp"),
        ("t", [2, 1], r"line 3: t must not decrease, got '1' \(workload\.sort=true"),
        ("a", [2, 1], r"name it in workload\.columns\.timestamp"),
    ],
)
def test_times_that_cannot_be_meant_name_line_and_option(tmp_path, name, cells, message):
    with pytest.raises(InputError, match=message):
        read(csv_of(tmp_path, name, cells))


def test_a_unit_that_is_given_settles_what_looks_like_a_date(tmp_path):
    assert read(csv_of(tmp_path, "t", [20240510, 20240511]), time_unit="s").time_s.tolist() == [0, 1]
    text = refusal(csv_of(tmp_path, "t", ["2024-05-10", "2024-05-11"]), time_unit="ms")
    assert text.startswith("workload.columns.time_unit: must be null, for 't' holds timestamps")


def test_rows_are_sorted_stably_where_that_is_asked_for(tmp_path):
    path = written(tmp_path, "a.csv", b"t,size\n3,1\n1,2\n3,3\n2,4\n")
    trace = read(path, sort=True, work_gcycle="size")
    assert trace.time_s.tolist() == [0, 1, 2, 2]
    assert trace.columns["work_gcycle"].tolist() == [2, 4, 1, 3]


NOON = iso_ns("2024-05-10T12:00:00")


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-10 12:00:00",
        "20240510T120000",
        "20240510T120000,000",
        "20240510T120000.0Z",
        "20240510T12",
        "2024-05-10T12",
        "2024-05-10t12:00z",
        "2024-05-10T14:00+02",
        "2024-05-10T14:00+0200",
        "2024-05-10T17:30+05:30",
        "20240510T0400-0800",
        "2024-05-10T11.999999999999",
        "2024-05-10T11:59:60",
    ],
)  # fmt: skip
def test_forms_of_one_moment(tmp_path, text):
    assert abs(iso_ns(text) - NOON) <= 4
    aware = "Z" if text[-1] in "zZ" or "+" in text or "-08" in text else ""
    trace = read(csv_of(tmp_path, "t;u", [f"2024-05-10T11:59:00{aware};1", f"{text};2"]))
    assert trace.time_s[1] == pytest.approx(60, abs=1e-8)


def test_midnight_at_the_end_of_a_day():
    assert iso_ns("2024-05-10T24:00") == iso_ns("2024-05-11")
    assert iso_ns("2016-12-31T23:59:60Z") == iso_ns("2017-01-01T00:00:00Z")
    assert iso_ns("1970-01-01T00:00:00.000000001") == 1


# ---- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "cells", "message"),
    [
        ("origin", [0, 3], r"line 3: x must be a whole number in \[0, 2\], got '3'"),
        ("origin", ["a", "b"], r"line 2: x must be a whole number in \[0, 2\], got 'a'"),
        ("origin", [0.5, 1], r"line 2: x must be a whole number"),
        ("units", [-1, 1], r"line 2: x must be a whole number in \[0, 1000000\]"),
        ("steps", [0, 1], r"line 2: x must be a whole number in \[1, 1000000\]"),
        ("deadline_s", [0, 1], r"line 2: x must be a number in \(0, 1000000000\]"),
        ("input_mbit", ["", 1], r"line 2: x must be a number in \(0, 1e\+12\]"),
    ],
)
def test_cells_out_of_bounds(tmp_path, key, cells, message):
    path = csv_of(tmp_path, "t,x", [f"{i},{cell}" for i, cell in enumerate(cells)])
    with pytest.raises(InputError, match=message):
        read(path, **{key: "x"})
    assert "did you mean 'x_y'" in refusal(csv_of(tmp_path, "t,x_y", ["0,1", "1,1"]), **{key: "x_z"})


def test_images_have_a_unit_at_least(tmp_path):
    path = csv_of(tmp_path, "t,x", ["0,0", "1,2"])
    assert read(path, units="x").columns["units"].tolist() == [0, 2]
    with pytest.raises(InputError, match=r"line 2: x must be a whole number in \[1, "):
        read(path, units="x", least_units=1)


def test_the_files_of_the_package_are_read_in_the_same_way():
    trace = read("package:AzureLLMInferenceTrace_code.csv", steps="GeneratedTokens")
    assert len(trace.time_s) == len(trace.columns["steps"]) == 8819


def test_json_and_csv_agree(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(float(t), int(n)) for t, n in zip(np.sort(rng.random(500)), rng.integers(1, 99, 500), strict=True)]
    text = "\n".join(f"{t!r},{n}" for t, n in rows)
    one = read(written(tmp_path, "a.csv", f"t,n\n{text}".encode()), units="n")
    lines = "\n".join(json.dumps({"t": t, "n": n}) for t, n in rows)
    other = read(written(tmp_path, "a.jsonl", lines.encode()), units="n")
    assert (one.time_s == other.time_s).all()
    assert (one.columns["units"] == other.columns["units"]).all()


def test_empty_lines_at_the_end_are_no_rows(tmp_path):
    for ending in (b"\n\n", b"\r\n\r\n\r\n", b"\n\n\n\n"):
        assert len(read(written(tmp_path, "a.csv", b"t,a\n0,1\n1,2" + ending)).time_s) == 2


def test_dates_are_refused_whatever_type_their_column_has(tmp_path):
    days = [20240101, 20240102, 20240105]
    csv = b"timestamp\n" + b"".join(b"%d.0\n" % day for day in days)
    assert "looks like a date (YYYYMMDD)" in refusal(written(tmp_path, "a.csv", csv))
    for kind in ("int32", "float64", "int64"):
        path = tmp_path / f"{kind}.parquet"
        pq.write_table(pa.table({"timestamp": np.array(days, dtype=kind)}), path)
        assert "looks like a date (YYYYMMDD)" in refusal(path)


@pytest.mark.parametrize(("name", "second"), [("ms_since_start", 0.001), ("time_ms_utc", 0.001), ("us_of_trace", 1e-6)])
def test_a_unit_anywhere_in_the_name_is_that_of_the_column(tmp_path, name, second):
    path = written(tmp_path, "a.csv", f"{name}\n0\n1\n".encode())
    assert read(path, timestamp=name).time_s.tolist() == [0, second]


def test_two_units_in_a_name_and_days_ask_which(tmp_path):
    path = written(tmp_path, "a.csv", b"ms_or_us\n0\n1\n")
    assert "names several units (ms, us); say which" in refusal(path, timestamp="ms_or_us")
    path.write_bytes(b"time_day\n0\n1\n")
    assert "ends like another unit" in refusal(path, timestamp="time_day")
