"""Diffusion soft actor-critic: soft actor-critic whose actor denoises action logits, and its latent-action variant.

With latent_start the reverse chain starts from the action probabilities that were given at the same index last time
(latent action diffusion, arXiv 2412.18212) instead of fresh noise (D2SAC, Du et al. 2024). With loss "denoising" the
actor is not trained through its chain but learns to denoise towards the policy softmax(Q / temperature), whose entropy
is what the temperature follows. Each of its chains then ends near one action, so with one chain per observation hardly
any entropy enters the target of the critic; and with few steps what acts is sharper (x0) or broader (noise) than it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Gt, Le, MultipleOf
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.base import Array, Batch, Spaces
from ddrl_sched.agents.diffusion import (
    Denoiser,
    Predict,
    Schedule,
    betas,
    denoiser_specs,
    denoising_loss,
    reverse_chain,
    time_embedding,
)
from ddrl_sched.agents.distributions import ActionDistribution, Categorical
from ddrl_sched.agents.reverse_gradient import chain_logits
from ddrl_sched.agents.sac import PER_LEARNER, SACSettings, SoftActorCritic, actor_loss, start_from_prior
from ddrl_sched.agents.stack import Generators, Stack, first_weights, normals, one_each, uniforms


@dataclass(frozen=True)
class DSACSettings(SACSettings):
    """Numbers of diffusion soft actor-critic: those of SAC and of the chain."""

    steps: Annotated[int, Gt(0), Le(1000)]  # T
    schedule: Schedule
    beta_min: Annotated[float, Gt(0.0), Le(1e4)]  # rates (vp) or variances (linear), see diffusion.betas
    beta_max: Annotated[float, Gt(0.0), Le(1e4)]
    predict: Predict  # what the denoiser answers: the noise (bounded by tanh, as published) or the chain's end
    bound: Annotated[float, Gt(0.0), Le(1e6)] | None  # largest |logit| the denoiser may see at the end, null = none
    time_width: Annotated[int, Gt(0), Le(1024), MultipleOf(2)]  # of the time embedding
    final_noise: bool  # the last step adds noise too
    chains: Annotated[int, Gt(0), Le(1000)]  # per observation of an update; their mean probabilities are the policy
    latent_start: bool
    eval_start: Literal["zero", "noise", "latent"]  # start of greedy decisions; only "noise" draws noise in the steps
    loss: Literal["chain", "denoising"] = "chain"  # expected Q through the chain, or denoising weighted by Q

    def __post_init__(self) -> None:
        if self.loss == "denoising" and (self.bound is None or self.latent_start):
            raise ValueError("agent.loss denoising needs agent.bound and agent.latent_start false")
        if self.eval_start == "latent" and not self.latent_start:
            raise ValueError("agent.eval_start latent needs agent.latent_start true")
        betas(self.schedule, self.steps, self.beta_min, self.beta_max)


def marginal(logits: Tensor) -> Tensor:
    """Logits [K, n, A] of the mean probabilities over chains [K, n, chains, A].

    An action is drawn from one chain, so this is the policy that acts; the entropy of a single chain misstates it.
    """
    return logits.log_softmax(-1).logsumexp(2) - math.log(logits.shape[2])


def fresh_latents(n_latent: int, n_logits: int, generators: Generators) -> NDArray[np.float32]:
    """A table of latent actions [K, n_latent, A] that nobody has caches: standard normal noise."""
    return normals(generators, (n_latent, n_logits))


class DiffusionActor:
    """Logits by reverse diffusion (protocol: sac.Actor)."""

    def __init__(self, spaces: Spaces, settings: DSACSettings, generators: Generators) -> None:
        if settings.latent_start and spaces.n_latent == 0:
            raise ValueError(
                "agent.latent_start needs observations with an index, which this environment does not give"
            )
        if settings.chains > 1 and not isinstance(spaces.distribution, Categorical):
            raise ValueError("agent.chains: must be 1 for gates, whose mean over chains is no product of gates")
        if settings.loss == "denoising" and not isinstance(spaces.distribution, Categorical):
            raise ValueError("agent.loss: gates can only learn through the chain")
        self._n_logits = spaces.distribution.n_logits
        self._settings = settings
        chain = reverse_chain(
            betas(settings.schedule, settings.steps, settings.beta_min, settings.beta_max),
            final_noise=settings.final_noise,
        )
        embedding = time_embedding(settings.steps, settings.time_width)
        self._denoiser = Denoiser(chain, embedding, settings.activation, settings.predict, settings.bound)
        specs = denoiser_specs(self._n_logits, settings.time_width, spaces.n_obs, settings.hidden)
        self.stack = Stack(specs, first_weights(specs, generators))
        if spaces.prior is not None:
            for key, needed in (("predict", "x0"), ("loss", "chain"), ("final_noise", False)):
                if getattr(settings, key) != needed:
                    raise ValueError(f"agent.{key}: must be {str(needed).lower()} where scheduler.start is capacity")
        self.prior = start_from_prior(spaces, self.stack)
        self.keeps_latent = settings.latent_start
        self.latent: Array | None = None
        if settings.latent_start:
            self.latent = fresh_latents(spaces.n_latent, self._n_logits, generators)

    def act_logits(
        self, obs: Tensor, count: Array, explore: bool, index: Array | None, generators: Generators
    ) -> tuple[Tensor, Array | None]:
        """Logits [K, n, A], and the latent action of each index."""
        n = obs.shape[1]
        latent = self._recall(index)
        origin = ("latent" if self._settings.latent_start else "noise") if explore else self._settings.eval_start
        noise = None
        if explore or origin == "noise":
            noise = self._noise(n, generators, count)
        if origin == "noise":
            start = torch.from_numpy(normals(generators, (n, self._n_logits), count))
        elif latent is not None and origin == "latent":
            start = torch.from_numpy(latent)
        else:
            start = torch.zeros(len(obs), n, self._n_logits)
        return self._denoised(obs, start, noise), latent

    def remember(self, probs: Tensor, count: Array, index: Array | None) -> None:
        """Note the probabilities as the latent actions of their indices."""
        if self.latent is None or index is None:
            return
        learner, item = np.nonzero(np.arange(probs.shape[1]) < count[:, None])
        self.latent[learner, index[learner, item]] = probs.numpy()[learner, item]

    def draw(self, n: int, generators: Generators) -> tuple[Tensor, ...]:
        """Noise of the steps, and the start unless that is a latent action; for every chain of n observations."""
        n *= self._settings.chains
        noise = self._noise(n, generators)
        if self._settings.latent_start:
            return (noise,)
        return noise, torch.from_numpy(normals(generators, (n, self._n_logits)))

    def logits(self, obs: Tensor, latent: Tensor | None, drawn: tuple[Tensor, ...]) -> Tensor:
        """Logits [K, M, A] from latent actions, or from the drawn start."""
        n, chains = obs.shape[1], self._settings.chains
        start = latent if self._settings.latent_start else drawn[1]
        assert start is not None
        if chains == 1:
            return self._denoised(obs, start, drawn[0])
        wide = start.repeat_interleave(chains, 1) if self._settings.latent_start else start
        logits = self._denoised(obs.repeat_interleave(chains, 1), wide, drawn[0])
        return marginal(logits.view(len(obs), n, chains, -1))

    def draw_loss(self, n: int, generators: Generators) -> tuple[Tensor, ...]:
        """As `draw`, or a step and noise for every action of n observations."""
        if self._settings.loss == "chain":
            return self.draw(n, generators)
        step = torch.from_numpy(uniforms(generators, (n,)))
        a = self._n_logits
        return (step * self._denoiser.steps).long(), torch.from_numpy(normals(generators, (n, a, a)))

    def loss(
        self,
        distribution: ActionDistribution,
        batch: Batch[Tensor],
        q: Tensor,
        alpha: Tensor,
        drawn: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Losses [K] and entropies [K]: those of sac.actor_loss, or of denoising towards softmax(Q / alpha)."""
        if self._settings.loss == "chain":
            return actor_loss(distribution, self.logits(batch.obs, batch.latent, drawn), q, alpha, self.prior)
        target = torch.minimum(q[0], q[1]) / alpha.unsqueeze(-1)  # [K, M, A] logits
        step, noise = drawn
        loss = denoising_loss(self._denoiser, self.stack.params, batch.obs, target.softmax(-1), step=step, noise=noise)
        return loss, distribution.entropy(target).mean(-1)

    def _denoised(self, obs: Tensor, start: Tensor, noise: Tensor | None) -> Tensor:
        """Ends of the chains [K, n, A], as what they add to the prior."""
        logits = chain_logits(self._denoiser, self.stack.params, obs, start, noise)
        return logits if self.prior is None else logits + self.prior

    def _recall(self, index: Array | None) -> Array | None:
        """Latent actions [K, n, A] of the indices."""
        if self.latent is None:
            return None
        assert index is not None
        latent: Array = self.latent[np.arange(len(index))[:, None], index]
        return latent

    def _noise(self, n: int, generators: Generators, count: Array | None = None) -> Tensor:
        """[K, noisy steps, n, A]."""
        shape = (len(self._denoiser.noisy_steps), n, self._n_logits)
        return torch.from_numpy(normals(generators, shape, count, axis=1))


def dsac(spaces: Spaces, settings: DSACSettings | Sequence[DSACSettings], generators: Generators) -> SoftActorCritic:
    """Diffusion soft actor-critic, one learner per generator; settings as for `sac.sac`."""
    each = one_each(settings, len(generators), PER_LEARNER)
    return SoftActorCritic(spaces, each, DiffusionActor(spaces, each[0], generators), generators)
