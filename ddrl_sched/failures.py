"""What a failure tells the user: an exit status and a message, without a traceback."""

import traceback
from pathlib import Path

from ddrl_sched.config import clean

DONE, FAILED, BAD_INPUT, IO_ERROR, INTERRUPTED = 0, 1, 2, 4, 130


def explain(error: BaseException) -> tuple[int, str]:
    """Exit status and message of an error; whatever its text quotes, nothing in it steers a terminal.

    2 for a ValueError (InputError among them: the user's input), 4 for an OSError (RecordsError among them: files
    that cannot be read or written, named where the error names one), 130 for an interrupt from the keyboard, 1 for
    anything else (a mistake of ours, or of a class of yours), with file and line.
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
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{clean(Path(frames[-1].filename).name)}, line {frames[-1].lineno}; " if frames else ""
    return FAILED, f"{type(error).__name__}: {text} ({where}--debug shows more)"
