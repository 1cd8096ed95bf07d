"""The learned family: an action table, an agent and a split rule make a scheduler; seeds and stations are stacked."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ddrl_sched.agents.base import Agent, Batch, Spaces
from ddrl_sched.agents.distributions import ActionDistribution, Categorical, Gates
from ddrl_sched.agents.finite import AnswerError, check_seen, check_update
from ddrl_sched.agents.replay_buffer import Replay
from ddrl_sched.config import LARGEST, InputError, Settings, near, shown, validate, validate_record
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Scenario
from ddrl_sched.provenance import without_provenance
from ddrl_sched.schedulers import actions
from ddrl_sched.schedulers.base import View

MAX_GB = 32  # of replay memory, of weights, ...
_COPIES = 9  # networks and their targets, gradients and moments of Adam
_LONGEST = 1e6  # no deadline looks like one of so many time_s
_OBSERVED = "scheduler.observation, env"  # keys that decide how large an observation is
_REWARDED = "scheduler.learning.reward_scale_s, env, workload.load"  # and a reward
LATENT = "latent_actions"  # among the weights
Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class ActionSettings(Settings):
    """Which sets of servers may be chosen."""

    name: Literal["single", "local_plus_one", "exactly_k", "top_k", "any_subset", "gates"]
    k: Count | None  # of exactly_k and top_k


class ObservationSettings(Settings):
    """Fixed constants: clean worlds are observed as log(1 + value / constant), published ones raw."""

    size_mbit: Positive
    work_gcycle: Positive
    time_s: Positive  # of sending and computing a whole task, and of the deadline
    wait_s: Positive


class LearningSettings(Settings):
    """How experience becomes updates."""

    gamma: Annotated[float, Field(ge=0.0, lt=1.0)]  # per task in published worlds, per slot_s of time in clean ones
    memory: Count  # transitions kept per learner
    batch: Count  # transitions per update and learner
    every_slots: Count  # slots (those that hold a task) between rounds of updates
    updates: Count  # updates per round
    start_slots: Annotated[int, Field(ge=0, le=10**9)]  # slots before the first update
    reward: Literal["own", "team"]  # minus the task's delay, or minus the mean delay of all stations in its slot
    reward_shape: Literal["linear", "log"]  # of the delay, in units of reward_scale_s; log: log(1 + delay)
    reward_scale_s: Positive  # delay that counts as 1 (published worlds: rewards as published)
    # queues in the next state of a station's last task of a slot; zero: a fault of the published single-server code
    next_queues: Literal["observed", "zero"] = "observed"
    lr_final: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0  # fraction of all learning rates at the end, linear to it


class LearnedSettings(Settings):
    """One member of the learned family."""

    name: Literal["learned"]
    info: Literal["announced", "tracked", "probed"]
    choose: Literal["announced", "tracked"]  # what the choice of the set rests on; "probed" adds exact splits
    sharing: Literal["per_station", "shared"]
    split: Literal["by_world", "whole", "proportional", "cwa", "hecwa", "water_filling", "equal_finish"]
    decisions: Literal["greedy", "sample"]  # in evaluation: the most probable action, or drawn from the policy
    latent_entries: Annotated[int, Field(ge=0, le=10**6)]  # task indices that keep a latent action of their own
    # policy before learning: that of random weights, or (actions single, sac and dsac) servers drawn by their capacity
    start: Literal["random", "capacity"] = "random"
    actions: ActionSettings
    observation: ObservationSettings
    learning: LearningSettings
    agent: dict[str, Any]


def learned_settings(data: Mapping[str, Any]) -> LearnedSettings:
    """The yaml of a learned scheduler, checked, its agent's numbers included. Raises InputError."""
    settings = validate(LearnedSettings, without_provenance(data), "scheduler")
    agent_settings(settings.agent)
    if settings.latent_entries > 0 and settings.sharing == "shared":
        raise InputError("scheduler.latent_entries: must be 0 with shared weights (a task index is a station's own)")
    if settings.decisions == "sample" and settings.agent["name"] == "dqn":
        raise InputError("scheduler.decisions: must be greedy for dqn, which has no policy to draw from")
    if settings.info != "probed" and settings.info != settings.choose:
        raise InputError(f"scheduler.choose: must be {settings.info} (scheduler.info) unless that is probed")
    if (settings.actions.name in ("exactly_k", "top_k")) != (settings.actions.k is not None):
        raise InputError("scheduler.actions.k: wanted for exactly_k and top_k, null for the others")
    return settings


def agent_settings(data: Mapping[str, Any]) -> tuple[Any, Any]:
    """(constructor, settings record) of the agent group. Raises InputError naming scheduler.agent keys."""
    from ddrl_sched.agents.dqn import DQN, DQNSettings
    from ddrl_sched.agents.dsac import DSACSettings, dsac
    from ddrl_sched.agents.sac import SACSettings, sac

    agents: dict[str, tuple[Any, Any]] = {
        "dqn": (DQN, DQNSettings),
        "sac": (sac, SACSettings),
        "dsac": (dsac, DSACSettings),
    }
    name = data.get("name")
    if not isinstance(name, str) or name not in agents:
        raise InputError(
            f"scheduler.agent.name: expected one of {', '.join(agents)}, got {shown(name)}{near(name, agents)}"
        )
    build, cls = agents[name]
    try:
        return build, validate_record(cls, {k: v for k, v in data.items() if k != "name"}, "scheduler.agent")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"scheduler.{error}") from None


class Learner:
    """A learned scheduler: K = seeds x stations learners (shared weights: K = seeds), seed-major, and their memory.

    Replica r of a View belongs to seed r // (R / seeds).
    """

    def __init__(
        self,
        settings: LearnedSettings,
        scenario: Scenario,
        n_seeds: int,
        generators: Sequence[np.random.Generator],
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
        spaces = Spaces(_n_observed(scenario, settings), distribution, settings.latent_entries, prior)
        build, numbers = agent_settings(settings.agent)
        _check_size(settings, spaces, numbers.hidden, self.n_learners)
        try:
            self.agent: Agent = build(spaces, numbers, list(generators))
        except ValueError as error:
            raise InputError(f"scheduler.{error}") from None
        self._generators = list(generators)
        self._drawn_by = self._generators
        self.memory = Replay(self.n_learners, settings.learning.memory, spaces, keeps_latent=self.agent.keeps_latent)
        self._open: dict[str, NDArray[Any]] = {}
        self._kept_latent: NDArray[Any] | None = None  # of training, while an evaluation uses copies
        self.slots = 0
        self.updates = 0
        self._decided: dict[str, NDArray[Any]] = {}

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
        obs = observe(view, self.settings, self.choose_info)
        replica, item, learner, place, count = self._pack(view)
        packed = np.zeros((self.n_learners, int(count.max(initial=0)), obs.shape[-1]), np.float32)
        packed[learner, place] = obs[replica, item]
        check_seen("an observation", obs[replica, item], learner, self._per_seed, _OBSERVED)
        index = self._latent_index(view, packed.shape[:2], replica, item, learner, place)
        drawn = self.exploring or self.settings.decisions == "sample"
        try:
            acted = self.agent.act(packed, count, drawn, index, self._drawn_by)
        except AnswerError as error:
            raise error.at(self._per_seed, self.updates) from None
        chosen = acted.action[learner, place]
        select = np.zeros((*view.tasks.shape, view.scenario.n_servers), np.bool_)
        select[replica, item] = self._sets(chosen, view.tasks.origin[replica, item])
        self._decided = {
            "replica": replica,
            "item": item,
            "learner": learner,
            "obs": packed[learner, place],
            "action": chosen,
        }
        if acted.latent is not None:
            self._decided["latent"] = acted.latent[learner, place]
        return self._decision(view, select)

    def _decision(self, view: View, select: Bools) -> Decision:
        probing = self.info == "probed"
        split = self.settings.split
        if split == "by_world":
            one = self.settings.actions.name == "single"
            split = "whole" if one else "equal_finish" if not view.scenario.published else "cwa"
        return Decision(
            choice="given",
            info=self.choose_info,
            split=split,
            split_info="probed" if probing else None,  # in published worlds that is the running work
            select=select,
            probe_selected=probing and not view.scenario.published,
        )

    def _pack(self, view: View) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Where the tasks of the window stand: (replica, item) in the window, (learner, place) in the stack, counts."""
        replica, item = np.nonzero(view.tasks.valid)
        learner = self._learner_of(replica, view.tasks.origin[replica, item], view.tasks.shape[0])
        order = np.argsort(learner, kind="stable")
        replica, item, learner = replica[order], item[order], learner[order]
        count = np.bincount(learner, minlength=self.n_learners)
        place = np.arange(len(learner)) - np.repeat(np.cumsum(count) - count, count)
        return replica, item, learner, place, count

    def _learner_of(self, replica: Ints, origin: Ints, n_replicas: int) -> Ints:
        seed = replica // (n_replicas // self.n_seeds)
        return seed * self._per_seed + (origin if self._per_seed > 1 else 0)

    def _latent_index(
        self, view: View, shape: tuple[int, int], replica: Ints, item: Ints, learner: Ints, place: Ints
    ) -> Ints | None:
        """[K, n] entry of the latent table: the task's index, in evaluation per trace."""
        entries = self.settings.latent_entries
        if entries == 0:
            return None
        index = np.zeros(shape, np.int64)
        trace = 0 if self.exploring else replica % (view.tasks.shape[0] // self.n_seeds)
        index[learner, place] = view.tasks.index[replica, item] % entries + trace * entries
        return index

    def _sets(self, chosen: NDArray[Any], origin: Ints) -> Bools:
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
        new |= {
            "task": task,
            "station": origin[new["replica"], task],
            "arrive_s": arrive_s[new["replica"], task],
        }
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
        o, learner = self._open, self._open["learner"][here]
        count = np.bincount(learner, minlength=self.n_learners)
        place = np.arange(len(here)) - np.repeat(np.cumsum(count) - count, count)
        gamma = self.settings.learning.gamma
        if not scenario.published:
            discount = gamma ** ((o["arrive_s"][after] - o["arrive_s"][here]) / scenario.slot_s)
        else:
            discount = np.full(len(here), gamma)
        next_obs = o["obs"][after]
        if self.settings.learning.next_queues == "zero":
            slot = np.floor(o["arrive_s"] / scenario.slot_s + 1e-9)
            next_obs[slot[after] > slot[here], -scenario.n_servers :] = 0.0
        flat = {
            "obs": o["obs"][here],
            "action": o["action"][here],
            "reward": reward[o["replica"][here], o["task"][here]].astype(np.float32),
            "discount": discount.astype(np.float32),
            "next_obs": next_obs,
        }
        if "latent" in o and self.agent.keeps_latent:
            flat |= {"latent": o["latent"][here], "next_latent": o["latent"][after]}
        check_seen("a reward", flat["reward"], learner, self._per_seed, _REWARDED)
        packed = {}
        for key, value in flat.items():
            packed[key] = np.zeros((self.n_learners, int(count.max(initial=0)), *value.shape[1:]), value.dtype)
            packed[key][learner, place] = value
        self.memory.add(Batch(**packed), count)

    def weights(self) -> dict[str, Any]:
        """What an evaluation needs: the agent's weights and, where it has them, the latent actions."""
        kept = self.agent.latent if self._kept_latent is None else self._kept_latent
        return self.agent.weights() | ({} if kept is None else {LATENT: torch.from_numpy(kept.copy())})

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Take over what `weights` gave. ValueError on other names or shapes."""
        weights = dict(weights)
        latent = weights.pop(LATENT, None)
        mine = self.agent.latent
        if (latent is None) != (mine is None) or (mine is not None and tuple(latent.shape) != mine.shape):
            raise ValueError("the latent actions are missing or of another shape")
        self.agent.load_weights(weights)
        if latent is not None:
            self.agent.latent, self._kept_latent = latent.numpy().copy(), None

    def state_dict(self) -> dict[str, Any]:
        """Everything that evolves in training, between two windows, as tensors and plain data."""
        agent, looking = self.agent, self.agent.latent
        if self._kept_latent is not None:  # amid a look without exploration
            agent.latent = self._kept_latent
        of_agent = agent.state_dict()  # with the generators
        agent.latent = looking
        return {
            "agent": of_agent,
            "memory": self.memory.state_dict(),
            "open": {name: torch.from_numpy(value) for name, value in self._open.items()},
            "slots": self.slots,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Train on from what `state_dict` gave. ValueError on other names or shapes."""
        self.start_episode()
        self.agent.load_state_dict(state["agent"])
        self.memory.load_state_dict(state["memory"])
        self._open = {name: value.numpy().copy() for name, value in state["open"].items()}
        self.slots, self.updates = state["slots"], state["updates"]

    def update(self, progress: float = 0.0) -> dict[str, NDArray[Any]]:
        """The updates that are due at the end of a slot; the last one's metrics [K], none if nothing was due.

        `progress` in [0, 1] of the training tells the learning rates.
        """
        self.slots += 1
        learning = self.settings.learning
        due = self.slots >= learning.start_slots and self.slots % learning.every_slots == 0
        if not due or not self.memory.ready(learning.batch):
            return {}
        metrics: dict[str, NDArray[Any]] = {}
        rate = 1.0 + (learning.lr_final - 1.0) * progress
        for _ in range(learning.updates):
            metrics = self.agent.update(self.memory.sample(learning.batch, self._generators).tensors(), rate)
            self.updates += 1
            check_update(self.agent, metrics, self.updates, self._per_seed)
        return metrics


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


def _n_observed(scenario: Scenario, settings: LearnedSettings) -> int:
    if scenario.published:
        return scenario.n_servers + (2 if scenario.single else 1)
    return 6 + (4 if settings.sharing == "shared" else 3) * scenario.n_servers


def observe(view: View, settings: LearnedSettings, info: str) -> NDArray[np.float32]:
    """What the learners see of every task, [R, M, O].

    Published worlds: [d, Q_1..Q_B] (single server: [d, w, Q_1..Q_B]) in Mbit and Gcycle, as published.
    Clean worlds: size, work, overhead, result, deadline, age of the announcement, then per server the wait as the
    class knows it, the time of computing and of sending the whole task; shared weights also see which server is local.
    """
    tasks, scenario, scale = view.tasks, view.scenario, settings.observation
    assert view.wait_s is not None
    assert view.age_s is not None
    wait_s: Floats = view.wait_s
    if scenario.published:
        own = [tasks.input_mbit, tasks.work_gcycle] if scenario.single else [tasks.input_mbit]
        queue_gcycle = wait_s * scenario.speed_gcps
        return np.concatenate([np.stack(own, -1), queue_gcycle], -1).astype(np.float32)
    task = np.stack(
        [
            np.log1p(tasks.input_mbit / scale.size_mbit),
            np.log1p(tasks.work_gcycle / scale.work_gcycle),
            np.log1p(tasks.overhead_gcycle / scale.work_gcycle),
            np.log1p(tasks.result_mbit / scale.size_mbit),
            np.log1p(np.minimum(tasks.deadline_s / scale.time_s, _LONGEST)),
            view.age_s / scenario.announce_s,
        ],
        -1,
    )
    per_server = [
        np.log1p(wait_s / scale.wait_s),
        np.log1p(view.work_s / scale.time_s),
        np.log1p(view.send_s / scale.time_s),
    ]
    if settings.sharing == "shared":
        per_server.append(view.local.astype(np.float64))
    return np.concatenate([task, *per_server], -1).astype(np.float32)
