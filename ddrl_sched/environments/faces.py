"""What an agent sees and what its actions mean: those of our learners, as spaces of Gymnasium.

A face belongs to one world; it observes windows and turns actions into a Decision. Axes as in edge/types.py; O numbers
observed of a task.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from gymnasium import spaces

from ddrl_sched.config import InputError
from ddrl_sched.edge.types import Decision, Floats, Ints, Scenario
from ddrl_sched.edge.view import View
from ddrl_sched.schedulers.actions import TABLES, table
from ddrl_sched.schedulers.learned_settings import LearnedSettings
from ddrl_sched.schedulers.observation import N_SEEN, n_observed, observe_servers, observe_tasks
from ddrl_sched.schedulers.price_decision import check_world, price_decision, sets_of
from ddrl_sched.schedulers.price_settings import PriceSettings
from ddrl_sched.schedulers.set_decision import set_decision

LARGEST = 100.0  # no observed number is as large: logarithms of what a world can hold


class Sight(NamedTuple):
    """What a learner of some settings knows: as the attributes of a Scheduler."""

    info: str
    cadence: str  # tasks of one window are seen as of its start
    choose_info: str  # class by which waits are seen
    rate_memory_s: float | None


def sight_of(settings: LearnedSettings | PriceSettings) -> Sight:
    """What our learner of these settings knows."""
    if isinstance(settings, LearnedSettings):
        return Sight(settings.info, "epoch" if settings.choose == "announced" else "arrival", settings.choose, None)
    waits = "tracked" if settings.info == "probed" else settings.info
    return Sight(settings.info, "epoch", waits, settings.rate_memory_s)


class Face(Protocol):
    """What an agent sees and answers."""

    observation_space: spaces.Box
    action_space: spaces.Space

    def observe(self, view: View) -> np.ndarray:
        """[R, M, O] what is seen of each task of a window."""
        ...

    def decision(self, origin: Ints, actions: np.ndarray, view: Callable[[], View]) -> Decision:
        """The Decision of actions [R, M, ...] about tasks from stations origin [R, M]; `view` gives their View."""
        ...


def face_of(settings: LearnedSettings | PriceSettings, scenario: Scenario) -> Face:
    """The face of a learner's settings. Raises InputError where they do not fit the world."""
    return Sets(settings, scenario) if isinstance(settings, LearnedSettings) else Prices(settings, scenario)


class Sets:
    """An action is a set of servers: its number in the action table, or one yes or no for each server ("gates")."""

    def __init__(self, settings: LearnedSettings, scenario: Scenario) -> None:
        name = settings.actions.name
        self._settings, self._scenario, self._table = settings, scenario, None
        self.observation_space = _box(n_observed(scenario, settings))
        if name == "gates":
            self.action_space: spaces.Space = spaces.MultiBinary(scenario.n_servers)
            return
        if name not in TABLES:
            raise InputError(f"actions: expected one of {', '.join(TABLES)}, gates, continuous, got {name!r}")
        try:
            self._table = table(name, scenario.home, scenario.n_stations, settings.actions.k)
        except ValueError as error:
            raise InputError(str(error)) from None
        self.action_space = spaces.Discrete(self._table.shape[1])

    def observe(self, view: View) -> np.ndarray:
        """As schedulers/observation.py says: numbers of the task, then of each server."""
        return observe_tasks(view, self._settings)

    def decision(self, origin: Ints, actions: np.ndarray, view: Callable[[], View]) -> Decision:
        """The chosen sets; where no gate is open the station's own server, else the first one."""
        if self._table is not None:
            return set_decision(self._settings, self._scenario, self._table[origin, actions])
        select = actions.astype(np.bool_)
        none = ~select.any(-1)
        select[none, np.maximum(self._scenario.own_server, 0)[origin[none]]] = True
        return set_decision(self._settings, self._scenario, select)


class Prices:
    """An action is what a price policy answers: numbers in [-1, 1], of each server one per name of settings.learn.

    They are multiplied by settings.actor.bound. All zero is the rule that a price policy starts from.
    """

    def __init__(self, settings: PriceSettings, scenario: Scenario) -> None:
        check_world(settings, scenario)
        self._settings, self._n_servers = settings, scenario.n_servers
        self._sets = sets_of(settings, scenario)
        self.observation_space = _box(scenario.n_servers * N_SEEN)
        n_outputs = scenario.n_servers * len(settings.learn)
        self.action_space = spaces.Box(-1.0, 1.0, (n_outputs,), np.float32)

    def observe(self, view: View) -> np.ndarray:
        """The N_SEEN numbers of each server, one server after the other."""
        seen, _ = observe_servers(view, self._settings)
        return seen.reshape(*seen.shape[:2], -1)

    def decision(self, origin: Ints, actions: np.ndarray, view: Callable[[], View]) -> Decision:
        """Prices, probes and factors, which the kernel's choice and split obey."""
        bound = self._settings.actor.bound
        shape = (*origin.shape, self._n_servers, len(self._settings.learn))
        answer: Floats = np.clip(actions.astype(np.float64), -1.0, 1.0).reshape(shape) * bound
        now = view()
        assert now.wait_s is not None
        return price_decision(now, self._settings, answer, [now.wait_s], sets=self._sets)


def _box(n: int) -> spaces.Box:
    return spaces.Box(-LARGEST, LARGEST, (n,), np.float32)
