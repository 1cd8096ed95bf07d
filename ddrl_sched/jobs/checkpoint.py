"""Resume: what a training has become, kept in <job folder>/resume so that it goes on bit for bit.

A training is anything to iterate that yields what happened, or None, whenever its state is whole. Its state and that
of its companions come from `state_dict()` and go back by `load_state_dict()`: tensors and plain data. The file is for
the process that repeats the same job on the same machine; nobody else reads it. It is torch's, after a line with its
sha256, and is only ever loaded with weights_only=True.
"""

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ddrl_sched import stopping
from ddrl_sched.jobs.records import RESUME, read_regular
from ddrl_sched.saving import RecordsError, remove, remove_leftovers, write_bytes

FOLDER, FILE = RESUME, "state.pt"
LOADS = "loads-*.parquet"  # what a job of the kind capacity has evaluated so far
T = TypeVar("T")


class Stateful(Protocol):
    """What can be saved and continued."""

    def state_dict(self) -> Mapping[str, object]:
        """Everything that evolves, as tensors and plain data; may share memory with the original."""
        ...

    def load_state_dict(self, state: Any) -> None:  # each part has a TypedDict of its own
        """Continue from what `state_dict` gave; ValueError on other names or shapes."""
        ...


def save(folder: Path, about: Mapping[str, object], parts: Mapping[str, Stateful]) -> None:
    """Save the state of all parts of the job in `folder`. RecordsError naming the path if that fails."""
    import torch  # lazy: only a training has a state

    file = io.BytesIO()
    torch.save({"about": dict(about), "parts": {name: part.state_dict() for name, part in parts.items()}}, file)
    content = file.getbuffer()
    write_bytes(_place(folder) / FILE, hashlib.sha256(content).hexdigest().encode() + b"\n", content)


def load(folder: Path, about: Mapping[str, object], parts: Mapping[str, Stateful]) -> bool:
    """Put the parts where `save` found them; False if nothing was saved.

    ValueError, with the parts as they were, if the file is damaged or was saved about something else (another job,
    other versions, threads or instructions), so that what follows would not be bit for bit the same.
    """
    path = _place(folder) / FILE
    if not path.exists():
        return False
    digest, _, content = read_regular(path, path.stat().st_size).partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError(f"{path} does not fit its sha256: damaged")
    saved = _plain(content, path)
    changed = [f"{key} {saved['about'].get(key)} then, {value} now" for key, value in about.items()
               if saved["about"].get(key) != value]  # fmt: skip
    if changed:
        raise ValueError(f"{path} was saved under other conditions: {'; '.join(changed)}")
    for name, part in parts.items():
        part.load_state_dict(saved["parts"][name])
    return True


def _plain(content: bytes, path: Path) -> dict[str, Any]:
    import torch  # lazy, as above

    try:
        saved = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # torch fails in many ways on what it did not write
        raise ValueError(f"{path} holds no state of a training: {type(error).__name__}") from None
    if not isinstance(saved, dict) or not all(isinstance(saved.get(key), dict) for key in ("about", "parts")):
        raise ValueError(f"{path} holds no state of a training")
    return saved


def discard(folder: Path) -> None:
    """Remove what was saved of the job in `folder`, if anything. Only for the one who owns the job at this moment."""
    place = _place(folder)
    if not place.is_dir():
        return
    remove_leftovers(place)
    for file in (place / FILE, *place.glob(LOADS)):
        remove(file)
    with contextlib.suppress(OSError):  # somebody else put something there
        place.rmdir()


def _place(folder: Path) -> Path:
    place = folder / FOLDER
    if place.is_symlink():
        raise RecordsError(f"cannot write {place}: a symbolic link leads elsewhere")
    return place


def resumable(training: Iterable[T | None], save: Callable[[], None], every_s: float) -> Iterator[T]:
    """Pass on what a training yields, and `save` every `every_s` seconds, at the end, and before a signal ends it."""
    with stopping.postponed():
        last_s = time.monotonic()
        for happened in training:
            if happened is not None:
                yield happened
            if stopping.asked() or time.monotonic() - last_s >= every_s:
                save()
                last_s = time.monotonic()
            stopping.leave_if_asked()
        save()
