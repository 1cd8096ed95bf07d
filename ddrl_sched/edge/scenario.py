"""From the settings of an environment to a Scenario: speeds, links (also of real wired networks), clock.

Numbers that are drawn once for an environment (capacities, rates) come from named streams of a seed in its yaml; the
caller passes the function that makes them: `stream(seed, *names) -> numpy Generator`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ddrl_sched.config import InputError, clean
from ddrl_sched.edge.env_settings import (
    DrawnReceiverNetwork,
    EnvSettings,
    GraphNetwork,
    ListedServers,
    ReceiverNetwork,
    homes_of,
    is_matrix,
)
from ddrl_sched.edge.sizes import check_slots
from ddrl_sched.edge.topology import graph_links, n_stations
from ddrl_sched.edge.types import Floats, Ints, Scenario

MAX_SLOTS = 1e15  # of a horizon: they are counted exactly
NamedStream = Callable[..., np.random.Generator]  # (seed, *names) -> generator


@dataclass(frozen=True)
class Demand:
    """What a scenario must know of its workload (edge/workload.py makes it)."""

    load: float  # long-run offered work (without overhead) over the sum of speeds, in expectation
    mean_work_gcycle: float
    tasks_per_s: float  # of all stations together
    longest_s: float  # no trace is longer: the length of a window of a trace file; inf for synthetic arrivals
    memory_s: float  # relaxation time of the arrivals themselves (bursts); 0 for those without memory
    slotted: bool  # tasks arrive at the start of slots


def build_scenario(env: EnvSettings, demand: Demand, stream: NamedStream) -> Scenario:
    """The scenario of one environment under one workload (which decides the horizon). Raises InputError."""
    speed_gcps = server_speeds(env, stream)
    stations, homes = homes_of(env, len(speed_gcps))
    home = np.array(homes, dtype=np.int64)
    link_mbps, link_latency_s, network_sha256 = _links(env, stations, home, stream)
    returns_alike = not isinstance(env.network, GraphNetwork) and not is_matrix(env.network.rate_mbps)
    horizon = horizon_s(env, demand, speed_gcps)
    return Scenario(
        name=env.name,
        rule=env.rule,
        speed_gcps=speed_gcps,
        home=home,
        link_mbps=link_mbps,
        link_latency_s=link_latency_s,
        return_mbps=link_mbps if returns_alike else _back(link_mbps, home),
        return_latency_s=_back(link_latency_s, home),
        port=env.network.port,
        slot_s=float(env.clock.slot_s),
        announce_s=float(env.clock.announce_s),
        probe_s=float(env.clock.probe_s),
        warm_up_s=env.clock.warm_up * horizon,
        horizon_s=horizon,
        network_sha256=network_sha256,
    )


def server_speeds(env: EnvSettings, stream: NamedStream) -> Floats:
    """Nominal speeds [E], Gcycle/s: those of the yaml, or drawn integers. Raises InputError."""
    servers, network = env.servers, env.network
    n = len(servers.speed_gcps) if isinstance(servers, ListedServers) else servers.n
    if isinstance(network, GraphNetwork):
        stations = n_stations(network)
        if n is not None and n != stations:
            raise InputError(f"env.servers: there must be one server per node of {network.file} ({stations}), got {n}")
        n = stations
    if isinstance(servers, ListedServers):
        return np.array(servers.speed_gcps, dtype=np.float64)
    low, high = servers.speed_gcps
    return stream(servers.capacity_seed, "env", "speed_gcps").integers(low, high + 1, n).astype(np.float64)


def relaxation_s(speed_gcps: Floats, mean_work_gcycle: float, load: float) -> float:
    """Relaxation time of the servers as one queue: E[w] / (F (1 - sqrt(load))^2) seconds, F the sum of speeds [E].

    The time after which such a queue has mostly forgotten where it began; inf for load >= 1.
    """
    return math.inf if load >= 1 else mean_work_gcycle / (float(np.sum(speed_gcps)) * (1 - math.sqrt(load)) ** 2)


def horizon_s(env: EnvSettings, demand: Demand, speed_gcps: Floats) -> float:
    """Length of a trace in seconds: the yaml's, or the longest demand of clock.auto_horizon up to its cap.

    The automatic one is a whole number of slots, unless a trace file's windows are shorter. Raises InputError where
    slotted tasks meet a horizon that is no whole number of slots.
    """
    slot_s, given = env.clock.slot_s, env.clock.horizon_s
    longest_s = env.clock.auto_horizon.cap_s if given == "auto" and env.clock.auto_horizon else given
    if longest_s != "auto" and longest_s / slot_s > MAX_SLOTS:
        raise InputError(f"env.clock.slot_s: {slot_s:.6g} s is too short for a horizon of up to {longest_s:.6g} s")
    if given != "auto":
        check_slots(given, slot_s)
        if demand.slotted and abs(given / slot_s - round(given / slot_s)) > 1e-9:
            raise InputError(f"env.clock.horizon_s: must be a whole number of slots of {slot_s:.6g} s, got {given:.6g}")
        return float(given)
    auto = env.clock.auto_horizon
    assert auto is not None  # the settings see to it
    memory_s = max(relaxation_s(speed_gcps, demand.mean_work_gcycle, demand.load), demand.memory_s)
    needs = (
        auto.relaxations * memory_s if auto.relaxations > 0 else 0.0,
        auto.slots * slot_s,
        auto.counted_tasks / (demand.tasks_per_s * (1 - env.clock.warm_up)),
    )
    wanted_s = min(max(needs), auto.cap_s)
    check_slots(wanted_s, slot_s)
    most = math.floor(min(auto.cap_s / slot_s + 1e-9, 2.0**62))
    n_slots = min(math.ceil(wanted_s / slot_s - 1e-9), most)
    return min(max(1, n_slots) * float(slot_s), demand.longest_s)


def _links(env: EnvSettings, n_stations: int, home: Ints, stream: NamedStream) -> tuple[Floats, Floats, str]:
    """Rates [B, E] in Mbit/s (inf where local), latencies [B, E] in seconds (0 where local), sha256 of their file."""
    network, shape, sha256 = env.network, (n_stations, len(home)), ""
    if isinstance(network, GraphNetwork):
        mbps, latency_s, sha256 = graph_links(network)
        if len(mbps) != n_stations:
            raise InputError(f"env.network.file: {clean(network.file)}: changed while it was read")
    elif isinstance(network, ReceiverNetwork):
        mbps, latency_s = _spread(network.rate_mbps, shape), _spread(network.latency_s, shape)
    else:
        mbps, latency_s = _spread(_drawn_rates(network, len(home), stream), shape), _spread(network.latency_s, shape)
    owned = np.flatnonzero(home >= 0)
    mbps[home[owned], owned] = np.inf
    latency_s[home[owned], owned] = 0.0
    return mbps, latency_s, sha256


def _back(there: Floats, home: Ints) -> Floats:
    """[B, E] from server e back to station b: the way from e's station to b's server; as there where one has none."""
    back = there.copy()
    owned = np.flatnonzero(home >= 0)
    back[np.ix_(home[owned], owned)] = there[np.ix_(home[owned], owned)].T
    return back


def _spread(values: object, shape: tuple[int, int]) -> Floats:
    """[B, E] from one number, one per server [E], or [B, E] with null where local."""
    given = np.array(values, dtype=np.float64)  # null is NaN
    return np.array(np.broadcast_to(given, shape))


def _drawn_rates(network: DrawnReceiverNetwork, n: int, stream: NamedStream) -> Floats:
    low, high = network.rate_mbps
    return stream(network.rate_seed, "env", "rate_mbps").integers(low, high + 1, n).astype(np.float64)
