"""Scenarios: numbers by hand for a network of three nodes, the horizon's rule, faults of gml files."""

import math

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.scenario import Demand, build_scenario, horizon_s, relaxation_s, server_speeds
from ddrl_sched.edge.topology import great_circle_km
from ddrl_sched.seeding import stream
from tests.conf_files import env
from tests.paths import DATA

THREE = DATA / "three_nodes.gml"


def demand(load=0.36, mean_work_gcycle=0.7168, tasks_per_s=75.0, **more):
    return Demand(**({"longest_s": math.inf, "memory_s": 0.0, "slotted": False} | more), load=load,
                  mean_work_gcycle=mean_work_gcycle, tasks_per_s=tasks_per_s)  # fmt: skip


def three(**network):
    return env("kreonet", network={"file": str(THREE), **network})


def test_a_receivers_network():
    made = build_scenario(env("edge5"), demand(), stream)
    assert made.n_servers == 5
    assert made.link_mbps[0].tolist() == [math.inf, 425, 450, 475, 500]
    assert made.link_mbps[4].tolist() == [400, 425, 450, 475, math.inf]
    assert made.link_latency_s[1].tolist() == [0.0005, 0, 0.0005, 0.0005, 0.0005]


def matrix(n=5, there=0.25, **entries):
    """[[null, there, ...], ...] with some entries "b_e" changed."""
    rows = [[None if b == e else there for e in range(n)] for b in range(n)]
    for place, value in entries.items():
        b, e = (int(part) for part in place[1:].split("_"))
        rows[b][e] = value
    return rows


def test_matrices_of_rates_and_latencies_hold_per_direction():
    network = {"rate_mbps": matrix(there=400, m1_3=25), "latency_s": matrix(there=0.25, m1_3=0.5, m2_2=0)}
    made = build_scenario(env("edge5", network=network), demand(), stream)
    assert made.link_mbps[1].tolist() == [400, math.inf, 400, 25, 400]
    assert made.link_mbps[3].tolist() == [400, 400, 400, math.inf, 400]
    assert made.link_latency_s[1].tolist() == [0.25, 0, 0.25, 0.5, 0.25]
    assert (made.return_mbps == made.link_mbps.T).all()
    assert (made.return_latency_s == made.link_latency_s.T).all()


def test_a_list_of_rates_holds_there_and_back():
    made = build_scenario(env("edge5"), demand(), stream)
    assert (made.return_mbps == made.link_mbps).all()
    assert (made.return_latency_s == made.link_latency_s).all()


@pytest.mark.parametrize("name", ["edge5", "edge20"])
def test_one_latency_is_a_matrix_of_it(name):
    n = len(server_speeds(env(name), stream))
    short = build_scenario(env(name, network={"latency_s": 0.25}), demand(), stream)
    full = build_scenario(env(name, network={"latency_s": matrix(n)}), demand(), stream)
    for key in ("link_mbps", "link_latency_s", "return_mbps", "return_latency_s"):
        assert (getattr(short, key) == getattr(full, key)).all()


def test_one_rate_is_a_matrix_of_it_and_one_station_has_no_link():
    short = build_scenario(env("edge5", network={"rate_mbps": 400}), demand(), stream)
    full = build_scenario(env("edge5", network={"rate_mbps": matrix(there=400)}), demand(), stream)
    assert (short.link_mbps == full.link_mbps).all()
    assert (short.return_mbps == full.return_mbps).all()
    alone = {"rate_mbps": [[None]], "latency_s": [[0]]}
    made = build_scenario(env("edge5", network=alone, servers={"speed_gcps": [10.0]}), demand(), stream)
    assert made.link_mbps.tolist() == [[math.inf]]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"rate_mbps": matrix(m0_1=0)}, r"rate_mbps\[0\]\[1\]: must be a number > 0, got 0"),
        ({"rate_mbps": matrix(m3_1=None)}, r"rate_mbps\[3\]\[1\]: must be a number > 0, got null"),
        ({"rate_mbps": matrix(m3_1=-1)}, r"rate_mbps\[3\]\[1\]: must be >= 0, got -1"),
        ({"rate_mbps": matrix(m3_1="x")}, r"rate_mbps\[3\]\[1\]: must be a number, got 'x'"),
        ({"rate_mbps": matrix(m3_1=math.nan)}, r"rate_mbps\[3\]\[1\]: must be a finite number"),
        ({"rate_mbps": matrix(m3_1=1e10)}, r"rate_mbps\[3\]\[1\]: must be <= 1000000000"),
        ({"rate_mbps": matrix(m3_3=400)}, r"rate_mbps\[3\]\[3\]: must be null or 0 .*own server.*, got 400"),
        ({"rate_mbps": matrix(4)}, r"rate_mbps: must be one number or have one row per station \(5\), got 4 rows"),
        ({"rate_mbps": [*matrix()[:4], [1, 2]]}, r"rate_mbps\[4\]: must have one entry per server \(5\), got 2"),
        ({"rate_mbps": [*matrix()[:4], 7]}, r"rate_mbps\[4\]: must be a list, got 7"),
        ({"rate_mbps": []}, r"rate_mbps: must have at least 1 entries"),
        ({"rate_mbps": [1, 2]}, r"rate_mbps: must have one rate per server \(5\), got 2"),
        ({"rate_mbps": 0}, r"rate_mbps: must be > 0, got 0"),
        ({"rate_mbps": [[1] * 1001]}, r"rate_mbps\[0\]: must have at most 1000 entries"),
        ({"latency_s": matrix(m0_1=None)}, r"latency_s\[0\]\[1\]: must be a number, got null"),
        ({"latency_s": matrix(m2_2=0.1)}, r"latency_s\[2\]\[2\]: must be null or 0"),
        ({"latency_s": [0.1] * 5}, r"latency_s: must be one number or have one row per station, got \[0\.1"),
        ({"latency_s": "fast"}, r"latency_s: must be a number, got 'fast'"),
    ],
)
def test_faults_of_matrices_name_row_and_column(network, message):
    with pytest.raises(InputError, match=r"^env\.network\." + message):
        env("edge5", network=network)


@pytest.mark.parametrize("network", [{"rate_mbps": matrix()}, {"latency_s": matrix(there=0)}])
def test_published_rules_have_no_matrices(network):
    with pytest.raises(InputError, match=rf"env\.network\.{next(iter(network))}: rule amcoedge has no matrix"):
        env("published_multi", network=network)


def test_rates_and_latencies_of_three_nodes_by_hand():
    made = build_scenario(three(), demand(), stream)
    # first to second: the faster of two links, 111.195 km x 5 us; second to third: no coordinates, 0.5 ms
    assert made.link_mbps.tolist() == [[math.inf, 2500, 155], [2500, math.inf, 155], [155, 155, math.inf]]
    km = 2 * math.pi * 6371 / 360
    expected = np.array([[0, km * 5e-6, km * 5e-6 + 5e-4], [km * 5e-6, 0, 5e-4], [km * 5e-6 + 5e-4, 5e-4, 0]])
    np.testing.assert_allclose(made.link_latency_s, expected, rtol=1e-12)


@pytest.mark.parametrize(("missing_latency_s", "mbps", "seconds"), [(0.0005, 200, 0.001), (0.0006, 100, 0.00111195)])
def test_paths_are_shortest_by_latency(tmp_path, missing_latency_s, mbps, seconds):
    """The direct link spans two degrees (1.112 ms); the way over a node without coordinates takes two missing."""
    file = tmp_path / "ring.gml"
    file.write_text("""graph [
        node [ id 0 Latitude 0.0 Longitude 0.0 ] node [ id 1 ] node [ id 2 Latitude 2.0 Longitude 0.0 ]
        edge [ source 0 target 2 LinkSpeedRaw 100000000.0 ]
        edge [ source 0 target 1 LinkSpeedRaw 300000000 ]
        edge [ source 2 target 1 LinkSpeedRaw 200000000 ]
    ]""")
    made = build_scenario(three(file=str(file), missing_latency_s=missing_latency_s), demand(), stream)
    assert made.link_mbps[0, 2] == mbps
    assert made.link_latency_s[2, 0] == pytest.approx(seconds, rel=1e-5)


def test_great_circles():
    assert great_circle_km((0, 0), (0, 90)) == pytest.approx(math.pi / 2 * 6371)
    assert great_circle_km((90, 0), (-90, 123)) == pytest.approx(math.pi * 6371)
    assert great_circle_km((48.1, 11.6), (48.1, 11.6)) == 0


@pytest.mark.parametrize(("name", "nodes"), [("kreonet", 13), ("rediris", 19), ("janetlense", 20), ("karen", 25)])
def test_topologies_of_the_package(name, nodes):
    made = build_scenario(env(name), demand(), stream)
    others = ~np.eye(nodes, dtype=bool)
    assert made.link_mbps.shape == (nodes, nodes)
    assert (made.link_mbps[others] >= 100).all()
    assert (made.link_mbps == made.link_mbps.T).all()
    assert (made.link_latency_s == made.link_latency_s.T).all()
    assert made.link_latency_s.max() < 0.02
    # no detour over a third node is quicker
    via = made.link_latency_s[:, :, None] + made.link_latency_s[None, :, :]
    assert (made.link_latency_s <= via.min(axis=1) + 1e-15).all()


def test_drawn_speeds_belong_to_the_seed_alone():
    speeds = server_speeds(env("edge20"), stream)
    assert len(speeds) == 20
    assert ((speeds >= 10) & (speeds <= 50) & (speeds == np.round(speeds))).all()
    renamed = env("edge20", name="mine", tasks={"overhead_gcycle": 0.0}, network={"rate_seed": 9})
    assert (server_speeds(renamed, stream) == speeds).all()
    assert (server_speeds(env("edge20", servers={"capacity_seed": 9}), stream) != speeds).any()


def test_the_published_draw_has_the_published_load():
    assert server_speeds(env("published_single"), stream).sum() == pytest.approx(25.5 * 20 * 1.536 / 1.24, rel=0.01)


def test_relaxation_times_of_the_measured_table():
    speeds = np.array([10.0, 20, 30, 40, 50])
    assert relaxation_s(speeds, 0.7168, 0.36) == pytest.approx(0.0299, rel=0.01)
    assert relaxation_s(speeds, 0.7168, 0.95) == pytest.approx(7.5, rel=0.01)
    assert relaxation_s(speeds, 0.7168, 1.0) == math.inf


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"load": 0.36}, 60),  # 60 slots: 20 relaxations take less
        ({"load": 0.95}, 150),  # 20 x 7.454 s = 149.1 s, in whole slots
        ({"load": 0.999}, 600),  # the cap
        ({"load": 1.2}, 600),
        ({"load": 0.36, "tasks_per_s": 2.0}, 278),  # 500 / (2 x 0.9) = 277.8
        ({"load": 0.36, "memory_s": 5.0}, 100),  # slow bursts
        ({"load": 0.36, "longest_s": 4.5}, 4.5),  # a trace file's window
    ],
)
def test_automatic_horizons(more, expected):
    assert horizon_s(env("edge5"), demand(**more), np.array([10.0, 20, 30, 40, 50])) == pytest.approx(expected)


def test_the_cap_holds_in_whole_slots():
    clock = {"slot_s": 7.0, "auto_horizon": {"cap_s": 50.0}}
    assert horizon_s(env("edge5", clock=clock), demand(), np.array([150.0])) == 49


def test_explicit_horizons_and_the_warm_up():
    made = build_scenario(env("edge5", clock={"horizon_s": 30, "warm_up": 0.2}), demand(), stream)
    assert (made.horizon_s, made.warm_up_s) == (30, 6)
    with pytest.raises(InputError, match=r"env\.clock\.horizon_s: must be a whole number of slots of 1 s, got 30\.5"):
        horizon_s(env("edge5", clock={"horizon_s": 30.5}), demand(slotted=True), np.array([150.0]))


@pytest.mark.parametrize("asked", ["auto", 30.0])
def test_slots_that_cannot_be_counted_are_refused(asked):
    with pytest.raises(InputError, match=r"env\.clock\.slot_s: .* too short for a horizon"):
        horizon_s(env("edge5", clock={"slot_s": 1e-320, "horizon_s": asked}), demand(slotted=True), np.array([150.0]))


def gml(tmp_path, old, new):
    file = tmp_path / "net.gml"
    file.write_text(THREE.read_text().replace(old, new))
    return str(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    LinkSpeedRaw 155000000.0\n", "", r"link 3 - 'inland' states no speed .*missing_rate_mbps"),
        ("LinkSpeedRaw 155000000.0", "LinkSpeedRaw -1.0", r"link 3 - 'inland': LinkSpeedRaw must be a number in"),
        ("LinkSpeedRaw 155000000.0", 'LinkSpeedRaw "fast"', r"LinkSpeedRaw must be a number in .*got 'fast'"),
        ("source 3\n    target 5", "source 3\n    target 7", r"node 'inland' has no path to the others"),
        ("Latitude 1.0", "Latitude 100.0", r"node 3: Latitude and Longitude must be degrees, got \(100\.0, 10\.0\)"),
        ("]", "", r"not readable as gml"),
        ("id 5", "id 3", r"not readable as gml"),
    ],
)
def test_faults_of_a_gml_file_are_named(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message) as caught:
        build_scenario(three(file=gml(tmp_path, old, new)), demand(), stream)
    assert "net.gml" in str(caught.value)


def test_a_missing_rate_can_be_allowed(tmp_path):
    file = gml(tmp_path, "    LinkSpeedRaw 155000000.0\n", "")
    made = build_scenario(three(file=file, missing_rate_mbps=10), demand(), stream)
    assert made.link_mbps[1, 2] == 10


def test_duplicate_names_are_two_nodes(tmp_path):
    file = gml(tmp_path, "id 3", 'id 3\n    label "inland"')
    assert build_scenario(three(file=file), demand(), stream).n_servers == 3


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("package:Karn.gml", "no 'Karn.gml'; did you mean 'Karen.gml'"),
        ("nowhere.gml", "No such file"),
        ("/dev/zero", "no regular file"),
        ("a\0b", "null"),
    ],
)
def test_files_that_cannot_be_read(file, message):
    with pytest.raises(InputError, match=message):
        server_speeds(three(file=file), stream)


def test_listed_servers_must_match_the_nodes():
    listed = env("kreonet", servers={"kind": "listed", "speed_gcps": [1.0, 2.0]})
    with pytest.raises(InputError, match=r"env\.servers: there must be one server per node of .* \(13\), got 2"):
        server_speeds(listed, stream)
