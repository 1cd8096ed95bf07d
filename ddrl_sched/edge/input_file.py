"""Input files of the user, or of the package (`package:NAME`), read whole and never beyond a limit."""

import gzip
import hashlib
import io
import stat
import zlib
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from ddrl_sched.config import PACKAGE, InputError, clean, near, shown

MAX_TRACE_BYTES = 200_000_000
MAX_GML_BYTES = 20_000_000
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"  # how such files begin


def read_bytes(file: str, key: str, folder: str, max_bytes: int) -> bytes:
    """Content of `file`, a path or `package:NAME` of ddrl_sched/data/<folder>.

    Raises InputError that names the yaml `key` and the file: not there, no regular file, too large, not readable.
    """
    if file.startswith(PACKAGE):
        return _package_bytes(file, key, folder)
    path, name = Path(file), clean(file)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{key}: {name}: is no regular file")
        if status.st_size > max_bytes:
            raise InputError(f"{key}: {name}: must be at most {max_bytes:,} bytes, got {status.st_size:,}")
        with path.open("rb") as opened:
            content = opened.read(max_bytes + 1)
        if len(content) > max_bytes:  # files of the system have no size of their own
            raise InputError(f"{key}: {name}: must be at most {max_bytes:,} bytes")
        return content
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(f"{key}: {name}: {reason or first_line(error)}") from None


def content_sha256(content: bytes) -> str:
    """Hash of what a file says: the same for a text packed by gzip, with a byte order mark or with other line ends."""
    if content.startswith(GZIP):
        with suppress(OSError, EOFError, zlib.error), gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            content = packed.read(MAX_TRACE_BYTES + 1)
    if not content.startswith(PARQUET):
        content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip(b"\n")
    return hashlib.sha256(content).hexdigest()


def first_line(error: Exception) -> str:
    """The first line of an error's text, safe to print."""
    return shown((str(error).splitlines() or [type(error).__name__])[0])


def _package_bytes(file: str, key: str, folder: str) -> bytes:
    known = {f.name: f for f in files("ddrl_sched.data").joinpath(folder).iterdir() if not f.name.startswith("LICENSE")}
    name = file.removeprefix(PACKAGE)
    if name not in known:
        hint = near(name, known) or f" (known: {', '.join(sorted(known))})"
        raise InputError(f"{key}: the package holds no {shown(name)}{hint}")
    return known[name].read_bytes()
