"""Sizes of the arrays that settings ask for, by formula, before anything of the kind is made.

Bounds of single keys cannot see that two of them together want all memory: a horizon and a mean time between bursts.
Every check raises InputError that names the keys.
"""

from ddrl_sched.config import InputError
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.types import Scenario
from ddrl_sched.edge.workload_settings import BurstyArrivals, WorkloadSettings

MAX_TASKS = 5_000_000  # expected, of one trace of an evaluation
MAX_HELD_TASKS = 50_000_000  # expected, of all traces that are held at once
MAX_INDICES = 100_000_000  # of all slots and stations of one trace
MAX_INTERVALS = 10**9  # slots, or announcements, of one trace
MAX_DWELLS = 5_000_000  # expected, of the bursts of one trace
MAX_SPEEDS = 20_000_000  # expected, pieces of the speeds of all servers and traces that are held at once


def check_slots(horizon_s: float, slot_s: float) -> None:
    """A horizon is counted in slots."""
    if horizon_s / slot_s > MAX_INTERVALS:
        text = f"a trace of {horizon_s:.6g} s would have {horizon_s / slot_s:.4g} slots, at most {MAX_INTERVALS:,}"
        raise InputError(f"env.clock.slot_s: {text}")


def check_trace(
    scenario: Scenario, env: EnvSettings, workload: WorkloadSettings, *, n_indices: int, n_tasks: float, n_traces: int
) -> None:
    """n_traces traces of a horizon (of training: as train.episode_slots and episode_tasks say), each of n_tasks."""
    horizon = f"{n_traces} trace(s) of {scenario.horizon_s:.6g} s"
    check_slots(scenario.horizon_s, scenario.slot_s)
    if scenario.horizon_s / scenario.announce_s > MAX_INTERVALS:
        n = scenario.horizon_s / scenario.announce_s
        raise InputError(f"env.clock.announce_s: {horizon} would have {n:.4g} announcements, at most {MAX_INTERVALS:,}")
    n_cells = n_indices * scenario.n_stations * scenario.horizon_s / scenario.slot_s
    _check("workload.arrivals, env.clock.slot_s", horizon, n_cells, MAX_INDICES, "indices of slots")
    _check("workload.load, env.clock.horizon_s", horizon, n_tasks * n_traces, MAX_HELD_TASKS, "tasks")
    if isinstance(workload.arrivals, BurstyArrivals):
        means = workload.arrivals.mean_low_s, workload.arrivals.mean_high_s
        keys = "workload.arrivals.mean_low_s, workload.arrivals.mean_high_s"
        _check(keys, horizon, n_dwells(scenario.horizon_s, *means), MAX_DWELLS, "changes of load")
    keys = "env.slowdowns.mean_between_s, env.slowdowns.mean_duration_s"
    _check(keys, horizon, n_speeds(scenario, env) * n_traces, MAX_SPEEDS, "changes of speed")


def n_dwells(horizon_s: float, first_s: float, second_s: float) -> float:
    """Expected number of dwells of a process that alternates between two states of these mean times."""
    return 2 * horizon_s / (first_s + second_s)


def n_speeds(scenario: Scenario, env: EnvSettings) -> float:
    """Expected number of pieces of the speeds of all servers in one trace."""
    if env.slowdowns is None:
        return float(scenario.n_servers)
    means = env.slowdowns.mean_between_s, env.slowdowns.mean_duration_s
    return scenario.n_servers * (1 + n_dwells(scenario.horizon_s, *means))


def _check(keys: str, horizon: str, n: float, most: int, what: str) -> None:
    if n > most:
        raise InputError(f"{keys}: {horizon} would have {n:.4g} {what}, at most {most:,} fit into memory")
