"""Tiny jobs that train, children in which they run and die, and what must be equal afterwards."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from ddrl_sched import saving
from ddrl_sched.jobs import records
from ddrl_sched.run.metrics import ELAPSED_METRIC
from tests.conf_files import plain
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import plan_job, run_job

NO_OPTIONS = {"debug": False}
SMALL = {  # networks and memories of no use but to be saved
    "agent": {"hidden": [6]},
    "learning": {"memory": 7, "batch": 3, "start_slots": 0, "every_slots": 1, "updates": 1},
    "evolution": {"pairs": 2},
}
COMPARED = ("curves.parquet", "weights.safetensors", "eval.parquet")


def tiny(folder, name="tuned/ddrl_amsa", *, checkpoint_s=0.0, episodes=2, slots=3, **change):
    """A job of two seeds that trains `name` for a moment and evaluates it."""
    scheduler = plain("scheduler", name)
    for group, values in SMALL.items():
        if group in scheduler:
            scheduler[group] = scheduler[group] | values
    if scheduler.get("agent", {}).get("name") == "dqn":
        scheduler["agent"]["target_copy_every"] = 3
    data = settings(folder, seeds=2, **change) | {"scheduler": scheduler, "label": name}
    data["train"] |= {"episodes": episodes, "episode_slots": slots, "episode_tasks": 0, "checkpoint_s": checkpoint_s}
    data["evaluate"] |= {"traces": 1}
    data["env"]["clock"] |= {"horizon_s": 4.0}
    data["workload"]["load"] = 0.1
    return data


def folder_of(data, command="sweep") -> Path:
    """The run folder of a job."""
    return Path(data["runs_dir"], data["name"], plan_job(data, command, NO_OPTIONS)["job_id"])


def outcome(folder: Path) -> dict[str, object]:
    """What of a finished run folder must repeat bit for bit; the time of a decision and of a training does not."""
    records.is_done(folder) or sys.exit(f"{folder} is not done")
    found: dict[str, object] = {}
    for name in COMPARED:
        if not (folder / name).exists():
            continue
        found[name] = (folder / name).read_bytes()
        if name == "eval.parquet":
            found[name] = pd.read_parquet(folder / name).drop(columns="decide_us").to_csv()
        if name == "curves.parquet":
            found[name] = without_time(pd.read_parquet(folder / name)).to_csv()
    return found


def without_time(curves: pd.DataFrame) -> pd.DataFrame:
    """Curves without the seconds that the training took."""
    return curves[curves.metric != ELAPSED_METRIC].reset_index(drop=True)


def child(act: Callable[[], object]) -> int:
    """Start `act` in a fork of this process, in which everything is imported; its pid. It ends with 0, or 1 and why."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        torch.set_num_threads(1)
        act()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def status_of(pid: int) -> int:
    """Wait for a child; its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(data, command="sweep", options=NO_OPTIONS) -> int:
    """Run a job in a child to its end; its status."""
    return status_of(child(lambda: run_job(data, command, options)))


def crash_at(number: int) -> Callable[..., None]:
    """A fault point that kills the process the `number`-th time (from 0) it is passed."""
    passed = iter(range(1 << 60))

    def point(_moment: str, _path: Path) -> None:
        if next(passed) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return point


def run_until_crash(data, number: int, command="sweep") -> int:
    """Run a job in a child that is killed at its `number`-th fault point; its status."""

    def act():
        saving.fault_point = crash_at(number)
        run_job(data, command, NO_OPTIONS)

    return status_of(child(act))


def kill_after(pid: int, seconds: float) -> int:
    """Let a child run for `seconds`, then kill it; its status."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return status_of(pid)
