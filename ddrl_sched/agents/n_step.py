"""Returns over several steps (Sutton 1988; for deep Q-learning Hessel et al. 2018): from steps to transitions.

Axes: K learners, n slots of the window of open transitions (the longest horizon), O observed numbers, A logits.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.base import Array, Batch
from ddrl_sched.agents.replay_buffer import Replay

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EnvStep:
    """One step of K learners. An episode that was cut (ended, not terminated) goes on for the value of next_obs."""

    obs: Array  # float32 [K, O] before the action
    action: Array  # int64 [K]
    reward: Array  # float [K]
    next_obs: Array  # float32 [K, O] after it, before any reset
    terminated: NDArray[np.bool_]  # [K] nothing follows
    ended: NDArray[np.bool_]  # [K] the next step belongs to another episode
    latent: Array | None = None  # float32 [K, A] latent action at obs, and at next_obs
    next_latent: Array | None = None


class NStep:
    """Transitions over n_steps[k] steps of learner k: discounted sum of rewards, discount gamma^steps.

    A transition leaves for the memory when its steps are full; the end of an episode lets all open ones go with the
    steps they have. `n_logits` > 0: steps hold latent actions of that width.
    """

    def __init__(self, n_steps: NDArray[np.int64], gamma: Floats, n_obs: int, n_logits: int = 0) -> None:
        self._n_steps, self._gamma = n_steps, gamma[:, None]
        shape = (len(n_steps), int(n_steps.max()))
        self._first: dict[str, Array] = {  # what a transition keeps of its first step
            "obs": np.zeros((*shape, n_obs), np.float32),
            "action": np.zeros(shape, np.int64),
        }
        if n_logits:
            self._first["latent"] = np.zeros((*shape, n_logits), np.float32)
        self._total = np.zeros(shape)  # discounted rewards so far
        self._weight = np.ones(shape)  # of the next reward, and of the value after it
        self._open = np.zeros(len(n_steps), np.int64)  # [K] transitions in the window, oldest first

    def push(self, step: EnvStep, memory: Replay) -> None:
        """Take in one step of every learner; what is complete goes to `memory`."""
        learner = np.arange(len(self._open))
        for name, kept in self._first.items():
            kept[learner, self._open] = getattr(step, name)
        self._total[learner, self._open] = 0.0
        self._weight[learner, self._open] = 1.0
        self._open += 1
        self._total += self._weight * step.reward[:, None]  # beyond the open ones it does no harm
        self._weight *= self._gamma
        complete = np.where(step.ended, self._open, self._open >= self._n_steps)
        if not complete.any():
            return
        memory.add(self._transitions(step), complete)
        self._open -= complete
        moved = np.flatnonzero((self._open > 0) & (complete > 0))  # one has left, and the others move up
        for window in (*self._first.values(), self._total, self._weight):
            window[moved, :-1] = window[moved, 1:]

    def state_dict(self) -> dict[str, Tensor]:
        """The window; shares memory with it."""
        return {name: torch.from_numpy(window) for name, window in self._windows().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` gave."""
        for name, window in self._windows().items():
            window[...] = state[name].numpy()

    def _windows(self) -> dict[str, Array]:
        return {**self._first, "total": self._total, "weight": self._weight, "open": self._open}

    def _transitions(self, step: EnvStep) -> Batch[Array]:
        """The whole window, should it end with this step."""
        n = self._total.shape[1]
        discount = np.where(step.terminated[:, None], 0.0, self._weight)
        after = {"next_obs": step.next_obs}
        if step.next_latent is not None:
            after["next_latent"] = step.next_latent
        wide = {name: np.broadcast_to(value[:, None], (len(value), n, value.shape[1])) for name, value in after.items()}
        return Batch(reward=self._total.astype(np.float32), discount=discount.astype(np.float32), **self._first, **wide)
