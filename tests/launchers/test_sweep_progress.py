"""What a sweep says while it runs: a bar on a terminal, a line now and then elsewhere, and nothing of a single job."""

import os
import pty
import re
import subprocess
import sys

import pytest

from ddrl_sched.launchers import progress
from ddrl_sched.launchers.progress import sweep_progress
from tests.paths import REPOSITORY

SMALL = ("evaluate.traces=1", "env.clock.horizon_s=1")


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when a test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def run_jobs(shown, clock, n_jobs, seconds, state="done"):
    for number in range(n_jobs):
        shown.running(number)
        clock[0] += seconds
        shown.ended(number, state)


def test_a_line_tells_what_became_of_the_jobs_and_how_long_the_rest_will_take(clock, capsys):
    with sweep_progress(10, quiet=False) as shown:
        shown.ended(0, "skipped")
        shown.running(1)
        shown.running(2)
        shown.running(3)
        clock[0] += 40
        shown.ended(1, "done")
        shown.ended(2, "failed")
    assert lines(capsys) == ["2 of 10 jobs: 1 done, 1 skipped, 2 running, 320 s left".replace("320 s", "5 min")]


def test_jobs_that_took_no_time_do_not_count_for_the_pace(clock):
    with sweep_progress(10, quiet=False) as shown:
        shown.ended(0, "failed")  # could not be composed
        assert str(shown) == "1 failed"
        shown.running(1)
        clock[0] += 10
        shown.ended(1, "done")
        assert str(shown) == "1 done, 1 failed, 80 s left"


def test_a_job_that_another_process_works_on_has_not_ended(clock):
    with sweep_progress(2, quiet=False) as shown:
        shown.running(0)
        shown.ended(0, "claimed")
        assert str(shown) == ""


@pytest.mark.parametrize(
    ("n_jobs", "seconds", "ended"),
    [
        (100, 1.0, [30, 60, 90]),  # every 30 s is later than every 10 %
        (20, 60.0, list(range(2, 20, 2))),  # every 10 % is later than every 30 s
        (3, 3600.0, [1, 2]),  # a line for each job, but the summary follows the last
        (20, 1.0, []),
    ],
)
def test_lines_come_at_every_tenth_or_every_half_minute_whichever_is_later(clock, capsys, n_jobs, seconds, ended):
    with sweep_progress(n_jobs, quiet=False) as shown:
        run_jobs(shown, clock, n_jobs, seconds)
    assert [int(line.split()[0]) for line in lines(capsys)] == ended


def test_a_single_job_says_nothing(clock, capsys):
    with sweep_progress(1, quiet=True) as shown:
        run_jobs(shown, clock, 1, 1000.0)
    assert lines(capsys) == []


def on_a_terminal(words, folder, stdout=None):
    """(status, what came to the terminal) of a command whose stderr, and stdout if it is not given, is a terminal."""
    ours, theirs = pty.openpty()
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    command = [sys.executable, "-m", "ddrl_sched", *words]
    process = subprocess.Popen(command, cwd=folder, env=env, stdin=theirs, stdout=stdout or theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    return process.wait(60), seen.decode()


def frames(seen):
    """The bar of the sweep as it was drawn, without colours."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.startswith("sweep ")]


def test_a_bar_on_the_terminal_and_the_lines_of_the_jobs_in_the_file(tmp_path):
    words = ("sweep", "scheduler=eft,jsq,local", *SMALL)
    with (tmp_path / "out").open("w") as out:
        status, seen = on_a_terminal(words, tmp_path, out)
    assert status == 0
    said = (tmp_path / "out").read_text().splitlines()
    assert [line.split()[:2] for line in said[:3]] == [["done", "eft"], ["done", "jsq"], ["done", "local"]]
    assert said[3:] == ["3 jobs: 3 done, 0 skipped, 0 failed"]
    drawn = frames(seen)
    assert drawn
    assert all(len(line) <= 80 for line in drawn)
    assert any("0/3 1 running" in line for line in drawn)
    assert "scheduler=eft" not in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")  # the cursor is back
    assert "sweep" not in seen[seen.rindex("\x1b[2K") :]  # and the bar is gone


def test_a_training_has_its_bar_below_that_of_the_sweep(tmp_path):
    learn = ("train=tiny", "seeds=1", "train.episodes=3", "train.episode_slots=6", "train.episode_tasks=0")
    status, seen = on_a_terminal(("sweep", "scheduler=tuned/ddrl_ats", *learn, *SMALL), tmp_path)
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
    rows = re.findall(r"sweep +[^\n]* 0/1 +1 running *\r\ntuned/ddrl_ats +[^\n]* [0-3]/3 ", plain)
    assert rows
    assert len(re.findall(r"^done  tuned/ddrl_ats", plain.replace("\r", "\n"), re.MULTILINE)) == 1


def test_a_plain_terminal_and_a_pipe_get_no_control_characters(tmp_path):
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "FORCE_COLOR": "1"}
    command = [sys.executable, "-m", "ddrl_sched", "sweep", "scheduler=eft", *SMALL]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
