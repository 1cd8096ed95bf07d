"""What charts are made of: the tables of a report, and which schedulers and worlds a picture has room for."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from ddrl_sched.report.chart import MAX_LINES, MAX_PANELS, MAX_ROWS, of_most
from ddrl_sched.report.load import Loaded
from ddrl_sched.report.worlds import SCENARIO, ScenarioKey, load_text

NOT_REAL = ("running", "clairvoyant")  # classes of information that no real system has
LONGEST_NAME = 40  # characters of a name in a picture


@dataclass(frozen=True, eq=False)
class Material:
    """`table`: rows of comparison.report_rows; the others as in Loaded."""

    table: pd.DataFrame
    rows: pd.DataFrame
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    delays: pd.DataFrame = field(default_factory=pd.DataFrame)
    timelines: pd.DataFrame = field(default_factory=pd.DataFrame)

    @cached_property
    def means(self) -> pd.DataFrame:
        """One row for each world, load and scheduler."""
        return self.table.drop_duplicates(["scenario_hash", "load", "scheduler"])

    @cached_property
    def worlds(self) -> dict[ScenarioKey, pd.DataFrame]:
        """The means of each world at one load, in the order of the tables."""
        return {ScenarioKey(*key): group for key, group in self.means.groupby(SCENARIO, sort=False)}

    @cached_property
    def titles(self) -> dict[ScenarioKey, str]:
        """A short title for each: what all have in common is left out."""
        return short_titles(list(self.worlds))

    @cached_property
    def order(self) -> list[str]:
        """All schedulers, the best first: those of most worlds, then by their delay relative to the best there."""
        if self.table.empty:
            return []
        best = self.means.groupby("scenario_hash").mean_delay_s.transform("min")
        relative = np.log(self.means.mean_delay_s / best)
        ranked = self.means.assign(relative=relative).groupby("scheduler").relative.agg(["count", "mean"])
        found = ranked.reset_index().sort_values(["count", "mean", "scheduler"], ascending=[False, True, True])
        return [str(name) for name in found.scheduler]

    @cached_property
    def baselines(self) -> list[str]:
        """Those of the table that were run."""
        known = dict.fromkeys(self.table.baseline) if len(self.table) else {}
        return [str(name) for name in known if name and name in self.order]

    @cached_property
    def lines(self) -> list[str]:
        """The schedulers that are drawn as lines: the best, and the first baselines in any case."""
        return self.leading(MAX_LINES)

    @cached_property
    def bars(self) -> list[str]:
        """The schedulers that are drawn below one another."""
        return self.leading(MAX_ROWS)

    def leading(self, most: int) -> list[str]:
        """The best `most` schedulers, two places of which the first baselines may take; in order."""
        if len(self.order) <= most:
            return self.order
        kept = self.baselines[: min(2, most - 1)]
        kept += [name for name in self.order if name not in kept][: most - len(kept)]
        return [name for name in self.order if name in kept]

    def style(self, name: str) -> int:
        """The style of a scheduler; those that are not among the lines follow."""
        if name in self.lines:
            return self.lines.index(name)
        return len(self.lines) + (self.order.index(name) if name in self.order else len(self.order))

    def some_worlds(self, hashes: Collection[str] | None = None) -> list[ScenarioKey]:
        """At most MAX_PANELS of the worlds (of these hashes), those with the most schedulers, in order."""
        every = [key for key in self.worlds if hashes is None or key.scenario_hash in hashes]
        most = sorted(every, key=lambda key: -len(self.worlds[key]))[:MAX_PANELS]
        return [key for key in every if key in most]

    def left_out(self, shown: int, worlds: Sequence[ScenarioKey] = ()) -> str:
        """A sentence on what the caption of a picture has to say is not in it."""
        text = of_most(shown, len(self.order), "schedulers are drawn, the best and the first baselines")
        if worlds:
            text += of_most(len(worlds), len(self.worlds), "worlds are drawn, those with the most schedulers")
        return text

    def value(self, key: ScenarioKey, name: str, column: str) -> float:
        """A number of the table, NaN where the scheduler was not run there."""
        group = self.worlds[key]
        found = group.loc[group.scheduler == name, column]
        return float(found.iloc[0]) if len(found) else math.nan


def material_of(found: Loaded, table: pd.DataFrame) -> Material:
    """The material of a report on edge servers; `table`: rows of comparison.report_rows."""
    return Material(table, found.rows, found.curves, found.delays, found.timelines)


def short_titles(worlds: Sequence[ScenarioKey]) -> dict[ScenarioKey, str]:
    """ "load 0.6", "edge5 load 0.6", ...: the names that not all worlds share, and the load."""
    fields = [name for name in ("scenario", "workload", "rule") if len({getattr(key, name) for key in worlds}) > 1]
    return {
        key: " ".join([*(short(getattr(key, name)) for name in fields), f"load {load_text(key.load)}"])
        for key in worlds
    }


def short(name: str, most: int = LONGEST_NAME) -> str:
    """A name in at most `most` characters, its middle left out."""
    if len(name) <= most:
        return name
    half = (most - 3) // 2
    return f"{name[:half]}...{name[-half:]}"
