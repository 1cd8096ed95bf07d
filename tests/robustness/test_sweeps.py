"""Several sweeps in one folder, killed or not: no job is lost, none is done twice, no result depends on it."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from ddrl_sched import saving
from ddrl_sched.jobs import records
from ddrl_sched.jobs.lock import is_locked, lock
from ddrl_sched.jobs.request import Flags
from ddrl_sched.launch import launch
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import plan_job, run_job
from tests.paths import REPOSITORY
from tests.resume_jobs import NO_OPTIONS, child, folder_of, kill_after, outcome, status_of

OPTIONS = {"debug": False, "accept_code": False, "retry_failed": False}
ALL = ["env.clock.horizon_s=4.0", "evaluate.traces=1", "evaluate.policy_seeds=1"]
FEW = [*ALL, "scheduler=eft,random,sed_own", "workload.load=0.1,0.2,0.3,0.4"]  # jobs without learning
MANY = [*ALL, "scheduler=eft,jsq,random,sed_own", "workload.load=0.1,0.15,0.2,0.25,0.3,0.35,0.4,0.45,0.5,0.55"]
N_FEW, N_MANY = 12, 40
LEARN = [*ALL, "scheduler=tuned/ddrl_ats,tuned/dqn_ts", "workload.load=0.1,0.2", "train=tiny", "train.loads=[0.1]",
         "train.episodes=2", "train.episode_slots=12", "train.episode_tasks=0", "seeds=1"]  # fmt: skip


def journal_of(folder: Path):
    """A fault point that notes every job that is completed: its manifest is in place."""

    def point(moment, path):
        if moment == "renamed" and path.name == records.MANIFEST:
            descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{path.parent.name}\n".encode())
            os.close(descriptor)

    return point


# The same for every process that Python starts: loaded by itself as sitecustomize.
NOTING = """import os
from pathlib import Path
from ddrl_sched import saving

def point(moment, path):
    if moment == "renamed" and path.name == "manifest.json":
        descriptor = os.open(Path(__file__).parent / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{path.parent.name}\\n".encode())
        os.close(descriptor)

saving.fault_point = point
"""


def sweep(folder: Path, words=FEW):
    """A process that runs a sweep in `folder`."""

    def act():
        torch.set_num_threads(1)
        saving.fault_point = journal_of(folder)
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os._exit(launch("sweep", words, [], Flags(**OPTIONS), multirun=True))

    return child(act)


def completed(folder: Path) -> list[str]:
    """Jobs in the order in which they were completed."""
    return (folder / "journal").read_text().split() if (folder / "journal").exists() else []


def results(folder: Path) -> dict[str, object]:
    """Outcome of every job below `folder`."""
    return {job.name: outcome(job) for job in sorted((folder / "runs" / "adhoc").glob("[!.]*"))}


def backwards(words):
    """The same sweep in the opposite order."""
    pairs = [word.split("=") for word in words]
    return [f"{key}={','.join(reversed(values.split(',')))}" for key, values in pairs]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Results of a sweep that nobody disturbed."""
    made = {}

    def of(words):
        if str(words) not in made:
            folder = tmp_path_factory.mktemp("undisturbed")
            assert status_of(sweep(folder, words)) == 0
            made[str(words)] = results(folder)
        return made[str(words)]

    return of


def check_sweeps_side_by_side(folder, words, n_jobs, n_sweeps, undisturbed):
    folder.mkdir()
    running = [sweep(folder, backwards(words) if i % 2 else words) for i in range(n_sweeps)]
    assert [status_of(pid) for pid in running] == [0] * n_sweeps
    done = completed(folder)
    print(f"{n_sweeps} sweeps of {n_jobs} jobs in one folder: {len(done)} completed, {len(set(done))} different")
    assert len(done) == len(set(done)) == n_jobs
    assert results(folder) == undisturbed(words)


def test_two_sweeps_in_one_folder_do_every_job_once_in_whatever_order(tmp_path, undisturbed):
    check_sweeps_side_by_side(tmp_path / "two é", FEW, N_FEW, 2, undisturbed)


def trained_and_copied(folder):
    """Of the jobs that learn: how many trained, and how many have the training of another."""
    logs = [path.read_text() for path in folder.glob("runs/adhoc/*/run.log")]
    copied = sum(log.startswith("the training of ") for log in logs)
    return len(logs) - copied, copied


def test_two_sweeps_in_one_folder_do_every_training_once(tmp_path, undisturbed):
    check_sweeps_side_by_side(tmp_path / "two é", LEARN, 4, 2, undisturbed)
    assert trained_and_copied(tmp_path / "two é") == (2, 2)


@pytest.mark.slow
def test_four_sweeps_in_one_folder_do_every_job_once_in_whatever_order(tmp_path, undisturbed):
    check_sweeps_side_by_side(tmp_path / "four é", MANY, N_MANY, 4, undisturbed)


def test_other_schedulers_in_a_sweep_change_nothing(tmp_path, undisturbed):
    """Common random numbers: a job alone has the results that it has among others."""
    assert status_of(sweep(tmp_path, [*ALL, "scheduler=random", "workload.load=0.2"])) == 0
    (alone,) = results(tmp_path).items()
    assert alone in undisturbed(FEW).items()


@pytest.fixture
def processes(tmp_path):
    """Start `ddrl sweep` with two workers in a folder of its own; what they complete is noted there."""
    started = []

    def start(name="n jobs é", words=FEW, **env):
        words = [sys.executable, "-m", "ddrl_sched", "sweep", *words, "launcher=processes", "launcher.n_jobs=2"]
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(NOTING, encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", **env}
        started.append(subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return started[-1], folder

    yield start
    for process in started:
        process.kill()
        process.communicate()


def children(pid: int) -> list[int]:
    """Processes that `pid` started, and those that they started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


@pytest.mark.slow
def test_two_workers_and_another_order_of_sets_give_the_same_results(processes, undisturbed):
    process, folder = processes(PYTHONHASHSEED="1")
    err = process.communicate()[1].decode().splitlines()
    assert [line for line in err if f" of {N_FEW} jobs: " not in line] == []  # how far it is, where that takes long
    assert process.returncode == 0
    assert results(folder) == undisturbed(FEW)


@pytest.mark.slow
def test_two_workers_do_every_training_once(processes, undisturbed):
    process, folder = processes(words=LEARN)
    process.communicate()
    assert process.returncode == 0
    assert results(folder) == undisturbed(LEARN)
    assert trained_and_copied(folder) == (2, 2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR2, 143)])
def test_a_signal_leaves_no_worker_behind_and_the_sweep_can_go_on(processes, undisturbed, number, status):
    process, folder = processes()
    end = time.monotonic() + 120
    while not list(folder.glob("runs/adhoc/*/job.json")) and time.monotonic() < end:
        time.sleep(0.02)
    workers = children(process.pid)
    assert workers
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert b"Traceback" not in err
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
    assert status_of(sweep(folder)) == 0
    assert results(folder) == undisturbed(FEW)


def kill_sweeps(folder, words, n_jobs, n_kills, at_once):
    """(folder, killed so far) of one finished sweep after the other, each begun again until it was complete.

    `at_once` sweeps run side by side, and are killed at random moments.
    """
    rng, kills = random.Random(3), 0
    while kills < n_kills:
        folder, known = folder.with_name(folder.name + "'"), set()
        folder.mkdir()
        while len(known) < n_jobs and kills < n_kills:
            running = [sweep(folder, words) for _ in range(at_once)]
            kills += sum(kill_after(pid, rng.uniform(0.05, 1.0)) == -signal.SIGKILL for pid in running)
            whole = {job.name for job in (folder / "runs" / "adhoc").glob("*") if records.is_done(job)}
            assert known <= whole  # nothing that was done is lost
            known = whole
        assert status_of(sweep(folder, words)) == 0
        yield folder, kills


def check_killed_sweeps(folder, words, n_jobs, n_kills, at_once, undisturbed):
    finished = []
    for one, kills in kill_sweeps(folder, words, n_jobs, n_kills, at_once):
        done = completed(one)
        finished.append((kills, len(done) - len(set(done))))
        assert results(one) == undisturbed(words)
    twice = sum(n for _, n in finished)
    print(f"{finished[-1][0]} sweeps killed, {len(finished)} x {n_jobs} jobs complete, 0 lost, {twice} done twice")
    assert twice == 0


def test_killed_sweeps_lose_and_double_nothing(tmp_path, undisturbed):
    check_killed_sweeps(tmp_path / "killed", FEW, N_FEW, 6, 2, undisturbed)


@pytest.mark.slow
def test_a_hundred_killed_sweeps_lose_and_double_nothing(tmp_path, undisturbed):
    check_killed_sweeps(tmp_path / "killed é", MANY, N_MANY, 100, 4, undisturbed)


def workers(pid: int) -> list[int]:
    """Those of the command `pid`, without what Python needs beside them."""
    found = []
    for one in children(pid):
        with contextlib.suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def kill_one(process, folder: Path, rng) -> str:
    """Kill a random worker or the command itself after some more jobs; which it was, "" if all ended before."""
    enough = len(completed(folder)) + rng.randrange(8)
    while process.poll() is None and (len(completed(folder)) < enough or not workers(process.pid)):
        time.sleep(0.005)
    time.sleep(rng.uniform(0.0, 0.1))
    victim = rng.choice([process.pid, *workers(process.pid)])
    if process.poll() is not None:
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
        return "command" if victim == process.pid else "worker"
    return ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("n_kills", [6, 100])
def test_kills_in_sweeps_with_two_workers_lose_and_double_nothing(processes, undisturbed, n_kills):
    """Killed workers are replaced; a killed command leaves workers that may still complete what they do."""
    rng, killed, n_sweeps = random.Random(5), Counter(), 0
    while killed.total() < n_kills:
        n_sweeps, known, status = n_sweeps + 1, set(), None
        name = f"killed {n_sweeps}"
        while status != 0:
            process, folder = processes(name, MANY)
            while process.poll() is None and killed.total() < n_kills:
                if victim := kill_one(process, folder, rng):
                    killed[victim] += 1
            process.communicate(timeout=300)
            status = process.returncode
            assert status in (0, 1, -signal.SIGKILL)  # 1: jobs of killed workers are named
            whole = {job.name for job in (folder / "runs" / "adhoc").glob("*") if records.is_done(job)}
            assert known <= whole  # nothing that was done is lost
            known = whole
        done = completed(folder)
        assert len(done) == len(set(done)) == len(known) == N_MANY
        assert results(folder) == undisturbed(MANY)
    print(f"{dict(killed)} killed, {n_sweeps} x {N_MANY} jobs complete, 0 lost, 0 done twice")


def test_a_claimed_job_is_passed_over_then_waited_for_and_then_seen_as_done(tmp_path):
    data = settings(tmp_path)
    folder = folder_of(data)
    with lock(folder, wait=False) as mine:
        assert mine
        assert status_of(child(lambda: os._exit(claimed(data)))) == 0
    assert not is_locked(folder)
    assert run_job(data, "sweep", {**NO_OPTIONS, "wait": False}) == "done"


def claimed(data):
    """0 if the job is claimed by another process, as every question about it says."""
    answers = run_job(data, "sweep", {**NO_OPTIONS, "wait": False}), plan_job(data, "sweep", NO_OPTIONS)["state"]
    return 0 if answers == ("claimed", "running") else 1
