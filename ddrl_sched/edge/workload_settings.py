"""Settings of a workload: when and where tasks arrive, and the columns of trace files (yamls of conf/workload)."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ddrl_sched.config import Name, NonNegative, Positive, Settings, Text
from ddrl_sched.edge.env_settings import MAX_SERVERS

MAX_LOAD = 10.0


class PoissonArrivals(Settings):
    """Poisson arrivals, the same rate at every station."""

    kind: Literal["poisson"]


class BurstyArrivals(Settings):
    """Markov-modulated Poisson arrivals: the whole network switches between a low and a high load."""

    kind: Literal["bursty"]
    low_load: NonNegative
    high_load: Positive
    mean_low_s: Positive  # mean dwell
    mean_high_s: Positive


class PublishedMultiArrivals(Settings):
    """A task at each index n of each station and slot with one probability (AMCoEdge)."""

    kind: Literal["published_multi"]
    n_indices: Annotated[int, Field(ge=1, le=100_000)]
    probability: Annotated[float, Field(gt=0, le=1)]  # used where load is null


class PublishedSingleArrivals(Settings):
    """1..max tasks per station and slot, uniform (LAD-TS)."""

    kind: Literal["published_single"]
    max_tasks: Annotated[int, Field(ge=1, le=100_000)]  # used where load is null


def _separator_word(value: object) -> object:
    """The word for a separator that is given as the character itself."""
    words = {",": "comma", ";": "semicolon", "\t": "tab", "\\t": "tab", "|": "pipe"}
    return words.get(value, value) if isinstance(value, str) else value


class TraceColumns(Settings):
    """Columns of a trace file: when, where and what a task is. null: drawn as env.tasks (and the stations) say."""

    timestamp: Text | None = None  # null: the one column that is named like a time
    time_unit: Literal["s", "ms", "us", "ns"] | None = None  # null: by the column's name (ts_ms), else seconds
    separator: Annotated[Literal["comma", "semicolon", "tab", "pipe"], BeforeValidator(_separator_word)] | None = None
    origin: Text | None = None  # station, 0..B-1
    input_mbit: Text | None = None  # scaled to the mean of env.tasks, as the next two
    result_mbit: Text | None = None
    work_gcycle: Text | None = None
    deadline_s: Text | None = None  # as it is, and so are the next two
    units: Text | None = None
    steps: Text | None = None


class TraceArrivals(Settings):
    """Arrival moments of a trace file, time stretched to the load."""

    kind: Literal["trace"]
    train_fraction: Annotated[float, Field(gt=0, lt=1)]  # of the file's time span; evaluation uses the rest
    windows: Annotated[int, Field(ge=1, le=10_000)]  # disjoint evaluation windows in the rest
    min_tasks: Annotated[int, Field(ge=1, le=10**6)]  # fewer in an evaluation window are an error


class WorkloadSettings(Settings):
    """When and where tasks arrive. `load` = long-run offered work (without overhead) over the sum of speeds."""

    name: Name
    load: Annotated[float, Field(gt=0, le=MAX_LOAD)] | None  # null with trace arrivals: as the file has it
    path: Text | None = None  # of trace arrivals: "package:AzureLLMInferenceTrace_conv.csv", or a path
    sort: bool = False  # of trace arrivals: sort the rows by time
    columns: TraceColumns | None = None  # of trace arrivals
    station_weights: Annotated[list[NonNegative], Field(min_length=1, max_length=MAX_SERVERS)] | None = None  # [B]
    order: Literal["drawn", "station"]  # of tasks that arrive together; station: station 0 first, then by index
    arrivals: Annotated[
        PoissonArrivals | BurstyArrivals | PublishedMultiArrivals | PublishedSingleArrivals | TraceArrivals,
        Field(discriminator="kind"),
    ]

    @model_validator(mode="after")
    def _consistent(self) -> "WorkloadSettings":
        kind, wrong = self.arrivals.kind, _station_faults(self)
        if (self.path is None) == (kind == "trace"):
            wanted = "must name a trace file" if self.path is None else "must be null (or left out)"
            wrong.append(f"path: {wanted} for {kind} arrivals")
        if (self.columns is None) == (kind == "trace"):
            wanted = "must be given ({}: all by default)" if self.columns is None else "must be null (or left out)"
            wrong.append(f"columns: {wanted} for {kind} arrivals")
        if self.sort and kind != "trace":
            wrong.append(f"sort: must be false (or left out) for {kind} arrivals")
        if self.load is None and kind == "poisson":
            wrong.append("load: must be a number for poisson arrivals, got null")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


def _station_faults(workload: WorkloadSettings) -> list[str]:
    weights = workload.station_weights
    if weights is None:
        return []
    if workload.columns is not None and workload.columns.origin is not None:
        return ["station_weights: must be null where columns.origin says where tasks arrive"]
    return [] if sum(weights) > 0 else ["station_weights: at least one must be > 0"]
