"""Loading run folders: good ones come back as written, anything else is named with a reason and never executed."""

import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from ddrl_sched.config import InputError, clean
from ddrl_sched.jobs import records, schemas
from ddrl_sched.jobs.schemas import DELAYS_SCHEMA, EVAL_SCHEMA, TIMELINE_SCHEMA
from ddrl_sched.report.load import load
from ddrl_sched.report.settings_diff import diff_text, flatten
from ddrl_sched.report.tables import main as report
from ddrl_sched.run.histogram import quantile_s
from ddrl_sched.run.settings import MAX_NAME
from tests.hostile_folders import HOSTILE, signed_flip, write_run
from tests.jobs.test_records import curves_frame, eval_frame, job


def only_reason(path):
    found = load([path])
    assert found.rows.empty
    assert len(found.skipped) == 1
    return found.skipped[0][1]


def test_rows_come_back_with_their_job(tmp_path):
    write_run(tmp_path / "exp" / "a1", rows=eval_frame(3, mean_delay_s=0.25), curves=True)
    found = load([tmp_path], curves=("loss",))
    assert found.skipped == []
    assert found.notes == []
    assert len(found.rows) == 3
    assert set(schemas.EVAL_SCHEMA.names) <= set(found.rows.columns)
    row = found.rows.iloc[0]
    assert (row.mean_delay_s, row.job_id, row.experiment, row.baselines) == (0.25, "a1", "toy", ("eft",))
    assert found.curves[["metric", "value", "job_id"]].values.tolist() == [["loss", 0.25, "a1"]]


def test_a_training_that_was_made_first_keeps_no_rule_out(tmp_path):
    write_run(tmp_path / "a", rows=eval_frame(2, scheduler="a"), curves=True, created="2026-07-01T00:00:00+00:00")
    write_run(tmp_path / "b", rows=eval_frame(2, scheduler="b"), created="2026-07-02T00:00:00+00:00")
    found = load([tmp_path], curves=("loss",))
    assert found.rows.scheduler.tolist() == ["a", "a", "b", "b"]
    assert len(found.curves) == 1


def test_a_path_may_be_the_root_an_experiment_or_one_folder_and_counts_once(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / "exp é" / name, rows=eval_frame(2, scheduler=name))
    write_run(tmp_path / "other" / "c", rows=eval_frame(2, scheduler="c"))
    assert len(load([tmp_path]).rows) == 6
    assert len(load([tmp_path / "exp é"]).rows) == 4
    assert len(load([tmp_path / "exp é" / "a"]).rows) == 2
    again = load([tmp_path, str(tmp_path / "exp é" / "a"), tmp_path / "exp é"])
    assert len(again.rows) == 6
    assert again.notes == []


def test_a_path_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder"):
        load([tmp_path / "file"])


def test_the_newest_of_identical_runs_counts_and_is_named(tmp_path):
    old = write_run(tmp_path / "z", rows=eval_frame(3, mean_delay_s=1.0), created="2030-01-01T00:00:00Z")
    new = write_run(tmp_path / "a", rows=eval_frame(2, mean_delay_s=2.0), created="2030-01-01T03:00:00+01:00")
    found = load([tmp_path])
    assert found.rows.mean_delay_s.tolist() == [1.0, 2.0, 2.0]  # trace 2 is only in the older one
    assert len(found.notes) == 1
    assert all(word in found.notes[0] for word in (str(old), str(new), "2 rows", "repeated"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"settings": {"load": 0.5, "train": {"episodes": 3}}}, "train.episodes"),
        ({"settings": {"a": 1, "b": 2, "c": {"d": 3}, "e": 4, "f": 5}}, "a, b, c.d, e, and 2 more"),
        ({"code_version": "d"}, "code"),
        ({"code_version": "d", "settings": {"load": 0.7}}, "load and code"),
    ],
)
def test_runs_with_other_settings_or_code_are_never_mixed(tmp_path, change, what):
    write_run(tmp_path / "a", rows=eval_frame(3, mean_delay_s=1.0), created="2030-01-01")
    write_run(tmp_path / "b", rows=eval_frame(2, mean_delay_s=2.0), created="2030-01-02", **change)
    found = load([tmp_path])
    assert found.rows.mean_delay_s.tolist() == [2.0, 2.0]
    assert "3 rows" in found.notes[0]
    assert f"left out, made with other {what}: the newer" in found.notes[0]


def test_a_scenario_is_named_after_what_was_changed_about_it(tmp_path):
    """One name for one scenario, though one of the commands has stated a default; the rule has a column of its own."""
    runs = [
        ("a", "left", ["env=edge5", "env.clock.probe_s=0.005", "env.rule=clean", "workload.load=0.6"]),
        ("b", "right", ["+env.clock.announce_s=1.0"]),
        ("c", "right", ["scheduler.k=2"]),
    ]
    for name, scenario, overrides in runs:
        rows = eval_frame(2, scheduler=name, scenario="edge5", scenario_hash=scenario)
        write_run(tmp_path / name, rows=rows, overrides=overrides)
    rows = load([tmp_path]).rows
    assert rows.groupby("scheduler").scenario.unique().map(list).to_dict() == {
        "a": ["edge5(probe_s=0.005)"],
        "b": ["edge5"],
        "c": ["edge5"],
    }


def test_a_flood_of_overrides_takes_no_time(tmp_path):
    """Short names are found by comparing all with all; a stranger may state very many, or very long ones."""
    many = [f"env.a{n}=1" for n in range(20_000)]
    long = [f"env.{n}{'.a' * 20_000}=1" for n in range(10)]
    write_run(tmp_path / "a", rows=eval_frame(2, scenario="edge5"), overrides=many + long)
    start = time.process_time()
    (name,) = load([tmp_path]).rows.scenario.unique()
    assert time.process_time() - start < 10.0  # was more than a minute
    assert name.startswith("edge5(")
    assert len(name) <= MAX_NAME


def test_number_of_seeds_and_baselines_do_not_make_another_scheduler(tmp_path):
    settings = {"load": 0.5}
    write_run(tmp_path / "a", rows=eval_frame(2, seed=0), settings=settings | {"seeds": 1, "baselines": []})
    write_run(tmp_path / "b", rows=eval_frame(2, seed=1), settings=settings | {"seeds": 2, "baselines": ["x"]})
    found = load([tmp_path])
    assert len(found.rows) == 4
    assert found.notes == []


def test_different_code_side_by_side_is_said(tmp_path):
    write_run(tmp_path / "a", rows=eval_frame(2, scheduler="a"))
    write_run(tmp_path / "b", rows=eval_frame(2, scheduler="b"), code_version="d")
    found = load([tmp_path])
    assert len(found.rows) == 4
    assert found.notes == ["results of different versions of the code stand side by side"]


def test_trainings_of_different_budgets_under_one_name_are_said(tmp_path):
    def note(*budgets, learned=True):
        folder = tmp_path / f"{budgets}{learned}"
        for load_, train in zip((0.3, 0.8), budgets, strict=True):
            rows = eval_frame(2, scheduler="x", load=load_, scenario_hash=str(load_))
            write_run(folder / str(load_), rows=rows, settings={"train": train}, learned=learned)
        return load([folder]).notes

    assert note({"episodes": 1, "validate_every": 1}, {"episodes": 1}) == []
    assert note({"episodes": 1}, {"episodes": 2}, learned=False) == []
    (text,) = note({"episodes": 1}, {"episodes": 2})
    assert text.startswith("x in x x x: ")
    assert text.endswith(": trained with different train.episodes")
    (text,) = note({"episodes": 1, "loads": [0.3]}, {"episodes": 1, "loads": [0.8]})
    assert text.endswith(": trained with different train.loads")


def test_loads_ascend_and_scenarios_of_one_name_are_told_apart(tmp_path, capsys):
    """Two worlds at load 0.5 come one after the other."""
    for number, load_ in enumerate((0.9, 0.1, 0.5, 0.5)):
        rows = eval_frame(2, load=load_, scenario_hash=f"{9 - number}hash{number}", realised_load=0.5)
        write_run(tmp_path / str(number), rows=rows)
    assert report([tmp_path], [], "csv", None) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(",")[4] for line in lines] == ["0.1", "0.9", "0.5", "0.5"]
    assert report([tmp_path], [], "markdown", None) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("**")]
    assert ["; scenario" in title for title in titles] == [False, False, True, True]
    assert len(set(titles)) == 4


def test_what_differs_in_a_strangers_settings_is_found_in_bounds(tmp_path):
    """Long keys above many small ones, and values equal to Python that are not."""
    wide = {str(n): n for n in range(5000)}
    for name, changed, created in (("a", 1, "2030-01-01"), ("b", 2, "2030-01-02")):
        settings = {"k" * 500_000: wide | {"0": changed}, "train": {"t" * 300_000: changed}}
        write_run(tmp_path / name, rows=eval_frame(2), settings=settings, created=created, learned=True)
    start = time.process_time()
    (note,) = load([tmp_path]).notes
    assert time.process_time() - start < 10.0
    assert len(note) < 2000
    assert diff_text([flatten({"a": True, "b": None, "c": 1}), flatten({"a": 1, "c": 1.0})]) == "a, b"


def test_unfinished_and_failed_jobs_are_named(tmp_path):
    records.write_job(tmp_path / "a", job(status="running"))
    records.write_job(tmp_path / "b", job(status="failed", error="boom\n\x1b[31mred"))
    reasons = dict(load([tmp_path]).skipped)
    assert reasons == {
        str(tmp_path / "a"): "the job is still running or was interrupted",
        str(tmp_path / "b"): "the job failed: boom ?[31mred",
    }


def test_a_run_that_was_only_trained_is_a_note(tmp_path):
    records.write_job(tmp_path / "a", job())
    records.write_table(tmp_path / "a" / "curves.parquet", curves_frame(), schemas.CURVES_SCHEMA)
    records.write_manifest(tmp_path / "a")
    found = load([tmp_path], curves=("loss",))
    assert found.rows.empty
    assert found.skipped == []
    assert len(found.curves) == 1
    assert "not evaluated" in found.notes[0]


def test_names_lose_what_a_terminal_would_obey(tmp_path):
    evil = "e\x1b[2Jft\n\u202e\u200b"
    write_run(tmp_path / "a\x1b]0;x\nb", rows=eval_frame(1, scheduler=evil), experiment=evil, baselines=[evil])
    found = load([tmp_path])
    assert found.rows.scheduler.tolist() == ["e?[2Jft???"]
    assert found.rows.baselines[0] == ("e?[2Jft???",)
    text = " ".join(map(str, found.rows.iloc[0]))
    assert text.isprintable()
    (tmp_path / "a\x1b]0;x\nb" / "job.json").write_text("{}")
    assert " ".join(load([tmp_path]).skipped[0]).isprintable()
    assert clean("é ok\x00\udcff") == "é ok??"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mean_delay_s": float("nan")}, "mean_delay_s is nan in row 0"),
        ({"mean_delay_s": float("inf")}, "mean_delay_s is inf"),
        ({"mean_delay_s": 0.0}, "mean_delay_s is 0.0"),
        ({"n_tasks": 0}, "n_tasks is 0"),
        ({"late_rate": 1.5}, "late_rate is 1.5"),
        ({"time_scale": -1.0}, "time_scale is -1.0"),
        ({"trace": 0}, "two rows"),
        ({"scenario": "x" * 201}, "more than 200 characters"),
    ],
)
def test_rows_that_cannot_be_averaged_are_refused(tmp_path, change, reason):
    write_run(tmp_path / "a", rows=eval_frame(2, **change))
    assert reason in only_reason(tmp_path)


def test_no_rows_is_refused(tmp_path):
    write_run(tmp_path / "a", rows=eval_frame(1).iloc[:0])
    assert only_reason(tmp_path) == "eval.parquet has no rows"


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_named_and_harmless(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    write_run(root / "good", rows=eval_frame(2, scheduler="good"))
    bad = write_run(root / "bad", rows=eval_frame(2, scheduler="bad"))
    HOSTILE[kind](bad, random.Random(kind))
    found = load([root])
    assert set(found.rows.scheduler) == {"good"}
    assert [path for path, _ in found.skipped] == [str(bad)]
    assert found.skipped[0][1].isprintable()
    assert len(found.skipped[0][1]) > 10
    assert not (tmp_path / "payload_ran").exists()


@pytest.mark.parametrize("seed", range(60))
def test_signed_noise_in_parquet_is_read_or_named(tmp_path, seed):
    """A stranger signs a file with one changed byte: no crash; page checksums find what the format cannot."""
    rng = random.Random(seed)
    folder = write_run(tmp_path / "runs" / "a")
    before = load([tmp_path / "runs"]).rows
    signed_flip(folder, rng)
    found = load([tmp_path / "runs"])
    if found.skipped:
        assert found.rows.empty
    else:
        pd.testing.assert_frame_equal(found.rows, before)


def test_inert_code_in_settings_is_data(tmp_path):
    settings = {"scheduler": {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}, "secret": "${oc.env:HOME}"}
    write_run(tmp_path / "runs" / "a", settings=settings)
    found = load([tmp_path / "runs"])
    assert len(found.rows) == 3
    assert not (tmp_path / "ran").exists()
    assert os.environ["HOME"] not in found.rows.drop(columns="folder").to_string()


AUDIT = """
import sys
from ddrl_sched.report.load import load
load([sys.argv[1]])  # whatever is imported late is imported
bad = []
def audit(event, args):
    if event in ("os.system", "subprocess.Popen", "socket.connect", "pickle.find_class", "exec", "compile", "import"):
        bad.append((event, args))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        bad.append((event, args))
sys.addaudithook(audit)
found = load([sys.argv[2]])
print(len(found.rows), len(found.skipped), bad)
print([m for m in sys.modules if m.split(".")[0] in ("torch", "numba", "hydra")])
"""


def test_a_corpus_of_folders_runs_nothing(tmp_path):
    good = write_run(tmp_path / "good" / "a")
    runs = tmp_path / "runs"
    for number, kind in enumerate(HOSTILE):
        if kind not in ("eval bomb", "eval wide"):
            HOSTILE[kind](write_run(runs / f"bad{number}"), random.Random(number))
    shutil.copytree(good, runs / "a")
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(good.parent), str(runs)],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"3 {len(HOSTILE) - 2} []", "[]"]


# --- histograms and timelines


def golden(tmp_path, name="smcoedge"):
    return shutil.copytree(Path(__file__).parents[1] / "data" / "runs_v2" / name, tmp_path / name)


def rewritten(folder, name, schema, change):
    records.write_table(folder / f"{name}.parquet", change(pd.read_parquet(folder / f"{name}.parquet")), schema)
    records.write_manifest(folder)
    return load([folder], delays=True, timelines=True).skipped


def test_histograms_belong_to_the_rows_that_count(tmp_path):
    golden(tmp_path, "eft")
    old = golden(tmp_path)
    new = shutil.copytree(old, tmp_path / "newer")
    record = json.loads((new / "job.json").read_text())
    (new / "job.json").write_text(json.dumps(record | {"created": "2099-01-01T00:00:00+00:00"}))
    some = pd.read_parquet(new / "eval.parquet").iloc[[1, 4]]  # the newer run has two of six rows
    histograms = pd.read_parquet(new / "delays.parquet")
    kept = histograms[histograms.row.isin([1, 4])].assign(row=lambda df: df.row.map({1: 0, 4: 1}))
    records.write_table(new / "eval.parquet", some, EVAL_SCHEMA)
    records.write_table(new / "delays.parquet", kept, DELAYS_SCHEMA)
    records.write_manifest(new)
    found = load([tmp_path], delays=True, timelines=True)
    assert found.skipped == []
    assert found.rows.groupby("folder").size().to_dict() == {str(new): 2, str(old): 4, str(tmp_path / "eft"): 3}
    counted = found.delays.groupby("row")["count"].sum()
    assert counted.to_dict() == found.rows.n_tasks.to_dict()
    for row, of_row in found.delays.groupby("row"):
        p95_s = quantile_s(of_row["bin"].to_numpy(), of_row["count"].to_numpy(float), 0.95)
        assert p95_s == pytest.approx(found.rows.p95_delay_s[row], rel=0.02)
    assert set(found.timelines.scheduler) == {"eft", "smcoedge"}
    assert "eval_row" not in found.rows
    assert load([tmp_path]).delays.empty
    assert load([tmp_path]).timelines.empty


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda df: df.assign(count=-df["count"]), "out of range"),
        (lambda df: df.assign(bin=10**9), "out of range"),
        (lambda df: df[::-1], "not in ascending order"),
        (lambda df: df.assign(count=df["count"] + 1), "eval.parquet has"),
        (lambda df: df.assign(row=df.row + 100), "a histogram of row"),
        (lambda df: df[df.row > 0], "0 tasks of row 0"),
    ],
)
def test_histograms_that_cannot_be_are_refused(tmp_path, change, reason):
    ((_, found),) = rewritten(golden(tmp_path), "delays", DELAYS_SCHEMA, change)
    assert reason in found


@pytest.mark.parametrize(("column", "value"), [("busy", 1.5), ("queue", math.inf), ("server", -1), ("end_s", 0.0)])
def test_timelines_that_cannot_be_are_refused(tmp_path, column, value):
    ((_, found),) = rewritten(golden(tmp_path), "timeline", TIMELINE_SCHEMA, lambda df: df.assign(**{column: value}))
    assert "timeline.parquet: row 0 is out of range" in found


def test_runs_with_and_without_curves_are_read_together(tmp_path):
    """Whichever is the newer."""
    for name, created in (("smcoedge", "2020-01-01T00:00:00+00:00"), ("eft", "2021-01-01T00:00:00+00:00")):
        folder = golden(tmp_path, name)
        record = json.loads((folder / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps(record | {"created": created}))
        records.write_manifest(folder)
    found = load([tmp_path], ("delay_s",))
    assert found.skipped == []
    assert set(found.rows.scheduler) == {"smcoedge", "eft"}
    assert set(found.curves.scheduler) == {"smcoedge"}
    assert not {"world", "budget", "training"} & set(found.rows.columns)
