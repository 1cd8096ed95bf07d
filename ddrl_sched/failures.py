"""What a failure tells the user: an exit status and a message, without a traceback."""

DONE, FAILED, BAD_INPUT, IO_ERROR, INTERRUPTED = 0, 1, 2, 4, 130


def explain(error: BaseException) -> tuple[int, str]:
    """Exit status and message of an error.

    2 for a ValueError (InputError among them: the user's input), 4 for an OSError (RecordsError among them: records
    that cannot be read or written), 130 for an interrupt from the keyboard, 1 for anything else (a mistake of ours).
    """
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, ValueError):
        return BAD_INPUT, str(error)
    if isinstance(error, OSError):
        return IO_ERROR, str(error)
    return FAILED, f"{type(error).__name__}: {error} (--debug shows where)"
