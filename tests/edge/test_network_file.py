"""Network files as people have them: what stands in gml and graphml is read, or refused by name and line."""

import pytest

from ddrl_sched.edge.network_file import NetworkFileError, parse_network

NODES = 'node [ id 0 label "a" ] node [ id 1 label "b" ]'
LINK = "edge [ source 0 target 1 LinkSpeedRaw 1e9 ]"
PLAIN = f"graph [ {NODES} {LINK} ]"


def gml(text):
    return parse_network(text if isinstance(text, bytes) else text.encode())


def graphml(keys="", inside="", default="undirected", encoding="utf-8"):
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
        f'<key id="d0" for="node" attr.name="label" attr.type="string"/>{keys}'
        f'<graph edgedefault="{default}"><node id="a"><data key="d0">Zürich</data></node><node id="b"/>'
        f"{inside}</graph></graphml>"
    )
    return text.encode(encoding)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        'Creator "export of graph [v2]"\n' + PLAIN,
        "# a comment: graph [ node [ id 7 ]\n" + PLAIN,
        "graph [ # of [ two ] nodes\n" + PLAIN.removeprefix("graph ["),
        "\ufeff" + PLAIN,
        PLAIN.replace(" ", "\r\n"),
        "graph\n[\n" + PLAIN.removeprefix("graph ["),
        PLAIN.encode("utf-16"),
        "Version 1 graph [ multigraph 1 directed 0 " + PLAIN.removeprefix("graph ["),
    ],
)
def test_the_same_network_in_many_dresses(text):
    assert gml(text) == gml(PLAIN)
    assert gml(PLAIN).nodes == [{"id": 0, "label": "a"}, {"id": 1, "label": "b"}]
    assert gml(PLAIN).links == [(0, 1, {"LinkSpeedRaw": 1e9})]


def test_texts_hold_brackets_comments_lines_and_entities():
    (node,) = gml('graph [ node [ id 0 label "x # ] [\n&quot;y&#233;&quot;" graphics [ x 1.5 fill [ r 1 ] ] ] ]').nodes
    assert node == {"id": 0, "label": 'x # ] [\n"yé"', "graphics": [("x", 1.5), ("fill", [("r", 1)])]}


def test_latin_1_texts():
    assert gml('graph [ node [ id 0 label "Zürich" ] ]'.encode("latin-1")).nodes[0]["label"] == "Zürich"


def test_parallel_links_and_loops_are_kept_and_repeated_keys_are_seen():
    links = gml(f"graph [ {NODES} {LINK} {LINK} edge [ source 1 target 1 width 1 width 2 ] ]").links
    assert links == [(0, 1, {"LinkSpeedRaw": 1e9})] * 2 + [(1, 1, {"width": [1, 2]})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold one block"),
        ("hello", "line 1: the file ends within a block"),
        ("graph 3", "must hold one block"),
        (f"{PLAIN}\n{PLAIN}", "must hold one block .* got 2"),
        ("graph [\nnode [ id 0 ]\n", "line 3: the file ends within a block"),
        ("graph [\nnode [ id 0 ] ]\n]", "line 3: expected a key"),
        ('graph [\nnode [ id 0 label "a ] ]', 'line 2: a text has no end: " is missing'),
        ("graph [\nnode [ id ] ]", "line 2: expected a value of id"),
        ("graph [ a 0x10 ]", "'0x10' is no number"),
        ("graph [ a " + "9" * 5000 + " ]", "is no number"),
        ("a [ " * 5000, "expected a value of a"),
        ("graph [ node [ id 0 ]\n\0 ]", r"line 2: unexpected '\\x00'"),
        ("graph [ node 3 ]", "must be a block"),
        ('graph [ node [ label "a" ] ]', "node 1 of the file has no id"),
        ("graph [ node [ id 0 id 1 ] ]", "node 1 of the file has no id"),
        ("graph [ node [ id 0 ] node [ id 0 ] ]", "two nodes have the id 0"),
        (f"graph [ {NODES} edge [ source 0 target 7 ] ]", r"link 1 of the file \(0 - 7\): there is no node 7"),
        (f"graph [ {NODES} edge [ source 0 ] ]", "there is no node None"),
        (f"graph [ directed 2 {NODES} ]", "directed must be 0 or 1, got 2"),
        (f"graph [ directed 1 directed 0 {NODES} ]", "directed must be 0 or 1"),
    ],
)
def test_faults_of_gml(text, message):
    with pytest.raises(NetworkFileError, match=message):
        gml(text)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16"])
def test_graphml_states_types_and_defaults(encoding):
    keys = (
        '<key id="d1" for="edge" attr.name="LinkSpeedRaw" attr.type="double"><default>1e6</default></key>'
        '<key id="d2" for="node" attr.name="hyperedge" attr.type="boolean"/>'
        '<key id="d3" for="edge" attr.name="key" attr.type="int"/>'
    )
    inside = (
        '<node id="c"><data key="d2">true</data></node><edge source="a" target="c"/>'
        '<edge source="c" target="b"><data key="d1">2.5e9</data><data key="d3">1</data></edge>'
    )
    read = parse_network(graphml(keys, inside, encoding=encoding))
    assert read.nodes == [{"id": "a", "label": "Zürich"}, {"id": "b"}, {"id": "c", "hyperedge": 1}]
    assert read.links == [(0, 2, {"LinkSpeedRaw": 1e6}), (2, 1, {"LinkSpeedRaw": 2.5e9, "key": 1})]
    assert not read.directed


def test_labels_drawn_by_yed_are_labels():
    keys = '<key id="d1" for="edge" yfiles.type="edgegraphics"/>'.replace("yfiles.type", "type")
    drawn = '<data key="d1"><y:Line xmlns:y="y"><y:EdgeLabel> 10 Gbps <y:L/></y:EdgeLabel></y:Line></data>'
    read = parse_network(graphml(keys, f'<edge source="a" target="b">{drawn}</edge>', "directed"))
    assert read.links == [(0, 1, {"label": "10 Gbps"})]
    assert read.directed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "b">]><graphml>&a;</graphml>', "DOCTYPE"),
        ("<!DOCTYPE x><graphml/>".encode("utf-16"), "DOCTYPE"),
        (b"<svg/>", "must be <graphml> with one <graph>, got <svg> with 0"),
        (b"<graphml>", "no element found"),
        (graphml(default="both"), "edgedefault must be directed or undirected, got 'both'"),
        (graphml(inside='<node id="a"/>'), "two nodes have the id 'a'"),
        (graphml(inside='<edge source="a" target="z"/>'), "there is no node 'z'"),
        (
            graphml(inside='<edge source="a" target="b" directed="true"/>'),
            "links with a direction beside links without",
        ),
        (graphml(inside='<node id="c"><graph edgedefault="directed"/></node>'), "graphs within nodes"),
        (graphml(inside="<hyperedge/>"), "hyperedges"),
        (graphml(inside='<node id="c"><data key="d9">1</data></node>'), "data of 'd9', which no <key> declares"),
        (
            graphml('<key id="d1" for="node" attr.name="n" attr.type="int"><default>x</default></key>'),
            "n must be of type",
        ),
        (graphml().replace(b'"utf-8"', b'"nonsense"'), "unknown encoding"),
    ],
)
def test_faults_of_graphml(content, message):
    with pytest.raises(NetworkFileError, match=message):
        parse_network(content)
