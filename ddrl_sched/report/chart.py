"""A chart as data: what is drawn, in which unit, and the sentence below it. `draw.py` turns it into a picture.

All panels of a chart have one form. A style is a number: the same scheduler has the same one in every chart.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ddrl_sched.report.statistics import Floats

MAX_LINES = 7  # schedulers that can be told apart as lines of one panel
MAX_ROWS = 16  # schedulers below one another
MAX_PANELS = 9


class Axis(NamedTuple):
    """Label with unit, form and ends of an axis; NaN: as the data has it."""

    label: str
    log: bool = False
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, eq=False)
class Line:
    """A line with a band, where `lo` and `hi` are given. `hollow`: points whose mean tells about the horizon only."""

    name: str
    style: int
    x: Floats
    y: Floats
    lo: Floats | None = None
    hi: Floats | None = None
    hollow: tuple[bool, ...] = ()
    faint: bool = False  # one seed of several


@dataclass(frozen=True, eq=False)
class LinePanel:
    """Lines over a common x axis; `markers`: every point is marked."""

    title: str
    lines: tuple[Line, ...]
    markers: bool = False


@dataclass(frozen=True, eq=False)
class Dots:
    """A value for each row of a panel, with its interval where `lo` and `hi` are given; NaN: none."""

    name: str
    style: int
    values: Floats
    lo: Floats | None = None
    hi: Floats | None = None


@dataclass(frozen=True, eq=False)
class DotPanel:
    """Dots beside the names of rows; `at`: a line to compare with (NaN: none)."""

    title: str
    rows: tuple[str, ...]
    dots: tuple[Dots, ...]
    at: float = math.nan


@dataclass(frozen=True, eq=False)
class BarPanel:
    """A bar for each row, in stacked parts: values[rows, parts]."""

    title: str
    rows: tuple[str, ...]
    parts: tuple[str, ...]
    values: Floats


@dataclass(frozen=True, eq=False)
class GridPanel:
    """A shade for each row and column; `texts` stand in the cells, "" where there is no value."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Floats
    texts: tuple[tuple[str, ...], ...]
    best: tuple[tuple[bool, ...], ...]  # of its column


Panel = LinePanel | DotPanel | BarPanel | GridPanel


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure: `name` is that of its files, `caption` one honest sentence."""

    name: str
    title: str
    caption: str
    x: Axis
    y: Axis
    panels: tuple[Panel, ...]
    shared: bool = True  # whether all panels have the same ends of their axes, so that they can be compared

    def frame(self) -> pd.DataFrame:
        """What is drawn, a row for each point, bar or cell: panel, series, row, x, value, lo, hi (those it has)."""
        points = [point for panel in self.panels for point in _points(panel)]
        return pd.DataFrame(points, columns=_POINT).dropna(axis=1, how="all")


_POINT = ["panel", "series", "row", "x", "value", "lo", "hi"]
_Point = tuple[str, str, str | None, float, float, float, float]


def _points(panel: Panel) -> Iterator[_Point]:
    if isinstance(panel, LinePanel):
        yield from _points_of_lines(panel)
    elif isinstance(panel, DotPanel):
        for dots in panel.dots:
            lo, hi = bounds(dots)
            for i, row in enumerate(panel.rows):
                yield panel.title, dots.name, row, math.nan, float(dots.values[i]), float(lo[i]), float(hi[i])
    else:
        names = panel.parts if isinstance(panel, BarPanel) else panel.columns
        for i, row in enumerate(panel.rows):
            for j, name in enumerate(names):
                yield panel.title, name, row, math.nan, float(panel.values[i, j]), math.nan, math.nan


def _points_of_lines(panel: LinePanel) -> Iterator[_Point]:
    for line in panel.lines:
        lo, hi = bounds(line)
        for x, y, low, high in zip(line.x.tolist(), line.y.tolist(), lo.tolist(), hi.tolist(), strict=True):
            yield panel.title, line.name, None, x, y, low, high


def bounds(of: Line | Dots) -> tuple[Floats, Floats]:
    """Ends of the intervals, NaN where there are none."""
    values = of.y if isinstance(of, Line) else of.values
    none = np.full(len(values), math.nan)
    return none if of.lo is None else of.lo, none if of.hi is None else of.hi


def of_most(shown: int, every: int, which: str) -> str:
    """ " 7 of 23 schedulers are shown: WHICH." where some are not; else "" ."""
    return f" {shown} of {every} {which}." if shown < every else ""


def slug(text: str, taken: Sequence[str] = ()) -> str:
    """A name of a file from any text, unlike those `taken`."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "other"
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found
