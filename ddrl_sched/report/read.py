"""Read one run folder into tables of columns. It may come from a stranger: it is read as data or refused.

Nothing of it is executed, instantiated, resolved or unpickled. JSON is limited in size, parquet must have the exact
schema of `jobs.records` and fit the manifest; links, pipes and devices are not followed; text loses control characters.
"""

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ddrl_sched.config import InputError, clean
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs import records
from ddrl_sched.jobs.reading import (
    MAX_REPORT_ROWS,
    MAX_TABLE_BYTES,
    SCHEMAS,
    Columns,
    check_counts,
    check_delays,
    check_table,
    learnt_nothing,
    n_rows,
    of_metrics,
    parse_table,
)
from ddrl_sched.jobs.schemas import JobRecord
from ddrl_sched.labels import LEARNS_THE_SAME
from ddrl_sched.provenance import Provenance, choice_remark, provenance_of, without_claims
from ddrl_sched.report.budgets import budget_of
from ddrl_sched.report.settings_diff import FlatSettings, flatten
from ddrl_sched.report.worlds import override_changes, world_of_training
from ddrl_sched.run.inputs import by_content, input_files, training_settings
from ddrl_sched.run.metrics import ELAPSED_METRIC

NOT_IDENTITY = ("name", "baselines", "seeds", "evaluate.tasks")  # in which two runs of one scheduler may differ
MAX_NAMED_SEEDS = 10  # in a remark


@dataclass(frozen=True)
class Folder:
    """A finished run. `tables`: columns of "eval", "returns", ... (jobs.reading.SCHEMAS), those it has."""

    scheduler: str
    about: Mapping[str, Any]  # a value per column that all its rows share
    of_training: Mapping[str, object]  # further ones of its curves
    tables: Mapping[str, Columns]
    remarks: Sequence[str]  # of seeds that learnt nothing ("its training made 0 updates"), of how it was chosen
    job: JobRecord

    @property
    def n_rows(self) -> int:
        """Of all its tables, except histograms."""
        return sum(n_rows(table) for name, table in self.tables.items() if name != "delays")

    @property
    def n_bins(self) -> int:
        """Rows of its histograms."""
        return n_rows(self.tables["delays"]) if "delays" in self.tables else 0


class Wanted(NamedTuple):
    """What a report needs of run folders. `curves`: these metrics of them."""

    curves: Collection[str] = ()
    evaluations: bool = True
    delays: bool = False  # histograms
    timelines: bool = False

    def schemas(self) -> dict[str, pa.Schema]:
        """{name of a table: its schema}."""
        names = (
            ["eval", "capacity", "returns"] * self.evaluations
            + ["delays"] * self.delays
            + ["timeline"] * self.timelines
        )
        return {name: SCHEMAS[name] for name in [*names, *(["curves"] if self.curves else [])]}


def read_folder(folder: Path, wanted: Wanted, most: int | None = None, most_bins: int | None = None) -> Folder:
    """A run folder with the tables that are wanted. ValueError, OSError say why it cannot be read.

    `most`: rows, and `most_bins` rows of histograms, that a report still has room for; a folder of more is refused
    before it is unpacked.
    """
    job, manifest = records.read_finished(folder)
    about = _shared_columns(job, folder)
    of_training: dict[str, object] = {}
    tables: dict[str, Columns] = {}
    for name, schema in wanted.schemas().items():
        file = f"{name}.parquet"
        if file not in manifest and not os.path.lexists(folder / file):
            continue
        room = {"curves": None, "delays": most_bins}.get(name, most)  # most rows of curves are other metrics
        table = parse_table(records.read_verified(folder, file, manifest, MAX_TABLE_BYTES), schema, file, room)
        if name == "curves":
            training = _curve_hash(table)
            table = _of_metrics(table, wanted.curves, most)
            of_training = _training_columns(job, about["settings"], training)
        else:
            check_table(name, table, clean(job["scheduler"]))
        if name == "delays":
            check_counts(tables["eval"], table)
        elif most is not None:
            most -= n_rows(table)
        tables[name] = table
    remarks = [
        _remark(folder, job, manifest) if "returns" not in tables else "",
        _choice(job) if wanted.evaluations else "",
    ]
    return Folder(clean(job["scheduler"]), about, of_training, tables, [text for text in remarks if text], job)


def _shared_columns(job: JobRecord, folder: Path) -> dict[str, Any]:
    """Columns that all rows of a job share. `settings`: flattened; `changes`: those in the name of its world."""
    created = datetime.fromisoformat(job["created"])
    settings = by_content(without_claims(job["settings"]), NOT_IDENTITY)
    counted = by_content(settings) | {"": job["scenario_hash"]}  # which knows the content of files
    learns_by = canonical_hash([_training_identity(settings.get("train"))])[:16] if job["learned"] else ""
    return {
        "job_id": clean(job["job_id"]),
        "experiment": clean(job["experiment"]),
        "learned": job["learned"],
        "baselines": tuple(clean(name) for name in job["baselines"]),
        "code_version": clean(job["code_version"]),
        "created": created.replace(tzinfo=created.tzinfo or UTC).timestamp(),
        "folder": clean(folder),
        "variant": f"{_hash_of_groups(counted)[:16]} {clean(job['code_version'])}",
        "trained_by": learns_by,
        "settings": flatten(settings),
        "inputs": _own_inputs(job),
        **_provenance(job),
        **budget_of(job),
        "changes": override_changes(job, ("env.",), ("env.rule",)) | input_files(job["settings"]),
    }


def _hash_of_groups(settings: Mapping[str, object]) -> str:
    """canonical_hash of the hashes of all groups, of which most are the same in the jobs of a sweep."""
    return canonical_hash({key: _hash_of_json(json.dumps(value)) for key, value in settings.items()})


@lru_cache(maxsize=1024)
def _hash_of_json(text: str) -> str:
    return canonical_hash(json.loads(text))


def _provenance(job: JobRecord) -> dict[str, object]:
    """What the yaml of the scheduler states as published, and the name of its random numbers.

    A folder may hold anything there: what is no provenance counts as none.
    """
    scheduler = job["settings"].get("scheduler")
    try:
        said = provenance_of(scheduler) if isinstance(scheduler, dict) else Provenance()
    except InputError:
        said = Provenance()
    name, bracket, changes = clean(job["scheduler"]).partition("(")
    if bracket:  # nothing was published of a method with other settings
        said = said.model_copy(update={"published_delay_s": None, "published_gain_pct": None})
    return {
        "stream": f"{clean(said.stream or name)}{bracket}{changes}",
        "published_as": clean(said.published_as or ""),
        "published_delay_s": math.nan if said.published_delay_s is None else said.published_delay_s,
        "published_gain_pct": said.published_gain_pct,
        "family": clean(said.family or ""),
    }


def _choice(job: JobRecord) -> str:
    """That the scheduler was chosen on the traces of this job, as far as its settings say so."""
    scheduler = job["settings"].get("scheduler")
    try:
        return choice_remark(scheduler, job["settings"]) if isinstance(scheduler, dict) else ""
    except InputError:  # a stranger's folder may say anything
        return ""


def _training_columns(job: JobRecord, of_job: FlatSettings, curve_hash: str) -> dict[str, object]:
    """Further columns of curves: the `world` trained in, hashes of the settings and of the curves."""
    inputs = _own_inputs(job)
    budget = training_settings(job["settings"], inputs)
    budget["train"] = _training_identity(budget["train"])
    return {
        "scheduler": clean(job["scheduler"]),
        "world": world_of_training(job, of_job, inputs),
        "budget": canonical_hash(budget),
        "training": curve_hash,
    }


def _curve_hash(table: Columns) -> str:
    """Hash of all that a training measured but its time: a copy of it, or the same made again, has the same."""
    timed = table["metric"] == ELAPSED_METRIC
    digest = hashlib.sha256()
    for column in table.values():
        kept = column[~timed]
        digest.update("\n".join(kept).encode() if kept.dtype == object else kept.tobytes())
    return digest.hexdigest()


def _own_inputs(job: JobRecord) -> dict[str, str]:
    """Hashes of the user's own files, as far as job.json keeps them; a file of the package counts by its name."""
    return {key: job["input_sha256"][key] for key in input_files(job["settings"]) if key in job["input_sha256"]}


def _training_identity(train: object) -> object:
    """The settings of a training, except those that do not change what is learned."""
    if not isinstance(train, dict):
        return train
    return {key: value for key, value in train.items() if f"train.{key}" not in LEARNS_THE_SAME}


def _remark(folder: Path, job: JobRecord, manifest: Mapping[str, str]) -> str:
    """ "its training made 0 updates", or "its training saw no task in seed 1 of 3", ...; "" if all have learnt."""
    if not job["learned"] or "curves.parquet" not in manifest:
        return ""
    data = records.read_regular(folder / "curves.parquet", MAX_TABLE_BYTES)
    of_seeds = learnt_nothing(data)
    found: dict[str, list[int]] = defaultdict(list)
    for seed, text in of_seeds.items():
        found[text].append(seed)
    found.pop("", None)
    words = [text + _seeds_text(seeds, len(of_seeds)) for text, seeds in found.items()]
    return f"its training {' and '.join(words)}" if words else ""


def _seeds_text(seeds: list[int], n_seeds: int) -> str:
    """ " in seed 1 of 3", the first of many; "" for all of them."""
    if len(seeds) == n_seeds:
        return ""
    more = ", ..." if len(seeds) > MAX_NAMED_SEEDS else ""
    return f" in seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds[:MAX_NAMED_SEEDS]))}{more} of {n_seeds}"


def _of_metrics(table: Columns, metrics: Collection[str], most: int | None) -> Columns:
    """Rows of the metrics, and `number`: how many rows of its seed and metric came before.

    ValueError for more rows than `most`, numbers out of range, and seeds of different length.
    """
    table = of_metrics(table, metrics)
    if most is not None and n_rows(table) > most:
        raise ValueError(f"curves.parquet: with the folders before it more than {MAX_REPORT_ROWS:,} rows in one report")
    return table | {"number": check_delays(table)}
