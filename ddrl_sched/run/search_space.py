"""The group `tune` of a config: how long a search goes on, and which keys of a scheduler take which values."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ddrl_sched.config import InputError, Seed, Settings, shown, validate

Count = Annotated[int, Field(ge=1, le=10**6)]
Whole = Annotated[int, Field(ge=0, le=10**6)]
Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float


class Span(Settings):
    """Numbers low..high, whole ones if both ends are."""

    low: Number
    high: Number
    log: bool = False  # uniform in the logarithm

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if not self.low < self.high:
            raise ValueError(f"high: must be > low ({self.low}), got {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low: must be > 0 with log, got {self.low}")
        return self


class Choices(Settings):
    """One of some values, whatever they are."""

    choices: Annotated[list[Any], Field(min_length=1, max_length=100)]


class MedianPruner(Settings):
    """A trial ends early whose best episode so far is worse than the median of earlier trials at the same episode."""

    kind: Literal["median"]
    startup_trials: Whole  # finished before any is ended early
    warm_up_episodes: Whole  # of every trial


class HalvingPruner(Settings):
    """Successive halving: of `reduction` trials one goes on past first_episodes, past reduction times as many, ..."""

    kind: Literal["halving"]
    first_episodes: Count
    reduction: Annotated[int, Field(ge=2, le=100)]


class TuneSettings(Settings):
    """The group `tune`."""

    n_trials: Count
    evaluate_seed: Seed  # root of the traces of the search, apart from the held-out ones
    seed: Seed  # of the proposals
    startup_trials: Whole  # drawn at random before the sampler (TPE) learns from them
    pruner: Annotated[MedianPruner | HalvingPruner, Field(discriminator="kind")] | None  # null: all go to their end
    space: dict[str, dict[str, Any]]  # `all`, and the name of an agent (of a rule): keys of the scheduler's yaml


def space_of(settings: TuneSettings, scheduler: Mapping[str, Any]) -> dict[str, Span | Choices]:
    """What is varied about this scheduler. InputError for an unknown key or values of no known form."""
    agent = scheduler.get("agent")
    kind = str(agent["name"] if isinstance(agent, Mapping) else scheduler.get("name"))
    found: dict[str, Span | Choices] = {}
    for group in ("all", kind):
        found |= dict(_values(settings.space.get(group, {}), scheduler, f"tune.space.{group}", ""))
    if not found:
        raise InputError(f"tune.space: nothing to vary about {kind}: neither `all` nor `{kind}` stands there")
    return found


def _values(
    space: Mapping[str, Any], scheduler: Mapping[str, Any], place: str, path: str
) -> Iterator[tuple[str, Span | Choices]]:
    for key, inner in space.items():
        here, full = f"{place}.{key}", f"{path}.{key}".lstrip(".")
        if key not in scheduler:
            raise InputError(f"{here}: the scheduler has no key {full}; known: {', '.join(scheduler)}")
        if not isinstance(inner, Mapping):
            raise InputError(f"{here}: low and high, or choices, or keys below it expected, got {shown(inner)}")
        if "choices" in inner:
            yield full, validate(Choices, inner, here)
        elif "low" in inner or "high" in inner:
            yield full, validate(Span, inner, here)
        elif isinstance(scheduler[key], Mapping):
            yield from _values(inner, scheduler[key], here, full)
        else:
            raise InputError(f"{here}: low and high, or choices expected, got {shown(dict(inner))}")
