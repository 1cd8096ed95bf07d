"""What trainings took is told under the tables that rest on them."""

import pytest

from ddrl_sched.report.budgets import budget_of, training_command
from ddrl_sched.report.compute import compute
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame, job

EARLIER = {
    "job_id": "0123456789abcdef",
    "overrides": ["scheduler=mine", "workload.load=0.12", "experiment=amsa/edge5_price"],
    "created": "2030-01-02T03:04:05+00:00",
    "cpu_s": 1620.0,
    "code_version": "c",
}


def test_the_command_of_a_sweep_leaves_out_what_differs_between_its_jobs():
    assert training_command(EARLIER["overrides"]) == "ddrl sweep experiment=amsa/edge5_price"
    assert training_command(["scheduler=mine", "seeds=3"]) == "ddrl sweep scheduler=mine seeds=3"


def test_the_time_is_that_of_the_training_wherever_it_was_done():
    here, unknown = budget_of(job(cpu_s=24.0, training=None)), budget_of(job(cpu_s=None, training=None))
    assert here == {"trained_cpu_s": 24.0, "trained_earlier": ""}
    assert unknown["trained_cpu_s"] != unknown["trained_cpu_s"]
    assert budget_of(job(cpu_s=1.0, training=EARLIER))["trained_cpu_s"] == 1620.0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cpu_s": 24.0}, "CPU time of training: mine 24 s."),
        ({"cpu_s": 1.0, "training": EARLIER}, "CPU time of training: mine 27 min, earlier (ddrl sweep experiment=amsa"),
        ({"cpu_s": 24.0, "learned": False}, None),
    ],
)
def test_a_table_tells_it(tmp_path, changes, text):
    for name in ("mine", "other"):
        rows = eval_frame(3, scheduler=name, mean_delay_s=0.25)
        write_run(tmp_path / name, rows=rows, **({"learned": True} | changes if name == "mine" else {"learned": False}))
    (table, *_) = compute([tmp_path]).tables
    found = [note for note in table.notes if note.startswith("CPU time")]
    assert found == [] if text is None else found[0].startswith(text)
