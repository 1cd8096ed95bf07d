"""Charts of delays: against the load, their distribution, reductions, and all worlds at a glance."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ddrl_sched.report.chart import (
    Axis,
    Chart,
    DotPanel,
    Dots,
    GridPanel,
    Line,
    LinePanel,
    of_most,
    slug,
)
from ddrl_sched.report.material import NOT_REAL, Material, short
from ddrl_sched.report.numbers import number, unit_of
from ddrl_sched.report.robust import performance_profile
from ddrl_sched.report.stability import OVERLOADED
from ddrl_sched.report.statistics import Floats
from ddrl_sched.report.worlds import ScenarioKey
from ddrl_sched.run.histogram import upper_end_s

WORLD = ["scenario", "workload", "rule"]
MAX_BASELINES = 4  # that get a chart of reductions
LEAST_WORLDS = 3  # of a performance profile
WIDEST_FACTOR = 10.0  # of its axis
MAX_COLUMNS = 12  # of the heat map
LEAST_TASKS = 10  # that a point of a tail stands for
LONGEST_TAIL = 10.0  # times the shortest that is drawn whole
LOG_FROM = 8.0  # greatest through least delay from which on the axis is logarithmic
WIDEST_PCT = 150.0  # a reduction below minus this, or minus twice the greatest, is drawn at the edge


def delay_by_load(material: Material) -> Iterator[Chart]:
    """Mean delay over load, a panel for each world that was run at several loads."""
    scale, unit = unit_of(float(material.means.mean_delay_s.median()))
    panels = []
    for world, group in material.means.groupby(WORLD, sort=False):
        if group.load.nunique() < 2 or group.scenario_hash.nunique() != group.load.nunique():
            continue
        lines = [
            _over_loads(group[group.scheduler == name], name, material.style(name), scale) for name in material.lines
        ]
        title = ", ".join(map(short, world)) if material.means[WORLD].drop_duplicates().shape[0] > 1 else ""
        panels.append(LinePanel(title, tuple(line for line in lines if len(line.x)), markers=True))
    if not panels:
        return
    shown = panels[:6]
    caption = "Means over traces and training seeds; bands: 95 % intervals of paired resampling."
    if any(any(line.hollow) for panel in shown for line in panel.lines):
        caption += " Hollow points: overloaded, their means tell about the horizon only."
    caption += material.left_out(len(material.lines)) + of_most(len(shown), len(panels), "worlds are drawn")
    log = _spread(np.concatenate([line.y for panel in shown for line in panel.lines])) > LOG_FROM
    yield Chart(
        "delay-by-load", "Mean delay against load", caption, Axis("offered load (share of the total speed)"),
        Axis(f"mean delay, {unit}" + ", log scale" * log, log), tuple(shown),
    )  # fmt: skip


def _over_loads(rows: pd.DataFrame, name: str, style: int, scale: float) -> Line:
    rows = rows.sort_values("load")
    mean, lo, hi = (
        scale * rows[column].to_numpy(float) for column in ("mean_delay_s", "mean_delay_lo_s", "mean_delay_hi_s")
    )
    hollow = tuple((rows.state == OVERLOADED).tolist()) if "state" in rows else ()
    return Line(name, style, rows.load.to_numpy(float), mean, lo, hi, hollow)


def _spread(values: Floats) -> float:
    known = values[np.isfinite(values) & (values > 0)]
    return float(known.max() / known.min()) if len(known) else 1.0


def delay_tail(material: Material) -> Iterator[Chart]:
    """The share of tasks that take longer than a delay, a panel for each world and load."""
    if material.delays.empty:
        return
    of_lines = material.rows.loc[material.rows.scheduler.isin(material.lines), ["scenario_hash", "scheduler"]]
    of_lines = of_lines[of_lines.index.isin(material.delays["row"].unique())]
    worlds = material.some_worlds(set(of_lines.scenario_hash))
    of_lines = of_lines[of_lines.scenario_hash.isin([key.scenario_hash for key in worlds])]
    counted = material.delays[material.delays["row"].isin(of_lines.index)]
    named = {name: of_lines[name].loc[counted["row"]].to_numpy() for name in of_lines}
    sums = counted.assign(**named).groupby(["scenario_hash", "scheduler", "bin"], sort=True)["count"].sum()
    scale, unit = unit_of(float(material.means.mean_delay_s.median()))
    panels = []
    for key in worlds:
        of_world = sums.loc[key.scenario_hash]
        names = [name for name in material.lines if name in of_world.index.get_level_values(0)]
        lines = [_tail(of_world.loc[name], name, material.style(name), scale) for name in names]
        panels.append(LinePanel(material.titles[key], tuple(line for line in lines if len(line.x))))
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return
    caption = (
        f"Share of all counted tasks of all traces and seeds that took longer; lines end where {LEAST_TASKS} tasks "
        "are left, so the last decade rests on few."
    )
    low, high, cut = _ends(panels)
    caption += " Lines that leave at the right go on." * cut + material.left_out(len(material.lines), worlds)
    yield Chart(
        "delay-tail", "How many tasks take longer", caption, Axis(f"delay, {unit} (log)", log=True, low=low, high=high),
        Axis("share of tasks beyond (log)", log=True), tuple(panels),
    )  # fmt: skip


def _ends(panels: list[LinePanel]) -> tuple[float, float, bool]:
    """Ends of the axis of delays, and whether lines go on beyond: far enough for the shortest tail of each panel."""
    low = min(float(line.x[0]) for panel in panels for line in panel.lines)
    shortest = max(min(float(line.x[-1]) for line in panel.lines) for panel in panels)
    longest = max(float(line.x[-1]) for panel in panels for line in panel.lines)
    high = min(longest, LONGEST_TAIL * shortest) * 1.1
    return low, high, longest > high


def _tail(counts: pd.Series, name: str, style: int, scale: float) -> Line:
    """Complementary distribution at the upper ends of the bins, as long as LEAST_TASKS tasks are above."""
    above = counts.sum() - counts.cumsum().to_numpy(float)
    x = scale * upper_end_s(counts.index.to_numpy(int))
    kept = above >= LEAST_TASKS
    return Line(name, style, x[kept], above[kept] / counts.sum())


def reductions(material: Material) -> Iterator[Chart]:
    """A forest plot for each of the first baselines: reductions of the mean delay with their intervals."""
    taken: list[str] = []
    for baseline in material.baselines[:MAX_BASELINES]:
        against = material.table[(material.table.baseline == baseline) & (material.table.scheduler != baseline)]
        against = against[against.reduction_pct.notna() & against.scheduler.isin(material.bars)]
        worlds = material.some_worlds(set(against.scenario_hash))
        if not worlds:
            continue
        names = [name for name in material.bars if name in set(against.scheduler)]
        panels = []
        for key in worlds:
            values, lo, hi = _by_name(against[against.scenario_hash == key.scenario_hash], names)
            panels.append(DotPanel(material.titles[key], tuple(names), (Dots("reduction", 0, values, lo, hi),), at=0.0))
        every = np.concatenate([panel.dots[0].values for panel in panels])
        edge = -min(WIDEST_PCT, max(50.0, 2 * float(np.nanmax(every))))
        low = edge if np.nanmin(every) < edge else math.nan
        caption = (
            f"Right of the line: less delay than {short(baseline)}; intervals (95 %, paired over the same traces) that "
            "touch the line leave open which of the two is better."
        )
        caption += " Arrows: beyond the axis, with the number." * (not math.isnan(low))
        taken.append(slug(f"reduction-{baseline}", taken))
        yield Chart(
            taken[-1], f"Reduction of the mean delay against {short(baseline)}",
            caption + material.left_out(len(material.bars), worlds), Axis("reduction, %", low=low), Axis(""),
            tuple(panels),
        )  # fmt: skip


def _by_name(rows: pd.DataFrame, names: list[str]) -> tuple[Floats, Floats, Floats]:
    """Reduction and its bounds for each name, NaN where there is none."""
    by_name = rows.drop_duplicates("scheduler").set_index("scheduler").reindex(names)
    value, lo, hi = (
        by_name[column].to_numpy(float) for column in ("reduction_pct", "reduction_lo_pct", "reduction_hi_pct")
    )
    return value, lo, hi


def at_a_glance(material: Material) -> Iterator[Chart]:
    """Schedulers x worlds: by how much each is slower than the best there."""
    worlds = list(material.worlds)
    if len(worlds) < 2:
        return
    shown = sorted(worlds, key=lambda key: -len(material.worlds[key]))[:MAX_COLUMNS]
    shown = [key for key in worlds if key in shown]
    names = material.bars
    values = np.array([[material.value(key, name, "mean_delay_s") for key in shown] for name in names])
    best = np.array([_least_s(material.worlds[key]) for key in shown])
    texts = tuple(tuple(_delay_text(value) for value in row) for row in values)
    marks = tuple(tuple(bool(value == least) for value, least in zip(row, best, strict=True)) for row in values)
    columns = _columns(shown, material)
    label = "load" if len({key[:3] for key in shown}) == 1 else "world and load"
    caption = (
        "Numbers: mean delay; shade: how many times that of the best in the same column (light: equal, dark: five "
        "times or more); framed: the least of those not overloaded; intervals in the tables tell how sure it is."
    ) + _unreal(material, names)
    yield Chart(
        "at-a-glance", "All worlds at a glance",
        caption + material.left_out(len(names)) + of_most(len(shown), len(worlds), "worlds are drawn"),
        Axis(label), Axis(""), (GridPanel("", tuple(names), columns, values / best, texts, marks),),
    )  # fmt: skip


def _least_s(means: pd.DataFrame) -> float:
    """The least mean delay of a world, of schedulers that are not overloaded where there are any."""
    able = means[means.state != OVERLOADED]
    return float((able if len(able) else means).mean_delay_s.min())


def _unreal(material: Material, names: list[str]) -> str:
    """A sentence on the schedulers that know what no real system does."""
    of = material.means[material.means["info"].isin(NOT_REAL) & material.means.scheduler.isin(names)]
    found = [name for name in names if name in set(of.scheduler)]
    return f" No real system knows what {', '.join(map(short, found))} know{'s' * (len(found) == 1)}." if found else ""


def profile(material: Material) -> Iterator[Chart]:
    """Performance profile (Dolan and More 2002) over the worlds and loads that all its schedulers were run in."""
    if "state" not in material.table or len(material.worlds) < LEAST_WORLDS:
        return
    found = performance_profile(material.table)
    lines = [
        _steps(found[found.scheduler == name], name, material.style(name))
        for name in material.lines
        if name in set(found.scheduler)
    ]
    if not lines:
        return
    caption = (
        f"Share of the {len(material.worlds)} worlds and loads in which a scheduler has at most so many times the mean "
        "delay of the best; the higher at the left, the more often best; overloaded counts as never."
    )
    caption += material.left_out(len(lines))
    high = min(float(found.factor.max()), WIDEST_FACTOR) * 1.02
    yield Chart(
        "performance-profile", "How often a scheduler is near the best", caption,
        Axis("mean delay / that of the best (log)", log=True, low=1.0, high=high),
        Axis("share of worlds", low=0.0, high=1.03), (LinePanel("", tuple(lines)),),
    )  # fmt: skip


def _steps(rows: pd.DataFrame, name: str, style: int) -> Line:
    """Corners of a step function, to the end of the axis."""
    factor, share = rows.factor.to_numpy(float), rows.share.to_numpy(float)
    x = np.concatenate([np.repeat(factor, 2), [WIDEST_FACTOR * 2]])
    y = np.concatenate([[0.0], np.repeat(share, 2)])
    return Line(name, style, x, y)


def _columns(worlds: list[ScenarioKey], material: Material) -> tuple[str, ...]:
    return tuple(material.titles[key].replace("load ", "") for key in worlds)


def _delay_text(value_s: float) -> str:
    """ "15.9 ms", "2.1 s"; "" for NaN."""
    if math.isnan(value_s):
        return ""
    scale, unit = unit_of(value_s)
    return f"{number(value_s * scale)} {unit}"
