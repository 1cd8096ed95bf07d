"""Run folders: the schemas of their files, the one atomic way to write them and the checked way to read them back.

runs/<experiment>/<job id>/ holds job.json, curves.parquet, eval.parquet (CartPole: returns.parquet),
weights.safetensors and run.log. manifest.json (file -> sha256 of all but the log) is written last: a job is done when
it fits and job.json says so. Nobody else writes in a run folder, and reading one never executes anything.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import stat
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddrl_sched.config import clean, shown
from ddrl_sched.jobs.strict_json import MAX_JSON_BYTES, json_text, parse_json
from ddrl_sched.saving import RecordsError as RecordsError
from ddrl_sched.saving import remove_leftovers as remove_leftovers
from ddrl_sched.saving import write_bytes as write_bytes

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
RESUME = "resume"  # folder of a job's checkpoints
MAX_FILE_BYTES = 1 << 30  # of any file of a run; weights are the largest
MAX_FILES = 32  # of one manifest
MAX_NAME = 200  # characters of a name that is read
MAX_BASELINES = 100
MAX_ERROR = 10_000  # characters of an error that are kept
PUBLISHED_SUFFIXES = (".json", ".parquet", ".safetensors")  # what a manifest covers; run.log still grows
PACKAGES = (
    "ddrl-sched", "torch", "numpy", "numba", "scipy", "pandas", "pyarrow", "hydra-core", "omegaconf", "pydantic",
    "safetensors", "networkx", "gymnasium",
)  # fmt: skip

_TEXT, _COUNT, _FLOAT = pa.string(), pa.int64(), pa.float64()


def _schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in types.items()])


# One row per scheduler x seed x trace [x rule]; delays and their parts are means over the counted tasks of that row.
EVAL_SCHEMA = _schema(
    scenario=_TEXT,
    workload=_TEXT,
    rule=_TEXT,  # "clean" or the name of a published rule set
    scenario_hash=_TEXT,
    load=_FLOAT,
    realised_load=_FLOAT,
    scheduler=_TEXT,  # label of its yaml
    info=_TEXT,  # information class
    seed=_COUNT,
    trace=_COUNT,
    cluster=_COUNT,  # unit in which traces are resampled: the trace, or the draw of densities (published worlds)
    n_tasks=_COUNT,
    mean_delay_s=_FLOAT,
    p50_delay_s=_FLOAT,
    p95_delay_s=_FLOAT,
    p99_delay_s=_FLOAT,
    late_rate=_FLOAT,
    wait_s=_FLOAT,
    transfer_s=_FLOAT,
    compute_s=_FLOAT,
    return_s=_FLOAT,
    mean_servers=_FLOAT,
    probes_per_task=_FLOAT,
    decide_us=_FLOAT,
    time_scale=_FLOAT,  # factor by which a real trace was stretched; 1 for synthetic arrivals
)

# Long form: one row per seed, moment of training and metric.
LOOKS = "validation_delay_s"  # the metric of run/validation.py
CURVES_SCHEMA = _schema(seed=_COUNT, tasks_seen=_COUNT, update=_COUNT, metric=_TEXT, value=_FLOAT)

# CartPole: one row per seed and budget; returns are the lengths of episodes.
RETURNS_SCHEMA = _schema(
    scheduler=_TEXT,
    scenario_hash=_TEXT,
    seed=_COUNT,
    steps=_COUNT,  # of the environment, since the start
    episodes=_COUNT,  # finished training episodes
    episode_mean=_FLOAT,  # mean return of them
    step_mean=_FLOAT,  # mean over their steps of the return of the step's episode
    final_greedy=_FLOAT,  # mean return of the greedy policy after these steps
    steps_to_solve=_FLOAT,  # first look at which the greedy policy reached the threshold; NaN: not within these steps
)

TRACE_FILE, NETWORK_FILE = INPUT_KEYS = ("workload.path", "env.network.file")  # settings that name a file
STATUSES = ("running", "done", "failed")
JOB_FIELDS: dict[str, str] = {  # key of job.json -> its type
    "schema_version": "int",
    "job_id": "name",
    "experiment": "name",
    "status": "str",  # one of STATUSES
    "settings": "dict",  # validated plain data
    "input_sha256": "inputs",  # key of INPUT_KEYS -> hash of what its file says (edge.input_file)
    "overrides": "list[str]",
    "seeds": "list[int]",
    "scenario_hash": "name",
    "scheduler": "name",
    "learned": "bool",
    "baselines": "list[name]",
    "code_version": "name",
    "packages": "dict",
    "numerics": "dict",
    "created": "time",  # ISO 8601
    "duration_s": "float?",
    "cpu_s": "float?",
    "error": "str?",
}
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN: dict[str, Any] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "name": (str,),  # of at most MAX_NAME characters
    "time": (str,),
    "dict": (dict,),
    "bool": (bool,),
    "inputs": (dict,),
}


# Writing


def write_job(folder: Path | str, job: Mapping[str, Any]) -> None:
    """Write job.json. ValueError if a key of JOB_FIELDS is missing, unknown or of another type.

    Also if it is more than `read_job` reads: too large or too deep, a number that is not finite or of more than 64
    bits, text that is not UTF-8.
    """
    check_job(job)
    write_bytes(Path(folder) / "job.json", json_text(dict(job), "job.json"))


def failure(error: BaseException) -> dict[str, Any]:
    """What job.json says of a job that failed: printable, and not longer than it can be read."""
    text = "\n".join(clean(line) for line in f"{type(error).__name__}: {error}".split("\n"))
    return {"status": "failed", "error": text[:MAX_ERROR]}


def write_table(path: Path | str, frame: Any, schema: pa.Schema) -> None:
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


def _column(series: Any, field: pa.Field) -> pa.Array:
    values = list(series) if field.type == _TEXT else np.asarray(series)
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


def read_finished(folder: Path | str) -> tuple[dict[str, Any], dict[str, str]]:
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


def read_job(folder: Path | str) -> dict[str, Any]:
    """job.json, checked against JOB_FIELDS. ValueError or OSError if it is not fit."""
    return _job_of(read_regular(Path(folder) / "job.json", MAX_JSON_BYTES))


def _job_of(data: bytes) -> dict[str, Any]:
    """job.json from its bytes. Folders that were written before input_sha256 was kept have none."""
    job = parse_json(data, "job.json")
    if isinstance(job, dict):
        job.setdefault("input_sha256", {})
    check_job(job)
    return job


def read_manifest(folder: Path | str) -> dict[str, str]:
    """manifest.json as {file: sha256}. ValueError or OSError if it is missing or not, byte for byte, of that form."""
    data = read_regular(Path(folder) / MANIFEST, MAX_JSON_BYTES)
    manifest = parse_json(data, MANIFEST)
    _check_manifest(manifest)
    if data != _manifest_text(manifest):
        raise ValueError(f"{MANIFEST} is not as it was written: changed or damaged")
    return manifest


def _check_manifest(manifest: Any) -> None:
    """ValueError unless it is an object of some file names with their sha256."""
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST}: expected an object")
    if len(manifest) > MAX_FILES:
        raise ValueError(f"{MANIFEST}: at most {MAX_FILES} files expected, got {len(manifest)}")
    for name, sha in manifest.items():
        if not _FILE_NAME.fullmatch(name) or not isinstance(sha, str) or not _SHA256.fullmatch(sha):
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


def check_job(job: Any) -> None:
    """ValueError unless `job` has exactly the keys and types of JOB_FIELDS, this schema version and a known status."""
    if not isinstance(job, Mapping):
        raise ValueError("job.json: expected an object")
    if job.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(
            f"job.json: schema_version is {shown(job.get('schema_version'))}, expected {SCHEMA_VERSION}: "
            "the folder was written by another version of ddrl"
        )
    for key in sorted(set(map(str, job)) ^ set(JOB_FIELDS)):
        raise ValueError(f"job.json: {'missing' if key in JOB_FIELDS else 'unknown'} key {key[:MAX_NAME]}")
    for key, kind in JOB_FIELDS.items():
        if not _is_of(job[key], kind):
            wanted = kind.replace("name", f"text of at most {MAX_NAME} characters")
            wanted = wanted.replace("inputs", f"sha256 of {' and '.join(INPUT_KEYS)}")
            raise ValueError(f"job.json: {key} is not {wanted}")
    if len(job["baselines"]) > MAX_BASELINES:
        raise ValueError(f"job.json: at most {MAX_BASELINES} baselines expected, got {len(job['baselines'])}")
    if job["status"] not in STATUSES:
        raise ValueError(f"job.json: status is {shown(job['status'])}, expected one of {', '.join(STATUSES)}")


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


def _is_of(value: Any, kind: str) -> bool:
    if kind.endswith("?"):
        return value is None or _is_of(value, kind[:-1])
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is_of(v, kind[5:-1]) for v in value)
    if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind != "bool"):
        return False
    if kind == "name":
        return len(value) <= MAX_NAME
    if kind == "inputs":
        return all(key in INPUT_KEYS and isinstance(sha, str) and _SHA256.fullmatch(sha) for key, sha in value.items())
    return _is_time(value) if kind == "time" else kind != "float" or math.isfinite(value)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# Identity


def job_id(settings: Mapping[str, Any], trace_hash: str, schema_version: int, code_version: str) -> str:
    """Name of a job: 16 hex digits that change with the validated settings, trace content, record schema or code."""
    return canonical_hash([settings, trace_hash, schema_version, code_version])[:16]


def canonical_hash(value: Any) -> str:
    """sha256 (hex) of plain data, whatever the order of keys: 1 and 1.0, -0.0 and 0.0, NFC and NFD text are equal.

    Takes dicts with text keys, lists, tuples, text, booleans, None, numbers and numpy arrays. ValueError for NaN and
    for anything else, naming the place.
    """
    text = json.dumps(_canonical(value, ""), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def code_version(root: Path | str | None = None) -> str:
    """sha256 (hex) over path and content of all .py files of the package (or below `root`)."""
    folder = Path(__file__).parents[1] if root is None else Path(root)
    files = sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*.py"))
    return canonical_hash([[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in files])


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def numerics() -> dict[str, Any]:
    """What bit-exact repetition depends on: threads, versions, vector instructions (null while torch is not in use)."""
    torch: Any = sys.modules.get("torch")
    return {
        "threads": torch.get_num_threads() if torch else None,
        "torch": str(torch.__version__) if torch else None,
        "numpy": np.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability() if torch else None,
    }


def _canonical(value: Any, place: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"cannot hash {place or 'settings'}: a key is not text")
        return {unicodedata.normalize("NFC", k): _canonical(v, f"{place}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v, f"{place}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float):
        return _canonical_float(value, place)
    if value is None or isinstance(value, bool | int):
        return value
    raise ValueError(f"cannot hash {place}: {type(value).__name__} is not plain data")


def _canonical_float(value: float, place: str) -> Any:
    if math.isnan(value):
        raise ValueError(f"cannot hash {place}: NaN")
    if math.isinf(value):
        return {"float": str(value)}
    return int(value) if value.is_integer() else value
