"""One file under several names is one file; another content under one name is another; a folder names its files."""

import re
import shlex

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.report.brief import brief
from ddrl_sched.run import records
from ddrl_sched.run.identity import ask
from ddrl_sched.run.job import prepare, run_job
from tests.conf_files import plain
from tests.resume_jobs import NO_OPTIONS, folder_of, tiny
from tests.test_job import settings


@pytest.fixture
def traces(tmp_path, monkeypatch):
    """A folder, which is the current one, with a.csv, the same as b.csv, and other.csv."""
    monkeypatch.chdir(tmp_path)
    for seed, names in ((0, ("a.csv", "b.csv")), (1, ("other.csv",))):
        times = np.cumsum(np.random.default_rng(seed).exponential(size=4000))
        text = "timestamp\n" + "".join(f"{t:.6f}\n" for t in times)
        for name in names:
            (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def on_trace(data, path):
    """The job with the arrivals of a file."""
    data["workload"] = plain("workload", "trace") | {"load": 0.3, "path": str(path)}
    data["env"]["clock"]["horizon_s"] = 1.5
    return data


def test_spellings_and_copies_of_a_file_are_one_world(traces):
    spelled = ["a.csv", "./a.csv", f"../{traces.name}/a.csv", traces / "a.csv", "b.csv"]
    jobs = [ask(on_trace(settings(traces), path), "sweep", NO_OPTIONS) for path in spelled]
    assert len({job.job_id for job in jobs}) == 1
    hashes = {prepare(on_trace(settings(traces), path), "sweep", NO_OPTIONS).problem.scenario_hash for path in spelled}
    assert len(hashes) == 1
    assert {job.settings.workload.path for job in jobs} == {str(traces / "a.csv"), str(traces / "b.csv")}
    other = on_trace(settings(traces), "other.csv")
    assert ask(other, "sweep", NO_OPTIONS).job_id != jobs[0].job_id
    assert prepare(other, "sweep", NO_OPTIONS).problem.scenario_hash not in hashes


def test_a_tilde_is_the_home_folder(traces, monkeypatch):
    monkeypatch.setenv("HOME", str(traces))
    job = ask(on_trace(settings(traces), "~/a.csv"), "sweep", NO_OPTIONS)
    assert job.settings.workload.path == str(traces / "a.csv")


def test_a_training_on_what_the_file_held_before_is_not_taken_over(traces):
    """Only the evaluation differs between the jobs, so that they would share a training."""
    logs = []
    for n_traces, content in ((1, "a.csv"), (2, "a.csv"), (3, "other.csv")):
        (traces / "now.csv").write_bytes((traces / content).read_bytes())
        data = on_trace(tiny(traces, "lad_ts"), "now.csv")
        data["evaluate"]["traces"] = n_traces
        assert run_job(data, "sweep", NO_OPTIONS) == "done"
        logs.append((folder_of(data) / "run.log").read_text())
    assert [log.startswith("the training of") for log in logs] == [False, True, False]


def test_a_folder_is_gone_on_with_from_anywhere(traces, monkeypatch, tmp_path_factory):
    data = on_trace(tiny(traces / "runs", "lad_ts", episodes=4), "a.csv")

    class Killed(OSError):
        pass

    def die(progress):
        if progress.episode == 2:
            raise Killed

    with pytest.raises(Killed):
        run_job(data, "train", {**NO_OPTIONS, "watch": die})
    (folder,) = (path.parent for path in (traces / "runs").rglob("job.json"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run_job({**data, "overrides": []}, "train", {**NO_OPTIONS, "resume": str(folder)}) == "done"
    assert records.is_done(folder)


@pytest.mark.parametrize("name", ["a.csv", "a file, of mine.csv"])
def test_the_command_that_a_training_prints_evaluates_it(traces, name):
    (traces / name).write_bytes((traces / "b.csv").read_bytes())
    data = on_trace(tiny(traces, "lad_ts"), name)
    assert run_job(data, "train", NO_OPTIONS) == "done"
    printed = brief(folder_of(data, "train")).splitlines()[-1].removeprefix("evaluate: ")
    words = shlex.split(printed)
    assert words[:3] == ["ddrl", "eval", "--run"]
    (override,) = words[4:]
    key, _, value = override.partition("=")
    assert key == "+workload.path"
    again = {**data, "overrides": [override], "workload": {**data["workload"], "path": value.strip('"')}}
    assert run_job(again, "eval", {**NO_OPTIONS, "run": words[3]}) == "done"
    with pytest.raises(InputError, match=re.escape(f"workload.path: --run {words[3]} names the file")):
        ask({**data, "overrides": []}, "eval", {**NO_OPTIONS, "run": words[3]})
