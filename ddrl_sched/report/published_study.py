"""The published comparison, each scheduler under its own rules, beside one under common rules."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ddrl_sched.report.comparison import Record, interval
from ddrl_sched.report.statistics import (
    NO_ESTIMATE,
    DelaySums,
    Estimate,
    delay_sums,
    mean_delay_s,
    reduction_pct,
    unpaired_reduction_pct,
)
from ddrl_sched.report.table import Cell, Column, Row, Table, of_estimate
from ddrl_sched.report.worlds import load_text

COMMON_RULE = "amcoedge"
PUBLISHED_COLUMNS = [
    "scenario", "workload", "load", "reference", "scheduler", "published_s", "own_rule", "own_mean_s", "own_lo_s",
    "own_hi_s", "common_rule", "common_mean_s", "common_lo_s", "common_hi_s", "reduction_pct", "reduction_lo_pct",
    "reduction_hi_pct", "unpaired_own_rules_pct", "unpaired_lo_pct", "unpaired_hi_pct", "published_reduction_pct",
]  # fmt: skip


def published_rows(df: pd.DataFrame, notes: list[str] | None = None) -> pd.DataFrame:
    """The published comparison beside a fair one: PUBLISHED_COLUMNS, empty unless schedulers stand under several rules.

    Per scheduler: the published number, the mean under its own rules and under COMMON_RULE, what each reference
    (AMCoEdge, DDRL-AMSA) gains on it under the common rule (paired), and unpaired with each under its own rules.
    """
    rows: list[Record] = []
    for key, group in df[df.rule != "clean"].groupby(["scenario", "workload", "load"]):
        if group.rule.nunique() < 2 or COMMON_RULE not in set(group.rule):
            continue
        if (group.groupby("rule").scenario_hash.nunique() > 1).any():
            if notes is not None:
                notes.append(f"no table of the published study: several scenarios are called {key[0]}")
            continue
        rows += _published_scenario(dict(zip(("scenario", "workload", "load"), key, strict=True)), group)
    return pd.DataFrame(rows, columns=PUBLISHED_COLUMNS)


def _published_scenario(scenario: Record, group: pd.DataFrame) -> list[Record]:
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


def _published_gain_pct(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Reduction of the delay in percent that was published of one method against another, else by their mean delays."""
    stated = one["published_gain_pct"].get(other["published_as"])
    by_delay = 100 * (1 - one["published_delay_s"] / other["published_delay_s"])
    return float(by_delay if stated is None else stated)


def _published_row(sums: dict[tuple[str, str], DelaySums], reference: str, name: str) -> Record:
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
        **dict(zip(("own_mean_s", "own_lo_s", "own_hi_s"), _bounds(own_mean), strict=True)),
        "common_rule": COMMON_RULE,
        **dict(zip(("common_mean_s", "common_lo_s", "common_hi_s"), _bounds(common_mean), strict=True)),
        **interval("reduction_pct", paired),
        **dict(zip(("unpaired_own_rules_pct", "unpaired_lo_pct", "unpaired_hi_pct"), _bounds(unpaired), strict=True)),
    }


def _own_rule(sums: Iterable[tuple[str, str]], name: str) -> str:
    """The rule beside the common one under which a scheduler was run; the common one if there is none."""
    rules = sorted({rule for scheduler, rule in sums if scheduler == name} - {COMMON_RULE})
    return "/".join(rules) if rules else COMMON_RULE


def _across_rules(one: DelaySums, other: DelaySums) -> Estimate:
    same = one.scenario_hash == other.scenario_hash
    return reduction_pct(one, other) if same else unpaired_reduction_pct(one, other)


def _bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.lo, estimate.hi


def published_tables(published: pd.DataFrame) -> Iterator[Table]:
    """A table per world, load and reference of published_rows."""
    by = ["scenario", "workload", "load", "reference"]
    for key, group in published.groupby(by, sort=False) if len(published) else ():
        scenario, workload, load_, reference = key
        text = f"{scenario}, workload {workload}, load {load_text(load_)}: {reference} as published and fairly"
        rows = tuple(_table_row(record) for record in group.to_dict("records"))
        yield Table("published", text, _columns(str(reference)), rows, about=dict(zip(by, key, strict=True)))


def _columns(reference: str) -> tuple[Column, ...]:
    fair, unpaired = f"reduction by {reference}, common rules, paired", "reduction unpaired, own rules"
    return (
        Column("scheduler", "scheduler", "text"),
        Column("own_rule", "own rules", "text"),
        Column("published_s", "published", unit="s", digits=4),
        Column("own_mean_s", "own rules", unit="s", interval=True),
        Column("common_mean_s", f"rules of {COMMON_RULE}", unit="s", interval=True),
        Column("reduction_pct", fair, "percent", "%", interval=True),
        Column("unpaired_own_rules_pct", unpaired, "percent", "%", interval=True),
        Column("published_reduction_pct", "reduction published", "percent", "%"),
    )


def _table_row(record: Mapping[str, Any]) -> Row:
    stems = ("own_{}_s", "common_{}_s", "reduction_{}_pct", "unpaired_{}_pct")
    values = ("own_mean_s", "common_mean_s", "reduction_pct", "unpaired_own_rules_pct")
    estimates = [
        of_estimate([record[value], record[stem.format("lo")], record[stem.format("hi")]])
        for value, stem in zip(values, stems, strict=True)
    ]
    first = (Cell(record["scheduler"]), Cell(record["own_rule"]), Cell(record["published_s"]))
    return Row((*first, *estimates, Cell(record["published_reduction_pct"])))
