"""Small worlds and task lists for tests: every argument has a value that makes its effect vanish."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ddrl_sched.edge.types import Decision, Scenario, Tasks


def make_scenario(
    speed_gcps, link_mbps=np.inf, latency_s=0.0, port="shared", announce_s=1.0, probe_s=0.0, rule="clean", **back
):
    """Scenario with E servers; `link_mbps` and `latency_s` are numbers or [E, E] (the diagonal is set to local).

    back: return_mbps and return_latency_s of the way back to the station, [B, E]; left out, they are those there.
    """
    speed = np.array(speed_gcps, dtype=np.float64)

    def square(value, local):
        links = np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), (len(speed), len(speed))))
        np.fill_diagonal(links, local)
        return links

    return Scenario(
        name="test",
        rule=rule,
        speed_gcps=speed,
        home=np.arange(len(speed)),
        link_mbps=square(link_mbps, np.inf),
        link_latency_s=square(latency_s, 0.0),
        return_mbps=square(back.get("return_mbps", link_mbps), np.inf),
        return_latency_s=square(back.get("return_latency_s", latency_s), 0.0),
        port=port,
        slot_s=1.0,
        announce_s=announce_s,
        probe_s=probe_s,
        warm_up_s=0.0,
        horizon_s=1e9,
    )


def make_tasks(arrive_s, origin=0, input_mbit=0.0, result_mbit=0.0, work_gcycle=1.0, overhead_gcycle=0.0, **more):
    """Tasks [R, N] from arrive_s [N] or [R, N]; the rest are numbers or arrays that broadcast to it.

    more: units, deadline_s, index, n_servers, valid, speed_change_s and speed_factor ([E, C] or [R, E, C]).
    """
    arrive = np.atleast_2d(np.asarray(arrive_s, dtype=np.float64))
    n_replicas = len(arrive)

    def spread(value, kind=np.float64):
        return np.array(np.broadcast_to(np.asarray(value, dtype=kind), arrive.shape))

    n_servers = more.get("n_servers", 1 + int(np.max(origin, initial=0)))
    factor = np.asarray(more.get("speed_factor", np.ones((n_servers, 1))), dtype=np.float64)
    change = np.asarray(more.get("speed_change_s", np.zeros((n_servers, 1))), dtype=np.float64)
    pieces = (n_replicas, *factor.shape[-2:])
    return Tasks(
        origin=spread(origin, np.int64),
        index=spread(more.get("index", np.arange(arrive.shape[1])), np.int64),
        arrive_s=arrive.copy(),
        input_mbit=spread(input_mbit),
        result_mbit=spread(result_mbit),
        work_gcycle=spread(work_gcycle),
        overhead_gcycle=spread(overhead_gcycle),
        units=spread(more.get("units", 0), np.int64),
        deadline_s=spread(more.get("deadline_s", np.inf)),
        valid=spread(more.get("valid", True), np.bool_),
        speed_change_s=np.array(np.broadcast_to(change, pieces)),
        speed_factor=np.array(np.broadcast_to(factor, pieces)),
    )


def given_shares(share, probe=None):
    """Decision that carries out these shares [R, N, E] (or [N, E] for one replica), after these probes."""
    share = np.asarray(share, dtype=np.float64)
    share = share[None] if share.ndim == 2 else share
    if probe is not None:
        probe = np.asarray(probe, dtype=np.bool_)
        probe = probe[None] if probe.ndim == 2 else probe
    return Decision(choice="given", info="static", split="given", select=share > 0, share=share, probe=probe)


def place_in_windows(world, scenario, tasks, share, cuts, probe=None):
    """Place shares [R, N, E] in the windows between `cuts` (0, ..., N), then finish; returns (outcome, states)."""
    n_replicas = tasks.shape[0]
    outcome = world.empty_outcome(tasks, scenario.n_servers)
    states = [world.initial_state(scenario, n_replicas)]
    for lo, hi in pairwise(cuts):
        decision = given_shares(share[:, lo:hi], None if probe is None else probe[:, lo:hi])
        lows, highs = np.full(n_replicas, lo), np.full(n_replicas, hi)
        states.append(world.place(scenario, states[-1], tasks, decision, lo=lows, hi=highs, outcome=outcome))
    states.append(world.finish(scenario, states[-1], tasks, outcome))
    return outcome, states


def carry_out(world, scenario, tasks, share, probe=None):
    """Outcome of shares [R, N, E] (or [N, E]) placed at once and followed to their end."""
    share = np.asarray(share, dtype=np.float64)
    share = share[None] if share.ndim == 2 else share
    return place_in_windows(world, scenario, tasks, share, (0, tasks.shape[1]), probe)[0]


@dataclass(frozen=True)
class Case:
    """A random world with decisions for one replica."""

    scenario: Scenario
    tasks: Tasks
    share: np.ndarray  # [1, N, E]
    probe: np.ndarray  # [1, N, E]


def random_case(rng, n_servers, n_tasks, port="shared", grid=False, busy=1.0):
    """A Case with everything in it: splits with zeros, probes, units, overheads, latencies, slowdowns, ties.

    grid: all numbers are small multiples of powers of two, so that sums are exact and events often coincide.
    busy: factor on the work.
    """

    def draw(low, high, shape, step=0.25):
        if grid:
            return rng.integers(int(low / step), int(high / step) + 1, shape) * step
        return rng.uniform(low, high, shape)

    def power(shape):
        return 2.0 ** rng.integers(0, 3, shape) if grid else rng.uniform(0.5, 5.0, shape)

    square = (n_servers, n_servers)
    scenario = make_scenario(
        power(n_servers),
        link_mbps=power(square),
        latency_s=draw(0.0, 1.0, square, 0.125),
        port=port,
        announce_s=float(rng.choice([0.5, 1.0, 2.0])) if grid else rng.uniform(0.3, 3.0),
        probe_s=float(draw(0.0, 0.5, ())),
        return_mbps=power(square),
        return_latency_s=draw(0.0, 1.0, square, 0.125),
    )
    arrive = np.sort(draw(0.0, 0.5 * n_tasks, n_tasks, 0.5))
    arrive[rng.random(n_tasks) < 0.2] = arrive[0]  # some arrive together, whatever the grid
    n_pieces = int(rng.integers(1, 4))
    change = np.cumsum(np.maximum(draw(0.25, 0.3 * n_tasks + 0.5, (n_servers, n_pieces)), 0.25), axis=1)
    change[:, 0] = 0.0
    tasks = make_tasks(
        np.sort(arrive),
        origin=rng.integers(0, n_servers, n_tasks),
        input_mbit=draw(0.0, 3.0, n_tasks),
        result_mbit=draw(0.0, 1.0, n_tasks),
        work_gcycle=draw(0.0, 3.0, n_tasks) * busy,
        overhead_gcycle=draw(0.0, 0.5, n_tasks) * rng.integers(0, 2),
        units=np.where(rng.random(n_tasks) < 0.3, 16, 0),
        deadline_s=draw(0.5, 4.0, n_tasks),
        n_servers=n_servers,
        speed_change_s=change,
        speed_factor=rng.choice([0.5, 1.0, 2.0], change.shape) if grid else rng.uniform(0.2, 2.0, change.shape),
    )
    share = _random_shares(rng, tasks, n_servers, grid)
    return Case(scenario, tasks, share, rng.random(share.shape) < rng.choice([0.0, 0.4]))


def _random_shares(rng, tasks, n_servers, grid):
    share = np.zeros((1, tasks.shape[1], n_servers))
    for i in range(tasks.shape[1]):
        used = rng.permutation(n_servers)[: rng.integers(1, n_servers + 1)]
        if grid or tasks.units[0, i]:
            share[0, i, used] = rng.multinomial(16, np.full(len(used), 1 / len(used))) / 16
        else:
            share[0, i, used] = rng.dirichlet(np.ones(len(used)))
    return share


def stack_cases(cases):
    """Tasks, shares and probes of cases with equal numbers of servers and tasks, as replicas of one run.

    Pieces of speed are padded by pieces that never start.
    """
    n_pieces = max(case.tasks.speed_factor.shape[2] for case in cases)

    def joined(name):
        arrays = [getattr(case.tasks, name) for case in cases]
        if name.startswith("speed_"):
            fill = np.inf if name == "speed_change_s" else 1.0
            pad = [((0, 0), (0, 0), (0, n_pieces - a.shape[2])) for a in arrays]
            arrays = [np.pad(a, width, constant_values=fill) for a, width in zip(arrays, pad, strict=True)]
        return np.concatenate(arrays)

    tasks = Tasks(**{name: joined(name) for name in Tasks._fields})
    return tasks, np.concatenate([c.share for c in cases]), np.concatenate([c.probe for c in cases])
