"""Evolution strategies: K learners climb by comparing mirrored random changes of their weights, without a gradient.

Axes: K learners, P weights of one learner, H pairs of mirrored candidates, C cases.
Both candidates of a pair are to be judged on the same cases (common random numbers), so their difference is the work
of the change alone. Salimans et al. 2017, with mirrored sampling and Adam; each learner draws from its own generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

import numpy as np
import torch
from annotated_types import Gt, Le
from torch import Tensor

from ddrl_sched.agents.base import Array
from ddrl_sched.agents.stack import (
    Adam,
    Generators,
    GeneratorState,
    ParamSpec,
    Stack,
    check_shapes,
    generator_states,
    load_generator_states,
    normals,
)

CLIP_RMS = 2.0  # root mean squares


@dataclass(frozen=True)
class EvolutionSettings:
    """Numbers of the search."""

    pairs: Annotated[int, Gt(0), Le(10_000)]  # H, mirrored pairs of candidates per generation
    sigma: Annotated[float, Gt(0.0), Le(1e3)]  # standard deviation of the changes
    lr: Annotated[float, Gt(0.0), Le(1e3)]  # of Adam in the first generation
    lr_final: Annotated[float, Gt(0.0), Le(1.0)]  # fraction of it in the last one, linear between
    unit: Literal["case", "all"] = "case"  # differences of cost count in units of those of their case, or of all cases


class SearchState(TypedDict):
    """Everything of a search that evolves."""

    tensors: dict[str, Tensor]
    generators: list[GeneratorState]  # [K]
    generation: int


class EvolutionStrategy:
    """K learners [K, P], each searched by itself (ask-and-tell): `ask` for candidates, then `tell` their costs."""

    def __init__(
        self, specs: Sequence[ParamSpec], flat: Tensor, settings: EvolutionSettings, generators: Generators
    ) -> None:
        self.settings = settings
        self.specs = list(specs)
        self.stack = Stack(specs, flat, trained=False)
        self.stack.flat.grad = self.stack.grad
        self._generators = generators
        self._adam = Adam([(self.stack.flat, settings.lr)])
        self._change = torch.zeros(len(flat), settings.pairs, flat.shape[1])
        self.generation = 0

    def ask(self) -> Stack:
        """Candidates [K x 2H, P], learner-major, in each learner first the H changes added, then subtracted."""
        pairs, n_weights = self.settings.pairs, self.stack.flat.shape[1]
        self._change = torch.from_numpy(normals(self._generators, (pairs, n_weights)))
        step = self.settings.sigma * self._change
        mean = self.stack.flat.detach().unsqueeze(1)
        candidates = torch.cat([mean + step, mean - step], dim=1)
        return Stack(self.specs, candidates.reshape(-1, n_weights).contiguous(), trained=False)

    def tell(self, cost: Array, progress: float) -> dict[str, Array]:
        """One step by the costs [C, K, 2H] of the candidates of the last `ask` in C cases; `progress` in [0, 1].

        Costs enter as differences of a pair divided by their root mean square and clipped to +-CLIP_RMS, so the unit of
        cost does not matter. With unit "case" the root mean square is that of the case: one with large differences does
        not drown the others. With "all" it is that over all cases: a case with larger differences weighs more (because
        of the clipping less than in a mean of the costs).
        Returns metrics [K]: grad_norm, spread (the root mean square, mean over the cases).
        """
        pairs, s = self.settings.pairs, self.settings
        difference = np.asarray(cost[..., :pairs] - cost[..., pairs:], np.float64)
        spread = np.sqrt(np.mean(difference**2, axis=2 if s.unit == "case" else (0, 2), keepdims=True))
        score = np.clip(difference / np.maximum(spread, 1e-12), -CLIP_RMS, CLIP_RMS)
        weight = score.mean(0) / (2 * pairs)
        with torch.no_grad():
            per_pair = torch.from_numpy(weight.astype(np.float32)).unsqueeze(1)
            self.stack.grad.copy_(torch.bmm(per_pair, self._change).squeeze(1))
        norm = torch.linalg.vector_norm(self.stack.grad, dim=1).numpy().copy()
        self._adam.step(1.0 + (s.lr_final - 1.0) * progress)
        self.generation += 1
        return {"grad_norm": norm, "spread": spread.mean((0, 2))}

    def weights(self) -> dict[str, Tensor]:
        """Copies of the learners' layers."""
        return self.stack.weights()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over layers of the same names and shapes; ValueError otherwise."""
        self.stack.load_weights(weights)

    def state_dict(self) -> SearchState:
        """Everything that evolves between a `tell` and the next `ask`."""
        tensors = {name: value.clone() for name, value in self._tensors().items()}
        return {"tensors": tensors, "generators": generator_states(self._generators), "generation": self.generation}

    def load_state_dict(self, state: SearchState) -> None:
        """Continue from what `state_dict` gave; ValueError on other names or shapes."""
        mine = self._tensors()
        check_shapes("state", state["tensors"], {name: tuple(value.shape) for name, value in mine.items()})
        load_generator_states(self._generators, state["generators"])
        self.generation = state["generation"]
        for name, value in mine.items():
            value.copy_(state["tensors"][name])

    def _tensors(self) -> dict[str, Tensor]:
        return {"mean": self.stack.flat} | self._adam.tensors()
