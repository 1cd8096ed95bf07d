"""The vector environment in the form that Stable-Baselines3 trains on. Needs stable_baselines3."""

from collections.abc import Iterable

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from ddrl_sched.api import Value
from ddrl_sched.environments.vector_env import EdgeVectorEnv


class EdgeVecEnv(VecEnv):
    """EdgeVectorEnv as a VecEnv of Stable-Baselines3: `num_envs` traces side by side; settings as of EdgeEnv.

    An episode begins in the step in which the last one was truncated, so that SB3 bootstraps from
    infos[i]["terminal_observation"]. infos[i]["episode"] holds the summed reward r and the length l of an episode.
    """

    def __init__(self, num_envs: int, seed: int, **settings: Value) -> None:
        self._vector = EdgeVectorEnv(num_envs, autoreset_mode="SameStep", **settings)  # type: ignore[arg-type]
        self._first_seed: int | None = seed
        self._actions = np.zeros(0)
        self._sum, self._length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        super().__init__(num_envs, self._vector.single_observation_space, self._vector.single_action_space)

    def reset(self) -> np.ndarray:
        """The first episodes of the seed; later the next ones."""
        seen, _ = self._vector.reset(seed=self._first_seed)
        self._first_seed = None
        self._sum[:], self._length[:] = 0.0, 0
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, object]]]:
        """Decide, and begin new episodes where one ended."""
        seen, reward, _, ended, told = self._vector.step(self._actions)
        self._sum += reward
        self._length += 1
        infos: list[dict[str, object]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            final = told["final_obs"]
            assert isinstance(final, np.ndarray)
            episode = {"r": float(self._sum[i]), "l": int(self._length[i])}
            infos[i] = {"terminal_observation": final[i], "TimeLimit.truncated": True, "episode": episode}
        self._sum[ended], self._length[ended] = 0.0, 0
        return seen, reward.astype(np.float32), ended, infos

    def close(self) -> None:
        """There is nothing to be closed."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[object]:
        """An attribute of the vector, once for each index."""
        return [getattr(self._vector, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: object, indices: int | Iterable[int] | None = None) -> None:
        """Not for this environment: its replicas are rows of arrays."""
        raise NotImplementedError(f"{attr_name}: replicas are rows of arrays, none can be changed alone")

    def env_method(self, method_name: str, *args: object, **kwargs: object) -> list[object]:
        """Not for this environment."""
        raise NotImplementedError(f"{method_name}: replicas are rows of arrays, none can be called alone")

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """No replica is wrapped."""
        return [False for _ in self._get_indices(indices)]
