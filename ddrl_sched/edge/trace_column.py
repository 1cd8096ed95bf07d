"""Tables of trace files and their columns: cells as they stand, as numbers, and where a wrong one is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.config import InputError, clean, shown
from ddrl_sched.edge.types import Bools, Floats, Ints

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 2_000_000
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


class Bounds(NamedTuple):
    """Values that a column may have: low (itself only if `from_low`) to high, perhaps whole numbers only."""

    low: float
    high: float
    from_low: bool
    whole: bool

    def __str__(self) -> str:
        kind = "whole number" if self.whole else "number"
        return f"a {kind} in {'[' if self.from_low else '('}{self.low:.12g}, {self.high:.12g}]"


@dataclass(frozen=True)
class Column:
    """Cells of a column: text (csv, jsonl), numbers or datetime64 (parquet)."""

    name: str
    cells: "pd.Series[Any]"  # [n]
    aware: bool  # datetime64 cells had a time zone (and are in UTC)
    where: str  # the file
    unit: str  # what is counted: "line" or "row"
    first: int  # number of the first cell's line or row

    @property
    def is_time(self) -> bool:
        """The cells are datetime64, not text or numbers."""
        return self.cells.dtype.kind == "M"

    def at(self, row: int) -> str:
        """File and line (or row) of a cell."""
        return f"{self.where}, {self.unit} {row + self.first}"

    def to_numeric(self) -> Floats | Ints:
        """Integers (exact) where all cells are, else floats; NaN for what is no number [n]."""
        import pandas as pd  # lazy: as in edge/trace_file.py

        if self.is_time:
            return np.full(len(self.cells), np.nan)
        text = self.cells.dtype.kind not in "iuf"
        values = self.cells.to_numpy(dtype=object) if text else self.cells.to_numpy()
        numbers: NDArray[Any] = np.asarray(pd.to_numeric(values, errors="coerce"))
        if numbers.dtype.kind == "u":
            fits = numbers.max(initial=0) <= np.iinfo(np.int64).max
            return numbers.astype(np.int64) if fits else numbers.astype(np.float64)
        return numbers if numbers.dtype == np.int64 else numbers.astype(np.float64)

    def numbers(self, bounds: Bounds) -> Floats:
        """The cells as numbers within bounds [n]. Raises InputError that names the line."""
        values = self.to_numeric().astype(np.float64)
        inside = (values >= bounds.low if bounds.from_low else values > bounds.low) & (values <= bounds.high)
        if bounds.whole:
            inside &= values == np.floor(values)
        self.refuse(~inside, f"must be {bounds}")
        return values

    def refuse(self, wrong: Bools, expected: str, hint: str = "") -> None:
        """InputError for the first cell that is wrong [n]."""
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
        got = str(self.cells.to_numpy()[row])
        if DECIMAL_COMMA.fullmatch(got):
            hint = " (decimal commas are not read: write a point)"
        raise InputError(f"{self.at(row)}: {clean(self.name)} {expected}, got {shown(got)}{hint}")


@dataclass(frozen=True)
class Table:
    """A table whose header is read and whose cells are not yet."""

    names: Sequence[str]  # of its columns
    head: str  # file, and line of the header
    read: Callable[[Sequence[str]], Mapping[str, Column]]  # some of the columns. Raises InputError


def check_names(names: Sequence[str], head: str) -> None:
    """InputError for a name that stands twice."""
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise InputError(f"{head}: column {shown(doubles[0])} stands twice")


def check_n_rows(n_rows: int, where: str, header: bool) -> None:
    """InputError for a table with too many or too few rows."""
    if n_rows > MAX_ROWS:
        raise InputError(f"{where}: must have at most {MAX_ROWS:,} rows, got {n_rows:,}")
    if n_rows < 2:
        wanted, got = ("a header and at least two rows", n_rows + 1) if header else ("at least two rows", n_rows)
        raise InputError(f"{where}: must have {wanted}, got {got} {'line' if header else 'row'}(s)")
