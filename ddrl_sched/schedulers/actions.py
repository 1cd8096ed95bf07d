"""Action tables: which sets of servers a station may choose from, one row of booleans per action."""

from itertools import combinations
from math import comb

import numpy as np

from ddrl_sched.edge.types import Bools, Ints

TABLES = ("single", "local_plus_one", "exactly_k", "any_subset")
MAX_ROWS = 4096


def table(name: str, home: Ints, n_stations: int, k: int | None = None) -> Bools:
    """Sets of the table `name` as bool [B, A, E]: action a of station b uses the servers that are True.

    home[E] is the station of each server, -1 where it has none.

    single          action a is {a}
    local_plus_one  action a of station b is {own server, a}, or {a} without one (DRLCoEdge, Li et al. 2020)
    exactly_k       all sets of k servers (SMCoEdge, Xu et al. 2024); `k` is of use here only
    any_subset      all sets but the empty one, smaller sets first (AMCoEdge, Xu et al. 2024)
    Sets of one size come in the order of itertools.combinations.

    Raises ValueError for an unknown table, an impossible k, and more than MAX_ROWS actions.
    """
    if name not in TABLES:
        raise ValueError(f"actions: expected one of {', '.join(TABLES)} for a table, got {name!r}")
    n_servers = len(home)
    if name == "local_plus_one":
        own: Bools = home == np.arange(n_stations)[:, None]
        return own[:, None, :] | np.eye(n_servers, dtype=bool)[None]
    rows = _rows(_sizes(name, n_servers, k), n_servers)
    return np.repeat(rows[None], n_stations, axis=0)


def n_actions(name: str, n_servers: int, k: int | None = None) -> int:
    """Number of actions A of the table `name`. Raises ValueError for an impossible k."""
    if name == "local_plus_one":
        return n_servers
    return sum(comb(n_servers, size) for size in _sizes(name, n_servers, k))


def _sizes(name: str, n_servers: int, k: int | None) -> range:
    if name == "single":
        return range(1, 2)
    if name == "any_subset":
        return range(1, n_servers + 1)
    if k is None or not 1 <= k <= n_servers:
        raise ValueError(f"k: exactly_k needs a k of 1 to {n_servers} (the number of servers), got {k!r}")
    return range(k, k + 1)


def _rows(sizes: range, n_servers: int) -> Bools:
    """Sets of the given sizes over n_servers, bool [A, E]."""
    count = sum(comb(n_servers, size) for size in sizes)
    if count > MAX_ROWS:
        raise ValueError(
            f"actions: {n_servers} servers make {count} sets, a table holds {MAX_ROWS}; "
            "use actions: gates (one yes or no per server) or smaller sets"
        )
    rows = np.zeros((count, n_servers), dtype=bool)
    for row, members in enumerate(m for size in sizes for m in combinations(range(n_servers), size)):
        rows[row, members] = True
    return rows
