"""Jobs that differ only in what they evaluate have one training, also where two processes meet."""

import os
import signal
import sys
import time

import pytest
import torch

from ddrl_sched import saving
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records
from ddrl_sched.report.load import load
from tests.jobs_by_hand import run_job
from tests.resume_jobs import NO_OPTIONS, child, folder_of, outcome, run, status_of, tiny
from tests.robustness.test_signals import PATIENCE_S, listening, wait_for

KILLED = -9


def job_at(folder, load, **how):
    """A job that trains at load 0.1 and is evaluated at `load`."""
    data = tiny(folder, "lad_ts", **how)
    data["train"] |= {"loads": [0.1]}
    data["workload"] = {**data["workload"], "load": load}
    return data


def copied(folder):
    """Whose training a job has; "" for its own."""
    return (folder / "run.log").read_text().partition("the training of ")[2].strip()


@pytest.fixture
def holder(tmp_path):
    """(pid, job, gate): a process in the middle of a training, in which it stays until the file `gate` is there."""
    torch.set_num_threads(1)
    data, gate, inside = job_at(tmp_path / "runs", 0.1), tmp_path / "gate", tmp_path / "inside"

    def watch(_progress):
        inside.touch()
        while not gate.exists():
            time.sleep(0.01)

    pid = child(lambda: run_job(data, "sweep", {**NO_OPTIONS, "watch": watch}))
    wait_for(inside, pid)
    yield pid, data, gate
    gate.touch()


def waiter(data, said):
    """A process that runs a job as the command line does, and waits already; `said` gets its stderr."""

    def act():
        sys.stderr = said.open("w", buffering=1)  # not descriptor 2, which pytest may have put elsewhere
        run_job(data, "sweep", NO_OPTIONS)

    pid = listening(act)
    end = time.monotonic() + PATIENCE_S
    while not (said.exists() and "waiting" in said.read_text()):
        assert time.monotonic() < end
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    return pid


def test_the_second_of_two_processes_waits_and_takes_over(tmp_path, holder):
    pid, first, gate = holder
    second = job_at(tmp_path / "runs", 0.2)
    waiting = waiter(second, tmp_path / "said")
    gate.touch()
    assert (status_of(pid), status_of(waiting)) == (0, 0)
    assert copied(folder_of(first)) == ""
    assert copied(folder_of(second)) == folder_of(first).name
    alone = job_at(tmp_path / "alone", 0.2)
    assert run(alone) == 0
    assert outcome(folder_of(second)) == outcome(folder_of(alone))
    locks = list((tmp_path / "runs" / "jobs").glob(".training-*"))
    assert len(locks) == 1
    found = load([tmp_path / "runs"])
    assert (found.skipped, found.notes, found.rows.job_id.nunique()) == ([], [], 2)


def test_one_of_many_jobs_is_passed_over_meanwhile_and_another_training_is_not(tmp_path, holder):
    second, other = job_at(tmp_path / "runs", 0.2), job_at(tmp_path / "runs", 0.2, episodes=3)
    for data, answer in ((second, "claimed"), (other, "done")):
        assert run_job(data, "sweep", {**NO_OPTIONS, "wait": False}) == answer
    assert not folder_of(second).exists()


def test_a_killed_holder_frees_its_training(tmp_path, holder):
    pid, _, _ = holder
    second = job_at(tmp_path / "runs", 0.2)
    waiting = waiter(second, tmp_path / "said")
    os.kill(pid, signal.SIGKILL)
    assert (status_of(pid), status_of(waiting)) == (KILLED, 0)
    assert copied(folder_of(second)) == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_who_waits(tmp_path, holder, number, status):
    waiting = waiter(job_at(tmp_path / "runs", 0.2), tmp_path / "said")
    os.kill(waiting, number)
    assert status_of(waiting) == status
    assert (tmp_path / "said").read_text().count("\n") == 1


def test_a_training_that_fails_is_tried_by_the_next(tmp_path):
    first, second = job_at(tmp_path, 0.1), job_at(tmp_path, 0.2)

    def fail(_progress):
        raise InputError("no luck")

    with pytest.raises(InputError, match="no luck"):
        run_job(first, "sweep", {**NO_OPTIONS, "watch": fail})
    assert run_job(second, "sweep", NO_OPTIONS) == "done"
    assert copied(folder_of(second)) == ""
    assert run_job(first, "sweep", {**NO_OPTIONS, "retry_failed": True}) == "done"
    assert copied(folder_of(first)) == folder_of(second).name


def test_evaluations_of_a_finished_training_do_not_wait_for_each_other(tmp_path, monkeypatch):
    """Who has found it lets go before the evaluation: another process gets its turn while that lasts."""
    assert run_job(job_at(tmp_path, 0.1), "sweep", NO_OPTIONS) == "done"
    second, third, states = job_at(tmp_path, 0.2), job_at(tmp_path, 0.3), []

    def meanwhile(moment, path):
        if moment == "created" and path.parent == folder_of(second) and "eval" in path.name:
            monkeypatch.undo()
            states.append(run(third, options={**NO_OPTIONS, "wait": False}))
            states.append(records.is_done(folder_of(third)))

    monkeypatch.setattr(saving, "fault_point", meanwhile)
    assert run_job(second, "sweep", NO_OPTIONS) == "done"
    assert states == [0, True]
