"""The form of a trace file: csv, JSON lines or parquet, the first two perhaps gzipped."""

import gzip
import io
import zlib

from ddrl_sched.config import InputError
from ddrl_sched.edge.input_file import GZIP, MAX_TRACE_BYTES, PARQUET, first_line
from ddrl_sched.edge.trace_column import Table
from ddrl_sched.edge.trace_csv import open_csv
from ddrl_sched.edge.trace_json import open_json_lines
from ddrl_sched.edge.trace_parquet import open_parquet

ZIP = b"PK\x03\x04"
JSON_LINES = (".jsonl", ".ndjson")


def open_table(content: bytes, path: str, where: str, separator: str | None) -> Table:
    """The table in the content of a file. Its form goes by the end of the path's name; any other name is csv.

    separator: of a csv file (a word of workload.columns.separator); None: found. Raises InputError that names file and
    line or row, also for what the file or its cells unpack to beyond the limit.
    """
    name = path.lower()
    if not content:
        raise InputError(f"{where}: is empty")
    if name.endswith(".gz") or content.startswith(GZIP):
        content, name = _unpacked(content, where), name.removesuffix(".gz")
    if name.endswith(".parquet") or (content.startswith(PARQUET) and content.endswith(PARQUET)):
        _refuse_separator(separator, where, "parquet")
        return open_parquet(content, where)
    if content.startswith(ZIP):
        raise InputError(f"{where}: is a zip archive or a spreadsheet; csv, csv.gz, jsonl and parquet are read")
    _check_text(content, where)
    if name.endswith(JSON_LINES):
        _refuse_separator(separator, where, "jsonl")
        return open_json_lines(content, where)
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[{")):
        raise InputError(f"{where}, line 1: holds JSON; a file of one JSON object per line must be named .jsonl")
    return open_csv(content, where, separator)


def _unpacked(content: bytes, where: str) -> bytes:
    """What a gzip file holds, read no further than the limit."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            unpacked = packed.read(MAX_TRACE_BYTES + 1)
    except EOFError:
        raise InputError(f"{where}: ends within its gzip data, perhaps cut off") from None
    except (OSError, zlib.error) as error:
        raise InputError(f"{where}: is no sound gzip file ({first_line(error)})") from None
    if len(unpacked) > MAX_TRACE_BYTES:
        raise InputError(f"{where}: must be at most {MAX_TRACE_BYTES:,} bytes, unpacked")
    if not unpacked:
        raise InputError(f"{where}: is empty")
    return unpacked


def _refuse_separator(separator: str | None, where: str, form: str) -> None:
    if separator is not None:
        raise InputError(f"workload.columns.separator: must be null for a {form} file ({where.split(': ', 1)[1]})")


def _check_text(content: bytes, where: str) -> None:
    if (at := content.find(b"\0")) >= 0:
        raise InputError(f"{where}, line {_line_at(content, at)}: holds a NUL byte")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}, line {_line_at(content, error.start)}: is not UTF-8 text") from None
    if content.count(b"\r") != content.count(b"\r\n"):
        raise InputError(f"{where}: lines must end with a newline (or carriage return and newline)")


def _line_at(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
