"""Shares of one divisible task under additive costs: server s ends its share x_s at w_s + c_s x_s.

Every function fills x [E] in place: 0 outside `mask` [E], shares that sum to one inside it (all 0 for an empty mask).
c [E] seconds per whole task (> 0 inside the mask), w [E] seconds of waiting. Compiled, without allocation.
"""

import numpy as np
from numba import njit

from ddrl_sched.edge.types import Bools, Floats


@njit(cache=True, error_model="numpy")
def cwa(c: Floats, w: Floats, mask: Bools, x: Floats) -> None:
    """Equal finish by one linear solve, then negative shares set to 0 and the rest divided by its sum.

    This is the published rule (AMCoEdge's CWA, SMCoEdge's SE). Where a share is clipped it is not optimal.
    """
    level = _equal_finish(c, w, mask)
    total = 0.0
    for s in range(len(x)):
        x[s] = max(level - w[s], 0.0) / c[s] if mask[s] else 0.0
        total += x[s]
    _divide(x, total)


@njit(cache=True, error_model="numpy")
def hecwa(c: Floats, w: Floats, mask: Bools, x: Floats) -> None:
    """Shares in proportion to the product of the other servers' c, so to 1 / c; waits do not count (HECWA, HEWA)."""
    total = 0.0
    for s in range(len(x)):
        x[s] = 1.0 / c[s] if mask[s] else 0.0
        total += x[s]
    _divide(x, total)


@njit(cache=True, error_model="numpy")
def proportional(speed: Floats, mask: Bools, x: Floats) -> None:
    """Shares proportional to `speed` [E] (any positive weights)."""
    total = 0.0
    for s in range(len(x)):
        x[s] = speed[s] if mask[s] else 0.0
        total += x[s]
    _divide(x, total)


@njit(cache=True, error_model="numpy")
def water_filling(c: Floats, w: Floats, mask: Bools, x: Floats) -> None:
    """The least make-span in the mask: x = max(L - w, 0) / c with L = (1 + sum w/c) / sum 1/c over servers with w < L.

    A server that stays dry (w >= L) gets 0: the task does without it.
    """
    _fill_to(_water_level(c, w, mask, w, np.inf), c, w, mask, w, np.inf, x)


@njit(cache=True, error_model="numpy")
def priced_water_filling(c: Floats, w: Floats, price: Floats, mask: Bools, x: Floats) -> None:
    """Minimise L + sum price_s x_s exactly; L is the latest finish of servers with x > 0, price [E] seconds per task.

    For a given L the cheapest servers are filled first, each up to (L - w) / c. While server k is the one filled in
    part, the cost changes with slope 1 + sum (price_j - price_k) / c_j over the wet cheaper servers j: piecewise
    linear, and where another server becomes wet the slope falls. So a minimum lies where k is just full, which is
    the water-filling of the servers no dearer than k. The cheapest of these at most E candidates is taken.
    """
    best, best_limit = np.inf, np.inf
    for k in range(len(x)):
        if not mask[k]:
            continue
        cost = _priced_cost(_water_level(c, w, mask, price, price[k]), c, w, mask, price, price[k])
        if cost < best:
            best, best_limit = cost, price[k]
    _fill_to(_water_level(c, w, mask, price, best_limit), c, w, mask, price, best_limit, x)


@njit(cache=True, error_model="numpy")
def _equal_finish(c: Floats, w: Floats, mask: Bools) -> float:
    """Common finish of all servers of the mask, negative shares allowed."""
    top, bottom = 1.0, 0.0
    for s in range(len(c)):
        if mask[s]:
            top += w[s] / c[s]
            bottom += 1.0 / c[s]
    return top / bottom


@njit(cache=True, error_model="numpy")
def _water_level(c: Floats, w: Floats, mask: Bools, key: Floats, limit: float) -> float:
    """Water level over the servers of the mask with key <= limit; dropping dry servers only lowers it.

    Only by rounding could it rise again, where a server is wet or dry by the last bit; there it ends.
    """
    level, n_wet = np.inf, -1
    while True:
        top, bottom, count = 1.0, 0.0, 0
        for s in range(len(c)):
            if mask[s] and key[s] <= limit and w[s] < level:
                top += w[s] / c[s]
                bottom += 1.0 / c[s]
                count += 1
        if count == n_wet or count == 0 or top / bottom >= level:
            return level
        level, n_wet = top / bottom, count


@njit(cache=True, error_model="numpy")
def _priced_cost(level: float, c: Floats, w: Floats, mask: Bools, price: Floats, limit: float) -> float:
    """Level + price of the shares that fill the servers with price <= limit to it."""
    cost = level
    for s in range(len(c)):
        if mask[s] and price[s] <= limit:
            cost += price[s] * max(level - w[s], 0.0) / c[s]
    return cost


@njit(cache=True, error_model="numpy")
def _fill_to(level: float, c: Floats, w: Floats, mask: Bools, key: Floats, limit: float, x: Floats) -> None:
    """x = what lifts every server of the mask with key <= limit to the level, summing to one without rounding error."""
    total = 0.0
    for s in range(len(x)):
        x[s] = max(level - w[s], 0.0) / c[s] if mask[s] and key[s] <= limit else 0.0
        total += x[s]
    _divide(x, total)


@njit(cache=True, error_model="numpy")
def _divide(x: Floats, total: float) -> None:
    if total > 0.0:
        for s in range(len(x)):
            x[s] /= total
