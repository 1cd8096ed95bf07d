"""What processes of tests/launchers/test_launchers.py do; a module that is loaded quickly."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ddrl_sched.launchers import processes


def alone_with(job):
    """A command whose worker does `job`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), processes._begin) as executor:
        executor.submit(job).result()


def swallow_signals(folder):
    """A job of 60 s that goes on after SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: Path(folder, "heard").touch())
    Path(folder, "pid").write_text(str(os.getpid()), encoding="utf-8")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.05)
