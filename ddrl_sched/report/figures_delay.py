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
from ddrl_sched.report.material import Material, short
from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.statistics import Floats
from ddrl_sched.report.worlds import ScenarioKey
from ddrl_sched.run.histogram import upper_end_s

WORLD = ["scenario", "workload", "rule"]
MAX_BASELINES = 4  # that get a chart of reductions
MAX_COLUMNS = 12  # of the heat map
LEAST_TASKS = 10  # that a point of a tail stands for
LOG_FROM = 8.0  # greatest through least delay from which on the axis is logarithmic
WIDEST_PCT = 150.0  # a reduction below minus this is drawn at the edge


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
    hollow = tuple((rows.state == "overloaded").tolist()) if "state" in rows else ()
    return Line(name, style, rows.load.to_numpy(float), mean, lo, hi, hollow)


def _spread(values: Floats) -> float:
    known = values[np.isfinite(values) & (values > 0)]
    return float(known.max() / known.min()) if len(known) else 1.0


def delay_tail(material: Material) -> Iterator[Chart]:
    """The share of tasks that take longer than a delay, a panel for each world and load."""
    if material.delays.empty:
        return
    of_row = material.rows.loc[material.delays["row"], ["scenario_hash", "scheduler"]]
    counted = material.delays.assign(
        scenario_hash=of_row.scenario_hash.to_numpy(), scheduler=of_row.scheduler.to_numpy()
    )
    counted = counted[counted.scheduler.isin(material.lines)]
    sums = counted.groupby(["scenario_hash", "scheduler", "bin"], sort=True)["count"].sum()
    found = set(sums.index.get_level_values(0))
    worlds = material.some_worlds(found)
    scale, unit = unit_of(float(material.means.mean_delay_s.median()))
    panels = []
    for key in worlds:
        of_world = sums.loc[key.scenario_hash]
        names = [name for name in material.lines if name in of_world.index.get_level_values(0)]
        lines = [_tail(of_world.loc[name], name, material.style(name), scale) for name in names]
        panels.append(LinePanel(material.titles[key], tuple(line for line in lines if len(line.x))))
    if not panels:
        return
    caption = (
        f"Share of all counted tasks of all traces and seeds that took longer; lines end where {LEAST_TASKS} tasks "
        "are left, so the last decade rests on few." + material.left_out(len(material.lines), worlds)
    )
    yield Chart(
        "delay-tail", "How many tasks take longer", caption, Axis(f"delay, {unit}, log scale", log=True),
        Axis("share of tasks with a longer delay, log scale", log=True), tuple(panels),
    )  # fmt: skip


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
        least = min(float(np.nanmin(panel.dots[0].values)) for panel in panels)
        low = -WIDEST_PCT if least < -WIDEST_PCT else math.nan
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
    best = np.array([float(material.worlds[key].mean_delay_s.min()) for key in shown])
    texts = tuple(tuple(_delay_text(value) for value in row) for row in values)
    marks = tuple(tuple(bool(value == least) for value, least in zip(row, best, strict=True)) for row in values)
    columns = _columns(shown, material)
    caption = (
        "Numbers: mean delay; shade: how many times that of the best in the same column (light: equal, dark: five "
        "times or more); framed: the best, of which the intervals in the tables tell how sure it is."
    )
    yield Chart(
        "at-a-glance", "All worlds at a glance",
        caption + material.left_out(len(names)) + of_most(len(shown), len(worlds), "worlds are drawn"),
        Axis("world and load"), Axis(""), (GridPanel("", tuple(names), columns, values / best, texts, marks),),
    )  # fmt: skip


def _columns(worlds: list[ScenarioKey], material: Material) -> tuple[str, ...]:
    return tuple(material.titles[key].replace("load ", "") for key in worlds)


def _delay_text(value_s: float) -> str:
    """ "15.9 ms", "2.1 s"; "" for NaN."""
    if math.isnan(value_s):
        return ""
    scale, unit = unit_of(value_s)
    return f"{value_s * scale:.3g} {unit}"
