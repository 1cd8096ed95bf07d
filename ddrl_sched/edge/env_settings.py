"""Settings of an environment: servers, stations, network, clock, rule set and what a task is (yamls of conf/env)."""

from typing import Annotated, Literal, Never, TypeGuard

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from ddrl_sched.config import Name, NonNegative, Positive, Seed, Settings, Text, shown

MAX_SERVERS = 1000

MULTI_RULES = ("amcoedge", "smcoedge", "drlcoedge", "randcoedge", "optimal")  # published rule sets that divide tasks
SINGLE_RULES = ("dedgeai", "opt_ts")  # those that send every task to one server
Rule = Literal["clean", "amcoedge", "smcoedge", "drlcoedge", "randcoedge", "optimal", "dedgeai", "opt_ts"]


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


def _form(value: object) -> str:
    """Whether a number, a list or a matrix is meant, so that an error is about that one only."""
    if not isinstance(value, list):
        return "number"
    return "matrix" if any(isinstance(row, list) for row in value) else "list"


def _no_list(value: list[object]) -> Never:
    raise ValueError(f"must be one number or have one row per station, got {shown(value)}")


NoList = Annotated[list[object], AfterValidator(_no_list)]
NumberOrMatrix = Annotated[
    Annotated[NonNegative, Tag("number")] | Annotated[NoList, Tag("list")] | Annotated[Matrix, Tag("matrix")],
    Discriminator(_form),
]
RatesOrMatrix = Annotated[
    Annotated[Positive, Tag("number")] | Annotated[Rates, Tag("list")] | Annotated[Matrix, Tag("matrix")],
    Discriminator(_form),
]


def is_matrix(values: object) -> TypeGuard[list[list[float | None]]]:
    """Whether the rates or latencies of links are given as a matrix [B, E]."""
    return isinstance(values, list) and isinstance(values[0], list)


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

    @property
    def published(self) -> bool:
        """Whether a published rule computes delays, and not the clean physics."""
        return self.rule != "clean"

    @model_validator(mode="after")
    def _consistent(self) -> "EnvSettings":
        wrong = _home_faults(self) or _server_count_faults(self)
        wrong += _published_faults(self) if self.published else []
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
    if env.published:
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
    faults = _matrix_faults("network.latency_s", latencies, world, least=0) if is_matrix(latencies) else []
    if isinstance(env.network, DrawnReceiverNetwork) or isinstance(rates, float | int):
        return faults
    if is_matrix(rates):
        return _matrix_faults("network.rate_mbps", rates, world, least=1) + faults
    if n != len(rates):
        faults.insert(0, f"network.rate_mbps: must have one rate per server ({n}), got {len(rates)}")
    return faults


def homes_of(env: EnvSettings, n_servers: int) -> tuple[int, list[int]]:
    """(stations B, station of each server [E], -1 where it has none)."""
    if env.stations is None:
        return n_servers, list(range(n_servers))
    return env.stations.n, [-1 if home is None else home for home in env.stations.home]


def _matrix_faults(key: str, rows: list[list[float | None]], world: tuple[int, list[int]], least: int) -> list[str]:
    """The first fault of a matrix [B, E]; with `least` 1, 0 is one where the server is not the station's own."""
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
    """Keys whose value the published rule set cannot express; it would be ignored without a word."""
    multi, tasks = env.rule in MULTI_RULES, env.tasks
    if isinstance(tasks, ImageTasks) or multi != isinstance(tasks, OffloadTasks):
        return [f"tasks.kind: rule {env.rule} needs {'offload' if multi else 'generation'}, got {tasks.kind}"]
    if isinstance(env.network, GraphNetwork):
        return [f"network.kind: rule {env.rule} needs receivers or receivers_drawn, got graph"]
    for key, values in (("latency_s", env.network.latency_s), ("rate_mbps", env.network.rate_mbps)):
        if is_matrix(values):
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
