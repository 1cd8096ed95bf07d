"""Numbers as text: significant digits, percentages, units, intervals; and the cells of a table by their columns."""

import math
from collections.abc import Callable, Sequence

from ddrl_sched.report.table import Cell, Column

DIFFERS, ROUGH = "*", "~"  # marks behind and before a number


def cell_text(column: Column, cell: Cell) -> str:
    """A cell as every form writes it, without its mark of the best: "~150 [140, 161]*"."""
    if isinstance(cell.value, str):
        return cell.value
    values = (cell.value, cell.lo, cell.hi) if column.interval else (cell.value, math.nan, math.nan)
    text = with_interval([column.scale * value for value in values], lambda value: _written(column, value))
    rough = ROUGH if cell.rough and text != "-" else ""
    return rough + text + (DIFFERS if cell.differs else "")


def _written(column: Column, value: float) -> str:
    if column.kind == "percent":
        return percentage(value)
    if not math.isfinite(value):
        return "-"
    if column.kind == "count":
        return f"{value:,.0f}"
    if column.kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    if column.kind == "ratio":
        return f"{value:,.2f}"
    if column.kind == "change":
        return f"{value:+.{column.digits}f}"
    return number(value, column.digits)


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
