"""Loading run folders: good ones come back as written, anything else is named with a reason and never executed."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddrl_sched.config import InputError, clean
from ddrl_sched.report.load import load
from ddrl_sched.run import records
from tests.test_records import curves_frame, eval_frame, job


def write_run(folder, *, rows=None, curves=False, **changes):
    """A finished run folder; `changes` of job.json."""
    rows = eval_frame(3) if rows is None else rows
    scheduler = rows.scheduler.iloc[0] if len(rows) else "x"
    records.write_job(folder, job(**{"job_id": folder.name, "scheduler": scheduler, **changes}))
    records.write_table(folder / "eval.parquet", rows, records.EVAL_SCHEMA)
    if curves:
        records.write_table(folder / "curves.parquet", curves_frame(), records.CURVES_SCHEMA)
    records.write_manifest(folder)
    return folder


def only_reason(path):
    found = load([path])
    assert found.rows.empty
    assert len(found.skipped) == 1
    return found.skipped[0][1]


def test_rows_come_back_with_their_job(tmp_path):
    write_run(tmp_path / "exp" / "a1", rows=eval_frame(3, mean_delay_s=0.25), curves=True)
    found = load([tmp_path], curves=True)
    assert found.skipped == []
    assert found.notes == []
    assert len(found.rows) == 3
    assert set(records.EVAL_SCHEMA.names) <= set(found.rows.columns)
    row = found.rows.iloc[0]
    assert (row.mean_delay_s, row.job_id, row.experiment, row.baselines) == (0.25, "a1", "toy", ("eft",))
    assert found.curves[["metric", "value", "job_id"]].values.tolist() == [["loss", 0.25, "a1"]]


def test_a_path_may_be_the_root_an_experiment_or_one_folder_and_counts_once(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / "exp é" / name, rows=eval_frame(2, scheduler=name))
    write_run(tmp_path / "other" / "c", rows=eval_frame(2, scheduler="c"))
    assert len(load([tmp_path]).rows) == 6
    assert len(load([tmp_path / "exp é"]).rows) == 4
    assert len(load([tmp_path / "exp é" / "a"]).rows) == 2
    again = load([tmp_path, str(tmp_path / "exp é" / "a"), tmp_path / "exp é"])
    assert len(again.rows) == 6
    assert again.notes == []


def test_a_path_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load([tmp_path / "nowhere"])
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder"):
        load([tmp_path / "file"])


def test_the_newest_of_identical_runs_counts_and_is_named(tmp_path):
    old = write_run(tmp_path / "z", rows=eval_frame(3, mean_delay_s=1.0), created="2030-01-01T00:00:00Z")
    new = write_run(tmp_path / "a", rows=eval_frame(2, mean_delay_s=2.0), created="2030-01-01T03:00:00+01:00")
    found = load([tmp_path])
    assert found.rows.mean_delay_s.tolist() == [1.0, 2.0, 2.0]  # trace 2 is only in the older one
    assert len(found.notes) == 1
    assert all(word in found.notes[0] for word in (str(old), str(new), "2 rows", "repeated"))


@pytest.mark.parametrize("change", [{"settings": {"load": 0.5, "train": "long"}}, {"code_version": "d"}])
def test_runs_with_other_settings_or_code_are_never_mixed(tmp_path, change):
    write_run(tmp_path / "a", rows=eval_frame(3, mean_delay_s=1.0), created="2030-01-01")
    write_run(tmp_path / "b", rows=eval_frame(2, mean_delay_s=2.0), created="2030-01-02", **change)
    found = load([tmp_path])
    assert found.rows.mean_delay_s.tolist() == [2.0, 2.0]
    assert "3 rows" in found.notes[0]
    assert "other settings or code" in found.notes[0]


def test_number_of_seeds_and_baselines_do_not_make_another_scheduler(tmp_path):
    settings = {"load": 0.5}
    write_run(tmp_path / "a", rows=eval_frame(2, seed=0), settings=settings | {"seeds": 1, "baselines": []})
    write_run(tmp_path / "b", rows=eval_frame(2, seed=1), settings=settings | {"seeds": 2, "baselines": ["x"]})
    found = load([tmp_path])
    assert len(found.rows) == 4
    assert found.notes == []


def test_different_code_side_by_side_is_said(tmp_path):
    write_run(tmp_path / "a", rows=eval_frame(2, scheduler="a"))
    write_run(tmp_path / "b", rows=eval_frame(2, scheduler="b"), code_version="d")
    found = load([tmp_path])
    assert len(found.rows) == 4
    assert found.notes == ["results of different versions of the code stand side by side"]


def test_unfinished_and_failed_jobs_are_named(tmp_path):
    records.write_job(tmp_path / "a", job(status="running"))
    records.write_job(tmp_path / "b", job(status="failed", error="boom\n\x1b[31mred"))
    reasons = dict(load([tmp_path]).skipped)
    assert reasons == {
        str(tmp_path / "a"): "the job is still running or was interrupted",
        str(tmp_path / "b"): "the job failed: boom ?[31mred",
    }


def test_a_run_that_was_only_trained_is_a_note(tmp_path):
    records.write_job(tmp_path / "a", job())
    records.write_table(tmp_path / "a" / "curves.parquet", curves_frame(), records.CURVES_SCHEMA)
    records.write_manifest(tmp_path / "a")
    found = load([tmp_path], curves=True)
    assert found.rows.empty
    assert found.skipped == []
    assert len(found.curves) == 1
    assert "not evaluated" in found.notes[0]


def test_names_lose_what_a_terminal_would_obey(tmp_path):
    evil = "e\x1b[2Jft\n\u202e\u200b"
    write_run(tmp_path / "a\x1b]0;x\nb", rows=eval_frame(1, scheduler=evil), experiment=evil, baselines=[evil])
    found = load([tmp_path])
    assert found.rows.scheduler.tolist() == ["e?[2Jft???"]
    assert found.rows.baselines[0] == ("e?[2Jft???",)
    text = " ".join(map(str, found.rows.iloc[0]))
    assert text.isprintable()
    (tmp_path / "a\x1b]0;x\nb" / "job.json").write_text("{}")
    assert " ".join(load([tmp_path]).skipped[0]).isprintable()
    assert clean("é ok\x00\udcff") == "é ok??"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mean_delay_s": float("nan")}, "mean_delay_s is nan in row 0"),
        ({"mean_delay_s": float("inf")}, "mean_delay_s is inf"),
        ({"mean_delay_s": 0.0}, "mean_delay_s is 0.0"),
        ({"n_tasks": 0}, "n_tasks is 0"),
        ({"late_rate": 1.5}, "late_rate is 1.5"),
        ({"time_scale": -1.0}, "time_scale is -1.0"),
        ({"trace": 0}, "two rows"),
        ({"scenario": "x" * 201}, "more than 200 characters"),
    ],
)
def test_rows_that_cannot_be_averaged_are_refused(tmp_path, change, reason):
    write_run(tmp_path / "a", rows=eval_frame(2, **change))
    assert reason in only_reason(tmp_path)


def test_no_rows_is_refused(tmp_path):
    write_run(tmp_path / "a", rows=eval_frame(1).iloc[:0])
    assert only_reason(tmp_path) == "eval.parquet has no rows"


# Hostile folders. Each kind changes a good folder; those that change content sign it again, as a stranger can.


def _json(change):
    def hostile(folder, rng):
        plain = json.loads((folder / "job.json").read_text())
        change(plain)
        (folder / "job.json").write_text(json.dumps(plain))
        records.write_manifest(folder)

    return hostile


def _bytes(name, make, sign=True):
    def hostile(folder, rng):
        data = make((folder / name).read_bytes(), rng)
        (folder / name).write_bytes(data)
        if sign:
            records.write_manifest(folder)

    return hostile


def _flip(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _table(change):
    def hostile(folder, rng):
        table = change(pq.read_table(folder / "eval.parquet"))
        pq.write_table(table, folder / "eval.parquet")
        records.write_manifest(folder)

    return hostile


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload_ran",)


def _link(name, target):
    def hostile(folder, rng):
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return hostile


def _fifo(name):
    def hostile(folder, rng):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return hostile


def _folder(name):
    def hostile(folder, rng):
        (folder / name).unlink()
        (folder / name).mkdir()

    return hostile


def _moved(name):
    def hostile(folder, rng):
        twin = folder.parent.parent / "elsewhere" / folder.name
        twin.mkdir(parents=True)
        (folder / name).rename(twin / name)
        (folder / name).symlink_to(twin / name)

    return hostile


def _whole_folder_linked(folder, rng):
    twin = folder.parent.parent / "elsewhere" / folder.name
    twin.parent.mkdir(exist_ok=True)
    folder.rename(twin)
    folder.symlink_to(twin)


def _bomb(folder, rng):
    """A small file of very many rows."""
    row = pq.read_table(folder / "eval.parquet").slice(0, 1)
    columns = [pa.DictionaryArray.from_arrays(np.zeros(1_000_001, np.int8), c.combine_chunks()) for c in row.columns]
    table = pa.Table.from_arrays([c.dictionary_decode() for c in columns], schema=row.schema)
    pq.write_table(table, folder / "eval.parquet", store_schema=False, write_statistics=False)
    records.write_manifest(folder)


def _manifest(change):
    def hostile(folder, rng):
        plain = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(change(plain)))

    return hostile


def _sparse(name):
    def hostile(folder, rng):
        os.truncate(folder / name, 1 << 34)

    return hostile


HOSTILE = {
    "job flipped": _bytes("job.json", _flip, sign=False),
    "job truncated": _bytes("job.json", lambda d, rng: d[: rng.randrange(len(d) - 1)]),
    "job not utf8": _bytes("job.json", lambda d, rng: b"\xff" + d),
    "job deep": _bytes("job.json", lambda d, rng: b"[" * 200_000),
    "job huge": _bytes("job.json", lambda d, rng: d + b" " * 2_000_000),
    "job long number": _bytes("job.json", lambda d, rng: d.replace(b"1.5", b"9" * 10_000)),
    "job nan": _bytes("job.json", lambda d, rng: d.replace(b"1.5", b"NaN")),
    "job infinite": _bytes("job.json", lambda d, rng: d.replace(b"1.5", b"1e400")),
    "job twice a key": _bytes("job.json", lambda d, rng: d.replace(b"{", b'{"status": "failed",', 1)),
    "job pickle": _bytes("job.json", lambda d, rng: pickle.dumps(Payload())),
    "job list": _bytes("job.json", lambda d, rng: b"[]"),
    "job old": _json(lambda j: j.update(schema_version=0)),
    "job yaml": _bytes("job.json", lambda d, rng: b"a: &a [x]\nb: [*a, *a]"),
    "job seeds": _json(lambda j: j.update(seeds=["0"])),
    "job unknown key": _json(lambda j: j.update(_target_="os.system")),
    "job baselines": _json(lambda j: j.update(baselines=[{"_target_": "os.system"}])),
    "job link": _moved("job.json"),
    "job fifo": _fifo("job.json"),
    "job zero": _link("job.json", "/dev/zero"),
    "job folder": _folder("job.json"),
    "eval flipped": _bytes("eval.parquet", _flip, sign=False),
    "eval truncated": _bytes("eval.parquet", lambda d, rng: d[: rng.randrange(len(d) - 1)]),
    "eval noise": _bytes("eval.parquet", lambda d, rng: rng.randbytes(3000)),
    "eval pickle": _bytes("eval.parquet", lambda d, rng: pickle.dumps(Payload())),
    "eval csv": _bytes("eval.parquet", lambda d, rng: b"scenario,seed\nx,1\n"),
    "eval empty": _bytes("eval.parquet", lambda d, rng: b""),
    "eval column lost": _table(lambda t: t.drop_columns(["trace"])),
    "eval column more": _table(lambda t: t.append_column("more", t["seed"])),
    "eval column text": _table(lambda t: t.set_column(8, "seed", pa.array(["0"] * len(t)))),
    "eval nullable": _table(lambda t: t.cast(pa.schema([f.with_nullable(True) for f in t.schema]))),
    "eval order": _table(lambda t: t.select(t.column_names[::-1])),
    "eval bomb": _bomb,
    "eval link": _moved("eval.parquet"),
    "eval fifo": _fifo("eval.parquet"),
    "eval zero": _link("eval.parquet", "/dev/zero"),
    "eval dangling": _link("eval.parquet", "nowhere"),
    "eval folder": _folder("eval.parquet"),
    "eval sparse": _sparse("eval.parquet"),
    "manifest gone": lambda folder, rng: (folder / "manifest.json").unlink(),
    "manifest empty": _manifest(lambda m: {}),
    "manifest list": _manifest(list),
    "manifest path": _manifest(lambda m: m | {"../../x": "0"}),
    "manifest wrong": _manifest(lambda m: dict.fromkeys(m, "0" * 64)),
    "manifest forgets": _manifest(lambda m: {"job.json": m["job.json"]}),
    "manifest sparse": _sparse("manifest.json"),
    "folder linked": _whole_folder_linked,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_named_and_harmless(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    write_run(root / "good", rows=eval_frame(2, scheduler="good"))
    bad = write_run(root / "bad", rows=eval_frame(2, scheduler="bad"))
    HOSTILE[kind](bad, random.Random(kind))
    found = load([root])
    assert set(found.rows.scheduler) == {"good"}
    assert [path for path, _ in found.skipped] == [str(bad)]
    assert found.skipped[0][1].isprintable()
    assert len(found.skipped[0][1]) > 10
    assert not (tmp_path / "payload_ran").exists()


@pytest.mark.parametrize("seed", range(60))
def test_signed_noise_in_parquet_is_read_or_named(tmp_path, seed):
    """A stranger signs a file with one changed byte: no crash; page checksums find what the format cannot."""
    rng = random.Random(seed)
    folder = write_run(tmp_path / "runs" / "a")
    before = load([tmp_path / "runs"]).rows
    _bytes("eval.parquet", _flip)(folder, rng)
    found = load([tmp_path / "runs"])
    if found.skipped:
        assert found.rows.empty
    else:
        pd.testing.assert_frame_equal(found.rows, before)


def test_inert_code_in_settings_is_data(tmp_path):
    settings = {"scheduler": {"_target_": "os.mkdir", "path": str(tmp_path / "ran")}, "secret": "${oc.env:HOME}"}
    write_run(tmp_path / "runs" / "a", settings=settings)
    found = load([tmp_path / "runs"])
    assert len(found.rows) == 3
    assert not (tmp_path / "ran").exists()
    assert os.environ["HOME"] not in found.rows.drop(columns="folder").to_string()


AUDIT = """
import sys
from ddrl_sched.report.load import load
load([sys.argv[1]])  # whatever is imported late is imported
bad = []
def audit(event, args):
    if event in ("os.system", "subprocess.Popen", "socket.connect", "pickle.find_class", "exec", "compile", "import"):
        bad.append((event, args))
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        bad.append((event, args))
sys.addaudithook(audit)
found = load([sys.argv[2]])
print(len(found.rows), len(found.skipped), bad)
print([m for m in sys.modules if m.split(".")[0] in ("torch", "numba", "hydra") or m.startswith("ddrl_sched.edge")])
"""


def test_a_corpus_of_folders_runs_nothing(tmp_path):
    good = write_run(tmp_path / "good" / "a")
    runs = tmp_path / "runs"
    for number, kind in enumerate(HOSTILE):
        if kind != "eval bomb":
            HOSTILE[kind](write_run(runs / f"bad{number}"), random.Random(number))
    shutil.copytree(good, runs / "a")
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(good.parent), str(runs)],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"3 {len(HOSTILE) - 1} []", "[]"]
