"""Tables as plain text of any width.

Text holds ASCII beside the names that it is given, for a terminal may show no more. Headers and titles wrap between
words, names between their changes; a number is never broken. Rows all stand; of columns those go that a narrow page
has no room for and that may go, and those that say the same in every row. A line names them.
"""

import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len

from ddrl_sched.display import width_of
from ddrl_sched.report.numbers import DIFFERS, cell_text
from ddrl_sched.report.settings_diff import truncate
from ddrl_sched.report.table import APART_WHY, ROUGH_NOTE, Column, Report, Table

GAP = "  "  # between two columns
LEAST_NAME = 32  # characters of the first column before its names are folded, or a third of the page
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True)
class Page:
    """Where text goes. `width`: characters of a line, None for any number; `detail`: with the minor tables."""

    width: int | None = None
    detail: bool = False
    bold: bool = False  # whether it shows bold letters


@dataclass(frozen=True)
class Drawn:
    """A column as it is drawn: the lines of its header and of its cells."""

    column: Column
    header: list[str]
    cells: list[list[str]]
    best: list[bool]
    width: int = field(init=False)

    def __post_init__(self) -> None:
        """As wide as its widest line."""
        lines = [*self.header, *(line for cell in self.cells for line in cell)]
        object.__setattr__(self, "width", max(map(cell_len, lines)))


def render(report: Report, page: Page) -> str:
    """The tables of a report, the minor ones if the page asks for them."""
    return "\n".join(as_text(table, page) for table in report.tables if page.detail or not table.detail)


def this_terminal(*, wide: bool = False) -> Page:
    """The page that standard output is."""
    bold = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return Page(None if wide else width_of(sys.stdout), detail=wide, bold=bold)


def write_out(text: str) -> None:
    """Print text as it is; characters that the encoding of standard output lacks become \\x.. or \\u...."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def as_text(table: Table, page: Page) -> str:
    """One table with its notes. What the page has no room for: some columns are left out, others follow below."""
    drawn = [_drawn(table, place, page.width) for place in range(len(table.columns))]
    same = [one for one in drawn[1:] if page.width is not None and _says_nothing(one)]
    parts, left_out = _parts([one for one in drawn if one not in same], page.width)
    lines = _wrapped(table.title, page.width)
    if table.rows and table.rows[0].apart:
        lines += _wrapped(APART_WHY, page.width)
    for part in parts:
        lines += ["", *_grid(part, table, page)]
    shown = {one.column.name for part in parts for one in part}
    notes = [note for note in table.notes if note != ROUGH_NOTE or any(_rough(table, name) for name in shown)]
    if same:
        notes.append(f"The same in every row: {'; '.join(_only_value(one) for one in same)}.")
    if left_out:
        notes.append(f"not shown at this width: {'; '.join(left_out)}. --wide shows all")
    for number, note in enumerate(notes):
        lines += [*([""] if number == 0 else []), *_wrapped(note, page.width)]
    return "\n".join(lines) + "\n"


def _rough(table: Table, name: str) -> bool:
    return any(cell.rough for cell in table.cells(name))


def _says_nothing(one: Drawn) -> bool:
    """Whether a column that may be left out has the same text in all of several rows."""
    return one.column.optional > 0 and len(one.cells) > 1 and all(cell == one.cells[0] for cell in one.cells)


def _only_value(one: Drawn) -> str:
    return f"{one.column.header} {''.join(one.cells[0]).strip()}"


def _parts(drawn: Sequence[Drawn], width: int | None) -> tuple[list[list[Drawn]], list[str]]:
    """Columns of tables that fit, each beginning with the first one; headers of those that are left out."""
    first, *others = drawn
    room = math.inf if width is None else width - first.width
    parts: list[list[Drawn]] = [[]]
    for one in (one for one in others if not one.column.optional):
        if parts[-1] and _total([*parts[-1], one]) > room:
            parts.append([])
        parts[-1].append(one)
    left_out = []
    for one in sorted((one for one in others if one.column.optional), key=lambda one: one.column.optional):
        part = next((part for part in parts if not part or _total([*part, one]) <= room), None)
        left_out += [one.column.header] if part is None else []
        (part if part is not None else []).append(one)
    place = {one.column.name: place for place, one in enumerate(drawn)}
    return [[first, *sorted(part, key=lambda one: place[one.column.name])] for part in parts], left_out


def _total(columns: Sequence[Drawn]) -> int:
    return sum(one.width + len(GAP) for one in columns)


def _drawn(table: Table, place: int, width: int | None) -> Drawn:
    limit = None if width is None else max(LEAST_NAME, width // 3)
    column, found = table.columns[place], [row.cells[place] for row in table.rows]
    texts = [cell_text(column, cell) for cell in found]
    if any(cell.differs for cell in found):  # so that brackets stand below each other
        texts = [text if cell.differs else text + " " * len(DIFFERS) for text, cell in zip(texts, found, strict=True)]
    cells = [_folded(text, limit) for text in texts]
    of_cells = max((cell_len(line) for cell in cells for line in cell), default=0)
    header = [column.header] if limit is None else _header(column.header, of_cells, limit)
    return Drawn(column, header, cells, [cell.best for cell in found])


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
    """A text in lines; names longer than a line are broken after a comma, or cut as in cells."""
    if width is None or cell_len(text) <= width:
        return [text]
    return _joined([piece for word in re.findall(r"\S+ *", text) for piece in _broken(word, width)], "", width)


def _broken(word: str, width: int) -> list[str]:
    if cell_len(word.rstrip()) <= width:
        return [word]
    return [truncate(piece, max(width, 20)) for piece in re.findall(r"[^,(;]*[,(;]+ *|[^,(;]+$", word)]


def _grid(columns: Sequence[Drawn], table: Table, page: Page) -> Iterator[str]:
    """Header, rule and rows of columns; those that are set apart under a sentence of their own."""
    height = max(len(one.header) for one in columns)
    yield from _lines(columns, [[""] * (height - len(one.header)) + one.header for one in columns])
    yield "-" * (_total(columns) - len(GAP))
    apart = bool(table.rows) and table.rows[0].apart  # all of them: said above
    for number, row in enumerate(table.rows):
        if row.apart and not apart:
            yield from ["", *_wrapped(APART_WHY, page.width), ""]
            apart = True
        best = [page.bold and one.best[number] for one in columns]
        yield from _lines(columns, [one.cells[number] for one in columns], best)


def _lines(columns: Sequence[Drawn], cells: Sequence[Sequence[str]], best: Sequence[bool] = ()) -> Iterator[str]:
    bold = best or [False] * len(columns)
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        parts = [_aligned(*part) for part in zip(texts, columns, bold, strict=True)]
        yield GAP.join(parts).rstrip()


def _aligned(text: str, one: Drawn, bold: bool) -> str:
    spaces = " " * (one.width - cell_len(text))
    shown = f"{BOLD}{text}{PLAIN}" if bold else text
    return shown + spaces if one.column.kind == "text" else spaces + shown
