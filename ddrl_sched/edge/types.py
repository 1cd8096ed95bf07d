"""The records of the world. One legend of axes and units for the whole program.

Axes: R replicas (seed x trace), N tasks of a replica in service order (padded), E servers, B stations,
      C pieces of a piecewise constant speed, S candidate sets of servers.
Units end the names: _s seconds, _mbit megabit, _mbps megabit per second, _gcycle 1e9 cycles, _gcps 1e9 cycles a second.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.edge.env_settings import SINGLE_RULES

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
T = TypeVar("T")
G = TypeVar("G", bound=np.generic)


@dataclass(frozen=True)
class Scenario:
    """Stations, servers, network and clock of one world. A station owns one server or none; a server may have none."""

    name: str
    rule: str  # "clean", or the published rule set (edge/published.py) that computes delays here
    speed_gcps: Floats  # [E]
    home: Ints  # [E] station that owns the server, -1: none
    link_mbps: Floats  # [B, E] from station b to server e, inf where local
    link_latency_s: Floats  # [B, E], 0 where local
    return_mbps: Floats  # [B, E] from server e back to station b, inf where local
    return_latency_s: Floats  # [B, E], 0 where local
    port: str  # "shared": one FIFO port per station; "per_link": a FIFO link of its own to every server
    slot_s: float  # unit of time of discounting and of slotted workloads
    announce_s: float  # all servers publish their promised work at every multiple of this
    probe_s: float  # cost of probing one server (querying its exact backlog), beside the round trip
    warm_up_s: float  # tasks that arrive earlier are served, not counted
    horizon_s: float  # no task arrives later; counted tasks are followed to their end
    network_sha256: str = ""  # content of the file that the links come from; "" where they come from none

    @property
    def published(self) -> bool:
        """Whether a published rule computes delays here."""
        return self.rule != "clean"

    @property
    def single(self) -> bool:
        """Whether a published rule does that sends every task to one server."""
        return self.rule in SINGLE_RULES

    @property
    def n_servers(self) -> int:
        """E."""
        return len(self.speed_gcps)

    @property
    def n_stations(self) -> int:
        """B."""
        return len(self.link_mbps)

    @property
    def own_server(self) -> Ints:
        """[B] the server of each station, -1: none."""
        own = np.full(self.n_stations, -1, np.int64)
        owned = np.flatnonzero(self.home >= 0)
        own[self.home[owned]] = owned
        return own

    @property
    def paired(self) -> bool:
        """Whether station b owns server b, for all of both."""
        return self.n_stations == self.n_servers and bool((self.home == np.arange(self.n_servers)).all())


class Tasks(NamedTuple):
    """R traces of tasks, each in the order in which they are decided (arrive_s never decreases along N)."""

    origin: Ints  # [R, N] station where the task arrives
    index: Ints  # type: ignore[assignment]  # [R, N] number of the task among those of its station in its slot (the n of the published rules)
    arrive_s: Floats  # [R, N]
    input_mbit: Floats  # [R, N] sent with the shares, x times the input for a share x
    result_mbit: Floats  # [R, N] returned, x times the result for a share x
    work_gcycle: Floats  # [R, N] divisible work
    overhead_gcycle: Floats  # [R, N] paid by every used share
    units: Ints  # [R, N] indivisible units (images); 0 = freely divisible
    deadline_s: Floats  # [R, N]
    valid: Bools  # [R, N] False on padding, which stands at the end
    speed_change_s: Floats  # [R, E, C] start of each piece of the servers' speed factor, first 0
    speed_factor: Floats  # [R, E, C] > 0; 1 = nominal speed

    @property
    def shape(self) -> tuple[int, int]:
        """(R, N)."""
        return (self.origin.shape[0], self.origin.shape[1])

    def replicas(self, chosen: slice | Ints | Bools) -> "Tasks":
        """The same record with only some replicas (any numpy index of the first axis that keeps it an axis)."""
        return Tasks._make(array[chosen] for array in self)


@dataclass(frozen=True)
class Decision:
    """What a scheduler answers: a rule that the kernel of the world carries out. Arrays are read only.

    choice: "given"  the set `select` (with `share`, if given, the shares too)
            "best"   the candidate set with the least estimated objective
            "wrr"    the server with the least own placed work relative to its weight
    info:   what estimates the choice rests on: static | announced | own | like_own | tracked | probed | running
            ("like_own" knows as much as "own" and takes all servers to be as busy as the station's own)
    split_info: the same for the shares (None = info); "probed" is exact on probed servers, `info` elsewhere
    """

    choice: str
    info: str
    split: str = "whole"  # whole | proportional | cwa | hecwa | water_filling | equal_finish | given
    split_info: str | None = None
    select: Bools | None = None  # [R, N, E] given set, or the servers that "best" may use
    share: Floats | None = None  # [R, N, E] for split "given": non-negative, sums to one
    candidates: Bools | None = None  # [B, S, E] sets that "best" compares, per station
    objective: str = "finish"  # "finish" (make-span estimate + prices) or "wait" (least backlog: JSQ)
    probe: Bools | None = None  # [R, N, E] servers probed before the choice
    probe_selected: bool = False  # probe the selected servers before the split
    price_s: Floats | None = None  # [R, N, E] price of a unit share on a server
    use_price_s: Floats | None = None  # [R, N] price of every used share
    congestion: Floats | None = None  # [R, N] kappa: use price kappa x overhead / F x (1 + backlog / mean_work_gcycle)
    mean_work_gcycle: float = 1.0  # of the workload, for `congestion`
    unseen_work_factor: Floats | None = (
        None  # [R, N] factor on the own work since the announcement in tracked waits; None = 1
    )
    own_work_price: Floats | None = None  # [R, N] price of a server per second of own work ever placed on it
    min_wait_ratio: Floats | None = (
        None  # [R, N] servers not known exactly are at least so many times as busy as the own one
    )
    weight: str = "own"  # of "wrr": "own" = speeds, all placed work; "quota" = announced free capacity, since then


class Outcome(NamedTuple):
    """What became of the tasks. Times in seconds after arrival; delay = wait + transfer + compute + return.

    The four parts are those of the share that ended last. NaN on padding and on tasks that were not decided yet.
    The last two fields are a record that is kept on request, of clean worlds; of size 0 otherwise.
    """

    share: Floats  # [R, N, E]
    wait_s: Floats  # [R, N] probing, port and server queues
    transfer_s: Floats  # [R, N]
    compute_s: Floats  # [R, N]
    return_s: Floats  # [R, N]
    delay_s: Floats  # [R, N]
    late: Bools  # [R, N] delay_s > deadline_s
    probes: Ints  # [R, N] servers probed
    timing_s: Floats  # [R, N, E, 4] moments of each used share: sent, at the server, served from, to; or of size 0
    occupancy_s: Floats  # [R, E, T, 2] seconds in T equal parts of the horizon: serving, and summed over shares there


def locked(array: NDArray[G]) -> NDArray[G]:
    """The same numbers, not copied, as an array that cannot be written to, nor be made writable (ValueError)."""
    return np.asarray(array.data.toreadonly())  # of a mere read-only view numpy would unlock the owner


def read_only(record: T) -> T:
    """A dataclass or NamedTuple whose arrays are `locked`, those of records inside it too."""
    if isinstance(record, tuple):
        return type(record)(*map(_read_only_value, record))
    changed = {f.name: _read_only_value(getattr(record, f.name)) for f in fields(record)}  # type: ignore[arg-type]
    return replace(record, **changed)  # type: ignore[type-var]


def _read_only_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return locked(value)
    return read_only(value) if is_dataclass(value) or isinstance(value, tuple) else value
