"""Small worlds and task lists for tests: every argument has a value that makes its effect vanish."""

import numpy as np

from ddrl_sched.edge.types import Decision, Scenario, Tasks


def make_scenario(speed_gcps, link_mbps=np.inf, latency_s=0.0, port="shared", announce_s=1.0, probe_s=0.0, rule="clean"):
    """Scenario with E servers; `link_mbps` and `latency_s` are numbers or [E, E] (the diagonal is set to local)."""
    speed = np.array(speed_gcps, dtype=np.float64)
    shape = (len(speed), len(speed))
    link = np.array(np.broadcast_to(np.asarray(link_mbps, dtype=np.float64), shape))
    latency = np.array(np.broadcast_to(np.asarray(latency_s, dtype=np.float64), shape))
    np.fill_diagonal(link, np.inf)
    np.fill_diagonal(latency, 0.0)
    return Scenario(
        name="test",
        rule=rule,
        speed_gcps=speed,
        link_mbps=link,
        link_latency_s=latency,
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


def given(share, probe=None):
    """Decision that carries out these shares [R, N, E] (or [N, E] for one replica), after these probes."""
    share = np.asarray(share, dtype=np.float64)
    share = share[None] if share.ndim == 2 else share
    if probe is not None:
        probe = np.asarray(probe, dtype=np.bool_)
        probe = probe[None] if probe.ndim == 2 else probe
    return Decision(choice="given", info="static", split="given", select=share > 0, share=share, probe=probe)


def run_at_once(world, scenario, tasks, decision):
    """Place every task of every replica in one window and follow all of them to their end; returns the outcome."""
    n_replicas, n_tasks = tasks.shape
    outcome = world.empty_outcome(tasks) if hasattr(world, "empty_outcome") else _empty_outcome(tasks)
    state = world.initial_state(scenario, n_replicas)
    lo = np.zeros(n_replicas, dtype=np.int64)
    state = world.place(scenario, state, tasks, decision, lo, np.full(n_replicas, n_tasks), outcome)
    world.finish(scenario, state, tasks, outcome)
    return outcome


def _empty_outcome(tasks):
    from ddrl_sched.edge import physics

    return physics.empty_outcome(tasks)
