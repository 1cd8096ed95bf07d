"""The records between agents and their callers, and the one protocol that all agents follow.

Axes: K learners, n observations, M minibatch, O observed numbers, A logits. Padding stands at the end of n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, NotRequired, Protocol, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.distributions import ActionDistribution
from ddrl_sched.agents.stack import GeneratorState

Array = NDArray[Any]
X = TypeVar("X", Array, Tensor)


@dataclass(frozen=True)
class Spaces:
    """What a learner observes and decides."""

    n_obs: int  # O
    distribution: ActionDistribution
    n_latent: int = 0  # entries of the table of latent actions, 0 = none
    prior: tuple[float, ...] | None = None  # [A] logits of the policy that learning starts from; None: a random one


@dataclass(frozen=True)
class PolicyOutput:
    """The actions of an agent, and what it tells about them."""

    action: Array  # int64 [K, n], or int8 [K, n, gates]; without meaning on padding
    latent: Array | None = None  # float32 [K, n, A] where the reverse chain started, if that is to be kept for learning
    prob: Array | None = None  # float32 [K, n] probability of the action under the policy


@dataclass(frozen=True)
class Batch(Generic[X]):
    """Transitions [K, M, ...], numpy arrays or torch tensors."""

    obs: X  # float32 [K, M, O]
    action: X  # as PolicyOutput.action
    reward: X  # float32 [K, M]; the discounted sum for several steps
    discount: X  # float32 [K, M] weight of the next observation's value; 0 after an end
    next_obs: X  # float32 [K, M, O]
    latent: X | None = None  # float32 [K, M, A] as PolicyOutput.latent
    next_latent: X | None = None  # float32 [K, M, A] PolicyOutput.latent of the next observation

    def arrays(self) -> dict[str, X]:
        """The fields that are not None, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def tensors(self) -> "Batch[Tensor]":
        """The same with torch tensors (numpy arrays share their memory)."""
        return Batch(**{name: torch.as_tensor(value) for name, value in self.arrays().items()})


class AgentState(TypedDict):
    """Everything of an agent that evolves: training continues from it bit for bit."""

    tensors: dict[str, Tensor]
    generators: list[GeneratorState]  # [K]
    n_updates: NotRequired[int]  # where the agent counts them


class Agent(Protocol):
    """K learners that act and learn side by side, each exactly as it would alone."""

    spaces: Spaces
    n_learners: int
    keeps_latent: bool  # batches must hold latent and next_latent
    latent: Array | None  # [K, n_latent, A] last action probabilities per index; an evaluation may put its own in place

    def act(
        self,
        obs: Array,
        count: Array,
        explore: bool,
        index: Array | None = None,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> PolicyOutput:
        """Actions for obs [K, n, O], of which the first count[k] of learner k are there and the rest is padding.

        `index` [K, n] names the entry of the latent table of every observation. `generators` (default: the learners'
        own) lets an evaluation draw its randomness elsewhere, so that training does not notice it.
        """
        ...

    def update(self, batch: Batch[Array] | Batch[Tensor], rate: float = 1.0) -> dict[str, Array]:
        """One gradient step of every learner at `rate` times its learning rates; named metrics [K]."""
        ...

    def q_values(self, obs: Array) -> Array:
        """Output of the critic [K, n, n_q]; of twin critics the elementwise smaller."""
        ...

    def trained(self) -> dict[str, Tensor]:
        """The trained tensors of each network: [K, ...], of twins [2 K, ...]."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Copies of the tensors that acting needs, by name."""
        ...

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights; ValueError on other names or shapes."""
        ...

    def state_dict(self) -> AgentState:
        """Copies of everything that evolves."""
        ...

    def load_state_dict(self, state: AgentState) -> None:
        """Continue from what `state_dict` gave; ValueError on other names or shapes."""
        ...
