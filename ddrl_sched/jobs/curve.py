"""The record of a training: the rows of curves.parquet and the lines of run.log."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ddrl_sched.run.metrics import ELAPSED_METRIC
from ddrl_sched.run.train import Progress

Array = NDArray[Any]


class Curve:
    """Grows by a Progress at a time; its state can be saved and continued."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Array]] = {"seed": [], "tasks_seen": [], "update": [], "value": []}
        self._metrics: list[str] = []  # one for each piece of a column, which has a row per seed
        self.log: list[str] = []

    def add(self, progress: Progress) -> None:
        """Take in an episode: a row per seed and metric, and a line."""
        n_seeds = len(progress.tasks_seen)
        for metric, per_seed in self._values(progress).items():
            row = {
                "seed": np.arange(n_seeds),
                "tasks_seen": progress.tasks_seen,
                "update": np.full(n_seeds, progress.updates),
                "value": np.asarray(per_seed, np.float64),
            }
            for name, value in row.items():
                self._columns[name].append(value)
            self._metrics.append(metric)
        self.log.append(f"episode {progress.episode} {progress.elapsed_s:.1f} s {progress.summary}")

    @property
    def tasks_seen(self) -> NDArray[np.int64]:
        """[seeds] since the start."""
        seen: NDArray[np.int64] = self._columns["tasks_seen"][-1]
        return seen

    def frame(self) -> pd.DataFrame:
        """The rows so far, in the columns of CURVES_SCHEMA."""
        n_seeds = len(self._columns["seed"][0]) if self._metrics else 0
        columns: dict[str, Any] = {name: np.ravel(pieces) for name, pieces in self._columns.items()}
        return pd.DataFrame({**columns, "metric": np.repeat(np.array(self._metrics, object), n_seeds)})

    def state_dict(self) -> dict[str, Any]:
        """All rows and lines."""
        columns = {name: torch.from_numpy(np.array(pieces)) for name, pieces in self._columns.items()}
        return {"columns": columns, "metrics": list(self._metrics), "log": list(self.log)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._columns = {name: list(pieces.numpy()) for name, pieces in state["columns"].items()}
        self._metrics, self.log = list(state["metrics"]), list(state["log"])

    def _values(self, progress: Progress) -> dict[str, Array]:
        elapsed_s = np.full(len(progress.tasks_seen), progress.elapsed_s)
        measured = {"delay_s": progress.delay_s, "late_rate": progress.late_rate, **progress.metrics}
        return measured | {ELAPSED_METRIC: elapsed_s}
