"""`ddrl diff RUN RUN`: settings, versions and results side by side."""

import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.jobs import records, schemas
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job
from tests.paths import DATA

GOLDEN = DATA / "runs_v2" / "smcoedge"


def diff(*words, columns=80):
    """(exit status, what a command prints)."""
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["diff", *map(str, words)])
    return result.exit_code, result.output


def test_a_copy_is_equal_bit_for_bit(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "copy")
    status, said = diff(GOLDEN, tmp_path / "copy")
    assert status == 0
    assert "SETTINGS\nthe same" in said
    assert "VERSIONS\nthe same" in said
    assert "eval.parquet: 6 rows, equal bit for bit but for the time of decisions" in said
    assert "curves.parquet: 20 rows, equal bit for bit but for the time that it took" in said
    assert "weights.safetensors: equal bit for bit" in said


def test_the_time_of_decisions_is_no_difference_and_the_last_bit_is(tmp_path):
    rows = eval_frame(3, mean_delay_s=0.5)
    one = write_run(tmp_path / "a", rows=rows)
    other = write_run(tmp_path / "b", rows=rows.assign(decide_us=7.0))
    assert "eval.parquet: 3 rows, equal bit for bit" in diff(one, other)[1]
    nearly = write_run(tmp_path / "c", rows=rows.assign(mean_delay_s=[0.5, 0.5, 0.5000000000000001]))
    assert "equal bit for bit" not in diff(one, nearly)[1]


def frames(*delays):
    return pd.concat(
        [eval_frame(1, trace=i, cluster=i, mean_delay_s=delay, n_tasks=100) for i, delay in enumerate(delays)]
    )


def test_results_in_one_scenario_are_paired(tmp_path):
    settings = {"scheduler": {"k": 2}, "seed": 0}
    one = write_run(tmp_path / "a", rows=frames(0.2, 0.4, 0.6, 0.8), settings=settings, packages={"numpy": "2.0"})
    rows = frames(0.1, 0.2, 0.31, 0.4).assign(late_rate=0.25)
    changed = {"scheduler": {"k": 3, "new": True}, "seed": 0}
    other = write_run(tmp_path / "b", rows=rows, settings=changed, packages={"numpy": "2.1"}, code_version="d")
    status, said = diff(one, other)
    assert status == 0
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "scheduler.k 2 3" in lines
    assert "scheduler.new (not there) true" in lines
    assert "code_version c d" in lines
    assert "numpy 2.0 2.1" in lines
    assert "late, % 50 25" in lines
    assert "x x x, load 0.5, 4 common traces" in lines
    text = " ".join(lines)
    assert "B against A: mean delay 49.5 % shorter; reduction +49.5 % [+4" in text
    assert max(map(len, said.splitlines())) <= 80


def test_a_difference_that_may_be_chance_says_so(tmp_path):
    one = write_run(tmp_path / "a", rows=frames(0.2, 0.4, 0.6, 0.8))
    other = write_run(tmp_path / "b", rows=frames(0.25, 0.35, 0.65, 0.74))
    assert "which may be chance" in " ".join(diff(one, other)[1].split())


def test_across_scenarios_there_is_no_reduction(tmp_path):
    one = write_run(tmp_path / "a", rows=frames(0.2, 0.4))
    other = write_run(tmp_path / "b", rows=frames(0.1, 0.2).assign(scenario_hash="other"), scenario_hash="other")
    said = " ".join(diff(one, other)[1].split())
    assert "the scenarios differ (hash)" in said
    assert "no reduction" in said
    assert "B against A" not in said


def test_a_scenario_that_one_run_has_beside_the_common_one_is_not_compared(tmp_path):
    rows = frames(0.1, 0.2, 0.3)
    replayed = rows.assign(scenario_hash="replayed", mean_delay_s=9.0)
    one = write_run(tmp_path / "a", rows=pd.concat([rows, replayed]))
    other = write_run(tmp_path / "b", rows=rows.assign(mean_delay_s=rows["mean_delay_s"] / 2))
    for words, alone in (((one, other), "A alone has 1 more scenario"), ((other, one), "B alone has 1 more scenario")):
        said = diff(*words)[1]
        assert alone in said
        assert "the scenarios differ" not in said
        assert said.count("mean delay  ") == 1


def test_runs_without_results_are_told(tmp_path):
    one = write_run(tmp_path / "a")
    records.write_job(tmp_path / "b", job(status="failed", error="out of \x1b luck"))
    status, said = diff(one, tmp_path / "b")
    assert status == 0
    assert "B has no results: the job failed: out of ? luck" in said
    assert diff(one, tmp_path / "c")[0] == 2


def test_returns_stand_side_by_side(tmp_path):
    for name, final in (("a", 100.0), ("b", 200.0)):
        records.write_job(tmp_path / name, job(scheduler="dqn", learned=True))
        row = {"scheduler": "dqn", "scenario_hash": "h", "seed": 0, "steps": 500, "episodes": 9, "episode_mean": 50.0,
               "step_mean": 60.0, "final_greedy": final, "steps_to_solve": float("nan")}  # fmt: skip
        records.write_table(tmp_path / name / "returns.parquet", pd.DataFrame([row]), schemas.RETURNS_SCHEMA)
        records.write_manifest(tmp_path / name)
    assert "500 100 200" in " ".join(diff(tmp_path / "a", tmp_path / "b")[1].split())


def test_a_damaged_table_is_named(tmp_path):
    one, other = write_run(tmp_path / "a"), write_run(tmp_path / "b", rows=eval_frame(3, late_rate=7.0))
    status, said = diff(one, other)
    assert status == 2
    assert said.splitlines()[-1].startswith("error: ")
    assert "late_rate is 7.0" in said


@pytest.mark.parametrize("columns", [80, 120])
def test_long_names_wrap(tmp_path, columns):
    long = {"workload": {"path": "/x/" + "y" * 50}}
    said = diff(write_run(tmp_path / "a"), write_run(tmp_path / "b", settings=long), columns=columns)[1]
    assert "workload.path" in said
