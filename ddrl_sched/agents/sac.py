"""Soft actor-critic for discrete actions (Haarnoja et al. 2018, Christodoulou 2019) for stacked learners.

The losses are functions of logits and values; the actor is any object that turns observations into logits, so that
dsac.py adds nothing but its actor. Axes: K learners, M minibatch, Q numbers of a critic; twins first, [2, K, ...].
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from pydantic import ConfigDict
from torch import Tensor

from ddrl_sched.agents.base import AgentState, Array, Batch, PolicyOutput, Spaces
from ddrl_sched.agents.distributions import ActionDistribution, Gates
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
    zero_last_layer,
)

# numbers that may differ between the learners of a stack
PER_LEARNER = ("actor_lr", "critic_lr", "tau", "alpha_init", "alpha_lr", "alpha_max", "target_entropy")


@dataclass(frozen=True)
class SACSettings:
    """Numbers of soft actor-critic."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    hidden: Hidden  # actor and critics
    activation: Activation
    actor_lr: Annotated[float, Gt(0.0)]
    critic_lr: Annotated[float, Gt(0.0)]
    tau: Annotated[float, Gt(0.0), Le(1.0)]  # pace of the target critics
    alpha_init: Annotated[float, Gt(0.0)]  # temperature
    alpha_lr: Annotated[float, Ge(0.0)]  # 0 = fixed temperature
    alpha_max: Annotated[float, Gt(0.0)] | None  # cap, null = none
    target_entropy: float  # nats; a negative one never binds
    entropy_in_target: bool  # the next state's value counts its entropy
    grad_clip: Annotated[float, Gt(0.0)] | None  # largest norm of a network's gradient, null = none


def entropy_of(distribution: ActionDistribution, logits: Tensor, prior: Tensor | None) -> Tensor:
    """[K, M] nats. With a prior [A] (log probabilities of a choice) log A minus the divergence KL(policy, prior).

    That is the entropy where the prior is uniform, and pulls towards the prior where it is not.
    """
    entropy = distribution.entropy(logits)
    return entropy if prior is None else entropy + distribution.probs(logits) @ prior + distribution.max_entropy


def critic_target(
    distribution: ActionDistribution,
    batch: Batch[Tensor],
    next_logits: Tensor,
    next_q: Tensor,
    entropy_weight: Tensor,
    *,
    prior: Tensor | None = None,
) -> Tensor:
    """[K, M] reward plus discounted value under the next policy; entropy_weight [K, 1]: temperature, or 0."""
    probs = distribution.probs(next_logits)
    value = distribution.expected_q(distribution.lower_q(next_q, probs), probs)
    value = value + entropy_weight * entropy_of(distribution, next_logits, prior)
    return batch.reward + batch.discount * value


def critic_loss(q_action: Tensor, target: Tensor) -> Tensor:
    """[K] squared error of q_action [2, K, M], summed over the twins."""
    return (q_action - target).square().sum(0).mean(-1)


def actor_loss(
    distribution: ActionDistribution, logits: Tensor, q: Tensor, alpha: Tensor, prior: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Losses [K] and entropies [K]: minus expected Q [2, K, M, Q] and weighted entropy; alpha [K, 1], q are fixed."""
    probs = distribution.probs(logits)
    entropy = entropy_of(distribution, logits, prior)  # [K, M]
    value = distribution.expected_q(distribution.lower_q(q, probs.detach()), probs)
    return -(value + alpha * entropy).mean(-1), entropy.detach().mean(-1)


def check_entropy(distribution: ActionDistribution, settings: SACSettings) -> None:
    """ValueError when the temperature could never settle or starts above its cap."""
    if settings.target_entropy >= distribution.max_entropy:
        raise ValueError(
            f"agent.target_entropy {settings.target_entropy:g} nats cannot be reached: the uniform policy over this"
            f" choice has {distribution.max_entropy:.4g}; give less (negative: never binds)"
        )
    if settings.alpha_max is not None and settings.alpha_init > settings.alpha_max:
        raise ValueError(f"agent.alpha_init {settings.alpha_init:g} is above agent.alpha_max {settings.alpha_max:g}")


def start_from_prior(spaces: Spaces, stack: Stack) -> Tensor | None:
    """Zero the last layer of the actor's `stack` and return the prior's log probabilities [A]; None without a prior."""
    if spaces.prior is None:
        return None
    zero_last_layer(stack)
    return torch.tensor(spaces.prior).log_softmax(-1)


class Actor(Protocol):
    """What turns observations into logits. `latent` is None unless the actor keeps a table (dsac.py)."""

    stack: Stack
    prior: Tensor | None  # [A] log probabilities of the policy it starts from
    keeps_latent: bool
    latent: Array | None

    def act_logits(
        self, obs: Tensor, count: Array, explore: bool, index: Array | None, generators: Generators
    ) -> tuple[Tensor, Array | None]:
        """Logits [K, n, A] to act on, and where the chain started, if that is kept."""
        ...

    def remember(self, probs: Tensor, count: Array, index: Array | None) -> None:
        """Note the action probabilities [K, n, A] under their indices."""
        ...

    def draw(self, n: int, generators: Generators) -> tuple[Tensor, ...]:
        """Random numbers for the logits of n observations per learner."""
        ...

    def logits(self, obs: Tensor, latent: Tensor | None, drawn: tuple[Tensor, ...]) -> Tensor:
        """Logits [K, M, A] of the policy."""
        ...

    def draw_loss(self, n: int, generators: Generators) -> tuple[Tensor, ...]:
        """Random numbers for the loss of n observations per learner."""
        ...

    def loss(
        self,
        distribution: ActionDistribution,
        batch: Batch[Tensor],
        q: Tensor,
        alpha: Tensor,
        drawn: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Losses [K] and entropies [K] under fixed values q [2, K, M, Q] and temperatures alpha [K, 1]."""
        ...


class PerceptronActor:
    """Logits straight from the observation."""

    def __init__(self, spaces: Spaces, settings: SACSettings, generators: Generators) -> None:
        self.keeps_latent = False
        self.latent: Array | None = None
        self._activation = settings.activation
        specs = mlp_specs(spaces.n_obs, settings.hidden, spaces.distribution.n_logits)
        self.stack = Stack(specs, first_weights(specs, generators))
        self.prior = start_from_prior(spaces, self.stack)

    def act_logits(
        self,
        obs: Tensor,
        count: Array,
        explore: bool,
        index: Array | None,
        generators: Generators,
    ) -> tuple[Tensor, Array | None]:
        """Logits [K, n, A]."""
        return self.logits(obs, None, ()), None

    def remember(self, probs: Tensor, count: Array, index: Array | None) -> None:
        """Nothing."""

    def draw(self, n: int, generators: Generators) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    def logits(self, obs: Tensor, latent: Tensor | None, drawn: tuple[Tensor, ...]) -> Tensor:
        """Logits [K, M, A]."""
        logits = mlp(self.stack.params, obs, self._activation)
        return logits if self.prior is None else logits + self.prior

    def draw_loss(self, n: int, generators: Generators) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    def loss(
        self,
        distribution: ActionDistribution,
        batch: Batch[Tensor],
        q: Tensor,
        alpha: Tensor,
        drawn: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Those of `actor_loss`."""
        return actor_loss(distribution, self.logits(batch.obs, None, ()), q, alpha, self.prior)


class SoftActorCritic:
    """K soft actor-critics (protocol: agents/base.py). Twin critics are 2 K rows of one stack, twin 0 first."""

    def __init__(self, spaces: Spaces, each: Sequence[SACSettings], actor: Actor, generators: Generators) -> None:
        settings = each[0]
        for one in each:
            check_entropy(spaces.distribution, one)
        if isinstance(spaces.distribution, Gates) and spaces.distribution.k > 0:
            raise ValueError("agent.name: sac and dsac choose sets of any size; sets of exactly k need dqn")
        self.spaces = spaces
        self.n_learners = len(generators)
        self.keeps_latent = actor.keeps_latent
        self._actor = actor
        self._settings = settings
        self._generators = generators
        specs = mlp_specs(spaces.n_obs, settings.hidden, spaces.distribution.n_q)
        twins = [first_weights(specs, generators) for _ in range(2)]
        self._critics = Stack(specs, torch.cat(twins))
        self._targets = Stack(specs, self._critics.flat.detach().clone(), trained=False)
        self._tau = torch.tensor([s.tau for s in each]).repeat(2).unsqueeze(1)  # [2 K, 1]
        self._target_entropy = torch.tensor([s.target_entropy for s in each])
        caps = [math.inf if s.alpha_max is None else math.log(s.alpha_max) for s in each]
        self._log_alpha_max = torch.tensor(caps)
        self._log_alpha = torch.tensor([math.log(s.alpha_init) for s in each])
        self._log_alpha.grad = torch.zeros_like(self._log_alpha)
        rates = rates_by_rows(actor.stack.flat, [s.actor_lr for s in each])
        rates += rates_by_rows(self._critics.flat, [s.critic_lr for s in each] * 2)
        self._optimiser = Adam(rates + rates_by_rows(self._log_alpha, [s.alpha_lr for s in each]))

    @property
    def latent(self) -> Array | None:
        """[K, n_latent, A] last action probabilities per index, or None."""
        return self._actor.latent

    @latent.setter
    def latent(self, table: Array | None) -> None:
        self._actor.latent = table

    @torch.inference_mode()
    def act(
        self,
        obs: Array,
        count: Array,
        explore: bool,
        index: Array | None = None,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> PolicyOutput:
        """Actions drawn from the policy; not exploring, the most probable ones."""
        distribution = self.spaces.distribution
        drawn_by = generators or self._generators
        logits, start = self._actor.act_logits(torch.from_numpy(obs), count, explore, index, drawn_by)
        check_answers(logits)
        probs = distribution.probs(logits)
        self._actor.remember(probs, count, index)
        if explore:
            u = uniforms(drawn_by, (obs.shape[1], distribution.n_uniforms), count)
            action = distribution.sample(probs, torch.from_numpy(u))
        else:
            action = distribution.greedy(logits)
        return PolicyOutput(action.numpy(), start, distribution.prob_of(probs, action).numpy())

    def update(self, batch: Batch[Array] | Batch[Tensor], rate: float = 1.0) -> dict[str, Array]:
        """One step of critics, actor and temperature, all on the values from before the step.

        Metrics [K]: loss_critic, loss_actor, alpha, entropy, q_mean, grad_norm (all networks, before clipping).
        """
        given = batch.tensors()
        distribution, actor = self.spaces.distribution, self._actor
        n = given.reward.shape[1]
        next_drawn, drawn = actor.draw(n, self._generators), actor.draw_loss(n, self._generators)
        alpha = self._log_alpha.exp().unsqueeze(1)  # [K, 1]
        target = self._target_value(given, alpha, next_drawn)
        q = self._twins(self._critics, given.obs)  # [2, K, M, Q]
        q_action = distribution.q_of(q, given.action)  # [2, K, M]
        of_critics = critic_loss(q_action, target)
        of_actor, entropy = actor.loss(distribution, given, q.detach(), alpha, drawn)
        differentiate((of_critics + of_actor).sum(), [actor.stack, self._critics])
        metrics = {"loss_critic": of_critics, "loss_actor": of_actor, "alpha": alpha[:, 0], "entropy": entropy}
        metrics |= {"q_mean": q_action.mean((0, 2)), "grad_norm": self._step(entropy, rate)}
        return {name: value.detach().numpy() for name, value in metrics.items()}

    @torch.no_grad()
    def _target_value(self, batch: Batch[Tensor], alpha: Tensor, drawn: tuple[Tensor, ...]) -> Tensor:
        logits = self._actor.logits(batch.next_obs, batch.next_latent, drawn)
        weight = alpha if self._settings.entropy_in_target else torch.zeros_like(alpha)
        q = self._twins(self._targets, batch.next_obs)
        return critic_target(self.spaces.distribution, batch, logits, q, weight, prior=self._actor.prior)

    def _twins(self, critics: Stack, obs: Tensor) -> Tensor:
        """[2, K, M, Q]."""
        q = mlp(critics.params, obs.repeat(2, 1, 1), self._settings.activation)
        return q.view(2, *obs.shape[:2], -1)

    def _step(self, entropy: Tensor, rate: float) -> Tensor:
        """Clip, step, let the targets follow; each learner's gradient norm [K] over all its networks."""
        s = self._settings
        norms = [clip_per_learner(self._actor.stack.grad, s.grad_clip)]
        norms.extend(clip_per_learner(self._critics.grad, s.grad_clip).view(2, -1))
        torch.sub(entropy, self._target_entropy, out=self._log_alpha.grad)  # of log_alpha (entropy - target)
        self._optimiser.step(rate)
        self._log_alpha.clamp_(max=self._log_alpha_max)
        self._targets.flat.lerp_(self._critics.flat, self._tau)
        return torch.stack(norms).square().sum(0).sqrt()

    @torch.inference_mode()
    def q_values(self, obs: Array) -> Array:
        """[K, n, n_q], the elementwise smaller of the twins."""
        return self._twins(self._critics, torch.from_numpy(obs)).amin(0).numpy()

    def trained(self) -> dict[str, Tensor]:
        """Actor, critics (twins) and temperatures."""
        return {"actor": self._actor.stack.flat, "critics": self._critics.flat, "log_alpha": self._log_alpha}

    def weights(self) -> dict[str, Tensor]:
        """Copies of the actor's layers."""
        return self._actor.stack.weights()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the layers of actors of the same shape."""
        self._actor.stack.load_weights(weights)

    def state_dict(self) -> AgentState:
        """Networks, temperatures, table, optimiser and generators."""
        return {
            "tensors": {name: value.clone() for name, value in self._tensors().items()},
            "generators": generator_states(self._generators),
        }

    def load_state_dict(self, state: AgentState) -> None:
        """Continue from what `state_dict` gave."""
        mine = self._tensors()
        check_shapes("state", state["tensors"], {name: tuple(value.shape) for name, value in mine.items()})
        load_generator_states(self._generators, state["generators"])
        for name, value in mine.items():
            value.copy_(state["tensors"][name])

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that evolves, beside the generators; shares memory with it."""
        stacks = {"actor": self._actor.stack, "critics": self._critics, "targets": self._targets}
        tensors = {name: stack.flat for name, stack in stacks.items()} | {"log_alpha": self._log_alpha}
        tensors |= self._optimiser.tensors()
        return tensors if self.latent is None else tensors | {"latent": torch.from_numpy(self.latent)}


def sac(spaces: Spaces, settings: SACSettings | Sequence[SACSettings], generators: Generators) -> SoftActorCritic:
    """Discrete soft actor-critic, one learner per generator. Settings: one record, or one each, PER_LEARNER free."""
    each = one_each(settings, len(generators), PER_LEARNER)
    return SoftActorCritic(spaces, each, PerceptronActor(spaces, each[0], generators), generators)
