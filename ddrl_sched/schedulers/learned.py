"""The learned family: an action table, an agent and a split rule make a scheduler; seeds and stations are stacked."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from ddrl_sched.agents.base import Agent, AgentState, Array, Batch, Spaces
from ddrl_sched.agents.distributions import ActionDistribution, Categorical, Gates
from ddrl_sched.agents.finite import AnswerError, check_seen, check_update
from ddrl_sched.agents.replay_buffer import Replay
from ddrl_sched.agents.stack import Generators
from ddrl_sched.agents.table import build_agent
from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Scenario
from ddrl_sched.schedulers import actions
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.learned_settings import ActionSettings, LearnedSettings, agent_settings
from ddrl_sched.schedulers.observation import n_observed, observe_tasks
from ddrl_sched.schedulers.packing import Packing, packing_of
from ddrl_sched.schedulers.set_decision import set_decision

MAX_GB = 32  # of replay memory, of weights, ...
_COPIES = 9  # networks and their targets, gradients and moments of Adam
_OBSERVED = "scheduler.observation, env"  # keys that decide how large an observation is
_REWARDED = "scheduler.learning.reward_scale_s, env, workload.load"  # and a reward
LATENT = "latent_actions"  # among the weights


class LearnerState(TypedDict):
    """Everything of a Learner that evolves in training, between two windows."""

    agent: AgentState
    memory: dict[str, Tensor]
    open: dict[str, Tensor]  # decisions whose reward or next observation is not known yet
    slots: int
    updates: int


class Learner:
    """A learned scheduler: K = seeds x stations learners (shared weights: K = seeds), seed-major, and their memory.

    Replica r of a View belongs to seed r // (R / seeds).
    """

    rate_memory_s = None
    draws = False  # from its own generators, not from the stream of the scheduler

    def __init__(
        self,
        settings: LearnedSettings,
        scenario: Scenario,
        n_seeds: int,
        generators: Generators,
    ) -> None:
        self.info: str = settings.info
        self.choose_info: str = settings.choose
        self.cadence = "epoch" if settings.choose == "announced" else "arrival"
        self.settings = settings
        self.n_seeds = n_seeds
        self.exploring = False
        self._per_seed = 1 if settings.sharing == "shared" else scenario.n_stations
        self.n_learners = n_seeds * self._per_seed
        self._table, distribution = _distribution(settings.actions, scenario)
        if settings.learning.next_queues == "zero" and not scenario.published:
            raise InputError(
                "scheduler.learning.next_queues: must be observed in clean worlds (zero is a published fault)"
            )
        prior = _prior(settings, scenario)
        spaces = Spaces(n_observed(scenario, settings), distribution, settings.latent_entries, prior)
        self._generators = list(generators)
        self.agent = _agent(settings, spaces, self._generators)
        self._drawn_by = self._generators
        self.memory = Replay(self.n_learners, settings.learning.memory, spaces, keeps_latent=self.agent.keeps_latent)
        self._open: dict[str, Array] = {}
        self._kept_latent: Array | None = None  # of training, while an evaluation uses copies
        self.slots = 0
        self.updates = 0
        self._decided: dict[str, Array] = {}  # of the last window

    def start_evaluation(self, n_traces: int, generators: Sequence[np.random.Generator]) -> None:
        """No exploration from now on; every trace of a seed gets a copy of the seed's latent actions.

        `generators` [K] give the random numbers of drawn decisions, so that training leaves no mark on them.
        """
        self.exploring = False
        self._drawn_by = list(generators)
        if self.agent.latent is not None:
            self._kept_latent = self.agent.latent if self._kept_latent is None else self._kept_latent
            self.agent.latent = np.tile(self._kept_latent, (1, n_traces, 1))

    def start_episode(self) -> None:
        """Forget tasks of the last episode that still wait for what comes next (the episode ends there)."""
        self.exploring = True
        self._drawn_by = self._generators
        self._open = {}
        if self._kept_latent is not None:
            self.agent.latent, self._kept_latent = self._kept_latent, None

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """Sets of servers for the window, [R, M, E]; the split is made by the world. Draws from its own generators."""
        replica, item, packing = self._pack(view)
        obs = observe_tasks(view, self.settings)[replica, item]
        check_seen("an observation", obs, packing.learner, self._per_seed, _OBSERVED)
        index = self._latent_index(view, replica, item, packing)
        drawn = self.exploring or self.settings.decisions == "sample"
        try:
            output = self.agent.act(packing.stacked(obs), packing.count, drawn, index, self._drawn_by)
        except AnswerError as error:
            raise error.at(self._per_seed, self.updates, "station") from None
        action = packing.rows(output.action)
        select = np.zeros((*view.tasks.shape, view.scenario.n_servers), np.bool_)
        select[replica, item] = self._sets(action, view.tasks.origin[replica, item])
        self._decided = {"replica": replica, "item": item, "learner": packing.learner, "obs": obs, "action": action}
        if output.latent is not None:
            self._decided["latent"] = packing.rows(output.latent)
        return set_decision(self.settings, view.scenario, select)

    def _pack(self, view: View) -> tuple[Ints, Ints, Packing]:
        """(replica, item) of the tasks in the window, sorted by learner, and where they stand in the stack."""
        replica, item = np.nonzero(view.tasks.valid)
        learner = self._learner_of(replica, view.tasks.origin[replica, item], view.tasks.shape[0])
        order = np.argsort(learner, kind="stable")
        return replica[order], item[order], packing_of(learner[order], self.n_learners)

    def _learner_of(self, replica: Ints, origin: Ints, n_replicas: int) -> Ints:
        seed = replica // (n_replicas // self.n_seeds)
        return seed * self._per_seed + (origin if self._per_seed > 1 else 0)

    def _latent_index(self, view: View, replica: Ints, item: Ints, packing: Packing) -> Ints | None:
        """[K, n] entry of the latent table: the task's index, in evaluation per trace."""
        entries = self.settings.latent_entries
        if entries == 0:
            return None
        trace = 0 if self.exploring else replica % (view.tasks.shape[0] // self.n_seeds)
        return packing.stacked(view.tasks.index[replica, item] % entries + trace * entries)

    def _sets(self, chosen: Array, origin: Ints) -> Bools:
        """Chosen actions [n] or gates [n, E] as sets of servers [n, E]; no open gate means the own server."""
        if self._table is not None:
            return self._table[origin, chosen]
        select = chosen.astype(np.bool_)
        none = np.flatnonzero(~select.any(1))
        select[none, origin[none]] = True
        return select

    def record(self, lo: Ints, origin: Ints, arrive_s: Floats) -> None:
        """Keep the window's decisions until their rewards and next observations are known. origin, arrive_s [R, N]."""
        new = self._decided
        task = lo[new["replica"]] + new.pop("item")
        new |= {"task": task, "station": origin[new["replica"], task], "arrive_s": arrive_s[new["replica"], task]}
        self._open = {k: np.concatenate([self._open[k], v]) for k, v in new.items()} if self._open else new

    def flush_transitions(self, reward: Floats, settled: Bools, scenario: Scenario) -> int:
        """Move tasks with a known reward [R, N] and a next task of their station into the memory; return how many."""
        if not self._open:
            return 0
        o = self._open
        order = np.lexsort((o["task"], o["station"], o["replica"]))
        here, after = order[:-1], order[1:]
        same = (o["replica"][here] == o["replica"][after]) & (o["station"][here] == o["station"][after])
        ready = same & _settled_so_far(settled[o["replica"], o["task"]][order], same)[:-1]
        here, after = here[ready], after[ready]
        by_learner = np.lexsort((o["task"][here], o["learner"][here]))
        here, after = here[by_learner], after[by_learner]
        self._store(here, after, reward, scenario)
        keep = np.ones(len(order), np.bool_)
        keep[here] = False
        self._open = {k: v[keep] for k, v in o.items()}
        return len(here)

    def _store(self, here: Ints, after: Ints, reward: Floats, scenario: Scenario) -> None:
        """Put transitions from the open decisions `here`, sorted by learner, to those `after` into the memory."""
        o, packing = self._open, packing_of(self._open["learner"][here], self.n_learners)
        flat = {
            "obs": o["obs"][here],
            "action": o["action"][here],
            "reward": reward[o["replica"][here], o["task"][here]].astype(np.float32),
            "discount": self._discount(o["arrive_s"], here, after, scenario).astype(np.float32),
            "next_obs": self._next_obs(here, after, scenario),
        }
        if "latent" in o and self.agent.keeps_latent:
            flat |= {"latent": o["latent"][here], "next_latent": o["latent"][after]}
        check_seen("a reward", flat["reward"], packing.learner, self._per_seed, _REWARDED)
        self.memory.add(Batch(**{key: packing.stacked(value) for key, value in flat.items()}), packing.count)

    def _discount(self, arrive_s: Array, here: Ints, after: Ints, scenario: Scenario) -> Array:
        """[n] weight of the value after each transition: gamma per slot of time, per task in published worlds."""
        gamma = self.settings.learning.gamma
        if scenario.published:
            return np.full(len(here), gamma)
        discount: Array = gamma ** ((arrive_s[after] - arrive_s[here]) / scenario.slot_s)
        return discount

    def _next_obs(self, here: Ints, after: Ints, scenario: Scenario) -> Array:
        """[n, O] observation at the end of each transition."""
        next_obs: Array = self._open["obs"][after]
        if self.settings.learning.next_queues == "zero":
            slot = np.floor(self._open["arrive_s"] / scenario.slot_s + 1e-9)
            next_obs[slot[after] > slot[here], -scenario.n_servers :] = 0.0
        return next_obs

    def weights(self) -> dict[str, Tensor]:
        """What an evaluation needs: the agent's weights and, where it has them, the latent actions."""
        kept = self.agent.latent if self._kept_latent is None else self._kept_latent
        return self.agent.weights() | ({} if kept is None else {LATENT: torch.from_numpy(kept.copy())})

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what `weights` gave. ValueError on other names or shapes."""
        latent, mine = weights.get(LATENT), self.agent.latent
        if (None if latent is None else tuple(latent.shape)) != (None if mine is None else mine.shape):
            raise ValueError("the latent actions are missing or of another shape")
        self.agent.load_weights({name: tensor for name, tensor in weights.items() if name != LATENT})
        if latent is not None:
            self.agent.latent, self._kept_latent = latent.numpy().copy(), None

    def state_dict(self) -> LearnerState:
        """Everything that evolves in training, between two windows."""
        agent, in_use = self.agent, self.agent.latent
        if self._kept_latent is not None:  # amid an evaluation, which has a table of its own
            agent.latent = self._kept_latent
        of_agent = agent.state_dict()  # with the generators
        agent.latent = in_use
        return {
            "agent": of_agent,
            "memory": self.memory.state_dict(),
            "open": {name: torch.from_numpy(value) for name, value in self._open.items()},
            "slots": self.slots,
            "updates": self.updates,
        }

    def load_state_dict(self, state: LearnerState) -> None:
        """Train on from what `state_dict` gave. ValueError on other names or shapes."""
        self.start_episode()
        self.agent.load_state_dict(state["agent"])
        self.memory.load_state_dict(state["memory"])
        self._open = {name: value.numpy().copy() for name, value in state["open"].items()}
        self.slots, self.updates = state["slots"], state["updates"]

    def update(self, progress: float = 0.0) -> dict[str, Array]:
        """The updates that are due at the end of a slot; the last one's metrics [K], none if nothing was due.

        `progress` in [0, 1] of the training tells the learning rates.
        """
        self.slots += 1
        learning = self.settings.learning
        due = self.slots >= learning.start_slots and self.slots % learning.every_slots == 0
        if not due or not self.memory.ready(learning.batch):
            return {}
        metrics: dict[str, Array] = {}
        rate = 1.0 + (learning.lr_final - 1.0) * progress
        for _ in range(learning.updates):
            metrics = self.agent.update(self.memory.sample(learning.batch, self._generators).tensors(), rate)
            self.updates += 1
            check_update(self.agent, metrics, self.updates, self._per_seed, "station")
        return metrics


def _agent(settings: LearnedSettings, spaces: Spaces, generators: Generators) -> Agent:
    """An agent with a learner per generator. InputError where its settings do not fit, or it is too large."""
    numbers, n_learners = agent_settings(settings.agent), len(generators)
    _check_size(settings, spaces, numbers.hidden, n_learners)
    try:
        return build_agent(spaces, [numbers] * n_learners, generators)
    except ValueError as error:
        raise InputError(f"scheduler.{error}") from None


def _settled_so_far(settled: Bools, same: Bools) -> Bools:
    """[n] tasks settled with all before them at their station; same [n - 1]: the next is of the same station."""
    open_so_far = np.cumsum(~settled)
    first = np.append(True, ~same)
    before = np.maximum.accumulate(np.where(first, open_so_far - ~settled, 0))
    so_far: Bools = open_so_far == before
    return so_far


def _distribution(settings: ActionSettings, scenario: Scenario) -> tuple[Bools | None, ActionDistribution]:
    """(action table [B, A, E] or None for gates, the agent's distribution)."""
    try:
        if settings.name == "gates":
            return None, Gates(scenario.n_servers)
        if settings.name == "top_k":
            return None, Gates(scenario.n_servers, settings.k or 0)
        table = actions.table(settings.name, scenario.home, scenario.n_stations, settings.k)
    except ValueError as error:
        key, _, text = str(error).partition(": ")
        yaml_key = {"actions": "name", "gates": "k"}.get(key, key)
        raise InputError(f"scheduler.actions.{yaml_key}: {text}") from None
    return table, Categorical(table.shape[1])


def _prior(settings: LearnedSettings, scenario: Scenario) -> tuple[float, ...] | None:
    """Logits of the servers' shares of the capacity where learning starts there. InputError where it cannot."""
    if settings.start == "random":
        return None
    if settings.actions.name != "single" or settings.agent.get("name") not in ("sac", "dsac"):
        raise InputError("scheduler.start: capacity needs scheduler.actions single and an agent sac or dsac")
    share = scenario.speed_gcps / scenario.speed_gcps.sum()
    return tuple(np.log(share).tolist())


def _check_size(settings: LearnedSettings, spaces: Spaces, hidden: Sequence[int], n_learners: int) -> None:
    """InputError where memory or weights would take more than MAX_GB; before any of it is taken."""
    n_logits = spaces.distribution.n_logits
    transition = 2 * (spaces.n_obs + n_logits) + 4
    layers = [spaces.n_obs + n_logits + 1, *hidden, max(n_logits, spaces.distribution.n_q)]
    weights = sum(rows * columns for rows, columns in pairwise(layers))
    per_choice = 0
    if settings.agent.get("loss") == "denoising":  # every action is noised and denoised
        per_choice = n_logits * (6 * n_logits + 2 * sum(hidden))
    numbers = {
        "scheduler.learning.memory": transition * settings.learning.memory,
        "scheduler.learning.batch": (transition + sum(layers) + per_choice) * settings.learning.batch,
        "scheduler.agent.hidden": _COPIES * weights,
        "scheduler.latent_entries": n_logits * settings.latent_entries,
    }
    for key, count in numbers.items():
        if 4e-9 * count * n_learners > MAX_GB:
            text = f"for {n_learners} learners it takes {4e-9 * count * n_learners:.3g} GB, at most {MAX_GB} GB"
            raise InputError(f"{key}: {text}")
