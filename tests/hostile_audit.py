"""Run commands of ddrl under an audit hook and print what they did that reading a folder must never do.

    python -m tests.hostile_audit WORK SECRET WORD... [-- WORD...]

Each group of words is one command of the program, run in this process. Everything is imported and compiled before by
the same commands on a friendly folder (those before the word "HOSTILE"). WORK is the only folder that may be written.
Prints one JSON line per command: [exit status, [events]].
"""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

from ddrl_sched.cli import app

RUNS_CODE = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOVES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
)


def command(words):
    """Exit status of one command."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            app(words)
        except SystemExit as end:
            return end.code
    return None


def main():
    work, secret, *words = sys.argv[1:]
    work = os.path.realpath(work)
    groups = [group.split("\x1f") for group in words]
    at = groups.index(["HOSTILE"])
    for friendly in groups[:at]:
        assert command(friendly) == 0, friendly
    seen = []

    def outside(path):
        place = os.fsdecode(path) if isinstance(path, str | bytes) else ""
        whole = os.path.realpath(os.path.dirname(os.path.abspath(place)))
        return bool(place) and not f"{whole}/".startswith(f"{work}/")

    def audit(event, args):
        if event in RUNS_CODE or (event in MOVES and any(outside(path) for path in args[:2])):
            seen.append([event, repr(args[:2])])
        elif event == "open" and not isinstance(args[0], int):
            mode, flags = args[1] or "", args[2] or 0
            if (set(mode) & set("wax+") or flags & WRITES) and outside(args[0]):
                seen.append([event, repr(args)])
            elif os.path.abspath(os.fsdecode(args[0])) == secret:
                seen.append(["read", repr(args)])

    sys.addaudithook(audit)
    for hostile in groups[at + 1 :]:
        seen.clear()
        status = command(hostile)
        print(json.dumps([status, list(seen)]))


if __name__ == "__main__":
    main()
