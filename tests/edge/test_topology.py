"""Networks from files: what links, nodes and directions state counts, or is refused by name."""

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.topology import graph_links, n_stations
from tests.conf_files import env

NODES = "".join(f'node [ id {i} label "n{i}" Latitude 0.0 Longitude {i}.0 ]\n' for i in range(3))
DEGREE_S = 2 * np.pi * 6371 / 360 * 5e-6


def network(tmp_path, text, name="net.gml", **change):
    file = tmp_path / name
    file.write_bytes(text.encode())
    return env("kreonet", network={"file": str(file)} | change).network


def links(tmp_path, *edges, nodes=NODES, directed=0, **change):
    body = "".join(f"edge [ {edge} ]\n" for edge in edges)
    return graph_links(network(tmp_path, f"graph [ directed {directed}\n{nodes}{body}]", **change))[:2]


def test_missing_rates_are_for_links_that_state_none(tmp_path):
    edges = 'source 0 target 1 LinkSpeed "155" LinkSpeedUnits "M"', 'source 1 target 2 LinkLabel "dark"'
    mbps, _ = links(tmp_path, *edges, missing_rate_mbps=1000)
    assert mbps.tolist() == [[np.inf, 155, 155], [155, np.inf, 1000], [155, 1000, np.inf]]
    with pytest.raises(InputError, match="link 'n1' - 'n2' states no speed"):
        links(tmp_path, *edges)


def test_a_directed_file_has_rates_and_paths_per_direction(tmp_path):
    """A ring: there over one link, back over two."""
    edges = [f"source {a} target {b} LinkSpeedRaw {mbps}e6" for a, b, mbps in ((0, 1, 10), (1, 2, 20), (2, 0, 30))]
    mbps, latency_s = links(tmp_path, *edges, directed=1)
    assert mbps.tolist() == [[np.inf, 10, 10], [20, np.inf, 20], [30, 10, np.inf]]
    np.testing.assert_allclose(latency_s, np.array([[0, 1, 2], [3, 0, 1], [2, 3, 0]]) * DEGREE_S, rtol=1e-9)
    both = links(tmp_path, *edges)[0]
    assert both[0, 1] == 10
    assert (both == both.T).all()


@pytest.mark.parametrize(
    ("back", "fault"), [("", "'n1' has no path to 'n0'"), ("2 1 1 0", "'n2' has no path from 'n0'")]
)
def test_a_directed_file_must_lead_both_ways(tmp_path, back, fault):
    pairs = [(0, 1), (1, 2)] if not back else [(0, 1), (1, 0), (2, 1)]
    edges = [f"source {a} target {b} LinkSpeedRaw 1e9" for a, b in pairs]
    with pytest.raises(InputError, match=f"node {fault}: the file is directed"):
        links(tmp_path, *edges, directed=1)


def test_switches_join_links_and_have_no_station(tmp_path):
    nodes = 'node [ id 9 label "switch" hyperedge 1 ]\n' + NODES
    edges = [f"source {i} target 9 LinkSpeedRaw {i + 1}e8" for i in range(3)]
    mbps, latency_s = links(tmp_path, *edges, nodes=nodes)
    assert mbps.tolist() == [[np.inf, 100, 100], [100, np.inf, 200], [100, 200, np.inf]]
    assert latency_s[0].tolist() == [0, 0.001, 0.001]
    assert n_stations(network(tmp_path, f"graph [ {nodes} ]")) == 3
    with pytest.raises(InputError, match="hyperedge must be 0 or 1, got 'maybe'"):
        links(tmp_path, *edges, nodes=nodes.replace("hyperedge 1", 'hyperedge "maybe"'))


def test_links_that_are_only_planned_are_left_out(tmp_path):
    built = "source 0 target 1 LinkSpeedRaw 1e9", "source 1 target 2 LinkSpeedRaw 1e9"
    planned = 'source 0 target 1 LinkSpeedRaw 9e9 LinkStatus "Planning"'
    assert (links(tmp_path, *built, planned)[0] == links(tmp_path, *built)[0]).all()
    with pytest.raises(InputError, match="node 'n0' has no path"):
        links(tmp_path, planned, built[1])


@pytest.mark.parametrize(
    "fact",
    [
        "latency 5", "delay 5", "Delay 5", "delay_ms 5", "latencyMs 5", "linkdelay 5", "rtt 5", "dist 5", "distance 5",
        "length 5", "length_km 5", "weight 5", "LinkWeight 5", "cost 2", "bandwidth 5", "bw 5", "capacity 5",
        "capacity_mbps 5", "speed 5", "rate 5", "linkspeedraw 5", 'delay_unit "ms"',
    ],
)  # fmt: skip
def test_facts_of_unknown_unit_are_refused_by_name(tmp_path, fact):
    with pytest.raises(InputError, match=f"link 'n0' - 'n1' states {fact.split()[0]} .* no unit of the Topology Zoo"):
        links(tmp_path, f"source 0 target 1 LinkSpeedRaw 1e9 {fact}", "source 1 target 2 LinkSpeedRaw 1e9")


@pytest.mark.parametrize(
    "text", ["weight 1", "weight 1.0", 'LinkNote "E"', "key 0", 'id "e7"', 'LinkType "SDH"', "width 3"]
)
def test_what_says_nothing_of_rates_and_latencies_is_read_over(tmp_path, text):
    mbps, _ = links(tmp_path, f"source 0 target 1 LinkSpeedRaw 1e9 {text}", "source 1 target 2 LinkSpeedRaw 1e9")
    assert mbps[0, 2] == 1000


@pytest.mark.parametrize(
    "keys", ["Latitude {} Longitude {}", "lat {} lon {}", 'latitude "{}" longitude "{}"', "Lat {} lng {}"]
)
def test_places_under_their_usual_names(tmp_path, keys):
    nodes = "".join(f"node [ id {i} {keys.format(float(i), 0.0)} ]\n" for i in range(2))
    assert links(tmp_path, "source 0 target 1 LinkSpeedRaw 1e9", nodes=nodes)[1][0, 1] == pytest.approx(DEGREE_S)


@pytest.mark.parametrize(
    "keys", ["Latitude 91.0 Longitude 0.0", "lat 0.0 lon 0.0 lon 1.0", 'lat "north" lon 0', "lat NAN lon 0"]
)
def test_places_that_are_none_are_refused(tmp_path, keys):
    with pytest.raises(InputError, match="node 0: Latitude and Longitude must be degrees"):
        links(tmp_path, "source 0 target 1 LinkSpeedRaw 1e9", nodes=f"node [ id 0 {keys} ] node [ id 1 lat 0 lon 0 ]")


def test_one_coordinate_alone_is_refused(tmp_path):
    nodes = "node [ id 0 Latitude 1.0 ] node [ id 1 lat 0 lon 0 ]"
    with pytest.raises(InputError, match="node 0 has no Longitude beside the other"):
        links(tmp_path, "source 0 target 1 LinkSpeedRaw 1e9", nodes=nodes)


def test_labels_repeat_loops_count_for_nothing_and_one_node_is_a_network(tmp_path):
    same = NODES.replace("n1", "n0")
    edges = [f"source {a} target {b} LinkSpeedRaw 1e9" for a, b in ((0, 0), (0, 1), (1, 2))]
    assert links(tmp_path, *edges, nodes=same)[0].shape == (3, 3)
    assert links(tmp_path, nodes="node [ id 0 ]")[0].tolist() == [[np.inf]]


def test_a_graphml_file_is_the_same_network(tmp_path):
    keys = {"label": "node", "Latitude": "node", "Longitude": "node", "LinkSpeed": "edge", "LinkSpeedUnits": "edge"}
    number = {"Latitude": "double", "Longitude": "double"}
    text = "".join(
        f'<key id="{k}" for="{f}" attr.name="{k}" attr.type="{number.get(k, "string")}"/>' for k, f in keys.items()
    )
    text += '<graph edgedefault="undirected">'
    for i in range(3):
        data = {"label": f"n{i}", "Latitude": 0.0, "Longitude": i}
        text += f'<node id="{i}">' + "".join(f'<data key="{k}">{v}</data>' for k, v in data.items()) + "</node>"
    for a, b, speed in ((0, 1, "2.5"), (1, 2, "10")):
        data = f'<data key="LinkSpeed">{speed}</data><data key="LinkSpeedUnits">G</data>'
        text += f'<edge source="{a}" target="{b}">{data}</edge>'
    read = graph_links(network(tmp_path, f"<graphml>{text}</graph></graphml>", "net.graphml"))
    edges = "source 0 target 1 LinkSpeedRaw 2.5e9", "source 1 target 2 LinkSpeedRaw 1e10"
    for mine, other in zip(read[:2], links(tmp_path, *edges), strict=True):
        assert (mine == other).all()
    with pytest.raises(InputError, match=r"net\.gml: not readable as graphml: no element found"):
        graph_links(network(tmp_path, "<graphml>"))


@pytest.mark.parametrize(
    "text",
    [
        "graph [ ]",
        "graph [ node [ id 0 hyperedge 1 ] ]",
        "graph [ " + "".join(f"node [ id {i} ]" for i in range(1001)) + "]",
    ],
)
def test_there_are_1_to_1000_stations(tmp_path, text):
    with pytest.raises(InputError, match="must have 1 to 1000 nodes"):
        n_stations(network(tmp_path, text))


@pytest.mark.parametrize(
    "fact",
    [
        "propagation_delay 50", "latency_in_ms 5", "delayMillis 5", "avg_rtt 9", "distance_meters 100", "km 3",
        "max_bandwidth 10", "bandwidth_mbit_s 10", "available_bw 10", "capacity_gbit_s 1",
    ],
)  # fmt: skip
def test_facts_with_a_unit_in_their_name_are_refused_too(tmp_path, fact):
    with pytest.raises(InputError, match=rf"states {fact.split()[0]} .*env.network.latency_s"):
        links(tmp_path, f"source 0 target 1 LinkSpeedRaw 1e9 {fact}", "source 1 target 2 LinkSpeedRaw 1e9")
