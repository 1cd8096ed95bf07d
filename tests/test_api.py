"""The program from Python: numbers of the command line, its errors, and nothing heavy at import."""

import subprocess
import sys

import pytest

import ddrl_sched as ddrl
from ddrl_sched.config import InputError

SHORT = {"env__clock__horizon_s": 5, "traces": 2}


def test_nothing_heavy_is_loaded_at_import():
    heavy = ("torch", "numba", "pandas", "hydra", "pydantic")
    code = f"import sys, ddrl_sched; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_rows_are_those_of_a_run_folder_and_a_table_compares_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dropped = ddrl.evaluate("priced", load=0.6, **SHORT)
    assert list(tmp_path.iterdir()) == []
    for scheduler in ("priced", "eft"):
        kept = ddrl.evaluate(scheduler, load=0.6, runs_dir="it's", **SHORT)
    rows = ddrl.load("it's")
    assert sorted(rows[rows.scheduler == "priced"].mean_delay_s) == sorted(dropped.mean_delay_s)
    assert sorted(rows[rows.scheduler == "eft"].mean_delay_s) == sorted(kept.mean_delay_s)
    report = ddrl.report("it's", ["eft"])
    from ddrl_sched.report.table import Report

    assert isinstance(report, Report)
    assert isinstance(ddrl.report(["it's"]), Report)  # also once the package of the same name is loaded
    assert [row.cells[0].value for row in report.tables[0].rows] == report.frames["rows"].scheduler.tolist()
    table = ddrl.table("it's", ["eft"]).set_index("scheduler")
    assert table.reduction_pct["eft"] == pytest.approx(0.0)
    assert table.mean_delay_s["priced"] == pytest.approx(dropped.mean_delay_s.mean(), rel=0.05)


def test_a_capacity_is_asked_for_as_on_the_command_line():
    change = {"env__clock__horizon_s": 5, "env__tasks__deadline_s": 0.06, "capacity__tolerance": 0.4}
    rows = ddrl.evaluate("eft", traces=3, capacity="p99", **change)
    assert sorted(rows.load.unique())[:2] == [0.05, 0.52]
    assert (rows.n_late <= rows.n_tasks).all()


def test_trained_weights_are_evaluated(tmp_path):
    change = {"train__episodes": 1, "scheduler__learning__start_slots": 1, "scheduler__learning__batch": 4}
    folder = ddrl.train("tuned/dqn_ts", budget="tiny", seeds=1, runs_dir=tmp_path, **change)
    assert (folder / "weights.safetensors").is_file()
    assert len(ddrl.evaluate(run=folder, **SHORT)) == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"scheduler": "pricd"}, "did you mean 'priced'"),
        ({"scheduler": "eft", "load": -1}, "workload.load: must be > 0"),
        ({"scheduler": "eft", "evaluate__trace": 3}, "evaluate.trace"),
        ({"scheduler": "tuned/dqn_ts"}, "needs trained weights"),
    ],
)
def test_errors_are_those_of_the_command_line(call, said):
    with pytest.raises(InputError, match=said):
        ddrl.evaluate(**call)
    with pytest.raises(AttributeError):
        ddrl.no_such_function  # noqa: B018
