"""Everything that decides the result of a scheduling job: its validated settings."""

from typing import Annotated

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from ddrl_sched.config import Seed, Settings
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.workload_settings import WorkloadSettings

MAX_NAME = 200  # characters of a scheduler's name in tables
MAX_BASELINES = 100
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=80)]
Loads = Annotated[list[Annotated[float, Field(gt=0, le=10)]], Field(max_length=1000)]
Baselines = Annotated[list[Annotated[str, Field(max_length=MAX_NAME)]], Field(max_length=MAX_BASELINES)]


class TrainSettings(Settings):
    """The budget of training."""

    name: Name
    episodes: Annotated[int, Field(ge=1, le=10**6)]
    episode_slots: Annotated[int, Field(ge=1, le=10**6)]
    episode_tasks: Annotated[int, Field(ge=0, le=10**7)]  # expected; an episode is lengthened to hold as many
    loads: Loads  # one after the other, episode by episode; empty: workload.load
    validate_every: Annotated[int, Field(ge=0, le=10**6)] = 0  # episodes between two validations; 0: none


class SavingSettings(Settings):
    """Keys of `train` that leave the result as it is; they are no part of a job's settings."""

    checkpoint_s: Annotated[float, Field(ge=0, le=86_400)]  # between two saves of the training's state


class EvaluateSettings(Settings):
    """The held-out traces."""

    seed: Seed  # root of their streams, apart from training
    traces: Annotated[int, Field(ge=1, le=10_000)]  # published worlds: per draw
    policy_seeds: Annotated[int, Field(ge=1, le=1000)]  # repetitions of schedulers that draw random numbers
    replay_rule: str | None  # place the decisions again under this published rule
    tasks: bool = False  # keep what became of every task (tasks.parquet)

    @model_serializer(mode="wrap")
    def _tasks_if_asked(self, plain: SerializerFunctionWrapHandler) -> dict[str, object]:
        """`tasks` changes no result: without it a job has the settings, and the name, that it would have anyway."""
        values: dict[str, object] = plain(self)
        return {key: value for key, value in values.items() if key != "tasks" or value}


class JobSettings(Settings):
    """Everything that decides a job's result."""

    name: Name
    seed: Seed
    seeds: Annotated[int, Field(ge=1, le=1000)]
    env: EnvSettings
    workload: WorkloadSettings
    scheduler: dict[str, object]
    train: TrainSettings
    evaluate: EvaluateSettings
    baselines: Baselines
