"""Tables as markdown: a pipe table under its title in bold, the best in bold, rows set apart in one of their own."""

from collections.abc import Sequence

from ddrl_sched.report.numbers import cell_text
from ddrl_sched.report.table import APART_WHY, Cell, Column, Report, Row, Table


def render(report: Report) -> str:
    """The main tables of a report."""
    return "\n".join(as_markdown(table) for table in report.tables if not table.detail)


def as_markdown(table: Table) -> str:
    """One table with its notes."""
    rows, apart = table.split()
    parts = [f"**{escape(table.title)}**"]
    parts += [_pipes(table.columns, rows)] if rows else []
    parts += [escape(APART_WHY), _pipes(table.columns, apart)] if apart else []
    parts += [escape(note) for note in table.notes]
    return "\n\n".join(parts) + "\n"


def _pipes(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    align = ["---" if column.kind == "text" else "---:" for column in columns]
    cells = [[_cell(*pair) for pair in zip(columns, row.cells, strict=True)] for row in rows]
    lines = [[escape(column.header) for column in columns], align, *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(column: Column, cell: Cell) -> str:
    text = escape(cell_text(column, cell))
    return f"**{text}**" if cell.best else text


def escape(text: str) -> str:
    """Text that markdown leaves as it is."""
    text = "".join("\\" + c if c in "\\`*|~" else c for c in text)
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("](", "]\\(")):
        text = text.replace(sign, safe)
    return text
