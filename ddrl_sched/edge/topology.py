"""Wired networks from gml files of the Internet Topology Zoo's form: rate and latency of the path between stations."""

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from ddrl_sched.config import MAX_SERVERS, GraphNetwork, InputError, clean, shown
from ddrl_sched.edge.input_file import MAX_GML_BYTES, first_line, read_bytes
from ddrl_sched.edge.types import Floats

EARTH_RADIUS_KM = 6371.0
LARGEST_BPS = 1e15
KEY = "env.network.file"

Attributes = dict[str, Any]


def n_nodes(network: GraphNetwork) -> int:
    """Number of nodes, which is that of stations and servers. Raises InputError (unreadable file)."""
    return len(_read_graph(network)[0])


def graph_links(network: GraphNetwork) -> tuple[Floats, Floats]:
    """Rates [B, E] (slowest link of the path) and latencies [B, E] (sum along it) between all nodes of a gml file.

    Paths are shortest by latency. Of parallel links the fastest counts. Nodes stand in the order of the file and need
    neither labels nor distinct ones. Raises InputError (unreadable file, no rate, disconnected).
    """
    import networkx as nx

    nodes, edges = _read_graph(network)
    graph = nx.Graph()
    graph.add_nodes_from(range(len(nodes)))
    for a, b, data in edges:
        mbps = _link_mbps(network, nodes[a], nodes[b], data)
        if a != b and mbps > graph.get_edge_data(a, b, {"mbps": 0.0})["mbps"]:
            graph.add_edge(a, b, mbps=mbps, latency_s=_link_latency_s(network, nodes[a], nodes[b]))
    if not nx.is_connected(graph):
        alone = min(nx.connected_components(graph), key=len)
        raise InputError(f"{KEY}: {clean(network.file)}: node {_label(nodes[min(alone)])} has no path to the others")
    return _path_links(graph, nx.all_pairs_dijkstra_path(graph, weight="latency_s"))


def _path_links(graph: Any, paths: Iterable[Any]) -> tuple[Floats, Floats]:
    n = len(graph)
    mbps, latency_s = np.full((n, n), np.inf), np.zeros((n, n))
    for a, targets in paths:
        for b, path in targets.items():
            if a < b:  # one path for both directions
                links = [graph.edges[edge] for edge in pairwise(path)]
                mbps[a, b] = mbps[b, a] = min(link["mbps"] for link in links)
                latency_s[a, b] = latency_s[b, a] = sum(link["latency_s"] for link in links)
    return mbps, latency_s


def _link_mbps(network: GraphNetwork, a: Attributes, b: Attributes, link: Attributes) -> float:
    where = f"{KEY}: {clean(network.file)}: link {_label(a)} - {_label(b)}"
    if "LinkSpeedRaw" not in link:
        if network.missing_rate_mbps is None:
            raise InputError(f"{where} has no LinkSpeedRaw (bit/s); set env.network.missing_rate_mbps to allow it")
        return float(network.missing_rate_mbps)
    bps = link["LinkSpeedRaw"]
    if not _is_number(bps) or not 0 < bps <= LARGEST_BPS:
        raise InputError(f"{where}: LinkSpeedRaw must be a number in (0, 1e15] (bit/s), got {shown(bps)}")
    return float(bps) / 1e6


def _link_latency_s(network: GraphNetwork, a: Attributes, b: Attributes) -> float:
    ends = [_coordinates(network, node) for node in (a, b)]
    if ends[0] is None or ends[1] is None:
        return float(network.missing_latency_s)
    return network.latency_s_per_km * great_circle_km(ends[0], ends[1])


def _coordinates(network: GraphNetwork, node: Attributes) -> tuple[float, float] | None:
    latitude: Any = node.get("Latitude")
    longitude: Any = node.get("Longitude")
    if latitude is None or longitude is None:
        return None
    if not (_is_number(latitude) and _is_number(longitude) and abs(latitude) <= 90 and abs(longitude) <= 360):
        where = f"{KEY}: {clean(network.file)}: node {_label(node)}"
        raise InputError(f"{where}: Latitude and Longitude must be degrees, got {shown((latitude, longitude))}")
    return float(latitude), float(longitude)


def great_circle_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Distance of two (latitude, longitude) in degrees on a sphere of 6371 km (haversine)."""
    lat_a, lon_a, lat_b, lon_b = map(math.radians, (*a, *b))
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(node: Attributes) -> str:
    return shown(node.get("label", node["id"]))


def _read_graph(network: GraphNetwork) -> tuple[list[Attributes], list[tuple[int, int, Attributes]]]:
    """Nodes in the order of the file, and links as (position, position, attributes)."""
    import networkx as nx

    text = read_bytes(network.file, KEY, "topologies", MAX_GML_BYTES).decode("utf-8", errors="replace")
    if not re.search(r"^\s*multigraph\s", text, re.MULTILINE):  # the Topology Zoo holds parallel links without a word
        text = re.sub(r"\bgraph\s*\[", "graph [ multigraph 1", text, count=1)
    try:
        graph = nx.parse_gml(text.splitlines(), label="id")
    except Exception as error:  # the parser fails in many ways on files that are no gml
        raise InputError(f"{KEY}: {clean(network.file)}: not readable as gml: {first_line(error)}") from None
    if not 1 <= len(graph) <= MAX_SERVERS:
        raise InputError(f"{KEY}: {clean(network.file)}: must have 1 to {MAX_SERVERS} nodes, got {len(graph)}")
    place = {key: i for i, key in enumerate(graph.nodes)}
    nodes = [{"id": key, **data} for key, data in graph.nodes(data=True)]
    return nodes, [(place[a], place[b], data) for a, b, data in graph.edges(data=True)]
