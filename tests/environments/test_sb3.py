"""Stable-Baselines3 trains in the environments, and what it trained stands in tables beside our schedulers."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.environments.settings import edge_settings
from ddrl_sched.run.rollout import rollout
from tests.environments.test_edge_env import EDGE, SHORT, edge, without_last
from tests.paths import REPOSITORY
from tests.test_cli import ddrl

sb3 = pytest.importorskip("stable_baselines3", reason="needs the extra test")


def scheduler(file, algorithm, **changed):
    from ddrl_sched.environments.sb3_policy import SB3Policy

    keys = {
        "algorithm": algorithm,
        "file": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "activation": "tanh" if algorithm == "PPO" else "relu",
        "decisions": "greedy",
        "learner": edge_settings(settings={}).learner.model_dump(),
        "cpu_minutes": 0.1,
        "steps": 64,
        "loads": [0.7],
        "seed": 0,
    }
    return SB3Policy(**{**keys, **changed})


def shares_of(policy, traces):
    for step in rollout(traces, policy, np.random.default_rng(0)):
        share = step.outcome.share
    return share[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(algorithm, model, zip) of PPO and DQN after a few steps: on the vector and on a single environment."""
    from ddrl_sched.environments.sb3_vec_env import EdgeVecEnv

    folder = tmp_path_factory.mktemp("sb3")
    ppo = sb3.PPO("MlpPolicy", EdgeVecEnv(2, 0, **SHORT), n_steps=64, batch_size=32, n_epochs=1, device="cpu")
    numbers = {"learning_starts": 10, "buffer_size": 100, "policy_kwargs": {"net_arch": [16]}}
    dqn = sb3.DQN("MlpPolicy", gymnasium.make(EDGE, **SHORT), device="cpu", **numbers)
    models = {"PPO": ppo, "DQN": dqn}
    for name, model in models.items():
        model.learn(total_timesteps=200)
        model.save(folder / f"{name}.zip")
    return {name: (model, folder / f"{name}.zip") for name, model in models.items()}


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_the_scheduler_decides_as_the_model_does_in_the_environment(trained, algorithm):
    model, file = trained[algorithm]
    env, shares, ended = edge(), [], False
    seen, _ = env.reset(seed=9)
    while not ended:
        seen, _, _, ended, info = env.step(model.predict(seen, deterministic=True)[0])
        shares.append(info["share"])
    traces = without_last(edge_settings(load=0.7, episode_slots=1, settings={"train__episode_tasks": 60}).trace(9, 0))
    found = shares_of(scheduler(file, algorithm), traces)
    np.testing.assert_array_equal(found[: len(shares)], shares)


def test_drawn_decisions_draw_from_the_stream_of_the_scheduler(trained):
    traces = edge_settings(load=0.7, episode_slots=1, settings={"train__episode_tasks": 60}).trace(9, 0)
    policy = scheduler(trained["PPO"][1], "PPO", decisions="sample")
    assert policy.draws
    once, again = (shares_of(policy, traces) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    with pytest.raises(InputError, match=r"scheduler.decisions: must be greedy"):
        scheduler(trained["DQN"][1], "DQN", decisions="sample")


def test_only_weights_are_read(trained, tmp_path):
    _, file = trained["PPO"]
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"no settings at all" if name == "data" else old.read(name))
    traces = edge_settings(load=0.7, episode_slots=1, settings={"train__episode_tasks": 60}).trace(1, 0)
    np.testing.assert_array_equal(*(shares_of(scheduler(f, "PPO"), traces) for f in (file, other)))


def test_wrong_files_are_named(trained, tmp_path):
    _, file = trained["PPO"]
    traces = edge_settings(load=0.7, episode_slots=1, settings={"train__episode_tasks": 60}).trace(1, 0)
    with pytest.raises(InputError, match=r"scheduler.sha256: 00 expected, .*PPO.zip has "):
        scheduler(file, "PPO", sha256="00")
    with pytest.raises(InputError, match=r"scheduler.file: .*none.zip: No such file"):
        replace(scheduler(file, "PPO"), file=str(tmp_path / "none.zip"))
    with pytest.raises(InputError, match=r"scheduler.file: .*PPO.zip: "):
        shares_of(scheduler(file, "DQN"), traces)
    junk = tmp_path / "junk.zip"
    junk.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"scheduler.file: .*junk.zip: "):
        shares_of(scheduler(junk, "PPO"), traces)


def test_a_trained_policy_stands_in_a_table_under_its_budget(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--out", "mine", "--cpu-minutes", "0.01", "--envs", "4", "--load", "0.4", "0.8"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "train_sb3", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    short = ["workload.load=0.8", "env.clock.horizon_s=5", "evaluate.traces=2", "name=mine"]
    ddrl("sweep", "--config-dir", "mine", "scheduler=sb3_ppo_0.01_cpu_minutes,priced", *short)
    said = ddrl("report", "runs/mine").stdout
    assert "sb3_ppo_0.01_cpu_minutes  probed" in said
