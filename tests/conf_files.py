"""Settings from the repository's own yaml files, with a few keys changed."""

import yaml

from ddrl_sched.config import validate
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.workload_settings import WorkloadSettings
from tests.paths import REPOSITORY

CONF = REPOSITORY / "conf"


def names(group):
    """Names of all yaml files of a group, those of its folders too ("tuned/ddrl_amsa")."""
    return sorted(file.relative_to(CONF / group).with_suffix("").as_posix() for file in (CONF / group).rglob("*.yaml"))


def stated(group, name):
    """What a yaml states itself."""
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))


def plain(group, name):
    """Plain data of a yaml on top of its `defaults`, as Hydra composes it."""
    data = stated(group, name)
    data.pop("defaults", None)
    return laid(inherited(group, name), data)


def inherited(group, name):
    """Plain data of the `defaults` of a yaml, each on top of those before it."""
    under = {}
    for entry in stated(group, name).get("defaults", []):
        if isinstance(entry, dict):  # "/agent@agent: dqn"
            ((place, option),) = entry.items()
            source, _, key = place.removeprefix("/").partition("@")
            under = laid(under, {key: plain(source, option)})
        elif entry != "_self_":  # "/family/best_set@_here_", or one of the same group
            folder, _, option = entry.removesuffix("@_here_").rpartition("/")
            source, _, inside = folder.removeprefix("/").partition("/")
            under = laid(under, plain(source or group, f"{inside}/{option}" if inside else option))
    return under


def laid(base, change):
    """`base` with the keys of `change`, group by group."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return base | {key: laid(base.get(key), value) for key, value in change.items()}


def merged(base, change):
    """`base` with the keys of `change`, group by group; a group with another `kind` replaces the old one."""
    if (
        not isinstance(base, dict)
        or not isinstance(change, dict)
        or change.get("kind", base.get("kind")) != base.get("kind")
    ):
        return change
    return base | {key: merged(base.get(key), value) for key, value in change.items()}


def env(name, /, **change):
    """Settings of conf/env/<name>.yaml with some keys changed."""
    return validate(EnvSettings, merged(plain("env", name), change), "env")


def workload(name, /, **change):
    """Settings of conf/workload/<name>.yaml with some keys changed."""
    return validate(WorkloadSettings, merged(plain("workload", name), change), "workload")
