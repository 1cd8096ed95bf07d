"""ddrl_sched/Edge-v0 as a VectorEnv: R traces stepped together by the kernel, in place of R environments in a loop."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ddrl_sched.api import Value
from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools
from ddrl_sched.environments.edge_env import OTHERS, Episodes, replicas_of, told
from ddrl_sched.environments.faces import face_of
from ddrl_sched.environments.settings import edge_settings, rule_of

Stepped = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, object]]


class EdgeVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` environments as EdgeEnv describes them; replica i has the seed `seed + i`, as Gymnasium's vectors do.

    autoreset_mode: "NextStep" (the step after the end of an episode ignores the action and begins the next one, with
    reward 0) or "SameStep" (the next episode begins at once; info["final_obs"] holds what was seen last).
    """

    def __init__(
        self,
        num_envs: int = 1,
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
        autoreset_mode: str = AutoresetMode.NEXT_STEP.value,
        **settings: Value,
    ) -> None:
        self.num_envs, self._mode = num_envs, _mode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self._mode}
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
        self._episodes = Episodes(self._settings, num_envs)
        rule = None if station is None else rule_of(others, env)
        self._replicas = replicas_of(self._settings, self._episodes, station, rule)
        face = face_of(self._settings.learner, self._settings.problems[0].scenario)
        self.single_observation_space, self.single_action_space = face.observation_space, face.action_space
        self.observation_space = batch_space(face.observation_space, num_envs)
        self.action_space = batch_space(face.action_space, num_envs)
        self._ended: Bools = np.ones(num_envs, np.bool_)  # begin anew in the next step

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, object] | None = None
    ) -> tuple[np.ndarray, dict[str, object]]:
        """The next episode of every replica, or the first ones of a seed, or of a list of seeds."""
        super().reset(seed=seed if seed is None or isinstance(seed, int) else int(seed[0]))
        if seed is None and self._episodes.seeds[0] < 0:
            seed = int(self.np_random.integers(2**31))
        for i in range(self.num_envs):
            if seed is not None:
                self._episodes.restart(i, seed + i if isinstance(seed, int) else int(seed[i]))
            if seed is not None and i == 0:
                self._replicas.restart_rule(self._episodes.seeds[0])
            self._replicas.start(i)
        self._ended = np.zeros(self.num_envs, np.bool_)
        return self._replicas.look(), {}

    def step(self, actions: np.ndarray) -> Stepped:
        """Decide the task that was seen in each replica."""
        active = ~self._ended
        self._start(self._ended)
        seen, brought = self._replicas.step(np.asarray(actions), active)
        ended = brought.ended & active
        info: dict[str, object] = {}
        for name, value in told(brought).items():
            info |= {name: value, f"_{name}": active.copy()}
        reward = np.where(active, brought.reward, 0.0)
        if self._mode is AutoresetMode.NEXT_STEP:
            self._ended = ended.copy()
        elif ended.any():
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                final[i] = seen[i].copy()
            info |= {"final_obs": final, "_final_obs": ended.copy()}
            self._start(ended)
            seen = self._replicas.look()
            self._ended = np.zeros(self.num_envs, np.bool_)
        return seen, reward, np.zeros(self.num_envs, np.bool_), ended, info

    def _start(self, chosen: Bools) -> None:
        for i in np.flatnonzero(chosen):
            self._replicas.start(int(i))


def _mode(word: str) -> AutoresetMode:
    known = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
    if word not in [mode.value for mode in known]:
        raise InputError(f"autoreset_mode: expected one of {', '.join(mode.value for mode in known)}, got {word!r}")
    return AutoresetMode(word)
