"""Checks a yaml file before it is used: readable, a group of keys, nothing that yaml 1.1 reads as something else.

It walks the parser's events, so nothing is built: a file of 300 bytes whose aliases stand for billions of values takes
no time.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from ddrl_sched.config import InputError, clean, shown

MAX_DEPTH = 50  # groups inside groups
MAX_VALUES = 1_000_000  # of a file, every alias written out
TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
OCTAL = re.compile(r"[-+]?0[0-7_]+")
BASE_60 = re.compile(r"[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*")
SPACED = re.compile(  # a number where it has a "_"
    r"[-+]?([1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)"
)
THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}(_[0-9]{3})+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
SWITCHES = re.compile("yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check(file: Path) -> None:
    """InputError naming file and line of the first thing in a yaml file that cannot be used as it stands."""
    text = read(file)
    try:
        _check(file, yaml.parse(text, Loader=PARSER))
    except yaml.YAMLError as error:
        raise unreadable(file, error) from None


def read(file: Path) -> str:
    """Text of a file. InputError naming it, and the line of bytes that are not UTF-8."""
    if not file.is_file():
        what = "a folder" if file.is_dir() else "a link to nothing" if file.is_symlink() else "no plain file"
        raise InputError(f"{place(file)}: a yaml file expected, this is {what}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{place(file)}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{place(file, line)}: not UTF-8 text (byte 0x{data[error.start]:02x})") from None


def unreadable(file: Path, error: Exception) -> InputError:
    """What a reader of yaml said, with file and line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
    else:
        words = ": ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
    return InputError(f"{place(file, mark.line + 1 if mark else None)}: cannot read yaml: {clean(words)}")


def place(file: Path, line: int | None = None) -> str:
    """ "own/env/x.yaml, line 3": the path as seen from the current folder where it lies below that."""
    here = os.path.relpath(file)
    name = clean(file if here.startswith("..") else here)
    return name if line is None else f"{name}, line {line}"


def _check(file: Path, events: Iterator[yaml.Event]) -> None:
    """InputError for the first event that is no good."""
    sizes: dict[str, int] = {}  # values below each anchor, aliases written out
    groups: list[tuple[str | None, int]] = [(None, 0)]  # those that are open: anchor, values so far
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent | yaml.AliasEvent) and (
            wrong := _fault(event, len(groups), sizes)
        ):
            raise InputError(f"{place(file, event.start_mark.line + 1)}: {wrong}")
        if isinstance(event, yaml.CollectionStartEvent):
            groups.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            _close(groups, sizes, *groups.pop())
        elif isinstance(event, yaml.NodeEvent):  # a scalar or an alias
            size = sizes[event.anchor] if isinstance(event, yaml.AliasEvent) else 1
            _close(groups, sizes, None if isinstance(event, yaml.AliasEvent) else event.anchor, size)
        if groups[-1][1] > MAX_VALUES:
            raise InputError(f"{place(file)}: more than {MAX_VALUES:,} values, aliases written out")
    if groups[-1][1] <= 1:
        raise InputError(f"{place(file)}: no keys in it")


def _close(groups: list[tuple[str | None, int]], sizes: dict[str, int], anchor: str | None, size: int) -> None:
    """Count a finished value of this size in the group around it."""
    if anchor is not None:
        sizes[anchor] = size
    above, before = groups[-1]
    groups[-1] = (above, before + size)


def _fault(event: yaml.NodeEvent, depth: int, sizes: dict[str, int]) -> str:
    """What is wrong with a value, or ""."""
    if depth == 1 and not isinstance(event, yaml.MappingStartEvent):
        got = "list" if isinstance(event, yaml.SequenceStartEvent) else "single value"
        return f"a group of keys (KEY: VALUE) expected, got a {got}"
    if depth > MAX_DEPTH:
        return f"more than {MAX_DEPTH} groups inside groups"
    if isinstance(event, yaml.AliasEvent):
        return "" if event.anchor in sizes else f"*{clean(event.anchor)} refers to nothing before it, or to itself"
    if event.tag not in (None, "!", *TAGS):
        return f"a tag, {shown(event.tag)}, which is not allowed: plain values only"
    if isinstance(event, yaml.ScalarEvent) and (event.implicit[0] or event.tag in TAGS):
        return misread(event.value) if event.tag != "tag:yaml.org,2002:str" else ""
    return ""


def misread(word: str) -> str:
    """What yaml 1.1 makes of a plain word that its writer hardly meant, or ""."""
    quoted = f"'{clean(word)}' in quotes for the text"
    if OCTAL.fullmatch(word):
        plain = word.replace("_", "").lstrip("+-0") or "0"
        plain = f"-{plain}" if word.startswith("-") else plain
        return f"{word} is an octal number in yaml ({int(word.replace('_', ''), 8)}): write {plain}, or {quoted}"
    if BASE_60.fullmatch(word):
        return f"{word} is a number to base 60 in yaml: write it in one unit, or {quoted}"
    if SWITCHES.fullmatch(word):
        meant = "true" if word.lower() in ("yes", "on") else "false"
        return f"{word} is {meant} in yaml: write {meant}, or {quoted}"
    if "_" in word and SPACED.fullmatch(word) and not THOUSANDS.fullmatch(word):
        return f"{word} is {word.replace('_', '')} in yaml: write the number without _, or {quoted}"
    return ""


def check_defaults(file: Path, defaults: object) -> None:
    """InputError for `defaults` of another form than Hydra's: a list of names of options, and of GROUP: NAME."""
    if isinstance(defaults, list) and all(map(_is_default, defaults)):
        return
    line = next((n for n, text in enumerate(read(file).splitlines(), 1) if text.startswith("defaults")), None)
    raise InputError(f"{place(file, line)}: defaults: a list of names, or of GROUP: NAME, expected")


def _is_default(entry: object) -> bool:
    if not isinstance(entry, dict):
        return isinstance(entry, str)
    names = [name for value in entry.values() for name in (value if isinstance(value, list) else [value])]
    return len(entry) == 1 and all(isinstance(name, str | None) for name in [*entry, *names])
