"""A policy that Stable-Baselines3 trained in ddrl_sched/Edge-v0, as a scheduler: it stands in tables beside ours.

scheduler.name: ddrl_sched.environments.sb3_policy:SB3Policy; scripts/train_sb3 trains one and writes its yaml.

A zip of SB3 holds weights and, beside them, pickled settings, which run code when they are loaded. Here only the
weights are read (load_from_zip_file with load_data=False: torch.load with weights_only=True), and their shapes tell
what the network looks like: nothing else is unpickled. SB3's own `PPO.load` does unpickle: no files of strangers.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ddrl_sched.config import InputError, clean
from ddrl_sched.edge.types import Decision, Scenario
from ddrl_sched.environments.faces import Face, face_of, sight_of
from ddrl_sched.extras import require
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.learned_settings import LearnedSettings, learned_settings
from ddrl_sched.schedulers.price_settings import PriceSettings, price_settings

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy
    from torch import Tensor

_LAYERS = {  # of each algorithm: name of the network in the zip -> name of its sizes among SB3's policy_kwargs
    "PPO": {"mlp_extractor.policy_net": "pi", "mlp_extractor.value_net": "vf"},
    "DQN": {"q_net.q_net": ""},
}


@dataclass(frozen=True)
class SB3Policy:
    """An MlpPolicy of Stable-Baselines3 for all stations, with its zip and what it was trained on."""

    algorithm: Literal["PPO", "DQN"]
    file: str  # the zip, relative to where the command is given
    sha256: str  # of its content: results belong to these weights
    activation: Literal["tanh", "relu"]  # of its layers; SB3's default is tanh for PPO, relu for DQN
    decisions: Literal["greedy", "sample"]  # the most probable action, or one drawn from the policy (PPO)
    learner: dict[str, object]  # composed yaml of the learner whose observation, actions and split it was trained with
    cpu_minutes: float  # that it was trained for, at most
    steps: int  # decisions that it was trained on
    loads: list[float]  # that it was trained at
    seed: int  # of its training

    def __post_init__(self) -> None:
        """InputError naming the key for a file that is missing or another one."""
        if self.decisions == "sample" and self.algorithm == "DQN":
            raise InputError("scheduler.decisions: must be greedy for DQN, which has no policy to draw from")
        found = hashlib.sha256(self._content()).hexdigest()
        if found != self.sha256:
            raise InputError(f"scheduler.sha256: {self.sha256} expected, {clean(self.file)} has {found}")

    def _content(self) -> bytes:
        try:
            return Path(self.file).read_bytes()
        except OSError as error:
            raise InputError(f"scheduler.file: {clean(self.file)}: {error.strerror}") from None

    @cached_property
    def _settings(self) -> LearnedSettings | PriceSettings:
        prices = self.learner.get("name") == "price_policy"
        return price_settings(self.learner) if prices else learned_settings(self.learner)

    @property
    def info(self) -> str:
        """As that of the learner."""
        return sight_of(self._settings).info

    @property
    def cadence(self) -> str:
        """As that of the learner."""
        return sight_of(self._settings).cadence

    @property
    def choose_info(self) -> str:
        """As that of the learner."""
        return sight_of(self._settings).choose_info

    @property
    def rate_memory_s(self) -> float | None:
        """As that of the learner."""
        return sight_of(self._settings).rate_memory_s

    @property
    def draws(self) -> bool:
        """Whether actions are drawn."""
        return self.decisions == "sample"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The policy's actions for the window."""
        face, policy = self._loaded(view.scenario)
        valid = view.tasks.valid
        seen = face.observe(view)[valid]
        space = face.action_space
        actions = np.zeros((*valid.shape, *(space.shape or ())), space.dtype)
        if len(seen):
            actions[valid] = _predict(policy, seen, rng if self.draws else None)
        return face.decision(view.tasks.origin, actions, lambda: view)

    def _loaded(self, scenario: Scenario) -> tuple[Face, "BasePolicy"]:
        """Face and network, made when the first world is met. InputError where the weights do not fit it."""
        known: dict[str, tuple[Face, BasePolicy]] = self.__dict__.setdefault("_known", {})
        if scenario.name not in known:
            face = face_of(self._settings, scenario)
            try:
                known[scenario.name] = face, _policy(self._content(), self.algorithm, self.activation, face)
            except (ValueError, RuntimeError, KeyError) as error:
                raise InputError(f"scheduler.file: {clean(self.file)}: {clean(error)}") from None
        return known[scenario.name]


def _policy(content: bytes, algorithm: str, activation: str, face: Face) -> "BasePolicy":
    """The network with the weights of a zip. Raises what torch says where they do not fit."""
    import torch

    sb3 = require("stable_baselines3", "test", "scheduler.name")
    saving = require("stable_baselines3.common.save_util", "test", "scheduler.name")
    torch.set_num_threads(1)
    _, tensors, _ = saving.load_from_zip_file(io.BytesIO(content), load_data=False, device="cpu")
    weights = tensors["policy"]
    policy: BasePolicy = getattr(sb3, algorithm).policy_aliases["MlpPolicy"](
        face.observation_space,
        face.action_space,
        lambda _: 0.0,
        net_arch=_hidden(weights, algorithm),
        activation_fn={"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation],
    )
    policy.load_state_dict(weights)
    policy.set_training_mode(False)
    return policy


def _hidden(weights: "Mapping[str, Tensor]", algorithm: str) -> list[int] | dict[str, list[int]]:
    """Sizes of the hidden layers, told by the shapes of the weights."""
    sizes: dict[str, list[int]] = {}
    for network, key in _LAYERS[algorithm].items():
        found = [re.fullmatch(rf"{re.escape(network)}\.(\d+)\.weight", name) for name in weights]
        layers = sorted(int(match[1]) for match in found if match)
        sizes[key] = [int(weights[f"{network}.{layer}.weight"].shape[0]) for layer in layers]
    return sizes[""][:-1] if "" in sizes else sizes  # the last layer of a value network is its output


def _predict(policy: "BasePolicy", seen: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Actions [n, ...] for what is seen [n, O]; drawn with numbers of `rng`, None: the most probable ones."""
    import torch

    if rng is None:
        return policy.predict(seen, deterministic=True)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        return policy.predict(seen, deterministic=False)[0]
