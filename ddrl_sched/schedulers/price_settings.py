"""The yaml of a price policy, checked."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ddrl_sched.agents.diffusion import Schedule
from ddrl_sched.agents.evolution import EvolutionSettings
from ddrl_sched.agents.nets import Hidden
from ddrl_sched.config import LARGEST, InputError, Settings, validate, validate_record
from ddrl_sched.provenance import without_provenance

PER_SERVER = ("price", "probe")
PER_TASK = ("congestion", "unseen_work_factor", "own_work_price", "min_wait_ratio")  # of the kernel's rule
OUTPUTS = (*PER_SERVER, *PER_TASK, "trust", "rank")
Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]
Factor = Annotated[float, Field(ge=0.0, le=LARGEST)]


class StartSettings(Settings):
    """Where learning starts; what is not learned stays there."""

    # a server is probed where this, the weighed worth of probing and the actor's output have a positive sum
    probe: Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
    worth: Factor  # weight of the worth of probing, log(wait expected there / time that probing takes)
    rank: Factor = 0.0  # the sum is lower by this times log j for the j-th server of probing.rank_of_others
    congestion: Factor
    unseen_work_factor: Factor
    own_work_price: Factor
    min_wait_ratio: Factor
    trust: Annotated[float, Field(gt=0.0, le=100.0)]  # share of the announced waits that counts, 1 = all


class ScaleSettings(Settings):
    """Fixed constants: numbers in seconds are observed as log(1 + value / constant)."""

    time_s: Positive  # of sending and computing a whole task
    wait_s: Positive
    price_s: Positive  # unit of the actor's prices


class ActorSettings(Settings):
    """The network."""

    kind: Literal["mlp", "diffusion"]
    hidden: Hidden
    bound: Annotated[float, Field(gt=0.0, le=50.0)]  # largest |output|; factors of a task are start x exp(output)
    steps: Annotated[int, Field(ge=1, le=1000)]  # T of the reverse chain
    schedule: Schedule
    beta_min: Annotated[float, Field(gt=0.0, le=1e4)]
    beta_max: Annotated[float, Field(gt=0.0, le=1e4)]
    time_width: Annotated[int, Field(gt=0, le=1024, multiple_of=2)]
    start: Literal["zero", "noise"]  # where the chain starts; noise: fresh for every decision


class PriceSettings(Settings):
    """The yaml of a price policy."""

    name: Literal["price_policy"]
    info: Literal["announced", "tracked", "probed", "running"]
    candidates: Literal["single", "any_subset", "all"]  # sets compared by the rule; all: every server, no comparison
    split: Literal["whole", "equal_finish"]
    learn: list[
        Literal[
            "price", "probe", "congestion", "unseen_work_factor", "own_work_price", "min_wait_ratio", "trust", "rank"
        ]
    ]
    rate_memory_s: Positive  # time constant of the station's own count of arrivals
    keep_to_asked: bool = False  # where servers were probed, only they and the own one are used
    ask_noise: Factor  # in training: scale of a logistic number added to `probe` for each task
    ask_noise_final: Annotated[float, Field(ge=0.0, le=1.0)]  # fraction of it in the last generation, linear between
    start: StartSettings
    scale: ScaleSettings
    actor: ActorSettings
    evolution: dict[str, Any]


def price_settings(data: Mapping[str, object]) -> PriceSettings:
    """The yaml of a price policy, checked. Raises InputError naming keys."""
    settings = validate(PriceSettings, without_provenance(data), "scheduler")
    evolution_settings(settings)
    if not settings.learn or len(set(settings.learn)) < len(settings.learn):
        raise InputError(f"scheduler.learn: at least one of {', '.join(OUTPUTS)}, each once")
    for name in ("probe", "rank"):
        if name in settings.learn and settings.info != "probed":
            raise InputError(f"scheduler.learn: {name} needs scheduler.info probed")
    if settings.info != "probed" and (settings.start.rank > 0.0 or settings.keep_to_asked):
        key = "keep_to_asked" if settings.keep_to_asked else "start.rank"
        raise InputError(f"scheduler.{key}: needs scheduler.info probed, otherwise no server is asked")
    if settings.info == "probed" and settings.candidates == "all":
        raise InputError("scheduler.candidates: all asks nobody, scheduler.info cannot be probed")
    for name in (*PER_TASK, "rank"):
        if name in settings.learn and getattr(settings.start, name) == 0.0:
            raise InputError(f"scheduler.start.{name}: must be above 0 where it is learned (it is multiplied)")
    return settings


def evolution_settings(settings: PriceSettings) -> EvolutionSettings:
    """The checked numbers of the search. Raises InputError naming scheduler.evolution keys."""
    return validate_record(EvolutionSettings, settings.evolution, "scheduler.evolution")
