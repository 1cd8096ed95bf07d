"""Windows of a rollout, and the transitions that a learner collects from them."""

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.edge.session import list_windows
from ddrl_sched.run.rollout import rollout
from ddrl_sched.run.train import Training
from ddrl_sched.schedulers.learned import _settled_so_far
from ddrl_sched.seeding import stream
from tests.builders import make_tasks
from tests.conf_files import plain
from tests.jobs_by_hand import prepare
from tests.resume_jobs import tiny


def test_windows_by_hand():
    """Two epochs of one second; in cadence arrival no station stands twice in a window."""
    tasks = make_tasks([0.1, 0.2, 0.3, 1.5], [0, 1, 0, 1], n_servers=2)

    def windows(cadence):
        return [(w.epoch, w.epoch_ends, w.lo[0], w.hi[0]) for w in list_windows(tasks, 1.0, cadence)]

    assert windows("trace") == [(0, True, 0, 4)]
    assert windows("epoch") == [(0, True, 0, 3), (1, True, 3, 4)]
    assert windows("arrival") == [(0, False, 0, 2), (0, True, 2, 3), (1, True, 3, 4)]


def test_a_task_waits_until_those_before_it_are_settled():
    """Station 0: settled, open, settled; station 1: settled. The third must wait for the second."""
    settled = np.array([True, False, True, True])
    same = np.array([True, True, False])
    assert _settled_so_far(settled, same).tolist() == [True, False, False, True]


def test_the_published_fault_in_the_next_state_hides_the_queues_of_the_next_slot(tmp_path):
    """Without updates both learners do the same, so their memories differ by the fault alone."""
    memories = []
    for seen in ("observed", "zero"):
        data = tiny(tmp_path, "dqn_ts", episodes=1, slots=4)
        data |= {group: plain(group, "published_single") for group in ("env", "workload")}
        data["scheduler"]["learning"] |= {"next_queues": seen, "start_slots": 4, "memory": 2000}
        job = prepare(data, "train", {})
        problem, scenario = job.problem, job.problem.scenario
        traces = problem.training(0, range(2), 0, 4, 0)[0]
        list(Training(job.scheduler, scenario, 1, lambda _, traces=traces: traces))
        memories.append(job.scheduler.memory.state_dict()["next_obs"].numpy())
    observed, zero = memories
    queues = slice(-scenario.n_servers, None)
    changed = (observed != zero).any(-1)
    assert 0 < changed.sum() < changed.size
    assert not zero[changed][:, queues].any()
    assert (observed[changed][:, queues] > 0).any(-1).all()
    np.testing.assert_array_equal(zero[..., : queues.start], observed[..., : queues.start])


@pytest.mark.parametrize("name", ["tuned/ddrl_ats", "tuned/sac_ts"])
def test_learning_may_start_from_servers_drawn_by_capacity(tmp_path, name):
    data = tiny(tmp_path, name)
    data["workload"]["load"] = 0.5
    job = prepare(data, "train", {})
    traces = job.problem.training(0, range(2), 0, 8, 0)[0]
    job.scheduler.start_evaluation(1, [stream(0, "test", k) for k in range(2)])
    *_, step = rollout(traces, job.scheduler, np.random.default_rng(0))
    used = step.outcome.share[traces.tasks.valid] > 0
    assert (used.sum(1) == 1).all()
    speed = job.problem.scenario.speed_gcps
    np.testing.assert_allclose(used.mean(0), speed / speed.sum(), atol=4 * 0.5 / np.sqrt(len(used)))


def test_only_policies_of_single_servers_start_from_capacity(tmp_path):
    for name in ("tuned/dqn_ts", "tuned/ddrl_amsa"):
        data = tiny(tmp_path, name)
        data["scheduler"]["start"] = "capacity"
        with pytest.raises(InputError, match=r"scheduler\.start: capacity needs"):
            prepare(data, "train", {})
