"""Run folders: atomic writes, exact schemas, manifests, identity."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl_sched import fingerprint, saving
from ddrl_sched.jobs import records, schemas
from ddrl_sched.jobs.request import job_id


def job(**changes):
    plain = {
        "schema_version": schemas.SCHEMA_VERSION, "job_id": "0123456789abcdef", "experiment": "toy", "status": "done",
        "settings": {"load": 0.5}, "input_sha256": {}, "overrides": [], "seeds": [0], "scenario_hash": "h",
        "scheduler": "eft", "learned": False, "baselines": ["eft"], "code_version": "c", "packages": {}, "numerics": {},
        "created": "2030-01-02T03:04:05+00:00", "duration_s": 1.5, "cpu_s": None, "error": None, "training": None,
    }  # fmt: skip
    return plain | changes


def eval_frame(n_rows=1, **changes):
    row = {f.name: "x" if f.type == "string" else 1 if f.type == "int64" else 0.5 for f in schemas.EVAL_SCHEMA}
    return pd.DataFrame([row | {"time_scale": 1.0, "trace": i} | changes for i in range(n_rows)])


def curves_frame():
    return pd.DataFrame({"seed": [0], "tasks_seen": [10], "update": [1], "metric": ["loss"], "value": [0.25]})


def write_folder(folder, **changes):
    records.write_job(folder, job(**changes))
    records.write_table(folder / "eval.parquet", eval_frame(3), schemas.EVAL_SCHEMA)
    records.write_table(folder / "curves.parquet", curves_frame(), schemas.CURVES_SCHEMA)
    records.write_bytes(folder / "weights.safetensors", b"w" * 1000)
    records.write_manifest(folder)
    return folder


def test_columns_are_those_of_the_record():
    columns = """
        scenario workload rule scenario_hash load realised_load scheduler info seed trace cluster n_tasks
        mean_delay_s p50_delay_s p95_delay_s p99_delay_s late_rate wait_s transfer_s compute_s return_s
        mean_servers probes_per_task decide_us time_scale caused_load queue_early queue_late"""
    assert schemas.EVAL_SCHEMA.names == columns.split()
    assert schemas.CURVES_SCHEMA.names == ["seed", "tasks_seen", "update", "metric", "value"]


def test_table_comes_back_as_written_nan_included(tmp_path):
    frame = eval_frame(2, decide_us=float("nan"))
    records.write_table(tmp_path / "eval.parquet", frame[frame.columns[::-1]], schemas.EVAL_SCHEMA)
    file = pq.ParquetFile(tmp_path / "eval.parquet", page_checksum_verification=True)
    assert file.schema_arrow.equals(schemas.EVAL_SCHEMA)
    back = file.read().to_pandas()
    assert back.trace.tolist() == [0, 1]
    assert back.decide_us.isna().all()
    assert (back.mean_delay_s == 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1.5}, "column seed"),
        ({"scenario": None}, "column scenario"),
        ({"load": "much"}, "column load"),
        ({"extra": 1.0}, r"unknown columns \['extra'\]"),
    ],
)
def test_table_of_another_form_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        records.write_table(tmp_path / "eval.parquet", eval_frame(**change), schemas.EVAL_SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_page_checksums_are_written(tmp_path):
    path = tmp_path / "curves.parquet"
    frame = pd.concat([curves_frame()] * 1000)
    frame["value"] = np.random.default_rng(0).random(1000)
    records.write_table(path, frame, schemas.CURVES_SCHEMA)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"(?i)crc|checksum|corrupt"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "finished"}, "status is 'finished'"),
        ({"seeds": [0, True]}, "seeds is not"),
        ({"duration_s": float("nan")}, "duration_s is not"),
        ({"schema_version": 1}, "schema_version is 1"),
        ({"created": "yesterday"}, "created is not time"),
        ({"mood": "good"}, "unknown key mood"),
        ({"settings": {"load": float("inf")}}, "JSON"),
        ({"input_sha256": {"workload.path": "a"}}, "input_sha256 is not sha256 of workload.path and env.network.file"),
        ({"training": {"job_id": "a"}}, "training is not null or job_id, overrides, created, cpu_s, code_version of a"),
        ({"input_sha256": {"scheduler": "0" * 64}}, "input_sha256 is not"),
    ],
)
def test_job_of_another_form_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        records.write_job(tmp_path, job(**change))
    assert list(tmp_path.iterdir()) == []


def test_job_with_a_missing_key_is_refused(tmp_path):
    plain = job()
    del plain["learned"]
    with pytest.raises(ValueError, match="missing key learned"):
        records.write_job(tmp_path, plain)


def test_done_needs_status_and_a_fitting_manifest(tmp_path):
    folder = write_folder(tmp_path / "job é")
    assert records.is_done(folder)
    records.write_job(folder, job(status="running"))
    assert not records.is_done(folder)  # the manifest is of the older job.json
    records.write_manifest(folder)
    assert not records.is_done(folder)
    records.write_job(folder, job())
    assert not records.is_done(folder)
    records.write_manifest(folder)
    assert records.is_done(folder)
    (folder / "run.log").write_text("grows later")
    assert records.is_done(folder)


def test_every_flipped_bit_is_found(tmp_path):
    folder = write_folder(tmp_path / "job")
    rng = np.random.default_rng(1)
    files = [p for p in folder.iterdir() if p.name != "run.log"]
    assert len(files) == 5
    for path in files:
        data = path.read_bytes()
        for _ in range(20):
            broken = bytearray(data)
            broken[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            path.write_bytes(broken)
            assert not records.is_done(folder), path.name
        path.write_bytes(data)
    assert records.is_done(folder)


@pytest.mark.parametrize("name", ["eval.parquet", "job.json", "manifest.json"])
def test_a_missing_or_linked_file_is_not_done(tmp_path, name):
    folder = write_folder(tmp_path / "job")
    (folder / name).rename(tmp_path / name)
    assert not records.is_done(folder)
    (folder / name).symlink_to(tmp_path / name)
    assert not records.is_done(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert not records.is_done(folder)  # and does not wait for a writer


def test_order_of_a_write(tmp_path, monkeypatch):
    """Write, fsync of the file, rename, fsync of the folder."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def record_replace(source, target):
        assert Path(source).read_bytes() == b"new"
        calls.append(("rename", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    records.write_bytes(tmp_path / "a", b"new")
    assert [kind for kind, _ in calls] == ["fsync", "rename", "fsync"]
    assert calls[0][1].parent == tmp_path
    assert calls[0][1].name != "a"
    assert calls[2][1] == tmp_path


def test_a_new_folder_is_synced_into_its_parent(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(saving, "_sync_folder", synced.append)
    records.write_bytes(tmp_path / "runs" / "job" / "a", b"")
    assert synced == [tmp_path, tmp_path / "runs", tmp_path / "runs" / "job"]


DISK_FULL = """
import resource, signal, sys
from ddrl_sched.jobs.request import job_id
from ddrl_sched.jobs import records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    records.write_bytes(sys.argv[1], b"x" * 5000)
except records.RecordsError as error:
    print(error)
    sys.exit(4)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [0, 1, 1000, 4999])
def test_a_full_disk_keeps_the_old_file_and_names_the_path(tmp_path, limit):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(path), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4, done.stderr
    assert str(path) in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(records.RecordsError, match="folder"):
        records.write_bytes(tmp_path / "folder", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(records.RecordsError, match="file"):
        records.write_bytes(tmp_path / "file" / "job.json", b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_leftovers_of_a_killed_writer_go(tmp_path):
    (tmp_path / ".eval.parquet.12.ab.tmp").write_bytes(b"half")
    (tmp_path / "eval.parquet").write_bytes(b"whole")
    records.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["eval.parquet"]


def test_equal_settings_hash_equally():
    same = [
        {"load": 1.0, "name": "\u00e9", "servers": [1, 2], "zero": 0.0},
        {"zero": -0.0, "servers": (1.0, np.int64(2)), "name": "e\u0301", "load": 1},
        {"zero": 0, "servers": np.array([1.0, 2.0]), "name": "\u00e9", "load": np.float64(1)},
    ]
    assert len({fingerprint.canonical_hash(s) for s in same}) == 1


@pytest.mark.parametrize("other", [True, "1", 1.0000000001, [1], {"a": 1}, None, float("inf"), 2])
def test_other_settings_hash_otherwise(other):
    assert fingerprint.canonical_hash({"a": other}) != fingerprint.canonical_hash({"a": 1})


@pytest.mark.parametrize("value", [float("nan"), b"x", {1: 2}, {"b": object()}, np.array([np.nan])])
def test_what_is_not_plain_is_not_hashed(value):
    with pytest.raises(ValueError, match=r"cannot hash a"):
        fingerprint.canonical_hash({"a": value})


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(), st.floats(allow_nan=False) | st.integers() | st.text() | st.booleans(), min_size=2))
def test_hash_ignores_the_order_of_keys(plain):
    assert fingerprint.canonical_hash(plain) == fingerprint.canonical_hash(dict(reversed(plain.items())))


def test_job_id_changes_with_each_of_its_causes(monkeypatch):
    base = ({"load": 0.5}, {"workload.path": "trace"}, "code")
    others = [({"load": 0.6}, *base[1:]), (base[0], {"workload.path": "t"}, "code"), (*base[:2], "c")]
    ids = [job_id(*arguments) for arguments in [base, *others]]
    monkeypatch.setattr("ddrl_sched.jobs.request.SCHEMA_VERSION", 3)
    ids.append(job_id(*base))
    assert len(set(ids)) == 5
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in ids)


def test_code_version_follows_content_and_name(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "notes.yaml").write_text("x: 1")
    first = fingerprint.hash_of_code(tmp_path)
    (tmp_path / "notes.yaml").write_text("x: 2")
    assert fingerprint.hash_of_code(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2")
    second = fingerprint.hash_of_code(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, second, fingerprint.hash_of_code(tmp_path)}) == 3
    assert fingerprint.code_version() == fingerprint.hash_of_code(fingerprint.PACKAGE)


def test_records_never_load_torch_numba_or_the_world():
    code = (
        "import sys, ddrl_sched.jobs.records, ddrl_sched.fingerprint as f; f.numerics(); f.package_versions(); "
        "light = {'ddrl_sched.edge'} | {f'ddrl_sched.edge.{n}_settings' for n in ('env', 'workload')}; "
        "light.add('ddrl_sched.edge.input_file'); "
        "world = [m for m in sys.modules if m.startswith('ddrl_sched.edge') and m not in light]; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'numba')] + world)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
