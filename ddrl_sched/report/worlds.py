"""Names of worlds in tables: that of the yaml files, what was changed about them, and what else tells two worlds apart.

Two worlds (scenario_hash) never have one name. Where they would, the settings in which they differ are told, and the
hash where no setting differs (the content of a file does).
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from ddrl_sched.config import MAX_SHOWN, clean
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs.schemas import JobRecord
from ddrl_sched.key_value import key_value
from ddrl_sched.labels import LEARNS_THE_SAME, changed, with_changes
from ddrl_sched.report.settings_diff import MOST_TOLD, Leaves, differing_keys, shortened, value_text
from ddrl_sched.run.inputs import INPUT_KEYS, Inputs, input_files, value_at
from ddrl_sched.run.settings import MAX_NAME

MAX_CHANGES = 20  # that a name tells; finding short names takes their square
MAX_LOADS = 60  # characters of a list of loads
MAX_COMPARED = 100  # keys among which those to be told are looked for
MORE = "more"  # stands in a name for changes that are not told
DECISIVE = ("env.", "workload.", "evaluate.seed")  # settings that make a world ...
IN_COLUMNS = ("env.name", "env.rule", "workload.name", "workload.load")  # ... less those that have a column


@dataclass(frozen=True)
class World:
    """What a name is made of. Worlds of one `cell` need different names."""

    scenario: str  # name of its yaml
    workload: str  # likewise
    changes: Mapping[str, str]  # dotted key -> value: always told
    leaves: Leaves  # settings that decide it
    hash: str
    cell: tuple[str, ...] = ()  # what other columns tell: rule, load
    inputs: Inputs = field(default_factory=dict)  # where they are known: files of one content have one name

    def names(self, more: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Names of the scenario and of its workload, both with their changes."""
        every = {**(more or {}), **self.changes}
        of_workload = {key: value for key, value in every.items() if key.startswith("workload.")}
        rest = {key: value for key, value in every.items() if key not in of_workload}
        return _named(self.scenario, rest), _named(self.workload, of_workload)


def load_text(load: float) -> str:
    """ "0.6", "1.2 (overload)": a load as tables show it."""
    return f"{load:.6g}" + (" (overload)" if load >= 1 else "")


def title(scenario: str, workload: str, rule: str, load: float) -> str:
    """What a table of one world and load is headed with, and notes call it."""
    return f"{scenario}, workload {workload}, rule {rule}, load {load_text(load)}"


def changes_of(job: JobRecord, roots: tuple[str, ...], beside: tuple[str, ...]) -> dict[str, str]:
    """What a job's overrides below `roots` changed (but for the keys `beside`), by the validated values."""
    short = [word for word in job["overrides"] if len(key_value(word).name) <= MAX_NAME]
    changes = changed(short, roots, beside)
    told = {key: _value(job["settings"], key, changes[key]) for key in islice(changes, MAX_CHANGES)}
    cut = [word for word in job["overrides"] if len(key_value(word).name) > MAX_NAME]
    left = [f"{key}={changes[key]}" for key in islice(changes, MAX_CHANGES, None)]
    left += [word for word in cut if key_value(word).group.startswith(roots)]
    return told | ({MORE: shortened("\n".join(left), 12)} if left else {})


def decisive(of_job: Leaves, keys: tuple[str, ...] = DECISIVE, beside: tuple[str, ...] = IN_COLUMNS) -> Leaves:
    """Of the settings of a job those that begin with `keys`, less those `beside`."""
    return {key: text for key, text in of_job.items() if key.startswith(keys) and key not in beside}


def world_of_training(job: JobRecord, of_job: Leaves, inputs: Inputs) -> World:
    """The world of a training as far as its settings tell; what its own loads are stands in the cell."""
    env, workload, train = (_group(job["settings"], name) for name in ("env", "workload", "train"))
    rule, loads = env.get("rule"), train.get("loads")
    loads = loads if isinstance(loads, list) and loads else [workload.get("load")]
    every = ", ".join(load_text(x) for x in loads if isinstance(x, int | float))
    beside = ("workload.load", "train.loads", *LEARNS_THE_SAME)
    changes = changes_of(job, ("env.", "workload.", "train."), beside) | input_files(job["settings"])
    of_world = decisive(of_job, (*DECISIVE, "seed"))
    return World(
        scenario=clean(env["name"]) if isinstance(env.get("name"), str) else "",
        workload=clean(workload["name"]) if isinstance(workload.get("name"), str) else "",
        changes={key: value for key, value in changes.items() if key != "env.rule" or rule is None},
        leaves=of_world,
        hash=canonical_hash({**of_world, **inputs})[:16],
        cell=(f"rule {clean(rule)}" if isinstance(rule, str) and rule != "clean" else "", shortened(every, MAX_LOADS)),
        inputs=inputs,
    )


def with_own_settings(label: str, trained_on: str, of_job: Leaves, budget: str) -> World:
    """A learner as the "world" of its training, so that two of one label are told apart by what they learn with."""
    return World(label, trained_on, {}, decisive(of_job, ("scheduler.", "train."), LEARNS_THE_SAME), budget)


def _group(settings: Mapping[str, object], name: str) -> Mapping[str, object]:
    group = settings.get(name)
    return group if isinstance(group, Mapping) else {}


def names(worlds: Sequence[World]) -> list[tuple[str, str]]:
    """(scenario, workload) of each world; those of one hash and kind may be several, and get one name."""
    worlds = _with_file_names(worlds)
    found = [world.names() for world in worlds]
    for alike in _alike(found):
        if len({worlds[i].hash for i in alike}) > 1:
            told = _telling([worlds[i].leaves for i in alike])
            for i in alike:
                found[i] = worlds[i].names(_at(worlds[i].leaves, told))
    for alike in _alike([(*name, *world.cell) for name, world in zip(found, worlds, strict=True)]):
        if len({worlds[i].hash for i in alike}) > 1:
            for i in alike:
                found[i] = _with_hash(found[i], worlds[i].hash)
    return found


def _with_hash(name: tuple[str, str], hash: str) -> tuple[str, str]:
    return shortened(f"{name[0]}; scenario {hash}", MAX_NAME), name[1]


def _named(name: str, changes: Mapping[str, str]) -> str:
    return shortened(with_changes(name, changes), MAX_NAME)


def _value(settings: object, path: str, word: str) -> str:
    """Text of the value at a dotted path; that of the override where the settings hold no plain value."""
    value = value_at(settings, path)
    if path in INPUT_KEYS and isinstance(value, str):
        return value
    return value_text(value) if value is not None and not isinstance(value, dict) else shortened(word, MAX_SHOWN)


def _alike(keys: Sequence[Hashable]) -> Iterable[list[int]]:
    """Places of equal keys, where there are several."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [group for group in places.values() if len(group) > 1]


def _telling(every: Sequence[Leaves]) -> list[str]:
    """Keys that tell worlds apart: those that split them best come first; MORE where there are more than MOST_TOLD."""
    keys = differing_keys(every)[:MAX_COMPARED]
    told: list[str] = []
    while len(told) < min(MOST_TOLD, len(keys)):
        best = max((key for key in keys if key not in told), key=lambda key: _n_classes(every, [*told, key]))
        told.append(best)
    return told if len(told) == len(keys) else [*told, *([MORE] if keys else [])]


def _n_classes(every: Sequence[Leaves], keys: Sequence[str]) -> int:
    return len({tuple(each.get(key) for key in keys) for each in every})


def _at(of_world: Leaves, told: Sequence[str]) -> dict[str, str]:
    values = {key: of_world[key] for key in told if key in of_world}
    rest = [f"{key}={of_world[key]}" for key in sorted(of_world) if key not in told]
    return values | ({MORE: shortened("\n".join(rest), 12)} if MORE in told else {})


def _with_file_names(worlds: Sequence[World]) -> list[World]:
    """Paths cut to the fewest last words that no other path ends with; files of one content have one of their paths."""
    changes = _by_first_path([(world.changes, world.inputs) for world in worlds])
    leaves = _by_first_path([(world.leaves, world.inputs) for world in worlds])
    short: dict[str, Mapping[str, str]] = {}
    for key in INPUT_KEYS:
        short[key] = _last_words({path for of in (*changes, *leaves) if (path := of.get(key))})

    def cut(of: Mapping[str, str]) -> dict[str, str]:
        return {key: short[key][text] if key in INPUT_KEYS else text for key, text in of.items()}

    parts = zip(worlds, changes, leaves, strict=True)
    return [replace(world, changes=cut(told), leaves=cut(of)) for world, told, of in parts]


def _by_first_path(every: Sequence[tuple[Mapping[str, str], Inputs]]) -> list[dict[str, str]]:
    """Texts by key, of paths to files of one content the first."""
    first: dict[tuple[str, str], str] = {}
    for texts, inputs in every:
        for file in inputs.items():
            if file[0] in texts:
                first[file] = min(first.get(file, texts[file[0]]), texts[file[0]])
    return [
        {key: first.get((key, inputs.get(key, "")), text) for key, text in texts.items()} for texts, inputs in every
    ]


def _last_words(paths: Collection[str]) -> dict[str, str]:
    words = {path: os.path.normpath(path).split("/") for path in paths}
    distinct = {tuple(parts) for parts in words.values()}
    short: dict[str, str] = {}
    for n in range(1, 6):
        count = Counter(parts[-n:] for parts in distinct)
        for path, parts in words.items():
            if path not in short and count[tuple(parts[-n:])] == 1:
                short[path] = "/".join(parts[-n:])
    return {path: shortened(short.get(path, path), MAX_SHOWN) for path in paths}
