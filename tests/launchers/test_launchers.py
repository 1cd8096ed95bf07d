"""Jobs that run elsewhere: as equal to serial ones as can be, and no more lost than had to be."""

import contextlib
import json
import multiprocessing
import os
import pickle
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records
from ddrl_sched.jobs.lock import FILE as CLAIM
from ddrl_sched.jobs.lock import lock
from ddrl_sched.jobs.request import Flags, Result
from ddrl_sched.launch import launch
from ddrl_sched.launchers import processes, submitit_jobs, table
from ddrl_sched.launchers.table import LAUNCHERS, dispatch
from ddrl_sched.launchers.task import Task, bring_home, carry_out, settled
from tests import fake_slurm
from tests.conf_files import names, plain
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import ask
from tests.paths import REPOSITORY
from tests.resume_jobs import tiny
from tests.worker_jobs import alone_with, swallow_signals

SMALL = ("scheduler=local", "env.clock.horizon_s=6", "evaluate.traces=2", "workload.load=0.3")
# Schedulers of a user's own that tell of the process they run in: one kills it, until there is mercy.
OWN = """
import os, pathlib, signal, sys
from dataclasses import dataclass
from ddrl_sched.schedulers.static import Local

def note(name):
    ray = sys.modules.get("ray")
    node = ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""
    pathlib.Path(f"{name}.{os.getpid()}").write_text(node)

@dataclass(frozen=True)
class Deadly(Local):
    number = signal.SIGKILL
    def decide(self, view, rng):
        if not pathlib.Path("mercy").exists():
            note("deadly")
            os.kill(os.getpid(), self.number)
        return super().decide(view, rng)

@dataclass(frozen=True)
class Warned(Deadly):
    number = signal.SIGUSR2

@dataclass(frozen=True)
class Slow(Local):
    seconds: float
    def decide(self, view, rng):
        import time
        note("slow")
        time.sleep(self.seconds)
        return super().decide(view, rng)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the user's with the schedulers above, in which the command is given."""
    (tmp_path / "own_rules.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("own_rules", None)


def sweep(*words):
    return launch("sweep", [*SMALL, *words], [], Flags(), multirun=True)


def sweep_apart(*words):
    """A sweep in a process of its own: Ray reads its environment but once in a process."""
    command = [sys.executable, "-c", "from ddrl_sched.cli import main; main()", "sweep", *SMALL, *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)


def results(folder):
    """{job id: eval.parquet without the measured time} of the finished jobs of a folder."""
    done = [path for path in sorted(folder.iterdir()) if records.is_done(path)]
    return {path.name: pd.read_parquet(path / "eval.parquet").drop(columns="decide_us") for path in done}


def assert_same_results(left, right):
    assert list(left) == list(right)
    for job_id, rows in left.items():
        pd.testing.assert_frame_equal(rows, right[job_id], check_exact=True)


@pytest.fixture
def task(tmp_path):
    return task_of(settings(tmp_path / "runs", "local"), tmp_path)


def task_of(data, cwd, number=3, **flags):
    """A task of composed data."""
    return Task(number, ask(data, "sweep", {"debug": True, **flags}), str(cwd), fingerprint.code_version())


# --- processes


def test_a_killed_process_loses_its_own_job_alone_and_the_next_sweep_finishes_it(here, capsys):
    names = "scheduler.name=own_rules:Deadly,own_rules:Warned,round_robin"
    assert sweep(names, "launcher=processes", "launcher.n_jobs=2", "name=apart") == 1
    out = capsys.readouterr().out
    assert "3 jobs: 1 done, 0 skipped, 2 failed" in out
    assert out.count("this job never ended") == 2  # each told once, at the end
    deadly, why_deadly, warned, why_warned = out.split("3 jobs:")[1].splitlines()[1:]
    assert "Deadly" in deadly
    assert "Warned" in warned
    assert "this job never ended: its process died, status -9;" in why_deadly
    assert "this job never ended: its process died, status 143;" in why_warned
    assert len(results(here / "runs/apart")) == 1
    (here / "mercy").touch()
    assert sweep(names, "name=apart") == 0
    assert "3 jobs: 2 done, 1 skipped, 0 failed" in capsys.readouterr().out
    assert sweep(names, "name=serial") == 0
    assert_same_results(results(here / "runs/apart"), results(here / "runs/serial"))


def fewest_files(seconds):
    """Fewest open files of this process within some time: threads that end close theirs a little later."""
    end, fewest = time.monotonic() + seconds, sys.maxsize
    while time.monotonic() < end:
        fewest = min(fewest, len(os.listdir("/proc/self/fd")))
        time.sleep(0.01)
    return fewest


def test_a_process_that_died_between_two_jobs_is_replaced(task):
    """Killed while its last report is on its way to the caller: the next job gets another process."""
    tasks = [replace(task, number=n, code_version="another") for n in range(4)]  # refused where it arrives
    reports = processes.run(tasks, processes.ProcessesSettings(name="processes", n_jobs=1))
    got, n_files = [], []
    for report in reports:
        if report.state == "running":
            continue
        got.append(report)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
            worker.join(10)
        n_files.append(fewest_files(seconds=0.5))
    assert [report.number for report in got] == [0, 1, 2, 3]
    assert all("another version of ddrl" in report.message for report in got)
    assert multiprocessing.active_children() == []
    assert n_files[-1] <= n_files[1] + 2  # nothing is kept of the dead, which had four each


def test_what_a_job_says_comes_home_short_enough_to_be_written_at_once(task, monkeypatch):
    monkeypatch.setattr(processes, "work", lambda _: Result("done", said="é" * 10**6))
    report = processes._work(task)
    assert len(pickle.dumps(report)) < 2**14
    assert report.said.startswith("é")
    assert "[...]" in report.said


def test_no_process_outlives_a_killed_command(tmp_path):
    """Not even one whose job swallows the signal: it ends PATIENCE_S later."""
    command = multiprocessing.get_context("spawn").Process(
        target=alone_with, args=(partial(swallow_signals, tmp_path),)
    )
    command.start()
    worker = int(until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()))
    os.kill(command.pid, signal.SIGKILL)
    command.join()
    until(lambda: (tmp_path / "heard").exists())
    until(lambda: not Path(f"/proc/{worker}").exists())


def until(found, seconds=120):
    """What `found` answers as soon as that is true."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer


def test_a_process_that_dies_before_its_first_job_is_named(task, monkeypatch):
    monkeypatch.setattr(processes, "_begin", partial(os._exit, 7))
    report = list(dispatch([task], {"name": "processes", "n_jobs": 2}))[-1]
    assert report.code == 1
    assert "this job never ended: its process died, status 7;" in report.message


# --- what is sent and what comes home


def test_what_is_to_be_sent_is_checked_but_not_tried_out(here, task):
    data = settings(here / "runs", "local")
    assert settled(task_of(data | {"scheduler": {"name": "own_rules:Slow", "seconds": 0.0}}, here)) is None
    assert not list(here.glob("slow.*"))
    wrong = settled(task_of(data | {"scheduler": {"name": "best_of"}}, here))
    assert (wrong.code, wrong.state) == (2, "failed")


def test_a_class_of_the_users_is_not_run_where_jobs_are_only_sent(here, task):
    (here / "deadly.py").write_text("import os\nos._exit(3)\n")
    assert settled(task_of(settings(here / "runs", "local") | {"scheduler": {"name": "deadly:Rule"}}, here)) is None


def test_a_fetched_job_comes_home_as_it_would_have_been_written_here(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = carry_out(replace(task, fetch=True))
    assert (report.number, report.state) == (3, "done")
    assert not (tmp_path / "runs").exists()
    assert not bring_home(report, tmp_path / "home").files
    carry_out(task)
    assert_same_results(results(tmp_path / "home/jobs"), results(tmp_path / "runs/jobs"))
    assert len(results(tmp_path / "runs/jobs")) == 1


def test_only_what_others_can_use_is_fetched(tmp_path, monkeypatch):
    """Of a job that a full disk ended: not its lock, and not its checkpoint, which is of that machine alone."""
    monkeypatch.chdir(tmp_path)
    data = tiny(tmp_path / "runs", "lad_ts")
    monkeypatch.setattr("ddrl_sched.jobs.scheduling.evaluate", Mock(side_effect=OSError("the disk is full")))
    report = carry_out(replace(task_of(data, tmp_path, debug=False), fetch=True))
    assert (report.code, report.message) == (4, "the disk is full")
    assert {Path(name).name for name in report.files} == {
        "job.json", "curves.parquet", "weights.safetensors", "run.log",
    }  # fmt: skip


def test_what_comes_home_waits_for_others_and_does_no_job_twice(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = carry_out(replace(task, fetch=True))
    folder = tmp_path / "home" / Path(min(report.files)).parent
    comes = threading.Thread(target=bring_home, args=(report, tmp_path / "home"))
    with lock(folder, wait=False):
        comes.start()
        comes.join(0.5)
        assert comes.is_alive()
        assert [path.name for path in folder.iterdir()] == [CLAIM]
    comes.join(30)
    assert records.is_done(folder)
    done = {path.name: path.stat().st_ino for path in folder.iterdir()}
    bring_home(report, tmp_path / "home")
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == done


def test_another_version_of_the_code_is_refused(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = carry_out(replace(task, code_version="0" * 64))
    assert (report.state, report.code) == ("failed", 1)
    assert "another version of ddrl" in report.message


def test_what_a_job_prints_comes_home(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = settings(tmp_path / "runs", "local") | {"scheduler": {"name": "best_of"}}
    report = carry_out(task_of(data, tmp_path))
    assert report.code == 2
    assert report.message.startswith("scheduler.name: ")
    assert "Traceback" in report.said  # of --debug


def test_files_that_cannot_be_written_at_home_fail_the_job(tmp_path):
    (tmp_path / "home").write_text("not a folder")
    report = Result("done", files={"a/b/job.json": b"{}"})
    assert bring_home(report, tmp_path / "home").code == 4


# --- the table


def test_jobs_that_an_engine_still_had_when_it_failed_are_named(task, monkeypatch):
    def run(tasks, settings):
        yield Result("done")
        raise RuntimeError("the cluster is gone")

    engine = types.ModuleType("engine")
    engine.run, engine.Record = run, types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "engine", engine)
    monkeypatch.setitem(LAUNCHERS, "ray", "engine:Record")
    monkeypatch.setattr(table, "validate", lambda *given: None)
    reports = list(dispatch([replace(task, number=n) for n in range(3)], {"name": "ray"}))
    assert [(report.number, report.state) for report in reports] == [(0, "done"), (1, "failed"), (2, "failed")]
    assert "the cluster is gone" in reports[1].message
    assert "same command" not in reports[1].message  # nobody knows whether that would help


@pytest.mark.parametrize(("name", "module", "extra"), [("ray", "ray", "ray"), ("slurm", "submitit", "slurm")])
def test_a_missing_extra_is_named(task, monkeypatch, name, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"launcher={name} needs the extra '{extra}'.*scripts/install {extra}"):
        list(dispatch([task], plain("launcher", name)))


def test_every_launcher_has_a_yaml_and_every_yaml_a_launcher():
    assert {plain("launcher", name)["name"] for name in names("launcher")} == {table.SERIAL, *LAUNCHERS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "serial", "n_jobs": 2}, r"launcher\.n_jobs: unknown key"),
        ({"name": "slurm", "max_array": 0}, r"launcher\.max_array: must be >= 1, got 0"),
        ({"name": "slurm", "options": {"array": "0-3"}}, r"launcher\.options\.array: is set by ddrl itself"),
        ({"name": "ray", "n_jobs": 0}, r"launcher\.n_jobs: must be >= 1, got 0"),
        ({"name": "slurm", "setup": "module load x"}, r"launcher\.setup: must be a list"),
        ({"name": "slrum"}, r"launcher\.name: expected one of .*; did you mean 'slurm'"),
        ({"name": "ray", "results": "lost"}, r"launcher\.results: must be 'shared' or 'fetched'"),
        ({"name": "ray", "address": "nowhere"}, r"launcher\.address: no Ray cluster at 'nowhere'"),
    ],
)
def test_wrong_settings_of_a_launcher_name_their_key(task, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", sys.modules.get("ray", types.ModuleType("ray")))
    monkeypatch.setitem(sys.modules, "submitit", fake_slurm.module)
    base = plain("launcher", change["name"]) if change["name"] in LAUNCHERS else {}
    with pytest.raises(InputError, match=message):
        list(dispatch([task], base | change))


# --- Slurm, without a cluster


def slurm(**changes):
    """Settings of launcher=slurm."""
    return submitit_jobs.SlurmSettings(**plain("launcher", "slurm") | changes)


@pytest.mark.parametrize(
    ("n_tasks", "changes", "limits"),
    [
        (7, {"max_array": 5}, (5, 2, 10, 25)),  # two arrays share the 50 jobs at once
        (7, {"max_array": 5, "n_jobs": 1}, (5, 1, 10, 1)),  # one after the other
        (3, {"max_array": 1000}, (1000, 1, 1000, 50)),
        (3, {"max_array": 1000, "max_submitted": 2}, (2, 1, 2, 50)),
        (9, {"max_array": 2, "max_submitted": 5, "n_jobs": 4}, (2, 2, 5, 2)),
    ],
)
def test_arrays_keep_to_the_limits_of_the_site(n_tasks, changes, limits):
    found = submitit_jobs.limits_of(fake_slurm.module, slurm(**changes), n_tasks)
    assert (found.array, found.arrays, found.submitted, found.parallel) == limits


@pytest.mark.parametrize(
    ("said", "limit"),
    [("MaxArraySize            = 1001\n", 1001), ("MaxArraySize = 0\n", 1), ("nothing\n", 1000), (None, 1000)],
)
def test_the_longest_array_is_asked_from_scontrol(tmp_path, monkeypatch, said, limit):
    """MaxArraySize is one more than the largest number of a job, and the first is 0."""
    if said is not None:
        fake_slurm.command(tmp_path / "scontrol", f"printf 'Configuration data\\n{said}'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep if said is not None else None)
    assert submitit_jobs.limits_of(fake_slurm.module, slurm(), 5000).array == limit


def test_a_scontrol_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch, capsys):
    fake_slurm.command(tmp_path / "scontrol", "exec sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(submitit_jobs, "SCONTROL_S", 0.2)
    assert submitit_jobs.limits_of(fake_slurm.module, slurm(), 5000).array == submitit_jobs.USUAL_ARRAY
    assert (
        "no answer of scontrol (within 0.2 s), so arrays of 1000 jobs (launcher.max_array)" in capsys.readouterr().err
    )


@pytest.fixture
def cluster(monkeypatch):
    """A cluster that works in memory, for arrays of at most 3 jobs and 5 jobs in the queue."""
    monkeypatch.setitem(sys.modules, "submitit", fake_slurm.module)
    monkeypatch.setattr(submitit_jobs, "POLL_S", 0.0)
    monkeypatch.setattr(submitit_jobs, "GRACE_S", 0.0)
    monkeypatch.setattr(submitit_jobs, "unsettled", lambda tasks, to_send: to_send.extend(tasks) or ())
    fake_slurm.Cluster.now = fake_slurm.Cluster(max_array=3, max_queue=5)
    return fake_slurm.Cluster.now


def ended(task, n_tasks, **changes):
    """(number, state, message) of n_tasks jobs, in order of their numbers."""
    tasks = [replace(task, number=number) for number in range(n_tasks)]
    reports = list(submitit_jobs.run(tasks, slurm(**changes)))
    assert len({report.number for report in reports if report.state == "running"}) <= n_tasks
    return sorted((r.number, r.state, r.message) for r in reports if r.state != "running")


def test_no_array_is_longer_and_no_queue_fuller_than_the_settings_say(task, cluster):
    reports = ended(task, 11, max_array=3, max_submitted=5)
    assert [state for _, state, _ in reports] == ["done"] * 11
    assert cluster.arrays == [3, 3, 3, 2]
    assert cluster.longest_queue <= 5


def test_jobs_at_once_count_over_all_arrays(task, cluster):
    ended(task, 5, max_array=3, n_jobs=4)
    assert cluster.parallel == 2
    assert cluster.arrays == [3, 2]


def test_an_array_that_is_too_long_is_refused_in_slurms_words(task, cluster):
    reports = ended(task, 4, max_array=4)
    assert {state for _, state, _ in reports} == {"failed"}
    (message,) = {message for *_, message in reports}
    assert message == (
        "not submitted: sbatch: error: Batch job submission failed: Invalid job array specification; "
        "launcher.max_array limits the jobs of an array"
    )


def test_jobs_of_arrays_before_the_refused_one_are_finished(task, cluster):
    reports = ended(task, 8, max_array=3)
    assert [state for _, state, _ in reports] == ["done"] * 3 + ["failed"] * 5
    assert all(
        message.startswith("not submitted: sbatch: error: AssocMaxSubmitJobLimit; ") for *_, message in reports[3:]
    )
    assert reports[-1][2].endswith("; launcher.max_submitted limits the jobs that are queued at once")
    assert not any("same command" in message for *_, message in reports)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("TIMEOUT", "Slurm says TIMEOUT on n1 (launcher.minutes gives it more time), its log is "),
        ("OUT_OF_MEMORY", "Slurm says OUT_OF_MEMORY on n1 (launcher.mem_gb gives it more memory), its log is "),
        ("NODE_FAIL", "Slurm says NODE_FAIL on n1, its log is "),
        ("CANCELLED by 1000", "Slurm says CANCELLED by 1000 on n1, its log is "),
    ],
)
def test_what_slurm_did_to_a_job_is_said_in_its_word(task, cluster, state, words):
    cluster.ends_badly = {1: state}
    reports = ended(task, 3)
    assert [state for _, state, _ in reports] == ["done", "failed", "done"]
    assert reports[1][2].startswith(f"this job never ended: {words}")
    assert reports[1][2].endswith("the same command again goes on with it")


@pytest.mark.slow
def test_jobs_of_several_arrays_run_through_slurms_commands(here, tmp_path, monkeypatch, capsys):
    pytest.importorskip("submitit")
    fake_slurm.write_commands(tmp_path / "bin", max_array=2)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(here)]))
    words = ("evaluate.seed=1,2", "launcher=slurm", "launcher.options={qos:low}")
    assert sweep(*words, "scheduler.name=own_rules:Deadly,local", "launcher.max_array=2", "name=array") == 1
    out = capsys.readouterr().out
    assert "4 jobs: 2 done, 0 skipped, 2 failed" in out
    assert "this job never ended: Slurm says FAILED" in out
    scripts = list((here / "runs/.submitit").glob("*_submission.sh"))
    assert len(scripts) == 2
    assert all("#SBATCH --qos=low\n" in script.read_text() for script in scripts)


# --- engines that start slowly


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def ray_node(*words):
    """A node of Ray as a process of its own, ended with all that it started."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", *words]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True, env=environment)  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_nodes(address, n_nodes):
    code = f"import ray; ray.init({address!r}, logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
    for _ in range(30):
        asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if asked.stdout.strip() == str(n_nodes):
            return
        time.sleep(2)
    raise AssertionError(f"no {n_nodes} nodes: {asked.stderr}")


@pytest.mark.slow
@pytest.mark.parametrize("results_by", ["shared", "fetched"])
def test_a_ray_cluster_of_two_nodes_shares_the_jobs(here, results_by, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    address = f"127.0.0.1:{free_port()}"
    head = ("--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false")
    ray = (f"launcher.address='{address}'", "launcher=ray", f"launcher.results={results_by}", "name=cluster")
    names = ("scheduler.name=own_rules:Slow", "+scheduler.seconds=4,4.1,4.2,4.3")
    with ray_node(*head, "--node-ip-address=127.0.0.1"), ray_node(f"--address={address}"):
        wait_for_nodes(address, 2)
        assert sweep_apart(*names, *ray).returncode == 0
        assert len({note.read_text() for note in here.glob("slow.*")}) == 2
        assert "4 jobs: 0 done, 4 skipped, 0 failed" in sweep_apart(*names, *ray).stdout
    assert sweep(*names, "name=serial") == 0
    assert_same_results(results(here / "runs/cluster"), results(here / "runs/serial"))


@pytest.mark.slow
def test_ray_runs_a_job_again_whose_worker_died_and_names_one_that_always_dies(here, capsys):
    pytest.importorskip("ray")
    names = "scheduler.name=own_rules:Deadly,local"
    assert sweep(names, "launcher=ray", "launcher.retries=1", "name=again") == 1
    assert len(list(here.glob("deadly.*"))) == 2
    out = capsys.readouterr().out
    assert "2 jobs: 1 done, 0 skipped, 1 failed" in out
    assert "this job never ended" in out
    (here / "mercy").touch()
    assert sweep(names, "launcher=ray", "name=again") == 0
    assert "2 jobs: 1 done, 1 skipped, 0 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_of_submitit_loses_its_own_job_alone(here, capsys):
    pytest.importorskip("submitit")
    names = "scheduler.name=local,own_rules:Deadly,round_robin"
    assert sweep(names, "launcher=submitit_local", "name=apart") == 1
    out = capsys.readouterr().out
    assert "3 jobs: 2 done, 0 skipped, 1 failed" in out
    assert "this job never ended" in out
    (here / "mercy").touch()
    assert sweep(names, "launcher=submitit_local", "name=apart") == 0
    assert "3 jobs: 1 done, 2 skipped, 0 failed" in capsys.readouterr().out
    assert sweep(names, "name=serial") == 0
    assert_same_results(results(here / "runs/apart"), results(here / "runs/serial"))


@pytest.mark.slow
def test_submitit_takes_up_a_job_again_whose_time_is_over(task, tmp_path):
    submitit = pytest.importorskip("submitit")
    from ddrl_sched.launchers.submitit_jobs import Resumable

    data = {**task.data, "scheduler": {"name": "own_rules:Slow", "seconds": 3.0}}
    (tmp_path / "own_rules.py").write_text(OWN, encoding="utf-8")
    executor = submitit.AutoExecutor(tmp_path / "orders", cluster="local")
    executor.update_parameters(timeout_min=5)
    job = executor.submit(Resumable(), replace(task, data=data))
    while not list(tmp_path.glob("slow.*")):
        assert not job.done()
        time.sleep(0.1)
    for pid in [int(note.suffix[1:]) for note in tmp_path.glob("slow.*")]:
        os.kill(pid, signal.SIGUSR2)  # as Slurm does before the time is over
    assert job.result()["state"] == "done"
    assert len(list(tmp_path.glob("slow.*"))) == 2
    assert len(results(tmp_path / "runs/jobs")) == 1


@pytest.mark.slow
def test_slurm_runs_the_jobs_of_an_array(here, capsys):
    pytest.importorskip("submitit")
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no Slurm that answers")
    names = "scheduler.name=local,own_rules:Deadly,round_robin"
    assert sweep(names, "launcher=slurm", "launcher.minutes=10", "name=array") == 1
    assert "3 jobs: 2 done, 0 skipped, 1 failed" in capsys.readouterr().out
    (here / "mercy").touch()
    assert sweep(names, "launcher=slurm", "launcher.minutes=10", "name=array") == 0
    assert sweep(names, "name=serial") == 0
    assert_same_results(results(here / "runs/array"), results(here / "runs/serial"))
    assert json.loads(next((here / "runs/array").glob("*/job.json")).read_text())["status"] == "done"
