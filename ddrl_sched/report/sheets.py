"""Tables of text: the same sheet as plain text of any width, markdown and LaTeX.

Plain text holds ASCII beside the names that it is given, for a terminal may show no more. Headers and titles wrap
between words, names between their changes; a number is never broken.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from ddrl_sched.display import width_of
from ddrl_sched.report.settings_diff import truncate

Row = dict[str, object]  # of a table, by column
WORDS = ("scheduler", "info", "own rules")  # columns of words; all others hold numbers
GAP = "  "  # between two columns
LEAST_NAME = 32  # characters of the first column before its names are folded, or a third of the page


@dataclass(frozen=True)
class Sheet:
    """A table of text. `optional`: headers of columns that a narrow page may leave out, the most important first."""

    title: str
    header: list[str]
    cells: list[list[str]]  # rows of len(header)
    optional: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column as it is drawn: the lines of its header and of its cells."""

    name: str
    header: list[str]
    cells: list[list[str]]
    width: int


def draw(sheet: Sheet, format: str, width: int | None = None) -> str:
    """The sheet as "table" (of at most `width` characters, as far as words allow), "markdown" or "latex"."""
    return as_text(sheet, width) if format == "table" else DRAW[format](sheet)


def terminal_width(wide: bool = False) -> int | None:
    """Characters of a line on standard output; None for any number."""
    return None if wide else width_of(sys.stdout)


def write_out(text: str) -> None:
    """Print text as it is; characters that the encoding of standard output lacks become \\x.. or \\u...."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def as_text(sheet: Sheet, width: int | None = None) -> str:
    """Plain text. What `width` leaves no room for: optional columns are left out and named, others follow below."""
    parts, left_out = _parts(sheet, width)
    lines = _wrapped(sheet.title, width)
    for part in parts:
        lines += ["", *_table(part)]
    if left_out:
        lines += ["", *_wrapped(f"not shown at this width: {'; '.join(left_out)}. --wide shows all", width)]
    return "\n".join(lines) + "\n"


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


DRAW = {"markdown": as_markdown, "latex": as_latex}  # by form


def _parts(sheet: Sheet, width: int | None) -> tuple[list[list[Column]], list[str]]:
    """Columns of tables that fit, each beginning with the first one; headers of those that are left out."""
    first, *others = [_column(sheet, i, width) for i in range(len(sheet.header))]
    room = math.inf if width is None else width - first.width
    parts: list[list[Column]] = [[]]
    for column in (one for one in others if one.name not in sheet.optional):
        if parts[-1] and _total([*parts[-1], column]) > room:
            parts.append([])
        parts[-1].append(column)
    left_out = []
    for column in sorted(
        (one for one in others if one.name in sheet.optional), key=lambda one: sheet.optional.index(one.name)
    ):
        part = next((part for part in parts if not part or _total([*part, column]) <= room), None)
        left_out += [column.name] if part is None else []
        (part if part is not None else []).append(column)
    return [[first, *sorted(part, key=lambda one: sheet.header.index(one.name))] for part in parts], left_out


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width + len(GAP) for column in columns)


def _column(sheet: Sheet, i: int, width: int | None) -> Column:
    limit = None if width is None else max(LEAST_NAME, width // 3)
    name, cells = sheet.header[i], [_folded(row[i], limit) for row in sheet.cells]
    of_cells = max((cell_len(line) for cell in cells for line in cell), default=0)
    header = [name] if limit is None else _header(name, of_cells, limit)
    return Column(name, header, cells, max(of_cells, *map(cell_len, header)))


def _header(name: str, of_cells: int, limit: int) -> list[str]:
    """At most two lines for a short header, three for a long one; as wide as the cells if that is enough."""
    words = [piece for word in name.split() for piece in _folded(word, limit)]
    most = 2 if len(name) <= LEAST_NAME else 3
    for size in range(max(of_cells, *map(cell_len, words)), cell_len(name)):
        lines = _joined(words, " ", size)
        if len(lines) <= most:
            return lines
    return _joined(words, " ", max(limit, *map(cell_len, words)))


def _folded(text: str, limit: int | None) -> list[str]:
    """Lines of a name: broken after a comma or bracket; what is longer without one is cut, and ends in ..."""
    if limit is None or cell_len(text) <= limit:
        return [text]
    pieces = re.findall(r"[^,(;]*[,(;]+ *|[^,(;]+$", text)
    return _joined([truncate(piece, limit) for piece in pieces], "", limit)


def _joined(words: Sequence[str], between: str, size: int) -> list[str]:
    """Words in lines of at most `size` characters, as far as words allow."""
    lines = [words[0]]
    for word in words[1:]:
        longer = lines[-1] + between + word
        lines[-1:] = [longer] if cell_len(longer.rstrip()) <= size else [lines[-1], word]
    return [line.rstrip() for line in lines]


def _wrapped(text: str, width: int | None) -> list[str]:
    """A text in lines; names longer than a line are broken after a comma."""
    if width is None or cell_len(text) <= width:
        return [text]
    return _joined([piece for word in re.findall(r"\S+ *", text) for piece in _broken(word, width)], "", width)


def _broken(word: str, width: int) -> list[str]:
    return [word] if cell_len(word.rstrip()) <= width else re.findall(r"[^,(;]*[,(;]+ *|[^,(;]+$", word)


def _table(columns: Sequence[Column]) -> Iterator[str]:
    height = max(len(column.header) for column in columns)
    yield from _lines(columns, [[""] * (height - len(column.header)) + column.header for column in columns])
    yield "-" * (_total(columns) - len(GAP))
    for row in zip(*(column.cells for column in columns), strict=True):
        yield from _lines(columns, row)


def _lines(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        yield GAP.join(_aligned(text, column) for text, column in zip(texts, columns, strict=True)).rstrip()


def _aligned(text: str, column: Column) -> str:
    spaces = " " * (column.width - cell_len(text))
    return text + spaces if column.name in WORDS else spaces + text


def _escape_markdown(text: str) -> str:
    text = "".join("\\" + c if c in "\\`*|" else c for c in text)
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("](", "]\\(")):
        text = text.replace(sign, safe)
    return text


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}",
               "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip
    return "".join(special.get(c, "\\" + c if c in "{}$&#%_" else c) for c in text)
