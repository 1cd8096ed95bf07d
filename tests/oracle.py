"""Independent oracle of the clean physics: a naive event-by-event simulation in plain Python floats.

Written from the description of the semantics alone; it shares no code and no formula order with edge/physics.py.
One replica, shares and probes given. Events of one moment are worked off in this order: ends of service, changes of
speed, announcements, decisions (order along N), shares that reach a server (order of decision).
"""

import heapq
import math
from dataclasses import dataclass, field

END, SPEED, ANNOUNCE, DECIDE, REACH = range(5)


@dataclass
class Share:
    """One part of a task on its way: sent, waiting, served, returned."""

    task: int
    server: int
    sent_s: float  # start of sending; for a local share the dispatch
    reach_s: float  # arrival at the server
    need_gcycle: float
    return_s: float
    start_s: float = -1.0
    end_s: float = -1.0


@dataclass
class Server:
    """A first-come-first-served server that works at a speed which may change at known moments."""

    nominal_gcps: float
    speed_gcps: float
    queue: list = field(default_factory=list)
    serving: Share | None = None
    left_gcycle: float = 0.0
    since_s: float = 0.0
    version: int = 0  # of the planned end of service; older plans are void
    served: list = field(default_factory=list)  # (start, end, task)


@dataclass
class Result:
    """What the oracle saw. Per task lists; NaN-free because all tasks are followed to their end."""

    wait_s: list
    transfer_s: list
    compute_s: list
    return_s: list
    delay_s: list
    late: list
    probes: list
    gap_s: list  # by how much the last share outlasted the last but one (inf with one share)
    shares: list  # all Share records
    intervals: list  # per server: list of (start, end, task)
    announced: list  # (time, [Gcycle waiting or in service per server], [Gcycle in flight per server])


def simulate(scenario, tasks, shares, probes=None, replica=0):
    """Follow the valid tasks of one replica to their end. shares, probes: nested lists or arrays [N, E]."""
    world = _World(scenario, tasks, shares, probes, replica)
    while world.events:
        now, kind, order, item = heapq.heappop(world.events)
        world.step(now, kind, order, item)
    return world.result()


class _World:
    def __init__(self, scenario, tasks, shares, probes, replica):
        self.scenario, self.tasks, self.r = scenario, tasks, replica
        self.shares, self.probes = shares, probes
        self.n_servers = len(scenario.speed_gcps)
        self.n_tasks = sum(bool(valid) for valid in tasks.valid[replica])
        self.events = []
        self.port_free = {}
        self.flying = []
        self.all_shares = []
        self.announced = []
        self.n_probes = []
        self.servers = []
        for server in range(self.n_servers):
            nominal = float(scenario.speed_gcps[server])
            self.servers.append(Server(nominal, nominal))
            for piece, start in enumerate(tasks.speed_change_s[replica][server]):
                factor = float(tasks.speed_factor[replica][server][piece])
                self.push(float(start), SPEED, server * 10**6 + piece, (server, factor))
        for task in range(self.n_tasks):
            self.push(float(tasks.arrive_s[replica][task]), DECIDE, task, task)
        last = float(tasks.arrive_s[replica][self.n_tasks - 1]) if self.n_tasks else -1.0
        n = 0
        while n * scenario.announce_s <= last:
            self.push(n * scenario.announce_s, ANNOUNCE, n, None)
            n += 1

    def push(self, time, kind, order, item):
        heapq.heappush(self.events, (time, kind, order, item))

    def step(self, now, kind, order, item):
        if kind == END:
            server, version = item
            if self.servers[server].version == version:
                self.end_service(now, server)
        elif kind == SPEED:
            self.change_speed(now, *item)
        elif kind == ANNOUNCE:
            self.announce(now)
        elif kind == DECIDE:
            self.decide(now, item)
        else:
            self.flying.remove(item)
            self.servers[item.server].queue.append(item)
            self.start_if_idle(now, item.server)

    def decide(self, now, task):
        home = int(self.tasks.origin[self.r][task])
        latency = [float(v) for v in self.scenario.link_latency_s[home]]
        back = [float(v) for v in self.scenario.return_latency_s[home]]
        link = [float(v) for v in self.scenario.link_mbps[home]]
        asked = [] if self.probes is None else [s for s in range(self.n_servers) if self.probes[task][s] and s != home]
        dispatch = now
        if asked:
            dispatch = now + max(latency[s] + back[s] for s in asked) + float(self.scenario.probe_s) * len(asked)
        self.n_probes.append(len(asked))
        used = [s for s in range(self.n_servers) if self.shares[task][s] > 0]
        if home in used:
            self.send(task, home, dispatch, dispatch)
        for s in sorted((s for s in used if s != home), key=lambda s: (-link[s], s)):
            port = home if self.scenario.port == "shared" else (home, s)
            start = max(self.port_free.get(port, 0.0), dispatch)
            end = start + float(self.shares[task][s]) * float(self.tasks.input_mbit[self.r][task]) / link[s]
            self.port_free[port] = end
            self.send(task, s, start, end + latency[s])

    def send(self, task, server, sent, reach):
        home = int(self.tasks.origin[self.r][task])
        part = float(self.shares[task][server])
        need = float(self.tasks.overhead_gcycle[self.r][task]) + part * float(self.tasks.work_gcycle[self.r][task])
        back = 0.0
        if server != home:
            back = float(self.scenario.return_latency_s[home][server])
            back += part * float(self.tasks.result_mbit[self.r][task]) / float(self.scenario.return_mbps[home][server])
        share = Share(task, server, sent, reach, need, back)
        self.all_shares.append(share)
        self.flying.append(share)
        self.push(reach, REACH, task * 10**3 + server, share)

    def start_if_idle(self, now, index):
        server = self.servers[index]
        if server.serving is None and server.queue:
            server.serving = server.queue.pop(0)
            server.serving.start_s = now
            server.left_gcycle, server.since_s = server.serving.need_gcycle, now
            self.plan_end(now, index)

    def plan_end(self, now, index):
        server = self.servers[index]
        server.version += 1
        self.push(
            now + server.left_gcycle / server.speed_gcps, END, index * 10**6 + server.version, (index, server.version)
        )

    def work_until(self, now, index):
        server = self.servers[index]
        if server.serving is not None:
            server.left_gcycle = max(0.0, server.left_gcycle - (now - server.since_s) * server.speed_gcps)
        server.since_s = now

    def change_speed(self, now, index, factor):
        self.work_until(now, index)
        server = self.servers[index]
        server.speed_gcps = server.nominal_gcps * factor
        if server.serving is not None:
            self.plan_end(now, index)

    def end_service(self, now, index):
        server = self.servers[index]
        server.serving.end_s = now
        server.served.append((server.serving.start_s, now, server.serving.task))
        server.serving = None
        self.start_if_idle(now, index)

    def announce(self, now):
        waiting, flying = [], []
        for index, server in enumerate(self.servers):
            self.work_until(now, index)
            serving = server.left_gcycle if server.serving is not None else 0.0
            waiting.append(serving + sum(share.need_gcycle for share in server.queue))
            flying.append(sum(share.need_gcycle for share in self.flying if share.server == index))
        self.announced.append((now, waiting, flying))

    def result(self):
        result = Result([], [], [], [], [], [], self.n_probes, [], self.all_shares, [], self.announced)
        result.intervals = [server.served for server in self.servers]
        for task in range(self.n_tasks):
            self.report(task, result)
        return result

    def report(self, task, result):
        arrived = float(self.tasks.arrive_s[self.r][task])
        home = int(self.tasks.origin[self.r][task])
        own = sorted((share for share in self.all_shares if share.task == task), key=lambda share: share.server)
        last = own[0]
        for share in own[1:]:
            if share.end_s + share.return_s > last.end_s + last.return_s:
                last = share
        ends = sorted(share.end_s + share.return_s for share in own)
        delay = ends[-1] - arrived
        remote = last.server != home
        result.wait_s.append((last.sent_s - arrived) + (last.start_s - last.reach_s))
        result.transfer_s.append(last.reach_s - last.sent_s if remote else 0.0)
        result.compute_s.append(last.end_s - last.start_s)
        result.return_s.append(last.return_s)
        result.delay_s.append(delay)
        result.gap_s.append(ends[-1] - ends[-2] if len(ends) > 1 else math.inf)
        result.late.append(delay > float(self.tasks.deadline_s[self.r][task]))
