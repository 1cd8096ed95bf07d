"""One process at a time works on a job, or on a training that jobs share, however many sweeps share a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ddrl_sched.display import note
from ddrl_sched.saving import RecordsError, make_folder

FILE = ".claim"  # stays, empty: the lock on it counts, which ends with the process that holds it
_POLL_S = 0.2


@contextmanager
def lock(folder: Path, *, wait: bool, file: str = FILE) -> Iterator[bool]:
    """True inside if `folder` is ours now; else another living process has it, and with `wait` its turn is awaited.

    `file`: its name in `folder`; another one than FILE locks what is called so, not all of the folder.
    Made with flock: on a network file system it holds as far as that supports flock. RecordsError if the folder cannot
    be written.
    """
    try:
        make_folder(folder)
        held = FileLock(folder / file)
        mine = _acquire(held, folder if file == FILE else folder / file, wait)
    except OSError as error:
        raise RecordsError(f"cannot write {folder / file}: {error.strerror or error}") from error
    try:
        yield mine
    finally:
        held.release()


def is_locked(folder: Path) -> bool:
    """Whether a living process works on the job in `folder`. Nothing is written there."""
    try:
        claim = os.open(folder / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # nobody ever did
        return False
    try:
        fcntl.flock(claim, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not on this file system
        return False
    else:
        return False
    finally:
        os.close(claim)


def _acquire(held: FileLock, place: Path, wait: bool) -> bool:
    try:
        held.acquire(blocking=False)
    except Timeout:
        if not wait:
            return False
        note(f"{place}: another process works on it; waiting for its end")
        held.acquire(poll_interval=_POLL_S)
    return True
