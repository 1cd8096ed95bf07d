"""Csv files: a header, and as many fields on every line. The checks are vectorised; a line is searched where one fails.

The separator is the one that parts the header and, where the header leaves a choice, the first row alike.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from ddrl_sched.config import InputError
from ddrl_sched.edge.input_file import first_line
from ddrl_sched.edge.trace_column import Column, Table, check_n_rows, check_names

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
HINT = "workload.columns.separator says by what fields are separated"


def open_csv(content: bytes, where: str, separator: str | None) -> Table:
    """The table in a csv file's text; separator None: found. Raises InputError that names the line."""
    content = content.rstrip(b"\r\n") + b"\n"  # empty lines at the end are no rows
    n_lines = content.count(b"\n")
    check_n_rows(n_lines - 1, where, header=True)
    first, second = content.split(b"\n", 2)[:2]
    header, row = first.decode("utf-8-sig"), second.decode("utf-8")
    sign = SEPARATORS[separator] if separator else _found_separator(header, row, where)
    if separator and sign not in header and (others := [name for name, s in SEPARATORS.items() if s in header]):
        text = f"is separated by {' or '.join(others)}, not by {separator} (workload.columns.separator)"
        raise InputError(f"{where}, line 1: {text}")
    names = _fields(header, sign, where, 1)
    check_names(names, f"{where}, line 1")
    _check_lines(content, where, sign, len(names))
    return Table(names, f"{where}, line 1", partial(_read, content, where, sign))


def _found_separator(header: str, row: str, where: str) -> str:
    """The separator that parts the header; of several the one that parts the first row into as many fields."""
    counts = {sign: len(_fields(header, sign, where, 1)) for sign in SEPARATORS.values() if sign in header}
    parting = [sign for sign, n in counts.items() if n > 1]
    if len(parting) > 1:
        parting = [sign for sign in parting if len(_fields(row, sign, where, 2)) == counts[sign]]
    if len(parting) > 1 or (len(counts) > 1 and not parting):
        raise InputError(f"{where}, line 1: several signs may separate its fields; {HINT}")
    return parting[0] if parting else ","


def _fields(line: str, sign: str, where: str, number: int) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r")], delimiter=sign, strict=True), [])
    except csv.Error as error:
        raise InputError(f"{where}, line {number}: {first_line(error)}") from None


def _check_lines(content: bytes, where: str, sign: str, n_fields: int) -> None:
    """Every line has as many fields as the header, none is blank."""
    if b'"' in content:  # a separator may stand inside quotes: count with the csv reader
        lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
        counts = np.array([len(_fields(line, sign, where, i + 1)) for i, line in enumerate(lines)])
    else:
        data = np.frombuffer(content.removesuffix(b"\n"), dtype=np.uint8)
        ends = np.append(np.flatnonzero(data == ord("\n")), len(data))
        counts = 1 + np.diff(np.searchsorted(np.flatnonzero(data == ord(sign)), ends), prepend=0)
        starts = np.append(0, ends[:-1] + 1)
        counts[(ends == starts) | ((ends == starts + 1) & (data[np.minimum(starts, len(data) - 1)] == ord("\r")))] = 0
    if (counts == n_fields).all():
        return
    line = int(np.argmin(counts == n_fields))
    if counts[line] == 0:
        raise InputError(f"{where}, line {line + 1}: is blank, the header has {n_fields} field(s)")
    raise InputError(f"{where}, line {line + 1}: has {counts[line]} fields, the header has {n_fields}; {HINT}")


def _read(content: bytes, where: str, sign: str, wanted: Sequence[str]) -> Mapping[str, Column]:
    try:
        cells = pd.read_csv(
            io.BytesIO(content),
            sep=sign,
            usecols=list(wanted),
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
            engine="c",
        )
    except (ValueError, OverflowError) as error:  # pandas' own parser error is a ValueError
        raise InputError(f"{where}: {first_line(error)}") from None
    return {name: Column(name, cells[name], False, where, "line", 2) for name in wanted}
