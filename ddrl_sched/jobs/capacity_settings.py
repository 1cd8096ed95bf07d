"""The group `capacity` of a config: between which loads the highest one is sought that a scheduler carries in time.

What a job of this kind is called and what decides it is told here, without torch or the world.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, cast

from pydantic import Field, model_validator

from ddrl_sched.config import InputError, Settings, validate
from ddrl_sched.edge.workload_settings import TraceArrivals
from ddrl_sched.jobs import resolve as scheduling_settings
from ddrl_sched.jobs.request import JobSpec, Request, job_id
from ddrl_sched.jobs.strict_json import check_plain
from ddrl_sched.key_value import key_value
from ddrl_sched.run.settings import JobSettings

GROUP = "capacity"
DIGITS = 6  # decimals of a load that is looked at
Load = Annotated[float, Field(gt=0, lt=1)]


class CapacitySettings(Settings):
    """The group `capacity`. p99 of all tasks is within the deadline where at most 1 % of them are late."""

    at_most: Annotated[float, Field(gt=0, lt=1)]  # share of the counted tasks that may be late
    low: Load  # between these loads ...
    high: Load
    tolerance: Annotated[float, Field(ge=1e-4)]  # ... until those around the capacity are so near

    @model_validator(mode="after")
    def _ordered(self) -> "CapacitySettings":
        if not self.low < self.high:
            raise ValueError(f"high: must be > low ({self.low}), got {self.high}")
        if self.tolerance >= self.high - self.low:
            raise ValueError(f"tolerance: must be < high - low ({self.high - self.low:.6g}), got {self.tolerance}")
        return self

    @property
    def most_loads(self) -> int:
        """How many loads are looked at, at most."""
        return 2 + math.ceil(math.log2((self.high - self.low) / self.tolerance))


class CapacityJobSettings(JobSettings):
    """Everything that decides the result of such a job."""

    capacity: CapacitySettings


def next_load(late_rate: Mapping[float, float], settings: CapacitySettings) -> float | None:
    """The load to look at after those whose late rates are known; None: there is nothing more to learn.

    First `low`, then halves. `high` comes last, where all loads below it are within: loads near 1 take longest.
    """
    if settings.low not in late_rate:
        return settings.low
    beyond = min((load for load, rate in late_rate.items() if rate > settings.at_most), default=settings.high)
    within = [load for load, rate in late_rate.items() if rate <= settings.at_most and load <= beyond]
    if not within:  # not even at `low`
        return None
    if beyond - max(within) > settings.tolerance:
        return round((max(within) + beyond) / 2, DIGITS)
    return None if beyond in late_rate else settings.high


def resolve(request: Request) -> JobSpec[CapacityJobSettings]:
    """Validate a request for a capacity and name its job. Raises InputError naming keys."""
    if request.command == "train":
        raise InputError("capacity: needs an evaluation, which is ddrl sweep or ddrl eval, not ddrl train")
    env = request.data.get("env")
    if isinstance(env, Mapping) and env.get("kind") == "gym":
        raise InputError("capacity: CartPole-v1 has no load and no deadline")
    asked = validate(CapacitySettings, cast(Mapping[str, object], request.data[GROUP]), GROUP)
    check_plain({GROUP: asked.model_dump()}, request.overrides)
    inner = scheduling_settings.resolve(_without_group(request))
    if inner.settings.evaluate.tasks:
        raise InputError("evaluate.tasks: not with capacity, which looks at several loads and keeps no tasks")
    settings = CapacityJobSettings(**{**dict(inner.settings), GROUP: asked})
    _check_world(settings)
    identity = {**inner.identity, "settings": _counting(inner), GROUP: asked.model_dump()}
    name = job_id(identity, inner.inputs)
    return JobSpec(
        kind="capacity",
        request=request,
        settings=settings,
        label=inner.label,
        overrides=[*inner.overrides, *filter(_is_of_group, request.overrides)],
        job_id=name,
        folder=inner.folder.with_name(name),
        identity=identity,
        inputs=inner.inputs,
        weights=inner.weights,
        drawn_as=inner.drawn_as,
        learns=inner.learns,
        own_class=inner.own_class,
        checkpoint_s=inner.checkpoint_s,
    )


def trains_at_load(settings: JobSettings, *, trains: bool) -> bool:
    """Whether workload.load counts: the loads of the search are others, and train.loads come first."""
    return trains and not settings.train.loads


def _counting(inner: JobSpec[JobSettings]) -> object:
    """The settings that the result depends on."""
    settings = inner.identity["settings"]
    assert isinstance(settings, Mapping)
    if trains_at_load(inner.settings, trains=inner.learns and inner.weights is None):
        return settings
    workload = {key: value for key, value in settings["workload"].items() if key != "load"}
    return {**settings, "workload": workload}


def _without_group(request: Request) -> Request:
    data = {key: value for key, value in request.data.items() if key != GROUP}
    return replace(request, data=data, overrides=[word for word in request.overrides if not _is_of_group(word)])


def _is_of_group(word: str) -> bool:
    return key_value(word).top == GROUP


def _check_world(settings: CapacityJobSettings) -> None:
    """InputError naming keys for a world in which no task can be late, or whose load is no number to vary."""
    if settings.env.rule != "clean":
        raise InputError(f"capacity: is sought in worlds with env.rule clean, got {settings.env.rule}")
    columns = settings.workload.columns
    of_file = isinstance(settings.workload.arrivals, TraceArrivals) and columns is not None and columns.deadline_s
    if settings.env.tasks.deadline_s is None and not of_file:
        raise InputError("env.tasks.deadline_s: null, so that no task is late; capacity needs a deadline")
