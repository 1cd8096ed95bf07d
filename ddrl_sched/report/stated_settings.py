"""What the yaml files that a job names say, so that its own settings can be told apart from theirs.

Only files of this program are read, by the names that a job gives: a name is looked up, never used as a path.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from ddrl_sched.conf_folder import choices, conf_dir
from ddrl_sched.yaml_files import check

Plain = Mapping[str, object]
GROUPS = ("env", "workload", "train")  # whose settings say in `name` from which yaml they come
OF_BASE = ("seed", "seeds", "evaluate")  # keys of conf/base.yaml that decide results


def stated(settings: Plain, label: str) -> dict[str, object]:
    """Settings as the yaml files have them that these settings and this label of a scheduler name."""
    found: dict[str, object] = {key: _yaml(conf_dir() / "base.yaml").get(key) for key in OF_BASE}
    for group in GROUPS:
        of_group = settings.get(group)
        name = of_group.get("name") if isinstance(of_group, Mapping) else None
        if isinstance(name, str) and name in _choices(group):
            found[group] = _composed(group, name)
    name = label.partition("(")[0]
    if name in _choices("scheduler"):
        found["scheduler"] = _composed("scheduler", name)
    return found


@cache
def _choices(group: str) -> dict[str, Path]:
    return choices(group, [conf_dir()])


def _yaml(file: Path) -> dict[str, object]:
    check(file)
    plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(plain, dict)
    return plain


def _composed(group: str, name: str) -> dict[str, object]:
    """A yaml on top of its `defaults`, as Hydra composes them."""
    own = _yaml(_choices(group)[name])
    under: dict[str, object] = {}
    entries = own.pop("defaults", [])
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):  # "/agent@agent: dqn"
            ((place, option),) = entry.items()
            source, _, key = str(place).removeprefix("/").partition("@")
            under = _laid(under, {key: _composed(source, str(option))})
        elif entry != "_self_":  # "/family/best_set@_here_", or one of the same group
            folder, _, option = str(entry).removesuffix("@_here_").rpartition("/")
            source, _, inside = folder.removeprefix("/").partition("/")
            under = _laid(under, _composed(source or group, f"{inside}/{option}" if inside else option))
    return _laid(under, own)


def _laid(base: Plain, change: Plain) -> dict[str, object]:
    """`base` with the keys of `change`, group by group."""
    found = dict(base)
    for key, value in change.items():
        before = found.get(key)
        found[key] = _laid(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found
