"""A curve drawn in characters, with its band over seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.report.plain_text import shows

Floats = NDArray[np.float64]
HEIGHT = 12  # lines of the drawing itself
FINE, COARSE = (
    ("●", "░", "│", "└", "─"),
    ("*", ".", "|", "+", "-"),
)  # mean, band, axes; the second where the terminal has ASCII alone


class Curve(NamedTuple):
    """Values of all seeds at each moment; a seed may lack some (NaN)."""

    x: Floats  # [moments] ascending
    value: Floats  # [seeds, moments]


def draw(curve: Curve, title: str, unit: str, width: int) -> list[str]:
    """Lines of at most `width` characters: the mean over seeds, the span of the seeds behind it.

    A line with the number where there is only one moment; [] without a value.
    """
    mean_sign, band_sign, upright, corner, level = FINE if shows("".join(FINE)) else COARSE
    kept = ~np.isnan(curve.value).all(0)
    x, value = curve.x[kept], curve.value[:, kept]
    if not len(x):
        return []
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    if not math.isfinite(low) or not math.isfinite(high):
        return []
    if len(x) == 1:
        return [_single(float(np.nanmean(value)), low, high, title, unit)]
    labels = [_number(high), _number((low + high) / 2), _number(low)]
    margin = max(map(len, labels))
    n_columns = max(8, width - margin - 2)
    cells = [[" "] * n_columns for _ in range(HEIGHT)]
    for column, part in enumerate(_in_columns(x, value, n_columns)):
        top, mean, bottom = (_line(one, low, high) for one in (part.max(), part.mean(), part.min()))
        for line in range(top, bottom + 1):
            cells[line][column] = band_sign
        cells[mean][column] = mean_sign
    beside = {0: labels[0], HEIGHT // 2: labels[1], HEIGHT - 1: labels[2]}
    lines = [f"{title}, {unit}" if unit else title]
    lines += [f"{beside.get(i, ''):>{margin}} {upright}{''.join(row)}".rstrip() for i, row in enumerate(cells)]
    lines.append(" " * (margin + 1) + corner + level * n_columns)
    return [*lines, " " * (margin + 2) + _ends(x, n_columns)]


def _single(mean: float, low: float, high: float, title: str, unit: str) -> str:
    """ "validation delay: 0.021 s (0.02 - 0.022)"."""
    span = f" ({_number(low)} - {_number(high)})" if low != high else ""
    return f"{title}: {_number(mean)}{f' {unit}' if unit else ''}{span}"


def _in_columns(x: Floats, value: Floats, n_columns: int) -> Sequence[Floats]:
    """What each column of the drawing shows: all values there, or those of the last moment before it."""
    edges = np.linspace(x[0], x[-1], n_columns + 1)[1:]
    edges[-1] = x[-1]
    parts, begin = [], 0
    for edge in edges:
        end = max(int(np.searchsorted(x, edge, "right")), 1)
        begin = min(begin, end - 1)
        some = value[:, begin:end]
        parts.append(some[~np.isnan(some)])
        begin = end
    return parts


def _line(value: float, low: float, high: float) -> int:
    """Line of the drawing, 0 at the top."""
    return HEIGHT // 2 if high == low else round((HEIGHT - 1) * (high - value) / (high - low))


def _ends(x: Floats, n_columns: int) -> str:
    first, last = _number(float(x[0])), _number(float(x[-1]))
    return first + " " * max(1, n_columns - len(first) - len(last)) + last


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"
