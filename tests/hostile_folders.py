"""Run folders for tests: good ones, and the kinds of damage and malice a report must survive.

Each kind changes a good folder; those that change content sign it again, as a stranger can.
"""

import json
import os
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.jobs import records, schemas
from tests.jobs.test_records import curves_frame, eval_frame, job


def write_run(folder, *, rows=None, curves=False, **changes):
    """A finished run folder; `changes` of job.json."""
    rows = eval_frame(3) if rows is None else rows
    scheduler = rows.scheduler.iloc[0] if len(rows) else "x"
    records.write_job(folder, job(**{"job_id": folder.name, "scheduler": scheduler, **changes}))
    records.write_table(folder / "eval.parquet", rows, schemas.EVAL_SCHEMA)
    if curves:
        records.write_table(folder / "curves.parquet", curves_frame(), schemas.CURVES_SCHEMA)
    records.write_manifest(folder)
    return folder


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
    write_wide(folder, 1_000_001, 1)


def write_wide(folder, n_rows, n_traces):
    """The first row of a finished run many times, seeds and traces counted: valid, and much smaller than unpacked."""
    row = pq.read_table(folder / "eval.parquet").slice(0, 1)
    seed, trace = np.divmod(np.arange(n_rows), n_traces)
    counted = {"seed": seed, "trace": trace, "cluster": trace}
    same = [pa.DictionaryArray.from_arrays(np.zeros(n_rows, np.int8), c.combine_chunks()) for c in row.columns]
    columns = [
        pa.array(counted[name]) if name in counted else column.dictionary_decode()
        for name, column in zip(row.column_names, same, strict=True)
    ]
    pq.write_table(
        pa.Table.from_arrays(columns, schema=row.schema), folder / "eval.parquet", store_schema=False,
        write_statistics=False, compression="zstd", column_encoding=dict.fromkeys(counted, "DELTA_BINARY_PACKED"),
        use_dictionary=[name for name in row.column_names if name not in counted],
    )  # fmt: skip
    records.write_manifest(folder)


def _manifest(change):
    def hostile(folder, rng):
        plain = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(change(plain), indent=1, sort_keys=True))

    return hostile


def _sparse(name):
    def hostile(folder, rng):
        os.truncate(folder / name, 1 << 34)

    return hostile


def _rows(**changes):
    def hostile(folder, rng):
        write_run(folder, rows=eval_frame(9, scheduler="bad").assign(**changes))

    return hostile


def _weights(change):
    """Weights of a run, signed, and then changed."""

    def hostile(folder, rng):
        records.write_bytes(folder / "weights.safetensors", rng.randbytes(5000))
        records.write_manifest(folder)
        change(folder, rng)

    return hostile


def _returns_of_many_seeds(folder, rng):
    """CartPole with more seeds than its settings allow, drawn 10,000 times."""
    same = {"scheduler": "bad", "scenario_hash": "x", "steps": 1, "episodes": 1}
    values = dict.fromkeys(["episode_mean", "step_mean", "final_greedy", "steps_to_solve"], 1.0)
    rows = pd.DataFrame({"seed": np.arange(1001)}).assign(**same, **values)
    records.write_table(folder / "returns.parquet", rows, schemas.RETURNS_SCHEMA)
    records.write_manifest(folder)


def _nested(levels):
    return {"a": _nested(levels - 1)} if levels else {}


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
    "eval wide": lambda folder, rng: write_wide(folder, 600_000, 2),
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
    "job nested": _json(lambda j: j.update(settings=_nested(30))),
    "job big integer": _json(lambda j: j.update(seeds=[2**70])),
    "job endless float": _bytes("job.json", lambda d, rng: d.replace(b"1.5", b"1" + b"0" * 400)),
    "job long name": _json(lambda j: j.update(experiment="x" * 201)),
    "job many baselines": _json(lambda j: j.update(baselines=[str(i) for i in range(101)])),
    "job of another scheduler": _json(lambda j: j.update(scheduler="other")),
    "job escape": _json(lambda j: j.update({"\x1b]0;title\x07": 1})),
    "job new": _json(lambda j: j.update(schema_version=schemas.SCHEMA_VERSION + 1)),
    "eval nan": _rows(mean_delay_s=[0.5] * 8 + [float("nan")]),
    "eval endless": _rows(mean_delay_s=1e300),
    "eval seeds": _rows(seed=-1),
    "eval many scenarios": _rows(scenario_hash=list("abcdefghi")),
    "eval two schedulers": _rows(scheduler=["bad"] * 8 + ["worse"]),
    "eval twice": _rows(trace=0),
    "returns of many seeds": _returns_of_many_seeds,
    "manifest reformatted": _bytes("manifest.json", lambda d, rng: d.replace(b"\n", b"\n "), sign=False),
    "manifest of many": _manifest(lambda m: m | {f"{i}.json": "0" * 64 for i in range(40)}),
    "manifest deep": _bytes("manifest.json", lambda d, rng: b"[" * 100_000, sign=False),
    "manifest escape": _manifest(lambda m: m | {"\x1b[31m\n": "0" * 64}),
    "weights flipped": _weights(_bytes("weights.safetensors", _flip, sign=False)),
    "weights link": _weights(_link("weights.safetensors", "/etc/passwd")),
    "weights fifo": _weights(_fifo("weights.safetensors")),
    "weights sparse": _weights(_sparse("weights.safetensors")),
    "weights gone": _weights(lambda folder, rng: (folder / "weights.safetensors").unlink()),
}


signed_flip = _bytes("eval.parquet", _flip)
