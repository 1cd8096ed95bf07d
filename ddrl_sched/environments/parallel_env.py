"""The simulated edge as a PettingZoo parallel environment: one agent per station."""

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

import numpy as np

from ddrl_sched.api import Value
from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Floats, Ints
from ddrl_sched.environments.edge_env import Episodes
from ddrl_sched.environments.faces import face_of, sight_of
from ddrl_sched.environments.replicas import MOST_TRIES
from ddrl_sched.environments.settings import edge_settings
from ddrl_sched.environments.simulation import Simulation
from ddrl_sched.extras import require

if TYPE_CHECKING:
    from gymnasium.spaces import Space
    from pettingzoo import ParallelEnv
else:
    ParallelEnv = require("pettingzoo", "envs", "ddrl_sched.environments.parallel_env").ParallelEnv

Info = dict[str, object]
Stepped = tuple[dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]]


class EdgeParallelEnv(ParallelEnv):
    """Agents station_0, station_1, ... decide where the tasks that arrive at them are served.

    A step is a round. Rounds are the windows of our learners' cadence "arrival": tasks in the order of arrival, as many
    as come from different stations within one announcement interval, so that no station has two. Tasks are seen as of
    the start of their round. All agents stay to the end; one without a task in a round sees zeros, its
    info["decides"] is False, and its action is not used.

    Observations, actions, rewards and episodes are those of EdgeEnv (station=b), with an account of rewards for each
    station. The last round is seen and not decided; then all agents are truncated. info of a step: delay_s, late and
    share of the task that the agent decided in it.
    """

    def __init__(
        self,
        *,
        env: str = "edge5",
        workload: str = "poisson",
        load: float | Sequence[float] | None = None,
        actions: str = "any_subset",
        learner: str | None = None,
        reward: Literal["own", "team"] | None = None,
        split: str | None = None,
        episode_slots: int = 12,
        **settings: Value,
    ) -> None:
        self.metadata = {"name": "ddrl_sched_edge_v0", "render_modes": []}
        self.render_mode = None
        self._settings = edge_settings(
            env=env,
            workload=workload,
            load=load,
            actions=actions,
            learner=learner,
            reward=reward,
            split=split,
            episode_slots=episode_slots,
            settings=settings,
        )
        scenario = self._settings.problems[0].scenario
        self._face = face_of(self._settings.learner, scenario)
        self.possible_agents = [f"station_{b}" for b in range(scenario.n_stations)]
        self.agents: list[str] = []
        self._observed = {agent: deepcopy(self._face.observation_space) for agent in self.possible_agents}
        self._acted = {agent: deepcopy(self._face.action_space) for agent in self.possible_agents}
        self._episodes = Episodes(self._settings, 1)
        self._simulation = Simulation(
            self._settings.trace(0, 0),
            1,
            sight=sight_of(self._settings.learner)._replace(cadence="arrival"),
            reward=self._settings.reward,
            n_accounts=scenario.n_stations,
        )
        self._n_tasks = 0
        self._wait_s: Floats | None = None  # [1, M, E] of the round

    def observation_space(self, agent: str) -> "Space":
        """What an agent sees."""
        return self._observed[agent]

    def action_space(self, agent: str) -> "Space":
        """What an agent answers."""
        return self._acted[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Info]]:
        """The next episode, or the first one of a seed. `options` are not used."""
        if seed is not None or self._episodes.seeds[0] < 0:
            self._episodes.restart(0, int(np.random.default_rng().integers(2**31)) if seed is None else seed)
        if not any(self._begin(self._episodes.draw(0)) for _ in range(MOST_TRIES)):
            raise InputError(f"load, train.episode_slots: {MOST_TRIES} traces in turn have fewer than two rounds")
        self.agents = list(self.possible_agents)
        return self._look()

    def _begin(self, traces: Traces) -> bool:
        """Start a trace; False if it has a single round."""
        valid, origin = traces.tasks.valid[0], traces.tasks.origin[0]
        self._n_tasks = int(valid.sum())
        if self._n_tasks == 0:
            return False
        self._simulation.begin(0, traces, np.where(valid, origin, -1))
        return int(self._round()[1][0]) < self._n_tasks

    def _round(self) -> tuple[Ints, Ints, Ints]:
        """(begin [1], end [1], number of the announcement interval [1]) of the round that is decided next."""
        lo, hi, epoch = (array[:, self._simulation.at[0]] for array in self._simulation.windows)
        return lo, hi, epoch

    def _stations(self) -> Ints:
        """[M] stations of the tasks of the round."""
        lo, hi, _ = self._round()
        return self._simulation.tasks.origin[0, lo[0] : hi[0]]

    def _look(self) -> tuple[dict[str, np.ndarray], dict[str, Info]]:
        view = self._simulation.look(*self._round())
        self._wait_s = view.wait_s
        seen = self._face.observe(view)[0]
        shape = self._face.observation_space.shape
        observed = {agent: np.zeros(shape, np.float32) for agent in self.possible_agents}
        infos: dict[str, Info] = {agent: {"decides": False} for agent in self.possible_agents}
        for row, station in zip(seen, self._stations(), strict=True):
            observed[self.possible_agents[station]] = row.copy()
            infos[self.possible_agents[station]]["decides"] = True
        return observed, infos

    def step(self, actions: dict[str, np.ndarray | int]) -> Stepped:
        """Decide the tasks of the round."""
        sim, (lo, hi, _) = self._simulation, self._round()
        stations = self._stations()
        chosen = np.stack([np.asarray(actions[self.possible_agents[b]]) for b in stations])[None]
        decision = self._face.decision(stations[None], chosen, lambda: sim.view(lo, hi, self._wait_s))
        sim.place(lo, hi, decision)
        observed, infos = self._look()
        reward = sim.value()[0]
        for i, station in enumerate(stations, start=int(lo[0])):
            infos[self.possible_agents[station]] |= self._of_task(i)
        ended = int(self._round()[1][0]) == self._n_tasks
        agents = self.agents
        self.agents = [] if ended else agents
        return (
            {agent: observed[agent] for agent in agents},
            {agent: float(r) for agent, r in zip(agents, reward, strict=True)},
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, ended),
            {agent: infos[agent] for agent in agents},
        )

    def _of_task(self, i: int) -> Info:
        outcome = self._simulation.outcome
        delay_s, late, share = float(outcome.delay_s[0, i]), bool(outcome.late[0, i]), outcome.share[0, i].copy()
        return {"delay_s": delay_s, "late": late, "share": share}

    def render(self) -> None:
        """There is nothing to be seen."""

    def close(self) -> None:
        """There is nothing to be closed."""
