"""Charts of what happens inside: where delay comes from, how many servers a task uses, what servers do over time."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ddrl_sched.report.chart import Axis, BarPanel, Chart, DotPanel, Dots, Line, LinePanel, of_most
from ddrl_sched.report.material import Material, short
from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.statistics import Floats
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey

PARTS = {"wait_s": "waiting", "transfer_s": "transfer", "compute_s": "computing", "return_s": "return"}
LONGEST_BAR = 2.5  # times the least delay of a panel: longer bars are cut at the edge
MAX_SERVERS = 7  # that are drawn as lines of their own


def parts_of_delay(material: Material) -> Iterator[Chart]:
    """Stacked bars: waiting, transfer, computing, return, a panel for each world and load."""
    names = material.bars
    worlds = material.some_worlds()
    sums = _task_means(material.rows, list(PARTS))
    scale, unit = unit_of(float(material.means.mean_delay_s.median()))
    panels = []
    for key in worlds:
        values = scale * _rows_of(sums, key, names)
        panels.append(BarPanel(material.titles[key], tuple(names), tuple(PARTS.values()), values))
    if all(np.isnan(panel.values).all() for panel in panels):
        return
    limit = LONGEST_BAR * max(_least(panel.values.sum(axis=1)) for panel in panels)
    longest = max(float(np.nanmax(panel.values.sum(axis=1))) for panel in panels)
    caption = (
        "Means over all tasks along the share of a task that ends last; waiting is for ports and servers, transfer "
        "holds the input and what asking costs."
    )
    caption += " Bars that reach the edge are longer; their length stands beside them." * (longest > limit)
    yield Chart(
        "parts-of-delay", "Where delay comes from", caption + material.left_out(len(names), worlds),
        Axis(f"mean delay, {unit}", low=0.0, high=limit if longest > limit else math.nan), Axis(""), tuple(panels),
    )  # fmt: skip


def servers_per_task(material: Material) -> Iterator[Chart]:
    """Servers used and servers asked per task, a panel for each world and load."""
    names = material.bars
    worlds = material.some_worlds()
    panels = []
    for key in worlds:
        used, asked = (
            np.array([material.value(key, name, column) for name in names])
            for column in ("mean_servers", "probes_per_task")
        )
        both = Dots("used", 5, used), Dots("asked before", 0, asked)
        panels.append(DotPanel(material.titles[key], tuple(names), both))
    if all(np.isnan(dots.values).all() for panel in panels for dots in panel.dots):
        return
    caption = "Mean number of servers that work on a task, and of those whose queue was asked for before choosing."
    yield Chart(
        "servers-per-task", "Servers used and asked per task", caption + material.left_out(len(names), worlds),
        Axis("servers per task", low=-0.25), Axis(""), tuple(panels),
    )  # fmt: skip


def servers_over_time(material: Material) -> Iterator[Chart]:
    """Utilisation and queue of every server over time, a panel for each scheduler, in one world."""
    if material.timelines.empty:
        return
    key, of_world = _busiest(material)
    names = [name for name in material.order if name in set(of_world.scheduler)][:6]
    means = of_world.groupby(["scheduler", "server", "begin_s", "end_s"])[["busy", "queue"]].mean().reset_index()
    said = f" Drawn for {short(key.title(), 100)}"
    said += ", the highest load below 1 of most schedulers." if len(material.worlds) > 1 else "."
    said += of_most(len(names), of_world.scheduler.nunique(), "schedulers are drawn, the best")
    since = "Means over traces and seeds in bins of time since the start"
    busy = tuple(_servers_panel(means[means.scheduler == one], one, "busy") for one in names)
    yield Chart(
        "utilisation", "Utilisation of servers over time", f"{since}.{said}", Axis("time, s"),
        Axis("share of time that it serves", low=0.0, high=1.05), busy,
    )  # fmt: skip
    queues = tuple(_servers_panel(means[means.scheduler == one], one, "queue") for one in names)
    yield Chart(
        "queues", "Queues of servers over time", f"{since}; lines that go on growing are queues that build up.{said}",
        Axis("time, s"), Axis("shares waiting or served (log)", log=True), queues,
    )  # fmt: skip


def _servers_panel(rows: pd.DataFrame, name: str, column: str) -> LinePanel:
    """A line for each server; of many servers their mean, in a band from the least to the greatest."""
    middle = rows.assign(x=(rows.begin_s + rows.end_s) / 2)
    if rows.server.nunique() > MAX_SERVERS:
        over = middle.groupby("x")[column].agg(["mean", "min", "max"])
        x, mean, lo, hi = over.index.to_numpy(float), *(over[which].to_numpy(float) for which in ("mean", "min", "max"))
        text = f"mean of {rows.server.nunique()} servers, band: least to greatest"
        return LinePanel(name, (Line(text, 0, x, mean, lo, hi),))
    lines = []
    for number, (server, one) in enumerate(middle.groupby("server")):
        one = one.sort_values("x")
        lines.append(Line(f"server {server}", number, one.x.to_numpy(float), one[column].to_numpy(float)))
    return LinePanel(name, tuple(lines))


def _busiest(material: Material) -> tuple[ScenarioKey, pd.DataFrame]:
    """The world with timelines of most schedulers; of several the one with the highest load below 1."""
    worlds = {ScenarioKey(*key): group for key, group in material.timelines.groupby(SCENARIO, sort=False)}
    return max(
        worlds.items(),
        key=lambda item: (item[1].scheduler.nunique(), item[0].load < 1, item[0].load, item[0].scenario_hash),
    )


def _task_means(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Means of columns for each world and scheduler, weighted by tasks."""
    weighted = rows[columns].mul(rows.n_tasks, axis=0).assign(n_tasks=rows.n_tasks)
    sums = weighted.groupby([rows.scenario_hash, rows.scheduler]).sum(min_count=1)
    return sums[columns].div(sums.n_tasks, axis=0)


def _rows_of(means: pd.DataFrame, key: ScenarioKey, names: list[str]) -> Floats:
    """[names, columns] of one world, NaN where a scheduler was not run."""
    wanted = pd.MultiIndex.from_product([[key.scenario_hash], names])
    return means.reindex(wanted).to_numpy(float)


def _least(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else 0.0
