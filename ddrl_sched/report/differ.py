"""What sets two jobs apart, told by the keys of their settings. These may be a stranger's: all is bounded."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from ddrl_sched.config import clean
from ddrl_sched.run import records

MOST_LEAVES = 1000  # of one job's settings that are compared; real ones have some hundred
MOST_TOLD = 4  # keys of a note

Leaves = Mapping[str, str]  # dotted key -> hash of its value; a list is one value


def leaves(settings: Any) -> Leaves:
    """The settings of a job in a form to be compared. ValueError for what records.canonical_hash refuses."""
    return dict(islice(_leaves(settings, ""), MOST_LEAVES))


def _leaves(value: Any, above: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _leaves(value[key], f"{above}.{key}".removeprefix(".")[: records.MAX_NAME])
    else:
        yield above, records.canonical_hash([value])[:16]


def differing(jobs: Collection[Leaves], below: str = "") -> str:
    """The keys (beginning with `below`) at which jobs differ: "seed, train.episodes, and 2 more"; or ""."""
    every = sorted({key for job in jobs for key in job if key.startswith(below)})
    keys = [key for key in every if len({job.get(key) for job in jobs}) > 1]
    more = f", and {len(keys) - MOST_TOLD} more" if len(keys) > MOST_TOLD else ""
    return clean(", ".join(keys[:MOST_TOLD]) + more)
