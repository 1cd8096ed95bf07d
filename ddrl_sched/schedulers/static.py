"""Schedulers that look at no backlog when they choose: local, random, in turn, a static split, local + random one."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools, Decision
from ddrl_sched.schedulers.base import View


@dataclass(frozen=True)
class Local:
    """Every task stays whole at the station where it arrives."""

    info: ClassVar[str] = "static"
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """One server per task: the station's own. InputError if a station has none."""
        own = view.scenario.own_server
        if (own < 0).any():
            text = f"station {int(np.argmin(own))} has no server of its own (env.stations.home)"
            raise InputError(f"scheduler.name: local keeps tasks at their station, and {text}")
        return whole(own[view.tasks.origin], view.scenario.n_servers)


@dataclass(frozen=True)
class RandomServer:
    """The whole task to a server drawn with a probability that is equal or proportional to its speed."""

    weights: Literal["equal", "speed"]
    info: ClassVar[str] = "static"
    cadence: ClassVar[str] = "trace"
    draws: ClassVar[bool] = True  # random numbers: evaluations repeat it

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """One drawn server per task."""
        speed_gcps = view.scenario.speed_gcps
        weights = speed_gcps if self.weights == "speed" else np.ones_like(speed_gcps)
        servers = rng.choice(len(weights), size=view.tasks.shape, p=weights / weights.sum())
        return whole(servers, len(weights))


@dataclass(frozen=True)
class RoundRobin:
    """Every station goes round the servers, the whole task to the next one, beginning with its own."""

    info: ClassVar[str] = "static"
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """One server per task: station + number of the task among those of the station, modulo E."""
        assert view.earlier is not None
        n_servers = view.scenario.n_servers
        return whole((view.tasks.origin + view.earlier.own) % n_servers, n_servers)


@dataclass(frozen=True)
class SplitCapacity:
    """Every task over all servers, shares proportional to their speeds."""

    info: ClassVar[str] = "static"
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """All servers with given shares."""
        speed_gcps = view.scenario.speed_gcps
        shape = (*view.tasks.shape, len(speed_gcps))
        share = np.broadcast_to(speed_gcps / speed_gcps.sum(), shape).copy()
        return Decision("given", self.info, split="given", select=np.ones(shape, dtype=bool), share=share)


@dataclass(frozen=True)
class RandCoEdge:
    """The own server and one drawn from all servers (its own drawn: local alone), split after probing.

    A baseline of AMCoEdge (C. Xu et al. 2024).
    """

    split: Literal["whole", "proportional", "cwa", "hecwa", "water_filling", "equal_finish"]
    info: ClassVar[str] = "probed"
    cadence: ClassVar[str] = "trace"
    draws: ClassVar[bool] = True  # random numbers: evaluations repeat it

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """Given sets {origin, drawn}; the drawn server is probed for the shares."""
        n_servers = view.scenario.n_servers
        drawn = rng.integers(n_servers, size=view.tasks.shape)
        select = view.local | one_hot(drawn, n_servers)
        return Decision("given", "own", split=self.split, split_info="probed", select=select, probe_selected=True)


def whole(servers: np.ndarray, n_servers: int) -> Decision:
    """Decision that sends every task whole to servers[R, M], chosen without any backlog."""
    return Decision("given", "static", split="whole", select=one_hot(servers, n_servers))


def one_hot(servers: np.ndarray, n_servers: int) -> Bools:
    """Bool [R, M, E], True at the server of servers[R, M]."""
    return servers[..., None] == np.arange(n_servers)
