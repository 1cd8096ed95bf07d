"""Deep Q-learning (Mnih et al. 2015; double: van Hasselt et al. 2016) for stacked learners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict
from torch import Tensor

from ddrl_sched.agents.base import AgentState, Array, Batch, PolicyOutput, Spaces
from ddrl_sched.agents.finite import check_answers
from ddrl_sched.agents.nets import Activation, Hidden, mlp, mlp_specs
from ddrl_sched.agents.stack import (
    Adam,
    Generators,
    Stack,
    check_shapes,
    clip_per_learner,
    differentiate,
    first_weights,
    generator_states,
    load_generator_states,
    one_each,
    rates_by_rows,
    uniforms,
)

PER_LEARNER = ("lr", "target_copy_every", "greedy_from", "greedy_to", "greedy_step")  # may differ between learners
Probability = Annotated[float, Ge(0.0), Le(1.0)]


@dataclass(frozen=True)
class DQNSettings:
    """Numbers of deep Q-learning. Exploration is given as the probability of the *greedy* action."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    hidden: Hidden
    activation: Activation
    lr: Annotated[float, Gt(0.0)]
    double: bool  # the online network chooses the next action, the target network values it
    target_copy_every: Annotated[int, Gt(0)]  # updates
    greedy_from: Probability
    greedy_to: Probability
    greedy_step: Annotated[float, Ge(0.0)]  # added per update
    grad_clip: Annotated[float, Gt(0.0)] | None  # largest norm of a learner's gradient, null = none
    # greedy decisions outside training by a running mean of the weights: what it keeps per update, 0 = by the last ones
    average: Annotated[float, Ge(0.0), Lt(1.0)] = 0.0


class DQN:
    """K deep Q-learners (protocol: agents/base.py). Settings: one record, or one each (PER_LEARNER may differ)."""

    def __init__(self, spaces: Spaces, settings: DQNSettings | Sequence[DQNSettings], generators: Generators) -> None:
        each = one_each(settings, len(generators), PER_LEARNER)
        self.spaces = spaces
        self.n_learners = len(generators)
        self.keeps_latent = False
        self.latent: Array | None = None
        self.n_updates = 0
        self._settings = each[0]
        self._greedy = np.array([(s.greedy_from, s.greedy_to, s.greedy_step) for s in each]).T  # [3, K]
        self._copy_every = torch.tensor([s.target_copy_every for s in each])
        self._generators = generators
        specs = mlp_specs(spaces.n_obs, each[0].hidden, spaces.distribution.n_q)
        self._net = Stack(specs, first_weights(specs, generators))
        self._target = Stack(specs, self._net.flat.detach().clone(), trained=False)
        self._mean = self._net
        if each[0].average > 0.0:
            self._mean = Stack(specs, self._net.flat.detach().clone(), trained=False)
        self._optimiser = Adam(rates_by_rows(self._net.flat, [s.lr for s in each]))

    @property
    def greedy_probability(self) -> Array:
        """[K] probability that an exploring learner takes the greedy action."""
        first, last, step = self._greedy
        return np.minimum(last, first + self.n_updates * step)

    @torch.inference_mode()
    def act(
        self,
        obs: Array,
        count: Array,
        explore: bool,
        index: Array | None = None,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> PolicyOutput:
        """Greedy actions; exploring, random ones instead with probability 1 - greedy_probability.

        Exploring goes by the network as it is, else by the mean of its weights where the settings want one.
        """
        distribution = self.spaces.distribution
        q = self._q(self._net if explore else self._mean, torch.from_numpy(obs))
        check_answers(q)
        action = distribution.greedy_q(q)
        if explore:
            drawn = uniforms(generators or self._generators, (obs.shape[1], 1 + distribution.n_uniforms), count)
            u = torch.from_numpy(drawn)
            keep = (u[..., 0] < torch.from_numpy(self.greedy_probability).unsqueeze(1)).view(
                *obs.shape[:2], *(1 for _ in distribution.action_shape)
            )
            action = torch.where(keep, action, distribution.random(u[..., 1:]))
        return PolicyOutput(action.numpy())

    def update(self, batch: Batch[Array] | Batch[Tensor], rate: float = 1.0) -> dict[str, Array]:
        """One step on the squared temporal difference. Metrics [K]: loss_critic, q_mean, grad_norm."""
        given = batch.tensors()
        q = self.spaces.distribution.q_of(self._q(self._net, given.obs), given.action)  # [K, M]
        loss = (q - self._target_value(given)).square().mean(-1)  # [K]
        differentiate(loss.sum(), [self._net])
        norm = clip_per_learner(self._net.grad, self._settings.grad_clip)
        self._optimiser.step(rate)
        self.n_updates += 1
        if self._mean is not self._net:  # all weights since the first count the same until there are enough
            kept = min(self._settings.average, self.n_updates / (self.n_updates + 1))
            self._mean.flat.lerp_(self._net.flat.detach(), 1.0 - kept)
        due = self.n_updates % self._copy_every == 0  # [K]
        if due.all():
            self._target.flat.copy_(self._net.flat)
        elif due.any():
            self._target.flat[due] = self._net.flat[due]
        metrics = {"loss_critic": loss, "q_mean": q.mean(-1), "grad_norm": norm}
        return {name: value.detach().numpy() for name, value in metrics.items()}

    @torch.no_grad()
    def _target_value(self, batch: Batch[Tensor]) -> Tensor:
        """[K, M] reward plus discounted value of the best next action."""
        distribution = self.spaces.distribution
        value = self._q(self._target, batch.next_obs)
        chooser = self._q(self._net, batch.next_obs) if self._settings.double else value
        return batch.reward + batch.discount * distribution.q_of(value, distribution.greedy_q(chooser))

    def _q(self, net: Stack, obs: Tensor) -> Tensor:
        return mlp(net.params, obs, self._settings.activation)

    @torch.inference_mode()
    def q_values(self, obs: Array) -> Array:
        """[K, n, n_q] of the network that decides without exploring."""
        return self._q(self._mean, torch.from_numpy(obs)).numpy()

    def trained(self) -> dict[str, Tensor]:
        """The network, and the mean of its weights if there is one."""
        return {"net": self._net.flat} | ({} if self._mean is self._net else {"mean": self._mean.flat})

    def weights(self) -> dict[str, Tensor]:
        """Copies of the layers of the network that decides without exploring."""
        return self._mean.weights()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the layers of networks of the same shape, to decide by; training goes on from `load_state_dict`."""
        self._net.load_weights(weights)
        if self._mean is not self._net:
            self._mean.load_weights(weights)

    def state_dict(self) -> AgentState:
        """Networks, optimiser, count of updates and generators."""
        return {
            "tensors": {name: value.clone() for name, value in self._tensors().items()},
            "n_updates": self.n_updates,
            "generators": generator_states(self._generators),
        }

    def load_state_dict(self, state: AgentState) -> None:
        """Continue from what `state_dict` gave."""
        mine = self._tensors()
        check_shapes("state", state["tensors"], {name: tuple(value.shape) for name, value in mine.items()})
        load_generator_states(self._generators, state["generators"])
        for name, value in mine.items():
            value.copy_(state["tensors"][name])
        self.n_updates = state["n_updates"]

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that evolves, beside the generators; shares memory with it."""
        mean = {} if self._mean is self._net else {"mean": self._mean.flat}
        return {"net": self._net.flat, "target": self._target.flat} | mean | self._optimiser.tensors()
