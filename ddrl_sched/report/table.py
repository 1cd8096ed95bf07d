"""Tables of a report as data: numbers with their intervals and marks, from which every form is drawn.

A table holds what a reader compares in one world; `frames` of a report hold all of it in long form, a row for each
scheduler, world and baseline, as csv and JSON have it. How a cell is written is said by its column (numbers.py).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pandas as pd

from ddrl_sched.report.load import Loaded
from ddrl_sched.report.stability import OVERLOADED
from ddrl_sched.report.statistics import Estimate

Value = str | int | float
Kind = Literal[
    "text", "count", "number", "percent", "change", "ratio", "p", "word"
]  # how values are written, see numbers.py; a word stands to the right
ReportKind = Literal["results", "training", "by_seed"]
DIFFERS_NOTE = "* differs from the baseline (5 %, Holm over the pairs of this table)."
ROUGH_NOTE = "~ rests on fewer tasks than a percentile within 1 % needs."
APART_WHY = "Overloaded: these schedulers cause a load of 1 or more, so their means tell about the horizon."


class Cell(NamedTuple):
    """A value in the unit of the run folders (seconds, fractions), its 95 % interval (NaN: none) and its marks."""

    value: Value
    lo: float = math.nan
    hi: float = math.nan
    best: bool = False  # of its column, among the rows that are not set apart
    differs: bool = False  # significantly from the baseline
    rough: bool = False  # a percentile of fewer tasks than it needs


@dataclass(frozen=True)
class Column:
    """A column and how its values are shown."""

    name: str  # unique in its table
    label: str
    kind: Kind = "number"
    unit: str = ""  # in which values are shown
    scale: float = 1.0  # values times this are in the unit
    digits: int = 3  # significant ones of a number; behind the point of a change
    interval: bool = False  # whether the intervals of its cells are shown
    optional: int = 0  # a narrow page leaves out the largest first; 0: never

    @property
    def header(self) -> str:
        """ "mean delay, ms [95%]"."""
        unit = f", {self.unit}" if self.unit else ""
        return self.label + unit + (" [95%]" if self.interval else "")


@dataclass(frozen=True)
class Row:
    """A row of a table. `state`: stable, backlogged, overloaded, or "" where a table has no such thing."""

    cells: tuple[Cell, ...]
    state: str = ""

    @property
    def apart(self) -> bool:
        """Whether it is set apart below the table."""
        return self.state == OVERLOADED


@dataclass(frozen=True)
class Table:
    """What a reader compares in one place. Rows that are set apart stand last."""

    name: str  # what it is about: comparison, over_loads, published, ...
    title: str
    columns: tuple[Column, ...]  # the first one names the rows
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()  # sentences below it
    about: Mapping[str, Value] = field(default_factory=dict)  # scenario, workload, rule, scenario_hash, load
    detail: bool = False  # only where there is room for more than the main tables

    def __post_init__(self) -> None:
        """Every row has a cell for each column."""
        assert all(len(row.cells) == len(self.columns) for row in self.rows)

    def column(self, name: str) -> Column:
        """The column of a name. KeyError if there is none."""
        return self.columns[self._place(name)]

    def cells(self, name: str) -> list[Cell]:
        """The cells of a column, a row each. KeyError if there is none."""
        place = self._place(name)
        return [row.cells[place] for row in self.rows]

    def split(self) -> tuple[list[Row], list[Row]]:
        """Rows of the table, and those that are set apart below it."""
        return [row for row in self.rows if not row.apart], [row for row in self.rows if row.apart]

    def _place(self, name: str) -> int:
        places = {column.name: place for place, column in enumerate(self.columns)}
        return places[name]


@dataclass(frozen=True)
class Report:
    """Tables, the numbers behind them, and what was read.

    `frames`: by name, the first is the one that csv prints. Notes and skipped folders: `found`.
    """

    kind: ReportKind
    tables: tuple[Table, ...]
    frames: Mapping[str, pd.DataFrame]
    found: Loaded

    @property
    def notes(self) -> list[str]:
        """What a reader should know beside the numbers."""
        return self.found.notes

    @property
    def stem(self) -> str:
        """Name of its files without their endings."""
        return "report" if self.kind == "results" else self.kind


def of_estimate(estimate: Estimate | Sequence[float], *, best: bool = False, differs: bool = False) -> Cell:
    """A cell with an interval: of an estimate, or of (value, lo, hi)."""
    value, lo, hi = (estimate.value, estimate.lo, estimate.hi) if isinstance(estimate, Estimate) else estimate
    return Cell(value, lo, hi, best=best, differs=differs)


def mark_best(rows: Sequence[Row], columns: Sequence[Column], names: Sequence[str]) -> list[Row]:
    """The rows with the least finite value of these columns marked, unless more than half of the rows share it."""
    places = [place for place, column in enumerate(columns) if column.name in names]
    least = {place: _least(rows, place) for place in places}
    return [Row(tuple(_marked(row, least)), row.state) for row in rows]


def _least(rows: Sequence[Row], place: int) -> Value | None:
    values = [row.cells[place].value for row in rows if not row.apart]
    finite = [value for value in values if not isinstance(value, str) and math.isfinite(value)]
    return min(finite) if finite and 2 * finite.count(min(finite)) <= len(finite) else None


def _marked(row: Row, least: Mapping[int, Value | None]) -> Iterator[Cell]:
    for place, cell in enumerate(row.cells):
        best = least.get(place)
        yield cell if best is None or row.apart or cell.value != best else cell._replace(best=True)
