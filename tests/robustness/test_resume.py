"""A training that was killed goes on bit for bit, wherever that was; and every item of its state is needed for that."""

import copy
import faulthandler
import hashlib
import io
import os
import sys

import numpy as np
import pytest
import torch

from ddrl_sched import fingerprint, labels, saving
from ddrl_sched.config import InputError
from ddrl_sched.jobs import checkpoint, records
from ddrl_sched.jobs.curve import Curve
from ddrl_sched.run.evolve import Evolution
from ddrl_sched.run.settings import SavingSettings
from ddrl_sched.run.train import Training
from ddrl_sched.schedulers.price_policy import PricePolicy
from tests.jobs_by_hand import plan_job, prepare, run_job
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
    without_time,
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
    [
        ("lad_ts", 1),
        ("settled/drlcoedge", 1),
        ("tuned/ddrl_amsa", 5),
        ("tuned/dqn_ts", 5),
        ("tuned/sac_ts", 5),
        ("ddrl_amsa_price", 1),
    ],
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
    kill_at_random(
        tmp_path, whole, 100, ["lad_ts", "tuned/ddrl_amsa", "tuned/dqn_ts", "tuned/sac_ts", "ddrl_amsa_price"]
    )


# --- every item of the state is needed


def start(data):
    """(training, curve, learner) of a job, at its beginning."""
    job = prepare(data, "train", NO_OPTIONS)
    settings, learner = job.spec.settings, job.scheduler
    budget, seeds = settings.train, range(settings.seeds)

    def traces_of(episode):
        return job.problem.training(settings.seed, seeds, episode, budget.episode_slots, budget.episode_tasks)[0]

    if isinstance(learner, PricePolicy):
        return Evolution(learner, budget.episodes, lambda episode: [traces_of(episode)]), Curve(), learner
    return Training(learner, job.problem.scenario, budget.episodes, traces_of), Curve(), learner


def finish(training, curve, learner):
    """All that is published, as plain bytes."""
    for progress in filter(None, training):
        curve.add(progress)
    weights = {name: tensor.numpy().tobytes() for name, tensor in learner.weights().items()}
    return without_time(curve.frame()).to_csv(), weights, len(curve.log)


def state_in_the_middle(data, episode, slot):
    """State within a slot, once all of it is in use and no further update of the episode will renew its metrics."""
    training, curve, _ = start(data)
    for progress in training:
        if progress is not None:
            curve.add(progress)
            continue
        state = {"training": training.state_dict(), "curve": curve.state_dict()}
        inside = state["training"]
        if inside.get("generation") == episode or (
            (inside.get("episode"), inside.get("slot")) == (episode, slot)
            and inside["metrics"]
            and inside["learner"]["open"]
        ):
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


OTHERS = ("ddrl_amsa_price", "tuned/dqn_ts", "tuned/ddrl_amsa", "tuned/sac_ts", "drlcoedge", "settled/drlcoedge")
UNUSED = {  # items that this job's result does not depend on
    ("training", "elapsed_s"),  # wall clock
    ("training", "search", "generation"),  # a count for those who ask
}


@pytest.mark.parametrize("name", ["lad_ts", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_without_any_one_item_the_training_diverges(tmp_path, name):
    data = tiny(tmp_path, name, episodes=4, slots=6)
    data["env"]["clock"] |= {"announce_s": 0.5}
    scheduler = data["scheduler"]
    if "learning" in scheduler:
        scheduler["learning"] |= {"memory": 500, "batch": 16, "every_slots": 4, "updates": 4}
    if "alpha_lr" in scheduler.get("agent", {}):
        scheduler["agent"] |= {"alpha_lr": 0.01}
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
    assert set(unnoticed) <= UNUSED


# --- what is resumed, and what is not


@pytest.fixture
def interrupted(tmp_path):
    """A job whose process was killed in the middle of its training."""
    data = tiny(tmp_path / "runs é", "lad_ts")
    assert run_until_crash(data, 40) == KILLED
    assert (folder_of(data) / checkpoint.FOLDER / checkpoint.FILE).exists()
    return data


def test_an_interrupted_job_is_named_so_and_done_with_its_state_removed(interrupted):
    folder = folder_of(interrupted)
    assert plan_job(interrupted, "sweep", NO_OPTIONS)["state"] == "interrupted"
    assert run(interrupted) == 0
    assert plan_job(interrupted, "sweep", NO_OPTIONS)["state"] == "done"
    assert not (folder / checkpoint.FOLDER).exists()


def test_the_time_between_saves_is_no_part_of_a_job(interrupted):
    assert {f"train.{key}" for key in SavingSettings.model_fields} == set(labels.LEARNS_THE_SAME) - {
        "train.validate_every"
    }
    changed = {**interrupted, "train": {**interrupted["train"], "checkpoint_s": 5.0}}
    assert folder_of(changed) == folder_of(interrupted)
    assert "checkpoint_s" not in records.read_job(folder_of(changed))["settings"]["train"]
    with pytest.raises(InputError, match=r"train\.checkpoint_s: must be >= 0"):
        plan_job({**interrupted, "train": {**interrupted["train"], "checkpoint_s": -1.0}}, "sweep", NO_OPTIONS)


@pytest.mark.parametrize("moved", [False, True])
def test_train_resume_goes_on_in_a_folder(interrupted, whole, tmp_path, moved):
    folder, options = folder_of(interrupted), {**NO_OPTIONS, "resume": ""}
    if moved:
        folder = folder.rename(tmp_path / "moved")
    other = tiny(tmp_path / "elsewhere", "tuned/dqn_ts")  # what is composed without overrides
    options["resume"] = str(folder)
    assert run_job(other, "train", options) == "done"
    assert outcome(folder) == whole("lad_ts")
    assert not (tmp_path / "elsewhere").exists()
    assert run_job(other, "train", options) == "skipped"


def test_train_resume_takes_no_other_settings(interrupted, tmp_path):
    folder = folder_of(interrupted)
    options = {**NO_OPTIONS, "resume": str(folder)}
    with pytest.raises(InputError, match=r"seeds=7: with --resume only train\.checkpoint_s"):
        run_job({**interrupted, "overrides": ["seeds=7"]}, "train", options)
    with pytest.raises(InputError, match=r"job\.json is missing"):
        run_job(interrupted, "train", {**NO_OPTIONS, "resume": str(tmp_path)})
    job = records.read_job(folder)
    records.write_job(folder, job | {"job_id": "0" * 16})
    with pytest.raises(InputError, match="begun with other code or input files"):
        run_job(interrupted, "train", options)
    records.write_job(folder, job | {"settings": job["settings"] | {"scheduler": {"name": "os:system"}}})
    with pytest.raises(InputError, match="does not learn"):
        run_job(interrupted, "train", options)


@pytest.mark.parametrize("change", ["bit", "versions", "cut"])
def test_a_state_that_does_not_fit_is_named_and_not_used(interrupted, whole, change, capsys, monkeypatch):
    path = folder_of(interrupted) / checkpoint.FOLDER / checkpoint.FILE
    data = bytearray(path.read_bytes())
    if change == "bit":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:100] if change == "cut" else data)
    if change == "versions":
        monkeypatch.setattr(fingerprint, "package_versions", lambda: {"python": "2.7"})
    assert run_job(interrupted, "sweep", NO_OPTIONS) == "done"
    said = capsys.readouterr().err
    assert said.startswith(f"lad_ts: trained from the start, for {path} ")
    assert ("packages" in said) == (change == "versions")
    assert outcome(folder_of(interrupted)) == whole("lad_ts")


def test_a_pickle_that_runs_code_is_refused(interrupted, tmp_path, monkeypatch, capsys):
    """The state is one's own, and still nothing in it can be called, whatever the environment says."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    file = io.BytesIO()
    torch.save({"about": Trap()}, file)
    digest = hashlib.sha256(file.getvalue()).hexdigest().encode()
    path = folder_of(interrupted) / checkpoint.FOLDER / checkpoint.FILE
    saving.write_bytes(path, digest + b"\n", file.getvalue())
    assert run_job(interrupted, "sweep", NO_OPTIONS) == "done"
    assert "state.pt holds no state of a training" in capsys.readouterr().err
    assert not (tmp_path / "trapped").exists()


def test_nothing_is_written_through_a_link(interrupted, tmp_path):
    place = folder_of(interrupted) / checkpoint.FOLDER
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / checkpoint.FILE).read_bytes()
    with pytest.raises(InputError, match="a symbolic link leads elsewhere"):
        run_job(interrupted, "sweep", NO_OPTIONS)
    assert (tmp_path / "elsewhere" / checkpoint.FILE).read_bytes() == before


def test_a_failed_job_is_repeated_from_the_start(interrupted, whole, capsys):
    folder = folder_of(interrupted)
    records.write_job(folder, records.read_job(folder) | {"status": "failed", "error": "out of luck"})
    assert run_job(interrupted, "sweep", NO_OPTIONS) == "failed"
    (folder / checkpoint.FOLDER / checkpoint.FILE).write_bytes(b"would be named if it were read")
    assert run_job(interrupted, "sweep", {**NO_OPTIONS, "retry_failed": True}) == "done"
    assert capsys.readouterr().err == ""
    assert outcome(folder) == whole("lad_ts")


def test_the_time_of_a_training_goes_on_where_it_stopped(tmp_path):
    data = tiny(tmp_path, "lad_ts", episodes=4)
    training, curve, _ = start(data)
    for progress in filter(None, training):
        curve.add(progress)
        if progress.episode == 1:
            state = {"training": copy.deepcopy(training.state_dict()), "curve": copy.deepcopy(curve.state_dict())}
            break
    state["training"]["elapsed_s"] += 1000.0  # what it took until it stopped
    training, curve, _ = start(data)
    training.load_state_dict(state["training"])
    curve.load_state_dict(state["curve"])
    finish(training, curve, _)
    elapsed = curve.frame().query("metric == 'elapsed_s'").pivot(index="tasks_seen", columns="seed", values="value")
    for _, of_seed in elapsed.items():
        values = of_seed.dropna().tolist()
        assert len(values) == 4
        assert values == sorted(values)
        assert 0 < values[1] < 100 < 1000 < values[2] < 1100
