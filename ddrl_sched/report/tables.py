"""Tables of a report: rows in their CSV form, and the same as text, markdown, LaTeX and JSON."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddrl_sched.config import InputError, clean, near
from ddrl_sched.report.load import load, tell, why_nothing
from ddrl_sched.report.returns import gain_rows, return_rows, return_sheets
from ddrl_sched.report.sheets import (
    Sheet,
    draw,
    number,
    percentage,
    terminal_width,
    unit_of,
    with_interval,
    write_out,
)
from ddrl_sched.report.statistics import (
    DelaySums,
    Estimate,
    common_traces,
    delay_sums,
    mean_delay_s,
    reduction_pct,
    task_mean,
    unpaired_reduction_pct,
)
from ddrl_sched.report.worlds import load_text, title
from ddrl_sched.run import records

SCENARIO = ["scenario", "workload", "rule", "scenario_hash", "load"]
COLUMNS = [
    *SCENARIO, "realised_load", "scheduler", "info", "n_seeds", "n_traces", "baseline", "mean_delay_s",
    "mean_delay_lo_s", "mean_delay_hi_s", "reduction_pct", "reduction_lo_pct", "reduction_hi_pct", "p95_delay_s",
    "p99_delay_s", "late_rate", "probes_per_task", "decide_us", "mean_servers",
]  # fmt: skip
MEANS = ("p95_delay_s", "p99_delay_s", "late_rate", "probes_per_task", "decide_us", "mean_servers")
OF_ROWS = [
    "scheduler", "stream", "scenario_hash", "seed", "cluster", "trace", "n_tasks", "mean_delay_s", "realised_load",
    "info", "learned", *MEANS,
]  # fmt: skip
OVER_LOADS = [
    "scenario", "workload", "rule", "loads", "scheduler", "baseline", "reduction_pct", "reduction_lo_pct",
    "reduction_hi_pct",
]  # fmt: skip

AZURE = ("azure_conv", "azure_code")  # workloads whose arrivals are requests to language models
COMMON_RULE = "amcoedge"
PUBLISHED_COLUMNS = [
    "scenario", "workload", "load", "reference", "scheduler", "published_s", "own_rule", "own_mean_s", "own_lo_s",
    "own_hi_s", "common_rule", "common_mean_s", "common_lo_s", "common_hi_s", "reduction_pct", "reduction_lo_pct",
    "reduction_hi_pct", "unpaired_own_rules_pct", "unpaired_lo_pct", "unpaired_hi_pct", "published_reduction_pct",
]  # fmt: skip

FORMATS = {"table": "txt", "markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}  # -> ending of the file
NO_RETURNS = pd.DataFrame(), pd.DataFrame()  # of CartPole: per agent, and gains
NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)


def main(
    paths: Sequence[Path | str],
    baselines: Sequence[str],
    format: str,
    out: Path | str | None,
    strict: bool = False,
    *,
    wide: bool = False,
) -> int:
    """Print the report of the run folders at or below `paths`; with `out`, write it there in every form too.

    Data goes to stdout, notes and skipped folders to stderr; tables of text are as wide as the terminal unless `wide`.
    Returns the exit code: 3 if `strict` and a folder was skipped, else 0. InputError if nothing can be read, a path is
    missing or a baseline unknown; RecordsError if `out` cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"--format: unknown form {clean(format)!r}{near(format, list(FORMATS))}")
    found = load(paths)
    notes = found.notes
    try:
        if found.rows.empty and found.returns.empty:
            raise InputError(f"no finished evaluation at or below {', '.join(map(clean, paths))}: {why_nothing(found)}")
        of_returns = set(found.returns.scheduler)
        _check_baselines(baselines, sorted({*found.rows.scheduler, *of_returns}))
        rows = report_rows(found.rows, [name for name in baselines if name not in of_returns], notes)
        if format == "csv" and len(found.rows) and of_returns:
            notes.append("the csv form has one table, so returns (CartPole) are left out; --out writes returns.csv too")
        published = published_rows(found.rows, notes)
    finally:
        tell(found)
    about = captions(found.rows)
    returns = return_rows(found.returns), gain_rows(found.returns, baselines)
    write_out(render(rows, format, about, published, returns, width=terminal_width(wide)))
    if out is not None:
        for name, data in _files(rows, about, published, returns):
            records.write_bytes(Path(out) / name, data.encode())
    return 3 if strict and found.skipped else 0


def report_rows(df: pd.DataFrame, baselines: Sequence[str], notes: list[str] | None = None) -> pd.DataFrame:
    """One row per scenario, load, scheduler and baseline (the baseline itself too, with reduction 0): COLUMNS.

    `df` is Loaded.rows. Without `baselines` those of the jobs count, and without these there is one row per scheduler
    with an empty baseline. Where a baseline was not run the reduction is NaN. What a reader should know beside the
    numbers is appended to `notes`. InputError for a baseline that no folder holds.
    """
    _check_baselines(baselines, sorted(df.scheduler.unique()))
    remarks: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    for key, group in by_load(df):
        names = list(dict.fromkeys(baselines)) or _baselines_of_jobs(group)
        rows += _scenario_rows(dict(zip(SCENARIO, key, strict=True)), group, names, remarks)
    if notes is not None:
        notes += told(remarks)
    return pd.DataFrame(rows, columns=COLUMNS)


def by_load(df: pd.DataFrame) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """(key by SCENARIO, rows) of every scenario, loads in ascending order."""
    found = [(key, group) for key, group in df.groupby(SCENARIO)]
    return sorted(found, key=lambda one: (*one[0][:3], one[0][4], one[0][3]))


def over_loads(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of the reductions over all loads of a world, for schedulers that were run at each of them: OVER_LOADS.

    `rows`: of report_rows. The ends of an interval are the means of the ends: as wide as if the errors of all loads
    were one and the same. The scheduler with the largest mean against any baseline stands first.
    """
    ends = ["reduction_pct", "reduction_lo_pct", "reduction_hi_pct"]
    found: list[dict[str, Any]] = []
    for key, group in rows[rows.baseline != ""].groupby(["scenario", "workload", "rule"], sort=False):
        loads = sorted(group.load.unique())
        if len(loads) < 2 or group.scenario_hash.nunique() != len(loads):
            continue
        world = dict(zip(("scenario", "workload", "rule"), key, strict=True))
        world["loads"] = ", ".join(f"{load:.6g}" for load in loads)
        means = [
            world | {"scheduler": name, "baseline": baseline, **of_pair[ends].mean()}
            for (name, baseline), of_pair in group.groupby(["scheduler", "baseline"])
            if len(of_pair) == len(loads) and of_pair[ends].notna().all(axis=None)
        ]
        best: dict[str, float] = {}
        for row in means:
            best[row["scheduler"]] = max(best.get(row["scheduler"], -math.inf), row["reduction_pct"])
        found += sorted(means, key=lambda row: -best[row["scheduler"]])
    return pd.DataFrame(found, columns=OVER_LOADS)


def published_rows(df: pd.DataFrame, notes: list[str] | None = None) -> pd.DataFrame:
    """The published comparison beside a fair one: PUBLISHED_COLUMNS, empty unless schedulers stand under several rules.

    Per scheduler: the published number, the mean under its own rules and under COMMON_RULE, what each reference
    (AMCoEdge, DDRL-AMSA) gains on it under the common rule (paired), and unpaired with each under its own rules.
    """
    rows: list[dict[str, Any]] = []
    for key, group in df[df.rule != "clean"].groupby(["scenario", "workload", "load"]):
        if group.rule.nunique() < 2 or COMMON_RULE not in set(group.rule):
            continue
        if (group.groupby("rule").scenario_hash.nunique() > 1).any():
            if notes is not None:
                notes.append(f"no table of the published study: several scenarios are called {key[0]}")
            continue
        rows += _published_scenario(dict(zip(("scenario", "workload", "load"), key, strict=True)), group)
    return pd.DataFrame(rows, columns=PUBLISHED_COLUMNS)


def captions(df: pd.DataFrame) -> dict[str, str]:
    """{scenario_hash: caption} of a table; real arrivals are named with the factor by which they were stretched."""
    texts = {}
    for (scenario, workload, rule, scenario_hash, load_), group in df.groupby(SCENARIO):
        text = f"{title(scenario, workload, rule, load_)} (realised {_realised(group):.3g})"
        low, high = group.time_scale.min(), group.time_scale.max()
        if (low, high) != (1, 1):
            factor = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} - {high:.3g}"
            azure = workload.partition("(")[0] in AZURE
            what = "real arrival pattern of language-model requests" if azure else "arrivals of a trace file"
            text += f"; {what}, time-scaled by a factor {factor}"
        texts[str(scenario_hash)] = text
    return texts


def render(
    rows: pd.DataFrame,
    format: str,
    captions: Mapping[str, str] | None = None,
    published: pd.DataFrame | None = None,
    returns: tuple[pd.DataFrame, pd.DataFrame] = NO_RETURNS,
    *,
    width: int | None = None,
) -> str:
    """The rows of report_rows (of published_rows, and of CartPole) as "table", "markdown", "csv", "latex" or "json".

    `width`: characters of a line of the form "table"; None for any number.

    csv has one table: that of report_rows, or the returns where there are only those.
    """
    if format == "csv":
        return as_csv(rows if len(rows) or not len(returns[0]) else returns[0])
    if format == "json":
        tables = {"rows": rows, "over_loads": over_loads(rows)}
        tables |= {"published": pd.DataFrame() if published is None else published}
        tables |= {"returns": returns[0], "return_gains": returns[1]} if len(returns[0]) else {}
        records_of = {name: plain(table) for name, table in tables.items()}
        return json.dumps(records_of, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    sheets = [
        *_sheets(rows, captions or {}),
        *_sheets_over_loads(rows),
        *_published_sheets(published),
        *return_sheets(*returns),
    ]
    return "\n".join(draw(sheet, format, width) for sheet in sheets)


# Rows


def _check_baselines(baselines: Sequence[str], known: list[str]) -> None:
    for name in baselines:
        if name not in known:
            some = f" (found: {', '.join(known)})"
            raise InputError(f"--baseline: no results of scheduler {clean(name)!r}{near(name, known)}{some}")


def _baselines_of_jobs(group: pd.DataFrame) -> list[str]:
    names = [name for tuple_ in dict.fromkeys(group.baselines) for name in tuple_] if "baselines" in group else []
    return list(dict.fromkeys(names)) or [""]


def _scenario_rows(
    scenario: dict[str, Any], group: pd.DataFrame, baselines: list[str], remarks: dict[str, list[str]]
) -> list[dict[str, Any]]:
    needed = [name for name in OF_ROWS if name in group]  # rows of few columns are cut out faster
    by_scheduler = {str(name): rows for name, rows in group[needed].groupby("scheduler")}
    sums = {name: delay_sums(rows) for name, rows in by_scheduler.items()}
    where = title(*(scenario[name] for name in ("scenario", "workload", "rule", "load")))
    rows = []
    for name in sums:
        about = scenario | _scheduler_row(by_scheduler[name], sums[name])
        _remark_on(by_scheduler[name], sums[name], f"{name} in {where}", remarks)
        for baseline in baselines:
            gain = _gain(sums, name, baseline, where, remarks)
            rows.append(about | {"baseline": baseline, **_interval("reduction_pct", gain)})
    return sorted(rows, key=lambda row: (row["mean_delay_s"], row["scheduler"]))


def _scheduler_row(rows: pd.DataFrame, sums: DelaySums) -> dict[str, Any]:
    return {
        "realised_load": _realised(rows),
        "scheduler": sums.scheduler,
        "info": "/".join(sorted(rows["info"].unique())),
        "n_seeds": sums.n_seeds,
        "n_traces": sums.trace.size,
        **_interval("mean_delay_s", mean_delay_s(sums)),
        **{column: task_mean(rows, column) for column in MEANS},
    }


def _realised(rows: pd.DataFrame) -> float:
    realised = dict(zip(zip(rows.cluster, rows.trace, strict=True), rows.realised_load, strict=True))
    return float(np.mean(list(realised.values())))


def _interval(column: str, estimate: Estimate) -> dict[str, float]:
    """ "mean_delay_s" -> mean_delay_s, mean_delay_lo_s, mean_delay_hi_s."""
    stem, _, unit = column.rpartition("_")
    return {column: estimate.value, f"{stem}_lo_{unit}": estimate.lo, f"{stem}_hi_{unit}": estimate.hi}


def _gain(sums: dict[str, DelaySums], name: str, baseline: str, where: str, remarks: dict[str, list[str]]) -> Estimate:
    if not baseline:
        return NO_ESTIMATE
    if baseline not in sums:
        remark(remarks, f"baseline {baseline} was not run in", where)
        return NO_ESTIMATE
    one, other = sums[name], sums[baseline]
    common = common_traces(one, other)[0].trace.size
    if common < max(one.trace.size, other.trace.size):
        remark(remarks, "reduction over common traces only", f"{name} against {baseline} ({common}) in {where}")
    return reduction_pct(one, other)


def _remark_on(rows: pd.DataFrame, sums: DelaySums, where: str, remarks: dict[str, list[str]]) -> None:
    n_clusters = len(set(sums.cluster.tolist()))
    for text in sums.notes:
        remark(remarks, text, where)
    if n_clusters < 2:
        remark(remarks, "no interval, for all traces are of one cluster", where)
    elif n_clusters < 5:
        remark(remarks, f"a rough interval, for it rests on {n_clusters} clusters of traces", where)
    if "learned" in rows and rows.learned.any() and sums.n_seeds == 1:
        remark(remarks, "one training seed, whose luck is not in the interval", where)


def remark(remarks: dict[str, list[str]], text: str, where: str) -> None:
    """Note that `text` holds in one more place."""
    places = remarks.setdefault(text, [])
    if where not in places:
        places.append(where)


def told(remarks: dict[str, list[str]]) -> list[str]:
    """A note per text, with some of its places."""
    return [f"{text}: {some(where)}" for text, where in remarks.items()]


def some(places: list[str], most: int = 4) -> str:
    """The first `most`, and how many more there are."""
    return "; ".join(places[:most]) + (f"; and {len(places) - most} more" if len(places) > most else "")


# The published study


def _published_scenario(scenario: dict[str, Any], group: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows against every scheduler of which a gain was published."""
    sums = {(str(name), str(rule)): delay_sums(rows) for (name, rule), rows in group.groupby(["scheduler", "rule"])}
    said = {str(row["scheduler"]): row for row in group.drop_duplicates("scheduler").to_dict("records")}
    slowest_first = sorted(said, key=lambda name: (-np.nan_to_num(said[name]["published_delay_s"]), name))
    return [
        {
            **scenario,
            "reference": reference,
            "scheduler": name,
            "published_s": said[name]["published_delay_s"],
            **_published_row(sums, reference, name),
            "published_reduction_pct": _published_gain_pct(said[reference], said[name]),
        }
        for reference in sorted(said)
        if said[reference]["published_gain_pct"] is not None
        for name in slowest_first
    ]


def _published_gain_pct(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> float:
    """Reduction of the delay in percent that was published of one method against another, else by their mean delays."""
    stated = one["published_gain_pct"].get(other["published_as"])
    by_delay = 100 * (1 - one["published_delay_s"] / other["published_delay_s"])
    return float(by_delay if stated is None else stated)


def _published_row(sums: dict[tuple[str, str], DelaySums], reference: str, name: str) -> dict[str, Any]:
    own_rule, common = _own_rule(sums, name), sums.get((name, COMMON_RULE))
    own = sums.get((name, own_rule))
    reference_own, reference_common = (
        sums.get((reference, _own_rule(sums, reference))),
        sums.get((reference, COMMON_RULE)),
    )
    paired = reduction_pct(reference_common, common) if reference_common and common else NO_ESTIMATE
    unpaired = _across_rules(reference_own, own) if reference_own and own else NO_ESTIMATE
    own_mean, common_mean = (mean_delay_s(x) if x else NO_ESTIMATE for x in (own, common))
    return {
        "own_rule": own_rule,
        **dict(zip(("own_mean_s", "own_lo_s", "own_hi_s"), _three(own_mean), strict=True)),
        "common_rule": COMMON_RULE,
        **dict(zip(("common_mean_s", "common_lo_s", "common_hi_s"), _three(common_mean), strict=True)),
        **_interval("reduction_pct", paired),
        **dict(zip(("unpaired_own_rules_pct", "unpaired_lo_pct", "unpaired_hi_pct"), _three(unpaired), strict=True)),
    }


def _own_rule(sums: Iterable[tuple[str, str]], name: str) -> str:
    """The rule beside the common one under which a scheduler was run; the common one if there is none."""
    rules = sorted({rule for scheduler, rule in sums if scheduler == name} - {COMMON_RULE})
    return "/".join(rules) if rules else COMMON_RULE


def _across_rules(one: DelaySums, other: DelaySums) -> Estimate:
    same = one.scenario_hash == other.scenario_hash
    return reduction_pct(one, other) if same else unpaired_reduction_pct(one, other)


def _three(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.lo, estimate.hi


# Sheets


def _sheets(rows: pd.DataFrame, captions: Mapping[str, str]) -> Iterator[Sheet]:
    for key, group in rows.groupby(SCENARIO, sort=False):
        scenario, workload, rule, scenario_hash, load_ = key
        text = captions.get(str(scenario_hash)) or title(scenario, workload, rule, load_)
        yield _scenario_sheet(group, text)


def _sheets_over_loads(rows: pd.DataFrame) -> Iterator[Sheet]:
    for world, group in over_loads(rows).groupby(["scenario", "workload", "rule"], sort=False):
        of_world = rows[(rows[["scenario", "workload", "rule"]] == list(world)).all(axis=1)]
        baselines = [name for name in dict.fromkeys(of_world.baseline) if name]
        cells = []
        for name, of_one in group.groupby("scheduler", sort=False):
            gains = {
                row.baseline: (row.reduction_pct, row.reduction_lo_pct, row.reduction_hi_pct)
                for row in of_one.itertuples()
            }
            cells.append(
                [name, *(with_interval(gains.get(baseline, [math.nan] * 3), percentage) for baseline in baselines)]
            )
        every = ", ".join(map(load_text, sorted(of_world.load[of_world.baseline != ""].unique())))
        text = "{}, workload {}, rule {}".format(*world) + f": means over the loads {every}"
        yield Sheet(text, ["scheduler", *(f"reduction vs {name}, % [95%]" for name in baselines)], cells)


def _scenario_sheet(group: pd.DataFrame, text: str) -> Sheet:
    """Reductions stand last, so that a narrow page has them in a table of their own."""
    scale, unit = unit_of(group.mean_delay_s.median())
    baselines = [name for name in dict.fromkeys(group.baseline) if name]
    gains = {(row.scheduler, row.baseline): row for row in group.itertuples()}
    cells = []
    for row in group.drop_duplicates("scheduler").itertuples():
        against = [gains[row.scheduler, name] for name in baselines]
        cells.append(
            [
                row.scheduler,
                row.info,
                with_interval(
                    [scale * x for x in (row.mean_delay_s, row.mean_delay_lo_s, row.mean_delay_hi_s)], number
                ),
                *(number(scale * x) for x in (row.p95_delay_s, row.p99_delay_s)),
                percentage(100 * row.late_rate),
                *(number(x) for x in (row.mean_servers, row.probes_per_task, row.decide_us)),
                f"{row.n_seeds} x {row.n_traces}",
                *(
                    with_interval((g.reduction_pct, g.reduction_lo_pct, g.reduction_hi_pct), percentage)
                    for g in against
                ),
            ]
        )
    measures = [
        f"mean delay, {unit} [95%]",
        f"p95, {unit}",
        f"p99, {unit}",
        "late, %",
        "servers",
        "probes",
        "decide, us",
    ]
    _, p95, p99, late, *rest = measures
    reductions = [f"reduction vs {name}, % [95%]" for name in baselines]
    optional = late, "info", p95, "seeds x traces", p99, *rest
    return Sheet(text, ["scheduler", "info", *measures, "seeds x traces", *reductions], cells, optional)


def _published_sheets(published: pd.DataFrame | None) -> Iterator[Sheet]:
    if published is None or published.empty:
        return
    for key, group in published.groupby(["scenario", "workload", "load", "reference"], sort=False):
        scenario, workload, load_, reference = key
        header = [
            "scheduler",
            "own rules",
            "published, s",
            "own rules, s [95%]",
            f"rules of {COMMON_RULE}, s [95%]",
            f"reduction by {reference}, common rules, paired, % [95%]",
            "reduction unpaired, own rules, % [95%]",
            "reduction published, %",
        ]
        cells = [
            [
                row.scheduler,
                row.own_rule,
                number(row.published_s, 4),
                with_interval((row.own_mean_s, row.own_lo_s, row.own_hi_s), number),
                with_interval((row.common_mean_s, row.common_lo_s, row.common_hi_s), number),
                with_interval((row.reduction_pct, row.reduction_lo_pct, row.reduction_hi_pct), percentage),
                with_interval((row.unpaired_own_rules_pct, row.unpaired_lo_pct, row.unpaired_hi_pct), percentage),
                percentage(row.published_reduction_pct),
            ]
            for row in group.itertuples()
        ]
        yield Sheet(
            f"{scenario}, workload {workload}, load {load_text(load_)}: {reference} as published and fairly",
            header,
            cells,
        )


# Output


def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Records with None for NaN."""
    rows: list[dict[str, Any]] = table.to_dict("records")
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def _files(
    rows: pd.DataFrame, about: Mapping[str, str], published: pd.DataFrame, returns: tuple[pd.DataFrame, pd.DataFrame]
) -> Iterator[tuple[str, str]]:
    for format, ending in FORMATS.items():
        if format != "table":
            yield f"report.{ending}", render(rows, format, about, published, returns)
    if len(published):
        yield "published.csv", as_csv(published)
    for name, table in zip(("returns.csv", "return_gains.csv"), returns, strict=True):
        if len(table):
            yield name, as_csv(table)


def publish(
    rows: pd.DataFrame,
    name: str,
    sheets: Callable[[pd.DataFrame], Iterable[Sheet]],
    format: str,
    out: Path | str | None,
    *,
    width: int | None = None,
) -> None:
    """Print one table of its own: the rows as "csv" or "json" ({name: rows}), or the sheets that are made of them.

    With `out`, write it there as name.csv, name.json, ... too.
    """

    def drawn(form: str) -> str:
        if form == "csv":
            return as_csv(rows)
        if form == "json":
            return json.dumps({name: plain(rows)}, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        return "\n".join(draw(sheet, form, width) for sheet in sheets(rows))

    write_out(drawn(format))
    if out is not None:
        for form in FORMATS.keys() - {"table"}:
            records.write_bytes(Path(out) / f"{name}.{FORMATS[form]}", drawn(form).encode())


def as_csv(table: pd.DataFrame) -> str:
    """A table as csv with a header."""
    return str(table.to_csv(index=False, lineterminator="\n"))
