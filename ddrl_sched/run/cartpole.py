"""CartPole-v1 as a probe of the agents: K learners trained side by side, and what is measured of them.

Axes: K learners, each with an environment of its own (run/cartpole_env.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypedDict

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ddrl_sched.agents.base import Agent, AgentState, Array, Spaces
from ddrl_sched.agents.distributions import Categorical
from ddrl_sched.agents.finite import AnswerError, check_update
from ddrl_sched.agents.n_step import NStep
from ddrl_sched.agents.replay_buffer import Replay
from ddrl_sched.agents.stack import Generators
from ddrl_sched.agents.table import AgentSettings, build_agent
from ddrl_sched.config import Settings
from ddrl_sched.run.cartpole_env import CartPoles, Floats, PolesState
from ddrl_sched.seeding import stream

GREEDY_SEED = 2026  # root of the starts of greedy episodes, apart from all training
SPACES = Spaces(4, Categorical(2), n_latent=1)  # one latent action: that of the step before


@dataclass(frozen=True)
class Budget:
    """How long to train and how often to evaluate."""

    steps: int  # of every learner in its environment
    evaluate_every: int  # steps
    evaluate_episodes: int  # greedy ones


class Learning(Settings):
    """How experience becomes updates."""

    gamma: Annotated[float, Field(gt=0.0, lt=1.0)]  # discount per step
    n_steps: Annotated[int, Field(ge=1, le=1000)]  # of a return, before the value of what follows
    memory: Annotated[int, Field(ge=1, le=10**7)]  # transitions kept per learner
    batch: Annotated[int, Field(ge=1, le=10**5)]  # transitions per update and learner
    updates: Annotated[int, Field(ge=1, le=1000)]  # per step
    start_steps: Annotated[int, Field(ge=0, le=10**7)]  # before the first update


@dataclass(frozen=True)
class Learners:
    """K learners with all that evolves beside their environments."""

    agent: Agent
    memory: Replay
    window: NStep
    draws: Generators  # [K] of the draws from the memory
    learning: Learning  # of all, but for gamma and n_steps


def build_learners(settings: Sequence[AgentSettings], learning: Sequence[Learning], generators: Generators) -> Learners:
    """K learners from the settings of their agents [K] and of learning [K], learner k drawing from generators[k].

    Learning may differ in gamma and n_steps, agents in what a stack allows; ValueError otherwise.
    """
    first = learning[0]
    alike = {(one.memory, one.batch, one.updates, one.start_steps) for one in learning}
    if len(alike) > 1:
        raise ValueError("memory, batch, updates and start_steps must be the same for all learners of a stack")
    agent = build_agent(SPACES, settings, generators)
    memory = Replay(len(settings), first.memory, SPACES, keeps_latent=agent.keeps_latent)
    n_steps, gamma = np.array([one.n_steps for one in learning]), np.array([one.gamma for one in learning])
    window = NStep(n_steps, gamma, SPACES.n_obs, SPACES.distribution.n_logits if agent.keeps_latent else 0)
    return Learners(agent, memory, window, generators, first)


@dataclass(frozen=True)
class EvalPoint:
    """How all learners do after some steps: a point of their learning curve."""

    steps: int  # of every learner
    updates: int
    lengths: list[list[int]]  # [K] of every finished training episode since the start; length = return
    greedy: Floats  # [K] mean return of the greedy policy, learning and exploration switched off
    metrics: dict[str, Floats]  # [K] of the last update


class TrainingState(TypedDict):
    """Everything of a Training that evolves, the learners' generators included (they are their agent's)."""

    agent: AgentState
    memory: dict[str, Tensor]
    window: dict[str, Tensor]
    poles: PolesState
    steps: int
    updates: int
    lengths: list[list[int]]  # [K] of finished episodes
    length: Tensor  # [K] of the episodes that run
    metrics: dict[str, Tensor]


class Training:
    """K learners trained side by side: iterate for an EvalPoint every `evaluate_every` steps, and None at all others.

    After every step the state is whole and `state_dict` holds it. `starts`: generators [K] of the first states.
    """

    def __init__(self, learners: Learners, starts: Generators, budget: Budget) -> None:
        self._learners, self._budget = learners, budget
        self._poles = CartPoles(starts)
        n = learners.agent.n_learners
        self._one, self._index = np.ones(n, np.int64), np.zeros((n, 1), np.int64)
        self._steps = self.updates = 0  # of every learner, since the start
        self._length = np.zeros(n, np.int64)
        self._lengths: list[list[int]] = [[] for _ in range(n)]
        self._metrics: dict[str, Array] = {}

    def __iter__(self) -> Iterator[EvalPoint | None]:
        """From where the training stands to the end of its budget."""
        budget = self._budget
        while self._steps < budget.steps:
            self._step()
            due = self._steps % budget.evaluate_every == 0 or self._steps == budget.steps
            yield self._evaluate() if due else None

    def _step(self) -> None:
        learners, agent, learning = self._learners, self._learners.agent, self._learners.learning
        try:
            output = agent.act(self._poles.obs[:, None], self._one, True, self._index)
        except AnswerError as error:
            raise error.at(1, self.updates) from None
        stepped = self._poles.step(output.action[:, 0])
        if output.latent is not None and agent.latent is not None:
            stepped = replace(stepped, latent=output.latent[:, 0], next_latent=agent.latent[:, 0])
        learners.window.push(stepped, learners.memory)
        self._steps += 1
        self._length += 1
        for k in np.flatnonzero(stepped.ended):
            self._lengths[k].append(int(self._length[k]))
        self._length[stepped.ended] = 0
        if self._steps < learning.start_steps or not learners.memory.ready(learning.batch):
            return
        for _ in range(learning.updates):
            self._metrics = agent.update(learners.memory.sample(learning.batch, learners.draws))
            self.updates += 1
            check_update(agent, self._metrics, self.updates)

    def _evaluate(self) -> EvalPoint:
        greedy = greedy_returns(self._learners.agent, self._budget.evaluate_episodes)
        return EvalPoint(self._steps, self.updates, self._lengths, greedy, self._metrics)

    def state_dict(self) -> TrainingState:
        """Everything that evolves; may share memory."""
        return {
            "agent": self._learners.agent.state_dict(),
            "memory": self._learners.memory.state_dict(),
            "window": self._learners.window.state_dict(),
            "poles": self._poles.state_dict(),
            "steps": self._steps,
            "updates": self.updates,
            "lengths": self._lengths,
            "length": torch.from_numpy(self._length),
            "metrics": {name: torch.from_numpy(value) for name, value in self._metrics.items()},
        }

    def load_state_dict(self, state: TrainingState) -> None:
        """Continue from what `state_dict` gave."""
        self._learners.agent.load_state_dict(state["agent"])
        self._learners.memory.load_state_dict(state["memory"])
        self._learners.window.load_state_dict(state["window"])
        self._poles.load_state_dict(state["poles"])
        self._steps, self.updates, self._lengths = state["steps"], state["updates"], state["lengths"]
        self._length = state["length"].numpy().copy()
        self._metrics = {name: value.numpy() for name, value in state["metrics"].items()}


def eval_points(training: Iterable[EvalPoint | None]) -> Iterator[EvalPoint]:
    """The points of the learning curve alone."""
    return (point for point in training if point is not None)


def greedy_returns(agent: Agent, episodes: int) -> Floats:
    """[K] mean return of `episodes` greedy episodes from starts that are always the same. Training does not notice."""
    n = agent.n_learners
    draws = [stream(GREEDY_SEED, "cartpole", "greedy") for _ in range(n)]  # of chains that start from noise
    poles = CartPoles([stream(GREEDY_SEED, "cartpole", "start", e) for _ in range(n) for e in range(episodes)])
    count = np.full(n, episodes)
    index = np.broadcast_to(np.arange(episodes), (n, episodes))
    alive = np.ones(n * episodes, bool)
    total = np.zeros(n * episodes)
    kept = agent.latent
    if kept is not None:
        agent.latent = np.zeros((n, episodes, kept.shape[2]), np.float32)
    while alive.any():
        obs = poles.obs.reshape(n, episodes, 4)
        stepped = poles.step(agent.act(obs, count, False, index, draws).action.reshape(-1))
        total += alive
        alive &= ~stepped.ended
    agent.latent = kept
    return total.reshape(n, episodes).mean(1)


def episode_mean(lengths: Sequence[int]) -> float:
    """Mean return of the episodes; NaN without any."""
    return float(np.mean(lengths)) if len(lengths) else float("nan")


def step_mean(lengths: Sequence[int]) -> float:
    """Mean over the *steps* of the return of the episode they belong to; NaN without any."""
    values = np.asarray(lengths, np.float64)
    return float(np.square(values).sum() / values.sum()) if len(values) else float("nan")
