"""The one face of the two physics: what computes delays in a scenario."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from ddrl_sched.edge import physics, published
from ddrl_sched.edge.types import Bools, Decision, Floats, Ints, Outcome, Scenario, Tasks

S = TypeVar("S")


class World(Protocol[S]):
    """A physics with states S. The modules edge.physics and edge.published are worlds; there each is described."""

    def initial_state(self, scenario: Scenario, n_replicas: int) -> S:
        """Nothing was placed yet."""
        ...

    def state_of(self, arrays: Mapping[str, object]) -> S:
        """The state with these arrays by the names of its fields."""
        ...

    def settled(self, state: S, outcome: Outcome) -> Bools:
        """[R, N] tasks whose delay is final."""
        ...

    def translated(self, decision: Decision) -> Decision:
        """The decision in the terms of this physics."""
        ...

    def check_decision(self, scenario: Scenario, decision: Decision, tasks: Tasks) -> None:
        """ValueError for a decision about these tasks [R, M] that cannot be carried out."""
        ...

    def place(
        self, scenario: Scenario, state: S, tasks: Tasks, decision: Decision, *, lo: Ints, hi: Ints, outcome: Outcome
    ) -> S:
        """Decide and place tasks lo[r]..hi[r]-1 of every replica r, in order."""
        ...

    def advance(self, scenario: Scenario, state: S, tasks: Tasks, until_s: Floats, outcome: Outcome) -> S:
        """Let time pass to until_s[R]."""
        ...

    def finish(self, scenario: Scenario, state: S, tasks: Tasks, outcome: Outcome) -> S:
        """Let everything end that is still on its way."""
        ...

    def estimates(self, scenario: Scenario, state: S, tasks: Tasks, *, lo: Ints, hi: Ints, info: str) -> Floats:
        """Waits [R, M, E] in seconds that stations of class `info` expect at each task's arrival."""
        ...


def world_of(scenario: Scenario) -> World[Any]:
    """What computes delays in this scenario: edge.physics, or edge.published where a published rule does."""
    return published if scenario.published else physics
