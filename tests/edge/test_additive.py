"""Closed-form shares: numbers to do in the head, laws, and a linear programme as independent judge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from ddrl_sched.edge.additive import cwa, hecwa, priced_water_filling, proportional, water_filling

ALL2 = np.array([True, True])


def filled(rule, *arrays):
    x = np.full(len(arrays[-1]), np.nan)
    assert rule(*arrays, x) is None
    return x


def test_two_equal_servers_share_evenly():
    c, w = np.array([2.0, 2.0]), np.zeros(2)
    for rule in (cwa, hecwa, water_filling):
        np.testing.assert_allclose(filled(rule, c, w, ALL2), [0.5, 0.5])


def test_equal_finish_by_hand():
    # 1 x + 1 = 3 (1 - x) + 0  ->  x = 1/2, both end at 1.5
    c, w = np.array([1.0, 3.0]), np.array([1.0, 0.0])
    np.testing.assert_allclose(filled(cwa, c, w, ALL2), [0.5, 0.5])
    np.testing.assert_allclose(filled(water_filling, c, w, ALL2), [0.5, 0.5])
    np.testing.assert_allclose(filled(hecwa, c, w, ALL2), [0.75, 0.25])


def test_cwa_clips_after_one_solve_and_loses_to_water_filling():
    # c = 1, w = (0, 0, 5): one solve gives L = 2, x = (2, 2, -3) -> (1/2, 1/2, 0): the clipped server drops out here
    c, w, mask = np.ones(3), np.array([0.0, 0.0, 5.0]), np.ones(3, bool)
    np.testing.assert_allclose(filled(cwa, c, w, mask), [0.5, 0.5, 0.0])
    # w = (0, 1.5, 5): L = 2.5, x = (2.5, 1, -2.5) -> (5/7, 2/7, 0); water-filling leaves server 1 dry: (1, 0, 0)
    w = np.array([0.0, 1.5, 5.0])
    np.testing.assert_allclose(filled(cwa, c, w, mask), [5 / 7, 2 / 7, 0.0])
    np.testing.assert_allclose(filled(water_filling, c, w, mask), [1.0, 0.0, 0.0])


@pytest.mark.parametrize("at", [(0.7, 1.6, 1.3, 2.0), (1.4, 1.1, 2.0, 3.4), (1.1, 1.0, 0.8, 1.9)])
def test_a_server_dry_by_the_last_bit_ends_the_filling(at):
    """The second server waits exactly as long as the first takes: rounding says wet, dry, wet, ... for ever."""
    c, w = np.array(at[:2]), np.array(at[2:])
    np.testing.assert_allclose(filled(water_filling, c, w, ALL2), [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(filled(priced_water_filling, c, w, np.zeros(2), ALL2), [1.0, 0.0], atol=1e-12)


def test_shares_follow_the_speeds_of_the_mask():
    mask = np.array([True, False, True])
    np.testing.assert_allclose(filled(proportional, np.array([10.0, 20.0, 30.0]), mask), [0.25, 0.0, 0.75])


def test_hecwa_is_the_product_of_the_others():
    c = np.array([0.2, 0.3, 0.5, 0.7])
    products = np.array([np.prod(np.delete(c, s)) for s in range(4)])
    np.testing.assert_allclose(filled(hecwa, c, np.zeros(4), np.ones(4, bool)), products / products.sum())


@pytest.mark.parametrize("rule", [cwa, hecwa, water_filling])
def test_one_server_takes_all_and_an_empty_mask_nothing(rule):
    c, w = np.array([0.3, 0.7]), np.array([0.1, 9.0])
    assert filled(rule, c, w, np.array([False, True])).tolist() == [0.0, 1.0]
    assert filled(rule, c, w, np.array([False, False])).tolist() == [0.0, 0.0]


def test_a_high_price_keeps_a_server_dry_and_none_changes_nothing():
    c, w = np.ones(2), np.zeros(2)
    # sharing evenly costs 1/2 + p/2, the free server alone costs 1: equal at p = 1
    np.testing.assert_allclose(filled(priced_water_filling, c, w, np.array([0.0, 0.9]), ALL2), [0.5, 0.5])
    np.testing.assert_allclose(filled(priced_water_filling, c, w, np.array([0.0, 1.1]), ALL2), [1.0, 0.0])
    np.testing.assert_allclose(filled(priced_water_filling, c, w, np.zeros(2), ALL2), [0.5, 0.5])


@st.composite
def problems(draw):
    n = draw(st.integers(1, 6))
    numbers = lambda low, high: np.array(draw(st.lists(st.floats(low, high), min_size=n, max_size=n)))  # noqa: E731
    mask = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    mask[draw(st.integers(0, n - 1))] = True
    return numbers(0.01, 2.0), numbers(0.0, 2.0), numbers(0.0, 2.0), mask


@settings(max_examples=200, deadline=None)
@given(problems())
def test_shares_are_a_distribution_on_the_mask(problem):
    c, w, price, mask = problem
    shares = [filled(rule, c, w, mask) for rule in (cwa, hecwa, water_filling)]
    shares += [filled(proportional, c, mask), filled(priced_water_filling, c, w, price, mask)]
    for x in shares:
        assert (x >= 0.0).all()
        assert (x[~mask] == 0.0).all()
        assert x.sum() == pytest.approx(1.0)


@settings(max_examples=100, deadline=None)
@given(problems())
def test_water_filling_levels_the_wet_and_leaves_the_rest_dry(problem):
    c, w, _, mask = problem
    x = filled(water_filling, c, w, mask)
    finish = w + c * x
    level = finish[x > 0].max()
    np.testing.assert_allclose(finish[x > 1e-9], level, rtol=1e-6)
    assert (w[mask & (x == 0.0)] >= level - 1e-9).all()


def least_cost(c, w, price, mask):
    """Minimum of L + price x by one linear programme for every set of servers that may be used."""
    best, members = np.inf, np.flatnonzero(mask)
    for code in range(1, 2 ** len(members)):
        used = members[[code >> i & 1 == 1 for i in range(len(members))]]
        rows = np.hstack([np.diag(c[used]), -np.ones((len(used), 1))])
        sums = np.append(np.ones(len(used)), 0.0)[None]
        lp = linprog(np.append(price[used], 1.0), A_ub=rows, b_ub=-w[used], A_eq=sums, b_eq=[1.0], bounds=(0, None))
        best = min(best, lp.fun)
    return best


@settings(max_examples=25, deadline=None)
@given(problems())
def test_priced_water_filling_is_the_linear_programmes_optimum(problem):
    c, w, price, mask = problem
    x = filled(priced_water_filling, c, w, price, mask)
    cost = (w + c * x)[x > 0].max() + price @ x
    assert cost == pytest.approx(least_cost(c, w, price, mask), rel=1e-7, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(problems())
def test_without_prices_it_is_plain_water_filling(problem):
    c, w, _, mask = problem
    np.testing.assert_allclose(
        filled(priced_water_filling, c, w, np.zeros(len(c)), mask), filled(water_filling, c, w, mask), atol=1e-12
    )
