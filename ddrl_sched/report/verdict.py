"""Which scheduler to take at which load, and how sure that is: a few words per world, computed from the results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from ddrl_sched.report.material import NOT_REAL, Material
from ddrl_sched.report.robust import holm
from ddrl_sched.report.stability import STABLE
from ddrl_sched.report.statistics import Estimate, delay_sums, log_ratio
from ddrl_sched.report.worlds import ScenarioKey

LEVEL = 0.05


@dataclass(frozen=True)
class Rival:
    """Another scheduler: by how much the best one has less delay (paired, 95 %), and whether that is certain."""

    name: str
    less_pct: Estimate
    p: float  # adjusted for all rivals of the world (Holm); NaN where it cannot be told

    @property
    def worse(self) -> bool:
        """Whether it has more delay for certain."""
        return self.p < LEVEL


@dataclass(frozen=True)
class Verdict:
    """One world at one load. `best`: the least mean delay among those that keep up and can be built; "" if none."""

    world: ScenarioKey
    best: str
    info: str
    delay_s: Estimate
    rivals: tuple[Rival, ...]  # those that keep up and can be built, by their delay
    baselines: tuple[Rival, ...]  # rivals to compare with, whatever they know
    unreal: tuple[tuple[str, float], ...]  # (name, mean delay in s) of those that know what no real system does
    behind: tuple[str, ...]  # overloaded, or with queues that still grow at the end
    n_traces: int
    n_seeds: int
    one_training: tuple[str, ...] = ()  # learners among them that were trained once, whose luck no interval holds

    @property
    def alike(self) -> list[str]:
        """Rivals that may be as good: nothing here tells them apart."""
        return [rival.name for rival in self.rivals if not rival.worse]

    @property
    def decisive(self) -> bool:
        """Whether the first place is certain."""
        return bool(self.rivals) and not self.alike


def verdicts(material: Material) -> Iterator[Verdict]:
    """One for each world and load, in the order of the tables."""
    for world, means in material.worlds.items():
        yield _verdict(material, world, means.sort_values(["mean_delay_s", "scheduler"]))


def _verdict(material: Material, world: ScenarioKey, means: pd.DataFrame) -> Verdict:
    behind = means.state != STABLE
    unreal = means["info"].isin(NOT_REAL)
    usable = means[~behind & ~unreal]
    unreal_rows = means[~behind & unreal]
    found = usable if len(usable) else unreal_rows
    names = [str(name) for name in found.scheduler]
    others = [name for name in material.baselines if name not in names and name in set(means.scheduler)]
    first = found.iloc[0] if len(found) else means.iloc[0]
    rivals = _rivals(material.rows, world, [*names, *others]) if names else []
    return Verdict(
        world=world,
        best=names[0] if names else "",
        info=str(first["info"]),
        delay_s=Estimate(*(float(first[c]) for c in ("mean_delay_s", "mean_delay_lo_s", "mean_delay_hi_s"))),
        rivals=tuple(rival for rival in rivals if rival.name in names),
        baselines=tuple(rival for rival in rivals if rival.name in material.baselines),
        unreal=tuple(zip(unreal_rows.scheduler, unreal_rows.mean_delay_s, strict=True)) if len(usable) else (),
        behind=tuple(str(name) for name in means.scheduler[behind]),
        n_traces=int(first.n_traces),
        n_seeds=int(first.n_seeds),
        one_training=_trained_once(material.rows, world, names),
    )


def _trained_once(rows: pd.DataFrame, world: ScenarioKey, names: Sequence[str]) -> tuple[str, ...]:
    if "learned" not in rows:
        return ()
    of_world = rows[(rows.scenario_hash == world.scenario_hash) & rows.learned.astype(bool)]
    seeds = of_world.groupby("scheduler").seed.nunique()
    return tuple(name for name in names if seeds.get(name, 0) == 1)


def _rivals(rows: pd.DataFrame, world: ScenarioKey, names: Sequence[str]) -> list[Rival]:
    """All names but the first, compared with that."""
    needed = ["scheduler", "stream", "scenario_hash", "seed", "cluster", "trace", "n_tasks", "mean_delay_s"]
    some_rows = rows[[name for name in needed if name in rows]]
    of_world = some_rows[(rows.scenario_hash == world.scenario_hash) & (rows.load == world.load)]
    sums = {str(name): delay_sums(some) for name, some in of_world.groupby("scheduler") if name in names}
    best, others = sums[names[0]], [sums[name] for name in names[1:]]
    spreads = [log_ratio(best, other) for other in others]
    parts = zip(others, spreads, holm([spread.p_value() for spread in spreads]), strict=True)
    return [Rival(other.scheduler, spread.reduction_pct(), p) for other, spread, p in parts]
