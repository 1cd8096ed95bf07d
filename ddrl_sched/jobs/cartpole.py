"""CartPole-v1 as a job: settings in, a run folder out. All seeds of an agent learn side by side."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from rich.console import Console
from rich.progress import track
from safetensors.torch import save as save_tensors

from ddrl_sched.agents.finite import check_weights
from ddrl_sched.config import InputError, Name, Seed, Settings, shown, validate
from ddrl_sched.failures import TrainingError
from ddrl_sched.fingerprint import canonical_hash
from ddrl_sched.jobs import records
from ddrl_sched.jobs.budget import MOST_METRICS, check_changed, check_steps
from ddrl_sched.jobs.earlier_run import WEIGHTS
from ddrl_sched.jobs.lifecycle import Clock, carry_out, stamp
from ddrl_sched.jobs.lock import is_locked
from ddrl_sched.jobs.reading import MAX_REPORT_ROWS, MAX_ROWS, check_n_rows
from ddrl_sched.jobs.request import Ending, JobSpec, Plan, Request, check_label, job_id
from ddrl_sched.jobs.resolve import validated, without_saving
from ddrl_sched.jobs.schemas import CURVES_SCHEMA, RETURNS_SCHEMA, JobRecord
from ddrl_sched.jobs.state import state
from ddrl_sched.jobs.strict_json import check_plain
from ddrl_sched.jobs.training import resumed
from ddrl_sched.key_value import key_value
from ddrl_sched.labels import GYM_AGENT
from ddrl_sched.provenance import Provenance, without_claims
from ddrl_sched.run.cartpole import (
    Budget,
    EvalPoint,
    Learners,
    Learning,
    Training,
    build_learners,
    episode_mean,
    step_mean,
)
from ddrl_sched.run.cartpole_env import ID, SOLVED
from ddrl_sched.run.metrics import ELAPSED_METRIC
from ddrl_sched.run.settings import Baselines, SavingSettings
from ddrl_sched.schedulers.learned_settings import agent_settings
from ddrl_sched.seeding import stream

Steps = Annotated[int, Field(ge=1, le=10**8)]
UNUSED = ("workload", "evaluate")  # groups of conf/base.yaml without a meaning here
SECONDS_PER_UPDATE = {"dqn": 1.2e-3, "sac": 3e-3, "dsac": 5e-3}  # rough, 20 seeds


class GymEnv(Settings):
    """An environment of gymnasium."""

    name: Name
    kind: Literal["gym"]
    id: Literal["CartPole-v1"]


class GymAgent(Provenance):
    """What stands in the group `scheduler`: an agent and how it learns."""

    name: Literal["gym_agent"]
    learning: Learning
    agent: dict[str, object]


class GymTrain(Settings):
    """The budget."""

    name: Name
    horizons: Annotated[list[Steps], Field(min_length=1, max_length=100)]  # steps after which results are stated
    evaluate_every: Steps
    evaluate_episodes: Annotated[int, Field(ge=1, le=1000)]

    @model_validator(mode="after")
    def _horizons_are_looked_at(self) -> "GymTrain":
        if self.horizons != sorted(set(self.horizons)):
            raise ValueError(f"horizons: must rise, got {shown(self.horizons)}")
        if any(steps % self.evaluate_every for steps in self.horizons):
            raise ValueError(f"horizons: must be multiples of evaluate_every ({self.evaluate_every})")
        return self


class GymSettings(Settings):
    """Everything that decides a job's result."""

    name: Name
    seed: Seed
    seeds: Annotated[int, Field(ge=1, le=1000)]
    env: GymEnv
    scheduler: GymAgent
    train: GymTrain
    baselines: Baselines


@dataclass(frozen=True)
class CartPoleJob:
    """A checked job."""

    spec: JobSpec[GymSettings]

    def about(self) -> JobRecord:
        """What job.json says while it runs."""
        settings = self.spec.settings
        return {
            **stamp(self.spec),
            "settings": settings.model_dump(),
            "seeds": list(range(settings.seeds)),
            "scenario_hash": _scenario_hash(settings),
            "learned": True,
            "experiment": settings.name,
            "baselines": settings.baselines,
        }

    def work(self, clock: Clock) -> None:
        """Train, from the last checkpoint if there is one, then write returns, curves, weights and the log."""
        _work(self.spec, clock)


def resolve(request: Request) -> JobSpec[GymSettings]:
    """Validate a request and name its job. Raises InputError naming keys."""
    _refuse_foreign(request)
    plain, saving = without_saving({key: value for key, value in request.data.items() if key not in UNUSED})
    checkpoint_s = validate(SavingSettings, saving, "train").checkpoint_s
    settings = validated(GymSettings, plain)
    check_plain(settings.model_dump(), request.overrides)
    check_label(request.label)
    _check_budget(settings)
    _learners(settings)
    identity = {
        "settings": without_claims(settings.model_dump(exclude={"name", "baselines"})),
        "label": request.label,
    }
    name = job_id(identity, {})
    return JobSpec(
        kind="cartpole",
        request=request,
        settings=settings,
        label=request.label,
        overrides=request.overrides,
        job_id=name,
        folder=request.runs_dir / settings.name / name,
        identity=identity,
        learns=True,
        checkpoint_s=checkpoint_s,
    )


def _refuse_foreign(request: Request) -> None:
    """InputError for commands, keys and schedulers of the world of edge servers."""
    if request.command == "eval":
        raise InputError(f"ddrl eval: {ID} is evaluated while it is trained: ddrl train, or ddrl sweep for many")
    for word in request.overrides:
        if key_value(word).top in UNUSED:
            raise InputError(f"{shown(word)}: has no meaning with env.kind gym")
    given = request.data.get("scheduler")
    if not isinstance(given, Mapping) or given.get("name") != GYM_AGENT:
        known = "one of the schedulers in cartpole/ (`ddrl list scheduler cartpole`)"
        raise InputError(f"scheduler: env.kind gym needs {known}, got {request.label}")


def check(spec: JobSpec[GymSettings]) -> None:
    """Nothing more can be wrong with a resolved job."""


def plan(spec: JobSpec[GymSettings]) -> Plan:
    """What is known of the job before it runs."""
    settings = spec.settings
    updates = settings.train.horizons[-1] * settings.scheduler.learning.updates
    found = state(spec)
    return Plan(
        job_id=spec.job_id,
        state="running" if found != "done" and is_locked(spec.folder) else found,
        label=spec.label,
        scenario=settings.env.name,
        load=None,
        estimate_s=updates * SECONDS_PER_UPDATE[str(settings.scheduler.agent["name"])],
    )


def run(spec: JobSpec[GymSettings]) -> Ending:
    """Do the job, unless it is done, from its last checkpoint on. Raises OSError, TrainingError."""
    torch.set_num_threads(1)
    return carry_out(CartPoleJob(spec))


def _check_budget(settings: GymSettings) -> None:
    """InputError, naming keys, for a training that cannot make one update, or whose results nobody could read."""
    learning, budget, n = settings.scheduler.learning, settings.train, settings.seeds
    check_steps(learning.start_steps, learning.batch, learning.memory, budget.horizons[-1])
    looks = n * math.ceil(budget.horizons[-1] / budget.evaluate_every)
    curve = MOST_METRICS * looks * MAX_REPORT_ROWS // MAX_ROWS  # a curve may have more rows than results
    check_n_rows({"train.horizons, seeds": len(budget.horizons) * n, "train.evaluate_every, seeds": curve})


def _learners(settings: GymSettings) -> Learners:
    numbers, n = agent_settings(settings.scheduler.agent), settings.seeds
    draws = [stream(settings.seed, "learner", seed) for seed in range(n)]
    try:
        return build_learners([numbers] * n, [settings.scheduler.learning] * n, draws)
    except ValueError as error:
        raise InputError(f"scheduler.{error}") from None


def _scenario_hash(settings: GymSettings) -> str:
    """Of all that results must share to be compared: the environment, its random streams, how it is looked at."""
    train_ = settings.train.model_dump(exclude={"name", "horizons"})
    return canonical_hash([settings.env.model_dump(), settings.seed, train_])[:16]


def _work(spec: JobSpec[GymSettings], clock: Clock) -> None:
    settings, folder = spec.settings, spec.folder
    budget = settings.train
    who = _learners(settings)
    starts = [stream(settings.seed, "cartpole", "env", seed) for seed in range(settings.seeds)]
    training = Training(who, starts, Budget(budget.horizons[-1], budget.evaluate_every, budget.evaluate_episodes))
    seen = Seen(budget.horizons)
    before = who.agent.weights()
    happened = resumed(spec, training, {"training": training, "seen": seen, "clock": clock})
    for point in _shown(happened, budget.horizons[-1] // budget.evaluate_every, spec.label):
        seen.add(point)
    if training.updates == 0:
        text = "the memory never held a batch: see scheduler.learning.batch, n_steps and train.horizons"
        raise TrainingError(f"nothing was learned: 0 updates, {text}")
    check_weights(who.agent.weights())
    check_changed(before, who.agent.weights(), settings.seeds)
    about = {"scheduler": spec.label, "scenario_hash": _scenario_hash(settings)}
    records.write_table(folder / "returns.parquet", pd.DataFrame(seen.returns).assign(**about), RETURNS_SCHEMA)
    records.write_table(folder / "curves.parquet", pd.DataFrame(seen.curve), CURVES_SCHEMA)
    records.write_bytes(folder / WEIGHTS, save_tensors(who.agent.weights()))
    records.write_bytes(folder / "run.log", ("\n".join(seen.log) + "\n").encode())


Row = dict[str, object]  # of a table, by column


class Seen:
    """What a training has shown so far: rows of returns.parquet and curves.parquet, lines of the log."""

    def __init__(self, horizons: list[int]) -> None:
        self._horizons = horizons
        self._began = time.monotonic()
        self._solved: list[float] | None = None
        self.returns: list[Row] = []
        self.curve: list[Row] = []
        self.log: list[str] = []

    def add(self, point: EvalPoint) -> None:
        """Take in a point of the learning curve."""
        self._solved = first_solved(point, self._solved)
        self.curve += _curve_rows(point, time.monotonic() - self._began)
        self.log.append(f"step {point.steps} greedy {point.greedy.mean():.1f} worst {point.greedy.min():.1f}")
        if point.steps in self._horizons:
            self.returns += return_rows(point, self._solved)

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        elapsed_s = time.monotonic() - self._began
        curve = {"returns": self.returns, "curve": self.curve, "log": self.log}
        return {"solved": self._solved, "elapsed_s": elapsed_s, **curve}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._solved, self.returns = state["solved"], state["returns"]
        self._began = time.monotonic() - state["elapsed_s"]
        self.curve, self.log = state["curve"], state["log"]


def first_solved(point: EvalPoint, before: list[float] | None) -> list[float]:
    """[K] steps at the first look where the greedy policy reached the threshold; NaN where it has not yet."""
    before = [math.nan] * len(point.greedy) if before is None else before
    return [
        float(point.steps) if math.isnan(steps) and greedy >= SOLVED else steps
        for steps, greedy in zip(before, point.greedy, strict=True)
    ]


def return_rows(point: EvalPoint, solved: list[float]) -> Iterator[Row]:
    """One row of returns.parquet per seed."""
    for seed, lengths in enumerate(point.lengths):
        yield {
            "seed": seed,
            "steps": point.steps,
            "episodes": len(lengths),
            "episode_mean": episode_mean(lengths),
            "step_mean": step_mean(lengths),
            "final_greedy": float(point.greedy[seed]),
            "steps_to_solve": solved[seed],
        }


def _curve_rows(point: EvalPoint, elapsed_s: float) -> Iterator[Row]:
    elapsed = np.full(len(point.greedy), elapsed_s)
    for metric, values in {"greedy_return": point.greedy, **point.metrics, ELAPSED_METRIC: elapsed}.items():
        for seed, value in enumerate(values):
            row = {"seed": seed, "tasks_seen": point.steps, "update": point.updates}
            yield {**row, "metric": metric, "value": float(value)}


def _shown(points: Iterator[EvalPoint], n: int, label: str) -> Iterator[EvalPoint]:
    """Pass every point on and show a bar on standard error, if that is a terminal."""
    disable = not sys.stderr.isatty()
    yield from track(points, label, n, console=Console(stderr=True), transient=True, disable=disable)
