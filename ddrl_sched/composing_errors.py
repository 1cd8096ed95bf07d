"""What Hydra and OmegaConf say of a config that cannot be composed, in the words of the user's keys and files."""

import os
import re
import traceback
from collections.abc import Sequence

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from ddrl_sched.checked_files import CheckedFiles
from ddrl_sched.conf_folder import choices, conf_dir
from ddrl_sched.config import InputError, near
from ddrl_sched.overrides import GROUPS
from ddrl_sched.yaml_files import check, place

NOT_COMPOSED = ("family", "study")  # folders of conf/ that no word of a command chooses for a job
MAX_INSIDE = 8  # options of a folder that an error names
MAX_NESTED_DEFAULTS = 20  # more than this without an end are a circle


def in_users_words(error: Exception) -> Exception:
    """An InputError that names the key, for what Hydra and OmegaConf say; any other error as it is."""
    if (named := _cause(error, InputError)) is not None:  # of a yaml file: CheckedFiles
        return named
    if isinstance(error, MissingConfigException):
        return InputError(_missing_option(error))
    if isinstance(error, OverrideParseException):
        detail = "" if error.message.startswith("Error parsing") else f" ({first_line(error.message)})"
        return InputError(f"cannot read {error.override!r}: KEY=VALUE expected{detail}")
    if isinstance(error, OmegaConfBaseException):
        return InputError(_bad_key(error))
    if isinstance(error, ConfigCompositionException):
        return InputError(_bad_override(error))
    if isinstance(error, HydraException):
        return InputError(first_line(str(error)))
    if isinstance(error, RecursionError) and (circle := _circle(error)):
        return InputError(f"defaults name each other in a circle: {circle}")
    return error


def _cause(error: BaseException | None, kind: type[Exception]) -> Exception | None:
    """The first error of a kind among an error and its causes."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error if isinstance(error, kind) else None


def _circle(error: RecursionError) -> str:
    """ "env/a -> env/b -> env/a": the yaml files that Hydra went through over and over, "" if it was something else."""
    calls = (frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))
    paths = [str(names["path"]) for names in calls if "path" in names and "overrides" in names]
    if len(paths) < MAX_NESTED_DEFAULTS:
        return ""
    last = len(paths) - 1
    first = max(n for n in range(last) if paths[n] == paths[last])
    return " -> ".join(
        place(CheckedFiles.files[path]) if path in CheckedFiles.files else path for path in paths[first:]
    )


def _missing_option(error: MissingConfigException) -> str:
    said = first_line(str(error))
    path = error.missing_cfg_file or ""
    if not path and (named := re.match(r"In '[^']+': Could not load '([^']+)'", said)):
        path = named[1]
    group, _, name = path.rpartition("/")
    for folder in CheckedFiles.folders:
        if os.path.lexists(file := folder / f"{path}.yaml"):
            check(file)  # a folder, or a link to nothing
    if not group:
        return said
    known = list(choices(group, CheckedFiles.folders))
    flat = [option for option in known if "/" not in option]
    hint = _inside_folder(name, known) or _reordered(name, known) or near(name, known) or _hint(name, flat)
    return f"{group}: there is no {name!r}{hint}{_where(name)}"


def _inside_folder(name: str, known: list[str]) -> str:
    """What stands in a folder of the group, where the name is that of a folder."""
    inside = [option for option in known if option.startswith(f"{name}/")]
    more = ", ..." * (len(inside) > MAX_INSIDE)
    return f"; that is a folder: {', '.join(inside[:MAX_INSIDE])}{more}" if inside else ""


def _reordered(name: str, known: list[str]) -> str:
    """The one option of the same words in another order: tuned/dqn_ts for dqn_ts_tuned."""
    words = sorted(re.split("[_/]", name))
    same = [option for option in known if sorted(re.split("[_/]", option)) == words]
    return f"; did you mean {same[0]!r}?" if len(same) == 1 else ""


def _where(word: str, then: str = "") -> str:
    """ " (own/env/x.yaml, line 3)": the only line of the user's yaml files with a word and `then` after it, or ""."""
    pattern, ours = re.compile(rf"(?<!\w){re.escape(word)}(?!\w){re.escape(then)}"), str(conf_dir())
    hits = [
        place(file, number)
        for file in dict.fromkeys(CheckedFiles.files.values())
        if not str(file).startswith(ours)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line.partition("#")[0])
    ]
    return f" ({hits[0]})" if len(hits) == 1 else ""


def _bad_override(error: ConfigCompositionException) -> str:
    cause = error.__cause__
    message = first_line(str(error))
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _bad_key(cause)
    if isinstance(cause, OmegaConfBaseException):
        return f"{message}: {_bad_key(cause)}" if message else _bad_key(cause)
    named = re.search(r"Could not override '([^']+)'", message)
    if there := re.search(r"Could not append to config\. An item is already at '([^']+)'", message):
        return f"{there[1]}: has a value already; without + it gets another"
    if message.startswith("Ambiguous value"):
        return f"{message}: several values need `ddrl sweep` or --multirun"
    if named:
        groups = [folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name not in NOT_COMPOSED]
        key = named[1].partition("@")[0]
        if key == "study":
            return "study: only `ddrl sweep study=NAME` runs one"
        return f"unknown key {key!r}{_hint(key, groups)}{_where(key)}"
    if message.endswith("raised while composing config:"):
        return f"{message} {first_line(str(error).partition(message)[2])}"
    return message


def _inside(name: str) -> str:
    """The hint that a group has this key, as 'workload.load' for "load"."""
    for group in GROUPS:
        folders = (group, "family") if group == "scheduler" else (group,)
        texts = (
            file.read_text(encoding="utf-8") for folder in folders for file in (conf_dir() / folder).rglob("*.yaml")
        )
        if name != "defaults" and any(re.search(rf"^{re.escape(name)}:", text, re.MULTILINE) for text in texts):
            return f"; did you mean '{group}.{name}'?"
    return ""


def _bad_key(error: OmegaConfBaseException) -> str:
    key = error.full_key or str(error.key or "")
    if isinstance(error, MissingMandatoryValue):
        return f"{key}: must be given, as {key}=VALUE"
    if not isinstance(error, ConfigAttributeError | ConfigKeyError):
        said = first_line(str(error)) + _where(key.rpartition(".")[2], ": ${")
        return f"{key}: {said}" if key else said
    parent = error.parent_node
    above, dot, name = key.rpartition(".")
    known = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    inside = "" if above else _inside(name)
    return f"unknown key {key!r}{inside or _hint(name, known, above + dot)}"


def _hint(word: str, known: Sequence[str], above: str = "") -> str:
    """The known word that resembles `word`, with what stands `above` it, or all of them where none does."""
    return near(word, known, above) or (f"; known: {', '.join(sorted(known))}" if known else "")


def first_line(text: str) -> str:
    """The first line of a text that is not blank, "" where there is none."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
