"""Tables of compared schedulers: a world at one load, and means over the loads of a world."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.table import Cell, Column, Row, Table, Value, mark_best, of_estimate
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey, load_text

WORLD = ["scenario", "workload", "rule"]
BEST = ("mean_delay_s", "p95_delay_s", "p99_delay_s", "late_rate")  # columns whose least value is the best
REDUCTION = ("reduction_pct", "reduction_lo_pct", "reduction_hi_pct")
MEAN = ("mean_delay_s", "mean_delay_lo_s", "mean_delay_hi_s")


def comparison_tables(rows: pd.DataFrame, captions: Mapping[str, str]) -> Iterator[Table]:
    """A table per world and load of report_rows, under its caption."""
    for key, group in rows.groupby(SCENARIO, sort=False):
        scenario = ScenarioKey(*key)
        title = captions.get(scenario.scenario_hash) or scenario.title()
        yield _comparison(group, title, scenario._asdict())


def over_loads_tables(means: pd.DataFrame, rows: pd.DataFrame) -> Iterator[Table]:
    """A table per world of over_loads; `rows`: those of report_rows."""
    for world, group in means.groupby(WORLD, sort=False):
        of_world = rows[(rows[WORLD] == list(world)).all(axis=1)]
        baselines = [name for name in dict.fromkeys(of_world.baseline) if name]
        every = ", ".join(load_text(float(load)) for load in group.loads.iloc[0].split(", "))
        title = "{}, workload {}, rule {}".format(*world) + f": means over the loads {every}"
        columns = (Column("scheduler", "scheduler", "text"), *map(_reduction_column, baselines))
        table_rows = []
        for name, of_one in group.groupby("scheduler", sort=False):
            gains = {record["baseline"]: record for record in of_one.to_dict("records")}
            table_rows.append(Row((Cell(name), *(_reduction(gains.get(baseline)) for baseline in baselines))))
        yield Table("over_loads", title, columns, tuple(table_rows), about=dict(zip(WORLD, world, strict=True)))


def _comparison(group: pd.DataFrame, title: str, about: Mapping[str, Value]) -> Table:
    """Reductions stand last, so that a narrow page has them in a table of their own."""
    scale, unit = unit_of(group.mean_delay_s.median())
    baselines = [name for name in dict.fromkeys(group.baseline) if name]
    columns = (*_columns(scale, unit), *map(_reduction_column, baselines))
    records = group.to_dict("records")
    gains = {(record["scheduler"], record["baseline"]): record for record in records}
    firsts = {record["scheduler"]: record for record in reversed(records)}
    names = dict.fromkeys(record["scheduler"] for record in records)
    rows = [_row(firsts[name], [gains[name, baseline] for baseline in baselines]) for name in names]
    return Table("comparison", title, columns, tuple(mark_best(rows, columns, BEST)), about=about)


def _columns(scale: float, unit: str) -> tuple[Column, ...]:
    return (
        Column("scheduler", "scheduler", "text"),
        Column("info", "info", "text", optional=2),
        Column("mean_delay_s", "mean delay", unit=unit, scale=scale, interval=True),
        Column("p95_delay_s", "p95", unit=unit, scale=scale, optional=3),
        Column("p99_delay_s", "p99", unit=unit, scale=scale, optional=5),
        Column("late_rate", "late", "percent", "%", scale=100, optional=1),
        Column("mean_servers", "servers", optional=6),
        Column("probes_per_task", "probes", optional=7),
        Column("decide_us", "decide", unit="us", optional=8),
        Column("units", "seeds x traces", "word", optional=4),
    )


def _row(record: Mapping[str, Any], against: Sequence[Mapping[str, Any]]) -> Row:
    counts = ("mean_servers", "probes_per_task", "decide_us")
    return Row(
        (
            Cell(record["scheduler"]),
            Cell(record["info"]),
            of_estimate([record[name] for name in MEAN]),
            *(Cell(record[name]) for name in ("p95_delay_s", "p99_delay_s", "late_rate", *counts)),
            Cell(f"{record['n_seeds']} x {record['n_traces']}"),
            *map(_reduction, against),
        )
    )


def _reduction_column(baseline: str) -> Column:
    return Column(f"reduction_pct vs {baseline}", f"reduction vs {baseline}", "percent", "%", interval=True)


def _reduction(record: Mapping[str, Any] | None) -> Cell:
    return Cell(math.nan) if record is None else of_estimate([record[name] for name in REDUCTION])
