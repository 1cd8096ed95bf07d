"""Copies of the clean physics with one line changed, run as plain Python: bugs that the laws must catch."""

import sys
import types
from pathlib import Path

import ddrl_sched.edge.physics
import ddrl_sched.edge.physics_kernel
import ddrl_sched.edge.physics_resolve
import ddrl_sched.edge.physics_state
import ddrl_sched.edge.split

KERNEL, STATE, RESOLVE, SPLIT = "physics_kernel", "physics_state", "physics_resolve", "split"
PLAIN = "def njit(**_options):\n    return lambda function: function\n"
MUTANTS = {  # name: (file, line as it stands, line as a bug would have it)
    "overhead forgotten": (
        KERNEL,
        "work = tasks.overhead_gcycle[r, i] + share * tasks.work_gcycle[r, i]",
        "work = share * tasks.work_gcycle[r, i]",
    ),
    "overhead split": (
        KERNEL,
        "work = tasks.overhead_gcycle[r, i] + share * tasks.work_gcycle[r, i]",
        "work = share * (tasks.overhead_gcycle[r, i] + tasks.work_gcycle[r, i])",
    ),
    "latency dropped": (KERNEL, "arrive = sent + world.latency_s[b, s]", "arrive = sent"),
    "returns as if there": (
        KERNEL,
        "back = world.return_latency_s[b, s] + share * tasks.result_mbit[r, i] / world.return_mbps[b, s]",
        "back = world.latency_s[b, s] + share * tasks.result_mbit[r, i] / world.link_mbps[b, s]",
    ),
    "last come first served": (
        KERNEL,
        "while i > 0 and arrive_s[r, s, i - 1] > arrive:",
        "while i > 0:",
    ),
    "service before arrival": (
        STATE,
        "start = max(server_free_s[r, s], arrive_s[r, s, done])",
        "start = server_free_s[r, s]",
    ),
    "server never busy": (
        STATE,
        "start = max(server_free_s[r, s], arrive_s[r, s, done])",
        "start = arrive_s[r, s, done]",
    ),
    "share not normalised": (KERNEL, "share = x[s] / total", "share = x[s]"),
    "return omitted": (STATE, "delay = end + back - tasks.arrive_s[r, at]", "delay = end - tasks.arrive_s[r, at]"),
    "announcements stale by one": (STATE, "moment = n * world.announce_s", "moment = (n - 1) * world.announce_s"),
    "one port is many": (KERNEL, "port = 0 if world.shared else s", "port = s"),
    "many ports are one": (KERNEL, "port = 0 if world.shared else s", "port = 0"),
    "speed factor ignored": (STATE, "rate = speed_gcps * factor[piece]", "rate = speed_gcps"),
    "last speed ignored": (
        STATE,
        "return start_s + gcycle / (speed_gcps * factor[piece])",
        "return start_s + gcycle / speed_gcps",
    ),
    "first share ends the task": (
        STATE,
        "if not outcome.delay_s[r, at] >= delay:",
        "if not outcome.delay_s[r, at] <= delay:",
    ),
    "probes are free": (RESOLVE, "return farthest + n_probed * world.probe_s, n_probed", "return farthest, n_probed"),
    "late at the deadline": (
        STATE,
        "outcome.late[r, at] = delay > tasks.deadline_s[r, at]",
        "outcome.late[r, at] = delay >= tasks.deadline_s[r, at]",
    ),
    "split forgets the overhead": (SPLIT, "left = finish_s - q.fixed_s[s]", "left = finish_s"),
    "split forgets the queue on the port": (SPLIT, "used_s += share * q.send_s[s]", "used_s += 0.0"),
}


def physics(name=None):
    """edge.physics as plain Python, with the bug `name` of MUTANTS (None: none)."""
    file, line, bug = MUTANTS[name] if name else (KERNEL, "", "")
    made = {}
    edge = ddrl_sched.edge
    for module in (edge.split, edge.physics_state, edge.physics_resolve, edge.physics_kernel, edge.physics):
        short = module.__name__.rpartition(".")[2]
        source = Path(module.__file__).read_text(encoding="utf-8").replace("from numba import njit\n", PLAIN)
        if name and short == file:
            assert source.count(line) == 1, f"{name}: the line stands {source.count(line)} times in {file}.py"
            source = source.replace(line, bug)
        for other, copy in made.items():
            source = source.replace(f"from ddrl_sched.edge.{other} import", f"from {copy} import")
            source = source.replace(f"from ddrl_sched.edge import {other}\n", f"import {copy} as {other}\n")
        made[short] = f"mutant_{short}_{(name or 'none').replace(' ', '_')}"
        copied = types.ModuleType(made[short])
        sys.modules[made[short]] = copied
        exec(compile(source, f"<{made[short]}>", "exec"), copied.__dict__)
    return sys.modules[made["physics"]]
