"""Files of networks, gml or graphml, as plain nodes and links: nothing that a file states is lost or merged here."""

import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias
from xml.etree import ElementTree
from xml.parsers import expat

Attributes = dict[str, object]  # a key that a node or link states twice holds the list of its values
Value = int | float | str
Block: TypeAlias = "list[tuple[str, Value | Block]]"  # of gml: keys with a number, a text or a Block

MAX_DEPTH = 100  # blocks of gml within blocks


class NetworkFileError(ValueError):
    """What is wrong with the text of a file, and in which line."""


@dataclass(frozen=True)
class NetworkFile:
    """Nodes (each with its `id`) in the order of the file, links as (from, to, attributes) by place in that order."""

    directed: bool  # a link goes from its source to its target only
    nodes: list[Attributes]
    links: list[tuple[int, int, Attributes]]


def parse_network(content: bytes) -> NetworkFile:
    """The network of a gml or graphml file; graphml begins with "<". Raises NetworkFileError."""
    is_xml = content.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"<")
    return _graphml(content) if is_xml else _gml(_text(content))


def _text(content: bytes) -> str:
    """Text of gml, which has no declared encoding: utf-8 (utf-16 with its mark), else Latin-1."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _network(directed: bool, nodes: list[Attributes], links: list[tuple[object, object, Attributes]]) -> NetworkFile:
    place: dict[object, int] = {}
    for i, node in enumerate(nodes):
        if not isinstance(node.get("id"), int | str):
            raise NetworkFileError(f"node {i + 1} of the file has no id (one number or text)")
        if place.setdefault(node["id"], i) != i:
            raise NetworkFileError(f"two nodes have the id {node['id']!r}")
    for i, (source, target, _) in enumerate(links):
        for end in (source, target):
            if not isinstance(end, int | str) or end not in place:
                raise NetworkFileError(f"link {i + 1} of the file ({source!r} - {target!r}): there is no node {end!r}")
    return NetworkFile(directed, nodes, [(place[a], place[b], data) for a, b, data in links])


# ---- gml -------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<skip> \s+ | \#[^\r\n]* ) | "(?P<text> [^"]* )" | (?P<open> \[ ) | (?P<close> \] )
      | (?P<word> [A-Za-z_]\w* ) | (?P<number> [-+.0-9][-+.\w]* )""",
    re.VERBOSE | re.ASCII,
)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def _gml(text: str) -> NetworkFile:
    graphs = [value for key, value in _gml_blocks(text) if key == "graph"]
    if len(graphs) != 1 or not isinstance(graphs[0], list):
        raise NetworkFileError(f"must hold one block 'graph [ ... ]', got {len(graphs)}")
    graph: Block = graphs[0]
    directed = _attributes(graph).get("directed", 0)
    if directed not in (0, 1):
        raise NetworkFileError(f"directed must be 0 or 1, got {directed!r}")
    nodes = [_attributes(value) for key, value in graph if key == "node"]
    links = [_attributes(value) for key, value in graph if key == "edge"]
    return _network(directed == 1, nodes, [(e.pop("source", None), e.pop("target", None), e) for e in links])


def _gml_blocks(text: str) -> Block:
    """Keys and values of the whole file. A block is a list, so that keys may repeat."""
    stack: list[Block] = [[]]
    key, at = "", 0
    for kind, value, at in _tokens(text):
        if not key and kind == "close" and len(stack) > 1:
            stack.pop()
        elif not key and kind == "word":
            key = str(value)
        elif key and kind == "open" and len(stack) < MAX_DEPTH:
            inner: Block = []
            stack[-1].append((key, inner))
            stack.append(inner)
            key = ""
        elif key and kind in ("text", "number"):
            stack[-1].append((key, value))
            key = ""
        else:
            _fail(text, at, f"expected a value of {key}" if key else "expected a key")
    if key or len(stack) > 1:
        _fail(text, len(text), "the file ends within a block")
    return stack[0]


def _tokens(text: str) -> Iterator[tuple[str, Value, int]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            _fail(text, at, 'a text has no end: " is missing' if text[at] == '"' else f"unexpected {text[at]!r}")
        kind, piece = str(found.lastgroup), found[str(found.lastgroup)]
        if kind == "text":
            yield kind, html.unescape(piece), at
        elif kind == "number" or piece in ("INF", "NAN"):
            yield "number", _gml_number(text, piece, at), at
        elif kind != "skip":
            yield kind, piece, at
        at = found.end()


def _gml_number(text: str, piece: str, at: int) -> int | float:
    if piece.lstrip("+-") in ("INF", "NAN"):
        return float(piece)
    if len(piece) > 300 or not _NUMBER.fullmatch(piece):
        _fail(text, at, f"{piece[:40]!r} is no number")
    return int(piece) if piece.lstrip("+-").isdigit() else float(piece)


def _fail(text: str, at: int, fault: str) -> NoReturn:
    raise NetworkFileError(f"line {text.count(chr(10), 0, at) + 1}: {fault}")


def _attributes(block: object) -> Attributes:
    if not isinstance(block, list):
        raise NetworkFileError(f"a node or edge must be a block '[ ... ]', got {block!r}")
    values: dict[str, list[object]] = {}
    for key, value in block:
        values.setdefault(key, []).append(value)
    return {key: several[0] if len(several) == 1 else several for key, several in values.items()}


# ---- graphml ---------------------------------------------------------------------------------------------------------

Keys = dict[str | None, tuple[str, str, str | None]]  # name, type and default of the keys of graphml, by id


def _xml(content: bytes) -> ElementTree.Element:
    """The root of a document without a document type, so that no entity can be defined that grows or reads files."""
    parser, tree = expat.ParserCreate(), ElementTree.TreeBuilder()
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise NetworkFileError(str(error)) from None
    return tree.close()


def _refuse_document_type(*_: object) -> NoReturn:
    raise NetworkFileError("a document type (DOCTYPE), which may define entities, is not read")


def _graphml(content: bytes) -> NetworkFile:
    root = _xml(content)
    graphs = _children(root, "graph")
    if _tag(root) != "graphml" or len(graphs) != 1:
        raise NetworkFileError(f"must be <graphml> with one <graph>, got <{_tag(root)}> with {len(graphs)}")
    graph = graphs[0]
    directed = graph.get("edgedefault")
    if directed not in ("directed", "undirected"):
        raise NetworkFileError(f"edgedefault must be directed or undirected, got {directed!r}")
    if _children(graph, "hyperedge") or any(_children(inner, "graph") for inner in graph):
        raise NetworkFileError("hyperedges and graphs within nodes or links are not read")
    keys = _keys(root, "node")
    nodes = [_data(node, keys) | {"id": node.get("id")} for node in _children(graph, "node")]
    keys = _keys(root, "edge")
    links = [_link(edge, keys, directed == "directed") for edge in _children(graph, "edge")]
    return _network(directed == "directed", nodes, links)


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition(":")[2]


def _children(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    return [child for child in element if _tag(child) == tag]


def _link(edge: ElementTree.Element, keys: Keys, directed: bool) -> tuple[object, object, Attributes]:
    own = edge.get("directed", str(directed).lower())
    if own not in (("true", "1") if directed else ("false", "0")):
        raise NetworkFileError("links with a direction beside links without one are not read")
    return edge.get("source"), edge.get("target"), _data(edge, keys)


def _keys(root: ElementTree.Element, kind: str) -> Keys:
    keys: Keys = {}
    for key in _children(root, "key"):
        if key.get("for", "all") in (kind, "all"):
            default = next((child.text for child in _children(key, "default")), None)
            name = key.get("attr.name") or str(key.get("id"))
            keys[key.get("id")] = (name, key.get("attr.type", "string"), default)
    return keys


def _data(element: ElementTree.Element, keys: Keys) -> Attributes:
    """What a node or link states, and the defaults of the keys that it leaves out. An empty text is no statement."""
    stated: dict[str, list[object]] = {}
    for data in _children(element, "data"):
        if data.get("key") not in keys:
            raise NetworkFileError(f"a {_tag(element)} has data of {data.get('key')!r}, which no <key> declares")
        name, form, _ = keys[data.get("key")]
        text = (data.text or "").strip()
        stated.setdefault(name, []).extend([_value(text, form, name)] if text else [])
        for label in data.iter():  # drawn by yEd
            if _tag(label) == "EdgeLabel" and (label.text or "").strip():
                stated.setdefault("label", []).append(str(label.text).strip())
    for name, form, default in keys.values():
        if name not in stated and default is not None and default.strip():
            stated[name] = [_value(default.strip(), form, name)]
    return {name: values[0] if len(values) == 1 else values for name, values in stated.items() if values}


def _value(text: str, form: str, name: str) -> object:
    if form == "string":
        return text
    if form == "boolean" and text in ("true", "false", "1", "0"):
        return int(text in ("true", "1"))
    if form in ("int", "long", "float", "double") and _NUMBER.fullmatch(text) and len(text) <= 300:
        number = float(text)
        return int(number) if form in ("int", "long") and math.isfinite(number) else number
    raise NetworkFileError(f"{name} must be of type {form}, got {text[:40]!r}")
