"""Tables of text: the same sheet as plain text, markdown and LaTeX."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 120  # characters of a text table
MAX_NAME = 40  # characters of the first column before it is folded
WORDS = ("scheduler", "info", "own rules")  # columns of words; all others hold numbers


@dataclass(frozen=True)
class Sheet:
    """A table of text."""

    title: str
    header: list[str]
    cells: list[list[str]]  # rows of len(header)


def as_text(sheet: Sheet) -> str:
    """Plain text of at most WIDTH characters; columns that do not fit follow in a table of their own."""
    from rich.console import Console  # lazy: only this form needs it
    from rich.text import Text

    file = io.StringIO()
    console = Console(file=file, width=WIDTH, color_system=None, emoji=False, legacy_windows=False)
    console.print(Text(sheet.title))
    for part in _fitting(sheet):
        console.print()
        console.print(_rich_table(part))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def as_markdown(sheet: Sheet) -> str:
    """A pipe table under its title in bold."""
    align = ["---" if name in WORDS else "---:" for name in sheet.header]
    lines = [map(_escape_markdown, sheet.header), align, *(map(_escape_markdown, row) for row in sheet.cells)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**{_escape_markdown(sheet.title)}**\n\n{table}\n"


def as_latex(sheet: Sheet) -> str:
    """A booktabs table (needs \\usepackage{booktabs})."""
    align = "".join("l" if name in WORDS else "r" for name in sheet.header)
    lines = [" & ".join(map(_escape_latex, row)) + r" \\" for row in [sheet.header, *sheet.cells]]
    return "\n".join(
        [r"\begin{table}", r"\centering", r"\small", rf"\caption{{{_escape_latex(sheet.title)}}}",
         rf"\begin{{tabular}}{{{align}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule",
         r"\end{tabular}", r"\end{table}", ""]
    )  # fmt: skip


def with_interval(estimate: Sequence[float], write: Callable[[float], str]) -> str:
    """ "value [lo, hi]"; without an interval where a bound is not finite, "-" where the value is not."""
    value, lo, hi = estimate
    if not math.isfinite(value):
        return "-"
    return write(value) + (f" [{write(lo)}, {write(hi)}]" if math.isfinite(lo) and math.isfinite(hi) else "")


def unit_of(delay_s: float) -> tuple[int, str]:
    """(factor, unit) in which delays of this size are shown."""
    return (1000, "ms") if delay_s < 1.0 else (1, "s")


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, thousands apart, never an exponent."""
    if not math.isfinite(value):
        return "-"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(decimals, 9)}f}"


def percentage(value: float) -> str:
    """A percentage with one decimal, from 100 on with none; no minus before zero."""
    if not math.isfinite(value):
        return "-"
    digits = 1 if abs(value) < 100 else 0
    return f"{round(value, digits) + 0.0:,.{digits}f}"


DRAW = {"table": as_text, "markdown": as_markdown, "latex": as_latex}  # by form


def _rich_table(sheet: Sheet) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for number, name in enumerate(sheet.header):
        justify: Any = "left" if name in WORDS else "right"
        width = _width(sheet, number)
        table.add_column(Text(name), justify=justify, min_width=width, max_width=width)
    for cells in sheet.cells:
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    return table


def _fitting(sheet: Sheet) -> Iterator[Sheet]:
    """The sheet in parts of at most WIDTH characters; each begins with the first column."""
    widths = [_width(sheet, column) + 2 for column in range(len(sheet.header))]
    columns: list[int] = []
    for i in range(1, len(widths)):
        if columns and widths[0] + sum(widths[c] for c in columns) + widths[i] > WIDTH:
            yield _columns(sheet, [0, *columns])
            columns = []
        columns.append(i)
    yield _columns(sheet, [0, *columns])


def _width(sheet: Sheet, column: int) -> int:
    """Of the widest cell and the widest word of the header, which may take several lines."""
    widest = max(map(len, [*sheet.header[column].split(), *(row[column] for row in sheet.cells)]))
    return min(widest, WIDTH - MAX_NAME - 4 if column else MAX_NAME)


def _columns(sheet: Sheet, columns: list[int]) -> Sheet:
    return Sheet(sheet.title, [sheet.header[i] for i in columns], [[row[i] for i in columns] for row in sheet.cells])


def _escape_markdown(text: str) -> str:
    text = "".join("\\" + c if c in "\\`*|" else c for c in text)
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("](", "]\\(")):
        text = text.replace(sign, safe)
    return text


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}",
               "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip
    return "".join(special.get(c, "\\" + c if c in "{}$&#%_" else c) for c in text)
