"""The group `tune` of a config: how long a search goes on, and which keys of a scheduler take which values."""

import copy
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ddrl_sched.config import InputError, Seed, Settings, WrongKeyError, shown, validate
from ddrl_sched.schedulers import table
from ddrl_sched.schedulers.learned_settings import learned_settings
from ddrl_sched.schedulers.price_settings import price_settings

Count = Annotated[int, Field(ge=1, le=10**6)]
Whole = Annotated[int, Field(ge=0, le=10**6)]
Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float


class Span(Settings):
    """Numbers low..high, whole ones if both ends are."""

    low: Number
    high: Number
    log: bool = False  # uniform in the logarithm

    @property
    def ends(self) -> tuple[int, int] | tuple[float, float]:
        """Both ends, as whole numbers if both are."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return self.low, self.high
        return float(self.low), float(self.high)

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


Space = Mapping[str, Span | Choices]  # dotted key of a scheduler's yaml -> its values


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


def space_of(settings: TuneSettings, scheduler: Mapping[str, object]) -> dict[str, Span | Choices]:
    """What is varied about this scheduler. InputError for an unknown key or values of no known form."""
    agent = scheduler.get("agent")
    kind = str(agent["name"] if isinstance(agent, Mapping) else scheduler.get("name"))
    found: dict[str, Span | Choices] = {}
    for group in ("all", kind):
        found |= dict(_values(settings.space.get(group, {}), scheduler, f"tune.space.{group}", ""))
    if not found:
        raise InputError(f"tune.space: nothing to vary about {kind}: neither `all` nor `{kind}` stands there")
    return found


def changed(scheduler: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """A scheduler's yaml with other values at dotted keys."""
    data = copy.deepcopy(dict(scheduler))
    for path, value in changes.items():
        *groups, last = path.split(".")
        here = data
        for group in groups:
            inner = here[group]
            assert isinstance(inner, dict)
            here = inner
        here[last] = value
    return data


def check_ends(space: Space, scheduler: Mapping[str, object]) -> None:
    """InputError for an end of a span, or a choice, that its key can never have.

    Whether values of several keys go together, and with the world and the budget, only a trial can tell.
    """
    for path, values in space.items():
        for value in values.choices if isinstance(values, Choices) else values.ends:
            try:
                _check_keys(changed(scheduler, {path: value}))
            except WrongKeyError as error:
                raise InputError(f"tune.space: {error}") from None
            except InputError:
                continue


def _check_keys(scheduler: Mapping[str, object]) -> None:
    """WrongKeyError for a key of the scheduler's yaml that cannot have its value, InputError for what else is wrong."""
    name = str(scheduler.get("name"))
    if name == "learned":
        learned_settings(scheduler)
    elif name == "price_policy":
        price_settings(scheduler)
    else:
        table.build(name, {key: value for key, value in scheduler.items() if key != "name"})


def _values(
    space: Mapping[str, object], scheduler: Mapping[str, object], place: str, path: str
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
        elif isinstance(below := scheduler[key], Mapping):
            yield from _values(inner, below, here, full)
        else:
            raise InputError(f"{here}: low and high, or choices expected, got {shown(dict(inner))}")
