"""Labels of rows: stable, backlogged, overloaded."""

import math

import numpy as np
import pytest

from ddrl_sched.report.stability import state_of
from tests.jobs.test_records import eval_frame


def rows(early, late, load=0.6):
    return eval_frame(len(early)).assign(queue_early=early, queue_late=late, caused_load=load)


@pytest.mark.parametrize(
    ("early", "late", "state"),
    [
        ([1.0, 1.1, 0.9, 1.0], [1.1, 0.9, 1.0, 1.0], "stable"),
        ([1.0, 1.1, 0.9, 1.0], [2.3, 2.4, 2.2, 2.3], "backlogged"),
        ([1.0, 1.1, 0.9, 1.0], [1.3, 1.4, 1.2, 1.3], "stable"),  # surely longer, but not by much
        ([1.0, 1.1, 0.9, 1.0], [9.0, 0.1, 0.1, 0.1], "stable"),  # by much, but only once
        ([1.0], [9.0], "stable"),  # one trace says nothing
        ([1.0, 1.0], [3.0, 3.0], "backlogged"),
        ([0.0, 0.0], [0.0, 0.0], "stable"),
        ([math.nan, math.nan], [math.nan, math.nan], "stable"),  # published rules
    ],
)
def test_queues_that_grow(early, late, state):
    assert state_of(rows(early, late)).state == state


def test_a_load_of_one_is_overloaded_whatever_the_queues_do():
    found = state_of(rows([1.0, 1.0], [1.0, 1.0], load=[0.9, 1.1]))
    assert (found.state, found.caused_load, found.queue_growth) == ("overloaded", 1.0, 1.0)


def test_seeds_on_one_trace_count_as_one():
    frame = rows([1.0] * 6, [3.0, 3.1, 3.2, 2.9, 3.0, 3.1]).assign(seed=range(6), trace=0)
    assert state_of(frame).state == "stable"


def test_a_steady_world_is_rarely_called_backlogged():
    rng = np.random.default_rng(0)
    called = [state_of(rows(*rng.gamma(2.0, 1.0, (2, 5)))).state == "backlogged" for _ in range(300)]
    assert np.mean(called) < 0.1
