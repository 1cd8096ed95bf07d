"""Action tables: small ones that can be checked by eye, then laws for any size."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from ddrl_sched.schedulers.actions import MAX_ROWS, n_actions, table


def paired(name, n_servers, k=None):
    """The table of a world in which station b owns server b."""
    return table(name, np.arange(n_servers), n_servers, k)


def as_sets(rows):
    return [tuple(int(s) for s in np.flatnonzero(row)) for row in rows]


def test_three_servers_by_eye():
    assert as_sets(paired("single", 3)[1]) == [(0,), (1,), (2,)]
    assert as_sets(paired("local_plus_one", 3)[1]) == [(0, 1), (1,), (1, 2)]
    assert as_sets(paired("exactly_k", 3, 2)[0]) == [(0, 1), (0, 2), (1, 2)]
    assert as_sets(paired("any_subset", 3)[2]) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def test_a_station_without_a_server_and_a_server_without_a_station():
    sets = table("local_plus_one", np.array([1, -1]), 2)
    assert as_sets(sets[0]) == [(0,), (1,)]
    assert as_sets(sets[1]) == [(0,), (0, 1)]
    assert table("any_subset", np.array([1, -1]), 3).shape == (3, 3, 2)


@pytest.mark.parametrize("n_servers", [1, 2, 5, 8])
def test_tables_hold_each_set_once_and_none_is_empty(n_servers):
    sizes = {"single": None, "exactly_k": max(1, n_servers // 2), "any_subset": None, "local_plus_one": None}
    for name, k in sizes.items():
        sets = paired(name, n_servers, k)
        assert sets.dtype == bool
        assert sets.shape == (n_servers, n_actions(name, n_servers, k), n_servers)
        assert sets.any(-1).all()
        for of_station in sets:
            assert len(set(as_sets(of_station))) == len(of_station)


@pytest.mark.parametrize(("n_servers", "k"), [(5, 3), (6, 1), (7, 7)])
def test_exactly_k_follows_itertools(n_servers, k):
    assert as_sets(paired("exactly_k", n_servers, k)[0]) == list(combinations(range(n_servers), k))


def test_any_subset_is_the_union_of_exactly_k_smaller_sets_first():
    parts = np.concatenate([paired("exactly_k", 6, k) for k in range(1, 7)], axis=1)
    assert np.array_equal(paired("any_subset", 6), parts)


def test_stations_differ_only_in_local_plus_one():
    assert (paired("any_subset", 5) == paired("any_subset", 5)[:1]).all()
    sets = paired("local_plus_one", 5)
    assert all(sets[b, :, b].all() for b in range(5))
    assert np.array_equal(sets.sum(-1), 2 - np.eye(5))


def test_twelve_servers_are_the_most_for_any_subset():
    assert paired("any_subset", 12).shape[1] == 4095 <= MAX_ROWS
    with pytest.raises(ValueError, match=r"8191 sets.*gates"):
        paired("any_subset", 13)
    assert comb(20, 5) > MAX_ROWS
    with pytest.raises(ValueError, match="gates"):
        paired("exactly_k", 20, 5)


@pytest.mark.parametrize("k", [None, 0, 6])
def test_impossible_k_is_named(k):
    with pytest.raises(ValueError, match=r"k: exactly_k needs a k of 1 to 5"):
        paired("exactly_k", 5, k)


@pytest.mark.parametrize("name", ["gates", "all"])
def test_other_names_have_no_table(name):
    with pytest.raises(ValueError, match="actions: expected one of single"):
        paired(name, 5)
