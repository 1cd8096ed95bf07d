"""What learned schedulers see of a View, as the numbers that their networks take.

Axes as in edge/types.py; O numbers observed of a task.
"""

import numpy as np
from numpy.typing import NDArray

from ddrl_sched.edge.types import Floats, Scenario
from ddrl_sched.schedulers.base import View
from ddrl_sched.schedulers.learned_settings import LearnedSettings
from ddrl_sched.schedulers.price_settings import PriceSettings
from ddrl_sched.schedulers.probing import own_load
from ddrl_sched.schedulers.server_sets import externality_s, of_servers, still_to_come

N_SEEN, N_SECONDS = 14, 6  # numbers of one server that a price policy sees; those in seconds that a price may add up
_LONGEST = 1e6  # no deadline looks like one of so many time_s


def n_observed(scenario: Scenario, settings: LearnedSettings) -> int:
    """O, the numbers that `observe_tasks` gives."""
    if scenario.published:
        return scenario.n_servers + (2 if scenario.single else 1)
    return 6 + (4 if settings.sharing == "shared" else 3) * scenario.n_servers


def observe_tasks(view: View, settings: LearnedSettings) -> NDArray[np.float32]:
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


def observe_servers(view: View, settings: PriceSettings) -> tuple[NDArray[np.float32], list[Floats]]:
    """What the actor sees of every server [R, M, E, N_SEEN], and N_SECONDS numbers in seconds [R, M, E].

    Seen: wait (own class, as of the start of the interval), computing, sending and overhead of the whole task, whether
    the server is the own one, its speed, the age of the announcement; the backlog of all, of the own and of the least
    busy server; work and overhead of the task relative to the mean; the load by the station's own count of arrivals;
    the tasks still expected in the slot from the own station and from that of the server (slotted worlds, else 0).
    """
    tasks, scenario, scale = view.tasks, view.scenario, settings.scale
    assert view.wait_s is not None
    assert view.age_s is not None
    wait_s, speed = view.wait_s, scenario.speed_gcps
    unit_s, send_s, own = view.work_s, view.send_s, view.local
    overhead_s = tasks.overhead_gcycle[..., None] / speed
    coming: Floats = np.zeros(1)
    external_s: tuple[Floats, ...] = ()
    slot_mean, own_coming, their_coming = 1.0, coming, coming
    if view.slot_tasks is not None:
        coming = still_to_come(view, view.slot_tasks, see_all=settings.info == "running")
        external_s = externality_parts_s(view, coming)
        slot_mean = max(float(view.slot_tasks.sum()), 1e-9)
        own_coming = np.take_along_axis(coming, tasks.origin[..., None], -1)
        their_coming = of_servers(scenario, coming)
    load = own_load(view)
    relative = np.log(np.maximum(tasks.work_gcycle / view.mean_work_gcycle, 1e-6))
    seen = np.empty((*wait_s.shape, N_SEEN), np.float32)
    for column, value in enumerate((wait_s / scale.wait_s, *(x / scale.time_s for x in (unit_s, send_s, overhead_s)))):
        seen[..., column] = np.log1p(value.astype(np.float32))
    seen[..., 4] = own
    seen[..., 5] = np.log(speed / speed.mean())
    backlogs = [wait_s @ speed / speed.sum(), (wait_s * own).sum(-1), wait_s.min(-1)]
    backlogs = [np.log1p(value / scale.wait_s) for value in backlogs]
    per_task = (view.age_s / scenario.announce_s, *backlogs, relative, 2.0 * load - 1.0)
    for column, value in enumerate(per_task, start=6):
        seen[..., column] = value[..., None]
    seen[..., 12] = own_coming / slot_mean
    seen[..., 13] = their_coming / slot_mean
    return seen, [wait_s, unit_s, send_s, overhead_s, *external_s]


def externality_parts_s(view: View, coming: Floats) -> tuple[Floats, Floats]:
    """The externality of server_sets.externality_s in its two parts: the own port and the server's own station."""
    whole = externality_s(view, coming)
    at_server = of_servers(view.scenario, coming) * view.tasks.work_gcycle[..., None] / view.scenario.speed_gcps
    return whole - at_server, at_server
