"""`ddrl list`: says what each yaml file is, without Hydra."""

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from ddrl_sched.conf_folder import GROUPS, choices
from ddrl_sched.config import InputError, clean, near
from ddrl_sched.yaml_files import check, read

Row = Callable[[str, str, int, int | None], str]  # (name, text, width of names, columns) -> lines
CHOSEN_AS = {  # how an option is written, where that is not GROUP=NAME
    "study": "ddrl sweep study={}",
    "agent": "agent@scheduler.agent={}",
    "family": "/family/{}@_here_ among the defaults of a scheduler's yaml",
}


def config_folder(path: Path | str) -> Path:
    """What --config-dir names. InputError if that is no folder."""
    if not os.path.isdir(path):
        what = "is a file, not a folder" if os.path.lexists(path) else "there is no such folder"
        raise InputError(f"--config-dir {clean(path)}: {what}")
    return Path(path)


def options(group: str, folders: Sequence[Path], unusable: list[str] | None = None) -> dict[str, str]:
    """Names of a group's yaml files and the first comment line of each, in the order of `choices`.

    A file that cannot be used is left out; why is added to `unusable`.
    """
    found = {}
    for name, file in choices(group, folders).items():
        try:
            check(file)
            found[name] = first_comment(file)
        except InputError as error:
            if unusable is not None:
                unusable.append(str(error))
    return found


def first_comment(file: Path) -> str:
    """Text of the first comment line of a yaml file, "" if there is none. Hydra's own `# @` lines do not count."""
    for line in read(file).splitlines():
        text = line.strip()
        if text.startswith("#") and not text.lstrip("# ").startswith("@"):
            return text.lstrip("# ")
    return ""


def group_title(word: str) -> str:
    """The key of GROUPS that a word means: "schedulers" for scheduler or schedulers. InputError if it means none."""
    known = {
        name: title for title, group in GROUPS.items() for name in (title, title.removesuffix("s"), group, f"{group}s")
    }
    if word.lower() not in known:
        names = ", ".join(GROUPS.values())
        hint = near(word.lower(), known) or f"; known: {names}"
        raise InputError(f"ddrl list: there is no group {clean(word)!r}{hint}")
    return known[word.lower()]


def listing(
    folders: Sequence[Path],
    title: str | None = None,
    words: Sequence[str] = (),
    unusable: list[str] | None = None,
    columns: int | None = None,
) -> str:
    """What there is in all groups, one line each, cut at `columns`; or in that of a title, wrapped to `columns`.

    Only choices that have each of the words in their name or comment; those that cannot be used go to `unusable`.
    """
    blocks = []
    row = _row if title or words else _line
    for name, group in GROUPS.items():
        if title not in (None, name):
            continue
        found = {
            choice: clean(text)
            for choice, text in options(group, folders, unusable).items()
            if all(word.lower() in f"{choice} {text}".lower() for word in words)
        }
        blocks += _blocks(name, group, found, columns, row) or [f"{_head(name, group)}\n  {_none(words)}"]
    if row is _line and columns is not None:
        blocks.append("descriptions in full: ddrl list GROUP [TEXT]")
    return "\n\n".join(blocks)


def _head(title: str, group: str, folder: str = "") -> str:
    """The line above the choices of a folder, which says how to write them."""
    written = CHOSEN_AS.get(group, f"{group}={{}}").format(f"{folder}/NAME" if folder else "NAME")
    return f"{title} in {folder} ({written})" if folder else f"{title} ({written})"


def _none(words: Sequence[str]) -> str:
    return f"none with {clean(' '.join(words))!r} in its name or description" if words else "none"


def _blocks(title: str, group: str, found: dict[str, str], columns: int | None, row: Row) -> list[str]:
    """The choices of each folder of a group under a line that says how to write them."""
    blocks = []
    for folder in dict.fromkeys(name.rpartition("/")[0] for name in found):
        inside = {name.rpartition("/")[2]: text for name, text in found.items() if name.rpartition("/")[0] == folder}
        head = _head(title, group, folder)
        width = max(map(len, inside))
        head = head if columns is None else _wrapped(head, columns, 2)
        blocks.append("\n".join([head, *(row(name, text, width, columns) for name, text in inside.items())]))
    return blocks


def _line(name: str, text: str, width: int, columns: int | None) -> str:
    """ "  name  text", the text cut at the last word that has room on the line."""
    row = f"  {clean(name):{width}}  {text}".rstrip()
    if columns is None or len(row) <= columns:
        return row
    room = max(columns - width - 4, 3)
    return f"  {clean(name):{width}}  {textwrap.shorten(text, room, placeholder='...', break_on_hyphens=False)}"


def _row(name: str, text: str, width: int, columns: int | None) -> str:
    """ "  name  text", the text wrapped between words below itself; below the name where little room is beside it."""
    row = f"  {clean(name):{width}}  {text}".rstrip()
    if columns is None or len(row) <= columns:
        return row
    beside = 2 * (width + 4) <= columns and width + 4 + max(map(len, text.split()), default=0) <= columns
    start, indent = (f"  {name:{width}}  ", width + 4) if beside else (f"  {name}\n      ", 6)
    return start + _wrapped(text, columns - indent, indent)


def _wrapped(text: str, width: int, indent: int) -> str:
    """Text in lines of a width, broken between words only, all but the first indented."""
    lines = textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def terminal_columns() -> int | None:
    """Width of the terminal, or what COLUMNS says; None where output goes elsewhere and nothing says how wide it is."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return shutil.get_terminal_size().columns
