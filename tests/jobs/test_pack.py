"""`ddrl pack`: copies of finished runs that a report and `ddrl eval --run` take for the runs themselves."""

import json
import shutil

import pytest

from ddrl_sched import fingerprint
from ddrl_sched.config import InputError
from ddrl_sched.jobs.pack import size_of, size_text
from tests.test_cli import ddrl

SMALL = ["env.clock.horizon_s=5", "evaluate.traces=2"]
LEARNER = ["scheduler=tuned/dqn_ts", "train=tiny", "seeds=1", "+scheduler.chosen_on=[{world: edge5, seed: 2026}]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of a rule and of a learner."""
    here = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        assert ddrl("eval", "scheduler=eft", *SMALL, "name=two").exit_code == 0
        assert ddrl("sweep", *LEARNER, *SMALL, "name=two").exit_code == 0
    return here / "runs" / "two"


@pytest.fixture
def runs(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, "runs/two")
    return tmp_path / "runs" / "two"


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_copy_has_all_that_a_report_needs_and_no_more(runs, tmp_path):
    done = ddrl("pack", "runs/two", "kept/two")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 runs, " in done.stdout
    assert "left out: run.log 1 (" in done.stdout
    kept, made = files(tmp_path / "kept" / "two"), files(runs)
    assert {name: made[name] for name in kept if "manifest" not in name} == {
        name: data for name, data in kept.items() if "manifest" not in name
    }
    left = {name.split("/")[-1] for name in made.keys() - kept.keys()}
    assert {name for name in left if not name.startswith(".")} == {"run.log"}  # others are locks
    whole, copied = (ddrl("report", folder, "--format", "json") for folder in ("runs/two", "kept/two"))
    assert whole.exit_code == copied.exit_code == 0
    assert whole.stdout == copied.stdout


def test_a_second_time_changes_nothing_and_a_third_repairs(runs, tmp_path):
    ddrl("pack", "runs/two", "kept")
    before = files(tmp_path / "kept")
    assert "2 runs (2 were there), " in ddrl("pack", "runs/two", "kept").stdout
    assert files(tmp_path / "kept") == before
    name = next(iter(before))
    (tmp_path / "kept" / name).write_bytes(b"damaged")
    (tmp_path / "kept" / name).with_name(".x.tmp").write_bytes(b"of a killed writer")
    assert "2 runs (1 were there), " in ddrl("pack", "runs/two", "kept").stdout
    assert files(tmp_path / "kept") == before


@pytest.mark.parametrize(("inside", "source"), [(".", "."), ("sub", "..")])
def test_a_run_given_as_dots_is_copied_under_its_name_and_nothing_beside_is_touched(
    runs, tmp_path, monkeypatch, inside, source
):
    run = next(folder for folder in sorted(runs.iterdir()) if (folder / "job.json").exists())
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    (run / inside).mkdir(exist_ok=True)
    monkeypatch.chdir(run / inside)
    done = ddrl("pack", source, tmp_path / "kept" / "copies")
    assert done.exit_code == 0
    assert [file.name for file in (tmp_path / "kept" / "copies").iterdir()] == [run.name]
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["copies", "notes.txt"]


def test_weights_are_kept_where_they_are_small(runs, tmp_path, monkeypatch):
    learned = next(file.parent.name for file in runs.glob("*/weights.safetensors"))
    assert "left out (" in ddrl("pack", "runs/two", "kept", "--weights-below", "1kB").stderr
    refused = ddrl("eval", "--run", f"kept/{learned}", *SMALL)
    assert refused.exit_code == 2
    assert "its weights were left out where it was packed" in refused.stderr
    assert "weights.safetensors 1 (" in ddrl("pack", "runs/two", "kept").stdout
    monkeypatch.setattr(fingerprint, "code_version", lambda: "f" * 64)
    again = ddrl("eval", "--run", f"kept/{learned}", "evaluate.seed=5", f"runs_dir={tmp_path / 'later'}")
    assert again.exit_code == 0, again.stderr
    assert "evaluated by ffffffffffff" in again.stderr
    assert "weights" not in ddrl("pack", "runs/two", "kept", "--weights-below", "0").stdout.splitlines()[1]


def test_a_report_tells_of_a_choice_on_the_same_traces(runs):
    told = ddrl("report", "runs/two").stderr
    assert "tuned/dqn_ts: its settings were chosen on the traces it is judged on (evaluate.seed 2026)" in told
    assert "eft: its" not in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/two", "runs/two/copy"], "runs/two/copy: lies in runs/two, or holds it"),
        (["runs/two", "runs"], "runs: lies in runs/two, or holds it"),
        (["runs/two", "runs/two"], "lies in runs/two, or holds it"),
        (["nosuch", "kept"], "nosuch: there is no such folder"),
        (["notes.txt", "kept"], "notes.txt: is a file, not a folder"),
        (["runs/two", "notes.txt"], "notes.txt: is a file, not a folder"),
        (["empty", "kept"], "empty: no finished run there or below"),
        (["runs/two", "full"], "full: holds full/mine.txt, which is no copy of these runs; take an empty folder"),
        (["runs/two", "kept", "--weights-below", "much"], "--weights-below: a size such as 500kB or 1MB expected"),
    ],
)
def test_what_is_refused(runs, tmp_path, words, said):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    before = files(tmp_path)
    done = ddrl("pack", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert files(tmp_path) == before


def test_unfinished_runs_and_paths_of_this_machine_are_told(runs, tmp_path):
    rule = next(file.parent for file in runs.glob("*/job.json") if json.loads(file.read_text())["scheduler"] == "eft")
    other = runs.with_name("other") / rule.name
    shutil.copytree(rule, other)
    job = json.loads((other / "job.json").read_text()) | {"status": "running"}
    (other / "job.json").write_text(json.dumps(job))
    done = ddrl("pack", "runs/other", "runs/two", "kept")
    assert done.exit_code == 0
    assert f"left out: runs/other/{rule.name}: the job is still running or was interrupted" in done.stderr
    times = "\n".join(["timestamp", *(str(0.01 * n) for n in range(9000))])
    (tmp_path / "mine.csv").write_text(times)
    words = ["scheduler=eft", "workload=trace", "workload.path=mine.csv", "workload.load=null", "evaluate.traces=2"]
    assert ddrl("eval", *words, "env.clock.horizon_s=1", "name=own").exit_code == 0
    told = ddrl("pack", "runs/own", "kept_own").stderr.replace("\n", " ")
    assert f"tells of this machine: settings.workload.path: {tmp_path}/mine.csv" in told


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("0", 0), ("500kB", 500_000), ("1 MB", 1_000_000), ("1.5mb", 1_500_000), ("12b", 12)]
)
def test_sizes(text, n_bytes):
    assert size_of(text, "--x") == n_bytes


def test_sizes_that_are_none_and_how_sizes_are_told():
    for text in ("", "5", "-1kB", "1TB", "kB"):
        with pytest.raises(InputError, match="--x: a size such as"):
            size_of(text, "--x")
    assert [size_text(n) for n in (12, 4_200, 41_000, 1_200_000, 3 * 10**9)] == [
        "12 B", "4.2 kB", "41 kB", "1.2 MB", "3.0 GB",
    ]  # fmt: skip
