"""Task streams: loads in expectation and realised, laws of the order, streams by purpose, strict trace files."""

import functools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched.config import InputError
from ddrl_sched.edge.arrivals import alternate, slot_tasks
from ddrl_sched.edge.task_kinds import mean_work_gcycle
from ddrl_sched.edge.trace_file import read_trace
from ddrl_sched.edge.workload import Replica, build_world, offered_load, sample
from ddrl_sched.edge.workload_settings import TraceColumns
from ddrl_sched.seeding import stream
from tests.conf_files import env, names, workload
from tests.paths import DATA

SMALL = DATA / "arrivals.csv"


def replica(number, draw=0, window=None):
    return Replica(
        functools.partial(stream, 1, "test", number), functools.partial(stream, 1, "draw", draw), window=window
    )


def sampled(env_settings, workload_settings, replicas=3):
    """(scenario, plan, tasks, facts); replicas: a number or a list."""
    scenario, plan = build_world(env_settings, workload_settings, stream)
    made = [replica(i, window=i) for i in range(replicas)] if isinstance(replicas, int) else replicas
    return scenario, plan, *sample(scenario, env_settings, workload_settings, plan, made)


def short(env_name, seconds=60, **change):
    return env(env_name, clock={"horizon_s": seconds}, **change)


# ---- every yaml ------------------------------------------------------------------------------------------------------


def check_tasks(scenario, tasks):
    """Laws of every record of tasks."""
    valid = tasks.valid
    assert (np.diff(valid.astype(int), axis=1) <= 0).all()  # padding at the end
    assert (np.diff(tasks.arrive_s, axis=1) >= 0).all()
    assert (tasks.arrive_s[valid] < scenario.horizon_s).all()
    assert (tasks.arrive_s >= 0).all()
    assert ((tasks.origin >= 0) & (tasks.origin < scenario.n_stations)).all()
    assert (tasks.work_gcycle[valid] > 0).all()
    for name in ("input_mbit", "work_gcycle", "result_mbit"):
        values = getattr(tasks, name)
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert (values[~valid] == 0).all()
    assert (tasks.deadline_s > 0).all()
    assert (tasks.speed_change_s[:, :, 0] == 0).all()
    assert (tasks.speed_factor > 0).all()


@pytest.mark.parametrize("name", [name for name in names("env") if name != "cartpole"])
def test_every_environment_is_built_and_sampled(name):
    settings = env(name)
    kind = {"published_multi": "published_multi", "published_single": "published_single"}.get(name, "poisson")
    scenario, plan, tasks, facts = sampled(settings, workload(kind))
    assert settings.name == scenario.name == name
    check_tasks(scenario, tasks)
    assert facts.realised_load == pytest.approx(plan.demand.load, rel=0.25)
    assert facts.trace_sha256 == ""


@pytest.mark.parametrize("name", names("workload"))
def test_every_workload_is_built_and_sampled(name):
    mandatory = {"path": "package:AzureLLMInferenceTrace_conv.csv"} if name == "trace" else {}
    settings = workload(name, **mandatory)
    scenario, plan, tasks, facts = sampled(env("edge20"), settings, 10)
    assert settings.name == name
    check_tasks(scenario, tasks)
    assert len(facts.realised_load) == 10
    assert facts.time_scale == plan.time_scale


def test_the_test_bed_counts_five_hundred_tasks_at_least():
    for load in (0.12, 0.6, 0.95):
        scenario, plan, *_ = sampled(env("testbed5"), workload("poisson", load=load), 1)
        assert plan.demand.tasks_per_s * (scenario.horizon_s - scenario.warm_up_s) >= 500
        assert scenario.horizon_s <= 50_000


# ---- numbers by hand -------------------------------------------------------------------------------------------------


def test_mean_work_of_each_kind():
    assert mean_work_gcycle(env("edge5")) == pytest.approx(3.5 * 0.2048)
    assert mean_work_gcycle(env("edge20")) == pytest.approx(7.5 * 0.2048)
    assert mean_work_gcycle(env("testbed5")) == pytest.approx(2.70 * 30.70272)


def test_published_loads():
    speeds = np.array([10.0, 20, 30, 40, 50])
    assert offered_load(env("published_multi"), workload("published_multi"), speeds) == pytest.approx(0.3584)
    nineteen = workload("published_multi", arrivals={"probability": 0.95})
    assert offered_load(env("published_multi"), nineteen, speeds) == pytest.approx(1.135, abs=0.001)
    published = np.full(20, 633 / 20)
    assert offered_load(env("published_single"), workload("published_single"), published) == pytest.approx(
        1.2375, abs=1e-4
    )


def test_a_load_becomes_a_probability_or_a_largest_count():
    _, plan, *_ = sampled(env("published_multi"), workload("published_multi", load=0.3584), 1)
    assert plan.intensity == pytest.approx(0.3)
    _, plan, *_ = sampled(env("published_single"), workload("published_single", load=783.36 / 633), 1)
    assert plan.intensity == pytest.approx(50)


@pytest.mark.parametrize(
    ("name", "load", "message"),
    [
        ("published_multi", 1.3, r"workload\.load: at most 1\.19467 with 50 indices per slot, got 1\.3"),
        ("slotted", 0.01, r"workload\.load: at least 0\.0238933 with 1 or more per slot, got 0\.01"),
    ],
)
def test_loads_out_of_reach(name, load, message):
    with pytest.raises(InputError, match=message):
        build_world(env("edge5"), workload(name, load=load), stream)


@pytest.mark.parametrize(
    ("env_name", "workload_name", "change", "message"),
    [
        ("published_multi", "poisson", {}, r"workload\.arrivals\.kind: rule amcoedge needs published_multi, got p"),
        ("edge5", "poisson", {"tasks": {"density": "per_index"}}, r"env\.tasks: per_index needs a workload in slots"),
        ("edge5", "poisson", {"clock": {"horizon_s": 1e8}}, r"env\.clock\.horizon_s: .* at most 5,000,000 fit"),
        ("edge5", "azure_conv", {"clock": {"horizon_s": 60}}, r"env\.clock\.horizon_s: at load 0\.6 .*, got 60"),
    ],
)  # fmt: skip
def test_pairs_that_do_not_fit(env_name, workload_name, change, message):
    with pytest.raises(InputError, match=message):
        build_world(env(env_name, **change), workload(workload_name), stream)


@pytest.mark.parametrize("largest", [1.0, 6.3, 27.0])
def test_expected_counts_at_each_index(largest):
    load = (largest + 1) / 2 * 0.7168 * 5 / 150
    scenario, plan, tasks, _ = sampled(short("edge5", 2000), workload("slotted", load=load), 1)
    expected = slot_tasks(workload("slotted"), plan)
    assert plan.intensity == pytest.approx(largest)
    assert expected.sum() == pytest.approx((largest + 1) / 2)
    n = 2000 * scenario.n_servers
    found = np.bincount(tasks.index[0], minlength=len(expected)) / n
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / n) + 1e-12).all()


# ---- loads -----------------------------------------------------------------------------------------------------------


BY_ITSELF = {"bursty": (0.2 + 0.85) / 2, "published_multi": 0.3584}  # where load is null


@pytest.mark.parametrize(
    ("env_name", "workload_name", "load"),
    [
        ("edge5", "poisson", 0.6),
        ("edge5", "bursty", None),
        ("edge5", "bursty", 0.7),
        ("edge5", "published_multi", 0.5),
        ("edge5", "slotted", 0.55),
        ("edge20", "poisson", 0.9),
        ("edge20", "slotted", 0.9),
        ("kreonet", "poisson", 0.3),
        ("published_multi", "published_multi", None),
        ("published_single", "published_single", 0.8),
    ],
)
def test_the_offered_load_is_met_in_expectation(env_name, workload_name, load):
    """Each replica has a draw of its own, so that replicas are independent."""
    replicas = [replica(i, draw=i) for i in range(40)]
    settings = workload(workload_name, load=load)
    _, plan, _, facts = sampled(short(env_name), settings, replicas)
    assert plan.demand.load == pytest.approx(load or BY_ITSELF[workload_name])
    error = facts.realised_load.std(ddof=1) / math.sqrt(len(replicas))
    assert abs(facts.realised_load.mean() - plan.demand.load) < 3 * error


def test_images_meet_their_load():
    _, plan, tasks, facts = sampled(env("testbed5", clock={"horizon_s": 2e6}), workload("poisson", load=0.5), 2)
    assert facts.realised_load == pytest.approx(plan.demand.load, rel=0.03)
    assert set(np.unique(tasks.units[tasks.valid])) == {1, 2, 4, 8}
    assert (tasks.overhead_gcycle == 1.5)[tasks.valid].all()
    assert tasks.result_mbit == pytest.approx(6.4 * tasks.units)
    steps = (tasks.work_gcycle / np.maximum(tasks.units, 1))[tasks.valid]
    assert np.mean(steps == 30) == pytest.approx(0.91, abs=0.01)


def test_the_realised_load_is_the_work_that_came():
    scenario, _, tasks, facts = sampled(short("edge5"), workload("poisson"), 2)
    assert facts.realised_load == pytest.approx(tasks.work_gcycle.sum(axis=1) / (150 * scenario.horizon_s))


def test_stations_share_alike():
    _, _, tasks, _ = sampled(short("edge5", 600), workload("poisson"), 1)
    counts = np.bincount(tasks.origin[0][tasks.valid[0]])
    assert np.abs(counts - counts.mean()).max() < 4 * math.sqrt(counts.mean())


def test_bursts_are_burstier_than_poisson():
    def dispersion(name):
        _, _, tasks, _ = sampled(short("edge5", 600), workload(name, load=0.5), 1)
        counts = np.histogram(tasks.arrive_s[0][tasks.valid[0]], bins=600)[0]
        return counts.var() / counts.mean()

    assert dispersion("poisson") < 1.5
    assert dispersion("bursty") > 10


def test_a_burst_keeps_to_its_time():
    """With a low load of zero every task falls into a time of high load, as the stream of the modulation tells."""
    arrivals = {"low_load": 0, "high_load": 0.8, "mean_low_s": 3.0, "mean_high_s": 2.0}
    scenario, plan, tasks, _ = sampled(short("edge5", 200), workload("bursty", arrivals=arrivals), 1)
    assert plan.demand.load == pytest.approx(0.32)
    start_s, high = alternate(replica(0).streams("modulation"), (3.0, 2.0), scenario.horizon_s)
    dwell = np.searchsorted(start_s, tasks.arrive_s[0], side="right") - 1
    assert high[dwell].all()
    length_s = np.diff(start_s, append=scenario.horizon_s)[high].sum()
    expected = 0.8 * 150 / 0.7168 * length_s
    assert abs(tasks.shape[1] - expected) < 4 * math.sqrt(expected)


# ---- order and index -------------------------------------------------------------------------------------------------


def test_published_order_is_slot_station_index():
    _, _, tasks, _ = sampled(env("published_multi"), workload("published_multi"), 2)
    for r in range(2):
        valid = tasks.valid[r]
        key = np.stack([tasks.arrive_s[r], tasks.origin[r], tasks.index[r]])[:, valid]
        assert (np.lexsort(key[::-1]) == np.arange(valid.sum())).all()
        assert (tasks.arrive_s[r][valid] % 1 == 0).all()


def test_published_single_fills_indices_from_zero():
    _, _, tasks, _ = sampled(env("published_single"), workload("published_single"), 1)
    starts = np.flatnonzero(np.diff(tasks.origin[0], prepend=-1) != 0)
    assert len(starts) == 60 * 20
    assert (tasks.index[0][starts] == 0).all()
    inner = np.setdiff1d(np.arange(tasks.shape[1]), starts)
    assert (np.diff(tasks.index[0])[inner - 1] == 1).all()


def test_a_drawn_order_changes_nothing_but_the_order():
    settings = env("published_multi")
    _, _, fixed, _ = sampled(settings, workload("published_multi", order="station"), 1)
    _, _, drawn, _ = sampled(settings, workload("published_multi", order="drawn"), 1)
    back = np.lexsort((drawn.index[0], drawn.origin[0], drawn.arrive_s[0]))
    for name in ("origin", "index", "arrive_s", "input_mbit", "work_gcycle"):
        assert (getattr(drawn, name)[0][back] == getattr(fixed, name)[0]).all()
    first = drawn.origin[0][drawn.arrive_s[0] == 0]
    assert (np.diff(first) < 0).any()


def test_the_index_counts_a_stations_tasks_since_the_announcement():
    scenario, _, tasks, _ = sampled(short("edge5"), workload("poisson"), 1)
    seen = {}
    for station, index, arrive_s in zip(tasks.origin[0], tasks.index[0], tasks.arrive_s[0], strict=True):
        key = (station, int(arrive_s // scenario.announce_s))
        assert index == seen.get(key, 0)
        seen[key] = index + 1


def test_densities_per_index_belong_to_the_draw():
    settings, flow = env("published_multi"), workload("published_multi")
    _, _, tasks, _ = sampled(settings, flow, [replica(0, draw=5), replica(1, draw=5), replica(1, draw=6)])
    ratio = tasks.work_gcycle / np.where(tasks.valid, tasks.input_mbit, 1.0)
    density = [dict(zip(tasks.index[r][v].tolist(), ratio[r][v], strict=True)) for r, v in enumerate(tasks.valid)]
    assert len(density[0]) == 50
    assert density[0] == pytest.approx(density[1])
    assert all(abs(density[0][n] - density[2][n]) > 1e-9 for n in range(50))
    assert (tasks.input_mbit[1] == tasks.input_mbit[2]).all()


def test_the_published_single_world_draws_cost_and_result_per_index_independently():
    _, _, tasks, _ = sampled(env("published_single"), workload("published_single"), 1)
    for n in (0, 7):
        here = tasks.index[0] == n
        assert len(np.unique(tasks.work_gcycle[0][here])) == len(np.unique(tasks.result_mbit[0][here])) == 1
        assert len(np.unique(tasks.input_mbit[0][here])) > 100
    _, first = np.unique(tasks.index[0], return_index=True)
    correlation = np.corrcoef(tasks.work_gcycle[0][first], tasks.result_mbit[0][first])[0, 1]
    assert abs(correlation) < 0.5


@pytest.mark.parametrize("name", ["edge5", "edge20"])
def test_sizes_of_a_task_are_independent(name):
    _, _, tasks, _ = sampled(short(name), workload("poisson"), 1)
    work_per_mbit = tasks.work_gcycle[0] / (tasks.input_mbit[0] if name == "edge5" else 1.0)
    columns = [
        work_per_mbit,
        tasks.input_mbit[0],
        tasks.result_mbit[0],
        tasks.origin[0],
        np.diff(tasks.arrive_s[0], prepend=0),
    ]
    correlation = np.corrcoef(columns) - np.eye(5)
    assert np.abs(correlation).max() < 5 / math.sqrt(tasks.shape[1])


# ---- streams ---------------------------------------------------------------------------------------------------------


def same(a, b, *fields):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


def test_a_trace_depends_on_its_own_streams_alone():
    settings, flow = short("edge5"), workload("poisson")
    _, _, alone, _ = sampled(settings, flow, [replica(3)])
    _, _, among, _ = sampled(settings, flow, [replica(1), replica(3), replica(2)])
    n = alone.shape[1]
    for name in ("origin", "arrive_s", "work_gcycle", "input_mbit", "result_mbit", "index"):
        assert (getattr(among, name)[1, :n] == getattr(alone, name)[0]).all()
    assert not among.valid[1, n:].any()


def test_every_purpose_has_its_own_stream():
    """A change of what a task is leaves the moments and stations; slowdowns leave the tasks."""
    flow = workload("poisson")
    _, _, plain, _ = sampled(short("edge5"), flow)
    _, _, other, _ = sampled(short("edge5", tasks={"result_mbit": [3.0, 4.0], "overhead_gcycle": 0.2}), flow)
    assert same(plain, other, "arrive_s", "origin", "input_mbit", "work_gcycle")
    assert not same(plain, other, "result_mbit")
    slowdowns = {"mean_between_s": 10.0, "mean_duration_s": 5.0, "factor": 0.5}
    _, _, slow, _ = sampled(short("edge5", slowdowns=slowdowns), flow)
    assert same(plain, slow, "arrive_s", "origin", "input_mbit", "work_gcycle", "result_mbit")


def test_a_higher_load_adds_tasks_in_slots():
    low, high = (sampled(env("edge5"), workload("published_multi", load=load), 1)[2] for load in (0.2, 0.4))
    keys = [set(zip(t.arrive_s[0], t.origin[0], t.index[0], strict=True)) for t in (low, high)]
    assert keys[0] < keys[1]


def test_slowdowns_last_as_long_as_they_should():
    slowdowns = {"mean_between_s": 30.0, "mean_duration_s": 10.0, "factor": 0.25}
    scenario, _, tasks, _ = sampled(short("edge5", 6000, slowdowns=slowdowns), workload("poisson", load=0.01), 4)
    change_s, factor = tasks.speed_change_s, tasks.speed_factor
    length_s = np.diff(np.minimum(change_s, scenario.horizon_s), axis=2, append=scenario.horizon_s)
    assert (length_s >= 0).all()
    slow_share = (length_s * (factor < 1)).sum(axis=2) / scenario.horizon_s
    assert slow_share.mean() == pytest.approx(0.25, abs=0.02)
    assert set(np.unique(factor)) == {0.25, 1.0}
    # who follows the tasks to their end finds nominal speed: the last piece that ever begins
    last = np.isfinite(change_s).sum(axis=2) - 1
    assert (np.take_along_axis(factor, last[:, :, None], axis=2) == 1).all()


def test_two_states_are_in_equilibrium_from_the_start():
    second = [alternate(stream(i), (3.0, 1.0), 0.5)[1][0] for i in range(2000)]
    assert np.mean(second) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 2000))
    start_s, state = alternate(stream(0), (3.0, 1.0), 50_000.0)
    dwell_s = np.diff(start_s)
    assert (np.diff(state.astype(int)) != 0).all()
    for value, mean in ((False, 3.0), (True, 1.0)):
        dwells = dwell_s[state[:-1] == value]
        assert dwells.mean() == pytest.approx(mean, rel=4 / math.sqrt(len(dwells)))


def test_sampling_is_vectorised():
    """It takes less than the plainest Python loop over the tasks: one of three rounds suffices on a busy machine."""
    wins = []
    for i in range(3):
        started = time.process_time()
        *_, tasks, _ = sampled(short("edge20", 400), workload("poisson", load=0.9), [replica(i)])
        sampling_s, started = time.process_time() - started, time.process_time()
        total = 0.0
        for field in ("work_gcycle", "input_mbit", "result_mbit", "arrive_s", "deadline_s") * 2:
            for value in getattr(tasks, field)[0]:
                total += value
        wins.append(total > 0 and sampling_s < time.process_time() - started)
    assert any(wins)


# ---- trace files -----------------------------------------------------------------------------------------------------


def trace_of(file, load=0.6, columns=None, sort=False, **arrivals):
    columns = {"timestamp": "second"} | (columns or {})
    return workload(
        "trace", load=load, path=str(file), sort=sort, columns=columns, arrivals={"min_tasks": 1} | arrivals
    )


def read(file, **columns):
    """The columns of a trace file for a world of three stations."""
    return read_trace(str(file), TraceColumns(**columns), 3)


def test_a_small_trace_by_hand():
    """Rows at 0, 1, 2, ..., 100 s; last 30 % in 3 windows of 10 s; at load 0.6 of edge5: 125.56 tasks per second."""
    flow = trace_of(SMALL, windows=3)
    scenario, plan, tasks, facts = sampled(env("edge5"), flow, 3)
    assert plan.time_scale == facts.time_scale == pytest.approx(0.7168 / (0.6 * 150))
    assert scenario.horizon_s == pytest.approx(10 * plan.time_scale)
    assert tasks.valid.sum(axis=1).tolist() == [10, 10, 10]
    assert tasks.arrive_s[1] == pytest.approx(np.arange(10) * plan.time_scale, abs=1e-12)
    assert len(facts.trace_sha256) == 64


def test_evaluation_windows_are_disjoint_and_training_ends_before_them():
    flow = trace_of(SMALL, windows=3, columns={"work_gcycle": "size"})
    replicas = [replica(i, window=None) for i in range(50)] + [replica(i, window=i) for i in range(3)]
    _, _, tasks, _ = sampled(env("edge5"), flow, replicas)
    # the column holds row number + 1, scaled to the mean of the environment's tasks
    row = np.rint(tasks.work_gcycle / (0.7168 / 51.0)).astype(int) - 1
    training, held_out = row[:50][tasks.valid[:50]], row[50:]
    assert training.max() < 70
    assert len(np.unique(row[:50, 0])) > 20
    assert held_out[tasks.valid[50:]].tolist() == list(range(70, 100))


def test_columns_keep_the_mean_of_the_environment():
    flow = workload("azure_conv", columns={"work_gcycle": "GeneratedTokens", "input_mbit": "ContextTokens"})
    _, plan, tasks, _ = sampled(env("edge5"), flow, 10)
    tokens = plan.trace.columns["work_gcycle"]
    seen = tasks.work_gcycle[tasks.valid] / 0.7168 * tokens.mean()
    assert np.isin(np.rint(seen), tokens).all()
    assert tasks.input_mbit[tasks.valid].mean() == pytest.approx(3.5, rel=0.25)


def test_real_traces_stretch_with_the_load():
    scales = [build_world(env("edge5"), workload("azure_conv", load=load), stream)[1].time_scale for load in (0.3, 0.6)]
    assert scales[0] == pytest.approx(2 * scales[1])


def test_windows_that_are_not_there_or_too_empty():
    flow = trace_of(SMALL, windows=3)
    with pytest.raises(InputError, match=r"workload\.arrivals\.windows: there are 3 evaluation windows; window 4 was"):
        sampled(env("edge5"), flow, [replica(0, window=3)])
    flow = trace_of(SMALL, windows=3, min_tasks=11)
    with pytest.raises(InputError, match=r"workload\.arrivals\.windows: evaluation window 1 of 3 holds 10 tasks"):
        sampled(env("edge5"), flow, 1)
    with pytest.raises(InputError, match=r"workload\.columns\.work_gcycle: must be null with"):
        build_world(env("testbed5"), trace_of(SMALL, columns={"work_gcycle": "size"}), stream)
    with pytest.raises(InputError, match=r"workload\.arrivals\.train_fraction: the training part is"):
        build_world(env("edge5"), trace_of(SMALL, windows=1, train_fraction=0.2), stream)


HEADER = b"t,size\n"
ROWS = b"".join(b"%d.5,%d\n" % (i, i + 1) for i in range(20))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (HEADER, "must have a header and at least two rows"),
        (ROWS, r"line 1: no column 't'"),
        (b"T,size\n" + ROWS, r"line 1: no column 't'"),
        (b"t,size,t\n1,2,3\n2,3,4\n", "line 1: column 't' stands twice"),
        (HEADER + ROWS + b"3.5,7\n", r"line 22: t must not decrease, got '3\.5'"),
        (HEADER + b"0,1\n,2\n3,4\n", "line 3: t must be a finite number of seconds, got ''"),
        (HEADER + b"0,1\nnan,2\n3,4\n", "line 3: t must be a finite number of seconds, got 'nan'"),
        (HEADER + b"0,1\n1e400,2\n", "line 3: t must be a finite number of seconds, got '1e400'"),
        (HEADER + b"0,1\n1,inf\n", r"line 3: size must be a number in \(0, 1e\+12\], got 'inf'"),
        (HEADER + b"0,1\n1,0\n", r"line 3: size must be a number in \(0, 1e\+12\], got '0'"),
        (HEADER + b"0,1\n1,\n", r"line 3: size must be a number in \(0, 1e\+12\], got ''"),
        (HEADER + b"0,1\n1\n2,3\n", "line 3: has 1 fields, the header has 2"),
        (HEADER + b"0,1\n1,2,3\n2,3\n", "line 3: has 3 fields, the header has 2"),
        (HEADER + b'0,1\n"1,2",3,4\n2,3\n', "line 3: has 3 fields, the header has 2"),
        (HEADER + b'0,1\n"1,2\n2,3\n', "line 3: 'unexpected end of data'"),
        (HEADER + b"0,1\n\n1,2\n", "line 3: is blank"),
        (HEADER + b"0,1\r\n\r\n1,2\r\n", "line 3: is blank"),
        (HEADER + b"0,1\n1,\x002\n", "line 3: holds a NUL byte"),
        (HEADER + b"0,1\n1,\xff\n", "line 3: is not UTF-8 text"),
        (HEADER + b"0,1\r1,2\n2,3\n", "lines must end with a newline"),
        (HEADER + b"0,1\n1,2\n2", "line 4: has 1 fields"),
        (HEADER + b"0,1\n1700000000000,2\n", r"line 3: t must be in seconds.*\(workload.columns.time_unit=ms\)"),
        (HEADER + b"now,1\n2024-01-01,2\n", "line 2: t must be seconds or an ISO 8601"),
        (HEADER + b"2024-01-01,1\n3000-01-01,2\n", "line 3: t must be between 1900-01-01 and 2200-01-01"),
        (HEADER + b"5,1\n5,2\n5,3\n", "all rows have the same t"),
        (HEADER + b"2024-01-01T00:00:00,1\n2024-13-01T00:00:00,2\n", "line 3: t must be seconds or an ISO 8601"),
        (HEADER + b"2024-01-01,1\n7,2\n", "line 3: t must be seconds or an ISO 8601|t must not decrease"),
        (HEADER + b"7,1\n2024-01-01,2\n", "line 3: t must be a finite number of seconds"),
    ],
)  # fmt: skip
def test_faults_of_a_trace_file_are_named_with_their_line(tmp_path, content, message):
    file = tmp_path / "trace.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(file, timestamp="t", work_gcycle="size")
    assert "trace.csv" in str(caught.value)


def test_good_files_are_read_alike(tmp_path):
    expected = np.array([0.0, 0.25, 2.0])
    for content in (
        b"t,size\n10,1\n10.25,2\n12,3\n",
        b"\xef\xbb\xbft,size\r\n10,1\r\n10.25,2\r\n12,3\r\n",
        b't,size\n"10","1"\n"10.25","2"\n"12","3"\n',
        b"t,size\n2024-01-01 00:00:10,1\n2024-01-01 00:00:10.2500000,2\n2024-01-01T00:00:12,3\n",
        b"t,size\n2024-01-01T00:00:10Z,1\n2024-01-01T01:00:10.25+01:00,2\n2024-01-01T00:00:12Z,3\n",
    ):
        file = tmp_path / "trace.csv"
        file.write_bytes(content)
        trace = read(file, timestamp="t", work_gcycle="size")
        assert trace.time_s == pytest.approx(expected, abs=1e-9)
        assert trace.columns["work_gcycle"].tolist() == [1, 2, 3]


def test_too_large_files_are_refused_unread(tmp_path):
    file = tmp_path / "huge.csv"
    with file.open("wb") as stream_out:
        stream_out.truncate(10**9)
    with pytest.raises(InputError, match="must be at most 200,000,000 bytes, got 1,000,000,000"):
        read(file, timestamp="t")


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.integers(0, 200), st.binary(max_size=4))
def test_any_damage_is_read_or_named(tmp_path_factory, at, damage):
    good = HEADER + ROWS
    file = tmp_path_factory.mktemp("damaged") / "trace.csv"
    file.write_bytes(good[:at] + damage + good[at + len(damage) :])
    try:
        trace, message = read(file, timestamp="t", work_gcycle="size"), None
    except InputError as error:
        trace, message = None, str(error)
    if trace is None:
        assert "trace.csv" in message
        assert message.isprintable()
    else:
        assert (np.diff(trace.time_s) >= 0).all()
        assert (trace.columns["work_gcycle"] > 0).all()
