"""One scheduling problem: environment and workload settings become a scenario and named, repeatable traces."""

from dataclasses import dataclass, replace

import numpy as np

from ddrl_sched.config import EnvSettings, InputError, TraceArrivals, WorkloadSettings
from ddrl_sched.edge.arrivals import Plan, slot_tasks
from ddrl_sched.edge.types import Ints, Scenario
from ddrl_sched.edge.workload import Replica, TraceFacts, build_world, sample
from ddrl_sched.run.identity import content_sha256
from ddrl_sched.run.records import canonical_hash
from ddrl_sched.run.rollout import Traces
from ddrl_sched.run.seeding import stream


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
        return self.scenario.rule != "clean"

    @property
    def scenario_hash(self) -> str:
        """Hash of what decides the tasks and their delays: environment, workload, load, rule, trace content."""
        parts = [self.env.model_dump(), self.workload.model_dump(), self.eval_seed]
        return canonical_hash([*parts, self.content_sha256])[:16]

    @property
    def content_sha256(self) -> str:
        """Hash of the files that tasks and network come from: a trace, a graph."""
        return content_sha256(self.env, self.workload)

    def training_s(self, slots: int, min_tasks: int) -> float:
        """Length of a training episode, s: `slots` or as many as min_tasks are expected in, within a file's part."""
        length_s = max(slots * self.scenario.slot_s, min_tasks / self.plan.demand.tasks_per_s)
        if isinstance(self.workload.arrivals, TraceArrivals) and self.plan.trace is not None:
            part = self.workload.arrivals.train_fraction * self.plan.trace.span_s * self.plan.time_scale
            length_s = min(length_s, part)
        return length_s

    def training(self, seed: int, seeds: range, episode: int, slots: int, min_tasks: int) -> tuple[Traces, TraceFacts]:
        """Fresh traces, one per training seed, of `slots` slots or longer until min_tasks are expected."""
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


def build_problem(env: EnvSettings, workload: WorkloadSettings, eval_seed: int) -> Problem:
    """The problem of two validated groups of settings. Raises InputError where they do not fit."""
    scenario, plan = build_world(env, workload, stream)
    return Problem(env, workload, scenario, plan, eval_seed)
