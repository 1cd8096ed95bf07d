"""How trainings ended: the fitted change by hand, and the table of a report."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.report.tables import main as report
from ddrl_sched.report.training import COLUMNS, fitted_change, mean_and_interval, training_rows
from ddrl_sched.run.metrics import VALIDATION_METRIC
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job


def main(paths, format, out, strict=False):
    return report(paths, [], format, out, strict, kind="training")


def looks(delays, *, metric=VALIDATION_METRIC):
    """Curves of delays [looks, seeds]: a look every 100 updates."""
    n_looks, n_seeds = np.shape(delays)
    update, seed = np.divmod(np.arange(n_looks * n_seeds), n_seeds)
    columns = {"seed": seed, "tasks_seen": 1000 * (update + 1), "update": 100 * (update + 1)}
    return pd.DataFrame(columns | {"metric": metric, "value": np.ravel(delays)})


def write_training(folder, delays, elapsed_s=1.0, **changes):
    write_run(folder, rows=eval_frame(3, scheduler="mine"), **changes)
    elapsed = looks(np.full(np.shape(delays), elapsed_s), metric="elapsed_s")
    frame = pd.concat([looks(delays), looks(np.ones((3, 2)), metric="loss_critic"), elapsed])
    records.write_table(folder / "curves.parquet", frame, schemas.CURVES_SCHEMA)
    records.write_manifest(folder)


def rows_of(delays):
    frame = looks(delays).assign(scheduler="s", trained_on="w", budget="b", training="h", created=1.0, folder="f")
    (row,) = training_rows(frame.assign(number=frame["update"] // 100 - 1), []).itertuples()
    return row


def test_the_fitted_change_by_hand():
    """Looks that fall by 1 % each: over four looks that is four times as much."""
    log_s = np.log(0.99) * np.arange(4)[:, None] + np.array([3.0, -1.0])
    np.testing.assert_allclose(fitted_change(log_s), 4 * np.log(0.99), rtol=1e-9)
    assert np.isnan(fitted_change(log_s[:2])).all()


def test_means_and_intervals_by_hand():
    values = np.array([1.0, 2.0, 6.0])
    half = student.ppf(0.975, 2) * np.sqrt(7.0) / np.sqrt(3)
    assert mean_and_interval(values) == pytest.approx((3.0, 3 - half, 3 + half))
    assert np.isnan(mean_and_interval(values[:1])[1:]).all()


@pytest.mark.parametrize(
    ("per_look", "spread", "settled"),
    [(1.0, 0.0001, "yes"), (0.99, 0.0001, "no"), (1.01, 0.0001, "no"), (1.0, 0.1, "open")],
)
def test_settled_is_what_the_whole_interval_says(per_look, spread, settled):
    rng = np.random.default_rng(0)
    delays = 0.05 * per_look ** np.arange(16)[:, None] * (1 + spread * rng.standard_normal((16, 6)))
    row = rows_of(delays)
    assert row.settled == settled
    assert (row.n_seeds, row.updates, row.looks) == (6, 1600, 16)
    assert row.change_lo_pct < row.change_pct < row.change_hi_pct
    assert row.validation_delay_lo_s < row.validation_delay_s < row.validation_delay_hi_s


def test_only_the_last_quarter_counts():
    delays = np.ones((16, 3)) * [1.0, 1.001, 0.999]
    delays[:12] *= 50.0
    assert rows_of(delays).change_pct == pytest.approx(0.0, abs=1e-9)


def test_a_seed_that_lacks_a_late_look_is_left_out():
    delays = np.ones((16, 3)) * [1.0, 1.0001, 500.0]
    delays[-2, 2] = np.nan
    row = rows_of(delays)
    assert (row.n_seeds, row.settled) == (2, "yes")
    assert row.validation_delay_s == pytest.approx(1.00005)
    delays[-1] = np.nan
    assert (rows_of(delays).n_seeds, rows_of(delays).settled) == (0, "unknown")


@pytest.mark.parametrize(("n_looks", "settled"), [(1, "unknown"), (8, "unknown"), (9, "yes")])
def test_a_quarter_of_fewer_than_three_looks_says_nothing(n_looks, settled):
    assert rows_of(np.ones((n_looks, 3)) * [1.0, 1.0001, 1.0002]).settled == settled


def test_wild_looks_make_plain_json(tmp_path, capsys):
    write_training(tmp_path / "a", 10.0 ** np.random.default_rng(0).uniform(-12, 9, (12, 2)))
    for form in ("json", "table", "csv"):
        assert main([tmp_path], form, None) == 0
    assert capsys.readouterr().err == ""


def test_the_report_has_one_line_for_jobs_that_share_a_training(tmp_path, capsys):
    settings = {"env": {"name": "edge5"}, "workload": {"name": "poisson", "load": 0.5}, "train": {"loads": [0.1, 0.8]}}
    delays = np.full((16, 2), 0.05) * [1.0, 1.0001]
    for name in ("a", "b"):
        write_training(tmp_path / name, delays, settings=settings)
    write_run(tmp_path / "rule", rows=eval_frame(3, scheduler="rule"))
    assert main([tmp_path], "csv", tmp_path / "out") == 0
    text = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "training.csv")
    assert text == (tmp_path / "out" / "training.csv").read_text()
    assert list(table.columns) == COLUMNS
    assert table[["trained_on", "scheduler", "n_seeds", "tasks_seen", "settled"]].values.tolist() == [
        ["edge5 poisson 0.1, 0.8", "mine", 2, 16000, "yes"]
    ]
    for form in ("table", "markdown", "latex", "json"):
        main([tmp_path], form, None)
        assert "mine" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "training.json").read_text())["training"][0]["settled"] == "yes"


def test_trainings_have_a_page_of_their_own(tmp_path):
    write_training(tmp_path / "runs", np.full((16, 2), 0.9), elapsed_s=60.0)
    out = tmp_path / "out"
    assert main([tmp_path / "runs"], "html", out) == 0
    assert "How trainings ended" in (out / "index.html").read_text()
    assert (out / "learning-by-tasks.svg").exists()
    assert (out / "learning-by-time.svg").exists()


def test_the_newer_training_of_a_scheduler_counts(tmp_path, capsys):
    write_training(tmp_path / "old", np.full((16, 2), 0.9), created="2030-01-01T00:00:00+00:00")
    write_training(tmp_path / "new", np.full((16, 2), 0.1), created="2030-01-02T00:00:00+00:00")
    main([tmp_path], "json", None)
    said = capsys.readouterr()
    (row,) = json.loads(said.out)["training"]
    assert row["validation_delay_s"] == pytest.approx(0.1)
    assert f"note: {tmp_path / 'old'}: mine left out: the newer training in {tmp_path / 'new'} counts" in said.err


def test_trainings_with_other_settings_stand_side_by_side(tmp_path, capsys):
    for rule in ("clean", "smcoedge"):
        settings = {"env": {"name": "edge5", "rule": rule}, "workload": {"name": "poisson", "load": 0.5}}
        write_training(tmp_path / rule, np.full((16, 2), 0.9), settings=settings)
    settings = {"env": {"name": "edge5", "rule": "clean"}, "workload": {"name": "poisson", "load": 0.5}}
    overrides = ["env.clock.announce_s=2", "train.episodes=5", "scheduler=mine"]
    write_training(tmp_path / "changed", np.full((16, 2), 0.8), settings=settings | {"seed": 1}, overrides=overrides)
    main([tmp_path], "json", None)
    rows = json.loads(capsys.readouterr().out)["training"]
    assert sorted(row["trained_on"] for row in rows) == [
        "edge5 poisson 0.5",
        "edge5 poisson rule smcoedge 0.5",
        "edge5(announce_s=2,episodes=5) poisson 0.5",
    ]


def on_trace(folder, path, sha256, delay=0.9, **changes):
    settings = {"env": {"name": "edge5"}, "workload": {"name": "trace", "load": 0.5, "path": path}}
    inputs = {} if sha256 is None else {"workload.path": sha256 * 64}
    write_training(folder, np.full((16, 2), delay), settings=settings, input_sha256=inputs, **changes)


def test_trainings_on_copies_of_a_trace_are_one(tmp_path, capsys):
    on_trace(tmp_path / "a", "/x/a.csv", "1", created="2030-01-01T00:00:00+00:00")
    on_trace(tmp_path / "b", "/y/copy.csv", "1", 0.8, created="2030-01-02T00:00:00+00:00")
    on_trace(tmp_path / "c", "/y/other.csv", "2", 0.7)
    main([tmp_path], "json", None)
    said = capsys.readouterr()
    rows = {row["trained_on"]: row["validation_delay_s"] for row in json.loads(said.out)["training"]}
    assert rows == pytest.approx({"edge5 trace(path=a.csv) 0.5": 0.8, "edge5 trace(path=other.csv) 0.5": 0.7})
    assert f"note: {tmp_path / 'a'}: mine left out: the newer training in {tmp_path / 'b'} counts" in said.err


def test_trainings_on_two_contents_of_one_path_are_two(tmp_path, capsys):
    on_trace(tmp_path / "a", "/x/a.csv", "1")
    on_trace(tmp_path / "b", "/x/a.csv", "2", 0.8)
    main([tmp_path], "json", None)
    said = capsys.readouterr()
    names = [row["trained_on"] for row in json.loads(said.out)["training"]]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"edge5; scenario [0-9a-f]{16} trace\(path=a.csv\) 0.5", name) for name in names)
    assert "left out" not in said.err


@pytest.mark.parametrize(("path", "n_rows"), [("/x/a.csv", 1), ("/y/copy.csv", 2)])
def test_trainings_whose_content_is_not_kept_go_by_their_paths(tmp_path, capsys, path, n_rows):
    on_trace(tmp_path / "a", "/x/a.csv", None)
    on_trace(tmp_path / "b", path, None, 0.8)
    main([tmp_path], "json", None)
    assert len(json.loads(capsys.readouterr().out)["training"]) == n_rows


def test_a_trace_of_the_package_goes_by_its_name(tmp_path, capsys):
    """With the content or, in an older folder, without."""
    for name, sha256 in (("a", None), ("b", "1")):
        on_trace(tmp_path / name, "package:a.csv", sha256)
    main([tmp_path], "json", None)
    assert [row["trained_on"] for row in json.loads(capsys.readouterr().out)["training"]] == ["edge5 trace 0.5"]


@pytest.mark.parametrize("settings", [{}, {"env": 3}, {"env": {"name": []}, "train": {"loads": {"x": 1}}}])
def test_settings_of_strangers_name_what_they_can(tmp_path, settings, capsys):
    write_training(tmp_path / "a", np.full((16, 2), 0.9), settings=settings)
    assert main([tmp_path], "table", None) == 0
    assert "Trained on" in capsys.readouterr().out


def test_without_looks_there_is_nothing_to_say(tmp_path):
    records.write_job(tmp_path / "a", job(learned=True))
    records.write_table(tmp_path / "a" / "curves.parquet", looks([[1.0]], metric="loss"), schemas.CURVES_SCHEMA)
    records.write_manifest(tmp_path / "a")
    with pytest.raises(InputError, match=r"train\.validate_every"):
        main([tmp_path], "table", None)


def hostile_curves():
    plain = looks(np.full((16, 2), 0.9))
    many = looks(np.full((1, 1001), 0.9))
    ragged = pd.DataFrame(
        {"seed": range(50), "tasks_seen": 1, "update": range(50), "metric": VALIDATION_METRIC, "value": 1.0}
    )
    yield "a few seeds lack looks", plain.drop(index=3), "as many rows"
    yield "every row its own seed", pd.concat([ragged, ragged.head(1)]), "as many rows"
    yield "many seeds", many, "1,000 seeds"
    for column, value in (("seed", -1), ("update", 2**63 - 1), ("tasks_seen", -6)):
        yield f"{column} {value}", plain.assign(**{column: value}), f"{column} must lie in"
    for value in (0.0, -1.0, np.inf, 1e308, 1e-300):
        yield f"value {value}", plain.assign(value=value), "delays must lie in"


@pytest.mark.parametrize(("frame", "reason"), [pytest.param(f, r, id=name) for name, f, r in hostile_curves()])
def test_curves_that_cannot_be_are_left_out(tmp_path, frame, reason, capsys):
    write_training(tmp_path / "a", np.full((16, 2), 0.9))
    write_run(tmp_path / "b", rows=eval_frame(3, scheduler="other"))
    records.write_table(tmp_path / "b" / "curves.parquet", frame, schemas.CURVES_SCHEMA)
    records.write_manifest(tmp_path / "b")
    assert main([tmp_path], "table", None, strict=True) == 3
    said = capsys.readouterr()
    assert "mine" in said.out
    assert said.err.startswith(f"skipped: {tmp_path / 'b'}: curves.parquet: ")
    assert reason in said.err


def test_a_bad_evaluation_does_not_hide_a_training(tmp_path, capsys):
    write_training(tmp_path / "a", np.full((16, 2), 0.9))
    records.write_table(tmp_path / "a" / "eval.parquet", eval_frame(1, mean_delay_s=-1.0), schemas.EVAL_SCHEMA)
    records.write_manifest(tmp_path / "a")
    assert main([tmp_path], "table", None, strict=True) == 0


@pytest.mark.parametrize(
    ("learned", "metric", "why"),
    [(True, "loss", r"train\.validate_every=N"), (False, "loss", "rules do not learn"), (None, "", "no run folder")],
)
def test_nothing_to_show_says_why(tmp_path, learned, metric, why):
    if learned is not None:
        write_run(tmp_path / "a", rows=eval_frame(3), learned=learned)
    with pytest.raises(InputError, match=why):
        main([tmp_path], "table", None)


@pytest.mark.parametrize(
    ("update", "tasks", "text"),
    [
        (0, 5, "made 0 updates"),
        (0, 0, "saw no task"),
        (3, 5, None),
        (3, [5, 0], "saw no task in seed 1 of 2"),
        ([0, 3], 5, "made 0 updates in seed 0 of 2"),
        ([3, 0], [0, 5], "saw no task in seed 0 of 2 and made 0 updates in seed 1 of 2"),
    ],
)
def test_a_training_that_learnt_nothing_is_told_of(tmp_path, capsys, update, tasks, text):
    folder = write_run(tmp_path / "a", rows=eval_frame(3, scheduler="mine"), learned=True)
    frame = pd.DataFrame({"seed": [0, 1], "tasks_seen": tasks, "update": update, "metric": "delay_s", "value": 0.5})
    records.write_table(folder / "curves.parquet", frame, schemas.CURVES_SCHEMA)
    records.write_manifest(folder)
    report([tmp_path], [], "csv", None)
    err = capsys.readouterr().err
    assert (f"note: mine: its training {text} ({folder})" in err) if text else ("its training" not in err)


def test_a_seed_has_learnt_if_any_row_of_it_says_so_and_few_seeds_are_named(tmp_path, capsys):
    folder = write_run(tmp_path / "a", rows=eval_frame(3, scheduler="mine"), learned=True)
    seeds = [*range(13), *range(13)]
    update = [0] * 13 + [7, *[0] * 12]  # seed 0 in its second episode
    frame = pd.DataFrame({"seed": seeds, "tasks_seen": 5, "update": update, "metric": "delay_s", "value": 0.5})
    records.write_table(folder / "curves.parquet", frame, schemas.CURVES_SCHEMA)
    records.write_manifest(folder)
    report([tmp_path], [], "csv", None)
    text = "its training made 0 updates in seeds 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... of 13"
    assert f"note: mine: {text} ({folder})" in capsys.readouterr().err


def test_a_training_made_again_is_no_newer_one(tmp_path, capsys):
    """The same but for the time that it took."""
    write_training(tmp_path / "a", np.full((16, 2), 0.9), 1.0, created="2030-01-01T00:00:00+00:00")
    write_training(tmp_path / "b", np.full((16, 2), 0.9), 2.0, created="2030-01-02T00:00:00+00:00")
    main([tmp_path], "json", None)
    said = capsys.readouterr()
    assert len(json.loads(said.out)["training"]) == 1
    assert "left out" not in said.err
