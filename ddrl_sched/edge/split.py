"""Shares of one task over a set of servers, from what is quoted for it; times count from the task's arrival.

A share x of a task on server s ends at  max(free_s, its arrival) + fixed_s + x unit_s,  where it arrives
  local:   at port_s (the moment of dispatch)
  remote:  after port_s + (sending of the shares before it on the same port) + x send_s + latency_s.
`unit_s` holds computing and return per whole task, `fixed_s` the overhead of a used share and the latency of the
return. The additive splits of the published code (additive.py) see wait + x cost instead of this.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from ddrl_sched.edge import additive
from ddrl_sched.edge.types import Bools, Floats, Ints

WHOLE, PROPORTIONAL, CWA, HECWA, WATER_FILLING, EQUAL_FINISH, GIVEN = range(7)
SPLITS = {
    "whole": WHOLE,
    "proportional": PROPORTIONAL,
    "cwa": CWA,
    "hecwa": HECWA,
    "water_filling": WATER_FILLING,
    "equal_finish": EQUAL_FINISH,
    "given": GIVEN,
}
SMALLEST_SHARE = 1e-9  # smaller shares are rounding noise; they would pay the overhead of a used share
_MAX_STEPS = 200
_ENUMERATE = 6  # with prices and a shared port, all subsets are compared up to this many servers


class Quote(NamedTuple):
    """What one task is told by every server, in seconds after its arrival."""

    free_s: Floats  # [E] when the server has finished what it was promised
    port_s: Floats  # [E] when sending (local: service) may begin
    send_s: Floats  # [E] sending of the whole task, 0 where local
    latency_s: Floats  # [E] one way
    unit_s: Floats  # [E] computing and return of the whole task
    fixed_s: Floats  # [E] overhead of a used share + latency of the return
    order: Ints  # [E] sending order: fastest link first, ties by index
    speed_gcps: Floats  # [E]
    shared: bool  # one port for all links
    local: int


@njit(cache=True, error_model="numpy")
def _sum_of_shares(q: Quote, mask: Bools, finish_s: float, x: Floats) -> tuple[float, float]:
    """Fill x[E] with what every server of the set can finish by finish_s; return (sum, slope of the sum)."""
    total, slope = 0.0, 0.0
    used_s, used_slope = 0.0, 0.0  # sending time of the shares before on the shared port
    for i in range(len(mask)):
        s = q.order[i]
        x[s] = 0.0
        if not mask[s]:
            continue
        left = finish_s - q.fixed_s[s]
        if s == q.local:
            share = (left - max(q.free_s[s], q.port_s[s])) / q.unit_s[s]
            grow = 1.0 / q.unit_s[s]
        else:
            share = (left - q.free_s[s]) / q.unit_s[s]
            grow = 1.0 / q.unit_s[s]
            per = q.send_s[s] + q.unit_s[s]
            sent = (left - q.port_s[s] - used_s - q.latency_s[s]) / per
            if sent < share:
                share, grow = sent, (1.0 - used_slope) / per
        if share <= 0.0:
            continue
        x[s] = share
        total += share
        slope += grow
        if q.shared and s != q.local:
            used_s += share * q.send_s[s]
            used_slope += grow * q.send_s[s]
    return total, slope


@njit(cache=True, error_model="numpy")
def single_finish(q: Quote, s: int) -> float:
    """Finish of the whole task on server s."""
    if s == q.local:
        start = max(q.free_s[s], q.port_s[s])
    else:
        start = max(q.free_s[s], q.port_s[s] + q.send_s[s] + q.latency_s[s])
    return start + q.fixed_s[s] + q.unit_s[s]


@njit(cache=True, error_model="numpy")
def equal_finish(q: Quote, mask: Bools, x: Floats) -> float:
    """Fill x[E] with the shares of least make-span over the set, for the sending order of the quote; return it.

    The sum of what the servers can finish by T grows with T and is piecewise linear: a Newton walk inside a
    bracket ends exactly on its piece.
    """
    low, high = np.inf, np.inf
    for s in range(len(mask)):
        if mask[s]:
            low = min(low, q.fixed_s[s] + max(q.free_s[s], q.port_s[s]))
            high = min(high, single_finish(q, s))
    finish_s = high
    for _ in range(_MAX_STEPS):
        total, slope = _sum_of_shares(q, mask, finish_s, x)
        if abs(total - 1.0) <= 1e-14:
            break
        if total > 1.0:
            high = finish_s
        else:
            low = finish_s
        guess = finish_s - (total - 1.0) / slope if slope > 0.0 else -1.0
        if not low < guess < high:
            guess = 0.5 * (low + high)
            if not low < guess < high:  # the bracket is one float wide
                break
        finish_s = guess
    total = 0.0
    for s in range(len(mask)):
        if x[s] < SMALLEST_SHARE:
            x[s] = 0.0
        total += x[s]
    for s in range(len(mask)):
        x[s] /= total
    return finish_s


@njit(cache=True, error_model="numpy")
def finish_of(q: Quote, x: Floats) -> float:
    """Make-span of the shares x[E] as quoted."""
    finish_s, used_s = 0.0, 0.0
    for i in range(len(x)):
        s = q.order[i]
        if x[s] <= 0.0:
            continue
        if s == q.local:
            start = max(q.free_s[s], q.port_s[s])
        else:
            before = used_s if q.shared else 0.0
            start = max(q.free_s[s], q.port_s[s] + before + x[s] * q.send_s[s] + q.latency_s[s])
            used_s += x[s] * q.send_s[s]
        finish_s = max(finish_s, start + q.fixed_s[s] + x[s] * q.unit_s[s])
    return finish_s


@njit(cache=True, error_model="numpy")
def objective_of(x: Floats, finish_s: float, price_s: Floats, use_price_s: float) -> float:
    """finish_s + sum of price_s x + use_price_s for every used share."""
    value = finish_s
    for s in range(len(x)):
        if x[s] > 0.0:
            value += price_s[s] * x[s] + use_price_s
    return value


@njit(cache=True, error_model="numpy")
def _bend_of(q: Quote, s: int) -> float:
    """Finish time from which the own link, not the queue, limits the share of remote server s; inf if none."""
    sent_s = q.port_s[s] + q.latency_s[s]
    if s == q.local or q.send_s[s] <= 0.0 or q.free_s[s] <= sent_s:
        return np.inf
    return q.fixed_s[s] + q.free_s[s] + (q.free_s[s] - sent_s) * q.unit_s[s] / q.send_s[s]


@njit(cache=True, error_model="numpy")
def _fill_cheapest(q: Quote, mask: Bools, by_price: Ints, finish_s: float, x: Floats) -> bool:
    """Fill x[E] with what the cheapest servers of the set finish by finish_s; False if that is not the whole task."""
    total, _ = _sum_of_shares(q, mask, finish_s, x)
    if total < 1.0:
        return False
    left = 1.0
    for s in by_price:
        x[s] = min(x[s], left) if mask[s] else 0.0
        if x[s] < SMALLEST_SHARE:
            x[s] = 0.0
        left -= x[s]
    x /= 1.0 - left
    return True


@njit(cache=True, error_model="numpy")
def priced_equal_finish(q: Quote, mask: Bools, price_s: Floats, use_price_s: float, x: Floats) -> float:
    """Fill x[E] with the shares of least  T + sum price_s x + use_price_s (used shares); return the make-span T.

    For a given T the cheapest servers are filled first, so with a link per pair the objective is piecewise linear in T.
    It bends upwards only where the last server in use is just full (the equal finish of a prefix of the servers sorted
    by price) and where a share is limited by its link from then on: all these T are compared. A use price adds all
    subsets of up to 6 servers (prefixes beyond): exact. With a shared port the best equal finish over these sets is
    taken; it may miss the optimum where a link begins to bind.
    """
    n = len(mask)
    trial = np.zeros(n)
    subset = np.zeros(n, np.bool_)
    members = np.zeros(n, np.int64)
    count = 0
    for s in np.argsort(price_s):
        if mask[s]:
            members[count] = s
            count += 1
    every = (q.shared or use_price_s > 0.0) and count <= _ENUMERATE
    best, best_finish = np.inf, np.inf
    for code in range(1, (1 << count) if every else count + 1):
        for i in range(count):
            subset[members[i]] = (code >> i) & 1 if every else i < code
        finish_s = equal_finish(q, subset, trial)
        value = objective_of(trial, finish_s, price_s, use_price_s)
        if value < best - 1e-15:
            best, best_finish = value, finish_s
            x[:] = trial
        if q.shared or not (every or code == count):
            continue
        for i in range(count):
            bend_s = _bend_of(q, members[i])
            if bend_s + price_s[members[0]] >= best or not subset[members[i]]:
                continue
            if _fill_cheapest(q, subset, members[:count], bend_s, trial):
                finish_s = finish_of(q, trial)
                value = objective_of(trial, finish_s, price_s, use_price_s)
                if value < best - 1e-15:
                    best, best_finish = value, finish_s
                    x[:] = trial
    return best_finish


@njit(cache=True, error_model="numpy")
def split_task(q: Quote, rule: int, mask: Bools, priced: bool, price_s: Floats, use_price_s: float, x: Floats) -> float:
    """Fill x[E] by a split rule of SPLITS over the set `mask` (GIVEN: x is left as it is); return the make-span."""
    if rule == EQUAL_FINISH:
        if priced:
            return priced_equal_finish(q, mask, price_s, use_price_s, x)
        return equal_finish(q, mask, x)
    if rule == WHOLE:
        best, server = np.inf, 0
        for s in range(len(mask)):
            if mask[s] and single_finish(q, s) + price_s[s] < best:
                best, server = single_finish(q, s) + price_s[s], s
        x[:] = 0.0
        x[server] = 1.0
    elif rule == PROPORTIONAL:
        additive.proportional(q.speed_gcps, mask, x)
    elif rule != GIVEN:
        cost_s = q.unit_s + q.send_s
        wait_s = np.maximum(q.free_s, q.port_s + q.latency_s) + q.fixed_s
        if rule == CWA:
            additive.cwa(cost_s, wait_s, mask, x)
        elif rule == HECWA:
            additive.hecwa(cost_s, wait_s, mask, x)
        elif priced:
            additive.priced_water_filling(cost_s, wait_s, price_s, mask, x)
        else:
            additive.water_filling(cost_s, wait_s, mask, x)
    return finish_of(q, x)


@njit(cache=True, error_model="numpy")
def _end_on(q: Quote, x: Floats, server: int) -> float:
    """End of the share on `server` when the shares x[E] are sent in order."""
    only = np.zeros(len(x))
    for i in range(len(x)):
        s = q.order[i]
        if s == server:
            break
        if q.shared and s != q.local:
            only[s] = x[s]
    used_s = np.sum(only * q.send_s)
    if server == q.local:
        start = max(q.free_s[server], q.port_s[server])
    else:
        sent = q.port_s[server] + used_s + x[server] * q.send_s[server]
        start = max(q.free_s[server], sent + q.latency_s[server])
    return start + q.fixed_s[server] + x[server] * q.unit_s[server]


@njit(cache=True, error_model="numpy")
def round_to_units(q: Quote, units: int, mask: Bools, x: Floats) -> float:
    """Round x[E] to multiples of 1/units, return the make-span.

    The whole units of each share stay, the rest goes one by one to the server of the set with which the make-span
    stays least, among these to the one that would end first. For independent links and an equal-finish x this is
    optimal: no server has less than its whole units in the best integer allocation. On a shared port, where one more
    unit delays the shares behind it, it is optimal but for one allocation in a thousand.
    """
    left = units
    for s in range(len(x)):
        whole = int(np.floor(x[s] * units + 1e-9))
        x[s] = whole / units
        left -= whole
    for _ in range(left):
        best, server = (np.inf, np.inf), -1
        for s in range(len(x)):
            if mask[s]:
                before = x[s]
                x[s] = before + 1.0 / units
                ends = (finish_of(q, x), _end_on(q, x, s))
                x[s] = before
                if ends < best:
                    best, server = ends, s
        x[server] += 1.0 / units
    return finish_of(q, x)
