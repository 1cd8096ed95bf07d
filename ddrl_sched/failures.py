"""What a failure tells the user: an exit status and a message, without a traceback."""

import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ddrl_sched import stopping
from ddrl_sched.config import InputError, clean

PACKAGE = Path(__file__).resolve().parent
DONE, FAILED, BAD_INPUT, IO_ERROR, INTERRUPTED = 0, 1, 2, 4, 130


def status_of(codes: Iterable[int]) -> int:
    """0, or the one status of all that failed, or 1 where they failed in several ways."""
    failed = set(codes) - {DONE}
    return DONE if not failed else failed.pop() if len(failed) == 1 else FAILED


class ExplainedError(Exception):
    """A failure whose message is all that there is to say."""


class TrainingError(ExplainedError):
    """A training that came to nothing: its numbers are not finite any more, or there was nothing to learn from."""


def explain(error: BaseException) -> tuple[int, str]:
    """Exit status and message of an error; whatever its text quotes, nothing in it steers a terminal.

    2 for a ValueError (InputError among them: the user's input), 4 for an OSError (RecordsError among them: files
    that cannot be read or written, named where the error names one), 130 for an interrupt from the keyboard, 1 for an
    ExplainedError, and for anything else (a mistake of ours), with file and line.
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    words = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        words = f"{error.filename}: {error.strerror}"
    text = "\n".join(clean(line) for line in words.split("\n"))
    if isinstance(error, ValueError):
        return BAD_INPUT, text
    if isinstance(error, OSError):
        return IO_ERROR, text
    if isinstance(error, ExplainedError):
        return FAILED, text
    place = _where(error)
    return FAILED, f"{type(error).__name__}: {text} ({place}--debug shows more)"


@contextmanager
def blamed_on(cls: type) -> Iterator[None]:
    """Whatever a class of the user's raises, SystemExit too, becomes an InputError with its name, file and line.

    What a class of ours raises, and a signal that ends the program, stay as they are.
    """
    try:
        yield
    except (InputError, stopping.Stopped):
        raise
    except BaseException as error:
        if cls.__module__.startswith(f"{PACKAGE.name}."):
            raise
        place = where_in(getattr(sys.modules.get(cls.__module__), "__file__", None), error)
        words = ", ".join(filter(None, (class_name(cls), place)))
        raise InputError(f"{type(error).__name__}: {_said(error)} ({words})") from error


def _said(error: BaseException) -> str:
    """The text of an error, which a class of the user's may compute."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be read)"


def class_name(cls: type) -> str:
    """ "module:Class", as a yaml's `name:` has it."""
    return f"{cls.__module__}:{cls.__qualname__}"


def where_in(file: str | None, error: BaseException) -> str:
    """ "file.py, line 3" of the innermost place in this file; empty where the error never was there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{clean(Path(file).name)}, line {lines[-1]}" if file and lines else ""


def _where(error: BaseException) -> str:
    """ "file.py, line 3; " of the innermost place outside the standard library and the installed packages."""
    frames: list[traceback.FrameSummary] = list(traceback.extract_tb(error.__traceback__))
    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib"))
    frames = [frame for frame in frames if not frame.filename.startswith("<")]  # frozen modules, exec
    own = [
        frame for frame in frames if not frame.filename.startswith(libraries) or PACKAGE in Path(frame.filename).parents
    ]
    here = own or frames
    return f"{clean(Path(here[-1].filename).name)}, line {here[-1].lineno}; " if here else ""
