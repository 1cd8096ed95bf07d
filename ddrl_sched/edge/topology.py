"""Wired networks from files of the Internet Topology Zoo's form: rate and latency of the path between stations."""

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ddrl_sched.config import InputError, clean, shown
from ddrl_sched.edge.env_settings import MAX_SERVERS, GraphNetwork
from ddrl_sched.edge.input_file import MAX_GML_BYTES, content_sha256, read_bytes
from ddrl_sched.edge.link_speed import number, stated_bps
from ddrl_sched.edge.network_file import Attributes, NetworkFile, NetworkFileError, parse_network
from ddrl_sched.edge.types import Floats

if TYPE_CHECKING:
    import networkx as nx

EARTH_RADIUS_KM = 6371.0
KEY = "env.network.file"
# facts of a link in no form of the Topology Zoo, so that their units are not known
_UNREAD = re.compile(
    r"(?:link|edge)?_?(?:latency|delay|rtt|ping|dist|distance|length|weight|cost|metric"
    r"|bandwidth|bw|capacity|datarate|bitrate|rate|speed|linkspeed|throughput)(?:raw|_?units?|_?[a-z]{1,5})?"
)
_UNREAD_WORDS = {
    "latency", "delay", "rtt", "ping", "distance", "length", "bandwidth", "bw", "capacity", "datarate", "bitrate",
    "throughput", "km", "meters", "metres", "miles",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_LATITUDE = re.compile(r"lat(?:itude)?(?:_?deg(?:rees)?)?")
_LONGITUDE = re.compile(r"(?:lon|lng|long|longitude)(?:_?deg(?:rees)?)?")
_ZOO_SPEEDS = ("LinkSpeedRaw", "LinkSpeed", "LinkSpeedUnits")
_NOT_BUILT = re.compile(r"plan|propos|future|under construction", re.IGNORECASE)


def n_stations(network: GraphNetwork) -> int:
    """Number of stations, which is that of servers. Raises InputError (unreadable file)."""
    return len(_stations(_read(network)[0].nodes))


def graph_links(network: GraphNetwork) -> tuple[Floats, Floats, str]:
    """Rates [B, E] (slowest link of the path) and latencies [B, E] (sum along it) between all stations of a file.

    The third is the sha256 of the file's content.

    There is a station at every node but those that the Topology Zoo marks as a switch (hyperedge 1). Stations stand in
    the order of the file and need neither labels nor distinct ones. Paths are shortest by latency. Of parallel links
    the fastest counts; links that are only planned (LinkStatus) and those from a node to itself are left out. In a
    directed file a link leads from its source to its target.

    Raises InputError (unreadable file, no clear rate, disconnected).
    """
    import networkx as nx

    file, sha256 = _read(network)
    graph = _fastest_links(network, file)
    _check_connected(network, file, graph)
    mbps, latency_s = _path_links(graph, nx.all_pairs_dijkstra_path(graph, weight="latency_s"))
    kept = np.ix_(_stations(file.nodes), _stations(file.nodes))
    return mbps[kept], latency_s[kept], sha256


def _fastest_links(network: GraphNetwork, file: NetworkFile) -> "nx.Graph":
    import networkx as nx

    several = nx.MultiDiGraph() if file.directed else nx.MultiGraph()
    several.add_nodes_from(range(len(file.nodes)))
    several.add_edges_from(file.links)
    graph = nx.DiGraph() if file.directed else nx.Graph()
    graph.add_nodes_from(several)
    for a, b, data in several.edges(data=True):
        ends = file.nodes[a], file.nodes[b]
        mbps = _link_mbps(network, *ends, data)
        built = not _NOT_BUILT.match(str(data.get("LinkStatus", "")))
        if a != b and built and mbps > graph.get_edge_data(a, b, {"mbps": 0.0})["mbps"]:
            graph.add_edge(a, b, mbps=mbps, latency_s=_link_latency_s(network, *ends))
    return graph


def _check_connected(network: GraphNetwork, file: NetworkFile, graph: "nx.Graph") -> None:
    import networkx as nx

    where = f"{KEY}: {clean(network.file)}: node"
    if not file.directed:
        if not nx.is_connected(graph):
            alone = min(nx.connected_components(graph), key=len)
            raise InputError(f"{where} {_label(file.nodes[min(alone)])} has no path to the others")
        return
    first = file.nodes[0]
    for reached, ends in (
        (nx.descendants(graph, 0), "{1} has no path from {0}"),
        (nx.ancestors(graph, 0), "{1} has no path to {0}"),
    ):
        beyond = set(graph) - reached - {0}
        if beyond:
            names = ends.format(_label(first), _label(file.nodes[min(beyond)]))
            raise InputError(
                f"{where} {names}: the file is directed, so a link leads from its source to its target only"
            )


def _path_links(graph: "nx.Graph", paths: Iterable[tuple[int, Mapping[int, list[int]]]]) -> tuple[Floats, Floats]:
    n, both_ways = len(graph), not graph.is_directed()
    mbps, latency_s = np.full((n, n), np.inf), np.zeros((n, n))
    for a, targets in paths:
        for b, path in targets.items():
            if a < b or (a > b and not both_ways):  # one path for both directions
                links = [graph.edges[edge] for edge in pairwise(path)]
                mbps[a, b] = min(link["mbps"] for link in links)
                latency_s[a, b] = sum(link["latency_s"] for link in links)
                if both_ways:
                    mbps[b, a], latency_s[b, a] = mbps[a, b], latency_s[a, b]
    return mbps, latency_s


def _link_mbps(network: GraphNetwork, a: Attributes, b: Attributes, link: Attributes) -> float:
    where = f"{KEY}: {clean(network.file)}: link {_label(a)} - {_label(b)}"
    for key, value in link.items():
        says_nothing = key.lower() in ("weight", "cost", "metric") and number(value) == 1
        if _is_unread(key) and not says_nothing:
            raise InputError(
                f"{where} states {clean(key)} {shown(value)}, which has no unit of the Topology Zoo: state the rate as "
                "LinkSpeedRaw (bit/s), places as Latitude and Longitude, or take the key out of the file (measured "
                "latencies go into env.network.latency_s, as in env=ping5)"
            )
    bps = stated_bps(link, where)
    if bps is not None:
        return bps / 1e6
    if network.missing_rate_mbps is None:
        raise InputError(
            f"{where} states no speed (LinkSpeedRaw in bit/s, LinkSpeed with LinkSpeedUnits, or LinkLabel); "
            "set env.network.missing_rate_mbps to allow it"
        )
    return float(network.missing_rate_mbps)


def _is_unread(key: str) -> bool:
    """Whether a key of a link states a fact in no form of the Topology Zoo."""
    if key in _ZOO_SPEEDS:
        return False
    words = {word.lower() for word in _WORDS.findall(key)}
    return bool(_UNREAD.fullmatch(key.lower())) or not words.isdisjoint(_UNREAD_WORDS)


def _link_latency_s(network: GraphNetwork, a: Attributes, b: Attributes) -> float:
    ends = [_coordinates(network, node) for node in (a, b)]
    if ends[0] is None or ends[1] is None:
        return float(network.missing_latency_s)
    return network.latency_s_per_km * great_circle_km(ends[0], ends[1])


def _coordinates(network: GraphNetwork, node: Attributes) -> tuple[float, float] | None:
    """(latitude, longitude) in degrees, also from keys such as lat and lon."""
    stated = [
        [value for key, value in node.items() if name.fullmatch(key.lower()) and value != ""]
        for name in (_LATITUDE, _LONGITUDE)
    ]
    if not stated[0] and not stated[1]:
        return None
    if not stated[0] or not stated[1]:
        missing = "Longitude" if stated[0] else "Latitude"
        raise InputError(f"{KEY}: {clean(network.file)}: node {_label(node)} has no {missing} beside the other")
    latitude, longitude = (number(values[0]) for values in stated)
    one_each = len(stated[0]) == len(stated[1]) == 1
    if latitude is None or longitude is None or not (one_each and abs(latitude) <= 90 and abs(longitude) <= 360):
        where = f"{KEY}: {clean(network.file)}: node {_label(node)}"
        got = tuple(values[0] if len(values) == 1 else values for values in stated)
        raise InputError(f"{where}: Latitude and Longitude must be degrees, got {shown(got)}")
    return latitude, longitude


def great_circle_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Distance of two (latitude, longitude) in degrees on a sphere of 6371 km (haversine)."""
    lat_a, lon_a, lat_b, lon_b = map(math.radians, (*a, *b))
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def _label(node: Attributes) -> str:
    return shown(node.get("label", node["id"]))


def _stations(nodes: list[Attributes]) -> list[int]:
    """Places of the nodes that are no switch."""
    return [i for i, node in enumerate(nodes) if _flag(node) in ("0", "false")]


def _flag(node: Attributes) -> str:
    return str(node.get("hyperedge", 0)).lower()


def _read(network: GraphNetwork) -> tuple[NetworkFile, str]:
    """The file and the sha256 of its content."""
    content = read_bytes(network.file, KEY, "topologies", MAX_GML_BYTES)
    name = f"{KEY}: {clean(network.file)}"
    try:
        file = parse_network(content)
    except NetworkFileError as error:
        kind = "graphml" if content.lstrip().startswith(b"<") else "gml"
        raise InputError(f"{name}: not readable as {kind}: {clean(error)}") from None
    if not 1 <= len(file.nodes) <= MAX_SERVERS or not _stations(file.nodes):
        n = len(_stations(file.nodes))
        raise InputError(
            f"{name}: must have 1 to {MAX_SERVERS} nodes with a station, got {len(file.nodes)} nodes, {n} stations"
        )
    for node in file.nodes:
        if _flag(node) not in ("0", "1", "false", "true"):
            raise InputError(f"{name}: node {_label(node)}: hyperedge must be 0 or 1, got {shown(node['hyperedge'])}")
    return file, content_sha256(content)
