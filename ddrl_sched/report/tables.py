"""The report as csv, JSON, text, markdown and LaTeX."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.jobs import records
from ddrl_sched.report.comparison import captions as captions_of
from ddrl_sched.report.comparison import check_baselines, over_loads, report_rows, sheets, sheets_over_loads
from ddrl_sched.report.load import load, print_notes, why_nothing
from ddrl_sched.report.published_study import published_rows, published_sheets
from ddrl_sched.report.returns import gain_rows, return_rows, return_sheets
from ddrl_sched.report.sheets import Row, Sheet, draw, terminal_width, write_out

FORMATS = {"table": "txt", "markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}  # -> ending of the file
NO_RETURNS = pd.DataFrame(), pd.DataFrame()  # of CartPole: per agent, and gains


def main(
    paths: Sequence[Path | str],
    baselines: Sequence[str],
    format: str,
    out: Path | str | None,
    strict: bool = False,
    *,
    wide: bool = False,
) -> int:
    """Print the report of the run folders at or below `paths`; with `out`, write it there in every form too.

    Data goes to stdout, notes and skipped folders to stderr; tables of text are as wide as the terminal unless `wide`.
    Returns the exit code: 3 if `strict` and a folder was skipped, else 0. InputError if nothing can be read, a path is
    missing or a baseline unknown; RecordsError if `out` cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"--format: unknown form {clean(format)!r}{near(format, list(FORMATS))}")
    found = load(paths)
    notes = found.notes
    try:
        if found.rows.empty and found.returns.empty:
            raise InputError(f"no finished evaluation at or below {', '.join(map(clean, paths))}: {why_nothing(found)}")
        of_returns = set(found.returns.scheduler)
        check_baselines(baselines, sorted({*found.rows.scheduler, *of_returns}))
        rows = report_rows(found.rows, [name for name in baselines if name not in of_returns], notes)
        if format == "csv" and len(found.rows) and of_returns:
            notes.append("the csv form has one table, so returns (CartPole) are left out; --out writes returns.csv too")
        published = published_rows(found.rows, notes)
    finally:
        print_notes(found)
    about = captions_of(found.rows)
    returns = return_rows(found.returns), gain_rows(found.returns, baselines)
    write_out(render(rows, format, about, published, returns, width=terminal_width(wide)))
    if out is not None:
        for name, data in _files(rows, about, published, returns):
            records.write_bytes(Path(out) / name, data.encode())
    return 3 if strict and found.skipped else 0


def render(
    rows: pd.DataFrame,
    format: str,
    captions: Mapping[str, str] | None = None,
    published: pd.DataFrame | None = None,
    returns: tuple[pd.DataFrame, pd.DataFrame] = NO_RETURNS,
    *,
    width: int | None = None,
) -> str:
    """The rows of report_rows (of published_rows, and of CartPole) as "table", "markdown", "csv", "latex" or "json".

    `width`: characters of a line of the form "table"; None for any number.

    csv has one table: that of report_rows, or the returns where there are only those.
    """
    if format == "csv":
        return as_csv(rows if len(rows) or not len(returns[0]) else returns[0])
    if format == "json":
        tables = {"rows": rows, "over_loads": over_loads(rows)}
        tables |= {"published": pd.DataFrame() if published is None else published}
        tables |= {"returns": returns[0], "return_gains": returns[1]} if len(returns[0]) else {}
        records_of = {name: plain(table) for name, table in tables.items()}
        return json.dumps(records_of, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    drawn = [
        *sheets(rows, captions or {}),
        *sheets_over_loads(rows),
        *published_sheets(published),
        *return_sheets(*returns),
    ]
    return "\n".join(draw(sheet, format, width) for sheet in drawn)


def plain(table: pd.DataFrame) -> list[Row]:
    """Records with None for NaN."""
    rows: list[Row] = table.to_dict("records")
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def _files(
    rows: pd.DataFrame, about: Mapping[str, str], published: pd.DataFrame, returns: tuple[pd.DataFrame, pd.DataFrame]
) -> Iterator[tuple[str, str]]:
    for format, ending in FORMATS.items():
        if format != "table":
            yield f"report.{ending}", render(rows, format, about, published, returns)
    if len(published):
        yield "published.csv", as_csv(published)
    for name, table in zip(("returns.csv", "return_gains.csv"), returns, strict=True):
        if len(table):
            yield name, as_csv(table)


def publish(
    rows: pd.DataFrame,
    name: str,
    sheets: Callable[[pd.DataFrame], Iterable[Sheet]],
    format: str,
    out: Path | str | None,
    *,
    width: int | None = None,
) -> None:
    """Print one table of its own: the rows as "csv" or "json" ({name: rows}), or the sheets that are made of them.

    With `out`, write it there as name.csv, name.json, ... too.
    """

    def drawn(form: str) -> str:
        if form == "csv":
            return as_csv(rows)
        if form == "json":
            return json.dumps({name: plain(rows)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        return "\n".join(draw(sheet, form, width) for sheet in sheets(rows))

    write_out(drawn(format))
    if out is not None:
        for form in FORMATS.keys() - {"table"}:
            records.write_bytes(Path(out) / f"{name}.{FORMATS[form]}", drawn(form).encode())


def as_csv(table: pd.DataFrame) -> str:
    """A table as csv with a header."""
    return str(table.to_csv(index=False, lineterminator="\n"))
