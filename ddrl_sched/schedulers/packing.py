"""Rows of many learners as one stack: what belongs to learner k stands at [k, 0..count[k]-1], padding behind it."""

from dataclasses import dataclass

import numpy as np

from ddrl_sched.agents.base import Array
from ddrl_sched.edge.types import Ints


@dataclass(frozen=True)
class Packing:
    """Where n rows stand in a stack of K learners."""

    learner: Ints  # [n] rising
    place: Ints  # [n] among the rows of the learner
    count: Ints  # [K] rows of each learner

    @property
    def shape(self) -> tuple[int, int]:
        """(K, rows of the learner that has the most)."""
        return len(self.count), int(self.count.max(initial=0))

    def stacked(self, rows: Array) -> Array:
        """The rows [n, ...] as a stack [K, most rows, ...], zero where nothing stands."""
        stack: Array = np.zeros((*self.shape, *rows.shape[1:]), rows.dtype)
        stack[self.learner, self.place] = rows
        return stack

    def rows(self, stack: Array) -> Array:
        """The rows [n, ...] of a stack."""
        found: Array = stack[self.learner, self.place]
        return found


def packing_of(learner: Ints, n_learners: int) -> Packing:
    """The packing of rows that belong to these learners [n], which must rise."""
    count = np.bincount(learner, minlength=n_learners)
    place = np.arange(len(learner)) - np.repeat(np.cumsum(count) - count, count)
    return Packing(learner, place, count)
