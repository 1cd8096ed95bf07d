"""Where tasks arrive, what a trace file says of them, and the sizes of arrays that settings ask for."""

import functools
import math

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.arrivals import slot_tasks, training_rows
from ddrl_sched.edge.workload import Replica, build_world, sample
from ddrl_sched.run.evaluate import check_size
from ddrl_sched.run.problem import build_problem
from ddrl_sched.run.reading import check_n_rows
from ddrl_sched.run.seeding import stream
from tests.conf_files import env, workload

SPEEDS = 150.0  # of edge5, Gcycle/s


def sampled(env_settings, flow, windows=(None,)):
    """(plan, tasks, realised loads)."""
    scenario, plan = build_world(env_settings, flow, stream)
    replicas = [
        Replica(functools.partial(stream, 1, "test", i), functools.partial(stream, 1, "draw", i), window)
        for i, window in enumerate(windows)
    ]
    tasks, facts = sample(scenario, env_settings, flow, plan, replicas)
    return plan, tasks, facts.realised_load


def trace_of(tmp_path, header, rows, **change):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]), encoding="utf-8")
    return workload("trace", path=str(path), **({"arrivals": {"min_tasks": 1, "windows": 1}} | change))


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "load"), [("poisson", 0.6), ("bursty", None), ("published_multi", 0.3), ("slotted", 0.72)]
)
def test_a_hot_station_gets_its_share_and_the_load_stays(name, load):
    weights = [3.0, 1.0, 1.0, 2.0, 1.0]
    flow, settings = workload(name, load=load, station_weights=weights), env("edge5", clock={"horizon_s": 400})
    plan, tasks, realised = sampled(settings, flow)
    plain = sampled(settings, workload(name, load=load))[0]
    assert plan.demand == plain.demand
    counts = np.bincount(tasks.origin[0][tasks.valid[0]], minlength=5)
    expected = counts.sum() * np.array(weights) / 8
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 0.03 * expected).all()
    assert realised[0] == pytest.approx(plan.demand.load, rel=0.2)
    if (coming := slot_tasks(flow, plan)) is not None:
        assert coming.sum() == pytest.approx(plan.demand.tasks_per_s * 1.0 / 5)


def test_a_station_of_weight_zero_has_no_task():
    for name in ("poisson", "published_multi"):
        flow = workload(name, load=0.2, station_weights=[0, 1, 1, 1, 0])
        _, tasks, _ = sampled(env("edge5", clock={"horizon_s": 60}), flow)
        assert set(tasks.origin[0][tasks.valid[0]]) == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("poisson", {"station_weights": [1, 2]}, r"must have one per station \(5\), got 2"),
        ("poisson", {"station_weights": [0, 0, 0, 0, 0]}, "at least one must be > 0"),
        ("poisson", {"station_weights": [1, 1, 1, 1, -1]}, r"station_weights\[4\]: must be >= 0"),
        ("published_multi", {"load": 0.6, "station_weights": [9, 1, 1, 1, 1]}, "station 0 would have .* at most 1"),
        ("slotted", {"station_weights": [1, 1, 1, 1, 0]}, "station 4 would have 0 tasks in a slot .* at least 1"),
    ],
)
def test_weights_that_cannot_be_had(name, change, message):
    with pytest.raises(InputError, match=rf"workload\.station_weights.*{message}|{message}"):
        sampled(env("edge5"), workload(name, **change))


def test_the_published_rules_and_an_origin_leave_no_room_for_weights(tmp_path):
    with pytest.raises(InputError, match=r"station_weights: must be null under rule amcoedge"):
        sampled(env("published_multi"), workload("published_multi", station_weights=[1, 1, 1, 1, 1]))
    with pytest.raises(InputError, match=r"station_weights: must be null where columns\.origin"):
        trace_of(tmp_path, "t,b", [(0, 0), (1, 1)], station_weights=[1.0] * 5, columns={"origin": "b"})


# ---- columns ---------------------------------------------------------------------------------------------------------


def test_a_file_says_where_tasks_arrive_and_what_they_are(tmp_path):
    rows = [(i, i % 5, 1 + i % 3, 0.5 + i, i % 4) for i in range(100)]
    columns = {"origin": "b", "input_mbit": "size", "deadline_s": "until", "units": "parts"}
    flow = trace_of(tmp_path, "t,b,size,until,parts", rows, load=None, columns=columns)
    plan, tasks, _ = sampled(env("edge5"), flow, (0,))
    row = np.rint(tasks.deadline_s[0] - 0.5).astype(int)
    assert row.tolist() == list(range(row[0], row[0] + len(row)))
    assert plan.time_scale == 1
    assert np.diff(tasks.arrive_s[0]) == pytest.approx(1.0)
    assert (tasks.origin[0] == row % 5).all()
    assert (tasks.units[0] == row % 4).all()
    assert tasks.input_mbit[0] == pytest.approx(3.5 * (1 + row % 3) / 1.99)
    assert training_rows(plan, flow.arrivals) == row[0] == 70


def test_null_keeps_the_rate_of_the_file(tmp_path):
    """One task a second of 0.7168 Gcycle on average; a number stretches time to the load."""
    rows = [(i,) for i in range(100)]
    plan, *_ = sampled(env("edge5"), trace_of(tmp_path, "t", rows, load=None), (0,))
    assert plan.demand.load == pytest.approx(0.7168 / SPEEDS)
    stretched, *_ = sampled(env("edge5"), trace_of(tmp_path, "t", rows, load=2 * 0.7168 / SPEEDS), (0,))
    assert stretched.time_scale == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"workload\.load: null keeps the file's own rate, 1e\+06 tasks per second"):
        sampled(env("edge5"), trace_of(tmp_path, "t", [(i / 1e6,) for i in range(100)], load=None), (0,))


def test_work_follows_steps_and_images(tmp_path):
    """Both are taken as they are, so that time is stretched by the work that follows."""
    rows = [(i, 10 + i % 3, 1 + i % 2) for i in range(300)]
    flow = trace_of(tmp_path, "t,n,k", rows, load=0.5, columns={"steps": "n", "units": "k"})
    bed = env("testbed5")
    plan, tasks, _ = sampled(bed, flow, (0,))
    mean = bed.tasks.gcycle_per_step * np.mean([n * k for _, n, k in rows])
    assert plan.demand.mean_work_gcycle == pytest.approx(mean)
    assert set(tasks.units[0]) == {1, 2}
    assert (tasks.work_gcycle[0] / bed.tasks.gcycle_per_step / tasks.units[0]).min() == pytest.approx(10)
    assert tasks.result_mbit[0] == pytest.approx(bed.tasks.result_mbit_per_image * tasks.units[0])
    flow = trace_of(tmp_path, "t,n,k", rows, load=0.5, columns={"steps": "n"})
    plan, *_ = sampled(env("edge20"), flow, (0,))
    low, high = env("edge20").tasks.gcycle_per_step
    assert plan.demand.mean_work_gcycle == pytest.approx((low + high) / 2 * 11)


@pytest.mark.parametrize(
    ("world", "columns", "key"),
    [
        ("edge5", {"steps": "n"}, "steps"),
        ("edge20", {"steps": "n", "work_gcycle": "n"}, "steps"),
        ("testbed5", {"work_gcycle": "n"}, "work_gcycle"),
        ("testbed5", {"result_mbit": "n"}, "result_mbit"),
    ],
)
def test_columns_that_do_not_fit_the_kind_of_task(tmp_path, world, columns, key):
    with pytest.raises(InputError, match=rf"workload\.columns\.{key}: must be null"):
        sampled(env(world), trace_of(tmp_path, "t,n", [(0, 1), (1, 2)], columns=columns))


# ---- sizes -----------------------------------------------------------------------------------------------------------

TINY = {"mean_between_s": 1e-9, "mean_duration_s": 1e-9, "factor": 0.5}


@pytest.mark.parametrize(
    ("world", "flow", "keys"),
    [
        ({}, {"arrivals": {"mean_low_s": 1e-9, "mean_high_s": 1e-9}}, "mean_low_s, workload.arrivals.mean_high_s"),
        ({}, {"arrivals": {"mean_low_s": 1e-320, "mean_high_s": 1e-320}}, "mean_low_s, workload.arrivals.mean_high_s"),
        ({"slowdowns": TINY}, {}, "env.slowdowns.mean_between_s, env.slowdowns.mean_duration_s"),
        ({"clock": {"announce_s": 1e-9}}, {}, "env.clock.announce_s"),
        ({"clock": {"announce_s": 1e-320}}, {}, "env.clock.announce_s"),
        ({"clock": {"slot_s": 1e-300}}, {}, "env.clock.slot_s"),
        ({"clock": {"slot_s": 1e-300, "horizon_s": 4}}, {}, "env.clock.slot_s"),
        ({}, {"load": 1e-300}, "workload.load"),
    ],
)
def test_what_would_take_all_memory_is_refused_by_its_keys(world, flow, keys):
    with pytest.raises(InputError, match=keys):
        build_world(env("edge5", **world), workload("bursty", **flow), stream)


def test_a_training_may_not_hold_more_than_an_evaluation():
    """The traces of a training are longer where rates are low: their slots are counted too."""
    flow = workload("published_multi", arrivals={"n_indices": 10_000, "probability": 1e-6})
    problem = build_problem(env("edge5", clock={"horizon_s": 4}), flow, 1)
    with pytest.raises(InputError, match=r"workload\.arrivals, env\.clock\.slot_s: .* indices of slots"):
        problem.training(0, range(1), 0, 10**6, 0)


def test_an_evaluation_is_measured_before_it_begins():
    problem = build_problem(env("edge5", clock={"horizon_s": 4000}), workload("poisson"), 1)
    check_size(problem, 10)
    with pytest.raises(InputError, match=r"env\.clock\.horizon_s, seeds"):
        check_size(problem, 1000)
    with pytest.raises(InputError, match=r"evaluate\.traces: 1,000,000 rows"):
        check_n_rows({"evaluate.traces": 10**6})
    assert math.isfinite(problem.plan.demand.load)
