"""Settings as plain validated data: strict types, bounds on every number, errors that name the yaml key.

A yaml of conf/ holds a plain `name:` and numbers; it becomes one of the records below by `validate`. Scientific numbers
have no default here: they stand in the yaml, each under a comment that gives meaning and unit.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)

PACKAGE = "package:"  # begins the name of an input file that comes with the package
MAX_SHOWN = 60  # characters of a wrong value that a message repeats


class InputError(ValueError):
    """An error of the user's input. The command line prints the message and exits with code 2."""


class WrongKeyError(InputError):
    """A key that is unknown or missing, or has a value that it cannot have, whatever stands elsewhere."""


class Settings(BaseModel):
    """Base of all settings: no unknown key, no coercion (an integer may stand for a float), no NaN or inf."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


S = TypeVar("S", bound=Settings)
R = TypeVar("R")


def validate(model: type[S], data: Mapping[str, Any], prefix: str) -> S:
    """`data` (plain yaml data) as a `model`; `prefix` is the yaml key under which it stands.

    Raises WrongKeyError with one line per wrong key: its path, what was expected, what was got.
    """
    if not isinstance(data, Mapping):
        raise WrongKeyError(f"{prefix}: must be a group of keys, got {shown(data)}")
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise WrongKeyError("\n".join(_lines(model, data, error, prefix))) from None


def validate_record(cls: type[R], data: Mapping[str, Any], prefix: str) -> R:
    """`data` as an instance of the plain dataclass `cls`: its fields are the keys, checked like those of Settings.

    A key with a default (one that run folders of before it do not have) may be missing.

    Raises WrongKeyError as `validate` does, and the record's own ValueError.
    """
    known = get_type_hints(cls, include_extras=True)
    keys: dict[str, Any] = {
        f.name: (known[f.name], _default(f))
        for f in fields(cls)  # type: ignore[arg-type]
        if f.init
    }
    model = create_model(cls.__name__, __base__=Settings, **keys)
    checked = validate(model, data, prefix)
    return cls(**{key: getattr(checked, key) for key in keys})


def _default(field: Any) -> Any:
    """The default of a field of a dataclass, `...` where it has none."""
    if field.default_factory is not MISSING:
        return Field(default_factory=field.default_factory)
    return ... if field.default is MISSING else field.default


def _lines(model: type[BaseModel], data: Mapping[str, Any], error: ValidationError, prefix: str) -> list[str]:
    """One line per wrong key; where a key may be one of several things, what each of them wanted is joined by 'or'."""
    wanted: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for e in error.errors(include_url=False):
        path = _key_path(data, e, prefix)
        if e["type"] == "value_error":  # a check of ours: lines "key: text" where a key below this one is meant
            wanted |= {path + _below(line): [] for line in str(e["ctx"]["error"]).splitlines()}
        else:
            wanted.setdefault(path, []).append(_expected(e, _known_keys(model, e["loc"])))
            got[path] = got.get(path) or _got(e)
    joined = {path: " or ".join(dict.fromkeys(texts)).replace(" or must be ", " or ") for path, texts in wanted.items()}
    return [f"{path}: {text}{got[path]}" if text else path for path, text in joined.items()]


def _below(line: str) -> str:
    return f".{line}" if re.match(r"[a-z_0-9.\[\]]+: ", line) else f": {line}"


def shown(value: Any) -> str:
    """A user's value as one short printable piece of a message."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def clean(text: object) -> str:
    """Text that is safe to print on one line: control, format and other invisible characters become "?"."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def near(word: object, known: Iterable[str], above: str = "") -> str:
    """'; did you mean ...?' where a known word resembles `word`, else nothing; `above` is put before the known word."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{clean(above + close[0])}'?" if close else ""


def _got(error: Any) -> str:
    """What was given, and the nearest of the words that were expected."""
    kind, value = error["type"], error["input"]
    if kind in {"missing", "extra_forbidden", "union_tag_not_found"}:
        return ""
    if kind == "union_tag_invalid":
        value, words = error["ctx"]["tag"], error["ctx"]["expected_tags"]
    else:
        words = error["ctx"]["expected"] if kind == "literal_error" else ""
    return f", got {shown(value)}" + near(value, re.findall(r"'([^']*)'", words))


def _key_path(data: Any, error: Any, prefix: str) -> str:
    """Path of the yaml key, without the tags that pydantic adds for the `kind` of a group."""
    path, here, loc = prefix, data, error["loc"]
    for i, part in enumerate(loc):
        if isinstance(part, int) and isinstance(here, list) and part < len(here):
            path, here = f"{path}[{part}]", here[part]
        elif isinstance(here, Mapping) and part in here:
            path, here = f"{path}.{_key(part)}", here[part]
        elif i == len(loc) - 1 and error["type"] == "missing":
            path = f"{path}.{_key(part)}"
    if error["type"] in {"union_tag_not_found", "union_tag_invalid"}:
        path = f"{path}.kind"
    return path


def _key(part: object) -> str:
    return str(part) if str(part).isidentifier() else shown(part)


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the group in which the last part of `loc` stands."""
    groups = [model]
    for part in loc[:-1]:
        tagged = [g for g in groups if "kind" in g.model_fields and part in get_args(g.model_fields["kind"].annotation)]
        inner = [m for g in groups if part in g.model_fields for m in _models(g.model_fields[str(part)].annotation)]
        groups = tagged if tagged and len(groups) > 1 else inner or groups
    return [key for group in groups for key in group.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _expected(error: Any, keys: list[str]) -> str:
    kind, ctx = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + (near(error["loc"][-1], keys) or f"; known keys: {', '.join(keys)}")
    if kind == "literal_error":
        return f"must be {ctx['expected']}"
    if kind == "union_tag_invalid":
        return f"must be one of {ctx['expected_tags']}"
    bounds = {"greater_than": ("gt", ">"), "greater_than_equal": ("ge", ">="), "less_than": ("lt", "<")}
    if kind in bounds or kind == "less_than_equal":
        key, sign = bounds.get(kind, ("le", "<="))
        limit = ctx[key]
        return f"must be {sign} {limit if isinstance(limit, int) else format(limit, '.12g')}"
    texts = {
        "missing": "is missing",
        "finite_number": "must be a finite number",
        "float_type": "must be a number",
        "int_type": "must be a whole number",
        "int_from_float": "must be a whole number",
        "bool_type": "must be true or false",
        "string_type": "must be text",
        "list_type": "must be a list",
        "model_type": "must be a group of keys",
        "model_attributes_type": "must be a group of keys",
        "union_tag_not_found": "is missing",
        "string_pattern_mismatch": "must be 1-64 letters, digits or any of _ . -",
        "too_short": f"must have at least {ctx.get('min_length')} entries",
        "too_long": f"must have at most {ctx.get('max_length')} entries",
        "string_too_short": "must not be empty",
        "string_too_long": f"must have at most {ctx.get('max_length')} characters",
    }
    return texts.get(kind, error["msg"])


# ---- pieces that several groups share --------------------------------------------------------------------------------

LARGEST = 1e9
MAX_SERVERS = 1000
MAX_LOAD = 10.0

Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


def _rising(bounds: list[float]) -> list[float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"must be [lowest, highest], got {shown(bounds)}")
    return bounds


Range = Annotated[list[NonNegative], Field(min_length=2, max_length=2), AfterValidator(_rising)]
IntRange = Annotated[
    list[Annotated[int, Field(ge=1, le=10**6)]], Field(min_length=2, max_length=2), AfterValidator(_rising)
]
Rates = Annotated[list[Positive], Field(min_length=1, max_length=MAX_SERVERS)]
Row = Annotated[list[NonNegative | None], Field(min_length=1, max_length=MAX_SERVERS)]
Matrix = Annotated[list[Row], Field(min_length=1, max_length=MAX_SERVERS)]  # [B, E], null or 0 on the diagonal


def _form(value: Any) -> str:
    """Which of a number, a list and a matrix is meant, so that an error speaks of that one only."""
    if not isinstance(value, list):
        return "number"
    return "matrix" if any(isinstance(row, list) for row in value) else "list"


def _no_list(value: list[Any]) -> list[Any]:
    raise ValueError(f"must be one number or have one row per station, got {shown(value)}")


NoList = Annotated[list[Any], AfterValidator(_no_list)]
NumberOrMatrix = Annotated[
    Annotated[NonNegative, Tag("number")] | Annotated[NoList, Tag("list")] | Annotated[Matrix, Tag("matrix")],
    Discriminator(_form),
]
RatesOrMatrix = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[Rates, Tag("list")] | Annotated[Matrix, Tag("matrix")],
    Discriminator(_form),
]

# ---- conf/env --------------------------------------------------------------------------------------------------------

MULTI_RULES = ("amcoedge", "smcoedge", "drlcoedge", "randcoedge", "optimal")
SINGLE_RULES = ("dedgeai", "opt_ts")
Rule = Literal["clean", "amcoedge", "smcoedge", "drlcoedge", "randcoedge", "optimal", "dedgeai", "opt_ts"]


class ListedServers(Settings):
    """Servers with the speeds of a list."""

    kind: Literal["listed"]
    speed_gcps: Rates  # [E]


class DrawnServers(Settings):
    """Servers whose speeds are drawn once, integers lowest..highest, from a named stream of the yaml's seed."""

    kind: Literal["drawn"]
    n: Annotated[int, Field(ge=1, le=MAX_SERVERS)] | None  # null: one per station of the network's graph
    speed_gcps: IntRange
    capacity_seed: Seed


class Stations(Settings):
    """Stations, where they are not just one per server."""

    n: Annotated[int, Field(ge=1, le=MAX_SERVERS)]
    home: Annotated[list[Annotated[int, Field(ge=0)] | None], Field(min_length=1, max_length=MAX_SERVERS)]  # [E]


class ReceiverNetwork(Settings):
    """Every pair of stations is joined, by a rate of each server's link or by a matrix; the latency too may be one."""

    kind: Literal["receivers"]
    rate_mbps: RatesOrMatrix  # the same everywhere, [E] each server's, there and back, or [B, E] from b to e
    latency_s: NumberOrMatrix  # the same everywhere, or [B, E] from b to e
    port: Literal["shared", "per_link"]


class DrawnReceiverNetwork(Settings):
    """As ReceiverNetwork, the rates drawn once, integers lowest..highest, from a named stream of the yaml's seed."""

    kind: Literal["receivers_drawn"]
    rate_mbps: IntRange
    rate_seed: Seed
    latency_s: NumberOrMatrix  # the same everywhere, or [B, E] from b to e
    port: Literal["shared", "per_link"]


class GraphNetwork(Settings):
    """A wired network from a gml or graphml file of the Internet Topology Zoo's form, with a station at every node."""

    kind: Literal["graph"]
    file: Text  # "package:Kreonet.gml", or a path
    latency_s_per_km: NonNegative
    missing_latency_s: NonNegative  # of a link where the coordinates of an end are missing
    missing_rate_mbps: Positive | None  # of a link that states no speed; null: such a link is an error
    port: Literal["shared", "per_link"]


class AutoHorizon(Settings):
    """The horizon where `horizon_s: auto`: the longest of the three demands, but never above the cap."""

    relaxations: NonNegative  # relaxation times E[w] / (F (1 - sqrt(load))^2), F the sum of speeds
    slots: NonNegative
    counted_tasks: NonNegative  # expected number of tasks after the warm-up
    cap_s: Positive


class Clock(Settings):
    """Times of the world."""

    slot_s: Positive
    announce_s: Positive
    probe_s: NonNegative
    warm_up: Annotated[float, Field(ge=0, lt=1)]  # fraction of the horizon that is not counted
    horizon_s: Literal["auto"] | Positive
    auto_horizon: AutoHorizon | None  # null where horizon_s is a number

    @model_validator(mode="after")
    def _has_horizon(self) -> "Clock":
        if self.horizon_s == "auto" and self.auto_horizon is None:
            raise ValueError("auto_horizon: must be given with horizon_s auto, got null")
        return self


class Slowdowns(Settings):
    """Servers slow down and recover at random moments, each on its own."""

    mean_between_s: Positive  # mean time at nominal speed
    mean_duration_s: Positive
    factor: Annotated[float, Field(gt=0, le=100)]  # of the speed while it lasts


class OffloadTasks(Settings):
    """Data to be computed on: work = size x density."""

    kind: Literal["offload"]
    size_mbit: Range
    density_gcycle_per_mbit: Range
    density: Literal["per_task", "per_index"]  # per_index: drawn once per draw for each index n (published)
    result_mbit: Range
    overhead_gcycle: NonNegative
    deadline_s: Positive | None


class GenerationTasks(Settings):
    """Generation in diffusion steps: work = Gcycle per step x steps."""

    kind: Literal["generation"]
    size_mbit: Range
    gcycle_per_step: Range
    steps: IntRange
    result_mbit: Range
    cost: Literal["per_task", "per_index"]  # per_index: per-step cost, steps and result once per draw and index n
    overhead_gcycle: NonNegative
    deadline_s: Positive | None


class Choices(Settings):
    """Whole numbers with their probabilities."""

    values: Annotated[list[Annotated[int, Field(ge=1, le=10**6)]], Field(min_length=1, max_length=100)]
    probabilities: Annotated[list[NonNegative], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _distribution(self) -> "Choices":
        if len(self.values) != len(self.probabilities):
            raise ValueError(f"{len(self.values)} values but {len(self.probabilities)} probabilities")
        if abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(f"probabilities must sum to 1, got {sum(self.probabilities):.6g}")
        return self


class ImageTasks(Settings):
    """A batch of whole images: work = steps x images x Gcycle per step; an image is never split."""

    kind: Literal["images"]
    steps: Choices
    n_images: Choices
    gcycle_per_step: Positive
    overhead_steps: NonNegative  # per used share
    prompt_mbit: NonNegative
    result_mbit_per_image: NonNegative
    deadline_s: Positive | None


class EnvSettings(Settings):
    """One environment: servers, network, clock, rule and what a task is."""

    name: Name
    rule: Rule
    servers: Annotated[ListedServers | DrawnServers, Field(discriminator="kind")]
    stations: Stations | None = None  # null: every station owns a server, and every server belongs to a station
    network: Annotated[ReceiverNetwork | DrawnReceiverNetwork | GraphNetwork, Field(discriminator="kind")]
    clock: Clock
    slowdowns: Slowdowns | None
    tasks: Annotated[OffloadTasks | GenerationTasks | ImageTasks, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _consistent(self) -> "EnvSettings":
        wrong = _home_faults(self) or _server_count_faults(self)
        wrong += _published_faults(self) if self.rule != "clean" else []
        if _mean_work_is_zero(self.tasks):
            wrong.append("tasks: the mean work must be > 0")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


def _mean_work_is_zero(tasks: OffloadTasks | GenerationTasks | ImageTasks) -> bool:
    if isinstance(tasks, OffloadTasks):
        return tasks.size_mbit[1] == 0 or tasks.density_gcycle_per_mbit[1] == 0
    return isinstance(tasks, GenerationTasks) and tasks.gcycle_per_step[1] == 0


def n_servers_of(env: EnvSettings) -> int | None:
    """Servers of an environment; None: one per station of the network's graph."""
    return len(env.servers.speed_gcps) if isinstance(env.servers, ListedServers) else env.servers.n


def _home_faults(env: EnvSettings) -> list[str]:
    stations, n = env.stations, n_servers_of(env)
    if stations is None:
        return []
    if isinstance(env.network, GraphNetwork):
        return ["stations: must be null with network.kind graph, which has a station with a server at every node"]
    if env.rule != "clean":
        return [f"stations: must be null under rule {env.rule}, where every station has a server"]
    if len(stations.home) != n:
        return [f"stations.home: must have one entry per server ({n}), got {len(stations.home)}"]
    for e, home in enumerate(stations.home):
        if home is not None and home >= stations.n:
            return [f"stations.home[{e}]: must be null or a station below {stations.n} (stations.n), got {home}"]
        if home is not None and home in stations.home[:e]:
            return [f"stations.home[{e}]: station {home} has server {stations.home.index(home)} already"]
    return []


def _server_count_faults(env: EnvSettings) -> list[str]:
    n = n_servers_of(env)
    if n is None and not isinstance(env.network, GraphNetwork):
        return ["servers.n: null needs network.kind graph"]
    if isinstance(env.network, GraphNetwork):
        return []
    assert n is not None
    rates, latencies, world = env.network.rate_mbps, env.network.latency_s, homes_of(env, n)
    faults = [] if isinstance(latencies, float | int) else _matrix_faults("network.latency_s", latencies, world, 0)
    if isinstance(env.network, DrawnReceiverNetwork) or isinstance(rates, float | int):
        return faults
    if isinstance(rates[0], list):
        return _matrix_faults("network.rate_mbps", rates, world, 1) + faults
    if n != len(rates):
        faults.insert(0, f"network.rate_mbps: must have one rate per server ({n}), got {len(rates)}")
    return faults


def homes_of(env: EnvSettings, n_servers: int) -> tuple[int, list[int]]:
    """(stations B, station of each server [E], -1 where it has none)."""
    if env.stations is None:
        return n_servers, list(range(n_servers))
    return env.stations.n, [-1 if home is None else home for home in env.stations.home]


def _matrix_faults(key: str, rows: list[Any], world: tuple[int, list[int]], least: int) -> list[str]:
    """The first fault of a matrix [B, E]. Where the server is not the station's own 0 is no rate (least 1)."""
    n_stations, home = world
    if len(rows) != n_stations:
        return [f"{key}: must be one number or have one row per station ({n_stations}), got {len(rows)} rows"]
    for b, row in enumerate(rows):
        if len(row) != len(home):
            return [f"{key}[{b}]: must have one entry per server ({len(home)}), got {len(row)}"]
        for e, value in enumerate(row):
            if b == home[e] and value:
                return [f"{key}[{b}][{e}]: must be null or 0 (there is no link to the own server), got {value:.6g}"]
            if b != home[e] and (value is None or (least and value == 0)):
                wanted = "a number > 0" if least else "a number"
                return [f"{key}[{b}][{e}]: must be {wanted}, got {'null' if value is None else 0}"]
    return []


def _published_faults(env: EnvSettings) -> list[str]:
    """What the published rules cannot express would be ignored without a word: refuse it."""
    multi, tasks = env.rule in MULTI_RULES, env.tasks
    if isinstance(tasks, ImageTasks) or multi != isinstance(tasks, OffloadTasks):
        return [f"tasks.kind: rule {env.rule} needs {'offload' if multi else 'generation'}, got {tasks.kind}"]
    if isinstance(env.network, GraphNetwork):
        return [f"network.kind: rule {env.rule} needs receivers or receivers_drawn, got graph"]
    for key, values in (("latency_s", env.network.latency_s), ("rate_mbps", env.network.rate_mbps)):
        if isinstance(values, list) and isinstance(values[0], list):
            return [f"network.{key}: rule {env.rule} has no matrix of links"]
    latency_s = env.network.latency_s
    zero = {
        "network.latency_s": latency_s if isinstance(latency_s, float | int) else 0.0,
        "clock.probe_s": env.clock.probe_s,
        "tasks.overhead_gcycle": tasks.overhead_gcycle,
        "clock.announce_s - clock.slot_s": env.clock.announce_s - env.clock.slot_s,
    } | ({"tasks.result_mbit": tasks.result_mbit[1]} if multi else {})
    faults = [f"{key}: must be 0 under rule {env.rule}, got {value:.6g}" for key, value in zero.items() if value != 0]
    if env.network.port != "shared":
        faults.append(f"network.port: must be shared under rule {env.rule}")
    return faults + ([f"slowdowns: must be null under rule {env.rule}"] if env.slowdowns else [])


# ---- conf/workload ---------------------------------------------------------------------------------------------------


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


def _separator_word(value: Any) -> Any:
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
