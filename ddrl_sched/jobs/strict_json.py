"""JSON as run folders hold it: small, not deep, numbers that every reader has. Written by the rules it is read by."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Never

from ddrl_sched.config import InputError, shown

MAX_JSON_BYTES = 1_000_000
MAX_JSON_DEPTH = 20
ROOM = 100_000  # bytes of job.json for what is neither settings nor overrides
LARGEST = 2**63
_SHOWN = 200  # characters of a wrong number that a message repeats


def json_text(value: object, name: str) -> bytes:
    """Plain data as JSON that `parse_json` reads. ValueError, naming the file `name`, where it would not."""
    try:
        data = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} cannot be JSON: {error}") from None
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{name} would be larger than {MAX_JSON_BYTES:,} bytes")
    parse_json(data, name)
    return data


def check_plain(settings: Mapping[str, object], overrides: Sequence[str]) -> None:
    """InputError, naming the key, for settings (or overrides) that job.json cannot hold so that it can be read."""
    for place, text in (*_faults(settings, "", 2), *_faults(overrides, "overrides", 2)):
        raise InputError(f"{place}: {text}")
    sizes = {key: _size(value) for key, value in {**settings, "overrides": overrides}.items()}
    if sum(sizes.values()) > MAX_JSON_BYTES - ROOM:
        largest = max(sizes, key=lambda key: sizes[key])
        text = f"a run folder keeps {MAX_JSON_BYTES - ROOM:,} bytes of settings, this alone takes {sizes[largest]:,}"
        raise InputError(f"{largest}: {text}")


def parse_json(data: bytes, name: str) -> Any:
    """Strict JSON: UTF-8, finite numbers, integers of 64 bits, no key twice, at most MAX_JSON_DEPTH levels.

    ValueError names the file `name`.
    """
    hooks: Any = {"parse_constant": _refuse_number, "parse_float": _finite, "parse_int": _whole}
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique_keys, **hooks)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not strict JSON: {error}") from None
    return value


def _faults(value: object, place: str, level: int) -> Iterator[tuple[str, str]]:
    """(key, what is wrong) of plain data at a level of job.json."""
    if level > MAX_JSON_DEPTH:
        yield place, f"is nested too deep: job.json holds {MAX_JSON_DEPTH} levels"
    elif isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            yield place, "a key is not text"
        for key, inner in value.items():
            yield from _faults(inner, f"{place}.{shown(key)[1:-1]}".lstrip("."), level + 1)
            if isinstance(key, str) and not _is_text(key):
                yield place, f"the key {shown(key)} is not UTF-8 text"
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _faults(inner, f"{place}[{i}]", level + 1)
    elif isinstance(value, str) and not _is_text(value):
        yield place, f"is not UTF-8 text, got {shown(value)}"
    elif isinstance(value, int) and not -LARGEST <= value < LARGEST:
        sign = f"< {LARGEST}" if value > 0 else f">= {-LARGEST}"
        yield place, f"must be {sign}, got {_digits(value)}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, f"must be a finite number, got {value}"
    elif value is not None and not isinstance(value, str | int | float):
        yield place, f"{type(value).__name__} is not plain data"


def _size(value: object) -> int:
    """Bytes that it takes in job.json, or some more."""
    return len(json.dumps(value, indent=3, ensure_ascii=False).encode())


def _digits(value: int) -> str:
    """A whole number of any length; Python refuses to write those of some thousand digits."""
    return str(value) if abs(value) < 10**60 else f"one of {value.bit_length()} bits"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_number(text: str) -> Never:
    raise ValueError(f"{text[:_SHOWN]} is not a finite number of 64 bits")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _whole(text: str) -> int:
    return int(text) if len(text) < 21 and -(2**63) <= int(text) < 2**63 else _refuse_number(text)


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        inner = [v for v in level if isinstance(v, dict | list)]
        level = [v for group in inner for v in (group.values() if isinstance(group, dict) else group)]
    if level:
        raise ValueError(f"more than {MAX_JSON_DEPTH} levels")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError("a key stands twice")
    return keys
