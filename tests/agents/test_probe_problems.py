"""Five small problems with known answers (after rejax) that tell which part of an algorithm is wrong.

Constant reward: the critic. Reward = observation: the critic's input. Delayed reward: discounting and targets.
Reward = action: the actor. Reward = action x observation: both together. Four learners each, stacked.
"""

import numpy as np
import pytest

from ddrl_sched.agents.base import Batch, Spaces
from ddrl_sched.agents.distributions import Categorical, Gates
from ddrl_sched.agents.replay_buffer import Replay
from tests.agent_builders import build, generators

K, N, GAMMA = 4, 32, 0.5
AGENTS = {
    "dqn": ("dqn", {}),
    "dqn single": ("dqn", {"double": False}),
    "sac": ("sac", {}),
    "sac learned temperature": ("sac", {"alpha_lr": 3e-3}),
    "dsac": ("dsac", {}),
    "dsac noise": ("dsac", {"predict": "noise", "bound": None}),
    "lad": ("lad", {}),
}
VARIANTS = {
    "dsac bounded noise": ("dsac", {"predict": "noise", "bound": 10.0}),
    "dsac four chains": ("dsac", {"chains": 4}),
    "dsac mish final noise": ("dsac", {"activation": "mish", "final_noise": True}),
    "lad noise": ("lad", {"predict": "noise", "bound": None}),
}
FAST = {"dqn": {"lr": 0.01}, "sac": {"actor_lr": 3e-3, "critic_lr": 0.01, "tau": 0.1}}
# An actor as fast as its critic commits to early errors: its bounded logits saturate and the gradient is gone.


def train(name, observe, step, n_updates, distribution=None, *, own_actions=True, **changes):
    """Train on independent transitions: obs = observe(rng), (reward, discount, next_obs) = step(obs, action).

    own_actions: the learners explore by themselves; else actions are random, so that all are valued.
    """
    kind, numbers = (AGENTS | VARIANTS)[name]
    spaces = Spaces(1, distribution or Categorical(2), n_latent=N)
    drawn_by = generators(K, 3)
    agent = build(kind, spaces, drawn_by, **FAST["dqn" if kind == "dqn" else "sac"], **numbers, **changes)
    memory = Replay(K, 4000, spaces, keeps_latent=agent.keeps_latent)
    rng = np.random.default_rng(0)
    index, count = np.broadcast_to(np.arange(N), (K, N)), np.full(K, N)
    for _ in range(n_updates):
        obs = observe(rng)
        acted = agent.act(obs, count, True, index)
        action = acted.action if own_actions else rng.integers(2, size=(K, N))
        reward, discount, next_obs = step(obs, action)
        next_latent = agent.act(next_obs, count, True, index).latent if agent.keeps_latent else None
        memory.add(Batch(obs, action, reward, discount, next_obs, acted.latent, next_latent), count)
        agent.update(memory.sample(64, drawn_by))
    return agent


def at(*observations):
    """These observations for every learner: [K, n, 1]."""
    return np.broadcast_to(np.array(observations, np.float32)[:, None], (K, len(observations), 1)).copy()


def nothing(rng):
    return np.zeros((K, N, 1), np.float32)


def signs(rng):
    return rng.choice(np.array([-1, 1], np.float32), (K, N, 1))


def ends(reward):
    """A step that ends with this reward."""
    return reward.astype(np.float32), np.zeros((K, N), np.float32), nothing(None)


def greedy(agent, obs):
    index = np.zeros(obs.shape[:2], np.int64)
    return agent.act(obs, np.full(K, obs.shape[1]), False, index).action


def policy(agent, obs, n=200):
    """How often the policy takes action 1 (gates: opens each gate) at every observation, [K, n_obs]."""
    wide = np.repeat(obs, n, axis=1)
    index = np.arange(wide.shape[1])[None].repeat(K, 0) % N
    action = agent.act(wide, np.full(K, wide.shape[1]), True, index).action
    return action.reshape(K, obs.shape[1], n, *action.shape[2:]).mean(2)


@pytest.mark.parametrize("name", AGENTS)
def test_constant_reward(name):
    agent = train(name, nothing, lambda obs, action: ends(np.ones((K, N))), 100, own_actions=False)
    np.testing.assert_allclose(agent.q_values(at(0.0)), 1.0, atol=0.1)


@pytest.mark.parametrize("name", AGENTS)
def test_reward_is_the_observation(name):
    agent = train(name, signs, lambda obs, action: ends(obs[..., 0]), 150, own_actions=False)
    q = agent.q_values(at(-1.0, 1.0))
    np.testing.assert_allclose(q, np.broadcast_to([[-1.0], [1.0]], q.shape), atol=0.15)


@pytest.mark.parametrize("name", AGENTS)
def test_delayed_reward(name):
    """Observation 0 leads to 1 without reward, 1 ends with reward 1: values 0.5 and 1."""

    def step(obs, action):
        last = obs[..., 0] > 0.5
        return last.astype(np.float32), np.where(last, 0, GAMMA).astype(np.float32), np.ones_like(obs)

    def zero_or_one(rng):
        return rng.integers(2, size=(K, N, 1)).astype(np.float32)

    no_entropy = {} if AGENTS[name][0] == "dqn" else {"entropy_in_target": False}
    agent = train(name, zero_or_one, step, 200, own_actions=False, **no_entropy)
    q = agent.q_values(at(0.0, 1.0))
    np.testing.assert_allclose(q, np.broadcast_to([[GAMMA], [1.0]], q.shape), atol=0.12)


@pytest.mark.parametrize("name", AGENTS)
def test_reward_is_the_action(name):
    agent = train(name, nothing, lambda obs, action: ends(2.0 * action - 1), 150)
    np.testing.assert_allclose(agent.q_values(at(0.0)), np.broadcast_to([-1.0, 1.0], (K, 1, 2)), atol=0.2)
    assert (greedy(agent, at(0.0)) == 1).all()
    assert (policy(agent, at(0.0)) > 0.8).all()  # DQN explores: 0.875 expected, 0.023 the standard deviation


@pytest.mark.parametrize("name", AGENTS | VARIANTS)
def test_reward_is_the_action_times_the_observation(name):
    agent = train(name, signs, lambda obs, action: ends((2.0 * action - 1) * obs[..., 0]), 250)
    assert (greedy(agent, at(-1.0, 1.0)) == [0, 1]).all()
    often = policy(agent, at(-1.0, 1.0))
    assert (often[:, 0] < 0.15).all()
    assert (often[:, 1] > 0.85).all()


@pytest.mark.parametrize("name", ["dqn", "sac", "dsac", "lad"])
def test_gates_learn_which_to_open_from_the_observation(name):
    """Gate 0 pays the observation, gate 1 its opposite, gate 2 always costs: one number for the whole set."""
    gain = np.array([1.0, -1.0, 0.0]), np.array([0.0, 0.0, -0.7])

    def step(obs, action):
        return ends((action * (obs * gain[0] + gain[1])).sum(-1))

    agent = train(name, signs, step, 300, distribution=Gates(3))
    assert (greedy(agent, at(-1.0, 1.0)) == [[0, 1, 0], [1, 0, 0]]).all()


def test_exactly_k_gates_learn_the_best_set():
    agent = train(
        "dqn", nothing, lambda obs, action: ends(action @ np.array([0.1, 0.9, -0.5, 0.6])), 400, Gates(4, k=2)
    )
    assert (greedy(agent, at(0.0)) == [0, 1, 0, 1]).all()
