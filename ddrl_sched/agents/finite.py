"""Checks that losses, gradients and weights of stacked learners are finite, made after every update.

The sum is checked first, for it is not finite where one of its terms is not; only then is the term searched for.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ddrl_sched.agents.base import Agent, Array
from ddrl_sched.failures import TrainingError

OF_SEARCH = "smaller steps may help (scheduler.evolution.lr, scheduler.evolution.sigma)"
HINT = "smaller learning rates or a smaller norm of the gradient may help (scheduler.agent)"


class AnswerError(TrainingError):
    """The output of a network is not finite though its weights are: they are too large."""

    def __init__(self, learner: int, value: float, per_seed: int = 1, update: int = 0, kind: str = "learner") -> None:
        after = f" after update {update}" if update else ""
        super().__init__(
            f"the training diverged: the network of {_of(learner, per_seed, kind)} answers {value}{after}; {HINT}"
        )
        self._learner, self._value = learner, value

    def at(self, per_seed: int, update: int, kind: str = "learner") -> "AnswerError":
        """The same error, naming the seed, which of its `per_seed` learners (of this `kind`), and the last update."""
        return AnswerError(self._learner, self._value, per_seed, update, kind)


def _of(learner: int, per_seed: int, kind: str = "learner") -> str:
    return f"seed {learner // per_seed}" + (f", {kind} {learner % per_seed}" if per_seed > 1 else "")


def check_update(
    agent: Agent, metrics: Mapping[str, Array], update: int, per_seed: int = 1, kind: str = "learner"
) -> None:
    """TrainingError that names seed, update and metric unless the metrics [K] and all weights of the agent are finite.

    Learners are seed-major: `per_seed` of them, each of this `kind`, belong to a seed. `update` is the number of the
    update just made.
    """
    for name, learner, value in _faults(agent, metrics):
        of = _of(learner, per_seed, kind)
        raise TrainingError(f"the training diverged: {name} of {of} is {value} after update {update}; {HINT}")


def check_weights(weights: Mapping[str, Tensor], per_seed: int = 1) -> None:
    """TrainingError that names seed and layer unless all weights [K, ...] are finite."""
    for name, tensor in weights.items():
        for learner, value in _not_finite(tensor):
            raise TrainingError(f"the training diverged: {name} of seed {learner // per_seed} holds {value}; {HINT}")


def check_seen(what: str, numbers: Array, learner: Array, per_seed: int, keys: str) -> None:
    """TrainingError that names seed and `keys` unless the inputs [n, ...] (`what`) of learners [n] are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(numbers.sum()):
            return
    for place in np.argwhere(~np.isfinite(numbers)):
        seed = int(learner[place[0]]) // per_seed
        raise TrainingError(
            f"{what} of seed {seed} is {numbers[tuple(place)]}, no finite number of 32 bits: see {keys}"
        )


def check_answers(answers: Tensor) -> None:
    """AnswerError unless the outputs [K, ...] of the networks are finite."""
    for learner, value in _not_finite(answers):
        raise AnswerError(learner, value)


def check_generation(values: Mapping[str, Array], weights: Tensor, generation: int) -> None:
    """TrainingError that names seed, generation and metric unless values [..., K, H] or [K] and weights are finite."""
    for name, each in values.items():
        for place in np.argwhere(~np.isfinite(each)):
            seed = place[-2] if each.ndim > 1 else place[-1]
            what = f"{name} of seed {seed} is {each[tuple(place)]}"
            raise TrainingError(f"the training diverged: {what} in generation {generation}; {OF_SEARCH}")
    for seed, value in _not_finite(weights):
        what = f"a weight of seed {seed} is {value}"
        raise TrainingError(f"the training diverged: {what} after generation {generation}; {OF_SEARCH}")


def _faults(agent: Agent, metrics: Mapping[str, Array]) -> Iterator[tuple[str, int, float]]:
    """(name, learner, value) of metrics and weights that are not finite."""
    for name, values in metrics.items():
        if not np.isfinite(values).all():
            yield from ((name, int(k), float(values[k])) for k in np.flatnonzero(~np.isfinite(values)))
    for name, tensor in agent.trained().items():
        for row, value in _not_finite(tensor):
            yield f"a weight ({name})", row % agent.n_learners, value


def _not_finite(tensor: Tensor) -> Iterator[tuple[int, float]]:
    """(row, value) of numbers in a tensor [rows, ...] that are not finite."""
    with torch.no_grad():
        if torch.isfinite(tensor.sum()):
            return
        for place in torch.nonzero(~torch.isfinite(tensor)).tolist():
            yield place[0], float(tensor[tuple(place)])
