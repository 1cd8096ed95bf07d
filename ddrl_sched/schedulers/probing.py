"""How much probing a server is worth: estimates that a station makes before it probes, from what it knows itself."""

import numpy as np

from ddrl_sched.edge.types import Floats
from ddrl_sched.schedulers.base import View


def own_load(view: View) -> Floats:
    """[R, M] load of the world if every station had the arrivals that the own one counts."""
    assert view.own_rate is not None
    speed = view.scenario.speed_gcps
    load: Floats = view.own_rate * view.scenario.n_stations * view.mean_work_gcycle / speed.sum()
    return load


def probing_worth(view: View) -> Floats:
    """[R, M, E], without unit: log of the ratio of the wait expected at a server to the time that probing it takes.

    The expected wait is that of an M/M/1 queue of mean tasks at a server of mean speed, under the load by the station's
    own count of arrivals (up to 0.98), in worlds with a server at every station. Probing takes the round trip and
    probe_s. Both are at least a microsecond. For the own server, which is never probed, the number means nothing.
    """
    scenario = view.scenario
    mean_s = view.mean_work_gcycle / scenario.speed_gcps.mean()
    busy = np.minimum(own_load(view), 0.98)
    expected_s = np.maximum(mean_s * busy / (1.0 - busy), 1e-6)
    round_trip_s = scenario.link_latency_s + scenario.return_latency_s
    probing_s = np.maximum(round_trip_s[view.tasks.origin] + scenario.probe_s, 1e-6)
    worth: Floats = np.log(expected_s)[..., None] - np.log(probing_s)
    return worth


def rank_of_others(view: View) -> Floats:
    """[R, M, E] rank 1, 2, ... of every server among those of other stations, by when it would finish the whole task.

    The finish time is wait + sending + computing, the wait as the station knows it when the interval starts
    (View.wait_s); ties go by the order of servers. The own server, which is never probed, is not ranked and has 1.
    """
    tasks, scenario, local = view.tasks, view.scenario, view.local
    assert view.wait_s is not None
    finish_s = view.wait_s + (tasks.work_gcycle + tasks.overhead_gcycle)[..., None] / scenario.speed_gcps
    finish_s = finish_s + view.send_s
    order = np.argsort(np.where(local, np.inf, finish_s), -1, kind="stable")
    rank: Floats = np.empty(finish_s.shape)
    np.put_along_axis(rank, order, np.arange(1.0, scenario.n_servers + 1.0), -1)
    rank[local] = 1.0
    return rank
