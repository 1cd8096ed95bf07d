"""Schedulers that choose a set of servers by estimated finish, with or without a price for using servers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.special import gammainc

from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools, Decision, Floats, Tasks
from ddrl_sched.schedulers.actions import MAX_ROWS, n_actions, table
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.fixed import rank_at_station

Split = Literal["proportional", "cwa", "hecwa", "water_filling", "equal_finish"]
Info = Literal["static", "announced", "own", "tracked", "probed", "running"]
MAX_SETS_OF_K = 1140  # all sets of 3 out of 20


@dataclass(frozen=True)
class AllServers:
    """Offer every task to all servers; the split decides what each gets. With info "probed" all servers are asked."""

    split: Split
    info: Info
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The set of all servers."""
        everyone = all_servers(view)
        probe = everyone if self.info == "probed" else None
        return Decision("given", self.info, split=self.split, select=everyone, probe=probe)


@dataclass(frozen=True)
class BestSet:
    """The set of an action table with the least estimated make-span plus congestion price.

    A used server costs congestion x overhead / sum of speeds x (1 + backlog / mean work): what its overhead takes
    from the tasks that follow. 0 is the myopic choice, which splits too much under load. With info "probed" the set
    rests on tracked estimates, its members are asked, and the shares are exact. Beyond MAX_ROWS sets `any_subset`
    compares the prefixes of the servers sorted by estimated single finish.
    """

    actions: Literal["single", "local_plus_one", "exactly_k", "any_subset"]
    k: Annotated[int, Field(ge=1)] | None
    split: Split
    info: Info
    congestion: Annotated[float, Field(ge=0)]
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The best set. Raises InputError for an impossible or too large `k`."""
        probed = self.info == "probed"
        return Decision(
            "best",
            "tracked" if probed else self.info,
            split=self.split,
            split_info="probed" if probed else None,
            candidates=candidate_sets(self.actions, view.scenario.n_servers, self.k),
            probe_selected=probed,
            congestion=self.congestion,
            mean_work_gcycle=view.mean_work_gcycle,
        )


@dataclass(frozen=True)
class PricedSlotted:
    """All servers, each with the price that a share has for the tasks of the slot that are still to be decided.

    price_s = price x ([s != b] N_b d/R_s (1 - f_b/F) + N_s w/f_s): N_j tasks are expected from station j in the rest
    of the slot, F is the sum of the speeds f. The first term is the port that later tasks of the own station b find
    busy, the second the server that its own station finds busy. Only for slotted workloads.
    """

    split: Split
    info: Info
    price: Annotated[float, Field(ge=0)]
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The set of all servers with prices. Raises InputError unless the workload is slotted."""
        if view.slot_tasks is None:
            raise InputError("scheduler: priced_slotted needs a slotted workload (tasks at the start of slots)")
        everyone = all_servers(view)
        return Decision(
            "given",
            self.info,
            split=self.split,
            select=everyone,
            probe=everyone if self.info == "probed" else None,
            price_s=self.price * externality_s(view, still_to_come(view, view.slot_tasks)),
        )


def all_servers(view: View) -> Bools:
    """Bool [R, M, E], all True."""
    return np.ones((*view.tasks.shape, view.scenario.n_servers), dtype=bool)


def candidate_sets(actions: str, n_servers: int, k: int | None) -> Bools | None:
    """Sets to compare, bool [B, S, E]; None stands for the prefixes of the servers sorted by single finish.

    Raises InputError naming the yaml key if `k` is impossible or makes more than MAX_SETS_OF_K sets.
    """
    if actions != "exactly_k" and k is not None:
        raise InputError(f"scheduler.k: only actions: exactly_k takes a number, expected null, got {k}")
    try:
        count = n_actions(actions, n_servers, k)
    except ValueError as error:
        raise InputError(f"scheduler.{error}") from None
    if actions == "exactly_k" and count > MAX_SETS_OF_K:
        text = f"{k} of {n_servers} servers make {count} sets, at most {MAX_SETS_OF_K} are compared"
        raise InputError(f"scheduler.k: {text}")
    if count > MAX_ROWS:
        return None
    return table(actions, n_servers, k)


def externality_s(view: View, coming: Floats) -> Floats:
    """Seconds [R, M, E] that a whole task on server s adds to the `coming` [R, M, B] tasks of the stations."""
    scenario, tasks = view.scenario, view.tasks
    speed_gcps, origin = scenario.speed_gcps, tasks.origin
    own = np.take_along_axis(coming, origin[..., None], axis=-1)
    send_s = tasks.input_mbit[..., None] / scenario.link_mbps[origin]
    remote = origin[..., None] != np.arange(scenario.n_servers)
    port_s = np.where(remote, own * send_s, 0.0) * (1.0 - speed_gcps[origin] / speed_gcps.sum())[..., None]
    return port_s + coming * tasks.work_gcycle[..., None] / speed_gcps


def still_to_come(view: View, slot_tasks: Floats) -> Floats:
    """Expected number of tasks [R, M, B] that each station still decides in the slot, after this one.

    slot_tasks[N] is the expected number at index n of one station. Station order: all of the later stations, the
    rest of the own one, none of the earlier ones.
    """
    if view.drawn_order:
        return _still_to_come_in_drawn_order(view.tasks, slot_tasks.sum(), view.scenario.n_servers)
    after = np.append(np.cumsum(slot_tasks[::-1])[::-1], 0.0)  # [N + 1] expected at this index or a later one
    stations, origin = np.arange(view.scenario.n_servers), view.tasks.origin[..., None]
    rest = after[view.tasks.index + 1][..., None]
    return np.where(stations > origin, after[0], np.where(stations == origin, rest, 0.0))


def _still_to_come_in_drawn_order(tasks: Tasks, expected: float, n_stations: int) -> Floats:
    """[R, M, B], the same for all stations: expected x (1 - u), u = the position in the slot given what a station saw.

    In a drawn order a task's position u in the slot is uniform on (0, 1), and its station has decided about
    Poisson(expected x u) tasks before it. Given k of them, u has the density of a gamma(k + 1) cut at 1, so
    E u = (k + 1)/m x P(k + 2, m)/P(k + 1, m) with m = expected and P the regularised incomplete gamma function.
    """
    k = np.arange(_rank_in_slot(tasks, n_stations).max(initial=0) + 1)
    mass = gammainc(k + 1.0, expected)
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = (k + 1.0) / expected * gammainc(k + 2.0, expected) / mass
    position = np.where(mass > 1e-200, exact, (k + 1.0) / (k + 2.0))  # k far above m: the density grows like u^k
    coming = expected * (1.0 - position)[_rank_in_slot(tasks, n_stations)]
    return np.repeat(coming[..., None], n_stations, axis=-1)


def _rank_in_slot(tasks: Tasks, n_stations: int) -> np.ndarray:
    """Number of tasks [R, M] of the same station that arrived together with a task and were decided before it."""
    rank = rank_at_station(tasks, n_stations)
    for station in range(n_stations):
        here = tasks.origin == station
        for replica in range(len(rank)):
            times, of = tasks.arrive_s[replica, here[replica]], rank[replica, here[replica]]
            rank[replica, here[replica]] = of - np.searchsorted(times, times, side="left")
    return rank
