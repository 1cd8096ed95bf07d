"""How far apart seeds are: by hand, and who is left out."""

import json

import pytest
from typer.testing import CliRunner

from ddrl_sched.cli import app
from ddrl_sched.config import InputError
from ddrl_sched.report.by_seed import COLUMNS, seed_rows
from ddrl_sched.report.load import load
from ddrl_sched.report.tables import main as report
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame


def main(paths, format, out, strict=False):
    return report(paths, [], format, out, strict, kind="by_seed")


def write_seeds(folder, delays, n_tasks=None, learned=True, **columns):
    """A run of one trace per entry: delays [seeds][traces]."""
    flat = [(seed, trace) for seed, row in enumerate(delays) for trace in range(len(row))]
    columns |= {"seed": [seed for seed, _ in flat], "trace": [trace for _, trace in flat]}
    columns["mean_delay_s"] = [delays[seed][trace] for seed, trace in flat]
    if n_tasks is not None:
        columns["n_tasks"] = [n_tasks[trace] for _, trace in flat]
    return write_run(folder, rows=eval_frame(len(flat)).assign(**columns), learned=learned)


def test_a_seed_counts_by_the_tasks_of_its_traces(tmp_path):
    write_seeds(tmp_path / "a", [[1.0, 4.0], [2.0, 2.0]], n_tasks=[100, 200], scheduler="mine")
    notes = []
    rows = seed_rows(load([tmp_path]).rows, notes)
    assert rows.mean_delay_s.tolist() == [3.0, 2.0]
    assert rows[["seed", "n_traces", "n_tasks"]].to_numpy().tolist() == [[0, 2, 300], [1, 2, 300]]
    assert notes == []


def test_only_traces_that_every_seed_has_count(tmp_path):
    write_seeds(tmp_path / "a", [[0.1, 5.0], [0.1]], scheduler="mine")
    notes = []
    rows = seed_rows(load([tmp_path]).rows, notes)
    assert rows.mean_delay_s.tolist() == pytest.approx([0.1, 0.1])
    assert len(notes) == 1
    assert notes[0].startswith("1 traces left out: not run with every seed: mine in ")


def test_the_table_tells_of_the_seeds_that_failed(tmp_path, capsys):
    write_seeds(tmp_path / "a", [[0.1], [0.1], [0.12], [41.265]], scheduler="wild")
    write_seeds(tmp_path / "b", [[0.1], [0.1]], scheduler="calm")
    write_seeds(tmp_path / "c", [[0.3], [0.35], [0.4]], scheduler="all_failed")
    write_seeds(tmp_path / "d", [[0.1]], scheduler="alone")
    write_seeds(tmp_path / "e", [[0.1], [0.1]], scheduler="rule", learned=False)
    assert main([tmp_path], "markdown", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("| calm", "| wild", "| a", "| rule"))] == [
        "| calm | 2 | 100.0 | 100.0 | 100.0 | 100.0 | 1.00 | 0 |",
        "| wild | 4 | 110.0 | 110.0 | 100.0 | 41,265 | 375.14 | 1 |",
        "| all_failed | 3 | 350.0 | 350.0 | 300.0 | 400.0 | 1.14 | 3 |",
    ]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["by_seed.csv", "by_seed.json", "by_seed.md", "by_seed.tex"]
    rows = json.loads((tmp_path / "out" / "by_seed.json").read_text())["by_seed"]
    assert len(rows) == 9
    assert list(rows[0]) == COLUMNS
    assert main([tmp_path], "csv", None) == 0
    assert capsys.readouterr().out.splitlines()[0] == ",".join(COLUMNS)


def test_seeds_with_traces_of_their_own_are_said(tmp_path):
    write_seeds(tmp_path / "a", [[1.0], [3.0]], cluster=[0, 1])
    notes = []
    assert len(seed_rows(load([tmp_path]).rows, notes)) == 2
    assert len(notes) == 1
    assert notes[0].startswith("every seed has traces of its own")


def test_loads_ascend_and_scenarios_of_one_name_are_told_apart(tmp_path, capsys):
    """Two worlds at load 0.5 come one after the other."""
    for number, load_ in enumerate((0.9, 0.1, 0.5, 0.5)):
        hashes = f"{9 - number}hash{number}"
        write_seeds(tmp_path / str(number), [[1.0], [2.0]], load=load_, scenario_hash=hashes)
    main([tmp_path], "markdown", None)
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("**")]
    assert [title.split(" load ")[1][:3] for title in titles] == ["0.1", "0.9", "0.5", "0.5"]
    assert ["; scenario" in title for title in titles] == [False, False, True, True]


def test_nothing_to_tell(tmp_path, capsys):
    write_seeds(tmp_path / "a", [[1.0, 2.0]])
    with pytest.raises(InputError, match="no results of a training with several seeds"):
        main([tmp_path], "table", None)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "job.json").write_text("{")
    write_seeds(tmp_path / "c", [[1.0], [2.0]], scheduler="y")
    assert main([tmp_path], "table", None, strict=True) == 3
    assert "skipped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--by-seed --training", "--by-seed: not with --training"),
        ("--by-seed --baseline x", "--baseline: not with --by-seed"),
        ("--training --baseline x", "--baseline: not with --training"),
    ],
)
def test_tables_that_exclude_each_other_are_an_input_error(tmp_path, words, text):
    write_seeds(tmp_path / "a", [[1.0], [2.0]])
    ended = CliRunner().invoke(app, ["report", str(tmp_path), *words.split()])
    assert ended.exit_code == 2
    assert text in ended.stderr
