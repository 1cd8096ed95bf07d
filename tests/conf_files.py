"""Settings from the repository's own yaml files, with a few keys changed."""

import yaml

from ddrl_sched.config import validate
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.workload_settings import WorkloadSettings
from tests.paths import REPOSITORY

CONF = REPOSITORY / "conf"


def names(group):
    """Names of all yaml files of a group."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def plain(group, name):
    """Plain data of a yaml; `defaults` (of the same group) are laid under it, as Hydra does."""
    data = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    for base in data.pop("defaults", []):
        if base != "_self_":
            data = merged(plain(group, base), data)
    return data


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
