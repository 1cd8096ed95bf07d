"""Unique names of worlds in tables: scenario and workload of the yaml files, with the changed settings in brackets.

Two worlds (scenario_hash) never share a name. Where they would, the settings in which they differ are added, or the
hash where only the content of a file differs.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from ddrl_sched.config import MAX_SHOWN, clean
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs.schemas import JobRecord
from ddrl_sched.key_value import key_value
from ddrl_sched.labels import LEARNS_THE_SAME, changed, with_changes
from ddrl_sched.report.settings_diff import MAX_NAMED_KEYS, FlatSettings, diff_keys, truncate, value_text
from ddrl_sched.run.inputs import INPUT_KEYS, Inputs, input_files, value_at
from ddrl_sched.run.settings import MAX_NAME

MAX_CHANGES = 20  # in a name; finding short names takes their square
MAX_LOADS = 60  # characters of a list of loads
MAX_COMPARED = 100  # keys among which the distinguishing ones are sought
MORE = "more"  # stands in a name for the changes that it leaves out
WORLD_KEYS = ("env.", "workload.", "evaluate.seed")  # settings that make a world ...
IN_COLUMNS = ("env.name", "env.rule", "workload.name", "workload.load")  # ... less those that have a column


class ScenarioKey(NamedTuple):
    """What the rows of one table share."""

    scenario: str
    workload: str
    rule: str
    scenario_hash: str
    load: float

    def title(self) -> str:
        """The title of its table, as notes use it."""
        return title(self.scenario, self.workload, self.rule, self.load)


SCENARIO = list(ScenarioKey._fields)


@dataclass(frozen=True)
class World:
    """What the name of a world is made of. Worlds of one `cell` need different names."""

    scenario: str  # name of its yaml
    workload: str  # likewise
    changes: Mapping[str, str]  # dotted key -> value: always in the name
    leaves: FlatSettings  # settings that decide it
    hash: str
    cell: tuple[str, ...] = ()  # what other columns show: rule, load
    inputs: Inputs = field(default_factory=dict)  # hashes of input files, if known: files of one content have one name

    def names(self, more: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Names of the scenario and of its workload, both with their changes."""
        every = {**(more or {}), **self.changes}
        of_workload = {key: value for key, value in every.items() if key.startswith("workload.")}
        rest = {key: value for key, value in every.items() if key not in of_workload}
        return _labelled(self.scenario, rest), _labelled(self.workload, of_workload)


def load_text(load: float) -> str:
    """ "0.6", "1.2 (overload)": a load as tables show it."""
    return f"{load:.6g}" + (" (overload)" if load >= 1 else "")


def title(scenario: str, workload: str, rule: str, load: float) -> str:
    """The title of a table of one world and load; notes use it too."""
    return f"{scenario}, workload {workload}, rule {rule}, load {load_text(load)}"


def override_changes(job: JobRecord, roots: tuple[str, ...], exclude: tuple[str, ...]) -> dict[str, str]:
    """Values of the keys below `roots` that the overrides of a job changed, except the keys in `exclude`."""
    short = [word for word in job["overrides"] if len(key_value(word).name) <= MAX_NAME]
    changes = changed(short, roots, exclude)
    shown = {key: _value(job["settings"], key, changes[key]) for key in islice(changes, MAX_CHANGES)}
    cut = [word for word in job["overrides"] if len(key_value(word).name) > MAX_NAME]
    left = [f"{key}={changes[key]}" for key in islice(changes, MAX_CHANGES, None)]
    left += [word for word in cut if key_value(word).group.startswith(roots)]
    return shown | ({MORE: truncate("\n".join(left), 12)} if left else {})


def select_settings(
    of_job: FlatSettings, keys: tuple[str, ...] = WORLD_KEYS, exclude: tuple[str, ...] = IN_COLUMNS
) -> FlatSettings:
    """The settings whose keys begin with one of `keys`, except those in `exclude`."""
    return {key: text for key, text in of_job.items() if key.startswith(keys) and key not in exclude}


def world_of_training(job: JobRecord, of_job: FlatSettings, inputs: Inputs) -> World:
    """The world of a training, by its settings; its loads are in the cell."""
    env, workload, train = (_group(job["settings"], name) for name in ("env", "workload", "train"))
    rule, loads = env.get("rule"), train.get("loads")
    loads = loads if isinstance(loads, list) and loads else [workload.get("load")]
    every = ", ".join(load_text(x) for x in loads if isinstance(x, int | float))
    exclude = ("workload.load", "train.loads", *LEARNS_THE_SAME)
    changes = override_changes(job, ("env.", "workload.", "train."), exclude) | input_files(job["settings"])
    of_world = select_settings(of_job, (*WORLD_KEYS, "seed"))
    return World(
        scenario=clean(env["name"]) if isinstance(env.get("name"), str) else "",
        workload=clean(workload["name"]) if isinstance(workload.get("name"), str) else "",
        changes={key: value for key, value in changes.items() if key != "env.rule" or rule is None},
        leaves=of_world,
        hash=canonical_hash({**of_world, **inputs})[:16],
        cell=(f"rule {clean(rule)}" if isinstance(rule, str) and rule != "clean" else "", truncate(every, MAX_LOADS)),
        inputs=inputs,
    )


def world_of_learner(label: str, trained_on: str, of_job: FlatSettings, budget: str) -> World:
    """A learner as a World, so that learners of one label get different names from the settings they learn with."""
    return World(label, trained_on, {}, select_settings(of_job, ("scheduler.", "train."), LEARNS_THE_SAME), budget)


def _group(settings: Mapping[str, object], name: str) -> Mapping[str, object]:
    group = settings.get(name)
    return group if isinstance(group, Mapping) else {}


def unique_names(worlds: Sequence[World]) -> list[tuple[str, str]]:
    """(scenario, workload) of each world; worlds of one hash and cell share a name."""
    worlds = _shorten_paths(worlds)
    found = [world.names() for world in worlds]
    for same in _duplicates(found):
        if len({worlds[i].hash for i in same}) > 1:
            keys = _distinguishing_keys([worlds[i].leaves for i in same])
            for i in same:
                found[i] = worlds[i].names(_values_of(worlds[i].leaves, keys))
    for same in _duplicates([(*name, *world.cell) for name, world in zip(found, worlds, strict=True)]):
        if len({worlds[i].hash for i in same}) > 1:
            for i in same:
                found[i] = _with_hash(found[i], worlds[i].hash)
    return found


def _with_hash(name: tuple[str, str], hash: str) -> tuple[str, str]:
    return truncate(f"{name[0]}; scenario {hash}", MAX_NAME), name[1]


def _labelled(name: str, changes: Mapping[str, str]) -> str:
    return truncate(with_changes(name, changes), MAX_NAME)


def _value(settings: object, path: str, word: str) -> str:
    """Text of the value at a dotted path; that of the override where the settings hold no plain value."""
    value = value_at(settings, path)
    if path in INPUT_KEYS and isinstance(value, str):
        return value
    return value_text(value) if value is not None and not isinstance(value, dict) else truncate(word, MAX_SHOWN)


def _duplicates(keys: Sequence[Hashable]) -> Iterable[list[int]]:
    """Positions of equal keys, one list for every key that occurs more than once."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [group for group in places.values() if len(group) > 1]


def _distinguishing_keys(every: Sequence[FlatSettings]) -> list[str]:
    """Keys that distinguish worlds, the most selective first; MORE at the end if there are more than MAX_NAMED_KEYS."""
    keys = diff_keys(every)[:MAX_COMPARED]
    chosen: list[str] = []
    while len(chosen) < min(MAX_NAMED_KEYS, len(keys)):
        best = max((key for key in keys if key not in chosen), key=lambda key: _n_distinct(every, [*chosen, key]))
        chosen.append(best)
    return chosen if len(chosen) == len(keys) else [*chosen, *([MORE] if keys else [])]


def _n_distinct(every: Sequence[FlatSettings], keys: Sequence[str]) -> int:
    return len({tuple(each.get(key) for key in keys) for each in every})


def _values_of(of_world: FlatSettings, keys: Sequence[str]) -> dict[str, str]:
    values = {key: of_world[key] for key in keys if key in of_world}
    rest = [f"{key}={of_world[key]}" for key in sorted(of_world) if key not in keys]
    return values | ({MORE: truncate("\n".join(rest), 12)} if MORE in keys else {})


def _shorten_paths(worlds: Sequence[World]) -> list[World]:
    """Shorten paths to the fewest last parts that are unique; files of one content share one path."""
    changes = _one_path_per_content([(world.changes, world.inputs) for world in worlds])
    leaves = _one_path_per_content([(world.leaves, world.inputs) for world in worlds])
    short: dict[str, Mapping[str, str]] = {}
    for key in INPUT_KEYS:
        short[key] = _shortest_endings({path for of in (*changes, *leaves) if (path := of.get(key))})

    def cut(of: Mapping[str, str]) -> dict[str, str]:
        return {key: short[key][text] if key in INPUT_KEYS else text for key, text in of.items()}

    parts = zip(worlds, changes, leaves, strict=True)
    return [replace(world, changes=cut(changed_), leaves=cut(of)) for world, changed_, of in parts]


def _one_path_per_content(every: Sequence[tuple[Mapping[str, str], Inputs]]) -> list[dict[str, str]]:
    """Texts by key; of several paths to one content the first in the alphabet stands for all."""
    first: dict[tuple[str, str], str] = {}
    for texts, inputs in every:
        for file in inputs.items():
            if file[0] in texts:
                first[file] = min(first.get(file, texts[file[0]]), texts[file[0]])
    return [
        {key: first.get((key, inputs.get(key, "")), text) for key, text in texts.items()} for texts, inputs in every
    ]


def _shortest_endings(paths: Collection[str]) -> dict[str, str]:
    words = {path: os.path.normpath(path).split("/") for path in paths}
    distinct = {tuple(parts) for parts in words.values()}
    short: dict[str, str] = {}
    for n in range(1, 6):
        count = Counter(parts[-n:] for parts in distinct)
        for path, parts in words.items():
            if path not in short and count[tuple(parts[-n:])] == 1:
                short[path] = "/".join(parts[-n:])
    return {path: truncate(short.get(path, path), MAX_SHOWN) for path in paths}
