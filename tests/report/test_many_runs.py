"""A report of many run folders takes time in proportion to their number, and a bounded multiple of hashing them."""

import os

import numpy as np
import pytest

from ddrl_sched.jobs import records
from ddrl_sched.jobs.schemas import DELAYS_SCHEMA
from ddrl_sched.report import compute, terminal
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame

SCHEDULERS = 10
TRACES = 10
BINS = 300  # of the histogram of a trace
SETTINGS = {"env": {"name": "edge5", "clock": {"slot_s": 1.0}}, "workload": {"name": "poisson"}}


def write_runs(folder, n_worlds):
    """SCHEDULERS run folders with histograms in each of so many worlds, five loads of each name."""
    histogram = {
        "row": np.repeat(np.arange(TRACES), BINS),
        "bin": np.tile(np.arange(-500, BINS - 500), TRACES),
        "count": np.full(TRACES * BINS, 10),
    }
    for world in range(n_worlds):
        load = 0.3 + 0.1 * (world % 5)
        rng = np.random.default_rng(world)
        hard = rng.lognormal(0, 0.1, TRACES)
        for scheduler in range(SCHEDULERS):
            rows = eval_frame(
                TRACES, scheduler=f"s{scheduler}", scenario="edge5", workload="poisson", load=load,
                scenario_hash=f"h{world}", n_tasks=10 * BINS,
            )  # fmt: skip
            rows = rows.assign(mean_delay_s=hard * rng.lognormal(scheduler, 0.1, TRACES), cluster=range(TRACES))
            settings = SETTINGS | {"evaluate": {"seed": world // 5}, "scheduler": {"name": "x", "k": scheduler}}
            changes = {"settings": settings, "baselines": ["s1"], "scenario_hash": f"h{world}"}
            where = write_run(folder / f"{world}-{scheduler}", rows=rows, scheduler=f"s{scheduler}", **changes)
            records.write_table(where / "delays.parquet", histogram, DELAYS_SCHEMA)
            records.write_manifest(where)
    return folder


def cpu_s(work):
    """User time that `work` takes."""
    began = os.times().user
    work()
    return os.times().user - began


def report_of(folder):
    """The report as a terminal shows it."""
    report = compute.compute([folder])
    assert not report.found.skipped
    return terminal.render(report, terminal.Page(120))


def check_hashes(folder):
    """Read and hash every file of the run folders, as little as a report can do."""
    return [records.read_finished(run) for run in sorted(folder.iterdir())]


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def grows_in_proportion(few, many):
    """How many times the time of hashing the many folders their report takes; that of a folder must not grow."""
    n_few, n_many = (len([*folder.iterdir()]) for folder in (few, many))
    report_of(few)  # loads what is loaded lazily
    of_few = min(cpu_s(lambda: report_of(few)) for _ in range(3)) / n_few
    of_many = cpu_s(lambda: report_of(many)) / n_many
    assert of_many < 2 * of_few
    return of_many / (cpu_s(lambda: check_hashes(many)) / n_many)


def test_time_is_in_proportion_to_the_number_of_folders(tmp_path):
    times_hashing = grows_in_proportion(write_runs(tmp_path / "few", 2), write_runs(tmp_path / "many", 20))
    assert times_hashing < 60  # 23 to 29 where this was written


@pytest.mark.slow
def test_two_thousand_folders_take_no_longer_each_than_a_few(tmp_path):
    grows_in_proportion(write_runs(tmp_path / "few", 10), write_runs(tmp_path / "many", 200))
