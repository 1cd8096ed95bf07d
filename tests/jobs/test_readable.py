"""What is accepted can be read: settings that job.json cannot hold are refused by key, tables are read back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st

from ddrl_sched.config import InputError
from ddrl_sched.jobs import reading, records, schemas
from ddrl_sched.jobs.strict_json import LARGEST, MAX_JSON_BYTES, check_plain
from ddrl_sched.report.load import load
from ddrl_sched.run.evaluate import Evaluation
from tests.conf_files import plain
from tests.jobs.test_records import curves_frame, eval_frame, job
from tests.jobs.test_scheduling_job import NO_OPTIONS, settings
from tests.jobs_by_hand import ask, prepare, run_job

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.just("\udcff"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=40,
)


def nested(levels):
    value = 0
    for _ in range(levels):
        value = {"k": value}
    return value


def accepted(act, *words):
    try:
        act(*words)
    except ValueError:
        return False
    return True


@how(max_examples=300, deadline=None)
@given(value=PLAIN, word=st.text(max_size=300))
def test_a_job_that_is_written_is_read_as_it_was(tmp_path_factory, value, word):
    folder = tmp_path_factory.mktemp("job")
    one = job(settings={"scheduler": value}, overrides=[word], scheduler=word, experiment=word)
    if accepted(records.write_job, folder, one):
        assert records.read_job(folder) == one
    else:
        assert list(folder.iterdir()) == []


@how(max_examples=300, deadline=None)
@given(value=PLAIN, word=st.text(max_size=300))
def test_settings_are_refused_where_a_job_with_them_would_be(tmp_path_factory, value, word):
    folder = tmp_path_factory.mktemp("job")
    one = job(settings={"scheduler": value}, overrides=[word])
    assert accepted(check_plain, one["settings"], [word]) == accepted(records.write_job, folder, one)


@pytest.mark.parametrize("levels", range(14, 22))
def test_nesting_is_refused_where_the_reader_refuses_it(tmp_path, levels):
    one = job(settings={"scheduler": nested(levels)})
    assert accepted(records.write_job, tmp_path, one) == accepted(check_plain, one["settings"], [])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**63, r"scheduler\.k\[1\]: must be < 9223372036854775808, got 9223372036854775808"),
        (-(2**63) - 1, r"scheduler\.k\[1\]: must be >= -9223372036854775808"),
        pytest.param(10**5000, "one of 16610 bits", id="huge"),
        (float("inf"), r"scheduler\.k\[1\]: must be a finite number"),
        ("\udcff", r"scheduler\.k\[1\]: is not UTF-8"),
        ({1: 2}, r"scheduler\.k\[1\]: a key is not text"),
        (b"", r"scheduler\.k\[1\]: bytes is not plain data"),
        (nested(30), "nested too deep"),
        ("x" * MAX_JSON_BYTES, "scheduler: a run folder keeps"),
    ],
)
def test_what_job_json_cannot_hold_is_named(value, text):
    with pytest.raises(InputError, match=text):
        check_plain({"scheduler": {"k": [0, value]}}, [])
    check_plain({"scheduler": {"k": [LARGEST - 1, -LARGEST, 1e308, "é\0"]}}, [])


@pytest.mark.parametrize("key", ["seed", "evaluate.seed", "scheduler.k"])
def test_whole_numbers_beyond_63_bits_are_refused_by_key(tmp_path, key):
    data = settings(tmp_path, "best_k")
    *groups, last = key.split(".")
    place = data
    for group in groups:
        place = place[group]
    place[last] = 2**63
    with pytest.raises(InputError, match=rf"^{key}: must be < 9223372036854775808, got 9223372036854775808"):
        ask(data, "eval", NO_OPTIONS)
    place[last] = 2**63 - 1
    ask(data, "eval", NO_OPTIONS)


def test_the_largest_seed_is_done_and_read(tmp_path):
    data = settings(tmp_path) | {"seed": 2**63 - 1}
    assert run_job(data, "eval", NO_OPTIONS) == "done"
    found = load([ask(data, "eval", NO_OPTIONS).folder])
    assert (len(found.rows), found.skipped) == (3, [])


def test_delays_that_no_table_holds_fail_before_done(tmp_path):
    data = settings(tmp_path, "split_capacity")
    data["env"]["network"] |= {"latency_s": 1e9}
    with pytest.raises(InputError, match=r"env\.network\.latency_s: the mean delay of trace 0 is 2e\+09 s"):
        run_job(data, "eval", NO_OPTIONS)
    folder = ask(data, "eval", NO_OPTIONS).folder
    assert records.read_job(folder)["status"] == "failed"
    assert not (folder / "eval.parquet").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mean_delay_s": 2e9}, "mean_delay_s is 2000000000.0 in row 0"),
        ({"mean_delay_s": 0.0}, "mean_delay_s is 0.0"),
        ({"late_rate": 1.5}, "late_rate"),
        ({"load": float("inf")}, "load"),
        ({"trace": 3}, "two rows"),
        ({"scheduler": "other"}, "is of scheduler other"),
        ({"workload": "x" * 201}, "more than 200 characters"),
    ],
)
def test_a_table_that_a_report_refuses_is_not_done(tmp_path, change, text):
    frame = eval_frame(2, **{"scheduler": "eft", "late_rate": 0.5} | change)
    records.write_table(tmp_path / "eval.parquet", frame, schemas.EVAL_SCHEMA)
    with pytest.raises(InputError, match=text):
        reading.check_written(tmp_path, job(settings={"env": {"rule": "x"}}, scenario_hash="x"))


@pytest.mark.parametrize(
    ("rows", "fits"),
    [
        ([("clean", "h")], True),
        ([("clean", "h"), ("optimal", "other")], True),  # placed again under another rule
        ([("clean", "other")], False),
        ([("clean", "h"), ("clean", "other")], False),
        ([("optimal", "h")], False),
    ],
)
def test_results_are_of_the_scenario_of_their_job(tmp_path, rows, fits):
    frame = eval_frame(len(rows), scheduler="eft").assign(
        rule=[rule for rule, _ in rows], scenario_hash=[hash_ for _, hash_ in rows]
    )
    records.write_table(tmp_path / "eval.parquet", frame, schemas.EVAL_SCHEMA)
    of = job(settings={"env": {"rule": "clean"}}, scenario_hash="h")
    assert accepted(reading.check_written, tmp_path, of) == fits


def test_a_job_whose_table_no_report_reads_fails(tmp_path, monkeypatch):
    data = settings(tmp_path)
    rows = eval_frame(2, late_rate=7.0).to_dict("records")
    found = Evaluation(rows, {"row": [0, 1], "bin": [5, 5], "count": [1, 1]}, None)
    monkeypatch.setattr("ddrl_sched.jobs.scheduling.evaluate", lambda *_, **__: found)
    with pytest.raises(InputError, match="no report would read them"):
        run_job(data, "eval", NO_OPTIONS)
    assert records.read_job(ask(data, "eval", NO_OPTIONS).folder)["status"] == "failed"


def test_curves_of_delays_are_read_back(tmp_path):
    frame = curves_frame().assign(metric="delay_s")
    for value, fits in ((0.25, True), (np.nan, True), (2e9, False), (0.0, False)):
        records.write_table(tmp_path / "curves.parquet", frame.assign(value=value), schemas.CURVES_SCHEMA)
        assert accepted(reading.check_written, tmp_path, job()) == fits


def test_the_error_of_a_failed_job_can_be_read(tmp_path):
    failed = records.error_text(RuntimeError("\udcff\x1b[2J" + "x" * 10**7))
    records.write_job(tmp_path, job(status="failed", error=failed))
    assert records.read_job(tmp_path)["error"].startswith("RuntimeError: ??[2Jxxx")
    assert len((tmp_path / "job.json").read_bytes()) < MAX_JSON_BYTES


def test_a_manifest_of_names_that_are_not_read_is_not_written(tmp_path):
    records.write_job(tmp_path, job())
    (tmp_path / "my notes.json").write_text("{}")
    with pytest.raises(records.RecordsError, match="expected file names"):
        records.write_manifest(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_cartpole_names_are_short_enough_to_be_read(tmp_path):
    from tests.run.test_cartpole import settings as cartpole

    with pytest.raises(InputError, match="at most 200 characters"):
        run_job(cartpole(tmp_path, "cartpole/dqn", label="x" * 201), "train", {})
    with pytest.raises(InputError, match=r"^baselines"):
        run_job(cartpole(tmp_path, "cartpole/dqn", baselines=["x" * 201]), "train", {})
    data = cartpole(tmp_path, "cartpole/dqn")
    data["train"] |= {"horizons": [10**8], "evaluate_every": 1}
    with pytest.raises(InputError, match=r"^train\.evaluate_every, seeds: "):
        run_job(data, "train", {})


def test_a_plain_job_says_done_and_is_read(tmp_path):
    data = settings(tmp_path) | {"env": plain("env", "edge5")}
    data["env"]["clock"]["horizon_s"] = 4.0
    assert run_job(data, "eval", NO_OPTIONS) == "done"
    folder = prepare(data, "eval", NO_OPTIONS).spec.folder
    assert json.loads((folder / "job.json").read_text())["status"] == "done"
    assert load([folder]).skipped == []
