"""Two thousand damaged trace files: each is read as it stands, or refused by its line."""

import csv
import gzip
import io
import json
import random
import re
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.trace_file import read_trace
from ddrl_sched.edge.workload_settings import TraceColumns
from tests.conf_files import plain
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import prepare

COLUMNS = TraceColumns(timestamp="t", work_gcycle="size")
CELLS = [
    "", " ", "nan", "NaN", "inf", "-inf", "1e400", "-1e400", "1e308", "-5", "0", "0x10", "1_0", "1,2", '"1', '"1,2"',
    "\x00", "\x1b[2J", "é", "\u2028", "now", "today", "True", "None", "2024-13-01", "9999-01-01", "1700000000000",
    "1e-400", "1 2", "1.5.2", "--1", "=1+1", "x" * 10_000, "\r", "\n", "\n\n", ",", "'1'", "1e5", "+7", "\ufeff1",
]  # fmt: skip


def rows(rng):
    """A whole file: seconds or timestamps, a size, a word."""
    iso = rng.random() < 0.3
    table, moment = [["t", "size", "what"]], 0.0
    for number in range(rng.randrange(3, 40)):
        moment += rng.random()
        stamp = f"2024-05-0{1 + number // 30}T10:{number % 30:02}:{rng.random() * 9:06.3f}Z" if iso else f"{moment:.3f}"
        table.append([stamp, str(1 + rng.randrange(9)), "word"])
    return table


def swapped(table, rng):
    i, j = rng.sample(range(1, len(table)), 2)
    table[i], table[j] = table[j], table[i]


def other_cell(table, rng):
    rng.choice(table)[rng.randrange(3)] = rng.choice(CELLS)


def other_width(table, rng):
    row = rng.choice(table)
    rng.choice([row.pop, lambda: row.append("1"), row.clear])()


def other_header(table, rng):
    table[0] = rng.choice(
        [["t", "t", "size"], ["T", "size", "what"], ["size", "what", "t"], ["t"], table[1], ["t", "size"]]
    )


def fewer(table, rng):
    del table[rng.randrange(len(table)) :]


def same_time(table, rng):
    for row in table[1:]:
        row[0] = table[1][0]


def damaged(rng):
    """(bytes of a damaged file, kinds of damage)."""
    table, kinds = rows(rng), []
    for _ in range(rng.choice([1, 1, 2, 3])):
        change = rng.choice([swapped, other_cell, other_cell, other_cell, other_width, other_header, fewer, same_time])
        if len(table) > 2 and all(len(row) == 3 for row in table):
            change(table, rng)
            kinds.append(change.__name__)
    data = rng.choice(["\n", "\n", "\r\n"]).join(",".join(row) for row in table).encode() + b"\n"
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))]
        kinds.append("cut")
    if rng.random() < 0.1 and data:
        at = rng.randrange(len(data))
        data = data[:at] + rng.randbytes(3) + data[at:]
        kinds.append("noise")
    return data, kinds


def read_or_reason(path):
    """(TraceFile, None) or (None, message)."""
    try:
        return read_trace(str(path), COLUMNS, 3), None
    except InputError as error:
        return None, str(error)


WHOLE_FILE = "is empty|must have a header|must end with a newline|all rows have the same|at most"


def check(data, kinds, path):
    """Whether the file was refused; every refusal names file and line, or says what ails the whole of it."""
    path.write_bytes(data)
    trace, reason = read_or_reason(path)
    if trace is None:
        assert path.name in reason, (kinds, reason)
        assert reason.isprintable(), (kinds, reason)
        assert re.search(rf", line \d+: |{WHOLE_FILE}", reason), (kinds, reason)
        return True
    table = list(csv.DictReader(data.decode("utf-8-sig").removesuffix("\n").split("\n")))
    assert len(trace.time_s) == len(table)
    assert np.isfinite(trace.time_s).all()
    assert (np.diff(trace.time_s) >= 0).all()
    assert (trace.columns["work_gcycle"] > 0).all()
    assert trace.columns["work_gcycle"].tolist() == [float(row["size"]) for row in table]
    return False


def fuzz(tmp_path, count):
    rng, counts, refused = random.Random(7), Counter(), 0
    for _ in range(count):
        data, kinds = damaged(rng)
        refused += check(data, kinds, tmp_path / "trace.csv")
        counts.update(kinds)
    print(f"\n{count} traces, {refused} refused, {count - refused} read; damage: {dict(counts)}")
    assert refused > count / 2
    assert refused < count


def test_a_damaged_trace_is_read_as_it_stands_or_its_line_named(tmp_path):
    fuzz(tmp_path, 200)


@pytest.mark.slow
def test_two_thousand_damaged_traces(tmp_path):
    fuzz(tmp_path, 2000)


def test_a_huge_file_costs_less_than_a_small_job(tmp_path):
    """1 GB that is not there is refused by its size, faster than a file of a few hundred kB is read."""
    data = settings(tmp_path) | {"workload": plain("workload", "trace")}
    small, huge = tmp_path / "small.csv", tmp_path / "huge.csv"
    small.write_bytes(b"timestamp\n" + b"".join(b"%d\n" % i for i in range(50_000)))
    with huge.open("wb") as file:
        file.truncate(10**9)
    spent = {}
    for path in (small, huge):
        began = time.process_time()
        data["workload"]["path"] = str(path)
        try:
            prepare(data, "sweep", {})
            reason = ""
        except InputError as error:
            reason = str(error)
        spent[path.name] = time.process_time() - began
    assert "must be at most 200,000,000 bytes, got 1,000,000,000" in reason
    assert spent["huge.csv"] < spent["small.csv"]


def packed(name, table):
    """A whole table as the bytes of a file of this name."""
    header, *lines = table
    if name.endswith("jsonl"):
        return "\n".join(json.dumps(dict(zip(header, line, strict=True))) for line in lines).encode()
    if name.endswith("parquet"):
        columns = dict(zip(header, map(list, zip(*lines, strict=True)), strict=True))
        pq.write_table(pa.table(columns), sink := io.BytesIO())
        return sink.getvalue()
    return gzip.compress("\n".join(";".join(line) for line in table).encode(), mtime=0)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl", "a.parquet"])
def test_damaged_bytes_of_every_form_are_read_or_refused(tmp_path, name):
    rng, path, refused = random.Random(11), tmp_path / name, 0
    for _ in range(150):
        data = bytearray(packed(name, rows(rng)))
        path.write_bytes(data)
        assert read_or_reason(path)[1] is None
        for _ in range(rng.choice([1, 1, 4])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 3])] = rng.randbytes(rng.choice([0, 1, 3]))
        path.write_bytes(data)
        trace, reason = read_or_reason(path)
        if trace is None:
            assert name in reason
            assert reason.isprintable()
            refused += 1
        else:
            assert (np.diff(trace.time_s) >= 0).all()
            assert (trace.columns["work_gcycle"] > 0).all()
    assert refused > 30


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/proc/self/mem", "a\x1b[2Jb\n.csv", ".", "\ud800", "a\x00b", "x" * 5000]
)
def test_what_is_no_file_is_refused(path):
    with pytest.raises(InputError, match=r"^workload\.path: ") as caught:
        read_trace(path, COLUMNS, 3)
    assert str(caught.value).isprintable()
