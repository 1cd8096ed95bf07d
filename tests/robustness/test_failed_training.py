"""Trainings that must fail: numbers that are not finite, nothing to learn from; and what is then left in the folder."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ddrl_sched.agents.base import Spaces
from ddrl_sched.agents.distributions import Categorical
from ddrl_sched.agents.finite import AnswerError, check_answers, check_generation, check_seen, check_update
from ddrl_sched.config import InputError
from ddrl_sched.edge import physics
from ddrl_sched.failures import FAILED, TrainingError, explain
from ddrl_sched.jobs import records
from ddrl_sched.report.summary import _trained
from ddrl_sched.run.evolve import _mean
from ddrl_sched.run.rollout import mean_delay_s
from ddrl_sched.run.validation import Validation, validate
from tests.agent_builders import build, generators, random_batch
from tests.conf_files import plain
from tests.jobs_by_hand import ask, prepare, run_job
from tests.resume_jobs import NO_OPTIONS, folder_of, tiny
from tests.run.test_cartpole import settings as cartpole_settings

RATES = {"tuned/dqn_ts": ("lr",), "tuned/sac_ts": ("actor_lr", "critic_lr"), "lad_ts": ("actor_lr", "critic_lr")}
CASES = [(name, key) for name, keys in RATES.items() for key in keys]
SPACES = Spaces(3, Categorical(4), n_latent=6)


def failed(data, command, match):
    """job.json of a job that must fail with status 1 and a plain message; nothing of it is published."""
    with pytest.raises(TrainingError, match=match) as raised:
        run_job(data, command, NO_OPTIONS)
    assert explain(raised.value) == (FAILED, str(raised.value))
    folder = folder_of(data, command)
    assert not {"weights.safetensors", "eval.parquet", "manifest.json"} & {path.name for path in folder.iterdir()}
    job = records.read_job(folder)
    assert job["status"] == "failed"
    assert str(raised.value) in job["error"]
    return job


@pytest.mark.parametrize(("name", "key"), CASES)
@pytest.mark.parametrize("rate", [1e38, 1e300])
def test_a_learning_rate_beyond_32_bits_fails_by_name(tmp_path, name, key, rate):
    data = tiny(tmp_path, name)
    data["scheduler"]["agent"] |= {key: rate}
    failed(data, "sweep", r"diverged: .* of seed \d.* is -?(inf|nan) after update \d+; ")


def test_a_price_policy_fails_by_name(tmp_path, monkeypatch):
    data = tiny(tmp_path, "ddrl_amsa_price")
    monkeypatch.setattr("ddrl_sched.run.evolve.mean_delay_s", lambda outcome, tasks: np.full(len(tasks.valid), np.inf))
    failed(data, "sweep", "diverged: log_delay of seed 0 is inf in generation 0")


@pytest.mark.parametrize("rate", [1e20, 1e300])
def test_cartpole_fails_by_name(tmp_path, rate):
    data = cartpole_settings(tmp_path, "cartpole/dqn")
    data["scheduler"]["agent"] |= {"lr": rate}
    with pytest.raises(TrainingError, match=r"diverged: .* of seed \d .*(inf|nan) after update 1"):
        run_job(data, "train", {})
    (folder,) = (path.parent for path in tmp_path.glob("*/*/job.json"))
    assert json.loads((folder / "job.json").read_text())["status"] == "failed"
    assert not (folder / "weights.safetensors").exists()


@pytest.mark.parametrize("kind", ["dqn", "sac", "dsac", "denoising"])
def test_one_weight_that_is_not_finite_is_found_and_named(kind):
    agent = build(kind, SPACES, generators(4))
    metrics = agent.update(random_batch(np.random.default_rng(0), SPACES, 4, 16))
    check_update(agent, metrics, 1, 2)
    for name, tensor in agent.trained().items():
        kept = tensor.detach().clone()
        row = len(tensor) - 1  # of the last learner; of twins the second
        tensor.detach().view(len(tensor), -1)[row, -1] = torch.inf
        with pytest.raises(TrainingError, match=rf"a weight \({name}\) of seed 1, station 1 is inf after update 7"):
            check_update(agent, metrics, 7, 2, "station")
        tensor.detach().copy_(kept)
    for name in metrics:
        wrong = {**metrics, name: np.array([0.0, np.nan, 0.0, 0.0], np.float32)}
        with pytest.raises(TrainingError, match=f"{name} of seed 1 is nan after update 3"):
            check_update(agent, wrong, 3)


def test_weights_too_large_to_answer_are_found():
    with pytest.raises(AnswerError) as raised:
        check_answers(torch.tensor([[1.0, 2.0], [3e38, 3e38], [0.0, torch.nan]]))
    assert "seed 1, station 0 answers nan after update 5" in str(raised.value.at(2, 5, "station"))
    check_answers(torch.full((2, 3), 3e38))  # finite, though its sum is not


def test_numbers_that_are_learned_from_are_finite():
    learner = np.array([0, 3])
    check_seen("a reward", np.array([1.0, 2.0], np.float32), learner, 2, "env")
    with pytest.raises(TrainingError, match=r"a reward of seed 1 is -inf, .*: see env"):
        check_seen("a reward", np.array([1.0, -np.inf], np.float32), learner, 2, "env")


@pytest.mark.parametrize(
    ("group", "change", "key"),
    [
        ("learning", {"reward_shape": "linear", "reward_scale_s": 1e-300}, "reward_scale_s"),
        ("observation", {"time_s": 1e-320}, "scheduler.observation"),
    ],
)
def test_a_reward_or_an_observation_beyond_32_bits_names_its_key(tmp_path, group, change, key):
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["scheduler"][group] |= change
    failed(data, "sweep", f"of seed 0 is -?inf, .*{key}")


def test_a_generation_is_judged_by_finite_numbers():
    weights = torch.zeros(2, 3)
    check_generation({"spread": np.ones(2)}, weights, 0)
    with pytest.raises(TrainingError, match="spread of seed 1 is nan in generation 4"):
        check_generation({"spread": np.array([1.0, np.nan])}, weights, 4)
    weights[1, 2] = torch.inf
    with pytest.raises(TrainingError, match="a weight of seed 1 is inf after generation 4"):
        check_generation({"spread": np.ones(2)}, weights, 4)


def never_finishes(monkeypatch):
    """The first task of a world's first trace has no delay."""
    finish = physics.finish

    def finish_but_one(scenario, state, tasks, outcome):
        state = finish(scenario, state, tasks, outcome)
        outcome.delay_s[0, 0] = np.nan
        return state

    monkeypatch.setattr(physics, "finish", finish_but_one)


@pytest.mark.parametrize("name", ["tuned/dqn_ts", "ddrl_amsa_price"])
@pytest.mark.parametrize("validate_every", [0, 1])
def test_a_task_without_a_delay_fails_the_training(tmp_path, monkeypatch, name, validate_every):
    data = tiny(tmp_path, name)
    data["train"] |= {"validate_every": validate_every}
    never_finishes(monkeypatch)
    failed(data, "sweep", r"the task of trace 0 that arrives at 0\.\d+ s was never finished")


@pytest.mark.parametrize("name", ["tuned/dqn_ts", "ddrl_amsa_price"])
def test_a_task_without_a_delay_fails_a_look(tmp_path, monkeypatch, name):
    job = prepare(tiny(tmp_path, name), "train", NO_OPTIONS)
    traces = job.problem.training(0, range(2), 0, 3, 0)[0]
    looks = Validation(1, lambda: [traces], lambda: generators(job.scheduler.n_learners))
    assert np.isfinite(returned(validate(looks, job.scheduler, job.traits))).all()
    never_finishes(monkeypatch)
    with pytest.raises(TrainingError, match="was never finished"):
        returned(validate(looks, job.scheduler, job.traits))


def returned(steps):
    """What a generator returns at its end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_delays_of_no_task_are_no_number_and_padding_counts_nothing():
    nan, tasks = np.nan, SimpleNamespace(valid=np.array([[True, True], [True, False], [False, False]]))
    outcome = SimpleNamespace(delay_s=np.array([[1.0, 2.0], [3.0, nan], [nan, nan]]))
    np.testing.assert_equal(mean_delay_s(outcome, tasks), [1.5, 3.0, nan])


# Nothing to learn from


@pytest.mark.parametrize(
    ("learning", "match"),
    [
        ({"start_slots": 1_000_000}, r"scheduler\.learning\.start_slots: .* 1,000,000 slots, .* at most 6 "),
        ({"every_slots": 7}, r"scheduler\.learning\.every_slots: .* 7 slots, .* at most 6 "),
        ({"batch": 8}, r"scheduler\.learning\.batch: at most scheduler\.learning\.memory \(7 "),
        ({"batch": 10_000, "memory": 10_000}, r"scheduler\.learning\.batch: 10,000 transitions .*train\.episodes"),
    ],
)
def test_a_budget_without_an_update_is_refused_by_key(tmp_path, learning, match):
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["scheduler"]["learning"] |= learning
    with pytest.raises(InputError, match=match):
        prepare(data, "sweep", NO_OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_the_station_of_the_smallest_weight_decides_whether_there_is_an_update(tmp_path):
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["scheduler"]["sharing"] = "per_station"
    data["scheduler"]["learning"] |= {"batch": 30, "memory": 40}
    prepare(data, "sweep", NO_OPTIONS)  # some 25 tasks of each station, 30 can be
    for last, most in {0: "0", 1: "1[0-9]"}.items():
        data["workload"]["station_weights"] = [50, 50, 50, 50, last]
        with pytest.raises(InputError, match=rf"\.batch: .* station 4 about {most} .*workload\.station_weights"):
            prepare(data, "sweep", NO_OPTIONS)
    data["scheduler"]["sharing"] = "shared"
    prepare(data, "sweep", NO_OPTIONS)


@pytest.mark.parametrize(
    ("name", "load", "batch"), [("bursty", 0.1, 300), ("slotted", 0.72, 2000), ("published_multi", 0.3, 1500)]
)
def test_every_kind_of_arrivals_has_its_smallest_station(tmp_path, name, load, batch):
    data = tiny(tmp_path, "tuned/dqn_ts", slots=20)
    data["scheduler"]["sharing"] = "per_station"
    data["scheduler"]["learning"] |= {"batch": batch, "memory": batch}
    data["workload"] = plain("workload", name) | {"load": load}
    prepare(data, "sweep", NO_OPTIONS)
    data["workload"]["station_weights"] = [9, 9, 9, 9, 4]
    with pytest.raises(InputError, match=r"station 4 .*workload\.station_weights"):
        prepare(data, "sweep", NO_OPTIONS)


def test_the_station_with_the_fewest_rows_of_a_file_decides(tmp_path):
    file, rows = tmp_path / "of_stations.csv", range(4000)
    file.write_text("time,station\n" + "".join(f"{0.1 * i:.1f},{4 if i % 50 == 9 else i % 4}\n" for i in rows))
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["scheduler"]["sharing"] = "per_station"
    data["scheduler"]["learning"] |= {"batch": 12, "memory": 20}
    data["workload"] = on_file(file, 0.7)
    prepare(data, "sweep", NO_OPTIONS)
    data["workload"]["columns"] |= {"origin": "station"}
    with pytest.raises(InputError, match=r"learning\.batch: .* station 4 about \d .*workload\.columns\.origin"):
        prepare(data, "sweep", NO_OPTIONS)


def test_the_last_possible_slot_is_not_refused(tmp_path):
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["scheduler"]["learning"] |= {"start_slots": 6}
    prepare(data, "sweep", NO_OPTIONS)


def test_a_memory_that_never_held_a_batch_fails_at_the_end(tmp_path):
    data = tiny(tmp_path, "tuned/dqn_ts")
    expected = prepare(data, "train", NO_OPTIONS).problem.plan.demand.tasks_per_s * 6
    size = int(expected + 20)  # more than there will be, less than could be
    data["scheduler"]["learning"] |= {"batch": size, "memory": size}
    failed(data, "sweep", rf"nothing was learned: 0 updates .* of {size} for a batch .*scheduler\.learning\.batch")


def test_rates_that_change_nothing_fail_at_the_end(tmp_path):
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["scheduler"]["agent"] |= {"lr": 1e-300}
    failed(data, "sweep", "seed 0 has learned nothing: its weights are as they were")


def test_a_seed_without_a_task_fails_at_the_end(tmp_path):
    data = tiny(tmp_path, "ddrl_amsa_price", slots=1)
    data["workload"]["load"] = 1e-5
    data["train"] |= {"validate_every": 0}
    data["env"]["clock"] |= {"horizon_s": 40_000.0}
    failed(data, "train", r"seed 0 has learned nothing: no task in 2 episodes; .*train\.episode_tasks")


def test_looks_at_no_task_are_refused(tmp_path):
    data = tiny(tmp_path, "ddrl_amsa_price", slots=1)
    data["workload"]["load"] = 1e-5
    data["train"] |= {"validate_every": 1}
    with pytest.raises(InputError, match=r"train\.validate_every: .* seed 0 .* holds no task"):
        run_job(data, "train", NO_OPTIONS)


@pytest.mark.parametrize("name", ["tuned/dqn_ts", "ddrl_amsa_price"])
def test_a_file_whose_training_part_is_empty_is_refused(tmp_path, name):
    file = tmp_path / "late.csv"
    file.write_text("\n".join(["timestamp", "0", *(str(7200 + 0.6 * i) for i in range(4666))]) + "\n")
    data = tiny(tmp_path, name)
    data["workload"] = on_file(file, 0.7)
    with pytest.raises(InputError, match=r"workload\.arrivals\.train_fraction: .*holds 1 of its 4,667 .*\.path"):
        prepare(data, "sweep", NO_OPTIONS)
    data["workload"] = on_file(file, 0.9)
    prepare(data, "sweep", NO_OPTIONS)


def on_file(file, train_fraction):
    """A workload with the arrivals of a file in one window."""
    workload = plain("workload", "trace") | {"path": str(file), "load": 0.1}
    workload["arrivals"] |= {"windows": 1, "min_tasks": 1, "train_fraction": train_fraction}
    return workload


@pytest.mark.parametrize(
    ("learning", "match"),
    [
        ({"start_steps": 201}, r"scheduler\.learning\.start_steps: 201 steps"),
        ({"batch": 201}, r"scheduler\.learning\.batch: 201 steps"),
        ({"batch": 20, "memory": 10}, r"scheduler\.learning\.batch: at most scheduler\.learning\.memory"),
    ],
)
def test_a_cartpole_budget_without_an_update_is_refused(tmp_path, learning, match):
    data = cartpole_settings(tmp_path, "cartpole/dqn")
    data["scheduler"]["learning"] |= learning
    with pytest.raises(InputError, match=match):
        run_job(data, "train", {})


def test_more_rows_than_can_be_read_are_refused(tmp_path):
    data = tiny(tmp_path, "tuned/dqn_ts", episodes=10**6)
    with pytest.raises(InputError, match=r"train\.episodes, seeds: 2,000,000 episodes"):
        prepare(data, "sweep", NO_OPTIONS)
    data = tiny(tmp_path, "tuned/dqn_ts")
    data["seeds"], data["evaluate"]["traces"] = 100, 10_000
    with pytest.raises(InputError, match=r"evaluate\.traces: 1,000,000 rows"):
        prepare(data, "sweep", NO_OPTIONS)


def test_means_leave_out_traces_without_a_task():
    values = np.array([[[1.0, 3.0], [np.nan, np.nan]], [[np.nan, np.nan], [np.nan, np.nan]]])
    np.testing.assert_equal(_mean(values), [2.0, np.nan])


def test_the_result_line_counts_no_episode_without_a_task():
    rows = [(0, 0, 1.0), (0, 1, np.nan), (1, 0, 3.0), (1, 1, 5.0)]
    curves = pd.DataFrame(rows, columns=["seed", "number", "value"])
    assert _trained(curves).startswith("mean delay of each seed's last episode with a task 3 s over 2 seeds")
    assert _trained(curves.assign(value=np.nan)) == "no episode held a task"
    assert _trained(curves[curves.number == 0]).startswith("mean delay of the last episode 2 s")


def test_healthy_jobs_end_done(tmp_path):
    for name in ("tuned/dqn_ts", "lad_ts", "ddrl_amsa_price"):
        data = tiny(tmp_path, name)
        assert run_job(data, "sweep", NO_OPTIONS) == "done"
        assert records.is_done(ask(data, "sweep", NO_OPTIONS).folder)
