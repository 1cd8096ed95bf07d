"""What a failure tells the user: an exit status and a message, without a traceback."""

import sysconfig
import traceback
from pathlib import Path

from ddrl_sched.config import clean

PACKAGE = Path(__file__).resolve().parent
DONE, FAILED, BAD_INPUT, IO_ERROR, INTERRUPTED = 0, 1, 2, 4, 130


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
