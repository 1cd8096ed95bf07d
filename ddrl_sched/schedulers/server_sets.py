"""Schedulers that choose a set of servers by estimated finish, with or without a price for using servers."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Scenario
from ddrl_sched.schedulers.actions import MAX_ROWS, n_actions, table
from ddrl_sched.schedulers.base import View

Split = Literal["whole", "proportional", "cwa", "hecwa", "water_filling", "equal_finish"]
Info = Literal["static", "announced", "own", "tracked", "probed", "running"]
MAX_SETS_OF_K = 2300  # all sets of 3 out of 25: about a millisecond per task


@dataclass(frozen=True)
class AllServers:
    """Offer every task to all servers; the split decides what each gets. With info "probed" all servers are probed.

    With info "own" the others are taken to be as busy as the own server: where all offer their tasks to all, they are.
    """

    split: Split
    info: Info
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The set of all servers."""
        everyone = all_servers(view)
        probe = everyone if self.info == "probed" else None
        info = "like_own" if self.info == "own" else self.info
        return Decision("given", info, split=self.split, select=everyone, probe=probe)


@dataclass(frozen=True)
class BestSet:
    """The set of an action table with the least estimated make-span plus congestion price.

    A used server costs congestion x overhead / sum of speeds x (1 + backlog / mean work): what its overhead takes
    from the tasks that follow. 0 is the myopic choice, which splits too much under load. With info "probed", `ask` says
    which servers are probed: "selected" those of the set, which is chosen by tracked estimates, so that the shares are
    exact; "all" every server, before the choice. Beyond MAX_ROWS sets `any_subset` compares the prefixes of the servers
    sorted by estimated single finish.
    """

    actions: Literal["single", "local_plus_one", "exactly_k", "any_subset"]
    k: Annotated[int, Field(ge=1)] | None
    split: Split
    info: Info
    congestion: Annotated[float, Field(ge=0)]
    ask: Literal["selected", "all"]
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The best set. Raises InputError for an impossible or too large `k`."""
        probed = self.info == "probed"
        later = probed and self.ask == "selected"
        return Decision(
            "best",
            "tracked" if later else self.info,
            split=self.split,
            split_info="probed" if later else None,
            candidates=candidate_sets(self.actions, view.scenario, self.k),
            probe=all_servers(view) if probed and not later else None,
            probe_selected=later,
            congestion=np.full(view.tasks.shape, self.congestion) if self.congestion > 0 else None,
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
        coming = still_to_come(view, view.slot_tasks, see_all=self.info == "running")
        return Decision(
            "given",
            self.info,
            split=self.split,
            select=everyone,
            probe=everyone if self.info == "probed" else None,
            price_s=self.price * externality_s(view, coming),
        )


def all_servers(view: View) -> Bools:
    """Bool [R, M, E], all True."""
    return np.ones((*view.tasks.shape, view.scenario.n_servers), dtype=bool)


def candidate_sets(actions: str, scenario: Scenario, k: int | None) -> Bools | None:
    """Sets to compare, bool [B, S, E]; None stands for the prefixes of the servers sorted by single finish.

    Raises InputError naming the yaml key if `k` is impossible or makes more than MAX_SETS_OF_K sets.
    """
    if actions != "exactly_k" and k is not None:
        raise InputError(f"scheduler.k: only actions: exactly_k takes a number, expected null, got {k}")
    n_servers = scenario.n_servers
    try:
        count = n_actions(actions, n_servers, k)
    except ValueError as error:
        raise InputError(f"scheduler.{error}") from None
    if actions == "exactly_k" and count > MAX_SETS_OF_K:
        text = f"{k} of {n_servers} servers make {count} sets, at most {MAX_SETS_OF_K} are compared"
        raise InputError(f"scheduler.k: {text}")
    if count > MAX_ROWS:
        return None
    return table(actions, scenario.home, scenario.n_stations, k)


def externality_s(view: View, coming: Floats) -> Floats:
    """Seconds [R, M, E] that a whole task on server s adds to the `coming` [R, M, B] tasks of the stations."""
    scenario, tasks = view.scenario, view.tasks
    speed_gcps, origin = scenario.speed_gcps, tasks.origin
    own = np.take_along_axis(coming, origin[..., None], axis=-1)
    kept = np.where(scenario.own_server < 0, 0.0, speed_gcps[scenario.own_server])  # [B] speed of the own server
    port_s = own * view.send_s * (1.0 - kept[origin] / speed_gcps.sum())[..., None]
    return port_s + of_servers(scenario, coming) * tasks.work_gcycle[..., None] / speed_gcps


def of_servers(scenario: Scenario, coming: Floats) -> Floats:
    """[R, M, E] what is `coming` [R, M, B] at the station of each server, 0 where it has none."""
    found: Floats = np.where(scenario.home < 0, 0.0, coming[..., scenario.home])
    return found


def still_to_come(view: View, slot_tasks: Floats, see_all: bool) -> Floats:
    """Expected number of tasks [R, M, B] that each station still decides in the slot, after this one.

    slot_tasks[N] is the expected number at index n of one station. Station order: all of the later stations, the
    rest of the own one, none of the earlier ones. Drawn order: estimated from the number of tasks that were decided
    before in the slot, by all stations if `see_all`, else by the own one.
    """
    stations, origin = np.arange(view.scenario.n_stations), view.tasks.origin[..., None]
    if view.drawn_order:
        watched = len(stations) if see_all else 1
        assert view.earlier is not None
        before = view.earlier.all_now if see_all else view.earlier.own_now
        rest = slot_tasks.sum() * (1.0 - _position(before, watched * slot_tasks.sum()))[..., None]
        return np.repeat(rest, len(stations), axis=-1)
    after = np.append(np.cumsum(slot_tasks[::-1])[::-1], 0.0)  # [N + 1] expected at this index or a later one
    rest = after[view.tasks.index + 1][..., None]
    return np.where(stations > origin, after[0], np.where(stations == origin, rest, 0.0))


def _position(before: Ints, expected: float) -> Floats:
    """Mean position u in (0, 1) of a task in a slot of about `expected` tasks, `before` [R, M] of which were seen.

    In a drawn order u is uniform, and given u about Poisson(expected x u) tasks came before. Given k of them, u has
    the density of a gamma(k + 1) cut at 1: E u = (k + 1)/m x P(k + 2, m)/P(k + 1, m) with m = expected and P the
    regularised incomplete gamma function.
    """
    from scipy.special import gammainc  # lazy: only slotted worlds need it

    k = np.arange(before.max(initial=0) + 1)
    mass = gammainc(k + 1.0, expected)
    exact = (k + 1.0) / expected * gammainc(k + 2.0, expected) / np.maximum(mass, np.finfo(float).tiny)
    far = (k + 1.0) / (k + 2.0)  # k far above m: the density grows like u^k
    return np.where(mass > 1e-200, exact, far)[before]
