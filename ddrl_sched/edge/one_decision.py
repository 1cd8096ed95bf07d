"""One decision alone, outside of a simulation: the servers and shares of one task, by the code that simulates them.

A live gateway measures waits and asks `resolve` what a Decision means for them. `quote` gives what a simulation knows
at the same moment, so that both can be compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ddrl_sched.edge import physics, split
from ddrl_sched.edge.physics_resolve import INFOS, dispatch_s, fill_quote, quote_of, scratch, select_servers, split_work
from ddrl_sched.edge.physics_state import State
from ddrl_sched.edge.session import window_of
from ddrl_sched.edge.split import Quote
from ddrl_sched.edge.types import Bools, Decision, Floats, Scenario, Tasks

_ENUMERATED = 12  # servers of which all sets are compared


@dataclass(frozen=True)
class TaskQuote:
    """One task, and what its station knows of every server at the moment of the decision."""

    scenario: Scenario
    task: Tasks  # R = N = 1
    quote: Quote  # [E] in seconds after the arrival
    own_gcycle: Floats  # [E] placed by the station since the start (weighted round robin, own_work_price)
    since_gcycle: Floats  # [E] placed by it since the last announcement (weights "quota")
    announced_s: Floats  # [E] backlogs as they were announced last (weights "quota")


def quote(
    scenario: Scenario,
    task: Tasks,
    wait_s: ArrayLike,
    *,
    port_s: ArrayLike = 0.0,
    own_gcycle: ArrayLike = 0.0,
    since_gcycle: ArrayLike = 0.0,
    announced_s: ArrayLike = 0.0,
) -> TaskQuote:
    """The quote of a task (R = N = 1) whose waits were measured.

    wait_s: [E] seconds until each server has finished what it was promised; port_s: seconds until the station may send
    ([E], or one number), the time that probing takes included. The rest is the station's own account, see TaskQuote.
    Speeds and links are those of the scenario. Raises ValueError for another number of tasks or servers.
    """
    if task.shape != (1, 1):
        raise ValueError(f"task: one task expected, got {task.shape[0]} x {task.shape[1]}")
    world, none = physics.numbers_of(scenario), np.zeros(scenario.n_servers, np.bool_)
    filled = quote_of(int(task.origin[0, 0]), world, scratch(scenario.n_servers))
    at_once = physics.initial_state(scenario, 1)
    fill_quote(0, 0, 0.0, INFOS["static"], 1.0, 0.0, none, world, at_once, task, filled)
    filled.free_s[:] = _per_server("wait_s", wait_s, scenario)
    filled.port_s[:] = _per_server("port_s", port_s, scenario)
    account = {"own_gcycle": own_gcycle, "since_gcycle": since_gcycle, "announced_s": announced_s}
    return TaskQuote(scenario, task, filled, **{key: _per_server(key, each, scenario) for key, each in account.items()})


def simulated_quote(
    scenario: Scenario,
    state: State,
    tasks: Tasks,
    place: tuple[int, int],
    *,
    info: str,
    probed: Bools | None = None,
    unseen_work_factor: float = 1.0,
    min_wait_ratio: float = 0.0,
) -> TaskQuote:
    """The quote of the task at `place` (replica, number), as a station of class `info` has it; `state` at its arrival.

    probed: [E] servers that were probed: their waits are exact with info "probed", and dispatch waits for the answers.
    unseen_work_factor, min_wait_ratio: as the fields of Decision, for this task.
    """
    (r, i), world = place, physics.numbers_of(scenario)
    exact = np.zeros(scenario.n_servers, np.bool_) if probed is None else np.asarray(probed, np.bool_)
    b = int(tasks.origin[r, i])
    filled = quote_of(b, world, scratch(scenario.n_servers))
    dispatch, _ = dispatch_s(b, exact, world)
    fill_quote(r, i, dispatch, INFOS[info], unseen_work_factor, min_wait_ratio, exact, world, state, tasks, filled)
    task = window_of(tasks.replicas(slice(r, r + 1)), np.array([i]), np.array([i + 1]))
    own, since = state.own_gcycle[r, b].copy(), state.since_gcycle[r, b].copy()
    return TaskQuote(scenario, task, filled, own, since, state.announced_s[r].copy())


def resolve(known: TaskQuote, decision: Decision, after_probing: Callable[[Bools], TaskQuote] | None = None) -> Floats:
    """[E] shares of the task by a decision about it alone (its arrays are [1, 1, ...]); they sum to one.

    Servers are chosen by `known`. Where the shares rest on more (decision.probe_selected, split_info),
    `after_probing` answers the quote for the chosen servers [E]; None: `known` is all there is. The decision's `info`,
    `unseen_work_factor` and `min_wait_ratio` are about waits of a simulation: measured waits stay as they are.

    Raises ValueError naming the field for a decision that cannot be carried out.
    """
    scenario, task = known.scenario, known.task
    codes = physics.checked_codes(scenario, decision, task, np.zeros(1, np.int64), np.ones(1, np.int64))
    world, room = physics.numbers_of(scenario), scratch(scenario.n_servers)
    priced, use_price_s = select_servers(0, 0, 0, known.quote, codes, world, _state(known), task, room)
    if after_probing is not None:
        known = after_probing(room.selected.copy())
    split_work(0, 0, 0, known.quote, codes, task, priced, use_price_s, room)
    used: Floats = np.maximum(room.share, 0.0)
    return used / used.sum()


class BestSet(NamedTuple):
    """The servers and shares by which a task is quoted the earliest end."""

    share: Floats  # [E]
    finish_s: float  # after the arrival
    exact: bool  # no other set ends earlier; else only some sets were compared


def best_set(quote: Quote, units: int = 0) -> BestSet:
    """The equal finish of least make-span over all sets of servers, as quoted; `units` > 0: in whole units.

    With a link per server, the equal finish over all servers leaves out those that do not help. On a shared port a
    share delays those that are sent after it: there all sets of up to 12 servers are compared, of more servers the
    first 1, 2, ... by their single finish.
    """
    n = len(quote.free_s)
    every = quote.shared and n <= _ENUMERATED
    best, best_s, share = np.zeros(n), np.inf, np.zeros(n)
    for mask in _sets(quote, every=every):
        finish_s = split.equal_finish(quote, mask, share)
        if units > 0:
            finish_s = split.round_to_units(quote, units, mask, share)
        if finish_s < best_s - 1e-12:
            best, best_s = share.copy(), finish_s
    return BestSet(best, best_s, exact=every or not quote.shared)


def _sets(quote: Quote, *, every: bool) -> Iterator[Bools]:
    n = len(quote.free_s)
    if every:
        for code in range(1, 1 << n):
            yield (code >> np.arange(n)) & 1 == 1
        return
    by_end = np.argsort([split.single_finish(quote, s) for s in range(n)], kind="stable")
    for count in range(1, n + 1):
        yield np.isin(np.arange(n), by_end[:count])


def _state(known: TaskQuote) -> State:
    """A state in which the station's account stands, and nothing else."""
    state, b = physics.initial_state(known.scenario, 1), known.task.origin[0, 0]
    state.own_gcycle[0, b], state.since_gcycle[0, b] = known.own_gcycle, known.since_gcycle
    state.announced_s[0] = known.announced_s
    return state


def _per_server(key: str, values: ArrayLike, scenario: Scenario) -> Floats:
    """[E] of numbers per server, or of one for all. ValueError naming the key."""
    array = np.asarray(values, np.float64)
    if array.shape not in ((), (scenario.n_servers,)) or not np.isfinite(array).all():
        raise ValueError(f"{key}: {scenario.n_servers} finite numbers expected, one for each server")
    return np.broadcast_to(array, (scenario.n_servers,)).copy()
