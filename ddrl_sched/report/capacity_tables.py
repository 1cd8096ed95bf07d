"""Tables of capacities: schedulers by the highest load that they carry within the deadline."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ddrl_sched.report.capacity import CAPACITY, KEY, MORE_LOAD
from ddrl_sched.report.table import Cell, Column, Row, Table, of_estimate

NOTE = "Load: offered work, without overhead, over the sum of the servers' speeds."


def capacity_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table per world and limit of capacity_rows, the largest capacity first."""
    for key, group in rows.groupby(KEY, sort=False, dropna=False):
        about = dict(zip(KEY, key, strict=True))
        baselines = [name for name in dict.fromkeys(group.baseline) if name]
        records = group.to_dict("records")
        gains = {(record["scheduler"], record["baseline"]): record for record in records}
        firsts = {record["scheduler"]: record for record in reversed(records)}
        open_ = any(record["outside"] == "at least" for record in records)  # and perhaps better than all others
        best = math.nan if open_ else max((r["capacity"] for r in records if not r["outside"]), default=math.nan)
        table_rows = [
            _row(firsts[name], [gains[name, baseline] for baseline in baselines], best)
            for name in dict.fromkeys(record["scheduler"] for record in records)
        ]
        yield Table("capacity", _title(about), (*_columns(), *map(_more, baselines)), tuple(table_rows), (NOTE,), about)


def _title(about: Mapping[str, Any]) -> str:
    """ "edge5, workload poisson: highest load with at most 1 % of tasks late (deadline 0.1 s)"."""
    deadline = "" if math.isnan(about["deadline_s"]) else f" (deadline {about['deadline_s']:g} s)"
    limit = f"highest load with at most {100 * about['at_most']:g} % of tasks late{deadline}"
    return f"{about['scenario']}, workload {about['workload']}: {limit}"


def _columns() -> tuple[Column, ...]:
    return (
        Column("scheduler", "scheduler", "text"),
        Column("info", "info", "text", optional=1),
        Column("capacity", "capacity, load", interval=True),
        Column("units", "seeds x traces", "word", optional=2),
        Column("n_loads", "loads looked at", "count", optional=3),
    )


def _more(baseline: str) -> Column:
    return Column(f"more_load_pct vs {baseline}", f"more load than {baseline}", "change", "%", digits=1, interval=True)


def _row(record: Mapping[str, Any], against: Sequence[Mapping[str, Any]], best: float) -> Row:
    if record["outside"]:
        found = Cell(f"{record['outside']} {record['capacity']:g}")
    else:
        found = of_estimate([record[name] for name in CAPACITY], best=record["capacity"] == best)
    counts = Cell(f"{record['n_seeds']} x {record['n_traces']}"), Cell(record["n_loads"])
    return Row((Cell(record["scheduler"]), Cell(record["info"]), found, *counts, *map(_gain, against)))


def _gain(record: Mapping[str, Any]) -> Cell:
    value, lo, hi = (record[name] for name in MORE_LOAD)
    return of_estimate((value, lo, hi), differs=lo > 0 or hi < 0)
