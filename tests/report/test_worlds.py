"""Names of worlds in a report: no two under one title, in every form, and what is cut off is marked."""

import io
import re

import numpy as np
import pandas as pd
import pytest

from ddrl_sched.jobs import records, schemas
from ddrl_sched.report.load import load
from ddrl_sched.report.settings_diff import truncate, value_text
from ddrl_sched.report.tables import main as report
from ddrl_sched.report.worlds import load_text
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job
from tests.report.test_training import looks


def settings(speed_gcps=(10.0, 20.0), *, seed=2026, file=None, workload=None, **env):
    return {
        "env": {"name": "edge2", "rule": "clean", "servers": {"speed_gcps": list(speed_gcps)}, **env},
        "workload": {"name": "poisson", "load": 0.5, "path": file, **(workload or {})},
        "evaluate": {"seed": seed, "traces": 2},
        "train": {"episodes": 3},
        "seed": 0,
    }


def write_world(folder, hash_, scheduler="eft", *, of=None, load_=0.5, workload="poisson", **changes):
    rows = eval_frame(2, scheduler=scheduler, scenario="edge2", rule="clean", load=load_, scenario_hash=hash_)
    return write_run(folder, rows=rows.assign(workload=workload, cluster=[0, 1]), settings=of or settings(), **changes)


def titles(paths, capsys, form="markdown", kind="results"):
    capsys.readouterr()
    assert report(paths, [], form, None, kind=kind) == 0
    out, err = capsys.readouterr()
    return [line.strip("*") for line in out.splitlines() if line.startswith("**")], err


def names(tmp_path, columns=("scenario", "workload")):
    rows = load([tmp_path]).rows.drop_duplicates("scenario_hash").sort_values("scenario_hash")
    return [", ".join(row) for row in rows[list(columns)].values.tolist()]


def test_another_world_of_the_same_name_is_told_apart_by_its_settings(tmp_path, capsys):
    write_world(tmp_path / "a", "1")
    write_world(tmp_path / "b", "2", "jsq", of=settings([2.0, 4.0]), baselines=["eft"])
    found, err = titles([tmp_path], capsys)
    assert [title.partition(" (realised")[0] for title in found] == [
        "edge2(speed_gcps=[10,20]), workload poisson, rule clean, load 0.5",
        "edge2(speed_gcps=[2,4]), workload poisson, rule clean, load 0.5",
    ]
    assert "baseline eft was not run in: edge2(speed_gcps=[2,4]), workload poisson, rule clean, load 0.5\n" in err
    capsys.readouterr()
    report([tmp_path], [], "csv", None)
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table.scenario.tolist() == ["edge2(speed_gcps=[10,20])", "edge2(speed_gcps=[2,4])"]


def test_another_seed_of_the_evaluation_is_another_world(tmp_path):
    write_world(tmp_path / "a", "1", of=settings(seed=1))
    write_world(tmp_path / "b", "2", of=settings(seed=2))
    assert names(tmp_path) == ["edge2(seed=1), poisson", "edge2(seed=2), poisson"]


@pytest.mark.parametrize("inputs", [{}, {"workload.path": "1" * 64}])
def test_a_copy_of_a_trace_makes_no_other_settings(tmp_path, inputs):
    """Rows of one scenario_hash are of one content, also where job.json does not keep it."""
    for day, file in ((1, "/x/a.csv"), (2, "/y/copy.csv")):
        at = f"2030-01-0{day}T00:00:00+00:00"
        write_world(tmp_path / str(day), "1", of=settings(file=file), created=at, input_sha256=inputs)
    assert load([tmp_path]).notes == [
        f"{tmp_path / '1'}: 2 rows of eft left out, repeated there: the newer {tmp_path / '2'} counts"
    ]


def test_other_settings_are_told_without_the_path_of_a_copy(tmp_path):
    for day, file in ((1, "/x/a.csv"), (2, "/y/copy.csv")):
        at, of = f"2030-01-0{day}T00:00:00+00:00", settings(file=file)
        of["train"]["episodes"] = day
        write_world(tmp_path / str(day), "1", of=of, created=at, input_sha256={"workload.path": "1" * 64})
    (note,) = load([tmp_path]).notes
    assert "made with other train.episodes: the newer" in note


def test_worlds_of_one_trace_are_not_told_apart_by_its_copies(tmp_path):
    for seed, file in ((1, "/x/a.csv"), (2, "/y/copy.csv")):
        of = settings(seed=seed, file=file)
        write_world(tmp_path / str(seed), str(seed), of=of, input_sha256={"workload.path": "1" * 64}, workload="trace")
    assert names(tmp_path) == ["edge2(seed=1), trace(path=a.csv)", "edge2(seed=2), trace(path=a.csv)"]


def test_a_trace_is_named_by_its_file(tmp_path):
    for number, file in enumerate(
        ("/x/week1/monday.csv", "/x/week2/monday.csv", "tuesday.csv", "package:traces/a.csv")
    ):
        write_world(tmp_path / str(number), str(number), of=settings(file=file), workload="trace")
    assert names(tmp_path, ["workload"]) == [
        "trace(path=week1/monday.csv)", "trace(path=week2/monday.csv)", "trace(path=tuesday.csv)", "trace",
    ]  # fmt: skip
    assert set(names(tmp_path, ["scenario"])) == {"edge2"}


def test_a_file_that_was_changed_leaves_only_the_hash_to_tell(tmp_path, capsys):
    for hash_ in ("aaaa1", "aaaa2"):
        write_world(tmp_path / hash_, hash_, of=settings(file="monday.csv"), workload="trace")
    assert names(tmp_path, ["scenario"]) == ["edge2; scenario aaaa1", "edge2; scenario aaaa2"]


def test_one_world_at_several_loads_keeps_its_name(tmp_path, capsys):
    for load_ in (0.5, 1.2):
        for kind, speeds in (("a", [10.0, 20.0]), ("b", [1.0, 2.0])):
            of = settings(speeds, workload={"load": load_})
            write_world(tmp_path / f"{kind}{load_}", f"{kind}{load_}", of=of, load_=load_, baselines=["eft"])
    found, _ = titles([tmp_path], capsys)
    assert [title.partition(" (real")[0] for title in found] == [
        "edge2(speed_gcps=[1,2]), workload poisson, rule clean, load 0.5",
        "edge2(speed_gcps=[1,2]), workload poisson, rule clean, load 1.2 (overload)",
        "edge2(speed_gcps=[10,20]), workload poisson, rule clean, load 0.5",
        "edge2(speed_gcps=[10,20]), workload poisson, rule clean, load 1.2 (overload)",
        "edge2(speed_gcps=[1,2]), workload poisson, rule clean: means over the loads 0.5, 1.2 (overload)",
        "edge2(speed_gcps=[10,20]), workload poisson, rule clean: means over the loads 0.5, 1.2 (overload)",
    ]


def test_loads_that_three_digits_do_not_tell_apart(tmp_path, capsys):
    for load_ in (0.6, 0.6001, 0.60000001):
        write_world(tmp_path / str(load_), str(load_), of=settings(workload={"load": load_}), load_=load_)
    found, _ = titles([tmp_path], capsys)
    assert len({title.partition(" (realised")[0] for title in found}) == 3


def test_long_lists_of_overrides_are_cut_visibly_and_differ(tmp_path):
    for number in (1, 2):
        speeds = [float(n) for n in range(59)] + [float(number)]
        word = f"env.servers.speed_gcps=[{','.join(map(str, speeds))}]"
        assert len(word) > 200
        write_world(tmp_path / str(number), str(number), of=settings(speeds), overrides=[word])
    one, other = names(tmp_path, ["scenario"])
    assert one != other
    assert re.fullmatch(r"edge2\(speed_gcps=\[0,1,2,\.\.\.\]\(60; [0-9a-f]{8}\)\)", one)


def test_more_changes_than_a_name_holds_are_marked(tmp_path):
    words = [f"env.a{number}=1" for number in range(30)]
    write_world(tmp_path / "a", "1", overrides=words)
    write_world(tmp_path / "b", "2", overrides=[*words[:-1], "env.a29=2"])
    write_world(tmp_path / "c", "3", overrides=[f"env.{'k' * 300}=1"])
    one, other, long = names(tmp_path, ["scenario"])
    assert one != other
    assert all("more=..." in name for name in (one, other, long))


def test_many_differences_tell_the_first_and_that_there_are_more(tmp_path):
    for number in (1, 2):
        write_world(tmp_path / str(number), str(number), of=settings(**{f"k{i}": number for i in range(7)}))
    one, other = names(tmp_path, ["scenario"])
    assert re.fullmatch(r"edge2\(k0=1,k1=1,k2=1,k3=1,more=\.\.\.#[0-9a-f]{8}\)", one)
    assert one != other


def test_rules_and_replays_of_one_world_share_its_name(tmp_path):
    write_world(tmp_path / "a", "1", of=settings())
    other = settings()
    other["env"]["rule"] = "amcoedge"
    write_run(tmp_path / "b", rows=eval_frame(2, scenario="edge2", rule="amcoedge", scenario_hash="2", load=0.5,
                                              workload="poisson"), settings=other)  # fmt: skip
    assert names(tmp_path) == ["edge2, poisson", "edge2, poisson"]


def test_values_are_told_as_they_were_validated(tmp_path):
    clock = {"clock": {"horizon_s": 4.0}}
    write_world(tmp_path / "a", "1", "eft", of=settings(**clock), overrides=["env.clock.horizon_s=4e0"])
    write_world(tmp_path / "b", "1", "jsq", of=settings(**clock), overrides=["env.clock.horizon_s=4.0"])
    assert names(tmp_path, ["scenario"]) == ["edge2(horizon_s=4)"]


@pytest.mark.parametrize("kind", ["by_seed", "training"])
def test_the_other_tables_tell_worlds_apart_too(tmp_path, capsys, kind):
    for number, speeds in enumerate(([10.0, 20.0], [1.0, 2.0])):
        folder = write_world(tmp_path / str(number), str(number), "mine", of=settings(speeds), learned=True)
        rows = pd.concat([eval_frame(2, scheduler="mine", scenario="edge2", scenario_hash=str(number), load=0.5).assign(
            seed=seed, workload="poisson", rule="clean") for seed in range(2)])  # fmt: skip
        records.write_table(folder / "eval.parquet", rows, schemas.EVAL_SCHEMA)
        records.write_table(folder / "curves.parquet", looks(np.full((16, 2), 0.9)), schemas.CURVES_SCHEMA)
        records.write_manifest(folder)
    found, _ = titles([tmp_path], capsys, kind=kind)
    assert sorted(re.findall(r"speed_gcps=\[[0-9,]*\]", " ".join(found))) == ["speed_gcps=[1,2]", "speed_gcps=[10,20]"]
    capsys.readouterr()
    report([tmp_path], [], "csv", None, kind=kind)
    assert all(text in capsys.readouterr().out for text in ["speed_gcps=[1,2]"])


def test_trainings_of_one_label_are_told_apart_by_what_they_learn_with(tmp_path, capsys):
    for episodes in (3, 9):
        of = settings() | {"train": {"episodes": episodes}}
        folder = write_world(tmp_path / str(episodes), "1", "mine", of=of, learned=True)
        records.write_table(folder / "curves.parquet", looks(np.full((16, 2), 0.9)), schemas.CURVES_SCHEMA)
        records.write_manifest(folder)
    report([tmp_path], [], "csv", None, kind="training")
    assert pd.read_csv(io.StringIO(capsys.readouterr().out)).scheduler.tolist() == [
        "mine(episodes=3)",
        "mine(episodes=9)",
    ]


def test_cartpole_tables_tell_worlds_apart(tmp_path, capsys):
    for seed in (0, 1):
        of = {"env": {"name": "cartpole", "kind": "gym"}, "seed": seed, "train": {"name": "x", "horizons": [100]}}
        records.write_job(
            tmp_path / str(seed), job(scheduler="dqn", settings=of, learned=True, scenario_hash=str(seed))
        )
        row = {"scheduler": "dqn", "scenario_hash": str(seed), "steps": 100, "episodes": 3, "episode_mean": 20.0,
               "step_mean": 20.0, "final_greedy": 20.0, "steps_to_solve": np.nan}  # fmt: skip
        frame = pd.DataFrame([row | {"seed": s} for s in range(3)])
        records.write_table(tmp_path / str(seed) / "returns.parquet", frame, schemas.RETURNS_SCHEMA)
        records.write_manifest(tmp_path / str(seed))
    found, _ = titles([tmp_path], capsys)
    assert [title.partition(" after")[0] for title in found] == ["CartPole-v1(seed=0)", "CartPole-v1(seed=1)"]
    report([tmp_path], [], "csv", None)
    assert pd.read_csv(io.StringIO(capsys.readouterr().out)).scenario.tolist() == found_names(found)


def found_names(found):
    return [title.partition(" after")[0] for title in found]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "4"), (4.0, "4"), (-0.0, "0"), (0.0005, "0.0005"), (True, "true"), (None, "null"), ("true", '"true"'),
        ("a b", "a b"), ("1", '"1"'), ([1.0, "x", [2]], "[1,x,[2]]"), ({"b": 1, "a": 2.0}, '{"a":2,"b":1}'),
    ],
)  # fmt: skip
def test_values_as_text(value, text):
    assert value_text(value) == text


def test_what_is_cut_off_is_marked_and_differs():
    assert truncate("x" * 20, 20) == "x" * 20
    assert truncate("x" * 21, 20)[:11] == "x" * 8 + "..."
    assert len(truncate("x" * 21, 20)) == 20
    assert truncate("x" * 21, 20) != truncate("x" * 22, 20)
    assert truncate("\ud800" * 99, 20).endswith(truncate("\ud800" * 99, 20)[-8:])


@pytest.mark.parametrize(("load_", "text"), [(0.6, "0.6"), (0.30000000000000004, "0.3"), (1.0, "1 (overload)")])
def test_loads_as_text(load_, text):
    assert load_text(load_) == text
