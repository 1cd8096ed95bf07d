"""The one protocol that all schedulers follow, and what a scheduler says of itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from ddrl_sched.config import InputError, shown
from ddrl_sched.edge.session import CADENCES
from ddrl_sched.edge.types import Decision
from ddrl_sched.edge.view import View as View
from ddrl_sched.failures import blamed_on, class_name

# Class: all classes on whose knowledge its decisions may rest (announced and own do not contain each other).
MAY_USE = {
    "static": ("static",),
    "announced": ("static", "announced"),
    "own": ("static", "own"),
    "tracked": ("static", "announced", "own", "tracked"),
    "probed": ("static", "announced", "own", "tracked", "probed"),
    "running": ("static", "announced", "own", "tracked", "probed", "running"),
}
INFO_CLASSES = tuple(MAY_USE)


class Scheduler(Protocol):
    """One scheduler. `cadence` says how often it is asked.

    "trace": once per trace (its Decision is a rule that the world's kernel carries out task by task),
    "epoch": once per announcement interval, "arrival": for as many tasks together as come from different stations.

    A class may say more of itself, by attributes that have the values of `Traits` where they are missing: choose_info,
    rate_memory_s and draws.
    """

    @property
    def info(self) -> str:
        """Information class, one of INFO_CLASSES, shown in every table."""
        ...

    @property
    def cadence(self) -> str:
        """How often it is asked, one of CADENCES."""
        ...

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """Decision for view.tasks, arrays [R, M, ...]. `rng` is the scheduler's own named stream."""
        ...


@runtime_checkable
class Trained(Scheduler, Protocol):
    """A scheduler with weights that were learned: several training seeds, decided for side by side, seed-major."""

    n_seeds: int
    n_learners: int

    def start_evaluation(self, n_traces: int, generators: Sequence[np.random.Generator]) -> None:
        """No exploration from now on; random numbers come from `generators` [n_learners]."""
        ...

    def weights(self) -> dict[str, Any]:
        """Copies of the learned tensors by name."""
        ...

    def load_weights(self, weights: dict[str, Any]) -> None:
        """Take over weights; ValueError on other names or shapes."""
        ...


def is_trained(scheduler: Scheduler) -> TypeGuard[Trained]:
    """Whether it is a Trained. A class of the user's may answer itself when it is asked for its attributes."""
    with blamed_on(type(scheduler)):
        return isinstance(scheduler, Trained)


@dataclass(frozen=True)
class Traits:
    """What a scheduler says of itself, read once: a class of the user's may compute it."""

    name: str  # module:Class
    info: str
    cadence: str
    choose_info: str  # class by which View.wait_s is told; as `info` where it says nothing
    rate_memory_s: float | None = None  # time constant of View.own_rate; None: it is not told
    draws: bool = False  # random numbers, so that evaluations repeat it


def traits_of(scheduler: Scheduler) -> Traits:
    """What a scheduler says of itself.

    InputError for an information class or a cadence that does not exist, or a choice that rests on more than the class.
    """
    name = class_name(type(scheduler))
    with blamed_on(type(scheduler)):
        info, cadence = (getattr(scheduler, key, None) for key in ("info", "cadence"))
        choose_info: Any = getattr(scheduler, "choose_info", info)
        memory_s = getattr(scheduler, "rate_memory_s", None)
        draws = bool(getattr(scheduler, "draws", False))
        for key, value in (("info", info), ("cadence", cadence), ("choose_info", choose_info)):
            _check_word(key, value, CADENCES if key == "cadence" else INFO_CLASSES, name)
        number = isinstance(memory_s, int | float) and not isinstance(memory_s, bool)
        if memory_s is not None and not (number and 0.0 < memory_s < np.inf):
            raise InputError(f"scheduler.rate_memory_s: expected seconds > 0, got {shown(memory_s)} ({name})")
    traits = Traits(name, str(info), str(cadence), str(choose_info), memory_s, draws)
    check_use(traits, "choose_info", traits.choose_info)
    return traits


def _check_word(key: str, value: object, known: Sequence[str], name: str) -> None:
    if not isinstance(value, str) or value not in known:
        raise InputError(f"scheduler.{key}: expected one of {', '.join(known)}, got {shown(value)} ({name})")


def check_use(traits: Traits, key: str, used: str) -> None:
    """InputError if knowledge of the class `used` is above the scheduler's own; "level" knows what "own" knows."""
    needed = "own" if used == "level" else used
    if needed in INFO_CLASSES and needed not in MAY_USE[traits.info]:
        text = f"{traits.info} (scheduler.info) does not know what {needed} knows"
        raise InputError(f"scheduler.{key}: {text} ({traits.name})")
