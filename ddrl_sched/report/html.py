"""A report as one page of HTML that needs nothing beside it: no network, no script.

Run folders may come from strangers: every text is escaped, pictures are images (no script of an SVG runs there), and
the page forbids scripts and requests altogether.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ddrl_sched.report.chart import Chart
from ddrl_sched.report.glossary import glossary
from ddrl_sched.report.html_words import verdict_section
from ddrl_sched.report.numbers import cell_text
from ddrl_sched.report.table import APART_WHY, Cell, Column, Row, Table
from ddrl_sched.report.verdict import Verdict

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
LONG = 60  # characters of a cell from which on it wraps
WIDE = 500.0  # points of a picture that scrolls on a phone
MAX_ENTRIES = 24  # of a section, in the contents
MAX_LISTED = 200  # notes and skipped folders


@dataclass(frozen=True)
class Drawn:
    """A chart with its picture: SVG and its width in points."""

    chart: Chart
    svg: bytes
    width: float


@dataclass(frozen=True)
class Content:
    """What stands on a page."""

    title: str
    lead: str  # a sentence on what was read
    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    drawn: Sequence[Drawn]
    runs: Sequence[Table]  # about the runs
    notes: Sequence[str]
    skipped: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of the page; an anchor per entry of the table of contents."""

    anchor: str
    title: str
    body: str
    entries: Sequence[tuple[str, str]] = ()  # (anchor, title) of its own parts


def page(content: Content) -> str:
    """The whole page."""
    sections = [section for section in _sections(content) if section.body]
    body = "\n".join(
        f'<section id="{one.anchor}"><h2>{escape(one.title)}</h2>\n{one.body}\n</section>' for one in sections
    )
    first, _, rest = body.partition("</section>")
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(content.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(content.title)}</h1>
<p class="lead">{escape(content.lead)}</p>
</header>
<main>
{first}</section>
{_contents(sections)}
{rest}
</main>
<footer>Made by <code>ddrl report --format html</code>; the numbers of each figure lie beside this page.</footer>
</body>
</html>
"""


def _sections(content: Content) -> Iterator[Section]:
    if content.verdicts:
        yield Section("verdict", "Which scheduler to take, and how sure that is", verdict_section(content.verdicts))
    main = [table for table in content.tables if not table.detail]
    yield _tables_section("results", "Results", main, legend=True)
    if content.verdicts:
        yield Section("words", "Words", glossary())
    figures = [(f"figure-{one.chart.name}", one.chart.title) for one in content.drawn]
    yield Section("figures", "Figures", "\n".join(map(_figure, content.drawn)), figures)
    detail = [table for table in content.tables if table.detail]
    yield _tables_section("more-results", "More tables", detail, listed=0)
    yield _tables_section("runs", "Where the numbers come from", content.runs)
    skipped = [f"{path}: {reason}" for path, reason in content.skipped]
    yield Section("notes", "Notes", _list(content.notes))
    yield Section("skipped", "Folders that were left out", _list(skipped))


def _contents(sections: Sequence[Section]) -> str:
    items = []
    for one in sections:
        inner = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title in one.entries)
        items.append(f'<li><a href="#{one.anchor}">{escape(one.title)}</a>{f"<ul>{inner}</ul>" if inner else ""}</li>')
    return f'<nav aria-label="Contents"><h2>Contents</h2><ol>{"".join(items)}</ol></nav>'


def _tables_section(
    anchor: str, title: str, tables: Sequence[Table], *, legend: bool = False, listed: int = MAX_ENTRIES
) -> Section:
    """Tables one below the other, the first of them `listed` in the contents."""
    named = [(f"{anchor}-{number}", table) for number, table in enumerate(tables, 1)]
    body = "\n".join(f'<div id="{place}">{as_html(table)}</div>' for place, table in named)
    if legend and body:
        body = (
            '<p class="note">Bold: the best of its column, whatever it knows. In brackets: 95 % intervals.</p>\n' + body
        )
    return Section(anchor, title, body, [(place, table.title) for place, table in named[:listed]])


def as_html(table: Table) -> str:
    """One table with its title and notes, in a box of its own that scrolls where it is too wide."""
    rows, apart = table.split()
    head = "".join(f'<th scope="col"{_class(_kind(column))}>{escape(column.header)}</th>' for column in table.columns)
    body = f"<tbody>{_rows(table.columns, rows)}</tbody>"
    if apart:
        why = f'<tr class="apart-why"><th colspan="{len(table.columns)}">{escape(APART_WHY)}</th></tr>'
        body += f'<tbody class="apart">{why}{_rows(table.columns, apart)}</tbody>'
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    grid = f"<table><thead><tr>{head}</tr></thead>{body}</table>"
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">{grid}</div>'
    return f"<h3>{escape(table.title)}</h3>\n{box if table.rows else ''}{notes}"


def _rows(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    return "".join(f"<tr>{''.join(_cells(columns, row))}</tr>" for row in rows)


def _cells(columns: Sequence[Column], row: Row) -> Iterator[str]:
    first, *rest = zip(columns, row.cells, strict=True)
    yield f'<th scope="row">{escape(cell_text(*first))}</th>'
    for column, cell in rest:
        yield _cell(column, cell)


def _cell(column: Column, cell: Cell) -> str:
    text = cell_text(column, cell)
    classes = [_kind(column), *(["best"] if cell.best else [])]
    if column.kind == "text":
        classes += ["long"] * (len(text) > LONG)
        shown = f"<code>{escape(text)}</code>" if column.name == "command" else escape(text)
        return f"<td{_class(*classes)}>{shown}</td>"
    value, bracket, rest = escape(text).partition(" [")
    interval = f'<span class="ci">{bracket}{rest}</span>' if bracket else ""
    return f"<td{_class(*classes)}>{value}{interval}</td>"


def _kind(column: Column) -> str:
    return "text" if column.kind == "text" else ""


def _class(*names: str) -> str:
    given = " ".join(filter(None, names))
    return f' class="{given}"' if given else ""


def _figure(drawn: Drawn) -> str:
    """The picture as an image, its caption, and links to the files beside the page."""
    chart, data = drawn.chart, base64.b64encode(drawn.svg).decode()
    wide = ' class="wide"' if drawn.width > WIDE else ""
    files = ", ".join(f'<a href="{chart.name}.{ending}">{ending.upper()}</a>' for ending in ("svg", "pdf", "csv"))
    return (
        f'<figure id="figure-{chart.name}"><h3>{escape(chart.title)}</h3>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(chart.title)}">'
        f'<img{wide} alt="{escape(f"{chart.title}. {chart.caption}")}" src="data:image/svg+xml;base64,{data}"></div>'
        f"<figcaption>{escape(chart.caption)} Files: {files}.</figcaption></figure>"
    )


def _list(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[:MAX_LISTED])
    more = f'<p class="note">{len(lines) - MAX_LISTED} more.</p>' if len(lines) > MAX_LISTED else ""
    return f"<ul>{items}</ul>{more}"
