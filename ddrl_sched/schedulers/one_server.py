"""Schedulers that send the whole task to one server by its backlog: least finish or wait, weighted round robin."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Bools, Decision
from ddrl_sched.schedulers.actions import table
from ddrl_sched.schedulers.base import View


@dataclass(frozen=True)
class LeastOf:
    """The server with the least estimated finish (SED; with running information EFT = Opt-TS) or the least wait (JSQ).

    With info "probed" every server is probed before the choice.
    """

    objective: Literal["finish", "wait"]
    info: Literal["static", "announced", "own", "tracked", "probed", "running"]
    cadence: ClassVar[str] = "trace"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The best of the E single servers."""
        sets = table("single", view.scenario.home, view.scenario.n_stations)
        everyone = np.ones((*view.tasks.shape, view.scenario.n_servers), dtype=bool)
        probe = everyone if self.info == "probed" else None
        return Decision("best", self.info, candidates=sets, objective=self.objective, probe=probe)


@dataclass(frozen=True)
class LeastOfSample:
    """The power of d choices: probe `sample` servers drawn at random, then take the least finish or wait among them."""

    objective: Literal["finish", "wait"]
    sample: Annotated[int, Field(ge=1)]
    info: ClassVar[str] = "probed"
    cadence: ClassVar[str] = "trace"
    draws: ClassVar[bool] = True  # random numbers: evaluations repeat it

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The best single server of the drawn ones. Raises InputError if `sample` is above the number of servers."""
        n_servers = view.scenario.n_servers
        if self.sample > n_servers:
            raise InputError(f"scheduler.sample: at most {n_servers} (the number of servers), got {self.sample}")
        drawn = _draw_sets(view.tasks.shape, n_servers, self.sample, rng)
        return Decision(
            "best",
            self.info,
            select=drawn,
            candidates=table("single", view.scenario.home, view.scenario.n_stations),
            objective=self.objective,
            probe=drawn,
        )


def _draw_sets(shape: tuple[int, int], n_servers: int, size: int, rng: np.random.Generator) -> Bools:
    """Uniform sets of `size` servers, bool [R, M, E]: those with the smallest of E uniform numbers."""
    uniform = rng.random((*shape, n_servers))
    return uniform <= np.partition(uniform, size - 1, axis=-1)[..., size - 1 : size]


@dataclass(frozen=True)
class WeightedRoundRobin:
    """The server with the least work placed by the own station, relative to a weight.

    "own": the weight is the speed, and all work ever placed counts. "quota": the weight is the free capacity of the
    last announcement, and work placed since then counts.
    """

    weight: Literal["own", "quota"]
    cadence: ClassVar[str] = "trace"

    @property
    def info(self) -> str:
        """Quotas rest on announcements and on the work placed since then."""
        return "own" if self.weight == "own" else "tracked"

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """The kernel's weighted round robin."""
        return Decision("wrr", self.info, weight=self.weight)
