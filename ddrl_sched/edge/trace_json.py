"""JSON lines: an object with the same keys on every line, the values of interest numbers or texts."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

import pandas as pd

from ddrl_sched.config import InputError, shown
from ddrl_sched.edge.input_file import first_line
from ddrl_sched.edge.trace_column import Column, Table, check_n_rows


def open_json_lines(content: bytes, where: str) -> Table:
    """The table in the text of a file. Raises InputError that names the line."""
    lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    check_n_rows(len(lines), where, header=False)
    names = list(_object(lines[0], f"{where}, line 1"))
    return Table(names, f"{where}, line 1", partial(_read, lines, where, names))


def _read(lines: Sequence[str], where: str, names: Sequence[str], wanted: Sequence[str]) -> Mapping[str, Column]:
    cells: dict[str, list[str]] = {name: [] for name in wanted}
    known = set(names)
    for number, line in enumerate(lines, 1):
        row = _object(line, f"{where}, line {number}")
        if row.keys() != known:
            raise InputError(f"{where}, line {number}: {_other_keys(row, names)}")
        for name in wanted:
            value = row[name]
            if not isinstance(value, str):
                text = f"{shown(name)} must be a number or a text, got {shown(value)}"
                raise InputError(f"{where}, line {number}: {text}")
            cells[name].append(value)
    return {
        name: Column(name, pd.Series(values, dtype=object), False, where, "line", 1) for name, values in cells.items()
    }


def _other_keys(row: Mapping[str, object], names: Sequence[str]) -> str:
    missing = [name for name in names if name not in row]
    if missing:
        return f"has no key {shown(missing[0])}, which line 1 has"
    return f"has a key {shown(next(key for key in row if key not in names))}, which line 1 has not"


def _object(line: str, where: str) -> dict[str, object]:
    """Keys and values; numbers as the text they are written with."""
    if not line.strip():
        raise InputError(f"{where}: is blank, a JSON object was expected")
    try:
        value = _DECODER.decode(line)
    except RecursionError:
        raise InputError(f"{where}: is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{where}: is no JSON object ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: is no JSON object, got {shown(value)}")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        names = [key for key, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {double} stands twice")
    return keys


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=str, parse_int=str, parse_constant=_refuse_constant)
