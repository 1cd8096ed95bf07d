"""Disks that are full or cannot be written: exit status 4, one line that names the path, and what was there stays."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ddrl_sched.cli import app
from ddrl_sched.failures import explain
from ddrl_sched.jobs import checkpoint, records
from tests.jobs.test_scheduling_job import settings
from tests.jobs_by_hand import run_job
from tests.paths import DATA
from tests.resume_jobs import NO_OPTIONS, child, folder_of, outcome, run, status_of, tiny

limited = pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs RLIMIT_FSIZE")


def run_with(limit, data, said: Path):
    """Run a job in a child that cannot write a file of more bytes than `limit`; its status. `said` gets its error."""

    def act():
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            run_job(data, "sweep", NO_OPTIONS)
        except Exception as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            status, message = explain(error)
            os.write(file, message.encode())
            sys.exit(status)

    return status_of(child(act))


def fill_at(limits, make, tmp_path):
    """Names of the files that did not fit, one for each limit; everything else about a full disk is checked."""
    torch.set_num_threads(1)
    earlier = settings(tmp_path / "runs", seed=7)
    assert run(earlier) == 0
    before, named = outcome(folder_of(earlier)), []
    expected = None
    for limit in limits:
        data, said = make(tmp_path / "runs", limit), tmp_path / "said"
        assert run_with(limit, data, said) == 4
        folder, message = folder_of(data), said.read_text()
        assert message.startswith(f"cannot write {folder}")
        assert message.endswith(": File too large")
        assert "\n" not in message
        assert list(folder.rglob("*.tmp")) == []
        assert not records.is_done(folder)
        named.append(message.split(":")[0].rpartition("/")[2])
        assert run(data) == 0
        expected = expected or outcome(folder)
        assert outcome(folder) == expected
    assert outcome(folder_of(earlier)) == before
    return named


@limited
def test_a_full_disk_at_twenty_limits(tmp_path):
    def make(folder, limit):
        return settings(folder / str(limit))

    sizes = sizes_of(settings(tmp_path / "whole"))
    most = max(sizes.values()) - 50  # measured seconds in job.json have more or fewer digits
    limits = np.linspace(0, most, 20).astype(int).tolist()
    named = fill_at(limits, make, tmp_path)
    print(f"disk full at {len(limits)} limits: all exit with 4; files that did not fit: {sorted(set(named))}")
    assert set(named) == {"job.json", "eval.parquet"}


@limited
def test_a_state_that_cannot_be_saved_ends_the_training(tmp_path):
    def make(folder, limit):
        return tiny(folder / str(limit), "lad_ts", checkpoint_s=0.0)

    sizes = sizes_of(make(tmp_path / "whole", 0))
    limit = max(size for name, size in sizes.items() if name != checkpoint.FILE)
    assert fill_at([limit], make, tmp_path) == [checkpoint.FILE]


def sizes_of(data):
    """Bytes of every file that a job writes."""
    sizes, replace = {}, os.replace

    def measure(source, target):
        if Path(target).is_relative_to(data["runs_dir"]):  # and no kernel
            sizes[Path(target).name] = max(sizes.get(Path(target).name, 0), Path(source).stat().st_size)
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", measure)
        run_job(data, "sweep", NO_OPTIONS)
    return sizes


def test_an_error_of_files_leaves_the_job_to_be_gone_on_with(tmp_path, monkeypatch):
    """Whoever's file it is: here numba's, of a kernel that it compiled."""

    def evaluate(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/cache/kernel.nbc")

    data = settings(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("ddrl_sched.jobs.scheduling.evaluate", evaluate)
        with pytest.raises(OSError, match="No space left") as caught:
            run_job(data, "sweep", NO_OPTIONS)
    assert explain(caught.value) == (4, "/cache/kernel.nbc: No space left on device")
    assert records.read_job(folder_of(data))["status"] == "running"
    assert run_job(data, "sweep", NO_OPTIONS) == "done"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["list"], ["eval", "--cfg", "job"]], ids=lambda words: words[0])
def test_standard_output_that_cannot_be_written_is_named(words):
    command = [sys.executable, "-m", "ddrl_sched", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (4, "error: standard output: No space left on device\n")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(records.RecordsError, match=rf"cannot write {tmp_path}/runs/jobs/.*: Not a directory"):
        run_job(settings(tmp_path / "runs"), "sweep", NO_OPTIONS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    data = settings(tmp_path / "runs")
    assert run_job(data, "sweep", NO_OPTIONS) == "done"
    folder = folder_of(settings(tmp_path / "runs", seed=3))
    folder.mkdir()
    folder.chmod(0o555)
    with pytest.raises(records.RecordsError, match=rf"cannot write {folder}/.*: Permission denied"):
        run_job(settings(tmp_path / "runs", seed=3), "sweep", NO_OPTIONS)
    assert run_job(data, "sweep", NO_OPTIONS) == "skipped"


# --- power loss: what a rename publishes is on the disk before, and the rename itself after


class Recorder:
    """Notes in which order files are synced and renamed, and complains where that is wrong."""

    def __init__(self, patch, place):
        self.place = place.resolve()
        self.synced: dict[str, int] = {}  # path -> bytes when it was last synced
        self.renamed: list[Path] = []
        self.waiting: set[Path] = set()  # folders in which something was renamed since they were synced
        self._fsync, self._replace = os.fsync, os.replace
        patch.setattr(os, "fsync", self.fsync)
        patch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        self._fsync(descriptor)
        self.synced[path] = os.fstat(descriptor).st_size
        self.waiting.discard(Path(path))

    def replace(self, source, target):
        if self.place not in Path(target).resolve().parents:  # numba's compiled code
            return self._replace(source, target)
        assert self.synced.get(os.path.realpath(source)) == os.stat(source).st_size, f"{target} was not synced"
        assert not self.waiting, f"{self.waiting} were not synced after a rename"
        self._replace(source, target)
        self.renamed.append(Path(target).resolve())
        self.waiting.add(Path(target).resolve().parent)
        return None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_every_published_file_is_written_synced_renamed_and_its_folder_synced(tmp_path, monkeypatch):
    recorder = Recorder(monkeypatch, tmp_path)
    torch.set_num_threads(1)
    for data in (tiny(tmp_path / "runs", "lad_ts", checkpoint_s=0.0), settings(tmp_path / "runs")):
        run_job(data, "sweep", NO_OPTIONS)
    with pytest.raises(SystemExit) as ended:
        app(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "report")])
    assert ended.value.code == 0
    golden = next((DATA / "golden").glob("*.npz"))
    with pytest.raises(SystemExit) as ended:
        app(["replay", str(golden), "--out", str(tmp_path / "replayed.npz")])
    assert ended.value.code == 0
    assert not recorder.waiting
    there = {path for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."}  # no locks
    assert there <= set(recorder.renamed)
    print(f"{len(recorder.renamed)} writes of {len(set(recorder.renamed))} files, all in order")
    assert len(there) >= 12
