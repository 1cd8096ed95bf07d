"""ddrl_sched/Edge-v0: the simulated edge as a Gymnasium environment, one decision per step."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import gymnasium
import numpy as np

from ddrl_sched.api import Value
from ddrl_sched.config import InputError
from ddrl_sched.edge.session import Traces
from ddrl_sched.environments.faces import face_of, sight_of
from ddrl_sched.environments.replicas import Replicas, Steps
from ddrl_sched.environments.settings import EdgeSettings, Rule, edge_settings, rule_of

OTHERS = "priced"  # rule of the other stations


class EdgeEnv(gymnasium.Env[np.ndarray, np.ndarray | int]):
    """Decide where tasks are served, one task per step.

    Agent. station=None: one agent decides for all stations, in the order of arrival. station=b: an agent decides the
    tasks that arrive at station b; the rule `others` (name of a scheduler, `ddrl list scheduler`) decides the rest.

    Observation and action are those of our learner `learner` (its yaml says scales, information, split and reward).
    actions: "single" and "any_subset" Discrete, "gates" MultiBinary (none: the own server), "continuous" a Box: what a
    price policy answers. Tasks of one window of the learner's cadence are seen as of the start of the window.

    Reward. The learners' reward of a task is minus its delay (reward_shape, reward_scale_s); reward="team" takes the
    mean over all tasks of its announcement interval, of all stations. The delay is final when none of the task's shares
    is on its way. So a step gives the change of the summed rewards of all tasks placed so far, as if nothing came after
    them: the task's own reward, and what the decision (with station=b also the others' since) took from tasks that are
    on their way. Over an episode the steps add up to the learners' rewards of the decided tasks.

    Episode. One trace of the training streams, `episode_slots` slots long: reset(seed=s) has the first one of
    `ddrl train seed=s`, each further reset the next one; held-out traces are never met. load may be several numbers:
    one episode each in turn. The last task of the agent is seen and not decided; then the episode is truncated (it
    never terminates). info of a step: delay_s and late of the decided task as they stand, share [E], station,
    elapsed_s to the next task of the agent (our learners discount by gamma^(elapsed_s / slot_s)).

    InputError for settings that are wrong. Further `settings` by their keys, __ for the dot: scheduler__info="tracked".
    """

    metadata: ClassVar[dict[str, object]] = {"render_modes": []}

    def __init__(
        self,
        *,
        env: str = "edge5",
        workload: str = "poisson",
        load: float | Sequence[float] | None = None,
        station: int | None = None,
        others: str = OTHERS,
        actions: str = "any_subset",
        learner: str | None = None,
        reward: Literal["own", "team"] | None = None,
        split: str | None = None,
        episode_slots: int = 12,
        **settings: Value,
    ) -> None:
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
        self._episodes = Episodes(self._settings, 1)
        rule = None if station is None else rule_of(others, env)
        self._replicas = replicas_of(self._settings, self._episodes, station, rule)
        face = face_of(self._settings.learner, self._settings.problems[0].scenario)
        self.observation_space, self.action_space = face.observation_space, face.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """The next episode, or the first one of a seed. `options` are not used."""
        super().reset(seed=seed)
        if seed is not None or self._episodes.seeds[0] < 0:
            self._episodes.restart(0, int(self.np_random.integers(2**31)) if seed is None else seed)
            self._replicas.restart_rule(self._episodes.seeds[0])
        self._replicas.start(0)
        return self._replicas.look()[0], {}

    def step(self, action: np.ndarray | int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        """Decide the task that was seen."""
        seen, brought = self._replicas.step(np.asarray(action)[None], np.ones(1, np.bool_))
        info = {key: value[0] for key, value in told(brought).items()}
        return seen[0], float(brought.reward[0]), False, bool(brought.ended[0]), info


class Episodes:
    """Which trace each of R replicas meets next: the seed of each, and the number of its next episode."""

    def __init__(self, settings: EdgeSettings, n_replicas: int) -> None:
        self._settings = settings
        self.seeds = [-1] * n_replicas  # -1: not told yet
        self._episode = [0] * n_replicas

    def restart(self, replica: int, seed: int) -> None:
        """Go on with the first episode of a seed."""
        self.seeds[replica], self._episode[replica] = seed, 0

    def draw(self, replica: int) -> Traces:
        """The next trace (R = 1)."""
        traces = self._settings.trace(self.seeds[replica], self._episode[replica])
        self._episode[replica] += 1
        return traces


def replicas_of(settings: EdgeSettings, episodes: Episodes, station: int | None, rule: Rule | None) -> Replicas:
    """The replicas of an environment. InputError for a station that there is not."""
    scenario = settings.problems[0].scenario
    if station is not None and not 0 <= station < scenario.n_stations:
        raise InputError(f"station: a number from 0 to {scenario.n_stations - 1}, or None, expected, got {station!r}")
    return Replicas(
        face_of(settings.learner, scenario),
        sight_of(settings.learner),
        settings.reward,
        episodes.draw,
        settings.trace(0, 0),
        n_replicas=len(episodes.seeds),
        station=station,
        rule=rule,
    )


def told(brought: Steps) -> dict[str, np.ndarray]:
    """What info says of a step, arrays [R, ...] of their own."""
    names = ("delay_s", "late", "share", "station", "elapsed_s")
    return {name: getattr(brought, name).copy() for name in names}
