"""The memory of past transitions: one ring per learner, filled and sampled for all learners at once."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ddrl_sched.agents.base import Array, Batch, Spaces
from ddrl_sched.agents.stack import Generators

_NUMPY_TYPES: Mapping[torch.dtype, type[np.generic]] = {torch.int64: np.int64, torch.int8: np.int8}


class Replay:
    """The last `capacity` transitions of K learners. Memory is taken once, at the start."""

    def __init__(self, n_learners: int, capacity: int, spaces: Spaces, *, keeps_latent: bool) -> None:
        self.capacity = capacity
        distribution = spaces.distribution
        shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "obs": ((spaces.n_obs,), np.float32),
            "action": (distribution.action_shape, _NUMPY_TYPES[distribution.action_dtype]),
            "reward": ((), np.float32),
            "discount": ((), np.float32),
            "next_obs": ((spaces.n_obs,), np.float32),
        }
        if keeps_latent:
            shapes |= dict.fromkeys(("latent", "next_latent"), ((distribution.n_logits,), np.float32))
        self._stored = {name: np.zeros((n_learners, capacity, *s), dtype) for name, (s, dtype) in shapes.items()}
        self._added = np.zeros(n_learners, np.int64)  # ever, per learner; the next goes to added % capacity

    @property
    def size(self) -> NDArray[np.int64]:
        """[K] transitions held."""
        return np.minimum(self._added, self.capacity)

    def ready(self, min_size: int) -> bool:
        """Every learner holds at least this many transitions."""
        return bool(self.size.min() >= min_size)

    def add(self, transitions: Batch[Array], count: NDArray[np.int64]) -> None:
        """Append the first count[k] of the transitions [K, n, ...] of learner k, oldest first."""
        order = np.arange(transitions.reward.shape[1])
        last = (order < count[:, None]) & (order >= count[:, None] - self.capacity)
        learner, item = np.nonzero(last)
        place = (self._added[learner] + item) % self.capacity
        given = transitions.arrays()
        for name, ring in self._stored.items():
            ring[learner, place] = given[name][learner, item]
        self._added = self._added + count

    def sample(self, n_samples: int, generators: Generators) -> Batch[Array]:
        """[K, n_samples, ...] drawn evenly with replacement, learner k by generators[k]."""
        if not self.ready(1):
            raise ValueError("replay: a learner has no transitions yet")
        drawn = np.empty((len(generators), n_samples))
        for generator, row in zip(generators, drawn, strict=True):
            generator.random(out=row)  # a tenth of the time that generator.integers takes
        offset = np.arange(len(drawn)) * self.capacity
        chosen = (drawn * self.size[:, None]).astype(np.int64) + offset[:, None]
        flat = {name: ring.reshape(-1, *ring.shape[2:]) for name, ring in self._stored.items()}
        return Batch(**{name: ring.take(chosen, axis=0) for name, ring in flat.items()})

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Copies of the rings and of the counts."""
        rings = {name: torch.from_numpy(ring.copy()) for name, ring in self._stored.items()}
        return {**rings, "added": torch.from_numpy(self._added.copy())}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state_dict` gave; ValueError on other names or shapes."""
        mine = self.state_dict()
        for name in mine.keys() | state.keys():
            if name not in mine or name not in state or mine[name].shape != state[name].shape:
                raise ValueError(f"replay: {name} is missing or of another shape; was the memory's size changed?")
        self._added = state["added"].numpy().copy()
        for name, ring in self._stored.items():
            ring[...] = state[name].numpy()
