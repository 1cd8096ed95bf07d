"""CartPole-v1 for many learners at once: gymnasium's physics on arrays.

Axes: K learners, each with an environment of its own; 4 numbers of state (position m, velocity m/s, angle rad, angular
velocity rad/s). All constants are read from gymnasium; tests/run/test_cartpole.py compares every step with it.
"""

from typing import NamedTuple, TypedDict

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl_sched.agents.n_step import EnvStep
from ddrl_sched.agents.stack import Generators, GeneratorState, generator_states, load_generator_states

ID = "CartPole-v1"
SOLVED = float(gymnasium.spec(ID).reward_threshold or 0)  # 475
LONGEST = int(gymnasium.spec(ID).max_episode_steps or 0)  # 500 steps

Floats = NDArray[np.float64]


class Physics(NamedTuple):
    """Constants of the environment, by gymnasium's names; SI units."""

    gravity: float
    masspole: float
    total_mass: float
    length: float  # of half the pole
    polemass_length: float
    force_mag: float
    tau: float  # seconds of a step
    x_threshold: float
    theta_threshold_radians: float


def read_physics() -> Physics:
    """The constants as gymnasium has them."""
    environment = gymnasium.make(ID).unwrapped
    return Physics(*(getattr(environment, name) for name in Physics._fields))


class PolesState(TypedDict):
    """Where the poles stand."""

    state: Tensor  # [K, 4]
    steps: Tensor  # [K] of the episode
    generators: list[GeneratorState]  # [K] of first states


class CartPoles:
    """K poles. `obs` is what the learners see now; an ended episode starts anew at once."""

    def __init__(self, generators: Generators) -> None:
        self._physics = read_physics()
        self._generators = generators
        self._state = np.zeros((len(generators), 4))
        self._steps = np.zeros(len(generators), np.int64)
        self._reset(np.arange(len(generators)))

    @property
    def obs(self) -> NDArray[np.float32]:
        """[K, 4]."""
        return self._state.astype(np.float32)

    def step(self, action: NDArray[np.int64]) -> EnvStep:
        """One step of every pole; action [K] 0 pushes to the left, 1 to the right. Every step gives reward 1."""
        before = self.obs
        self._state = next_state(self._physics, self._state, action)
        self._steps += 1
        x, angle = self._state[:, 0], self._state[:, 2]
        limit, limit_rad = self._physics.x_threshold, self._physics.theta_threshold_radians
        terminated = (x < -limit) | (x > limit) | (angle < -limit_rad) | (angle > limit_rad)
        ended = terminated | (self._steps >= LONGEST)
        stepped = EnvStep(before, action, np.ones(len(action)), self.obs, terminated, ended)
        self._reset(np.flatnonzero(ended))
        return stepped

    def state_dict(self) -> PolesState:
        """Everything that evolves; may share memory."""
        return {
            "state": torch.from_numpy(self._state),
            "steps": torch.from_numpy(self._steps),
            "generators": generator_states(self._generators),
        }

    def load_state_dict(self, state: PolesState) -> None:
        """Continue from what `state_dict` gave."""
        self._state, self._steps = state["state"].numpy().copy(), state["steps"].numpy().copy()
        load_generator_states(self._generators, state["generators"])

    def _reset(self, learners: NDArray[np.int64]) -> None:
        for k in learners:
            self._state[k] = self._generators[k].uniform(-0.05, 0.05, 4)
        self._steps[learners] = 0


def next_state(c: Physics, state: Floats, action: NDArray[np.int64]) -> Floats:
    """State [K, 4] after one Euler step of the cart and pole (Barto, Sutton and Anderson 1983).

    Operations stand in gymnasium's order, so that results are equal to the last bit.
    """
    _, x_dot, theta, theta_dot = state.T
    force = np.where(action == 1, c.force_mag, -c.force_mag)
    cos, sin = np.cos(theta), np.sin(theta)
    push = (force + c.polemass_length * np.square(theta_dot) * sin) / c.total_mass
    inertia = c.length * (4.0 / 3.0 - c.masspole * np.square(cos) / c.total_mass)
    theta_acc = (c.gravity * sin - cos * push) / inertia
    x_acc = push - c.polemass_length * theta_acc * cos / c.total_mass
    rates = [x_dot, x_acc, theta_dot, theta_acc]
    return np.stack([value + c.tau * rate for value, rate in zip(state.T, rates, strict=True)], axis=1)
