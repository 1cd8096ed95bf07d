"""Run folders: the one atomic way to write their files and the checked way to read them back (schemas: schemas.py).

runs/<experiment>/<job id>/ holds job.json, curves.parquet, eval.parquet (CartPole: returns.parquet),
weights.safetensors and run.log. manifest.json (file -> sha256 of all but the log) is written last: a job is done when
it fits and job.json says so. Nobody else writes in a run folder, and reading one never executes anything.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.config import clean
from ddrl_sched.jobs.schemas import SHA256, JobRecord, check_job
from ddrl_sched.jobs.strict_json import MAX_JSON_BYTES, json_text, parse_json
from ddrl_sched.saving import RecordsError as RecordsError
from ddrl_sched.saving import remove as remove
from ddrl_sched.saving import remove_leftovers as remove_leftovers
from ddrl_sched.saving import write_bytes as write_bytes

MANIFEST = "manifest.json"
RESUME = "resume"  # folder of a job's checkpoints
MAX_FILE_BYTES = 1 << 30  # of any file of a run; weights are the largest
MAX_FILES = 32  # of one manifest
MAX_ERROR = 10_000  # characters of an error that are kept
PUBLISHED_SUFFIXES = (".json", ".parquet", ".safetensors")  # what a manifest covers; run.log still grows
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")

if TYPE_CHECKING:
    import pandas as pd  # not loaded here: it takes a while


# Writing


def write_job(folder: Path | str, job: JobRecord) -> None:
    """Write job.json. ValueError if a key of JOB_FIELDS is missing, unknown or of another type.

    Also if it is more than `read_job` reads: too large or too deep, a number that is not finite or of more than 64
    bits, text that is not UTF-8.
    """
    check_job(job)
    write_bytes(Path(folder) / "job.json", json_text(dict(job), "job.json"))


def error_text(error: BaseException) -> str:
    """What job.json says of an error: printable, and not longer than it can be read."""
    text = "\n".join(clean(line) for line in f"{type(error).__name__}: {error}".split("\n"))
    return text[:MAX_ERROR]


def write_table(path: Path | str, frame: "Mapping[str, Sequence[object]] | pd.DataFrame", schema: pa.Schema) -> None:
    """Write columns by name (a mapping, or a pandas DataFrame) as parquet with page checksums.

    They must be those of `schema` in any order, without missing values (NaN is a value): else ValueError.
    """
    missing = [name for name in schema.names if name not in frame]
    unknown = [name for name in frame if name not in schema.names]
    if missing or unknown:
        raise ValueError(f"{Path(path).name}: missing columns {missing}, unknown columns {unknown}")
    table = pa.Table.from_arrays([_column(frame[f.name], f) for f in schema], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    write_bytes(path, sink.getvalue().to_pybytes())


def write_manifest(folder: Path | str) -> None:
    """Write manifest.json = {file: sha256} over the published files of the folder; the last act of a job."""
    folder = Path(folder)
    try:
        names = sorted(p.name for p in folder.iterdir() if p.suffix in PUBLISHED_SUFFIXES and p.name[0] != ".")
        hashes = {name: file_hash(folder / name) for name in names if name != MANIFEST}
        _check_manifest(hashes)
    except (OSError, ValueError) as error:  # what stands there under a published file's name may be a stranger's
        raise RecordsError(f"cannot read {folder}: {getattr(error, 'strerror', None) or error}") from error
    write_bytes(folder / MANIFEST, _manifest_text(hashes))


def copy_run(source: Path | str, target: Path | str, names: Collection[str], manifest: Mapping[str, str]) -> None:
    """Make `target` a run folder of these files of a finished run, compared with its manifest, and of no others.

    Files of an earlier copy that are not wanted any more are removed. ValueError for a file that does not fit.
    """
    source, target = Path(source), Path(target)
    for name in names:
        write_bytes(target / name, read_verified(source, name, manifest, MAX_FILE_BYTES))
    remove_leftovers(target)
    for path in target.iterdir():
        if path.name not in (*names, MANIFEST):
            remove(path)
    write_manifest(target)


def _column(series: Sequence[object], field: pa.Field) -> pa.Array:
    values = list(series) if field.type == pa.string() else np.asarray(series)
    try:
        array = pa.array(values, field.type, from_pandas=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"column {field.name} is not {field.type}: {error}") from error
    if array.null_count:
        raise ValueError(f"column {field.name} has {array.null_count} missing values")
    return array


# Reading (a folder may come from a stranger)


def is_done(folder: Path | str) -> bool:
    """True if every file of the manifest is there as it was written, job.json among them, and its status is done."""
    try:
        read_finished(folder)
    except (OSError, ValueError):
        return False
    return True


def read_finished(folder: Path | str) -> tuple[JobRecord, dict[str, str]]:
    """(job.json, manifest) of a finished run, every file compared with its sha256. ValueError or OSError says why not.

    No file outside the folder is opened: links, pipes and devices are refused.
    """
    folder = run_folder(folder)
    data = read_regular(folder / "job.json", MAX_JSON_BYTES)
    job = _job_of(data)
    if job["status"] == "failed":
        raise ValueError(f"the job failed: {job['error']}")
    if job["status"] != "done":
        raise ValueError("the job is still running or was interrupted")
    manifest = read_manifest(folder)
    _check_sha256(data, "job.json", manifest)
    for name, sha in manifest.items():
        if name != "job.json" and file_hash(folder / name) != sha:
            raise ValueError(_damaged(name))
    return job, manifest


def trained_folder(folder: Path | str) -> Path:
    """The folder, or the only one inside it with weights. ValueError where there is none, or more than one."""
    folder = Path(folder)
    inside = sorted(file.parent for file in folder.glob("*/weights.safetensors"))
    return inside[0] if len(inside) == 1 and not (folder / "job.json").exists() else run_folder(folder)


def run_folder(folder: Path | str) -> Path:
    """The folder; ValueError if there is none, or if it holds run folders and is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError("there is no such folder")
    if not (folder / "job.json").exists():
        inside = sorted(path.name for path in folder.iterdir() if (path / "job.json").exists())
        if inside:
            raise ValueError(f"expected one run folder; this holds {len(inside)}, {inside[0]} for example")
    return folder


def read_job(folder: Path | str) -> JobRecord:
    """job.json, checked against JOB_FIELDS. ValueError or OSError if it is not fit."""
    return _job_of(read_regular(Path(folder) / "job.json", MAX_JSON_BYTES))


def _job_of(data: bytes) -> JobRecord:
    job = parse_json(data, "job.json")
    check_job(job)
    return cast(JobRecord, job)


def read_manifest(folder: Path | str) -> dict[str, str]:
    """manifest.json as {file: sha256}. ValueError or OSError if it is missing or not, byte for byte, of that form."""
    data = read_regular(Path(folder) / MANIFEST, MAX_JSON_BYTES)
    manifest = parse_json(data, MANIFEST)
    _check_manifest(manifest)
    if data != _manifest_text(manifest):
        raise ValueError(f"{MANIFEST} is not as it was written: changed or damaged")
    return manifest


def _check_manifest(manifest: object) -> None:
    """ValueError unless it is an object of some file names with their sha256."""
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST}: expected an object")
    if len(manifest) > MAX_FILES:
        raise ValueError(f"{MANIFEST}: at most {MAX_FILES} files expected, got {len(manifest)}")
    for name, sha in manifest.items():
        if not _FILE_NAME.fullmatch(name) or not isinstance(sha, str) or not SHA256.fullmatch(sha):
            raise ValueError(f"{MANIFEST}: expected file names with their sha256")


def _manifest_text(hashes: Mapping[str, str]) -> bytes:
    return json.dumps(hashes, indent=1, sort_keys=True).encode()


def _damaged(name: str) -> str:
    return f"{name} does not fit its sha256 in {MANIFEST}: changed or damaged"


def read_verified(folder: Path | str, name: str, manifest: Mapping[str, str], max_bytes: int) -> bytes:
    """Content of a file of the folder after its sha256 was compared. ValueError or OSError otherwise."""
    data = read_regular(Path(folder) / name, max_bytes)
    _check_sha256(data, name, manifest)
    return data


def _check_sha256(data: bytes, name: str, manifest: Mapping[str, str]) -> None:
    if name not in manifest:
        raise ValueError(f"{name} is not in {MANIFEST}")
    if hashlib.sha256(data).hexdigest() != manifest[name]:
        raise ValueError(_damaged(name))


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Content of a regular file of at most `max_bytes`; links, pipes, devices and folders are refused (ValueError)."""
    with _open_regular(Path(path)) as file:
        data = file.read(max_bytes + 1) if os.fstat(file.fileno()).st_size <= max_bytes else None
    if data is None or len(data) > max_bytes:  # it may have grown while it was read
        raise ValueError(f"{Path(path).name} is larger than {max_bytes:,} bytes")
    return data


def file_hash(path: Path | str) -> str:
    """sha256 of a regular file, hex. ValueError beyond MAX_FILE_BYTES."""
    with _open_regular(Path(path)) as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise ValueError(f"{Path(path).name} is larger than {MAX_FILE_BYTES:,} bytes")
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _open_regular(path: Path) -> Iterator[io.BufferedReader]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ValueError(f"{path.name} is missing") from None
    except OSError as error:
        reason = "a symbolic link" if path.is_symlink() else error.strerror
        raise ValueError(f"{path.name} cannot be opened: {reason}") from None
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        stack.pop_all()
        with open(descriptor, "rb") as file:
            yield file
