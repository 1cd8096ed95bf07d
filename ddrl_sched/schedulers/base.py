"""The one protocol that all schedulers follow, and its attributes as they were read and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np

from ddrl_sched.config import InputError, shown
from ddrl_sched.edge.session import CADENCES
from ddrl_sched.edge.types import Decision
from ddrl_sched.edge.view import View as View
from ddrl_sched.failures import blamed_on, class_name

if TYPE_CHECKING:
    from torch import Tensor  # only learned schedulers need torch

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
    """One scheduler. A class may leave out choose_info, rate_memory_s and draws; then the default named there holds.

    Only `traits_of` reads these attributes: it checks them and fills the defaults in.
    """

    @property
    def info(self) -> str:
        """Information class, one of INFO_CLASSES, shown in every table."""
        ...

    @property
    def cadence(self) -> str:
        """How often it decides, one of CADENCES.

        "trace": once per trace (its Decision is a rule that the world's kernel carries out task by task), "epoch": once
        per announcement interval, "arrival": for as many tasks together as come from different stations.
        """
        ...

    @property
    def choose_info(self) -> str:
        """Information class in which View.wait_s is given, at most `info`. Default: `info`."""
        ...

    @property
    def rate_memory_s(self) -> float | None:
        """Time constant in seconds of View.own_rate; None: own_rate is not given. Default: None."""
        ...

    @property
    def draws(self) -> bool:
        """Whether `decide` draws random numbers, so that an evaluation repeats it. Default: False."""
        ...

    def decide(self, view: View, rng: np.random.Generator) -> Decision:
        """Decision for view.tasks, arrays [R, M, ...]. `rng` is the scheduler's own named stream."""
        ...


class Trained(Scheduler, Protocol):
    """A scheduler with weights that were learned: several training seeds, decided for side by side, seed-major."""

    n_seeds: int
    n_learners: int

    def start_evaluation(self, n_traces: int, generators: Sequence[np.random.Generator]) -> None:
        """No exploration from now on; random numbers come from `generators` [n_learners]."""
        ...

    def weights(self) -> "dict[str, Tensor]":
        """Copies of the learned tensors by name."""
        ...

    def load_weights(self, weights: "Mapping[str, Tensor]") -> None:
        """Take over weights; ValueError on other names or shapes."""
        ...


_OF_TRAINED = ("n_seeds", "n_learners", "start_evaluation", "weights", "load_weights")


def is_trained(scheduler: Scheduler) -> TypeGuard[Trained]:
    """Whether it is a Trained. Mistakes in the attributes of a user's class are blamed on the class."""
    with blamed_on(type(scheduler)):
        return all(hasattr(scheduler, name) for name in _OF_TRAINED)


@dataclass(frozen=True)
class Traits:
    """The attributes of a Scheduler, checked, as they were when they were read: a user's class may compute them."""

    name: str  # module:Class
    info: str
    cadence: str
    choose_info: str
    rate_memory_s: float | None
    draws: bool


def traits_of(scheduler: Scheduler) -> Traits:
    """The checked attributes of a scheduler; called once per job, for a user's class may answer anything.

    InputError for an information class or a cadence that does not exist, or a choice that rests on more than the class.
    """
    name = class_name(type(scheduler))
    with blamed_on(type(scheduler)):
        info = _word("info", getattr(scheduler, "info", None), INFO_CLASSES, name)
        cadence = _word("cadence", getattr(scheduler, "cadence", None), CADENCES, name)
        choose_info = _word("choose_info", getattr(scheduler, "choose_info", info), INFO_CLASSES, name)
        memory_s = _seconds("rate_memory_s", getattr(scheduler, "rate_memory_s", None), name)
        draws = getattr(scheduler, "draws", False)
    if not isinstance(draws, bool):
        raise InputError(f"scheduler.draws: expected True or False, got {shown(draws)} ({name})")
    traits = Traits(name, info, cadence, choose_info, memory_s, draws)
    check_use(traits, "choose_info", traits.choose_info)
    return traits


def _word(key: str, value: object, known: Sequence[str], name: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise InputError(f"scheduler.{key}: expected one of {', '.join(known)}, got {shown(value)} ({name})")
    return str(value)


def _seconds(key: str, value: object, name: str) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 < value < np.inf:
        raise InputError(f"scheduler.{key}: expected seconds > 0, got {shown(value)} ({name})")
    return value


def check_use(traits: Traits, key: str, used: str) -> None:
    """InputError if knowledge of the class `used` is above the scheduler's own; "like_own" knows what "own" knows."""
    needed = "own" if used == "like_own" else used
    if needed in INFO_CLASSES and needed not in MAY_USE[traits.info]:
        text = f"{traits.info} (scheduler.info) does not know what {needed} knows"
        raise InputError(f"scheduler.{key}: {text} ({traits.name})")
