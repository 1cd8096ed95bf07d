"""Lines of text for a person: aligned columns and wrapped sentences, on any terminal."""

import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence

from rich.cells import cell_len

GAP = "  "  # between two columns
PAGE = 100  # characters of a line where nothing says how many there are
LEAST = 16  # characters of the last column, however narrow the page


def aligned(rows: Sequence[Sequence[str]], width: int, right: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines; columns `right` hold numbers. The last column wraps where the page ends."""
    sizes = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    before = sum(sizes[:-1]) + len(GAP) * (len(sizes) - 1)
    lines = []
    for row in rows:
        head = "".join(_padded(cell, size, i in right) + GAP for i, (cell, size) in enumerate(_pairs(row, sizes)))
        last = _padded(row[-1], sizes[-1], True) if len(row) - 1 in right else row[-1]
        first, *more = textwrap.wrap(last, max(LEAST, width - before), drop_whitespace=False) or [""]
        lines += [(head + first).rstrip(), *(" " * before + line.strip() for line in more)]
    return lines


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A sentence in lines; what follows the first is indented."""
    return textwrap.wrap(text, max(LEAST, width), subsequent_indent=indent, break_on_hyphens=False) or [""]


def shows(characters: str) -> bool:
    """Whether standard output has these characters."""
    try:
        characters.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def print_lines(lines: Iterable[str]) -> None:
    """Print lines; characters that standard output lacks become \\x.. or \\u...."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def seconds(value: float) -> str:
    """A duration of three significant digits: "12.3 ms", "4.56 s"."""
    return f"{1e3 * value:,.3g} ms" if abs(value) < 1.0 else f"{value:,.3f} s" if value < 100 else f"{value:,.1f} s"


def _pairs(row: Sequence[str], sizes: Sequence[int]) -> Iterable[tuple[str, int]]:
    return zip(row[:-1], sizes[:-1], strict=True)


def _padded(text: str, size: int, right: bool) -> str:
    spaces = " " * (size - cell_len(text))
    return spaces + text if right else text + spaces
