"""What the files of a run folder hold: columns of the parquet tables, keys of job.json."""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

import pyarrow as pa

from ddrl_sched.config import shown
from ddrl_sched.run.inputs import INPUT_KEYS
from ddrl_sched.run.settings import MAX_BASELINES, MAX_NAME

SCHEMA_VERSION = 2

_TEXT, _COUNT, _FLOAT, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()


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
    caused_load=_FLOAT,  # offered load with the overhead of every used share, as this scheduler causes it
    queue_early=_FLOAT,  # shares at all servers, mean of the second quarter of the horizon; NaN under published rules
    queue_late=_FLOAT,  # the same of the last quarter
)

# Histograms of the delays of the counted tasks, one for each row of eval.parquet (bins: run/histogram.py).
DELAYS_SCHEMA = _schema(row=_COUNT, bin=_COUNT, count=_COUNT)

# Clean worlds: what servers did in each part of the horizon, mean over seeds and traces.
TIMELINE_SCHEMA = _schema(
    server=_COUNT,
    begin_s=_FLOAT,
    end_s=_FLOAT,
    busy=_FLOAT,  # part of the time in which the server serves
    queue=_FLOAT,  # mean number of shares that wait there or are served
)

# With evaluate.tasks, clean worlds: one row per task and server. Seconds count from the task's arrival, except where
# they are moments, which count from the start of the trace and are NaN for servers without a share.
TASKS_SCHEMA = _schema(
    seed=_COUNT,
    trace=_COUNT,
    task=_COUNT,  # number in its trace, in the order of arrival
    station=_COUNT,  # where it arrives
    arrive_s=_FLOAT,  # moment
    input_mbit=_FLOAT,
    work_gcycle=_FLOAT,
    overhead_gcycle=_FLOAT,  # of every used share
    result_mbit=_FLOAT,
    units=_COUNT,  # indivisible ones, 0: divisible
    deadline_s=_FLOAT,
    delay_s=_FLOAT,
    wait_s=_FLOAT,  # this and the next three: parts of the delay, of the share that ended last
    transfer_s=_FLOAT,
    compute_s=_FLOAT,
    return_s=_FLOAT,
    late=_FLAG,
    server=_COUNT,
    seen_wait_s=_FLOAT,  # until the server is free, as the scheduler believed when it chose servers
    split_wait_s=_FLOAT,  # likewise when it divided the work: of servers that it asked it is exact
    exact_wait_s=_FLOAT,
    port_s=_FLOAT,  # until the station may send there, without the time that asking takes
    send_s=_FLOAT,  # sending the whole input
    latency_s=_FLOAT,  # one way
    unit_s=_FLOAT,  # computing the whole task and returning its result
    fixed_s=_FLOAT,  # the overhead of a used share and the latency of its return
    asking_s=_FLOAT,  # that asking took, the same for all servers
    own=_FLAG,  # the station's own server
    asked=_FLAG,  # for its exact backlog
    chosen=_FLAG,
    share=_FLOAT,
    sent_s=_FLOAT,  # moment
    arrived_s=_FLOAT,  # moment, at the server
    started_s=_FLOAT,  # moment
    ended_s=_FLOAT,  # moment
)

# Long form: one row per seed, moment of training and metric.
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

# Capacity: one row per load that was looked at, seed and trace; all of one scheduler, in one world.
CAPACITY_SCHEMA = _schema(
    scenario=_TEXT,
    workload=_TEXT,
    scenario_hash=_TEXT,  # of the world at any load
    scheduler=_TEXT,
    info=_TEXT,
    at_most=_FLOAT,  # share of the tasks that may be late
    deadline_s=_FLOAT,  # of every task; NaN: a trace file says that of each
    load=_FLOAT,
    seed=_COUNT,
    trace=_COUNT,
    cluster=_COUNT,
    n_tasks=_COUNT,
    n_late=_COUNT,
    mean_delay_s=_FLOAT,
    p99_delay_s=_FLOAT,
)

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
    "training": "training?",  # of weights that were trained before; null: none, or trained by the job itself
}
TRAINING_FIELDS = {
    "job_id": "name",
    "overrides": "list[str]",  # of its command
    "created": "time",
    "cpu_s": "float?",
    "code_version": "name",
}


class TrainingRecord(TypedDict):
    """Where trained weights come from: what their job.json says."""

    job_id: str
    overrides: list[str]
    created: str
    cpu_s: float | None
    code_version: str


class JobRecord(TypedDict):
    """job.json: what was run, by which code, and how it ended."""

    schema_version: int
    job_id: str
    experiment: str
    status: str
    settings: dict[str, Any]
    input_sha256: dict[str, str]
    overrides: list[str]
    seeds: list[int]
    scenario_hash: str
    scheduler: str  # its label in tables
    learned: bool
    baselines: list[str]
    code_version: str
    packages: dict[str, str]
    numerics: dict[str, object]
    created: str
    duration_s: float | None
    cpu_s: float | None
    error: str | None
    training: TrainingRecord | None


SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "name": (str,),  # of at most MAX_NAME characters
    "time": (str,),
    "dict": (dict,),
    "bool": (bool,),
    "inputs": (dict,),
}


def check_job(job: object) -> None:
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
            wanted = wanted.replace("training?", f"null or {', '.join(TRAINING_FIELDS)} of a training")
            wanted = wanted.replace("inputs", f"sha256 of {' and '.join(INPUT_KEYS)}")
            raise ValueError(f"job.json: {key} is not {wanted}")
    if len(job["baselines"]) > MAX_BASELINES:
        raise ValueError(f"job.json: at most {MAX_BASELINES} baselines expected, got {len(job['baselines'])}")
    if job["status"] not in STATUSES:
        raise ValueError(f"job.json: status is {shown(job['status'])}, expected one of {', '.join(STATUSES)}")


def _is_of(value: object, kind: str) -> bool:
    if kind.endswith("?"):
        return value is None or _is_of(value, kind[:-1])
    if kind.startswith("list["):
        return isinstance(value, list) and all(_is_of(v, kind[5:-1]) for v in value)
    if kind == "training":
        return (
            isinstance(value, dict)
            and value.keys() == TRAINING_FIELDS.keys()
            and all(_is_of(value[key], of) for key, of in TRAINING_FIELDS.items())
        )
    if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind != "bool"):
        return False
    if isinstance(value, str):
        return _is_time(value) if kind == "time" else kind != "name" or len(value) <= MAX_NAME
    if kind == "inputs" and isinstance(value, dict):
        return all(key in INPUT_KEYS and isinstance(sha, str) and SHA256.fullmatch(sha) for key, sha in value.items())
    return kind != "float" or (isinstance(value, int | float) and math.isfinite(value))


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
