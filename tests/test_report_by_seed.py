"""How far apart seeds are: by hand, and who is left out."""

import json

import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.report.by_seed import COLUMNS, main, seed_rows
from ddrl_sched.report.load import load
from tests.hostile_folders import write_run
from tests.test_records import eval_frame


def write_seeds(folder, delays, n_tasks=None, **columns):
    """A run of one trace per entry: delays [seeds][traces]."""
    flat = [(seed, trace) for seed, row in enumerate(delays) for trace in range(len(row))]
    columns |= {"seed": [seed for seed, _ in flat], "trace": [trace for _, trace in flat]}
    columns["mean_delay_s"] = [delays[seed][trace] for seed, trace in flat]
    if n_tasks is not None:
        columns["n_tasks"] = [n_tasks[trace] for _, trace in flat]
    return write_run(folder, rows=eval_frame(len(flat)).assign(**columns))


def test_a_seed_counts_by_the_tasks_of_its_traces(tmp_path):
    write_seeds(tmp_path / "a", [[1.0, 4.0], [2.0, 2.0]], n_tasks=[100, 200], scheduler="mine")
    notes = []
    rows = seed_rows(load([tmp_path]).rows, notes)
    assert rows.mean_delay_s.tolist() == [3.0, 2.0]
    assert rows[["seed", "n_traces", "n_tasks"]].to_numpy().tolist() == [[0, 2, 300], [1, 2, 300]]
    assert notes == []


def test_the_table_tells_of_the_seed_that_failed(tmp_path, capsys):
    write_seeds(tmp_path / "a", [[0.1], [0.1], [0.12], [0.25]], scheduler="wild")
    write_seeds(tmp_path / "b", [[0.1], [0.1]], scheduler="calm")
    write_seeds(tmp_path / "c", [[0.1]], scheduler="alone")
    assert main([tmp_path], "markdown", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("| wild", "| calm", "| alone"))] == [
        "| calm | 2 | 100 | 100 | 100 | 1.00 | 0 |",
        "| wild | 4 | 110 | 100 | 250 | 2.27 | 1 |",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"by_seed.{e}" for e in ("csv", "json", "md", "tex")
    ]
    rows = json.loads((tmp_path / "out" / "by_seed.json").read_text())["by_seed"]
    assert len(rows) == 6
    assert list(rows[0]) == COLUMNS
    assert main([tmp_path], "csv", None) == 0
    assert capsys.readouterr().out.splitlines()[0] == ",".join(COLUMNS)


def test_seeds_with_traces_of_their_own_are_said(tmp_path):
    write_seeds(tmp_path / "a", [[1.0], [3.0]], cluster=[0, 1])
    notes = []
    assert len(seed_rows(load([tmp_path]).rows, notes)) == 2
    assert len(notes) == 1
    assert notes[0].endswith("every seed met traces of its own")


def test_nothing_to_tell(tmp_path, capsys):
    write_seeds(tmp_path / "a", [[1.0, 2.0]])
    with pytest.raises(InputError, match="no scheduler with several seeds"):
        main([tmp_path], "table", None)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "job.json").write_text("{")
    write_seeds(tmp_path / "c", [[1.0], [2.0]], scheduler="y")
    assert main([tmp_path], "table", None, strict=True) == 3
    assert "skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--by-seed", "--training"], ["--by-seed", "--baseline", "x"], ["--training", "--baseline", "x"]]
)
def test_tables_that_exclude_each_other_are_an_input_error(tmp_path, words):
    write_seeds(tmp_path / "a", [[1.0], [2.0]])
    ended = CliRunner().invoke(app, ["report", str(tmp_path), *words.split()])
    assert ended.exit_code == 2
    assert "not with --" in ended.stderr
