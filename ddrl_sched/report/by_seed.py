"""The spread of the training seeds of a learned scheduler: a mean with an interval does not show a failed seed.

A seed's delay is the mean over the tasks of all traces that every seed has. Where every seed has a world of its own
(published draws), the seeds differ by their worlds too, which a note says.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ddrl_sched.config import InputError, clean
from ddrl_sched.report.comparison import add_remark, by_load, remark_lines
from ddrl_sched.report.load import load, print_notes, why_nothing
from ddrl_sched.report.sheets import Sheet, number, terminal_width, unit_of
from ddrl_sched.report.statistics import delay_sums
from ddrl_sched.report.tables import publish
from ddrl_sched.report.worlds import SCENARIO, title

FAILED = 2.0  # times the least median of a table: a seed beyond is counted
COLUMNS = [*SCENARIO, "scheduler", "seed", "n_traces", "n_tasks", "mean_delay_s"]


def main(
    paths: Sequence[Path | str], format: str, out: Path | str | None, strict: bool = False, *, wide: bool = False
) -> int:
    """Print the spread of the seeds in the run folders at or below `paths`; with `out`, write it there too.

    Returns and raises what report.tables.main does.
    """
    found = load(paths)
    rows = seed_rows(found.rows, found.notes)
    print_notes(found)
    if rows.empty:
        why = "train with seeds=N and evaluate, as ddrl sweep does" if len(found.rows) else why_nothing(found)
        where = ", ".join(map(clean, paths))
        raise InputError(f"no results of a training with several seeds on edge servers at or below {where}: {why}")
    publish(rows, "by_seed", _sheets, format, out, width=terminal_width(wide))
    return 3 if strict and found.skipped else 0


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


def _sheets(rows: pd.DataFrame) -> list[Sheet]:
    sheets = []
    for key, group in by_load(rows):
        scale, unit = unit_of(group.mean_delay_s.median())
        header = ["scheduler", "seeds", f"median, {unit}", f"least, {unit}", f"greatest, {unit}", "greatest / median"]
        header.append(f"above {FAILED:g} x the least median")
        delays = {str(name): of_one.mean_delay_s for name, of_one in group.groupby("scheduler")}
        limit_s = FAILED * min(delay_s.median() for delay_s in delays.values())
        cells = []
        for name, delay_s in sorted(delays.items(), key=lambda item: item[1].median()):
            median, least, greatest = delay_s.median(), delay_s.min(), delay_s.max()
            numbers = [number(scale * x, 4) for x in (median, least, greatest)] + [f"{greatest / median:,.2f}"]
            cells.append([name, str(len(delay_s)), *numbers, str(int((delay_s > limit_s).sum()))])
        sheets.append(Sheet(key.title(), header, cells))
    return sheets
