"""Agents and batches for tests: small networks, fast learning rates, every number open to change."""

from typing import Any

import numpy as np

from ddrl_sched.agents.base import Agent, Batch, Spaces
from ddrl_sched.agents.distributions import Categorical
from ddrl_sched.agents.dqn import DQN, DQNSettings
from ddrl_sched.agents.dsac import DSACSettings, dsac
from ddrl_sched.agents.sac import SACSettings, sac

DQN_NUMBERS: dict[str, Any] = {
    "hidden": [32],
    "activation": "relu",
    "lr": 3e-3,
    "double": True,
    "target_copy_every": 20,
    "greedy_from": 0.0,
    "greedy_to": 0.9,
    "greedy_step": 0.005,
    "grad_clip": 10.0,
}
SAC_NUMBERS: dict[str, Any] = {
    "hidden": [32],
    "activation": "relu",
    "actor_lr": 3e-3,
    "critic_lr": 3e-3,
    "tau": 0.05,
    "alpha_init": 0.05,
    "alpha_lr": 0.0,
    "alpha_max": 1.0,
    "target_entropy": 0.1,
    "entropy_in_target": True,
    "grad_clip": 10.0,
}
CHAIN_NUMBERS: dict[str, Any] = {
    "steps": 3,
    "schedule": "vp",
    "beta_min": 0.1,
    "beta_max": 10.0,
    "predict": "x0",
    "bound": 5.0,
    "time_width": 8,
    "final_noise": False,
    "chains": 1,
    "latent_start": False,
    "eval_start": "zero",
}
LATENT = {"latent_start": True, "eval_start": "latent"}
CONSTRUCTORS: dict[str, Any] = {"dqn": DQN, "sac": sac, "dsac": dsac, "lad": dsac, "denoising": dsac}
KINDS = ("dqn", "sac", "dsac", "lad")  # denoising cannot choose sets


def generators(n, seed=0):
    return [np.random.Generator(np.random.PCG64([seed, k])) for k in range(n)]


def settings(kind: str, **changes) -> Any:
    """The numbers above except `changes`; "lad" is dsac with latent start, "denoising" with that loss."""
    if kind == "dqn":
        return DQNSettings(**{**DQN_NUMBERS, **changes})
    if kind == "sac":
        return SACSettings(**{**SAC_NUMBERS, **changes})
    own = {"lad": LATENT, "denoising": {"loss": "denoising"}}.get(kind, {})
    return DSACSettings(**{**SAC_NUMBERS, **CHAIN_NUMBERS, **own, **changes})


def build(kind: str, spaces: Spaces, drawn_by, **changes) -> Agent:
    """An agent with these settings."""
    return CONSTRUCTORS[kind](spaces, settings(kind, **changes), drawn_by)


def random_batch(rng, spaces: Spaces, n_learners: int, n: int, *, with_latent: bool = False) -> Batch:
    """Transitions [K, n, ...] without meaning."""

    def normal(*shape):
        return rng.standard_normal((n_learners, n, *shape), dtype=np.float32)

    distribution = spaces.distribution
    if isinstance(distribution, Categorical):
        action = rng.integers(distribution.n, size=(n_learners, n))
    else:
        action = rng.integers(2, size=(n_learners, n, distribution.n)).astype(np.int8)
    latent = (normal(distribution.n_logits), normal(distribution.n_logits)) if with_latent else (None, None)
    discount = np.full((n_learners, n), 0.9, np.float32)
    return Batch(normal(spaces.n_obs), action, normal(), discount, normal(spaces.n_obs), *latent)
