"""A disk that is full at any one write, fsync or rename: exit status 4, the path, and what was there stays."""

import errno
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from ddrl_sched import saving
from ddrl_sched.failures import explain
from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.report.tables import main as report
from tests.hostile_folders import write_run
from tests.jobs.test_records import eval_frame
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import run_job
from tests.resume_jobs import NO_OPTIONS, child, folder_of, outcome, run, status_of, tiny

# fault points at which the system may answer that there is no space; "done" is passed when all is on the disk
FULL = ("made", "created", "written", "synced", "renamed")
LEARNED_FILES = {"job.json", "curves.parquet", "weights.safetensors", "run.log", "eval.parquet", records.MANIFEST,
                 checkpoint.FILE}  # fmt: skip


def full_at(number, passed):
    """A fault point that has no space left the `number`-th time (from 0); `passed` gets all (moment, path) so far."""

    def point(moment: str, path: Path) -> None:
        if moment not in FULL:
            return
        passed.append((moment, path))
        if len(passed) - 1 == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return point


def run_full_at(number, act, said: Path):
    """(status, message, [(moment, path)]) of `act` in a child with no space left at its `number`-th write."""

    def fill():
        passed = []
        saving.fault_point = full_at(number, passed)
        status, message = 0, ""
        try:
            act()
        except Exception as error:
            status, message = explain(error)
        said.write_text(json.dumps([message, [(moment, str(path)) for moment, path in passed]]))
        sys.exit(status)

    status = status_of(child(fill))
    message, passed = json.loads(said.read_text())
    return status, message, [(moment, Path(path)) for moment, path in passed]


def written_name(path):
    """The file that a temporary file is to become."""
    return path.name[1:].rsplit(".", 3)[0] if path.suffix == ".tmp" else path.name


def fill_a_training(tmp_path, how_many):
    torch.set_num_threads(1)
    runs, said = tmp_path / "runs é", tmp_path / "said"
    earlier = settings(runs, seed=7)
    assert run(earlier) == 0
    before = outcome(folder_of(earlier))
    whole = tiny(tmp_path / "whole", "lad_ts")
    _, _, points = run_full_at(-1, lambda: run_job(whole, "sweep", NO_OPTIONS), said)
    expected, filled = outcome(folder_of(whole)), Counter()
    numbers = chosen([written_name(path) for _, path in points], how_many)
    for number in numbers:
        data = tiny(runs / str(number), "lad_ts")
        folder = folder_of(data)
        status, message, passed = run_full_at(number, lambda data=data: run_job(data, "sweep", NO_OPTIONS), said)
        moment, path = passed[-1]
        assert (status, moment, len(passed)) == (4, points[number][0], number + 1), message
        assert message.startswith("cannot write ")
        assert message.endswith(f"{written_name(path)}: {os.strerror(errno.ENOSPC)}" if moment != "made" else "device")
        assert "\n" not in message
        assert list(folder.rglob("*.tmp")) == []
        if (moment, path.name) != ("renamed", records.MANIFEST):
            assert not records.is_done(folder)
        filled[written_name(path)] += 1
        assert run(data) == 0
        assert outcome(folder) == expected, (moment, path)
    assert outcome(folder_of(earlier)) == before
    print(f"\ndisk full at {len(numbers)} of {len(points)} writes of files {dict(filled)}: all exit with 4, all go on")
    return filled


def chosen(names, how_many):
    """Numbers of that many points, evenly spread, of each file at least one."""
    return sorted({*range(0, len(names), -(-len(names) // how_many)), *(names.index(name) for name in names)})


def test_a_full_disk_at_twenty_writes_of_a_training(tmp_path):
    filled = fill_a_training(tmp_path, 14)
    assert filled.keys() > LEARNED_FILES
    assert 18 <= filled.total() <= 26


@pytest.mark.slow
def test_a_full_disk_at_every_write_of_a_training(tmp_path):
    assert fill_a_training(tmp_path, 10_000).total() >= 60


def test_a_full_disk_at_every_write_of_a_report(tmp_path, capfd):
    """Each table is the old one, whole, or the new one, whole; the same command again writes them all."""
    runs, said, out = write_run(tmp_path / "runs" / "a", rows=eval_frame(4)), tmp_path / "said", tmp_path / "new"

    def files(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert report([runs], [], "csv", tmp_path / "old") == 0
    old = files(tmp_path / "old")
    write_run(runs, rows=eval_frame(4, mean_delay_s=0.125))
    _, _, points = run_full_at(-1, lambda: report([runs], [], "csv", out), said)
    new = files(out)
    assert new.keys() == old.keys()
    filled = Counter()
    for number in range(1, len(points)):  # the first makes the folder, which is there in what follows
        place = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", place)
        status, message, passed = run_full_at(number - 1, lambda place=place: report([runs], [], "csv", place), said)
        name = written_name(passed[-1][1])
        assert (status, message) == (4, f"cannot write {place / name}: {os.strerror(errno.ENOSPC)}")
        there = files(place)
        assert there.keys() == old.keys()
        assert all(there[name] in (old[name], new[name]) for name in there)
        filled[name] += 1
        assert report([runs], [], "csv", place) == 0
        assert files(place) == new
    assert run_full_at(0, lambda: report([runs], [], "csv", tmp_path / "none"), said)[:2] == (
        4, f"cannot write {tmp_path / 'none' / 'report.md'}: {os.strerror(errno.ENOSPC)}"
    )  # fmt: skip
    capfd.readouterr()
    print(f"disk full at {len(points)} of {len(points)} writes of a report, files {dict(filled)}: all exit with 4")
    assert filled.keys() == {path.name for path in out.iterdir()}
