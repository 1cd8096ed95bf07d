"""`ddrl pack`: what a report needs of finished runs, copied into a folder that is small enough to be published."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddrl_sched.config import InputError, clean, shown
from ddrl_sched.display import count, note
from ddrl_sched.jobs import records
from ddrl_sched.jobs.earlier_run import WEIGHTS
from ddrl_sched.jobs.reading import SCHEMAS
from ddrl_sched.jobs.schemas import JobRecord

KEPT = ("job.json", *(f"{name}.parquet" for name in SCHEMAS if name != "tasks"))
MAX_RUNS = 100_000
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}  # of a size, small letters
# a path of three names from the root, or from a home; not what stands behind a letter ("published/multi")
_OWN_PATH = re.compile(r"(?<![\w.:/~])(?:/[^/\s:,;'\"\[\]]+){2,}|~/\S+|[A-Z]:\\\S+")


@dataclass(frozen=True)
class Run:
    """A finished run, and the names of its files that are kept."""

    folder: Path
    job: JobRecord
    manifest: Mapping[str, str]
    names: Sequence[str]

    def is_copied(self, target: Path) -> bool:
        """Whether `target` holds these files, as they are, and no others."""
        wanted = {name: self.manifest[name] for name in self.names}
        try:
            return records.read_finished(target)[1] == wanted and {*os.listdir(target)} == {*wanted, records.MANIFEST}
        except (OSError, ValueError):
            return False


@dataclass
class Sizes:
    """Bytes and number of files by their name."""

    files: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, size: int) -> None:
        """Count a file."""
        self.files[name] += 1
        self.bytes[name] += size

    def __str__(self) -> str:
        """ "eval.parquet 3 (41 kB), run.log 3 (2 kB)", the largest first."""
        return ", ".join(f"{name} {self.files[name]} ({size_text(n)})" for name, n in self.bytes.most_common())


def pack(sources: Sequence[Path], target: Path, weights_below: int) -> str:
    """Copy the finished runs at or below `sources` into `target`, each under its own name. Says what was done.

    Weights of at least `weights_below` bytes are left out, so are logs, checkpoints and tasks. Every copy is compared
    with its source. What is there already is not written again. InputError where there is nothing to copy, or where
    the target holds or is part of something else.
    """
    _check_places(sources, target)
    runs = _runs(sources, weights_below)
    _check_target(target, runs)
    n_same = 0
    for name, run in runs.items():
        if run.is_copied(target / name):
            n_same += 1
            continue
        records.copy_run(run.folder, target / name, run.names, run.manifest)
        if not run.is_copied(target / name):
            raise records.RecordsError(f"cannot write {target / name}: what was written is not what was read")
    for name, run in runs.items():
        _note_paths(target / name, run.job)
    _note_weights(runs)
    return _summary(target, runs, n_same)


def size_of(text: str, option: str) -> int:
    """Bytes of "500kB", "1 MB" or "0". InputError naming the option."""
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,3})?)\s*([kKmMgG]?[bB])?\s*", text)
    if not found or (found[2] is None and float(found[1])):
        raise InputError(f"{option}: a size such as 500kB or 1MB expected, got {shown(text)}")
    return round(float(found[1]) * UNITS[(found[2] or "b").lower()])


def size_text(n_bytes: int) -> str:
    """ "41 kB", "1.2 MB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if n_bytes >= unit:
            return f"{n_bytes / unit:.{1 if n_bytes < 10 * unit else 0}f} {name}"
    return f"{n_bytes} B"


def _check_places(sources: Sequence[Path], target: Path) -> None:
    """InputError for a source that is no folder, or that holds the target or lies in it."""
    there = target.resolve()
    for source in sources:
        if not source.is_dir():
            what = "is a file, not a folder" if source.exists() else "there is no such folder"
            raise InputError(f"{clean(source)}: {what}")
        here = source.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise InputError(f"{clean(target)}: lies in {clean(source)}, or holds it; copies need a place of their own")


def _runs(sources: Sequence[Path], weights_below: int) -> dict[str, Run]:
    """The finished runs by the name of their folder; others are noted. InputError if there is none."""
    found: dict[str, Run] = {}
    for folder in (folder for source in sources for folder in _run_folders(source)):
        try:
            job, manifest = records.read_finished(folder)
        except (OSError, ValueError) as error:
            note(f"left out: {clean(folder)}: {clean(error)}")
            continue
        names = [name for name in KEPT if name in manifest]
        if WEIGHTS in manifest and (folder / WEIGHTS).stat().st_size < weights_below:
            names.append(WEIGHTS)
        name = folder.resolve().name  # that of "." and ".." too
        same = found.setdefault(name, Run(folder, job, manifest, names))
        if same.manifest != manifest:
            raise InputError(f"{clean(same.folder)} and {clean(folder)} have one name and differ: pack them apart")
        if len(found) > MAX_RUNS:
            raise InputError(f"{clean(folder)}: more than {MAX_RUNS:,} runs")
    if not found:
        raise InputError(f"{', '.join(map(clean, sources))}: no finished run there or below")
    return found


def _run_folders(source: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(source, followlinks=False):
        folders.sort()
        if "job.json" in files:
            folders.clear()
            yield Path(place)


def _check_target(target: Path, runs: Mapping[str, Run]) -> None:
    """InputError if there is anything that an earlier copy of these runs has not made."""
    if os.path.lexists(target) and not target.is_dir():
        raise InputError(f"{clean(target)}: is a file, not a folder")
    for path in sorted(target.iterdir()) if target.exists() else ():
        inside = [path] if path.is_symlink() or not path.is_dir() else list(path.iterdir())
        ours = (*KEPT, WEIGHTS, records.MANIFEST)
        strange = [one for one in inside if one.name not in ours and not re.fullmatch(r"\..*\.tmp", one.name)]
        if path.name not in runs or path in inside or strange:
            what = clean(strange[0] if strange else path)
            raise InputError(f"{clean(target)}: holds {what}, which is no copy of these runs; take an empty folder")


def _note_paths(folder: Path, job: JobRecord) -> None:
    """Say which paths of this machine job.json tells."""
    told = {key: path[0] for key, text in _texts(job, "") if (path := _OWN_PATH.search(text))}
    if told:
        words = ", ".join(f"{clean(key)}: {clean(path)}" for key, path in list(told.items())[:3])
        note(f"note: {clean(folder / 'job.json')} tells of this machine: {words}")


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of all texts in plain data."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{place}]")


def _note_weights(runs: Mapping[str, Run]) -> None:
    """Say which policies cannot be evaluated from their copies."""
    sizes = [(run.folder / WEIGHTS).stat().st_size for run in runs.values() if _lacks_weights(run)]
    if sizes:
        note(
            f"note: the weights of {count(len(sizes), 'run')} were left out ({size_text(max(sizes))} at most), so "
            "ddrl eval --run cannot use them; --weights-below SIZE keeps more"
        )


def _lacks_weights(run: Run) -> bool:
    return WEIGHTS in run.manifest and WEIGHTS not in run.names


def _summary(target: Path, runs: Mapping[str, Run], n_same: int) -> str:
    kept, left = Sizes(), Sizes()
    for name, run in runs.items():
        for file in sorted((target / name).iterdir()):
            kept.add(file.name, file.stat().st_size)
        for file in run.folder.rglob("*"):
            name_inside = file.relative_to(run.folder).parts[0]
            if file.is_file() and name_inside not in (*run.names, records.MANIFEST, ".claim"):
                left.add(name_inside, file.stat().st_size)
    same = f" ({n_same} were there)" if n_same else ""
    total = size_text(sum(kept.bytes.values()))
    lines = [f"{count(len(runs), 'run')}{same}, {total} in {clean(target)}", f"kept: {kept}"]
    lines += [f"left out: {left}"] if left.files else []
    return "\n".join(lines)
