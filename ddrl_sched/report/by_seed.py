"""How far apart the seeds of a scheduler are: a mean with an interval does not tell of the one that failed.

A seed's delay is the mean over the tasks of all its traces. Where every seed has a world of its own (published draws),
the seeds differ by their worlds too, which a note says.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ddrl_sched.config import InputError, clean
from ddrl_sched.report.load import load, tell
from ddrl_sched.report.sheets import DRAW, Sheet, unit_of
from ddrl_sched.report.tables import FORMATS, SCENARIO, as_csv, plain
from ddrl_sched.run import records

FAILED = 2.0  # times the median: a seed beyond is counted
COLUMNS = [*SCENARIO, "scheduler", "learned", "seed", "n_traces", "n_tasks", "mean_delay_s"]


def main(paths: Sequence[Path | str], format: str, out: Path | str | None, strict: bool = False) -> int:
    """Print the table of the seeds of all schedulers with several at or below `paths`; with `out`, write it there too.

    Returns and raises what report.tables.main does.
    """
    found = load(paths)
    rows = seed_rows(found.rows, found.notes)
    tell(found)
    if rows.empty:
        raise InputError(f"no scheduler with several seeds at or below {', '.join(map(clean, paths))}")
    print(render(rows, format), end="")
    if out is not None:
        for form in FORMATS.keys() - {"table"}:
            records.write_bytes(Path(out) / f"by_seed.{FORMATS[form]}", render(rows, form).encode())
    return 3 if strict and found.skipped else 0


def seed_rows(df: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """One row per scenario, load, scheduler and seed (COLUMNS), of schedulers with at least two seeds.

    `df`: Loaded.rows; n_tasks counts the tasks of all traces. What a reader should know is appended to `notes`.
    """
    rows = []
    for key, group in df.groupby([*SCENARIO, "scheduler"]):
        if group.seed.nunique() < 2:
            continue
        if (group.groupby(["cluster", "trace"]).seed.nunique() == 1).all():
            notes.append(f"{key[-1]} in {key[0]} {key[1]} {key[2]} load {key[4]:.3g}: every seed met traces of its own")
        for seed, one in group.groupby("seed"):
            n_tasks = int(one.n_tasks.sum())
            delay_s = float((one.mean_delay_s * one.n_tasks).sum() / n_tasks)
            rows.append([*key, bool(one.learned.iloc[0]), int(str(seed)), len(one), n_tasks, delay_s])
    return pd.DataFrame(rows, columns=COLUMNS)


def render(rows: pd.DataFrame, format: str) -> str:
    """The rows as "csv" or "json", or what they amount to as "table", "markdown" or "latex"."""
    if format == "csv":
        return as_csv(rows)
    if format == "json":
        return json.dumps({"by_seed": plain(rows)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return "\n".join(DRAW[format](sheet) for sheet in _sheets(rows))


def _sheets(rows: pd.DataFrame) -> list[Sheet]:
    sheets = []
    for (scenario, workload, rule, _, load_), group in rows.groupby(SCENARIO, sort=False):
        scale, unit = unit_of(group.mean_delay_s.median())
        header = ["scheduler", "seeds", f"median, {unit}", f"least, {unit}", f"greatest, {unit}", "greatest / median"]
        header.append(f"above {FAILED:g} x median")
        delays = {str(name): of_one.mean_delay_s for name, of_one in group.groupby("scheduler")}
        cells = []
        for name, delay_s in sorted(delays.items(), key=lambda item: item[1].median()):
            median, least, greatest = delay_s.median(), delay_s.min(), delay_s.max()
            numbers = [f"{scale * x:,.4g}" for x in (median, least, greatest)] + [f"{greatest / median:,.2f}"]
            cells.append([name, str(len(delay_s)), *numbers, str(int((delay_s > FAILED * median).sum()))])
        sheets.append(Sheet(f"{scenario}, workload {workload}, rule {rule}, load {load_:.3g}", header, cells))
    return sheets
