"""Compare the settings of jobs key by key. They may come from a stranger, so sizes are bounded.

A truncated text ends in "..." and a hash of the whole text: two truncated texts are equal only if the whole ones are.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice

from ddrl_sched.config import MAX_SHOWN, clean
from ddrl_sched.run.settings import MAX_NAME

MAX_KEYS = 1000  # of one job that are compared; real jobs have some hundred
MAX_NAMED_KEYS = 4  # named in a note
MAX_LIST_ITEMS = 3  # shown of a long list
MAX_REMEMBERED = 20_000  # characters of a group of settings; jobs of one sweep have most groups in common

FlatSettings = Mapping[str, str]  # dotted key -> text of its value, equal for equal values; a list is one value


def flatten(settings: object) -> FlatSettings:
    """Flatten the settings of a job (parsed JSON) to dotted keys and comparable texts."""
    if not isinstance(settings, dict) or not settings:
        return dict(_flat_items(settings, ""))
    groups = (_flat_group(json.dumps({key: settings[key]})) for key in sorted(settings))
    return dict(islice(chain.from_iterable(groups), MAX_KEYS))


def _flat_group(text: str) -> Iterable[tuple[str, str]]:
    """Keys and texts of a group of settings, {key: group} as JSON."""
    return _remembered(text) if len(text) <= MAX_REMEMBERED else _flat_items(json.loads(text), "")


@lru_cache(maxsize=1024)
def _remembered(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(_flat_items(json.loads(text), ""))


def _flat_items(value: object, above: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _flat_items(value[key], truncate(f"{above}.{key}".removeprefix("."), MAX_NAME))
    else:
        yield above, value_text(value)


def value_text(value: object) -> str:
    """A value of parsed JSON as a few words: 4 of 4 and 4.0, "[5,6,7,...](60; 0a1b2c3d)" of a long list."""
    text = _text(value)
    if not isinstance(value, list) or len(text) <= MAX_SHOWN:
        return truncate(text, MAX_SHOWN)
    first = truncate(",".join(map(_text, value[:MAX_LIST_ITEMS])), MAX_SHOWN // 2)
    return f"[{first},...]({len(value)}; {_digest(text)})"


def truncate(text: str, most: int) -> str:
    """The text, or its first characters and a hash, in at most `most` characters."""
    return text if len(text) <= most else f"{text[: most - 12]}...#{_digest(text)}"


def diff_text(jobs: Collection[FlatSettings], prefix: str = "") -> str:
    """Name the keys (with this prefix) in which jobs differ: "seed, train.episodes, and 2 more"; "" if none."""
    keys = diff_keys(jobs, prefix)
    more = f", and {len(keys) - MAX_NAMED_KEYS} more" if len(keys) > MAX_NAMED_KEYS else ""
    return clean(", ".join(keys[:MAX_NAMED_KEYS]) + more)


def diff_keys(jobs: Collection[FlatSettings], prefix: str = "") -> list[str]:
    """The keys (with this prefix) in which jobs differ, sorted."""
    all_keys = sorted({key for job in jobs for key in job if key.startswith(prefix)})
    return [key for key in all_keys if len({job.get(key) for job in jobs}) > 1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:8]


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)
    if isinstance(value, str):
        word = unicodedata.normalize("NFC", value)
        return word if re.match(r"[^\W\d]|[./~]", word) and word not in ("true", "false", "null") else json.dumps(word)
    return json.dumps(value)
