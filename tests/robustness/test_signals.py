"""What a signal does: the state is saved, the exit status tells which signal it was, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from ddrl_sched import stopping
from ddrl_sched.cli import app
from ddrl_sched.jobs import checkpoint, records
from tests.jobs_by_hand import run_job
from tests.paths import DATA, REPOSITORY
from tests.resume_jobs import NO_OPTIONS, child, folder_of, outcome, status_of, tiny

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR2: 143, signal.SIGHUP: 143}
PATIENCE_S = 60.0  # of a test on a machine that is busy with others


@pytest.fixture
def long(tmp_path):
    """A training that would take many minutes."""
    return tiny(tmp_path, "lad_ts", episodes=50_000, checkpoint_s=0.05)


def listening(act):
    """A child that runs `act` as the command line does."""

    def listen_and_act():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
        stopping.listen()
        signal.signal(signal.SIGALRM, lambda *_: os._exit(99))
        act()

    return child(listen_and_act)


def wait_for(path, pid):
    """Until `path` exists or the child ends."""
    end = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < end
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.005)


@pytest.mark.parametrize("number", STATUS, ids=lambda n: n.name)
def test_a_signal_saves_the_state_of_a_training(long, number, capfd):
    torch.set_num_threads(1)
    folder = folder_of(long)
    pid = listening(lambda: run_job(long, "sweep", NO_OPTIONS))
    wait_for(folder / checkpoint.FOLDER / checkpoint.FILE, pid)
    os.kill(pid, number)
    assert status_of(pid) == STATUS[number]
    assert records.read_job(folder)["status"] == "running"
    said = capfd.readouterr().err
    assert said == f"lad_ts: state saved; the same command goes on from here ({folder})\n"


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_the_command_line_ends_with_the_status_of_the_signal_and_no_traceback(tmp_path, command, capfd):
    torch.set_num_threads(1)
    words = ["scheduler=tuned/ddrl_ats", "train=tiny", "train.episodes=100000", "train.checkpoint_s=0.05", "seeds=1"]

    def act():
        os.chdir(tmp_path)
        app([command, *words])

    pid = listening(act)
    end = time.monotonic() + PATIENCE_S
    while not list(tmp_path.glob(f"runs/adhoc/*/{checkpoint.FOLDER}/{checkpoint.FILE}")) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    assert status_of(pid) == 143
    out, err = capfd.readouterr()
    assert out == ""
    label = "tuned/ddrl_ats(episodes=100000)" if command == "train" else "tuned/ddrl_ats"
    assert err.startswith(f"{label}: state saved; the same command goes on from here ({tmp_path}/runs/adhoc/")
    assert err.count("\n") == 1


def test_a_training_that_a_signal_ended_goes_on_bit_for_bit(tmp_path):
    """Every process is told to leave after a while, a little longer each time, until one gets to the end."""
    torch.set_num_threads(1)
    data = [tiny(tmp_path / where, "lad_ts", episodes=12, checkpoint_s=86_400.0) for where in "ab"]
    run_job(data[0], "sweep", NO_OPTIONS)
    numbers, ends = list(STATUS), []
    while not ends or ends[-1] != 0:
        pid = listening(lambda: run_job(data[1], "sweep", NO_OPTIONS))
        time.sleep(0.1 + 0.05 * len(ends))
        if not os.waitpid(pid, os.WNOHANG)[0]:
            number = numbers[len(ends) % len(numbers)]
            os.kill(pid, number)
            ends.append(status_of(pid))
            assert ends[-1] in (0, STATUS[number])
        else:
            ends.append(0)
    print(f"{len(ends) - 1} signals before the end, 0 differ")
    assert len(ends) > 1
    assert outcome(folder_of(data[1])) == outcome(folder_of(data[0]))


def test_a_second_signal_kills_at_once(tmp_path):
    def deaf():
        (tmp_path / "ready").touch()
        with stopping.postponed():
            while True:
                time.sleep(0.01)

    pid = listening(deaf)
    wait_for(tmp_path / "ready", pid)
    os.kill(pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    assert status_of(pid) == -signal.SIGINT


def test_a_signal_is_not_postponed_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "PATIENCE_S", 0.2)

    def deaf():
        (tmp_path / "ready").touch()
        with stopping.postponed():
            while True:
                time.sleep(0.01)

    pid = listening(deaf)
    wait_for(tmp_path / "ready", pid)
    os.kill(pid, signal.SIGTERM)
    assert status_of(pid) == 143


def test_a_handler_that_was_there_before_has_its_turn_after_the_state_is_saved(tmp_path):
    """A batch system's own handler, for example, which puts the job into the queue again."""

    def act():
        signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7 if (tmp_path / "saved").exists() else 8))
        stopping.listen()
        steps = checkpoint.resumable(iter(lambda: time.sleep(0.01), 1), (tmp_path / "saved").touch, 86_400.0)
        (tmp_path / "ready").touch()
        next(steps)

    pid = child(act)
    wait_for(tmp_path / "ready", pid)
    time.sleep(0.1)
    os.kill(pid, signal.SIGUSR2)
    assert status_of(pid) == 7


def test_under_nohup_a_hangup_is_ignored():
    def act():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stopping.listen()
        os.kill(os.getpid(), signal.SIGHUP)

    assert status_of(child(act)) == 0


# The command line, which says when it listens, and what is loaded by then.
START = """import sys
from ddrl_sched import __main__ as start, stopping
listen = stopping.listen
def told():
    listen()
    stopping.listen = listen
    print([name for name in ("typer", "ddrl_sched.cli") if name in sys.modules], flush=True)
stopping.listen = told
start.main()
"""


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_a_signal_at_the_start_ends_quietly(tmp_path, after_s):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        command = [sys.executable, "-c", START, "sweep", "scheduler=eft,jsq", "--dry-run"]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True)
        assert process.stdout.readline() == "[]\n"
        time.sleep(after_s)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (status, "", "")


def test_a_signal_while_kernels_are_compiled_ends_without_a_traceback(tmp_path):
    golden = min((DATA / "golden").glob("*.npz"))
    words = ["replay", str(golden), "--out", str(tmp_path / "out.npz")]
    run = subprocess.Popen(
        [sys.executable, "-m", "ddrl_sched.cli", *words],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")},
        stderr=subprocess.PIPE,
        text=True,
    )
    said = run.stderr.readline()
    assert said.startswith("compiling kernels")
    time.sleep(1.0)
    run.send_signal(signal.SIGTERM)
    assert run.wait(PATIENCE_S) == 143
    assert run.stderr.read() == ""
    assert not (tmp_path / "out.npz").exists()


def test_postponing_may_be_nested(tmp_path):
    def act():
        with stopping.postponed():
            with stopping.postponed():
                signal.raise_signal(signal.SIGTERM)
            (tmp_path / "saved").touch()
        (tmp_path / "too late").touch()

    assert status_of(listening(act)) == 143
    assert (tmp_path / "saved").exists()
    assert not (tmp_path / "too late").exists()
