"""What sets two jobs apart, told by the keys of their settings. These may be a stranger's: all is bounded.

A text that is cut off ends in "..." and a hash of all of it, so that two of them agree only where the whole ones do.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from ddrl_sched.config import MAX_SHOWN, clean
from ddrl_sched.run.settings import MAX_NAME

MOST_LEAVES = 1000  # of one job's settings that are compared; real ones have some hundred
MOST_TOLD = 4  # keys of a note
MOST_ITEMS = 3  # of a long list

Leaves = Mapping[str, str]  # dotted key -> text of its value, equal for equal values; a list is one value


def leaves(settings: object) -> Leaves:
    """The settings of a job (parsed JSON) in a form to be compared and shown."""
    return dict(islice(_leaves(settings, ""), MOST_LEAVES))


def _leaves(value: object, above: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _leaves(value[key], shortened(f"{above}.{key}".removeprefix("."), MAX_NAME))
    else:
        yield above, value_text(value)


def value_text(value: object) -> str:
    """A value of parsed JSON as a few words: 4 of 4 and 4.0, "[5,6,7,...](60; 0a1b2c3d)" of a long list."""
    text = _text(value)
    if not isinstance(value, list) or len(text) <= MAX_SHOWN:
        return shortened(text, MAX_SHOWN)
    first = shortened(",".join(map(_text, value[:MOST_ITEMS])), MAX_SHOWN // 2)
    return f"[{first},...]({len(value)}; {_digest(text)})"


def shortened(text: str, most: int) -> str:
    """At most `most` characters of a text; what is cut off is marked."""
    return text if len(text) <= most else f"{text[: most - 12]}...#{_digest(text)}"


def differing(jobs: Collection[Leaves], below: str = "") -> str:
    """The keys (beginning with `below`) at which jobs differ: "seed, train.episodes, and 2 more"; or ""."""
    keys = differing_keys(jobs, below)
    more = f", and {len(keys) - MOST_TOLD} more" if len(keys) > MOST_TOLD else ""
    return clean(", ".join(keys[:MOST_TOLD]) + more)


def differing_keys(jobs: Collection[Leaves], below: str = "") -> list[str]:
    """The keys (beginning with `below`) at which jobs differ, sorted."""
    every = sorted({key for job in jobs for key in job if key.startswith(below)})
    return [key for key in every if len({job.get(key) for job in jobs}) > 1]


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
