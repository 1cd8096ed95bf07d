"""Completion in the shell: which groups, keys and values a word of a command can become.

Imports nothing that takes time, for a person waits for it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import typer

from ddrl_sched.conf_folder import GROUPS, choices, conf_dir

# groups chosen by GROUP=NAME
OF_COMMANDS = ("scheduler", "env", "workload", "train", "launcher", "experiment", "capacity")
OF_SWEEPS = (*OF_COMMANDS, "study")


def groups(incomplete: str) -> list[str]:
    """Groups of `ddrl list` that begin so."""
    return [group for group in GROUPS.values() if group.startswith(incomplete)]


def overrides(ctx: typer.Context, incomplete: str) -> list[str]:
    """What a word KEY=VALUE of train, eval or sweep can become.

    One key alone comes with its values, so that the shell adds no space behind the "=" that they share.
    """
    before = list(ctx.params.get("overrides") or [])
    folders = _folders(ctx.params.get("config_dir"))
    known = OF_SWEEPS if ctx.info_name == "sweep" else OF_COMMANDS
    *_, last_but_one, last = ["", "", *before]
    if last == "=":  # bash takes the "=" for a word of its own ...
        return list(_values(last_but_one, incomplete, known, folders))
    if not incomplete and last in (*known, *_plain_keys()):  # ... and typer drops it under the cursor
        return list(_values(last, "", known, folders))
    key, equals, begun = incomplete.partition("=")
    if equals:
        return [f"{key}={value}" for value in _values(key, begun, known, folders)]
    keys = [key for key in (*known, *_plain_keys()) if key.startswith(incomplete)]
    if len(keys) != 1:
        return [f"{key}=" for key in keys]
    return [f"{keys[0]}=", *(f"{keys[0]}={value}" for value in _values(keys[0], "", known, folders))]


def _values(key: str, begun: str, known: tuple[str, ...], folders: list[Path]) -> Iterator[str]:
    """Values of a key that begin so; of several with commas between them the last one is completed."""
    first, comma, last = begun.rpartition(",")
    default = _plain_keys().get(key)
    names = choices(key, folders) if key in known else [default] if default else []
    return (f"{first}{comma}{name}" for name in names if name.startswith(last))


def _plain_keys() -> Mapping[str, str]:
    """The keys of conf/base.yaml that are no groups, and what they are there."""
    import yaml  # type: ignore[import-untyped]

    stated = yaml.safe_load((conf_dir() / "base.yaml").read_text(encoding="utf-8"))
    found: dict[str, object] = {}
    for key, value in stated.items():
        inside = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
        found |= {} if key == "hydra" else inside
    return {name: str(one) for name, one in found.items() if isinstance(one, str | int)} | {"workload.load": ""}


def _folders(own: Path | None) -> list[Path]:
    return [conf_dir(), *([own] if own is not None and own.is_dir() else [])]
