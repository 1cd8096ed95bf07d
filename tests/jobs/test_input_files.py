"""One file under several names is one file; another content under one name is another; a folder names its files."""

import gzip
import hashlib
import json
import re
import shlex

import numpy as np
import pytest
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from ddrl_sched.config import InputError
from ddrl_sched.edge.input_file import content_sha256
from ddrl_sched.jobs import kinds, records, training
from ddrl_sched.jobs import scheduling as job_module
from ddrl_sched.report.load import load
from ddrl_sched.report.summary import summary
from tests.conf_files import plain
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import ask, prepare, run_job
from tests.resume_jobs import NO_OPTIONS, folder_of, tiny


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
    printed = summary(folder_of(data, "train")).splitlines()[-1].removeprefix("evaluate: ")
    words = shlex.split(printed)
    assert words[:3] == ["ddrl", "eval", "--run"]
    (override,) = words[4:]
    key, _, value = override.partition("=")
    assert key == "+workload.path"
    again = {**data, "overrides": [override], "workload": {**data["workload"], "path": value.strip('"')}}
    assert run_job(again, "eval", {**NO_OPTIONS, "run": words[3]}) == "done"
    with pytest.raises(InputError, match=re.escape(f"workload.path: --run {words[3]} names the file")):
        ask({**data, "overrides": []}, "eval", {**NO_OPTIONS, "run": words[3]})


def test_job_json_keeps_the_content_of_each_input_file(traces):
    data = on_trace(settings(traces), "a.csv")
    assert run_job(data, "eval", NO_OPTIONS) == "done"
    sha256 = content_sha256((traces / "a.csv").read_bytes())
    assert records.read_job(folder_of(data, "eval"))["input_sha256"] == {"workload.path": sha256}


def test_job_json_keeps_the_content_of_a_network_of_the_package(tmp_path):
    data = settings(tmp_path)
    data["env"] = plain("env", "kreonet")
    data["env"]["clock"]["horizon_s"] = 1.5
    inputs = ask(data, "eval", NO_OPTIONS).inputs
    assert list(inputs) == ["env.network.file"]
    problem = prepare(data, "eval", NO_OPTIONS).problem
    assert problem.inputs == inputs


def changed_after(monkeypatch, module, name, file, content):
    """Let `file` have another content as soon as the function `name` of the module has been called."""
    real = getattr(module, name)

    def called(*words, **more):
        result = real(*words, **more)
        file.write_bytes(content)
        return result

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize("content", ["other", "short", "no table", "nothing"])
def test_a_file_that_changes_before_it_is_used_fails_the_job(traces, monkeypatch, content):
    """The id was made of another content."""
    new = {
        "other": (traces / "other.csv").read_bytes(),
        "short": b"timestamp\n0\n1\n",
        "no table": b"\0",
        "nothing": b"",
    }
    changed_after(monkeypatch, kinds, "resolve", traces / "a.csv", new[content])
    with pytest.raises(InputError, match=r"^workload\.path: .*a\.csv: changed while the job used it"):
        run_job(on_trace(settings(traces), "a.csv"), "eval", NO_OPTIONS)
    assert list(traces.rglob("job.json")) == []


def test_a_network_that_changes_before_it_is_used_fails_the_job(tmp_path, monkeypatch):
    file, data = tmp_path / "net.gml", settings(tmp_path)
    text = "graph [ node [ id 0 ] node [ id 1 ] edge [ source 0 target 1 LinkSpeedRaw {} ] ]"
    file.write_text(text.format("1e9"))
    data["env"] = plain("env", "kreonet")
    data["env"]["clock"]["horizon_s"] = 1.5
    data["env"]["network"] |= {"file": str(file), "missing_rate_mbps": 10.0}
    problem = prepare(data, "eval", NO_OPTIONS).problem
    assert problem.inputs == {"env.network.file": hashlib.sha256(file.read_bytes()).hexdigest()}
    changed_after(monkeypatch, kinds, "resolve", file, text.format("2e9").encode())
    with pytest.raises(InputError, match=r"^env\.network\.file: .*net\.gml: changed while the job used it"):
        run_job(data, "eval", NO_OPTIONS)


def test_a_file_that_changes_before_its_training_fails_the_job(traces, monkeypatch):
    """Training builds the world anew for each of train.loads."""
    data = on_trace(tiny(traces, "lad_ts"), "a.csv")
    data["train"]["loads"] = [0.2, 0.3]
    asked = ask(data, "sweep", NO_OPTIONS)
    changed_after(monkeypatch, training, "_trained_before", traces / "a.csv", (traces / "other.csv").read_bytes())
    with pytest.raises(InputError, match=r"^workload\.path: .*a\.csv: changed while"):
        run_job(data, "sweep", NO_OPTIONS)
    failed = records.read_job(asked.folder)
    assert (failed["status"], "a.csv: changed while" in failed["error"]) == ("failed", True)


def test_rows_are_of_what_was_read_whatever_becomes_of_the_file(traces, monkeypatch):
    data = on_trace(settings(traces), "a.csv")
    folder = folder_of(data, "eval")
    changed_after(monkeypatch, job_module, "build", traces / "a.csv", b"timestamp\n")
    assert run_job(data, "eval", NO_OPTIONS) == "done"
    (traces / "a.csv").write_bytes((traces / "b.csv").read_bytes())
    monkeypatch.undo()
    monkeypatch.chdir(traces)
    expected = prepare(data, "eval", NO_OPTIONS).problem.scenario_hash
    assert set(load([folder]).rows.scenario_hash) == {expected}
    assert records.read_job(folder)["scenario_hash"] == expected


def test_weights_that_change_before_they_are_used_fail_the_job(tmp_path, monkeypatch):
    data = tiny(tmp_path, "lad_ts")
    assert run_job(data, "train", NO_OPTIONS) == "done"
    folder = folder_of(data, "train")
    real = kinds.resolve

    def then_changed(*words):
        asked = real(*words)
        tensors = load_tensors((folder / "weights.safetensors").read_bytes())
        records.write_bytes(folder / "weights.safetensors", save({name: 0.5 * each for name, each in tensors.items()}))
        records.write_manifest(folder)
        return asked

    monkeypatch.setattr(kinds, "resolve", then_changed)
    with pytest.raises(InputError, match=r"^--run .*: weights.safetensors changed while the job used it"):
        run_job({**data, "overrides": []}, "eval", {**NO_OPTIONS, "run": str(folder)})


def test_a_copy_of_a_trace_is_the_same_in_a_report(traces):
    """The same job again, with the file elsewhere: nothing is said of other settings."""
    folders = []
    for name in ("a.csv", "b.csv"):
        data = on_trace(settings(traces / name.partition(".")[0]), name)
        assert run_job(data, "eval", NO_OPTIONS) == "done"
        folders.append(folder_of(data, "eval"))
    found = load(folders)
    assert [note.partition(" left out, ")[2].partition(":")[0] for note in found.notes] == ["repeated there"]
    assert found.rows.workload.unique().tolist() in (["trace(path=a.csv)"], ["trace"])


def test_a_folder_without_the_content_of_its_files_is_read(traces):
    data = on_trace(settings(traces), "a.csv")
    assert run_job(data, "eval", NO_OPTIONS) == "done"
    folder = folder_of(data, "eval")
    job = json.loads((folder / "job.json").read_text())
    job["input_sha256"] = {}
    (folder / "job.json").write_text(json.dumps(job))
    records.write_manifest(folder)
    found = load([folder])
    assert (found.skipped, found.n_read) == ([], 1)
    assert records.read_finished(folder)[0]["input_sha256"] == {}


def test_a_text_is_the_same_file_in_every_dress():
    text = b"t,a\n0,1\n1,2\n"
    same = [
        text,
        text.rstrip(),
        text + b"\n\n",
        text.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text,
        gzip.compress(text),
    ]
    assert len({content_sha256(content) for content in same}) == 1
    other = [b"t,a\n0,1\n1,3\n", b"t,a\n\n0,1\n1,2\n", b"PAR1" + text, b"PAR1" + text + b"\n", gzip.compress(text)[:-9]]
    assert len({content_sha256(content) for content in [text, *other]}) == 1 + len(other)
