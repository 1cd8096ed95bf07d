"""The spread of the training seeds of a learned scheduler: a mean with an interval does not show a failed seed.

A seed's delay is the mean over the tasks of all traces that every seed has. Where every seed has a world of its own
(published draws), the seeds differ by their worlds too, which a note says.
"""

from collections.abc import Iterator

import pandas as pd

from ddrl_sched.report.comparison import add_remark, by_load, remark_lines
from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.robust import trimmed_mean
from ddrl_sched.report.statistics import delay_sums
from ddrl_sched.report.table import Cell, Column, Row, Table
from ddrl_sched.report.worlds import SCENARIO, title

FAILED = 2.0  # times the least median of a table: a seed beyond is counted
COLUMNS = [*SCENARIO, "scheduler", "seed", "n_traces", "n_tasks", "mean_delay_s"]


def seed_rows(df: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """One row per scenario, load, learned scheduler and seed (COLUMNS), of those with at least two seeds.

    `df`: Loaded.rows; n_tasks counts the tasks of all traces. Remarks are appended to `notes`.
    """
    remarks: dict[str, list[str]] = {}
    rows = []
    for key, group in df[df.learned.astype(bool)].groupby([*SCENARIO, "scheduler"]):
        seeds = sorted(group.seed.unique().tolist())
        if len(seeds) < 2:
            continue
        where = f"{key[5]} in {title(key[0], key[1], key[2], key[4])}"
        sums = delay_sums(group)
        for text in sums.notes:
            add_remark(remarks, text, where)
        if len(sums.delay_s) == len(seeds):
            found = zip([len(sums.trace)] * len(seeds), sums.n_tasks.sum(1), sums.delay_s.sum(1), strict=True)
        else:
            add_remark(remarks, "every seed has traces of its own, whose luck is among what sets seeds apart", where)
            each = group.assign(delay_s=group.mean_delay_s * group.n_tasks).groupby("seed")
            found = zip(each.size(), each.n_tasks.sum(), each.delay_s.sum(), strict=True)
        rows += [
            [*key, seed, int(n_traces), int(n_tasks), float(delay_s / n_tasks)]
            for seed, (n_traces, n_tasks, delay_s) in zip(seeds, found, strict=True)
        ]
    notes += remark_lines(remarks)
    return pd.DataFrame(rows, columns=COLUMNS)


def seed_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table per world and load of seed_rows, the least median first."""
    for key, group in by_load(rows):
        scale, unit = unit_of(group.mean_delay_s.median())
        delays = {str(name): of_one.mean_delay_s for name, of_one in group.groupby("scheduler")}
        limit_s = FAILED * min(delay_s.median() for delay_s in delays.values())
        cells = [
            (Cell(name), Cell(len(delay_s)), Cell(float(trimmed_mean(delay_s.to_numpy()))),
             Cell(delay_s.median()), Cell(delay_s.min()), Cell(delay_s.max()),
             Cell(delay_s.max() / delay_s.median()), Cell(int((delay_s > limit_s).sum())))
            for name, delay_s in sorted(delays.items(), key=lambda item: item[1].median())
        ]  # fmt: skip
        yield Table("by_seed", key.title(), _columns(scale, unit), tuple(map(Row, cells)), about=key._asdict())


def _columns(scale: float, unit: str) -> tuple[Column, ...]:
    delays = [("iqm_delay_s", "interquartile mean")]
    delays += [(f"{name}_delay_s", name) for name in ("median", "least", "greatest")]
    return (
        Column("scheduler", "scheduler", "text"),
        Column("n_seeds", "seeds", "count"),
        *(Column(name, label, unit=unit, scale=scale, digits=4) for name, label in delays),
        Column("spread", "greatest / median", "ratio"),
        Column("n_failed", f"above {FAILED:g} x the least median", "count"),
    )
