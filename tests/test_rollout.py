"""Windows of a rollout, and the transitions that a learner collects from them."""

import numpy as np

from ddrl_sched.run.rollout import list_windows
from ddrl_sched.schedulers.learned import _settled_so_far
from tests.builders import make_tasks


def test_windows_by_hand():
    """Two epochs of one second; in cadence arrival no station stands twice in a window."""
    tasks = make_tasks([0.1, 0.2, 0.3, 1.5], [0, 1, 0, 1], n_servers=2)
    assert [(e, ends, lo[0], hi[0]) for e, ends, lo, hi in list_windows(tasks, 1.0, "trace")] == [(0, True, 0, 4)]
    epochs = [(e, ends, lo[0], hi[0]) for e, ends, lo, hi in list_windows(tasks, 1.0, "epoch")]
    assert epochs == [(0, True, 0, 3), (1, True, 3, 4)]
    arrivals = [(e, ends, lo[0], hi[0]) for e, ends, lo, hi in list_windows(tasks, 1.0, "arrival")]
    assert arrivals == [(0, False, 0, 2), (0, True, 2, 3), (1, True, 3, 4)]


def test_a_task_waits_until_those_before_it_are_settled():
    """Station 0: settled, open, settled; station 1: settled. The third must wait for the second."""
    settled = np.array([True, False, True, True])
    same = np.array([True, True, False])
    assert _settled_so_far(settled, same).tolist() == [True, False, False, True]
