"""Returns over several steps (Sutton 1988; for deep Q-learning Hessel et al. 2018): from steps to transitions.

Axes: K learners, n slots of the window of open transitions (the longest horizon), O observed numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.agents.base import Array, Batch
from ddrl_sched.agents.replay import Replay


@dataclass(frozen=True)
class Stepped:
    """One step of K learners. An episode that was cut (ended, not terminated) goes on for the value of next_obs."""

    obs: Array  # float32 [K, O] before the action
    action: Array  # int64 [K]
    reward: Array  # float [K]
    next_obs: Array  # float32 [K, O] after it, before any reset
    terminated: NDArray[np.bool_]  # [K] nothing follows
    ended: NDArray[np.bool_]  # [K] the next step belongs to another episode


class NStep:
    """Transitions over n_steps[k] steps of learner k: discounted sum of rewards, discount gamma^steps.

    A transition leaves for the memory when its steps are full; the end of an episode lets all open ones go with the
    steps they have.
    """

    def __init__(self, n_steps: NDArray[np.int64], gamma: NDArray[np.float64], n_obs: int) -> None:
        self._n_steps, self._gamma = n_steps, gamma[:, None]
        shape = (len(n_steps), int(n_steps.max()))
        self._obs = np.zeros((*shape, n_obs), np.float32)
        self._action = np.zeros(shape, np.int64)
        self._total = np.zeros(shape)  # discounted rewards so far
        self._weight = np.ones(shape)  # of the next reward, and of the value after it
        self._open = np.zeros(len(n_steps), np.int64)  # [K] transitions in the window, oldest first

    def push(self, step: Stepped, memory: Replay) -> None:
        """Take in one step of every learner; what is complete goes to `memory`."""
        learner = np.arange(len(self._open))
        self._obs[learner, self._open] = step.obs
        self._action[learner, self._open] = step.action
        self._total[learner, self._open] = 0.0
        self._weight[learner, self._open] = 1.0
        self._open += 1
        self._total += self._weight * step.reward[:, None]  # beyond the open ones it does no harm
        self._weight *= self._gamma
        complete = np.where(step.ended, self._open, self._open >= self._n_steps)
        if not complete.any():
            return
        discount = np.where(step.terminated[:, None], 0.0, self._weight)
        next_obs = np.broadcast_to(step.next_obs[:, None], self._obs.shape)
        reward, discount = self._total.astype(np.float32), discount.astype(np.float32)
        memory.add(Batch(self._obs, self._action, reward, discount, next_obs), complete)
        self._open -= complete
        slides = np.flatnonzero(self._open)  # one left, and the others move up
        for window in (self._obs, self._action, self._total, self._weight):
            moved = slides[complete[slides] > 0]
            window[moved, :-1] = window[moved, 1:]
