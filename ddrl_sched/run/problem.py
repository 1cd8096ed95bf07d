"""One scheduling problem: environment and workload settings become a scenario and named, repeatable traces."""

from dataclasses import dataclass, replace

import numpy as np

from ddrl_sched.config import InputError, clean
from ddrl_sched.edge.arrivals import Plan, slot_tasks
from ddrl_sched.edge.env_settings import EnvSettings
from ddrl_sched.edge.session import Traces
from ddrl_sched.edge.types import Ints, Scenario
from ddrl_sched.edge.workload import Replica, TraceFacts, build_world, sample
from ddrl_sched.edge.workload_settings import TraceArrivals, WorkloadSettings
from ddrl_sched.run.inputs import NETWORK_FILE, TRACE_FILE, Inputs, read_inputs, scenario_hash, value_at
from ddrl_sched.seeding import stream


@dataclass(frozen=True)
class Problem:
    """A world and its task streams. Evaluation streams hang on `eval_seed`, training streams on the training seed."""

    env: EnvSettings
    workload: WorkloadSettings
    scenario: Scenario
    plan: Plan
    eval_seed: int

    @property
    def nested(self) -> bool:
        """Published worlds: densities are drawn once per draw, seed i trains on draw i and is evaluated on it."""
        return self.scenario.published

    @property
    def scenario_hash(self) -> str:
        """Hash of what decides the tasks and their delays: environment, workload, load, rule, content of files."""
        settings = {"env": self.env.model_dump(), "workload": self.workload.model_dump()}
        return scenario_hash({**settings, "evaluate": {"seed": self.eval_seed}}, self.inputs)

    @property
    def inputs(self) -> Inputs:
        """Hashes of the files that tasks and network come from, as they were when they were read."""
        trace = self.plan.trace.sha256 if self.plan.trace is not None else ""
        found = {TRACE_FILE: trace, NETWORK_FILE: self.scenario.network_sha256}
        return {key: sha256 for key, sha256 in found.items() if sha256}

    def at_load(self, load: float) -> "Problem":
        """The same world and streams at another load. Raises InputError where the workload cannot reach it."""
        workload = self.workload.model_copy(update={"load": load})
        return build_problem(self.env, workload, self.eval_seed, self.inputs)

    def training_s(self, slots: int, min_tasks: int) -> float:
        """Length in seconds of a training trace of `slots` slots, or longer until min_tasks are expected."""
        horizon_s = max(slots * self.scenario.slot_s, min_tasks / self.plan.demand.tasks_per_s)
        if isinstance(self.workload.arrivals, TraceArrivals) and self.plan.trace is not None:
            part = self.workload.arrivals.train_fraction * self.plan.trace.span_s * self.plan.time_scale
            horizon_s = min(horizon_s, part)
        return horizon_s

    def training(self, seed: int, seeds: range, episode: int, slots: int, min_tasks: int) -> tuple[Traces, TraceFacts]:
        """Fresh traces, one per training seed, as long as `training_s` says."""
        scenario = replace(self.scenario, horizon_s=self.training_s(slots, min_tasks), warm_up_s=0.0)
        names = ("train", self.env.name, self.workload.name)
        replicas = [
            Replica(
                lambda name, i=i: stream(seed, *names, i, episode, name),  # type: ignore[misc]
                lambda name, i=i: self._draw(i, name),  # type: ignore[misc]
            )
            for i in seeds
        ]
        return self._traces(scenario, replicas)

    def evaluation(self, traces: range, n_draws: int) -> tuple[Traces, TraceFacts, Ints, Ints]:
        """Held-out traces, the same for every scheduler: (traces, facts, number of each trace, its cluster).

        Clean worlds: one replica per trace. Published worlds: draw-major, n_draws x traces.
        """
        draws = range(n_draws) if self.nested else range(1)
        trace_file = isinstance(self.workload.arrivals, TraceArrivals)
        names = ("eval", self.env.name, self.workload.name)
        numbers = [(i, t) for i in draws for t in traces]
        replicas = [
            Replica(
                lambda name, i=i, t=t: stream(self.eval_seed, *names, i, t, name),  # type: ignore[misc]
                lambda name, i=i: self._draw(i, name),  # type: ignore[misc]
                t if trace_file else None,
            )
            for i, t in numbers
        ]
        made, facts = self._traces(self.scenario, replicas)
        number = np.array([i * 1_000_000 + t if self.nested else t for i, t in numbers])
        cluster = np.array([i if self.nested else t for i, t in numbers])
        return made, facts, number, cluster

    def check_traces(self, n_traces: int) -> None:
        """InputError if the trace file has fewer evaluation windows than traces are wanted."""
        arrivals = self.workload.arrivals
        if isinstance(arrivals, TraceArrivals) and n_traces > arrivals.windows:
            raise InputError(f"evaluate.traces: {n_traces} wanted, workload.arrivals.windows are {arrivals.windows}")

    def _draw(self, draw: int, name: str) -> np.random.Generator:
        return stream(self.eval_seed, "draw", self.env.name, draw, name)

    def _traces(self, scenario: Scenario, replicas: list[Replica]) -> tuple[Traces, TraceFacts]:
        tasks, facts = sample(scenario, self.env, self.workload, self.plan, replicas)
        drawn = self.workload.order == "drawn"
        return Traces(
            scenario, tasks, self.plan.demand.mean_work_gcycle, slot_tasks(self.workload, self.plan), drawn
        ), facts


def build_problem(
    env: EnvSettings, workload: WorkloadSettings, eval_seed: int, inputs: Inputs | None = None
) -> Problem:
    """The problem of two validated groups of settings. Raises InputError where they do not fit.

    `inputs`: what the job knows of its input files; a file that has another content by now is an InputError.
    """
    try:
        scenario, plan = build_world(env, workload, stream)
    except InputError:
        if inputs is not None:  # where a file has changed, that is the cause
            _check_unchanged(env, workload, inputs, read_inputs(env, workload))
        raise
    problem = Problem(env, workload, scenario, plan, eval_seed)
    if inputs is not None:
        _check_unchanged(env, workload, inputs, problem.inputs)
    return problem


def _check_unchanged(env: EnvSettings, workload: WorkloadSettings, before: Inputs, now: Inputs) -> None:
    settings = {"env": env.model_dump(), "workload": workload.model_dump()}
    for key, sha256 in now.items():
        if sha256 != before.get(key):
            file = clean(value_at(settings, key))
            raise InputError(f"{key}: {file}: changed while the job used it; give the command again")
