"""tasks.parquet: what was known, asked and chosen of every task, and what became of its shares."""

import numpy as np
import pandas as pd
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge import physics
from ddrl_sched.edge.session import Traces, Window
from ddrl_sched.edge.types import Decision
from ddrl_sched.jobs import records, schemas
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES, MAX_TASK_ROWS, check_table, parse_table
from ddrl_sched.report.load import load
from ddrl_sched.run.task_record import kept, record
from tests.builders import given_shares, make_scenario, make_tasks
from tests.conf_files import plain
from tests.jobs.test_scheduling_job import NO_OPTIONS, learned, settings
from tests.jobs_by_hand import ask, run_job


def recorded(scenario, tasks, decision):
    """Columns of one trace that is decided by one decision, as a DataFrame."""
    n = tasks.shape[1]
    lo, hi = np.array([0]), np.array([n])
    outcome = physics.empty_outcome(tasks, scenario.n_servers)
    state = physics.place(scenario, physics.initial_state(scenario, 1), tasks, decision, lo=lo, hi=hi, outcome=outcome)
    physics.finish(scenario, state, tasks, outcome)
    traces = Traces(scenario, tasks, 1.0, None, drawn_order=False)
    trail = [kept(decision, Window(lo, hi, 0, True))]
    (columns,) = record(traces, trail, outcome, np.array([3]), np.array([7]))
    return pd.DataFrame(columns)


def test_a_record_by_hand():
    """Two tasks at once at station 0; the second sends half of its 10 Mbit to server 1 after it asked (10 + 10 ms)."""
    scenario = make_scenario([1.0, 2.0], link_mbps=100.0, latency_s=0.01)
    tasks = make_tasks([1.0, 1.0], input_mbit=10.0, work_gcycle=2.0, n_servers=2, deadline_s=3.0)
    probe = [[False, False], [False, True]]
    rows = recorded(scenario, tasks, given_shares([[1.0, 0.0], [0.5, 0.5]], probe=probe))
    assert sorted(rows.columns) == sorted(schemas.TASKS_SCHEMA.names)
    assert rows[["seed", "trace"]].drop_duplicates().values.tolist() == [[3, 7]]
    assert rows.task.tolist() == [0, 0, 1, 1]
    assert rows.server.tolist() == [0, 1, 0, 1]
    assert rows.exact_wait_s.tolist() == [0.0, 0.0, 2.0, 0.0]
    assert rows.own.tolist() == [True, False, True, False]
    assert rows.asked.tolist() == [False, False, False, True]
    assert rows.chosen.tolist() == [True, False, True, True]
    assert rows.asking_s.tolist() == pytest.approx([0.0, 0.0, 0.02, 0.02])
    assert rows.sent_s.tolist() == pytest.approx([1.0, np.nan, 1.02, 1.02], nan_ok=True)
    assert rows.arrived_s.tolist() == pytest.approx([1.0, np.nan, 1.02, 1.08], nan_ok=True)
    assert rows.started_s.tolist() == pytest.approx([1.0, np.nan, 3.0, 1.08], nan_ok=True)
    assert rows.ended_s.tolist() == pytest.approx([3.0, np.nan, 4.0, 1.58], nan_ok=True)
    assert rows.delay_s.tolist() == pytest.approx([2.0, 2.0, 3.0, 3.0])


@pytest.mark.parametrize(
    ("decision", "seen", "split"),
    [
        (Decision("given", "static", "equal_finish"), [0.0, 0.0], [0.0, 0.0]),
        (Decision("given", "own", "equal_finish"), [2.0, 0.0], [2.0, 0.0]),
        (Decision("given", "running", "equal_finish"), [2.0, 3.0], [2.0, 3.0]),
        (Decision("given", "own", "equal_finish", "probed", probe_selected=True), [2.0, 0.0], [2.0, 3.0]),
        (Decision("given", "announced", "equal_finish", "running"), [2.0, 0.0], [2.0, 3.0]),
    ],
    ids=["static", "own", "running", "asks the chosen", "divides by more"],
)
def test_what_was_seen_is_what_the_class_tells(decision, seen, split):
    """A task at each station at once, then one at station 0: servers 0 and 1 have 2 and 3 s to go."""
    scenario = make_scenario([1.0, 1.0])
    tasks = make_tasks([0.5, 0.5, 0.5], origin=[0, 1, 0], work_gcycle=[[2.0, 3.0, 2.0]], n_servers=2)
    select = np.array([[[True, False], [False, True], [True, True]]])
    rows = recorded(scenario, tasks, Decision(**{**vars(decision), "select": select})).query("task == 2")
    assert rows.seen_wait_s.tolist() == pytest.approx(seen)
    assert rows.split_wait_s.tolist() == pytest.approx(split)
    assert rows.exact_wait_s.tolist() == pytest.approx([2.0, 3.0])
    assert rows.asked.tolist() == [False, decision.probe_selected]
    assert rows.chosen.tolist() == [True, True]


def with_tasks(data):
    return {**data, "evaluate": {**data["evaluate"], "traces": 2, "policy_seeds": 1, "tasks": True}}


def tasks_of(folder):
    table = parse_table((folder / "tasks.parquet").read_bytes(), schemas.TASKS_SCHEMA, "tasks.parquet")
    check_table("tasks", table, "x")
    return pd.DataFrame(table)


@pytest.mark.parametrize("name", ["priced_asking", "sed_tracked", "jsq2", "wrr_quota"])
def test_a_job_keeps_its_tasks_and_the_same_results(tmp_path, name):
    without = settings(tmp_path, name)
    without["evaluate"] |= {"traces": 2, "policy_seeds": 1}
    data = with_tasks(without)
    for each in (without, data):
        each["env"]["clock"]["horizon_s"] = 2.0
        assert run_job(each, "sweep", NO_OPTIONS) == "done"
    bare, folder = ask(without).folder, ask(data).folder
    assert bare != folder
    assert not (bare / "tasks.parquet").exists()
    tables = [pd.read_parquet(place / "eval.parquet").drop(columns="decide_us") for place in (bare, folder)]
    pd.testing.assert_frame_equal(*tables)
    rows = tasks_of(folder)
    per_task = rows[rows.server == 0]
    assert per_task.groupby("trace").size().ge(tables[0].n_tasks.to_numpy()).all()
    assert rows.groupby(["trace", "task"]).share.sum().to_numpy() == pytest.approx(1.0)
    assert rows.chosen[rows.share > 0].all()
    warm_up_s = 0.1 * 2.0
    counted = rows[rows.arrive_s >= warm_up_s]
    asked = counted.groupby(["trace", "task"]).asked.sum().groupby("trace").mean()
    assert asked.tolist() == pytest.approx(tables[0].probes_per_task.tolist())
    assert counted[counted.server == 0].groupby("trace").delay_s.mean().tolist() == pytest.approx(
        tables[0].mean_delay_s.tolist()
    )
    exact = rows[rows.asked] if name == "priced_asking" else rows[rows.own & (rows.share > 0)]
    assert (exact.split_wait_s == exact.exact_wait_s).all() or name == "wrr_quota"


def test_a_report_takes_a_run_with_and_without_tasks_for_one(tmp_path):
    without = settings(tmp_path)
    without["env"]["clock"]["horizon_s"] = 2.0
    without["evaluate"] |= {"traces": 2, "policy_seeds": 1}
    for each in (without, with_tasks(without)):
        run_job(each, "sweep", NO_OPTIONS)
    found = load([tmp_path])
    assert len(found.rows) == 2
    assert len(found.notes) == 1
    assert "2 rows of eft left out, repeated there" in found.notes[0]


def test_a_learner_is_not_trained_again_for_its_tasks(tmp_path, monkeypatch):
    data = settings(tmp_path) | {"scheduler": learned("tuned/smcoedge"), "label": "tuned/smcoedge"}
    data["scheduler"]["learning"] |= {"start_slots": 3, "every_slots": 1}
    data["evaluate"] |= {"traces": 1}
    data["env"]["clock"]["horizon_s"] = 1.0
    assert run_job(data, "sweep", NO_OPTIONS) == "done"
    monkeypatch.setattr("ddrl_sched.jobs.training._train", lambda *_: pytest.fail("trained again"))
    again = {**data, "evaluate": {**data["evaluate"], "tasks": True}}
    assert run_job(again, "sweep", NO_OPTIONS) == "done"
    assert tasks_of(ask(again).folder).seed.unique().tolist() == [0, 1]


def test_too_many_tasks_are_refused_by_their_keys(tmp_path):
    data = with_tasks(settings(tmp_path))
    data["env"]["clock"]["horizon_s"] = 4000.0
    with pytest.raises(InputError, match=rf"^evaluate\.tasks: .* {MAX_TASK_ROWS:,} rows: evaluate\.traces=1, or less"):
        run_job(data, "sweep", NO_OPTIONS)


def test_published_rules_keep_no_tasks(tmp_path):
    data = with_tasks(settings(tmp_path))
    data |= {"env": plain("env", "published_multi"), "workload": plain("workload", "published_multi")}
    with pytest.raises(InputError, match=r"^evaluate\.tasks: only of clean worlds \(env\.rule=clean\)"):
        run_job(data, "sweep", NO_OPTIONS)


def hand_made():
    scenario = make_scenario([1.0, 2.0], link_mbps=100.0, latency_s=0.01)
    tasks = make_tasks([1.0, 1.0], input_mbit=10.0, work_gcycle=2.0, n_servers=2, deadline_s=3.0)
    return recorded(scenario, tasks, given_shares([[1.0, 0.0], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("column", "row", "value", "reason"),
    [
        ("server", 1, 0, "a row for each server"),
        ("station", 0, -1, "station must lie in"),
        ("delay_s", 0, np.inf, "delay_s must lie in"),
        ("exact_wait_s", 0, np.nan, "exact_wait_s must lie in"),
        ("ended_s", 0, np.nan, "no ended_s after its started_s"),
        ("started_s", 0, 0.5, "no started_s after its arrived_s"),
    ],
)
def test_tables_that_cannot_be_are_refused(tmp_path, column, row, value, reason):
    frame = hand_made()
    frame.loc[row, column] = value
    records.write_table(tmp_path / "tasks.parquet", frame, schemas.TASKS_SCHEMA)
    data = records.read_regular(tmp_path / "tasks.parquet", MAX_TABLE_BYTES)
    table = parse_table(data, schemas.TASKS_SCHEMA, "tasks.parquet")
    with pytest.raises(ValueError, match=reason):
        check_table("tasks", table, "x")
