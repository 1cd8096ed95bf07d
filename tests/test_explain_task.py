"""`ddrl show RUN --task N`: the sentences and the table of one decision, and what is not there named."""

import numpy as np
import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.edge.types import Decision
from ddrl_sched.explain_task import told
from ddrl_sched.jobs import records, schemas
from tests.builders import make_scenario, make_tasks
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job
from tests.run.test_task_record import hand_made, recorded

SETTINGS = {
    "env": {"name": "edge", "rule": "clean", "network": {"port": "shared"}},
    "workload": {"name": "steady", "load": 0.5},
}


def story(frame, width=100):
    rows = {name: column.to_numpy() for name, column in frame.items()}
    return list(told(job(settings=SETTINGS, scheduler="mine"), rows, width))


def two_servers(decision):
    """Station 0 (1 Gcycle/s) and 1 (2 Gcycle/s) have 4 s of work each; then a task of 2 Gcycle at station 0."""
    scenario = make_scenario([1.0, 2.0])
    tasks = make_tasks([0.5, 0.5, 0.5], origin=[0, 1, 0], work_gcycle=[[4.0, 2.0, 2.0]], n_servers=2, deadline_s=9.0)
    select = np.array([[[True, False], [False, True], [True, False]]])
    rows = recorded(scenario, tasks, Decision(**{**vars(decision), "select": select}))
    return rows[rows.task == 2]


def test_a_bad_choice_is_told_with_the_best_set():
    """Alone on server 0: 4 + 2 s. Best: all on server 1, 1 + 1 s."""
    assert story(two_servers(Decision("given", "own", "whole")))[:-7] == [
        "Task 2 of trace 7, seed 3: mine in edge, steady, load 0.5",
        "",
        "It arrives at station 0, whose own server is 0, 0.5000 s after the start: 0 Mbit to send, 2 Gcycle",
        "of work (0 Gcycle more on every server that gets a share), a result of 0 Mbit, due in 9.000 s.",
        "",
        "The scheduler asked no server. It chose server 0. It was most mistaken about server 1: it counted on",
        "a wait of 0 ms, not 1.000 s.",
        "",
        "The result was back after 6.000 s, in time. Of the share that ended last: 4.000 s waiting, 0 ms",
        "transfer, 2.000 s computing, 0 ms return.",
        "",
        "The best set for this task, with every wait known, was server 1: done after 2.000 s. What was chosen",
        "would be done after 6.000 s by the same forecast: the best set is 4.000 s (66.7 %) faster.",
    ]


def test_the_table_stands_in_seconds_after_the_arrival():
    lines = story(two_servers(Decision("given", "own", "whole")))[-6:]
    assert lines[:3] == [
        "server  thought  exact   share  sent  there  begun  done    best",
        "    0*      4.0    4.0  100.0%   0.0    0.0    4.0   6.0       -",
        "     1      0.0    1.0       -     -      -      -     -  100.0%",
    ]


def test_a_good_choice_is_as_good():
    rows = two_servers(Decision("best", "running", "equal_finish"))
    text = " ".join(story(rows))
    assert "It knew every wait." in text


def test_narrow_pages_are_not_overrun():
    for width in (80, 120):
        assert max(map(len, story(two_servers(Decision("given", "own", "whole")), width))) <= width


@pytest.fixture
def folder(tmp_path):
    place = write_run(tmp_path / "run", rows=eval_frame(1), settings=SETTINGS)
    records.write_table(place / "tasks.parquet", hand_made(), schemas.TASKS_SCHEMA)
    records.write_manifest(place)
    return place


def show(*words):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["show", *map(str, words)])
    return result.exit_code, result.output


def test_the_command_tells_a_task(folder):
    status, said = show(folder, "--task", 1, "--trace", 7, "--seed", 3)
    assert status == 0
    assert said.startswith("Task 1 of trace 7, seed 3: x in edge, steady, load 0.5\n")
    assert "servers 0 and 1" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--task", 2], "--task 2: trace 7 has the tasks 0 .. 1"),
        (["--task", -1], "--task -1: trace 7 has the tasks 0 .. 1"),
        (["--task", 0, "--seed", 0], "--seed 0: tasks.parquet has seed 3"),
        (["--task", 0, "--trace", 0], "--trace 0: tasks.parquet has trace 7"),
    ],
)
def test_tasks_that_are_not_there_are_named(folder, words, text):
    status, said = show(folder, *words)
    assert (status, said.strip()) == (2, f"error: {text}")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"overrides": ["scheduler=eft", "evaluate.traces=9", "name=study"]},
            "this makes one: ddrl eval scheduler=eft evaluate.tasks=true evaluate.traces=1 name=tasks",
        ),
        (
            {"learned": True},
            "this makes one: ddrl eval --run {folder} evaluate.tasks=true evaluate.traces=1 name=tasks",
        ),
        ({"settings": {"env": {"rule": "sm\x1bcoedge"}}}, "only clean worlds have one (env.rule here: sm?coedge)"),
        (
            {"overrides": ["a=$(rm -rf ~)"]},
            "ddrl eval 'a=$(rm -rf ~)' evaluate.tasks=true evaluate.traces=1 name=tasks",
        ),
    ],
    ids=["rule", "learned", "published", "hostile"],
)
def test_without_tasks_the_command_that_makes_them_is_named(tmp_path, changes, text):
    place = write_run(tmp_path / "run", **{"settings": SETTINGS, **changes})
    status, said = show(place, "--task", 0)
    assert status == 2
    assert text.format(folder=place) in said


def test_a_damaged_table_is_named(folder):
    frame = hand_made().assign(delay_s=-1.0)
    records.write_table(folder / "tasks.parquet", frame, schemas.TASKS_SCHEMA)
    assert "does not fit its sha256" in show(folder, "--task", 0)[1]
    records.write_manifest(folder)
    status, said = show(folder, "--task", 0)
    assert (status, "tasks.parquet: delay_s must lie in" in said) == (2, True)


def test_of_many_servers_those_that_play_a_part_are_shown():
    scenario = make_scenario(np.ones(30))
    tasks = make_tasks([0.0], work_gcycle=1.0, n_servers=30, deadline_s=9.0)
    select = np.zeros((1, 1, 30), bool)
    select[0, 0, 7] = True
    blind = make_scenario(np.ones(30), link_mbps=1.0, latency_s=5.0)
    assert scenario.n_servers == blind.n_servers
    lines = story(recorded(blind, tasks, Decision("given", "static", "whole", select=select)))
    assert "28 other servers play no part" in " ".join(lines)
