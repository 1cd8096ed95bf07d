"""`ddrl report`: read run folders, compute tables, print them in one form, write them in every form."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.jobs import records
from ddrl_sched.report import csv_form, json_form, latex, markdown, terminal
from ddrl_sched.report.compute import read, report_of
from ddrl_sched.report.load import print_notes
from ddrl_sched.report.page import write_page
from ddrl_sched.report.table import Report, ReportKind

FILE_FORMS: dict[str, tuple[str, Callable[[Report], str]]] = {  # -> ending of the file, renderer
    "markdown": ("md", markdown.render),
    "csv": ("csv", csv_form.render),
    "latex": ("tex", latex.render),
    "json": ("json", json_form.render),
}
HTML = "html"  # a page with its figures, which is written and not printed
FORMATS = ("table", *FILE_FORMS, HTML)
# frames beside the main one that get a csv of their own
OWN_CSV = ("published", "returns", "return_gains", "capacities", "capacity_loads")


def main(
    paths: Sequence[Path | str],
    baselines: Sequence[str],
    format: str,
    out: Path | str | None,
    strict: bool = False,
    *,
    wide: bool = False,
    kind: ReportKind = "results",
) -> int:
    """Print the report of the run folders at or below `paths`; with `out`, write it there in every form too.

    The form "html" is a page in `out`; where it is gets printed.

    Data goes to stdout, notes and skipped folders to stderr; tables of text are as wide as the terminal unless `wide`.
    Returns the exit code: 3 if `strict` and a folder was skipped, else 0. InputError if nothing can be read, a path is
    missing or a baseline unknown; RecordsError if `out` cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"--format: unknown form {clean(format)!r}{near(format, list(FORMATS))}")
    if format == HTML and out is None:
        raise InputError("--out: --format html writes a page and its figures, so it needs a folder: --out DIR")
    found = read(paths, kind, figures=format == HTML)
    try:
        report = report_of(found, paths, baselines, kind)
        if format == "csv" and len(found.rows) and len(found.returns):
            found.notes.append(
                "the csv form has one table, so returns (CartPole) are left out; --out writes returns.csv too"
            )
    finally:
        print_notes(found)
    if format == HTML:
        print(f"page: {clean(write_page(report, Path(str(out))))}")
    else:
        terminal.write_out(render(report, format, terminal.this_terminal(wide=wide)))
    for name, text in files(report) if out is not None else ():
        records.write_bytes(Path(str(out)) / name, text.encode())
    return 3 if strict and found.skipped else 0


def render(report: Report, format: str, page: terminal.Page | None = None) -> str:
    """The report in one form; `page` is where a "table" goes."""
    return terminal.render(report, page or terminal.Page()) if format == "table" else FILE_FORMS[format][1](report)


def files(report: Report) -> Iterator[tuple[str, str]]:
    """(name, content) of the files of a report."""
    for ending, draw in FILE_FORMS.values():
        yield f"{report.stem}.{ending}", draw(report)
    for name in OWN_CSV:
        if name in report.frames and len(report.frames[name]):
            yield f"{name}.csv", csv_form.as_csv(report.frames[name])
