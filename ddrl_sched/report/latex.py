"""Tables as LaTeX with booktabs (needs \\usepackage{booktabs}); the best in bold, rows set apart below a rule."""

from collections.abc import Sequence

from ddrl_sched.report.numbers import cell_text
from ddrl_sched.report.table import APART_WHY, Cell, Column, Report, Row, Table


def render(report: Report) -> str:
    """The main tables of a report."""
    return "\n".join(as_latex(table) for table in report.tables if not table.detail)


def as_latex(table: Table) -> str:
    """One table with its notes."""
    rows, apart = table.split()
    align = "".join("l" if column.kind == "text" else "r" for column in table.columns)
    body = [_line([escape(column.header) for column in table.columns]), r"\midrule", *_lines(table.columns, rows)]
    if apart:
        body += [r"\midrule", rf"\multicolumn{{{len(align)}}}{{l}}{{{escape(APART_WHY)}}} \\"]
        body += _lines(table.columns, apart)
    notes = [rf"\par\smallskip {escape(note)}" for note in table.notes]
    return "\n".join(
        [r"\begin{table}", r"\centering", r"\small", rf"\caption{{{escape(table.title)}}}",
         rf"\begin{{tabular}}{{{align}}}", r"\toprule", *body, r"\bottomrule",
         r"\end{tabular}", *notes, r"\end{table}", ""]
    )  # fmt: skip


def _lines(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    return [_line([_cell(*pair) for pair in zip(columns, row.cells, strict=True)]) for row in rows]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, cell: Cell) -> str:
    text = escape(cell_text(column, cell))
    return rf"\textbf{{{text}}}" if cell.best else text


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}",
               "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip
    return "".join(special.get(c, "\\" + c if c in "{}$&#%_" else c) for c in text)
