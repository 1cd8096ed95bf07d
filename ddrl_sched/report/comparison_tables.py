"""Tables of compared schedulers: a world at one load, and means over the loads of a world."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ddrl_sched.report.comparison import PERCENTILES, WORLD, first_places
from ddrl_sched.report.numbers import percentage, unit_of
from ddrl_sched.report.stability import OVERLOADED
from ddrl_sched.report.table import DIFFERS_NOTE, ROUGH_NOTE, Cell, Column, Row, Table, Value, mark_best
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey, load_text

BEST = ("mean_delay_s", "p95_delay_s", "p99_delay_s", "late_rate")  # columns whose least value is the best
LEVEL = 0.05  # of significance
Record = Mapping[str, Any]  # a row of report_rows or over_loads, by column


def comparison_tables(rows: pd.DataFrame, captions: Mapping[str, str], budgets: Mapping[str, str]) -> Iterator[Table]:
    """A table per world and load of report_rows, under its caption; `budgets` says what trainings took."""
    worlds: dict[ScenarioKey, list[Record]] = {}
    for record in records_of(rows):
        worlds.setdefault(ScenarioKey(*(record[name] for name in SCENARIO)), []).append(record)
    for scenario, records in worlds.items():
        title = captions.get(scenario.scenario_hash) or scenario.title()
        trained = [budgets[name] for name in _first_of_each(records) if name in budgets]
        yield _comparison(records, title, scenario._asdict(), trained)
        yield _details(records, title, scenario._asdict())
        if any(record["baseline"] != "" for record in records):
            yield _pairs(records, title, scenario._asdict())


def records_of(frame: pd.DataFrame) -> list[Record]:
    """The rows of a frame by column, as to_dict("records") has them, but much faster where texts are."""
    columns = [frame[name].to_numpy().tolist() for name in frame]
    return [dict(zip(frame.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def over_loads_tables(means: pd.DataFrame, rows: pd.DataFrame) -> Iterator[Table]:
    """A table per world of over_loads; `rows`: those of report_rows."""
    for world, group in means.groupby(WORLD, sort=False):
        of_world = rows[(rows[WORLD] == list(world)).all(axis=1)]
        baselines = _baselines(records_of(of_world[["baseline", "reduction_pct"]]))
        every = ", ".join(load_text(float(load)) for load in group.loads.iloc[0].split(", "))
        title = "{}, workload {}, rule {}".format(*world) + f": means over the loads {every}"
        columns = (Column("scheduler", "scheduler", "text"), *map(_reduction_column, baselines))
        table_rows = []
        by_name: dict[str, dict[str, Record]] = {}
        for record in records_of(group):
            by_name.setdefault(record["scheduler"], {})[record["baseline"]] = record
        for name, gains in by_name.items():
            table_rows.append(Row((Cell(name), *(_reduction(gains.get(baseline)) for baseline in baselines))))
        yield Table("over_loads", title, columns, tuple(table_rows), about=dict(zip(WORLD, world, strict=True)))


def _first_of_each(records: Sequence[Record]) -> dict[str, Record]:
    """{scheduler: its first row}."""
    firsts: dict[str, Record] = {}
    for record in records:
        firsts.setdefault(record["scheduler"], record)
    return firsts


def _comparison(records: Sequence[Record], title: str, about: Mapping[str, Value], trained: Sequence[str]) -> Table:
    """Reductions stand last, so that a narrow page has them in a table of their own."""
    scale, unit = _unit(records)
    baselines = _baselines(records)
    columns = (*_columns(scale, unit), *map(_reduction_column, baselines))
    gains = {(record["scheduler"], record["baseline"]): record for record in records}
    firsts = _first_of_each(records).items()
    rows = [_row(first, [gains[name, baseline] for baseline in baselines]) for name, first in firsts]
    notes = [*_verdict(records), *_legend(rows)]
    notes += [f"CPU time of training: {'; '.join(trained)}."] if trained else []
    return Table("comparison", title, columns, tuple(mark_best(rows, columns, BEST)), tuple(notes), about)


def _unit(records: Sequence[Record]) -> tuple[float, str]:
    """The unit of delays of a table: that of the schedulers which are not overloaded, if there are any."""
    able = [record for record in records if record["state"] != OVERLOADED]
    return unit_of(float(np.nanmedian([record["mean_delay_s"] for record in able or records])))


def _baselines(records: Sequence[Record]) -> list[str]:
    """Those that were run; notes name the others."""
    run = dict.fromkeys(record["baseline"] for record in records if not math.isnan(record["reduction_pct"]))
    return [str(name) for name in run if name]


def _verdict(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Whether the ranking is decisive, and what difference could have been seen."""
    rivals = {record["scheduler"]: record for record in records if record["state"] != OVERLOADED}
    if len(rivals) < 2:
        return
    best, *others = rivals
    if any(math.isnan(rivals[name]["best_p_holm"]) for name in others):
        yield f"How sure it is that {best} is the best cannot be told."
        return
    alike = [name for name in others if rivals[name]["best_p_holm"] >= LEVEL]
    names = ", ".join(first_places(alike).split("; "))
    lead = f"Not decisive: {names} cannot be told from {best}" if alike else f"Decisive: {best} is ahead"
    found = sorted(rivals[name]["best_detectable_pct"] for name in alike or others[:1])
    least = " - ".join(dict.fromkeys((percentage(found[0]), percentage(found[-1]))))
    against = "these" if alike else others[0]
    yield f"{lead} (5 %, Holm). Minimum detectable reduction against {against}: {least} % (80 % power)."


def _legend(rows: Sequence[Row]) -> Iterator[str]:
    cells = [cell for row in rows for cell in row.cells]
    if any(cell.differs for cell in cells):
        yield DIFFERS_NOTE
    if any(cell.rough for cell in cells):
        yield ROUGH_NOTE


def _details(records: Sequence[Record], title: str, about: Mapping[str, Value]) -> Table:
    """Percentiles with intervals, interquartile means, loads and queues."""
    scale, unit = _unit(records)
    columns = (
        Column("scheduler", "scheduler", "text"),
        Column("state", "state", "text"),
        Column("caused_load", "caused load"),
        Column("queue_growth", "queue growth"),
        Column("n_tasks", "tasks", "count"),
        *(Column(f"{name}_delay_s", name, unit=unit, scale=scale, interval=True) for name in PERCENTILES),
        *(Column(f"{name}_tasks_needed", f"tasks that {name} needs", "count") for name in PERCENTILES),
        Column("iqm_delay_s", "interquartile mean of seeds", unit=unit, scale=scale, interval=True),
    )
    rows = []
    for record in _first_of_each(records).values():
        counts = [Cell(record[name]) for name in ("scheduler", "state", "caused_load", "queue_growth", "n_tasks")]
        needed = [Cell(record[f"{name}_tasks_needed"]) for name in PERCENTILES]
        tails = [_percentile(record, name) for name in PERCENTILES]
        rows.append(Row((*counts, *tails, *needed, _estimate(record, "iqm_delay_s")), record["state"]))
    return Table("details", f"{title}: tails, loads, seeds", columns, tuple(rows), tuple(_legend(rows)), about, True)


def _pairs(records: Sequence[Record], title: str, about: Mapping[str, Value]) -> Table:
    """Every scheduler against every baseline."""
    columns = (
        Column("pair", "scheduler", "text"),
        Column("reduction_pct", "reduction", "percent", "%", interval=True),
        Column("p_holm", "p (Holm)", "p"),
        Column("detectable_pct", "minimum detectable reduction", "percent", "%"),
        Column("better_pct", "probability of improvement", "percent", "%", interval=True),
    )
    rows = []
    for record in records:
        if record["scheduler"] == record["baseline"] or math.isnan(record["reduction_pct"]):
            continue
        reduction = _reduction(record)._replace(differs=record["p_holm"] < LEVEL)
        cells = (reduction, Cell(record["p_holm"]), Cell(record["detectable_pct"]), _estimate(record, "better_pct"))
        rows.append(Row((Cell(f"{record['scheduler']} vs {record['baseline']}"), *cells), record["state"]))
    return Table("pairs", f"{title}: against baselines", columns, tuple(rows), tuple(_legend(rows)), about, True)


def _columns(scale: float, unit: str) -> tuple[Column, ...]:
    return (
        Column("scheduler", "scheduler", "text"),
        Column("info", "info", "text", optional=3),
        Column("state", "state", "text", optional=1),
        Column("mean_delay_s", "mean delay", unit=unit, scale=scale, interval=True),
        Column("p95_delay_s", "p95", unit=unit, scale=scale, optional=4),
        Column("p99_delay_s", "p99", unit=unit, scale=scale, optional=6),
        Column("late_rate", "late", "percent", "%", scale=100, optional=2),
        Column("mean_servers", "servers", optional=7),
        Column("probes_per_task", "probes", optional=8),
        Column("decide_us", "decide", unit="us", optional=9),
        Column("units", "seeds x traces", "word", optional=5),
    )


def _row(record: Mapping[str, Any], against: Sequence[Mapping[str, Any]]) -> Row:
    return Row(
        (
            *(Cell(record[name]) for name in ("scheduler", "info", "state")),
            _estimate(record, "mean_delay_s"),
            *(_percentile(record, name) for name in PERCENTILES),
            *(Cell(record[name]) for name in ("late_rate", "mean_servers", "probes_per_task", "decide_us")),
            Cell(f"{record['n_seeds']} x {record['n_traces']}"),
            *(_reduction(pair)._replace(differs=pair["p_holm"] < LEVEL) for pair in against),
        ),
        record["state"],
    )


def _estimate(record: Mapping[str, Any], column: str) -> Cell:
    """The cell of a column that has bounds: mean_delay_s, mean_delay_lo_s, mean_delay_hi_s."""
    stem, _, unit = column.rpartition("_")
    return Cell(record[column], record[f"{stem}_lo_{unit}"], record[f"{stem}_hi_{unit}"])


def _percentile(record: Mapping[str, Any], name: str) -> Cell:
    rough = record["n_tasks"] < record[f"{name}_tasks_needed"]
    return _estimate(record, f"{name}_delay_s")._replace(rough=rough)


def _reduction_column(baseline: str) -> Column:
    return Column(f"reduction_pct vs {baseline}", f"reduction vs {baseline}", "percent", "%", interval=True)


def _reduction(record: Mapping[str, Any] | None) -> Cell:
    return Cell(math.nan) if record is None else _estimate(record, "reduction_pct")
