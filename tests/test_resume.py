"""A training that was killed goes on bit for bit, wherever that was; and every item of its state is needed for that."""

import copy
import faulthandler
import io
import sys

import numpy as np
import pytest
import torch

from ddrl_sched import saving
from ddrl_sched.run import checkpoint
from ddrl_sched.run.curve import Curve
from ddrl_sched.run.job import _learner, prepare, run_job
from ddrl_sched.run.train import Training
from tests.resume_jobs import (
    NO_OPTIONS,
    child,
    folder_of,
    kill_after,
    outcome,
    run,
    run_until_crash,
    status_of,
    tiny,
)

KILLED = -9


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of the uninterrupted run of a scheduler's tiny job, made once in this process."""
    made = {}

    def of(name, **how):
        key = (name, *how.items())
        if key not in made:
            torch.set_num_threads(1)
            data = tiny(tmp_path_factory.mktemp("whole"), name, **how)
            assert run_job(data, "sweep", NO_OPTIONS) == "done"
            made[key] = outcome(folder_of(data))
        return made[key]

    return of


def points_of(folder, name):
    """How many fault points the job passes."""
    passed = []

    def act():
        saving.fault_point = lambda moment, path: passed.append(moment)
        run_job(tiny(folder, name), "sweep", NO_OPTIONS)
        (folder / "count").write_text(str(len(passed)))

    assert status_of(child(act)) == 0
    return int((folder / "count").read_text())


def crash_everywhere(tmp_path, whole, name, every):
    n_points = points_of(tmp_path / "count", name)
    numbers = range(0, n_points, every)
    differing = []
    for number in numbers:
        data = tiny(tmp_path / f"é {number}", name)
        assert run_until_crash(data, number) == KILLED
        assert run(data) == 0, number
        folder = folder_of(data)
        if outcome(folder) != whole(name) or leftovers(folder):
            differing.append(number)
    print(f"{name}: killed at {len(numbers)} of {n_points} fault points, {len(differing)} differ")
    assert differing == []
    return n_points


def leftovers(folder):
    """What only an unfinished job may have."""
    return [*folder.rglob("*.tmp"), *folder.glob(checkpoint.FOLDER)]


def test_a_kill_at_a_fault_point_leaves_no_mark(tmp_path, whole):
    assert crash_everywhere(tmp_path, whole, "lad_ts", 7) >= 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "every"),
    [("lad_ts", 1), ("drlcoedge", 1), ("ddrl_amsa_tuned", 5), ("dqn_ts_tuned", 5), ("sac_ts_tuned", 5)],
)
def test_a_kill_at_every_fault_point_leaves_no_mark(tmp_path, whole, name, every):
    assert crash_everywhere(tmp_path, whole, name, every) >= 60


def kill_at_random(tmp_path, whole, n_kills, names):
    """Kill and repeat until so many processes died before their end; every finished job must be the whole one."""
    rng = np.random.default_rng(5)
    kills, jobs = 0, 0
    while kills < n_kills:
        name = names[jobs % len(names)]
        data = tiny(tmp_path / str(jobs), name, episodes=6)
        while True:
            status = kill_after(child(lambda data=data: run_job(data, "sweep", NO_OPTIONS)), rng.uniform(0.02, 0.6))
            kills += status == KILLED
            if status != KILLED:
                break
        assert status == 0
        assert outcome(folder_of(data)) == whole(name, episodes=6), (name, jobs)
        jobs += 1
    print(f"{kills} random kills over {jobs} jobs, 0 differ, 0 failed to go on")


def test_random_kills_leave_no_mark(tmp_path, whole):
    kill_at_random(tmp_path, whole, 8, ["lad_ts"])


@pytest.mark.slow
def test_a_hundred_random_kills_leave_no_mark(tmp_path, whole):
    kill_at_random(tmp_path, whole, 100, ["lad_ts", "ddrl_amsa_tuned", "dqn_ts_tuned", "sac_ts_tuned"])


# --- every item of the state is needed


def start(data):
    """(training, curve) of a job, at its beginning."""
    job = prepare(data, "train", NO_OPTIONS)
    budget, seeds = job.settings.train, range(job.settings.seeds)

    def traces_of(episode):
        return job.problem.training(job.settings.seed, seeds, episode, budget.episode_slots, budget.episode_tasks)[0]

    learner = _learner(job.settings, job.problem, job.learned)
    return Training(learner, job.problem.scenario, budget.episodes, traces_of), Curve(), learner


def finish(training, curve, learner):
    """All that is published, as plain bytes."""
    for progress in filter(None, training):
        curve.add(progress)
    weights = {name: tensor.numpy().tobytes() for name, tensor in learner.weights().items()}
    return curve.frame().to_csv(), weights, len(curve.log)


def state_in_the_middle(data, episode, slot):
    """State within a slot, once all of it is in use and no further update of the episode will renew its metrics."""
    training, curve, _ = start(data)
    for progress in training:
        if progress is not None:
            curve.add(progress)
            continue
        state = {"training": training.state_dict(), "curve": curve.state_dict()}
        inside = state["training"]
        if (inside["episode"], inside["slot"]) == (episode, slot) and inside["metrics"] and inside["learner"]["open"]:
            file = io.BytesIO()
            torch.save(state, file)
            return torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    raise AssertionError("no such moment")


def paths(state, prefix=()):
    """Keys of all items: single tensors, numbers, and records that mean something only as a whole."""
    for key, value in state.items():
        if isinstance(value, dict) and value and key not in ("world", "outcome", "metrics", "open"):
            yield from paths(value, (*prefix, key))
        else:
            yield (*prefix, key)


def without(state, fresh, path):
    """The state with one item as it was at the start."""
    changed = copy.deepcopy(state)
    here, there = changed, fresh
    for key in path[:-1]:
        here, there = here[key], there[key]
    here[path[-1]] = copy.deepcopy(there[path[-1]])
    return changed


SAME, OTHER = 0, 9  # exit statuses of a child


def same_again(data, state, expected):
    """End this child with SAME if `state` leads to what is expected. It may also break it: what was saved must fit."""
    faulthandler.disable()
    training, curve, learner = start(data)
    try:
        training.load_state_dict(state["training"])
        curve.load_state_dict(state["curve"])
        same = finish(training, curve, learner) == expected
    except (ValueError, KeyError, TypeError, IndexError, AssertionError, RuntimeError):
        same = False
    sys.exit(SAME if same else OTHER)


OTHERS = ("dqn_ts_tuned", "ddrl_amsa_tuned", "sac_ts_tuned", "drlcoedge")
UNUSED = {  # items that this job's result does not depend on
    ("training", "elapsed_s"),  # wall clock
}


@pytest.mark.parametrize("name", ["lad_ts", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_without_any_one_item_the_training_diverges(tmp_path, name):
    data = tiny(tmp_path, name, episodes=4, slots=6)
    data["env"]["clock"] |= {"announce_s": 0.5}
    data["scheduler"]["learning"] |= {"memory": 500, "batch": 16, "every_slots": 4, "updates": 4}
    if data["scheduler"]["agent"]["name"] != "dqn":
        data["scheduler"]["agent"] |= {"alpha_lr": 0.01}
    expected = finish(*start(data))
    state = state_in_the_middle(data, 2, 5)
    training, curve, _ = start(data)
    fresh = {"training": training.state_dict(), "curve": curve.state_dict()}
    assert status_of(child(lambda: same_again(data, state, expected))) == SAME
    unnoticed, n_items = [], 0
    for path in paths(state):
        n_items += 1
        mutant = without(state, fresh, path)
        if status_of(child(lambda mutant=mutant: same_again(data, mutant, expected))) == SAME:
            unnoticed.append(path)
    print(f"{name}: {n_items} items of the state, {n_items - len(unnoticed)} make it diverge when dropped")
    assert set(unnoticed) == UNUSED
