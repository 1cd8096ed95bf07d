"""`ddrl report --tensorboard`: what tensorboard reads back, and names that stay inside the folder."""

import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.report.event_files import main
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame

CREATED = "2030-01-02T03:04:05+00:00"


def write_training(folder, scheduler="mine", **changes):
    write_run(folder, rows=eval_frame(1, scheduler=scheduler), learned=True, created=CREATED, **changes)
    rows = [
        (seed, steps, steps // 10, metric, value + seed)
        for steps in (100, 200)
        for metric, value in (("delay_s", steps / 1000), ("elapsed_s", steps / 10))
        for seed in (0, 1)
    ]
    frame = pd.DataFrame(rows, columns=schemas.CURVES_SCHEMA.names)
    records.write_table(folder / "curves.parquet", frame, schemas.CURVES_SCHEMA)
    records.write_manifest(folder)
    return folder


def test_tensorboard_reads_them_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_training(tmp_path / "runs" / "a")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "runs"), "--tensorboard", str(tmp_path / "tb")])
    assert (result.exit_code, result.output.startswith("written: 2 runs below")) == (0, True)
    events = accumulator.EventAccumulator(str(tmp_path / "tb" / "mine" / "a" / "seed_1")).Reload()
    assert events.Tags()["scalars"] == ["delay_s"]
    began_s = pd.Timestamp(CREATED).timestamp()
    points = events.Scalars("delay_s")
    assert [point.step for point in points] == [100, 200]
    assert [point.value for point in points] == pytest.approx([1.1, 1.2])
    assert [point.wall_time - began_s for point in points] == [11.0, 21.0]
    before = sorted(path.read_bytes() for path in (tmp_path / "tb").rglob("events*"))
    main([tmp_path / "runs"], tmp_path / "tb")
    assert sorted(path.read_bytes() for path in (tmp_path / "tb").rglob("events*")) == before


def test_a_strangers_label_is_no_path(tmp_path):
    pytest.importorskip("tensorboard")
    write_training(tmp_path / "runs" / "a", "../../out\x1b", job_id="../x")
    assert main([tmp_path / "runs"], tmp_path / "deep" / "tb") == 0
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("events*")} == {"deep"}


def test_without_a_training_there_is_nothing_to_write(tmp_path):
    write_run(tmp_path / "a")
    with pytest.raises(InputError, match=r"^--tensorboard: no finished training"):
        main([tmp_path], tmp_path / "tb")


def test_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(InputError, match=r"^--tensorboard needs the extra 'tensorboard'"):
        main([write_training(tmp_path / "a")], tmp_path / "tb")
