"""Split rules against independent solvers: linear programmes (HiGHS), bisection, and enumeration of whole units.

A linear programme cannot say "a server of share 0 does not count", so the least value over all subsets is taken.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from ddrl_sched.edge import additive, physics, split
from ddrl_sched.edge.types import Decision
from ddrl_sched.seeding import stream
from tests.builders import given_shares, make_scenario, make_tasks

TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**9),
        "n_servers": st.integers(1, 4),
        "shared": st.booleans(),
        "slow_links": st.sampled_from([0.05, 1.0, 10.0]),
    }
)
per_link_cases = cases.map(lambda case: {**case, "shared": False})
shared_cases = cases.map(lambda case: {**case, "shared": True})
exact = settings(max_examples=80, deadline=None, derandomize=True)


def random_quote(rng, n_servers, shared, slow_links=1.0):
    """A Quote as a station might be told: one local server, waits and sending times of all sizes."""
    e = n_servers
    local = int(rng.integers(0, e))
    send = rng.uniform(0.05, 1.0, e) * slow_links
    latency = rng.uniform(0.0, 0.3, e)
    dispatch = rng.uniform(0.0, 0.3)
    port = np.full(e, dispatch + rng.choice([0.0, 0.5])) if shared else dispatch + rng.uniform(0.0, 0.5, e)
    send[local], latency[local], port[local] = 0.0, 0.0, dispatch
    speed = rng.uniform(1.0, 5.0, e)
    unit = 2.0 / speed + 0.1 * send
    fixed = rng.choice([0.0, 0.3]) / speed + latency
    free = rng.uniform(0.0, 1.5, e) * (rng.random(e) < 0.7)
    order = np.array(sorted(range(e), key=lambda s: (send[s], s)))
    return split.Quote(free, port, send, latency, unit, fixed, order, speed, bool(shared), local)


def quote_of(case):
    rest = {key: value for key, value in case.items() if key != "seed"}
    return random_quote(stream(case["seed"], "quote"), **rest)


def busy_quote(case):
    """The same, with every other world's remote servers so busy that queue and link bind in turn."""
    q = quote_of(case)
    busy = q.send_s * stream(case["seed"], "busy").uniform(0.0, 1.2, case["n_servers"])
    return q._replace(free_s=q.free_s + busy) if case["seed"] % 2 else q


def subsets(members):
    return (subset for size in range(1, len(members) + 1) for subset in combinations(members, size))


def ends(q, x):
    """End of every used share, step by step."""
    port = dict(enumerate(q.port_s))
    finish = {}
    for s in q.order:
        if x[s] <= 0:
            continue
        arrive = q.port_s[s]
        if s != q.local:
            line = -1 if q.shared else s
            port[line] = port.get(line, q.port_s[s]) + x[s] * q.send_s[s]
            arrive = port[line] + q.latency_s[s]
        finish[int(s)] = max(arrive, q.free_s[s]) + q.fixed_s[s] + x[s] * q.unit_s[s]
    return finish


def objective(q, x, price, use_price):
    return max(ends(q, x).values()) + float(price @ x) + use_price * int((x > 0).sum())


def programme(q, used, price):
    """Least T + price x by HiGHS when exactly the servers `used` may take shares, in the quote's sending order."""
    n, used = len(q.free_s), list(used)
    rows, right = [], []

    def at_least(start, terms):  # T >= start + sum of terms x
        row = np.zeros(n + 1)
        row[-1] = -1.0
        for s, factor in terms:
            row[s] += factor
        rows.append(row)
        right.append(-start)

    sent = []
    for s in (s for s in q.order if s in used):
        own = q.free_s[s] if s != q.local else max(q.free_s[s], q.port_s[s])
        at_least(own + q.fixed_s[s], [(s, q.unit_s[s])])
        if s != q.local:
            before = [(r, q.send_s[r]) for r in sent] if q.shared else []
            start = q.port_s[s] + q.latency_s[s] + q.fixed_s[s]
            at_least(start, [*before, (s, q.send_s[s] + q.unit_s[s])])
            sent.append(s)
    bounds = [(0, None) if s in used else (0, 0) for s in range(n)] + [(None, None)]
    equal = np.append(np.ones(n), 0.0)[None]
    cost = np.append(price, 1.0)
    answer = linprog(cost, rows, right, equal, [1.0], bounds, method="highs-ds", options=TIGHT)
    assert answer.status == 0
    return answer.fun


def least_value(q, members, price=None, use_price=0.0):
    price = np.zeros(len(q.free_s)) if price is None else price
    return min(programme(q, used, price) + use_price * len(used) for used in subsets(members))


def some_mask(seed, n):
    rng = stream(seed, "mask")
    mask = rng.random(n) < 0.7
    mask[rng.integers(0, n)] = True
    return mask


def draw_prices(seed, n):
    return stream(seed, "prices").uniform(0.0, 1.5, n) * stream(seed, "scale").choice([0.3, 1.0, 3.0])


# --- equal finish ------------------------------------------------------------------------------------------------


def test_two_idle_equal_servers_share_by_halves():
    zero, one = np.zeros(2), np.ones(2)
    q = split.Quote(zero, zero, zero, zero, one, zero, np.arange(2), one, True, 0)
    x = np.zeros(2)
    assert split.equal_finish(q, np.ones(2, np.bool_), x) == pytest.approx(0.5)
    np.testing.assert_allclose(x, 0.5)


def test_sending_slows_the_remote_share():
    """x + x = T on the remote server, 1 - x = T at home: a third goes away."""
    zero, one = np.zeros(2), np.ones(2)
    q = split.Quote(zero, zero, np.array([0.0, 1.0]), zero, one, zero, np.arange(2), one, True, 0)
    x = np.zeros(2)
    assert split.equal_finish(q, np.ones(2, np.bool_), x) == pytest.approx(2 / 3)
    np.testing.assert_allclose(x, [2 / 3, 1 / 3])


@exact
@given(cases)
def test_equal_finish_is_the_linear_programme(case):
    q = quote_of(case)
    mask = some_mask(case["seed"], case["n_servers"])
    x = np.zeros(case["n_servers"])
    finish = split.equal_finish(q, mask, x)
    assert x.sum() == pytest.approx(1.0, abs=1e-12)
    assert (x >= 0).all()
    assert not x[~mask].any()
    assert finish == pytest.approx(least_value(q, np.flatnonzero(mask)), abs=1e-7)
    assert finish == pytest.approx(max(ends(q, x).values()), abs=1e-9)
    assert split.finish_of(q, x) == pytest.approx(finish, abs=1e-9)


@exact
@given(cases)
def test_equal_finish_ends_all_used_shares_together(case):
    q = quote_of(case)
    x = np.zeros(case["n_servers"])
    finish = split.equal_finish(q, np.ones(len(x), np.bool_), x)
    np.testing.assert_allclose(list(ends(q, x).values()), finish, atol=1e-8)


@exact
@given(cases)
def test_equal_finish_is_the_bisection(case):
    q = quote_of(case)

    def shares(finish):
        x, used = np.zeros(len(q.free_s)), 0.0
        for s in q.order:
            left = finish - q.fixed_s[s]
            if s == q.local:
                x[s] = max(0.0, (left - max(q.free_s[s], q.port_s[s])) / q.unit_s[s])
                continue
            sent = (left - q.port_s[s] - q.latency_s[s] - used) / (q.send_s[s] + q.unit_s[s])
            x[s] = max(0.0, min((left - q.free_s[s]) / q.unit_s[s], sent))
            used += x[s] * q.send_s[s] if q.shared else 0.0
        return x

    low, high = 0.0, 1e4
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if shares(middle).sum() > 1.0 else (middle, high)
    x = np.zeros(case["n_servers"])
    assert split.equal_finish(q, np.ones(len(x), np.bool_), x) == pytest.approx(high, abs=1e-9)
    np.testing.assert_allclose(x, shares(high), atol=1e-8)


@exact
@given(cases)
def test_no_random_split_ends_earlier(case):
    q = quote_of(case)
    x = np.zeros(case["n_servers"])
    finish = split.equal_finish(q, np.ones(len(x), np.bool_), x)
    for other in stream(case["seed"], "others").dirichlet(np.full(len(x), 0.7), 50):
        assert max(ends(q, other).values()) >= finish - 1e-9


# --- prices ------------------------------------------------------------------------------------------------------


def priced(q, mask, price, use_price):
    x = np.zeros(len(mask))
    finish = split.priced_equal_finish(q, mask, price, use_price, x)
    assert x.sum() == pytest.approx(1.0, abs=1e-12)
    assert not x[~mask].any()
    assert finish == pytest.approx(max(ends(q, x).values()), abs=1e-9)
    return objective(q, x, price, use_price)


@exact
@given(cases)
def test_price_zero_is_the_myopic_optimum(case):
    q = quote_of(case)
    zero, x, y = np.zeros(case["n_servers"]), np.zeros(case["n_servers"]), np.zeros(case["n_servers"])
    mask = np.ones(len(x), np.bool_)
    assert split.priced_equal_finish(q, mask, zero, 0.0, x) == pytest.approx(split.equal_finish(q, mask, y), abs=1e-12)


@exact
@given(per_link_cases)
def test_priced_split_is_the_linear_programme_with_a_link_per_pair(case):
    q = busy_quote(case)
    price = draw_prices(case["seed"], case["n_servers"])
    mask = some_mask(case["seed"], case["n_servers"])
    assert priced(q, mask, price, 0.0) == pytest.approx(least_value(q, np.flatnonzero(mask), price), abs=1e-7)


def test_a_cheap_busy_server_behind_a_slow_link_is_filled_until_its_link_binds():
    """It could end half of the task at 1.25 by its queue and by its link: more share costs 2.5 a unit, less 0.5.

    With a price of 1 at home the best is that half: 1.25 + 0.5. All at home costs 1.2 + 1, all away
    2.5, both ending together 1.94.
    """
    zero = np.zeros(2)
    free, send, unit = np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([1.2, 0.5])
    q = split.Quote(free, zero, send, zero, unit, zero, np.arange(2), np.ones(2), False, 0)
    x = np.zeros(2)
    finish = split.priced_equal_finish(q, np.ones(2, np.bool_), np.array([1.0, 0.0]), 0.0, x)
    np.testing.assert_allclose(x, [0.5, 0.5])
    assert finish == pytest.approx(1.25)


@exact
@given(per_link_cases, st.sampled_from([0.05, 0.3]))
def test_priced_split_with_a_price_per_server_is_the_linear_programme_with_a_link_per_pair(case, use_price):
    q = busy_quote(case)
    price = draw_prices(case["seed"], case["n_servers"])
    mask = np.ones(case["n_servers"], np.bool_)
    expected = least_value(q, np.flatnonzero(mask), price, use_price)
    assert priced(q, mask, price, use_price) == pytest.approx(expected, abs=1e-7)


@exact
@given(shared_cases, st.sampled_from([0.0, 0.05, 0.3]))
def test_priced_split_on_a_shared_port_is_near_the_linear_programme(case, use_price):
    q = busy_quote(case)
    price = draw_prices(case["seed"], case["n_servers"])
    mask = np.ones(case["n_servers"], np.bool_)
    least = least_value(q, np.flatnonzero(mask), price, use_price)
    assert least - 1e-9 <= priced(q, mask, price, use_price) <= 1.05 * least


# --- additive costs ----------------------------------------------------------------------------------------------


def additive_quote(case):
    """Additive costs w + x c are a quote without links: every server is its own queue."""
    rng = stream(case["seed"], "additive")
    n = case["n_servers"]
    c, w = rng.uniform(0.1, 2.0, n), rng.uniform(0.0, 2.0, n) * (rng.random(n) < 0.8)
    zero = np.zeros(n)
    return c, w, split.Quote(w, zero, zero, zero, c, zero, np.arange(n), 1 / c, False, 0)


@exact
@given(cases)
def test_water_filling_is_the_linear_programme(case):
    c, w, q = additive_quote(case)
    mask = some_mask(case["seed"], len(c))
    x = np.zeros(len(c))
    additive.water_filling(c, w, mask, x)
    assert x.sum() == pytest.approx(1.0, abs=1e-12)
    assert not x[~mask].any()
    assert (w + x * c)[x > 0].max() == pytest.approx(least_value(q, np.flatnonzero(mask)), abs=1e-7)


@exact
@given(cases)
def test_priced_water_filling_is_the_linear_programme(case):
    c, w, q = additive_quote(case)
    price = draw_prices(case["seed"], len(c))
    x = np.zeros(len(c))
    additive.priced_water_filling(c, w, price, np.ones(len(c), np.bool_), x)
    assert x.sum() == pytest.approx(1.0, abs=1e-12)
    value = (w + x * c)[x > 0].max() + price @ x
    assert value == pytest.approx(least_value(q, range(len(c)), price), abs=1e-7)


@exact
@given(cases)
def test_water_filling_and_equal_finish_agree_where_links_are_instant(case):
    c, w, q = additive_quote(case)
    mask = some_mask(case["seed"], len(c))
    x, y = np.zeros(len(c)), np.zeros(len(c))
    additive.water_filling(c, w, mask, x)
    split.equal_finish(q, mask, y)
    np.testing.assert_allclose(x, y, atol=1e-8)


@exact
@given(cases)
def test_cwa_is_water_filling_where_no_share_is_clipped_and_never_better(case):
    c, w, _ = additive_quote(case)
    mask = some_mask(case["seed"], len(c))
    x, y = np.zeros(len(c)), np.zeros(len(c))
    additive.cwa(c, w, mask, x)
    additive.water_filling(c, w, mask, y)
    level = (1 + (w / c)[mask].sum()) / (1 / c)[mask].sum()
    if (w[mask] < level).all():
        np.testing.assert_allclose(x, y, atol=1e-9)
    assert (w + x * c)[mask & (x > 0)].max() >= (w + y * c)[mask & (y > 0)].max() - 1e-12


@exact
@given(cases)
def test_hecwa_shares_are_the_products_of_the_other_costs(case):
    c, w, _ = additive_quote(case)
    mask = some_mask(case["seed"], len(c))
    x = np.zeros(len(c))
    additive.hecwa(c, w, mask, x)
    others = np.array([np.prod(c[mask & (np.arange(len(c)) != s)]) if mask[s] else 0.0 for s in range(len(c))])
    np.testing.assert_allclose(x, others / others.sum(), atol=1e-12)


# --- whole units -------------------------------------------------------------------------------------------------


def allocations(units, n_servers):
    if n_servers == 1:
        yield (units,)
        return
    for first in range(units + 1):
        for rest in allocations(units - first, n_servers - 1):
            yield (first, *rest)


def best_whole_units(q, units):
    """Least make-span over all integer allocations."""
    return min(max(ends(q, np.array(a) / units).values()) for a in allocations(units, len(q.free_s)))


def rounded(q, units):
    x = np.zeros(len(q.free_s))
    mask = np.ones(len(x), np.bool_)
    split.equal_finish(q, mask, x)
    finish = split.round_to_units(q, units, mask, x)
    np.testing.assert_allclose(x * units, np.round(x * units), atol=1e-9)
    assert x.sum() == pytest.approx(1.0, abs=1e-12)
    assert finish == pytest.approx(max(ends(q, x).values()), abs=1e-9)
    return finish


@exact
@given(per_link_cases, st.integers(1, 6))
def test_rounding_to_units_is_optimal_with_a_link_per_pair(case, units):
    q = quote_of(case)
    assert rounded(q, units) == pytest.approx(best_whole_units(q, units), abs=1e-9)


@exact
@given(shared_cases, st.integers(1, 6))
def test_rounding_to_units_on_a_shared_port_is_near_the_best_allocation(case, units):
    q, best = quote_of(case), best_whole_units(quote_of(case), units)
    assert best - 1e-9 <= rounded(q, units) <= 1.01 * best


def test_a_unit_that_delays_the_shares_behind_it_goes_elsewhere():
    """Measured: filling up the server that ends first itself lost 47 % here, as it sends before the others."""
    q = busy_quote({"seed": 1458, "n_servers": 4, "shared": True, "slow_links": 10.0})
    units = int(stream(1458, "u").integers(1, 9))
    assert rounded(q, units) == pytest.approx(best_whole_units(q, units), abs=1e-9)


@exact
@given(cases, st.integers(1, 8))
def test_shares_of_whole_units_are_left_as_they_are(case, units):
    q = quote_of(case)
    rng = stream(case["seed"], "units")
    x = rng.multinomial(units, np.full(case["n_servers"], 1 / case["n_servers"])) / units
    y = x.copy()
    split.round_to_units(q, units, np.ones(len(x), np.bool_), y)
    np.testing.assert_allclose(x, y, atol=1e-12)


# --- the kernel carries the split out ----------------------------------------------------------------------------


@exact
@given(cases, st.sampled_from(["running", "probed"]))
def test_exact_knowledge_gives_the_programmes_delay(case, info):
    """Local tasks first, then one task that is split over all servers: its delay is the least possible one."""
    rng = stream(case["seed"], "kernel")
    e = case["n_servers"]
    scenario = make_scenario(
        rng.uniform(1.0, 5.0, e),
        rng.uniform(0.5, 5.0, (e, e)),
        rng.uniform(0.0, 0.3, (e, e)),
        port="shared" if case["shared"] else "per_link",
        probe_s=0.05,
        return_mbps=rng.uniform(0.5, 5.0, (e, e)),
        return_latency_s=rng.uniform(0.0, 0.3, (e, e)),
    )
    work, overhead, d, r = 3.0, 0.3, 2.0, 0.5
    load = np.append(rng.uniform(0.0, 5.0, e), work)
    b = int(rng.integers(0, e))
    tasks = make_tasks(
        np.append(np.zeros(e), 0.5), [*range(e), b], d, r, load, np.append(np.zeros(e), overhead), n_servers=e
    )
    outcome = physics.empty_outcome(tasks, e)
    state = physics.initial_state(scenario, 1)
    local = given_shares(np.eye(e))
    state = physics.place(scenario, state, tasks, local, lo=np.array([0]), hi=np.array([e]), outcome=outcome)
    everyone = np.ones((1, 1, e), np.bool_)
    decision = Decision("given", info, "equal_finish", select=everyone, probe=everyone if info == "probed" else None)
    state = physics.place(scenario, state, tasks, decision, lo=np.array([e]), hi=np.array([e + 1]), outcome=outcome)
    physics.finish(scenario, state, tasks, outcome)

    latency, link, speed = scenario.link_latency_s[b], scenario.link_mbps[b], scenario.speed_gcps
    back, return_mbps = scenario.return_latency_s[b], scenario.return_mbps[b]
    dispatch = (latency + back).max() + 0.05 * (e - 1) if info == "probed" else 0.0
    free = np.maximum(load[:e] / speed - 0.5, 0.0)
    order = np.argsort(-link, kind="stable")
    unit, fixed = work / speed + r / return_mbps, overhead / speed + back
    q = split.Quote(free, np.full(e, dispatch), d / link, latency, unit, fixed, order, speed, case["shared"], b)
    assert outcome.probes[0, e] == (e - 1 if info == "probed" else 0)
    assert outcome.delay_s[0, e] == pytest.approx(least_value(q, range(e)), abs=1e-7)
