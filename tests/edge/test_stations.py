"""Where tasks arrive, what a trace file says of them, and the sizes of arrays that settings ask for."""

import functools
import math

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge import physics
from ddrl_sched.edge.arrivals import slot_tasks, training_rows
from ddrl_sched.edge.types import Decision
from ddrl_sched.edge.workload import Replica, build_world, sample
from ddrl_sched.jobs.reading import check_n_rows
from ddrl_sched.run.evaluate import check_size
from ddrl_sched.run.problem import build_problem
from ddrl_sched.run.rollout import rollout
from ddrl_sched.schedulers.static import Local
from ddrl_sched.schedulers.table import build
from ddrl_sched.seeding import stream
from tests.builders import make_tasks
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


# ---- stations and servers are two lists ------------------------------------------------------------------------------

GATEWAY = {"stations": {"n": 3, "home": [1, None]}, "servers": {"speed_gcps": [10, 40]}}
LINKS = {"rate_mbps": [[100, 200], [None, 300], [400, 500]], "latency_s": [[0.01, 0.02], [0, 0.03], [0.04, 0.05]]}


def gateway(**change):
    return env("edge5", **(GATEWAY | {"network": LINKS} | change))


def scenario_of(settings):
    return build_world(settings, workload("poisson"), stream)[0]


def test_links_of_stations_and_servers_stand_where_they_were_given():
    scenario = scenario_of(gateway())
    assert (scenario.n_stations, scenario.n_servers) == (3, 2)
    assert scenario.own_server.tolist() == [-1, 0, -1]
    assert not scenario.paired
    assert scenario.link_mbps.tolist() == [[100, 200], [np.inf, 300], [400, 500]]
    assert scenario.link_latency_s.tolist() == [[0.01, 0.02], [0, 0.03], [0.04, 0.05]]
    assert scenario.return_mbps.tolist() == scenario.link_mbps.tolist()  # no station has the way back of another


def test_every_station_a_server_is_the_same_written_out():
    written = env("edge5", stations={"n": 5, "home": [0, 1, 2, 3, 4]})
    one, other = (sampled(settings, workload("poisson"))[1] for settings in (env("edge5"), written))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert scenario_of(written).paired


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"stations": {"n": 3, "home": [0]}}, r"stations.home: must have one entry per server \(2\), got 1"),
        ({"stations": {"n": 3, "home": [0, 3]}}, r"stations.home\[1\]: must be null or a station below 3"),
        ({"stations": {"n": 3, "home": [2, 2]}}, r"stations.home\[1\]: station 2 has server 0 already"),
        ({"stations": {"n": 4, "home": [1, None]}}, r"rate_mbps: must be one number or have one row per station \(4\)"),
        ({"stations": {"n": 3, "home": [None, 1]}}, r"rate_mbps\[1\]\[0\]: must be a number > 0, got null"),
    ],
)
def test_wrong_homes_are_named(change, text):
    with pytest.raises(InputError, match=text):
        gateway(**change)


def test_published_rules_and_graphs_have_a_server_at_every_station():
    with pytest.raises(InputError, match="stations: must be null under rule amcoedge"):
        env("published_multi", stations={"n": 5, "home": [None] * 5})
    with pytest.raises(InputError, match="stations: must be null with network"):
        env("karen", stations={"n": 1, "home": [0]})


def test_a_station_without_a_server_sends_everything():
    scenario = scenario_of(gateway())
    tasks = make_tasks([0.0, 0.0], origin=[0, 1], input_mbit=4.0, result_mbit=2.0, work_gcycle=2.0, n_servers=2)
    outcome = physics.empty_outcome(tasks, 2)
    sets = Decision("given", "static", select=np.array([[[True, False], [False, True]]]))
    state = physics.place(scenario, physics.initial_state(scenario, 1), tasks, sets, lo=[0], hi=[2], outcome=outcome)
    physics.finish(scenario, state, tasks, outcome)
    first = 4 / 100 + 0.01 + 2 / 10 + 0.01 + 2 / 100
    second = 4 / 300 + 0.03 + 2 / 40 + 0.03 + 2 / 300
    np.testing.assert_allclose(outcome.delay_s, [[first, second]])


@pytest.mark.parametrize("info", ["static", "own", "like_own", "announced", "tracked", "probed", "running"])
def test_every_class_has_waits_where_a_station_has_no_server(info):
    scenario = scenario_of(env("cloud"))
    tasks = make_tasks([0.0, 0.02], origin=[0, 1], input_mbit=4.5, work_gcycle=150.0, n_servers=1)
    outcome = physics.empty_outcome(tasks, 1)
    everyone = Decision("given", "static", select=np.ones((1, 1, 1), bool))
    state = physics.place(
        scenario, physics.initial_state(scenario, 1), tasks, everyone, lo=[0], hi=[1], outcome=outcome
    )
    wait_s = physics.estimates(scenario, state, tasks, lo=np.array([1]), hi=np.array([2]), info=info)[0, 0, 0]
    assert wait_s == pytest.approx(1.03 if info == "running" else 0.0)  # 10 ms to send, 40 ms on the way, a second


def test_local_is_refused_where_a_station_has_no_server():
    made = build_problem(env("cloud", clock={"horizon_s": 5}), workload("poisson"), 0).evaluation(range(1), 1)[0]
    with pytest.raises(InputError, match=r"station 0 has no server of its own \(env.stations.home\)"):
        next(rollout(made, Local(), np.random.default_rng(0)))


@pytest.mark.slow
def test_a_far_fast_server_makes_people_wait():
    """The claim that the scheduling of edge servers begins with: as much speed in sum, but far, takes longer."""
    means = {}
    for name in ("edge5", "cloud"):
        made = build_problem(env(name, clock={"horizon_s": 60}), workload("poisson"), 0).evaluation(range(4), 1)[0]
        *_, last = rollout(made, build("all_servers", {"split": "equal_finish", "info": "running"}), stream(0, "x"))
        means[name] = np.nanmean(last.outcome.delay_s)
    assert means["cloud"] > 1.5 * means["edge5"]
