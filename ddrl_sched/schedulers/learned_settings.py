"""The yaml of a scheduler of the learned family, checked."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ddrl_sched.agents.table import SETTINGS, AgentSettings
from ddrl_sched.config import LARGEST, InputError, Settings, near, shown, validate, validate_record
from ddrl_sched.provenance import without_provenance

Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class ActionSettings(Settings):
    """Which sets of servers may be chosen."""

    name: Literal["single", "local_plus_one", "exactly_k", "top_k", "any_subset", "gates"]
    k: Count | None  # of exactly_k and top_k


class ObservationSettings(Settings):
    """Fixed constants: clean worlds are observed as log(1 + value / constant), published ones raw."""

    size_mbit: Positive
    work_gcycle: Positive
    time_s: Positive  # of sending and computing a whole task, and of the deadline
    wait_s: Positive


class LearningSettings(Settings):
    """How experience becomes updates."""

    gamma: Annotated[float, Field(ge=0.0, lt=1.0)]  # per task in published worlds, per slot_s of time in clean ones
    memory: Count  # transitions kept per learner
    batch: Count  # transitions per update and learner
    every_slots: Count  # slots (those that hold a task) between rounds of updates
    updates: Count  # updates per round
    start_slots: Annotated[int, Field(ge=0, le=10**9)]  # slots before the first update
    reward: Literal["own", "team"]  # minus the task's delay, or minus the mean delay of all stations in its slot
    reward_shape: Literal["linear", "log"]  # of the delay, in units of reward_scale_s; log: log(1 + delay)
    reward_scale_s: Positive  # delay that counts as 1 (published worlds: rewards as published)
    # queues in the next state of a station's last task of a slot; zero: a fault of the published single-server code
    next_queues: Literal["observed", "zero"] = "observed"
    lr_final: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0  # fraction of all learning rates at the end, linear to it


class LearnedSettings(Settings):
    """One member of the learned family."""

    name: Literal["learned"]
    info: Literal["announced", "tracked", "probed"]
    choose: Literal["announced", "tracked"]  # what the choice of the set rests on; "probed" adds exact splits
    sharing: Literal["per_station", "shared"]
    split: Literal["by_world", "whole", "proportional", "cwa", "hecwa", "water_filling", "equal_finish"]
    decisions: Literal["greedy", "sample"]  # in evaluation: the most probable action, or drawn from the policy
    latent_entries: Annotated[int, Field(ge=0, le=10**6)]  # task indices that keep a latent action of their own
    # policy before learning: that of random weights, or (actions single, sac and dsac) servers drawn by their capacity
    start: Literal["random", "capacity"] = "random"
    actions: ActionSettings
    observation: ObservationSettings
    learning: LearningSettings
    agent: dict[str, Any]


def learned_settings(data: Mapping[str, object]) -> LearnedSettings:
    """The yaml of a learned scheduler, checked, its agent's numbers included. Raises InputError."""
    settings = validate(LearnedSettings, without_provenance(data), "scheduler")
    agent_settings(settings.agent)
    if settings.latent_entries > 0 and settings.sharing == "shared":
        raise InputError("scheduler.latent_entries: must be 0 with shared weights (a task index is a station's own)")
    if settings.decisions == "sample" and settings.agent["name"] == "dqn":
        raise InputError("scheduler.decisions: must be greedy for dqn, which has no policy to draw from")
    if settings.info != "probed" and settings.info != settings.choose:
        raise InputError(f"scheduler.choose: must be {settings.info} (scheduler.info) unless that is probed")
    if (settings.actions.name in ("exactly_k", "top_k")) != (settings.actions.k is not None):
        raise InputError("scheduler.actions.k: wanted for exactly_k and top_k, null for the others")
    return settings


def agent_settings(data: Mapping[str, object]) -> AgentSettings:
    """The numbers of the agent group, a record of agents/table.py. Raises InputError naming scheduler.agent keys."""
    name = data.get("name")
    if not isinstance(name, str) or name not in SETTINGS:
        known = ", ".join(SETTINGS)
        raise InputError(f"scheduler.agent.name: expected one of {known}, got {shown(name)}{near(name, SETTINGS)}")
    try:
        return validate_record(SETTINGS[name], {k: v for k, v in data.items() if k != "name"}, "scheduler.agent")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"scheduler.{error}") from None
