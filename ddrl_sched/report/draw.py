"""Charts as pictures: SVG and PDF by matplotlib, the same bytes for the same chart.

Styles are told apart without colour too: by markers, dashes and hatches. Colours are those of Okabe and Ito, which
colour-blind readers tell apart. Texts stay texts.
"""

import io
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ddrl_sched.report.chart import Axis, BarPanel, Chart, DotPanel, Dots, GridPanel, Line, LinePanel, Panel, bounds

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 2)))
HATCHES = ("", "//", "..", "xx")
PART_COLOURS = ("#0072B2", "#E69F00", "#F0F0F0", "#CC79A7")
DARKEST = 5.0  # times the best of a column
WHITE_FROM = 3.8  # likewise: from here on white reads better than black, both at a contrast of 4.5 or so
SETTINGS = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlepad": 5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,
    "legend.frameon": False,
}
CHARACTER = 0.083  # inches of a character of a name
LINE = 0.185  # inches of a row of text
GAP = 0.28  # inches between panels


class Frame(NamedTuple):
    """Where panels stand, in inches: columns of them, their size and the room around them."""

    columns: int
    width: float
    height: float
    left: float  # room for names and labels of the y axis, of the first panel of a row
    between: float  # likewise, of the others
    above: float  # of every row of panels, for the title
    below: float  # of every row of panels, for the ticks


def picture(chart: Chart) -> Figure:
    """The chart as a figure of matplotlib."""
    with rc_context(SETTINGS):
        frame = _frame(chart)
        handles = _legend(chart)
        n_columns = _legend_columns(handles, frame)
        top = LINE * math.ceil(len(handles) / n_columns) + 0.08 if handles else 0.0
        rows = math.ceil(len(chart.panels) / frame.columns)
        bottom = 0.24
        row_height = frame.above + frame.height + frame.below
        size = (
            frame.left + frame.columns * frame.width + (frame.columns - 1) * frame.between + 0.12,
            top + rows * row_height + bottom,
        )
        figure = Figure(size)
        FigureCanvasAgg(figure)
        for number, panel in enumerate(chart.panels):
            row, column = divmod(number, frame.columns)
            x = frame.left + column * (frame.width + frame.between)
            y = size[1] - top - row * row_height - frame.above - frame.height
            axes = figure.add_axes((x / size[0], y / size[1], frame.width / size[0], frame.height / size[1]))
            _draw(axes, panel, chart, first=column == 0)
        _share_ends(chart, figure.axes)
        centre = (frame.left + (size[0] - 0.12 - frame.left) / 2) / size[0]
        figure.text(centre, 0.06 / size[1], chart.x.label, ha="center", va="bottom")
        if chart.y.label:
            middle = (size[1] - top + bottom) / 2 / size[1]
            figure.text(0.06 / size[0], middle, chart.y.label, rotation=90, ha="left", va="center")
        if handles:
            figure.legend(
                handles=handles, loc="upper left", ncols=n_columns, bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2,
                handlelength=2.6, columnspacing=1.4, labelspacing=0.25,
            )  # fmt: skip
        return figure


def as_svg(chart: Chart, figure: Figure) -> bytes:
    """The picture as SVG; `figure` is that of the chart."""
    with rc_context({**SETTINGS, "svg.hashsalt": chart.name}):
        data = io.BytesIO()
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None, "Title": chart.title})
    return data.getvalue()


def as_pdf(chart: Chart, figure: Figure) -> bytes:
    """The picture as PDF."""
    with rc_context(SETTINGS):
        data = io.BytesIO()
        about = {"CreationDate": None, "Creator": None, "Producer": None, "Title": chart.title}
        figure.savefig(data, format="pdf", metadata=about)
    return data.getvalue()


def _frame(chart: Chart) -> Frame:
    """Room for the panels of a chart: up to four in two columns, more in three."""
    n = len(chart.panels)
    columns = n if n < 3 else 2 if n == 4 else 3
    if isinstance(chart.panels[0], GridPanel):
        return _grid_frame(chart.panels[0])
    names = [row for panel in chart.panels if isinstance(panel, DotPanel | BarPanel) for row in panel.rows]
    if names:
        left = 0.15 + CHARACTER * max(map(len, names))
        n_rows = len(names) // n
        width = max(1.7, {1: 6.4, 2: 7.8, 3: 7.8}[columns] - left) / columns - 0.1
        return Frame(columns, width, 0.2 * n_rows + 0.15, left, GAP, 0.34, 0.32)
    width, height = {1: (4.5, 3.0), 2: (3.75, 2.6), 3: (2.4, 2.0)}[columns]
    return Frame(
        columns,
        width,
        height,
        0.78,
        GAP if chart.shared else 0.62,
        0.34 if any(p.title for p in chart.panels) else 0.1,
        0.3,
    )


def _grid_frame(panel: GridPanel) -> Frame:
    left = 0.15 + CHARACTER * max(map(len, panel.rows))
    longest = max(map(len, panel.columns))
    tilted = longest > 9
    width = len(panel.columns) * 0.86
    return Frame(1, width, 0.27 * len(panel.rows), left, 0, 0.1, 0.18 + (CHARACTER * longest * 0.6 if tilted else 0.1))


def _draw(axes: Axes, panel: Panel, chart: Chart, *, first: bool) -> None:
    axes.set_title(panel.title)
    if isinstance(panel, GridPanel):
        _draw_grid(axes, panel)
        return
    _scale(axes, chart.x, chart.y)
    if isinstance(panel, LinePanel):
        for line in panel.lines:
            _draw_line(axes, line, markers=panel.markers)
    else:
        axes.set_ylim(len(panel.rows) - 0.4, -0.6)
        axes.set_yticks(range(len(panel.rows)), panel.rows if first else [])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(isinstance(panel, BarPanel))
        if isinstance(panel, DotPanel):
            _draw_dots(axes, panel, chart.x)
        else:
            _draw_bars(axes, panel, chart.x)


def _scale(axes: Axes, x: Axis, y: Axis) -> None:
    for axis, which, set_scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if axis.log:
            set_scale("log")
            which.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        else:
            which.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            which.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """A number of an axis without an exponent where it has few digits: 2,000, 0.05, 1e-5."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.6g}"


def _share_ends(chart: Chart, every: Sequence[Axes]) -> None:
    """One scale for all panels, so that they can be compared; numbers stand at the outer ones only."""
    if not chart.shared:
        for panel, axes in zip(chart.panels, every, strict=True):
            _own_ends(axes, panel, chart.y)
    if isinstance(chart.panels[0], GridPanel) or not chart.shared:
        return
    pairs = [("x", chart.x)] + ([("y", chart.y)] if isinstance(chart.panels[0], LinePanel) else [])
    for which, axis in pairs:
        ends = [getattr(axes, f"get_{which}lim")() for axes in every]
        low = min(end[0] for end in ends) if math.isnan(axis.low) else axis.low
        high = max(end[1] for end in ends) if math.isnan(axis.high) else axis.high
        if math.isnan(axis.high) and not axis.log and not math.isnan(axis.low):
            high += 0.04 * (high - low)
        for axes in every:
            getattr(axes, f"set_{which}lim")(low, high)
        _few_ticks(every, which, axis, low, high)
    columns = _frame(chart).columns
    for number, axes in enumerate(every):
        if number % columns and isinstance(chart.panels[0], LinePanel):
            axes.tick_params(axis="y", labelleft=False, which="both")


def _own_ends(axes: Axes, panel: Panel, y: Axis) -> None:
    """Ends by the lines and at most half as much again by their bands."""
    if not isinstance(panel, LinePanel):
        return
    values = np.concatenate([line.y for line in panel.lines])
    low, high = axes.get_ylim()
    low, high = max(low, float(values.min()) / 1.5), min(high, float(values.max()) * 1.5)
    axes.set_ylim(low, high)
    _few_ticks([axes], "y", y, low, high)


def _few_ticks(every: Sequence[Axes], which: str, axis: Axis, low: float, high: float) -> None:
    """Numbers at 1, 2 and 5 of a decade where a logarithmic axis spans few, else at the decades."""
    if not axis.log:
        return
    decades = math.log10(high / low)
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.9 else (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    for axes in every:
        one = axes.xaxis if which == "x" else axes.yaxis
        one.set_major_locator(LogLocator(10, subs=subs, numticks=12))
        one.set_minor_formatter(NullFormatter())


def _draw_line(axes: Axes, line: Line, *, markers: bool) -> None:
    colour, marker = COLOURS[line.style % len(COLOURS)], MARKERS[line.style % len(MARKERS)]
    dash = DASHES[(line.style + line.style // len(DASHES)) % len(DASHES)]
    if line.faint:
        axes.plot(line.x, line.y, color=colour, linewidth=0.6, alpha=0.55)
        return
    if line.lo is not None and line.hi is not None:
        known = np.isfinite(line.lo) & np.isfinite(line.hi)
        axes.fill_between(line.x[known], line.lo[known], line.hi[known], color=colour, alpha=0.16, linewidth=0)
    few = markers or len(line.x) == 1
    every = max(1, len(line.x) // 6)
    axes.plot(
        line.x, line.y, color=colour, linestyle=dash, marker=marker, markevery=1 if few else (line.style % 3, every),
        markersize=5 if few else 3.5,
    )  # fmt: skip
    hollow = np.array(line.hollow, dtype=bool)
    if hollow.any():
        axes.plot(
            line.x[hollow], line.y[hollow], linestyle="none", marker=marker, markerfacecolor="white",
            markeredgecolor=colour,
        )  # fmt: skip


def _draw_dots(axes: Axes, panel: DotPanel, x: Axis) -> None:
    axes.grid(visible=False, axis="y")
    if not math.isnan(panel.at):
        axes.axvline(panel.at, color="black", linewidth=0.9)
    for number, dots in enumerate(panel.dots):
        colour, marker = COLOURS[dots.style % len(COLOURS)], ("o", "s", "^")[number % 3]
        rows = np.arange(len(panel.rows), dtype=float)
        inside = np.isfinite(dots.values) if math.isnan(x.low) else dots.values >= x.low
        lo, hi = bounds(dots)
        if dots.lo is not None:
            axes.hlines(rows[inside], lo[inside], hi[inside], color=colour, linewidth=1.4)
        axes.plot(
            dots.values[inside], rows[inside], linestyle="none", marker=marker, color=colour,
            markerfacecolor=colour if number == 0 else "none", markersize=5 if number == 0 else 6.5,
        )  # fmt: skip
        _beyond_left(axes, dots, x.low)


def _beyond_left(axes: Axes, dots: Dots, low: float) -> None:
    for row in np.flatnonzero(dots.values < low).tolist():
        text = f"\u25c4 {dots.values[row]:,.0f}"
        axes.text(0.01, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)


def _draw_bars(axes: Axes, panel: BarPanel, x: Axis) -> None:
    axes.grid(visible=False, axis="y")
    rows, left = np.arange(len(panel.rows)), np.zeros(len(panel.rows))
    for number in range(len(panel.parts)):
        values = np.nan_to_num(panel.values[:, number])
        axes.barh(
            rows, values, left=left, height=0.72, color=PART_COLOURS[number], hatch=HATCHES[number],
            edgecolor="#333333", linewidth=0.5,
        )  # fmt: skip
        left = left + values
    for row in np.flatnonzero(left > x.high).tolist():
        axes.text(
            0.985, row, f"{left[row]:,.0f} \u25ba", transform=axes.get_yaxis_transform(), ha="right", va="center",
            fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip


def _draw_grid(axes: Axes, panel: GridPanel) -> None:
    axes.grid(visible=False)
    shown = np.clip(panel.values, 1.0, DARKEST)
    axes.pcolormesh(
        np.arange(len(panel.columns) + 1) - 0.5, np.arange(len(panel.rows) + 1) - 0.5, np.ma.masked_invalid(shown),
        cmap="Blues", norm=LogNorm(1.0, DARKEST * 1.3), edgecolors="white", linewidth=1,
    )  # fmt: skip
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    tilted = max(map(len, panel.columns)) > 9
    axes.set_xticks(range(len(panel.columns)), panel.columns)
    if tilted:
        axes.tick_params(axis="x", labelrotation=35)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(panel.rows)), panel.rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for i, j in np.ndindex(panel.values.shape):
        dark = bool(panel.values[i, j] > WHITE_FROM)
        axes.text(j, i, panel.texts[i][j], ha="center", va="center", color="white" if dark else "black", fontsize=8.5)
        if panel.best[i][j]:
            axes.add_patch(Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fill=False, edgecolor="black", linewidth=1.5))


def _legend(chart: Chart) -> list[Line2D | Patch]:
    """What lines, dots and parts mean, each once; nothing where there is only one."""
    found: dict[str, Line2D | Patch] = {}
    for panel in chart.panels:
        found |= {name: handle for name, handle in _handles(panel) if name not in found}
    return list(found.values()) if len(found) > 1 or isinstance(chart.panels[0], LinePanel) else []


def _handles(panel: Panel) -> Iterator[tuple[str, Line2D | Patch]]:
    if isinstance(panel, LinePanel):
        for line in sorted(panel.lines, key=lambda line: line.style):
            if not line.faint:
                number = line.style
                dash = DASHES[(number + number // len(DASHES)) % len(DASHES)]
                colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
                yield line.name, Line2D([], [], linestyle=dash, label=_label(line.name), color=colour, marker=marker)
    elif isinstance(panel, DotPanel):
        for number, dots in enumerate(panel.dots):
            colour = COLOURS[dots.style % len(COLOURS)]
            face = colour if number == 0 else "none"
            marker = ("o", "s", "^")[number % 3]
            yield dots.name, Line2D([], [], linestyle="none", marker=marker, color=colour, markerfacecolor=face,
                                    label=_label(dots.name))  # fmt: skip
    elif isinstance(panel, BarPanel):
        for number, part in enumerate(panel.parts):
            yield part, Patch(facecolor=PART_COLOURS[number], hatch=HATCHES[number], edgecolor="#333333", label=part)


def _label(name: str) -> str:
    """A leading underscore would hide it from a legend."""
    return f"\u200b{name}" if name.startswith("_") else name


def _legend_columns(handles: Sequence[Line2D | Patch], frame: Frame) -> int:
    """As many names beside one another as there is room for."""
    if not handles:
        return 1
    longest = max(len(str(handle.get_label())) for handle in handles)
    width = frame.left + frame.columns * frame.width
    return max(1, min(len(handles), int(width / (0.62 + CHARACTER * longest))))
