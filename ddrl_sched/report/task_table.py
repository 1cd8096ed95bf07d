"""tasks.parquet of one run, and where to find a task in it."""

import shlex
from collections.abc import Iterable

import numpy as np

from ddrl_sched.config import InputError, clean
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import MAX_TABLE_BYTES, Columns, check_table, n_rows, parse_table
from ddrl_sched.jobs.schemas import TASKS_SCHEMA
from ddrl_sched.report.show import Run
from ddrl_sched.run.inputs import input_files, value_at

FILE = "tasks.parquet"
WANTED = {"evaluate.tasks": "true", "evaluate.traces": "1", "name": "tasks"}  # words of a command that makes it
# A name of its own, for under the name of the run its one trace would count instead of all traces of the run.
REPLACED = (*WANTED, "capacity")  # keys of a command that it does not repeat; a search keeps no tasks


def read_trace(run: Run, seed: int | None, trace: int | None) -> Columns:
    """The tasks of one seed and trace (None: the first). InputError where there are none, with what makes them."""
    if run.why_not:
        raise InputError(f"{clean(run.folder)}: {run.why_not}")
    if FILE not in run.manifest:
        raise InputError(f"{clean(run.folder)}: there is no {FILE}; {_how_to_make(run)}")
    try:
        table = parse_table(records.read_verified(run.folder, FILE, run.manifest, MAX_TABLE_BYTES), TASKS_SCHEMA, FILE)
        check_table("tasks", table, clean(run.job["scheduler"]))
    except (OSError, ValueError) as error:
        raise InputError(f"{clean(run.folder)}: {clean(error)}") from None
    if not n_rows(table):
        raise InputError(f"{clean(run.folder)}: {FILE} holds no task")
    return _chosen(_chosen(table, "seed", seed), "trace", trace)


def of_task(table: Columns, number: int) -> Columns:
    """The rows of a task, one per server. InputError for a number that the trace does not have."""
    last = int(table["task"].max())
    if not 0 <= number <= last:
        raise InputError(f"--task {number}: trace {table['trace'][0]} has the tasks 0 .. {last}")
    return _where(table, table["task"] == number)


def _chosen(table: Columns, column: str, value: int | None) -> Columns:
    known = np.unique(table[column]).tolist()
    value = known[0] if value is None else value
    if value not in known:
        some = ", ".join(map(str, known[:10])) + (", ..." if len(known) > 10 else "")
        raise InputError(f"--{column} {value}: {FILE} has {column} {some}")
    return _where(table, table[column] == value)


def _where(table: Columns, wanted: np.ndarray) -> Columns:
    return {name: values[wanted] for name, values in table.items()}


def _how_to_make(run: Run) -> str:
    """The command that makes the table, or why there is none."""
    settings = run.job["settings"]
    rule = value_at(settings, "env.rule")
    if rule != "clean":
        return f"only clean worlds have one (env.rule here: {clean(rule)})"
    if run.job["learned"]:
        files = [f"+{key}={path}" for key, path in input_files(settings).items()]
        words = ["ddrl", "eval", "--run", str(run.folder), *files]
    else:
        words = ["ddrl", "eval", *_others(run.job["overrides"])]
    wanted = [f"{key}={value}" for key, value in WANTED.items()]
    return f"this makes one: {clean(shlex.join([*words, *wanted]))}"


def _others(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.lstrip("+").startswith(REPLACED)]
