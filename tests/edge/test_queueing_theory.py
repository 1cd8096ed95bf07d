"""The kernel against queueing theory: independent replications within three standard errors of closed forms.

Sources: M/M/1 and Pollaczek-Khinchine mean waits, Little's law (Kleinrock, Queueing Systems I, chapters 2, 3 and 5).
Every test fixes its named stream, so its result never changes.
"""

import numpy as np
import pytest

from ddrl_sched.edge import physics
from ddrl_sched.seeding import stream
from tests.builders import carry_out, make_scenario, make_tasks

N_REPLICAS, N_TASKS, WARM_UP = 60, 6_000, 1_500


def poisson_arrivals(rng, rate):
    return np.cumsum(rng.exponential(1.0 / rate, (N_REPLICAS, N_TASKS)), axis=1)


def check_mean(samples, expected, n_errors=3.0):
    """samples [R]: one mean per replica. The standard error must be small enough for the test to mean something."""
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    assert error < 0.03 * expected
    assert abs(samples.mean() - expected) < n_errors * error, (samples.mean(), expected, error)


def local_outcome(arrive, work, speed_gcps=1.0, **more):
    tasks = make_tasks(arrive, work_gcycle=work, **more)
    return carry_out(physics, make_scenario([speed_gcps]), tasks, np.ones((*arrive.shape, 1)))


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_mean_wait_of_mm1(load):
    rng = stream(1, "queueing", "mm1", str(load))
    arrive = poisson_arrivals(rng, load)
    work = rng.exponential(2.0, arrive.shape)
    outcome = local_outcome(arrive, work, speed_gcps=2.0)  # mean service 1 s
    check_mean(outcome.wait_s[:, WARM_UP:].mean(axis=1), load / (1 - load))
    check_mean(outcome.delay_s[:, WARM_UP:].mean(axis=1), 1 / (1 - load))


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_delays_of_mm1_are_exponential(load):
    rng = stream(2, "queueing", "mm1", str(load))
    arrive = poisson_arrivals(rng, load)
    outcome = local_outcome(arrive, rng.exponential(1.0, arrive.shape), deadline_s=2.0)
    check_mean(outcome.late[:, WARM_UP:].mean(axis=1), np.exp(-2.0 * (1 - load)))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_mean_wait_of_md1_with_overhead_as_part_of_the_service(load):
    arrive = poisson_arrivals(stream(3, "queueing", "md1", str(load)), load)
    outcome = local_outcome(arrive, 3.0, speed_gcps=4.0, overhead_gcycle=1.0)  # service (1 + 3) / 4
    check_mean(outcome.wait_s[:, WARM_UP:].mean(axis=1), load / (2 * (1 - load)))


def test_mean_wait_of_mg1_with_two_kinds_of_tasks():
    load = 0.6
    rng = stream(4, "queueing", "mg1")
    arrive = poisson_arrivals(rng, load)
    work = np.where(rng.random(arrive.shape) < 0.2, 3.0, 0.5)  # mean 1, second moment 2
    outcome = local_outcome(arrive, work)
    check_mean(outcome.wait_s[:, WARM_UP:].mean(axis=1), load * 2.0 / (2 * (1 - load)))


def test_a_port_is_an_md1_queue_before_a_fast_server():
    load = 0.6
    arrive = poisson_arrivals(stream(5, "queueing", "port"), load)
    scenario = make_scenario([1.0, 1e9], link_mbps=2.0, latency_s=0.5)
    tasks = make_tasks(arrive, n_servers=2, input_mbit=2.0)
    outcome = carry_out(physics, scenario, tasks, np.tile([0.0, 1.0], (*arrive.shape, 1)))
    check_mean(outcome.wait_s[:, WARM_UP:].mean(axis=1), load / (2 * (1 - load)))
    np.testing.assert_allclose(outcome.transfer_s, 1.5, rtol=1e-9)


def test_split_over_equal_servers_is_md1_with_short_services():
    """Every task takes a third of every server: three synchronous queues with a third of the service."""
    load = 0.7
    arrive = poisson_arrivals(stream(6, "queueing", "fork"), 3 * load)
    tasks = make_tasks(arrive, n_servers=3)
    outcome = carry_out(physics, make_scenario([1.0] * 3), tasks, np.full((*arrive.shape, 3), 1 / 3))
    check_mean(outcome.wait_s[:, WARM_UP:].mean(axis=1), load / (2 * (1 - load)) / 3)


def test_littles_law():
    load = 0.7
    rng = stream(7, "queueing", "little")
    arrive = poisson_arrivals(rng, load)
    outcome = local_outcome(arrive, rng.exponential(1.0, arrive.shape))
    begin, end = arrive[:, WARM_UP], arrive[:, -1]
    leave = arrive + outcome.delay_s
    inside = np.clip(np.minimum(leave, end[:, None]) - np.maximum(arrive, begin[:, None]), 0.0, None)
    present = inside.sum(axis=1) / (end - begin)  # time average of the number of tasks in the system
    rate = (N_TASKS - 1 - WARM_UP) / (end - begin)
    check_mean(present - rate * outcome.delay_s[:, WARM_UP:].mean(axis=1) + load / (1 - load), load / (1 - load))
    check_mean(present, load / (1 - load))
