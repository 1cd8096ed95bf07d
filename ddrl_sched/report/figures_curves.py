"""Charts of learning: the validation delay over the tasks that were seen, and over the time that went by."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ddrl_sched.report.chart import MAX_LINES, Axis, Chart, Line, LinePanel, of_most
from ddrl_sched.report.material import Material, short
from ddrl_sched.report.numbers import unit_of
from ddrl_sched.report.statistics import Floats, t_975
from ddrl_sched.run.metrics import ELAPSED_METRIC, VALIDATION_METRIC

MAX_WORLDS = 6
LEAST_LOOKS = 2


def learning_curves(material: Material) -> Iterator[Chart]:
    """One chart over simulated tasks and, where the clock was noted, one over wall time."""
    if material.curves.empty:
        return
    looks = _newest(material.curves)
    if looks.empty:
        return
    yield from _chart(
        material, looks, "tasks_seen", "learning-by-tasks", "Learning over simulated tasks", "tasks seen per seed"
    )
    timed = looks[looks.elapsed_s.notna()]
    timed = timed.assign(minutes=timed.elapsed_s / 60)
    yield from _chart(material, timed, "minutes", "learning-by-time", "Learning over wall time", "wall time, minutes")


def _newest(curves: pd.DataFrame) -> pd.DataFrame:
    """Looks of the newest training of each scheduler and world: value (s), tasks_seen, elapsed_s by seed."""
    curves = curves[curves.value.notna()].sort_values(["created", "folder"], kind="stable")
    newest = curves.groupby(["trained_on", "scheduler"]).folder.transform("last")
    curves = curves[curves.folder == newest]
    key = ["trained_on", "scheduler", "seed", "number"]
    looks = curves[curves.metric == VALIDATION_METRIC]
    counts = looks.groupby(key[:3]).number.transform("count")
    looks = looks[counts >= LEAST_LOOKS]
    clock = curves[curves.metric == ELAPSED_METRIC][[*key, "value"]].rename(columns={"value": "elapsed_s"})
    return looks.merge(clock, on=key, how="left")


def _chart(material: Material, looks: pd.DataFrame, x: str, name: str, title: str, label: str) -> Iterator[Chart]:
    if looks.empty:
        return
    every = list(dict.fromkeys(looks.scheduler))
    names = sorted(every, key=lambda one: (material.style(one), one))[:MAX_LINES]
    styles = _styles(material, names)
    worlds = list(looks[looks.scheduler.isin(names)].groupby("trained_on", sort=True))
    scale, unit = unit_of(float(looks.value.median()))
    panels = []
    for world, group in worlds[:MAX_WORLDS]:
        lines = [line for one in names for line in _lines(group[group.scheduler == one], one, styles[one], x, scale)]
        panels.append(LinePanel(f"trained on {short(str(world), 60)}", tuple(lines)))
    caption = (
        "Mean delay without exploration on traces kept apart (validation), thin lines: seeds, thick: their geometric "
        "mean, band: its 95 % interval over seeds, which may leave the picture; every panel has axes of its own."
    )
    caption += of_most(len(names), len(every), "learners are drawn") + of_most(
        len(panels), len(worlds), "worlds are drawn"
    )
    yield Chart(
        name,
        title,
        caption,
        Axis(label),
        Axis(f"validation delay, {unit}, log scale", log=True),
        tuple(panels),
        shared=False,
    )


def _styles(material: Material, names: list[str]) -> dict[str, int]:
    """Those of the other charts; schedulers that have none there get what is left."""
    own = {name: material.style(name) for name in names if name in material.lines}
    left = (style for style in range(2 * MAX_LINES) if style not in own.values())
    return own | {name: next(left) for name in names if name not in own}


def _lines(rows: pd.DataFrame, name: str, style: int, x: str, scale: float) -> Iterator[Line]:
    """The mean over seeds with its band, where there are several, and each seed."""
    values, at = (rows.pivot(index="number", columns="seed", values=column) for column in ("value", x))
    if values.empty:
        return
    if values.shape[1] == 1:
        yield Line(name, style, at.iloc[:, 0].to_numpy(float), scale * values.iloc[:, 0].to_numpy(float))
        return
    whole = values.notna().all(axis=1) & at.notna().all(axis=1)
    mean, lo, hi = _geometric(values[whole].to_numpy(float))
    yield Line(name, style, at[whole].mean(axis=1).to_numpy(float), scale * mean, scale * lo, scale * hi)
    for seed in values.columns:
        known = values[seed].notna() & at[seed].notna()
        yield Line(
            f"{name}, seed {seed}", style, at.loc[known, seed].to_numpy(float),
            scale * values.loc[known, seed].to_numpy(float), faint=True,
        )  # fmt: skip


def _geometric(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Geometric mean over seeds [looks, seeds] and its 95 % interval by Student's t."""
    n = values.shape[1]
    log = np.log(values)
    mean, half = log.mean(axis=1), t_975(n - 1) * log.std(axis=1, ddof=1) / np.sqrt(n)
    return np.exp(mean), np.exp(mean - half), np.exp(mean + half)
