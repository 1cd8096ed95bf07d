"""Input files of a job (a trace, a graph) count by their content, wherever they lie.

Job ids, hashes of scenarios and trainings, and the groups of a report are all made from here.
"""

import hashlib
from collections.abc import Collection, Mapping

from ddrl_sched.config import PACKAGE
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.input_file import MAX_GML_BYTES, MAX_TRACE_BYTES, content_sha256, read_bytes
from ddrl_sched.edge.workload_settings import WorkloadSettings
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.provenance import without_claims

TRACE_FILE, NETWORK_FILE = INPUT_KEYS = ("workload.path", "env.network.file")  # settings that name a file

Inputs = Mapping[str, str]  # key of INPUT_KEYS -> hash of what its file says; keys without a file are left out
_NOTHING = hashlib.sha256(b"").hexdigest()


def value_at(plain: object, key: str) -> object:
    """The value at a dotted key of groups and places in lists, None where there is none."""
    for part in key.split("."):
        if isinstance(plain, list):
            plain = plain[int(part)] if part.isdecimal() and len(part) < 9 and int(part) < len(plain) else None
        else:
            plain = plain.get(part) if isinstance(plain, Mapping) else None
    return plain


def input_files(settings: object) -> dict[str, str]:
    """The files outside the package that a job's settings name: {dotted key: path}."""
    found = {key: value_at(settings, key) for key in INPUT_KEYS}
    return {key: path for key, path in found.items() if isinstance(path, str) and path and not _of_package(path)}


def _of_package(path: str) -> bool:
    return path.startswith(PACKAGE)


def content_hash(inputs: Inputs) -> str:
    """One hash of all input files."""
    return canonical_hash([inputs.get(TRACE_FILE, ""), inputs.get(NETWORK_FILE, _NOTHING)])


def by_content(settings: Mapping[str, object], keys: Collection[str] = INPUT_KEYS) -> dict[str, object]:
    """Settings of a job without the places of its input files, for which a hash of their content stands."""
    for key in keys:
        settings = _without(settings, key.split("."))
    return dict(settings)


def _without(plain: Mapping[str, object], path: list[str]) -> Mapping[str, object]:
    first, *rest = path
    inner = plain.get(first)
    if not rest:
        return {key: value for key, value in plain.items() if key != first}
    return {**plain, first: _without(inner, rest)} if isinstance(inner, Mapping) else plain


def scenario_hash(settings: Mapping[str, object], inputs: Inputs) -> str:
    """Hash of what decides the tasks and their delays: environment, workload, load, rule, content of files."""
    known = by_content(settings)
    parts = [known["env"], known["workload"], value_at(known, "evaluate.seed"), content_hash(inputs)]
    return canonical_hash(parts)[:16]


def world_hash(settings: Mapping[str, object], inputs: Inputs) -> str:
    """The same of a world at any load: workload.load does not count."""
    return scenario_hash(_without(settings, ["workload", "load"]), inputs)


def training_settings(settings: Mapping[str, object], inputs: Inputs) -> dict[str, object]:
    """What a training depends on, but for how many seeds learn: with train.loads not on workload.load.

    An input file whose content is not in `inputs` counts by its path. The settings may be a stranger's.
    """
    known: Mapping[str, object] = by_content(without_claims(settings), inputs)
    if value_at(known, "train.loads"):
        known = _without(known, ["workload", "load"])
    groups = {key: known.get(key) for key in ("seed", "env", "workload", "scheduler", "train")}
    return {**groups, "evaluate.seed": value_at(known, "evaluate.seed"), "inputs": dict(inputs)}


def training_hash(settings: Mapping[str, object], inputs: Inputs) -> str:
    """Hash of what a training and its seeds depend on."""
    return canonical_hash([training_settings(settings, inputs), settings.get("seeds")])


def read_inputs(env: EnvSettings, workload: WorkloadSettings) -> Inputs:
    """Hashes of the files that tasks and network come from: a trace, a graph. Raises InputError."""
    network, found = env.network, {}
    if workload.path is not None:
        found[TRACE_FILE] = read_bytes(workload.path, TRACE_FILE, "traces", MAX_TRACE_BYTES)
    if network.kind == "graph":
        found[NETWORK_FILE] = read_bytes(network.file, NETWORK_FILE, "topologies", MAX_GML_BYTES)
    return {key: content_sha256(content) for key, content in found.items()}
