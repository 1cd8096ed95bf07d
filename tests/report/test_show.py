"""`ddrl show RUN`: every state of a folder told, on any terminal, with nothing written and nothing believed."""

import fcntl
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.jobs import records, schemas
from ddrl_sched.jobs.lock import FILE as CLAIM
from ddrl_sched.report import terminal_plot
from ddrl_sched.report.plain_text import seconds
from ddrl_sched.report.stated_settings import stated
from ddrl_sched.report.terminal_plot import Curve, draw
from tests.conf_files import CONF, names, plain
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job
from tests.paths import DATA

GOLDEN = DATA / "runs_v2" / "smcoedge"


def show(*words):
    """(exit status, what a command prints) at 80 columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["show", *map(str, words)])
    return result.exit_code, result.output


def test_a_finished_training_is_told_whole():
    status, said = show(GOLDEN)
    assert status == 0
    for text in (
        "status     done, took",
        "scheduler  smcoedge, learned, 2 seeds",
        "RESULTS\nmean delay 20.98 ms",
        "mean delay of training episodes, while it explores, s",
        "SETTINGS that differ from the yaml files that they name",
        "weights.safetensors  9,480  sha256 fits",
    ):
        assert text in said
    assert re.search(r"^workload\.load +0\.3 +\(yaml: 0\.6\)$", said, re.MULTILINE)
    assert max(map(len, said.splitlines())) <= 80
    differing, others = said.split("OTHER SETTINGS")
    assert "kind offload" in " ".join(others.split())
    assert "workload.load" in differing.split("SETTINGS")[1]


def test_the_only_run_folder_inside_is_meant(tmp_path):
    folder = shutil.copytree(GOLDEN, tmp_path / "one")
    assert show(tmp_path)[1] == show(folder)[1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": "failed", "error": "out of luck"}, "failed: out of luck; --retry-failed with the same command"),
        ({"status": "running"}, "interrupted; the same command goes on with it"),
        ({"status": "done"}, "not usable: manifest.json is missing"),
    ],
)
def test_unfinished_runs_say_what_they_are(tmp_path, changes, text):
    records.write_job(tmp_path / "a", job(settings={"seed": 1}, **changes))
    status, said = show(tmp_path / "a")
    assert status == 0
    assert text in " ".join(said.split())
    assert "RESULTS" not in said


def test_a_run_that_a_process_works_on_is_running(tmp_path):
    folder = tmp_path / "a"
    records.write_job(folder, job(status="running"))
    (folder / "resume").mkdir()
    (folder / "resume" / "state.pt").touch()
    with (folder / CLAIM).open("w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        assert "running, state of the training saved 0 s ago" in show(folder)[1]
    assert "interrupted, state of the training saved" in show(folder)[1]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda place: None, "there is no such folder"),
        (lambda place: place.mkdir(), "job.json is missing"),
        (lambda place: place.write_text("x"), "there is no such folder"),
        (lambda place: [write_run(place / name) for name in "ab"], "expected one run folder; this holds 2, a"),
    ],
    ids=["nothing", "empty", "a file", "two runs"],
)
def test_what_is_no_run_folder_is_named(tmp_path, make, text):
    make(tmp_path / "x")
    status, said = show(tmp_path / "x")
    assert status == 2
    assert said.startswith(f"error: {tmp_path / 'x'}: {text}")


def test_a_strangers_folder_is_read_as_data(tmp_path):
    """Control characters are cleaned, names are no paths, nothing is written or executed."""
    hostile = "\x1b[31mred\x07"
    settings = {"env": {"name": "../../secret", hostile: [hostile]}, "workload": hostile, "train": {"name": ["x"]}}
    folder = write_run(tmp_path / "a", rows=eval_frame(3, scheduler=hostile), settings=settings, overrides=[hostile])
    (folder / "\x1b[2Jfile").touch()
    (folder / CLAIM).symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("whole")
    before = sorted(path.name for path in folder.iterdir())
    status, said = show(folder)
    assert status == 0
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "?[31mred?" in said
    assert "?[2Jfile" in said
    assert (tmp_path / "victim").read_text() == "whole"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_options_that_do_not_go_together_are_named(tmp_path):
    for words, text in (
        (["--task", "1", "--gantt", "1:2"], "--task: not with --gantt"),
        (["--out", "x.svg"], "--out: only with --gantt"),
        (["--seed", "1"], "--seed, --trace: only with --task N or --gantt FROM:TO"),
    ):
        status, said = show(GOLDEN, *words)
        assert (status, said.startswith(f"error: {text}")) == (2, True)


def test_damaged_curves_are_told_and_the_rest_stands(tmp_path):
    folder = write_run(tmp_path / "a", learned=True)
    frame = pd.DataFrame({"seed": [0], "tasks_seen": [-1], "update": [1], "metric": ["delay_s"], "value": [0.5]})
    records.write_table(folder / "curves.parquet", frame, schemas.CURVES_SCHEMA)
    records.write_manifest(folder)
    said = show(folder)[1]
    assert "no curve: curves.parquet: tasks_seen must lie in" in said
    assert "FILES" in said


# --- the drawing


def test_a_falling_line_falls_over_the_whole_width():
    curve = Curve(np.linspace(0, 1000, 400), np.linspace(9, 1, 400)[None])
    lines = draw(curve, "delay", "s", 40)
    assert lines[0] == "delay, s"
    assert max(map(len, lines)) <= 40
    marks = [line.split("│")[1].find("●") for line in lines[1 : 1 + terminal_plot.HEIGHT]]
    assert marks == sorted(marks)
    assert marks[0] == 0
    assert [line.split("│")[0].strip() for line in (lines[1], lines[terminal_plot.HEIGHT])] == ["9", "1"]
    assert lines[-1].split() == ["0", "1,000"]


def test_a_single_moment_is_a_number():
    assert draw(Curve(np.array([7.0]), np.array([[0.5], [1.5]])), "delay", "s", 40) == ["delay: 1 s (0.5 - 1.5)"]
    assert draw(Curve(np.array([7.0]), np.array([[0.5]])), "delay", "", 40) == ["delay: 0.5"]


def test_a_terminal_without_block_characters_gets_ascii(monkeypatch):
    monkeypatch.setattr("ddrl_sched.report.terminal_plot.shows", lambda characters: False)
    lines = draw(Curve(np.arange(5.0), np.array([[1.0, 2, 3, 4, 5], [2, 3, 4, 5, 6]])), "delay", "s", 60)
    assert all(line.isascii() for line in lines)
    assert any("*" in line for line in lines)
    assert any("." in line.split("|")[-1] for line in lines[1:-2])


@pytest.mark.parametrize(
    "value", [[[np.nan, np.nan]], [[1.0, np.nan]], [[2.0, 2.0]], [[np.inf, 1.0]], [[1e300, 1e-300]]]
)
def test_odd_values_are_drawn_or_left_out(value):
    for line in draw(Curve(np.arange(2.0), np.array(value)), "x", "", 30):
        assert len(line) <= 30


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123456, "12.3 ms"), (1.5, "1.500 s"), (0.9999, "1e+03 ms"), (1234.5, "1,234.5 s")]
)
def test_durations_have_a_unit(value, text):
    assert seconds(value) == text


# --- what yaml files say


@pytest.mark.parametrize("group", ["env", "workload", "train"])
def test_yaml_files_are_composed_as_hydra_does(group):
    for name in names(group):
        settings = {group: {"name": plain(group, name)["name"]}}
        if settings[group]["name"] == name:
            assert stated(settings, "x")[group] == plain(group, name), name


def test_schedulers_are_found_by_their_label():
    for name in names("scheduler"):
        assert stated({}, f"{name}(k=2)")["scheduler"] == plain("scheduler", name), name
    assert "scheduler" not in stated({}, "../base")
    assert (CONF / "base.yaml").exists()
