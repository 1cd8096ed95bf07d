"""The one atomic way to write a file: whoever reads, crashes or runs out of disk finds the old file or the new one."""

import errno
import os
import secrets
from pathlib import Path


class RecordsError(OSError):
    """A file could not be written (disk full, read-only, ...); the message names its path. Exit code 4."""


def write_bytes(path: Path | str, *parts: bytes | memoryview) -> None:
    """Write `path`, the parts one after the other: temporary name beside it, fsync, rename, fsync of the folder.

    Missing folders are made. Raises RecordsError naming the path; then nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        make_folder(path.parent)
        try:
            _write_synced(temporary, parts)
            fault_point("synced", path)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fault_point("renamed", path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RecordsError(f"cannot write {path}: {error.strerror or error}") from error
    fault_point("done", path)


def remove(path: Path | str) -> None:
    """Remove a file for good, if it is there. RecordsError naming the path if that fails."""
    path = Path(path)
    try:
        path.unlink(missing_ok=True)
        fault_point("removed", path)
        _sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordsError(f"cannot remove {path}: {error.strerror or error}") from error


def remove_leftovers(folder: Path | str) -> None:
    """Remove temporary files that a killed writer left. Only for the one who owns the folder at this moment."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each synced into the one that holds it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():  # another process may just have made it
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    fault_point("made", folder)
    _sync_folder(folder.parent)


def fault_point(moment: str, path: Path) -> None:
    """Nothing. Every moment at which a crash would leave other files than before; tests put a crash here."""


def _write_synced(path: Path, parts: tuple[bytes | memoryview, ...]) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
        fault_point("created", path)
        for part in parts:
            file.write(part)
        file.flush()
        fault_point("written", path)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
