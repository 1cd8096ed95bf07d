"""Searches for the highest load: bisection by hand, a queue whose capacity is known, what is asked wrongly, kills."""

import math

import numpy as np
import pandas as pd
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.jobs import capacity as capacity_jobs
from ddrl_sched.jobs import records
from ddrl_sched.jobs.capacity_settings import CapacitySettings, next_load
from ddrl_sched.report.capacity import capacity, late_counts
from ddrl_sched.report.load import load
from ddrl_sched.report.summary import summary
from tests.conf_files import merged, plain
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import ask, finished, plan_job, run_job
from tests.resume_jobs import run_until_crash, tiny

KILLED = -9  # by SIGKILL
COARSE = {"at_most": 0.01, "low": 0.1, "high": 0.9, "tolerance": 0.1}


def asked(**change):
    return CapacitySettings(**{**COARSE, **change})


def looked_at(late_rate, settings):
    """Loads in the order in which a search looks at them, for late rates that are a function of the load."""
    seen = {}
    while (load := next_load(seen, settings)) is not None:
        seen[load] = late_rate(load)
    return list(seen)


def job(folder, scheduler="eft", change=None, **about):
    """A search on small traces of edge5, whose deadline is that of a short queue."""
    data = settings(folder, scheduler, capacity=COARSE, **about)
    data["env"]["tasks"]["deadline_s"] = 0.06
    return merged(data, change or {})


def folder_of(data, command="sweep", flags=None):
    return ask(data, command, flags).folder


def table_of(data, command="sweep", flags=None):
    """The rows of a finished search, run if need be."""
    run_job(data, command, flags)
    return pd.read_parquet(folder_of(data, command, flags) / "capacity.parquet")


# Bisection


def test_loads_are_halved_around_the_crossing():
    assert looked_at(lambda load: 0.02 * load, asked()) == [0.1, 0.5, 0.7, 0.6]
    assert looked_at(lambda load: 0.02 * load, asked(tolerance=0.3)) == [0.1, 0.5, 0.7]


def test_the_ends_are_looked_at_where_they_tell():
    assert looked_at(lambda load: 1.0, asked()) == [0.1]
    assert looked_at(lambda load: 0.0, asked()) == [0.1, 0.5, 0.7, 0.8, 0.9]
    assert looked_at(lambda load: float(load > 0.85), asked()) == [0.1, 0.5, 0.7, 0.8, 0.9]


def test_late_rates_that_fall_in_between_do_not_mislead_it():
    """The first load beyond the limit counts, whatever a higher one says."""
    seen = {0.1: 0.0, 0.5: 0.02, 0.7: 0.0}
    assert next_load(seen, asked()) == pytest.approx(0.3)


@pytest.mark.parametrize("truth", [0.11, 0.37, 0.64, 0.899])
def test_a_search_ends_with_the_crossing_between_two_near_loads(truth):
    found = looked_at(lambda load: float(load > truth), asked(tolerance=0.01))
    around = max(x for x in found if x <= truth), min(x for x in found if x > truth)
    assert around[1] - around[0] <= 0.01 + 1e-9
    assert len(found) <= asked(tolerance=0.01).most_loads


# Jobs


def late_md1(load, deadline):
    """P(a task of an M/D/1 queue is later than `deadline` services): Erlang's formula for its wait (1909)."""
    x = deadline - 1
    terms = [(load * (k - x)) ** k / math.factorial(k) * math.exp(-load * (k - x)) for k in range(math.floor(x) + 1)]
    return 1 - (1 - load) * sum(terms)


def crossing_md1(limit, deadline):
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if late_md1(middle, deadline) <= limit else (low, middle)
    return low


def test_the_capacity_of_a_queue_with_a_known_law(tmp_path):
    """One server, equal tasks of a tenth of a second, a deadline of three and a half services."""
    tasks = {"size_mbit": [1.0, 1.0], "density_gcycle_per_mbit": [1.0, 1.0], "result_mbit": [0.0, 0.0]}
    tasks |= {"overhead_gcycle": 0.0, "deadline_s": 0.35}
    env = {"servers": {"speed_gcps": [10]}, "network": {"rate_mbps": [400]}, "tasks": tasks}
    env["clock"] = {"horizon_s": 1000.0}
    change = {"env": env, "capacity": {"tolerance": 0.02}, "evaluate": {"traces": 8}}
    found = capacity(late_counts(table_of(job(tmp_path, "local", change))))
    truth = crossing_md1(0.01, 3.5)
    assert 0.3 < truth < 0.6
    assert found.estimate.value == pytest.approx(truth, abs=0.02)
    assert found.estimate.lo < truth < found.estimate.hi
    assert found.estimate.hi - found.estimate.lo < 0.1


def test_schedulers_meet_the_same_tasks_and_a_higher_load_is_the_same_trace(tmp_path):
    one, other = (table_of(job(tmp_path, name)) for name in ("eft", "best_2"))
    assert one.scenario_hash[0] == other.scenario_hash[0]
    tasks = [rows.set_index(["load", "trace"]).n_tasks for rows in (one, other)]
    both = tasks[0].index.intersection(tasks[1].index)
    assert len(both) > 3
    assert tasks[0][both].equals(tasks[1][both])
    by_trace = one.pivot_table(index="load", columns="trace", values="n_tasks").to_numpy()
    assert (np.diff(by_trace, axis=0) > 0).all()


def test_a_search_at_another_load_is_the_same_search(tmp_path):
    data = job(tmp_path)
    assert run_job(data) == "done"
    assert run_job(merged(data, {"workload": {"load": 0.7}})) == "skipped"
    assert run_job(merged(data, {"capacity": {"at_most": 0.05}})) == "done"


def test_never_and_always_within_the_deadline(tmp_path):
    never, always = ({"env": {"tasks": {"deadline_s": deadline_s}}} for deadline_s in (0.001, 1000.0))
    below, above = job(tmp_path, change=never), job(tmp_path, change=always)
    assert list(table_of(below).load.unique()) == [0.1]
    assert table_of(above).load.max() == 0.9
    assert "at most 1 % of tasks late: below 0.1 over 3 traces" in summary(folder_of(below))
    assert "at most 1 % of tasks late: at least 0.9 over 3 traces" in summary(folder_of(above))


def test_a_report_reads_what_a_search_has_written(tmp_path):
    data = job(tmp_path)
    rows = table_of(data)
    found = load([tmp_path])
    assert len(found.capacities) == len(rows)
    assert found.rows.empty
    assert found.notes == found.skipped == []


@pytest.mark.parametrize("name", ["tuned/dqn_ts", "ddrl_amsa_price"])
def test_a_trained_policy_is_asked_at_every_load_with_the_same_weights(tmp_path, name):
    data = merged(tiny(tmp_path, name), {"capacity": COARSE, "evaluate": {"traces": 3}})
    rows = table_of(data)
    assert set(rows.seed) == {0, 1}
    assert (folder_of(data) / "weights.safetensors").exists()
    flags = {"run": str(folder_of(data))}
    again = table_of(data | {"name": "again", "overrides": ["capacity=p99"]}, "eval", flags)
    compared = ["load", "seed", "trace", "n_tasks", "n_late", "mean_delay_s"]
    assert again[compared].equals(rows[compared])
    assert run_job({k: v for k, v in data.items() if k != "capacity"}, "eval", flags) == "done"


def test_a_plan_counts_an_evaluation_for_each_load(tmp_path):
    found = plan_job(job(tmp_path))
    assert (found["state"], found["load"]) == ("to do", None)
    assert found["estimate_s"] > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"capacity": {"low": 0.9}}, r"capacity\.high: must be > low \(0\.9\), got 0\.9"),
        ({"capacity": {"at_most": 0.0}}, r"capacity\.at_most: must be > 0"),
        ({"capacity": {"at_most": 1.0}}, r"capacity\.at_most: must be < 1"),
        ({"capacity": {"high": 1.0}}, r"capacity\.high: must be < 1"),
        ({"capacity": {"tolerance": 1e-6}}, r"capacity\.tolerance: must be >= 0\.0001"),
        ({"capacity": {"tolerance": 0.9}}, r"capacity\.tolerance: must be < high - low \(0\.8\)"),
        ({"capacity": {"least": 0.9}}, r"capacity\.least: unknown key"),
        ({"capacity": {"at_most": 1e-5}}, r"capacity\.at_most: 1e-05 of about .* tasks at load 0\.1 is less than one"),
        ({"env": {"tasks": {"deadline_s": None}}}, r"env\.tasks\.deadline_s: null, so that no task is late"),
        ({"env": plain("env", "published_multi")}, r"capacity: is sought in worlds with env\.rule clean, got "),
        ({"env": {"kind": "gym"}}, "capacity: CartPole-v1 has no load"),
        ({"tune": {"n_trials": 1}}, "capacity: not with tune"),
        ({"evaluate": {"tasks": True}}, r"evaluate\.tasks: not with capacity"),
    ],
)
def test_what_is_asked_wrongly_is_named(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        run_job(job(tmp_path, change=change))


def test_it_is_no_training(tmp_path):
    with pytest.raises(InputError, match="capacity: needs an evaluation"):
        ask(job(tmp_path), "train")


# Interruptions


class Evaluations:
    """Notes the loads that are evaluated, and breaks at one of them."""

    def __init__(self, monkeypatch, error=None, at=None):
        self.loads = []
        evaluate = capacity_jobs.evaluate

        def noting(problem, *args, **kwargs):
            self.loads.append(problem.workload.load)
            if len(self.loads) == at:
                raise error
            return evaluate(problem, *args, **kwargs)

        monkeypatch.setattr(capacity_jobs, "evaluate", noting)


def test_an_interrupted_search_goes_on_with_the_next_load(tmp_path, monkeypatch):
    whole = table_of(job(tmp_path / "whole"))
    data = job(tmp_path / "broken")
    with monkeypatch.context() as patch:
        first = Evaluations(patch, OSError("the disk is full"), at=3)
        with pytest.raises(OSError, match="full"):
            run_job(data)
    rest = Evaluations(monkeypatch)
    assert table_of(data).equals(whole)
    assert [*first.loads[:-1], *rest.loads] == list(dict.fromkeys(whole.load))
    assert finished(ask(data))
    assert not (folder_of(data) / records.RESUME).exists()


@pytest.mark.parametrize("number", [9, 20, 33, 41])
def test_a_killed_search_ends_as_if_it_had_not_been(tmp_path, number):
    whole = table_of(job(tmp_path / "whole"))
    data = job(tmp_path / "killed")
    assert run_until_crash(data, number) == KILLED
    assert table_of(data).equals(whole)


def test_a_damaged_file_of_earlier_loads_is_named_and_not_used(tmp_path, monkeypatch, capsys):
    data = job(tmp_path)
    with monkeypatch.context() as patch:
        Evaluations(patch, OSError("the disk is full"), at=3)
        with pytest.raises(OSError, match="full"):
            run_job(data)
    (kept,) = (folder_of(data) / records.RESUME).glob("*.parquet")
    kept.write_bytes(b"no parquet")
    again = Evaluations(monkeypatch)
    assert list(dict.fromkeys(table_of(data).load)) == again.loads
    assert "begun again, for" in capsys.readouterr().err


def test_a_failed_search_is_repeated_from_the_start_when_asked(tmp_path, monkeypatch):
    data = job(tmp_path)
    with monkeypatch.context() as patch:
        Evaluations(patch, ValueError("no such thing"), at=3)
        with pytest.raises(ValueError, match="no such thing"):
            run_job(data)
    assert run_job(data) == "failed"
    again = Evaluations(monkeypatch)
    assert run_job(data, flags={"retry_failed": True}) == "done"
    assert len(again.loads) == len(set(again.loads)) > 3
