"""What counts of a job's settings: input files (a trace, a graph) by their content, wherever they lie.

Job ids, hashes of worlds and trainings, and the groups of a report are all made from here.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from ddrl_sched.config import PACKAGE
from ddrl_sched.jobs import records
from ddrl_sched.jobs.records import INPUT_KEYS, NETWORK_FILE, TRACE_FILE

Inputs = Mapping[str, str]  # key of INPUT_KEYS -> hash of what its file says; keys without a file are left out
_NOTHING = hashlib.sha256(b"").hexdigest()


def value_at(plain: Any, key: str) -> Any:
    """The value at a dotted key of groups and places in lists, None where there is none."""
    for part in key.split("."):
        if isinstance(plain, list):
            plain = plain[int(part)] if part.isdecimal() and len(part) < 9 and int(part) < len(plain) else None
        else:
            plain = plain.get(part) if isinstance(plain, Mapping) else None
    return plain


def input_files(settings: Any) -> dict[str, str]:
    """The files outside the package that a job's settings name: {dotted key: path}."""
    found = {key: value_at(settings, key) for key in INPUT_KEYS}
    return {key: path for key, path in found.items() if isinstance(path, str) and path and not _of_package(path)}


def _of_package(path: str) -> bool:
    return path.startswith(PACKAGE)


def content_hash(inputs: Inputs) -> str:
    """One hash of all input files."""
    return records.canonical_hash([inputs.get(TRACE_FILE, ""), inputs.get(NETWORK_FILE, _NOTHING)])


def by_content(settings: Mapping[str, Any], keys: Collection[str] = INPUT_KEYS) -> dict[str, Any]:
    """Settings of a job without the places of its input files, for which a hash of their content stands."""
    for key in keys:
        settings = _without(settings, key.split("."))
    return dict(settings)


def _without(plain: Any, path: list[str]) -> Any:
    first, *rest = path
    if not isinstance(plain, Mapping) or first not in plain:
        return plain
    if rest:
        return {**plain, first: _without(plain[first], rest)}
    return {key: value for key, value in plain.items() if key != first}


def scenario_hash(settings: Mapping[str, Any], inputs: Inputs) -> str:
    """Hash of what decides the tasks and their delays: environment, workload, load, rule, content of files."""
    known = by_content(settings)
    parts = [known["env"], known["workload"], known["evaluate"]["seed"], content_hash(inputs)]
    return records.canonical_hash(parts)[:16]


def training_settings(settings: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """What a training depends on, but for how many seeds learn: with train.loads not on workload.load.

    An input file whose content is not in `inputs` counts by its path. The settings may be a stranger's.
    """
    known = by_content(settings, inputs)
    if value_at(known, "train.loads"):
        known = _without(known, ["workload", "load"])
    groups = {key: known.get(key) for key in ("seed", "env", "workload", "scheduler", "train")}
    return {**groups, "evaluate.seed": value_at(known, "evaluate.seed"), "inputs": dict(inputs)}


def training_hash(settings: Mapping[str, Any], inputs: Inputs) -> str:
    """Hash of what a training and its seeds depend on."""
    return records.canonical_hash([training_settings(settings, inputs), settings.get("seeds")])
