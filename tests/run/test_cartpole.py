"""CartPole-v1: every step as gymnasium's, what is counted, one job from settings to report, agents that learn."""

import io

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch

from ddrl_sched.config import InputError
from ddrl_sched.jobs import records, schemas
from ddrl_sched.jobs.cartpole import Seen, first_solved
from ddrl_sched.provenance import provenance_of
from ddrl_sched.report import returns
from ddrl_sched.report.load import load
from ddrl_sched.report.tables import main as report
from ddrl_sched.run.cartpole import (
    Budget,
    EvalPoint,
    Learning,
    Training,
    build_learners,
    episode_mean,
    eval_points,
    step_mean,
)
from ddrl_sched.run.cartpole_env import LONGEST, SOLVED, CartPoles
from ddrl_sched.schedulers.learned_settings import agent_settings
from tests.agent_builders import generators
from tests.conf_files import names, plain
from tests.jobs_by_hand import plan_job, run_job

AGENTS = [name for name in names("scheduler") if name.startswith("cartpole/")]


def steps_equal_to_gymnasium(n, steps):
    """(falls, cuts) of n poles: half are balanced and live to the limit, the others are pushed at random."""
    poles = CartPoles(generators(n))
    worlds = [gymnasium.make("CartPole-v1") for _ in range(n)]
    for world, generator in zip(worlds, generators(n), strict=True):
        world.unwrapped.np_random = generator
    seen = [world.reset()[0] for world in worlds]
    rng = np.random.default_rng(0)
    falls = cuts = 0
    for _ in range(steps):
        np.testing.assert_array_equal(poles.obs, seen)
        x, speed, angle, turn = poles.obs.T
        noise = rng.normal(0, np.where(np.arange(n) % 2, 0.01, 3.0))
        stepped = poles.step((angle + 0.3 * turn + 0.05 * x + 0.1 * speed + noise > 0).astype(np.int64))
        for k, world in enumerate(worlds):
            obs, reward, terminated, truncated, _ = world.step(stepped.action[k])
            assert obs.tolist() == stepped.next_obs[k].tolist()
            assert (reward, terminated) == (stepped.reward[k], stepped.terminated[k])
            assert (terminated or truncated) == stepped.ended[k]
            falls, cuts = falls + terminated, cuts + (truncated and not terminated)
            seen[k] = world.reset()[0] if stepped.ended[k] else obs
    return falls, cuts


def test_every_step_is_gymnasiums():
    falls, cuts = steps_equal_to_gymnasium(8, 1100)
    assert falls > 50
    assert cuts >= 8


@pytest.mark.slow
def test_every_step_is_gymnasiums_over_384_thousand_steps():
    falls, cuts = steps_equal_to_gymnasium(64, 6000)
    assert falls > 1000
    assert cuts > 300


def test_limits_are_those_of_the_environment():
    assert (LONGEST, SOLVED) == (500, 475)


def test_means_over_episodes_and_over_steps():
    assert episode_mean([1, 3]) == 2.0
    assert step_mean([1, 3]) == 2.5  # one step of return 1, three of return 3
    assert np.isnan(step_mean([]))


def point_at(steps, greedy):
    return EvalPoint(steps, 0, [[] for _ in greedy], np.array(greedy), {})


def test_the_first_look_at_which_a_seed_has_solved_it_counts():
    solved = first_solved(point_at(1000, [500.0, 474.0, 9.0]), None)
    solved = first_solved(point_at(2000, [9.0, 475.0, 9.0]), solved)
    np.testing.assert_array_equal(solved, [1000, 2000, np.nan])


def some_learners(name, n=2, **numbers):
    data = learned(name)["agent"] | {"hidden": [8]} | numbers
    record = agent_settings(data)
    learning = Learning(gamma=0.99, n_steps=3, memory=500, batch=8, updates=2, start_steps=20)
    return build_learners([record] * n, [learning] * n, generators(n))


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("cartpole/dqn", {}), ("cartpole/dsac", {"eval_start": "noise"}), ("cartpole/dsac", {"latent_start": True})],
)
def test_looking_at_the_greedy_policy_does_not_change_the_training(name, numbers):
    seldom, often = (
        [*eval_points(Training(some_learners(name, **numbers), generators(2, 5), Budget(120, every, 1)))]
        for every in (120, 40)
    )
    assert seldom[-1].lengths == often[-1].lengths
    assert seldom[-1].greedy.tolist() == often[-1].greedy.tolist()
    assert (seldom[-1].updates, len(often)) == (2 * 101, 3)


@pytest.mark.parametrize(
    ("name", "numbers"), [("cartpole/dqn", {}), ("cartpole/sac", {}), ("cartpole/dsac", {"latent_start": True})]
)
def test_an_interrupted_training_goes_on_bit_for_bit(name, numbers):
    def fresh():
        who = some_learners(name, **numbers)
        return who, Training(who, generators(2, 5), Budget(160, 80, 1))

    who, whole = fresh()
    _, last = eval_points(whole)
    _, begun = fresh()
    for _ in zip(range(97), begun, strict=False):
        pass
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    resumed_who, resumed = fresh()
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    (point,) = eval_points(resumed)
    assert (point.steps, point.updates, point.lengths) == (last.steps, last.updates, last.lengths)
    assert point.greedy.tolist() == last.greedy.tolist()
    for key, weight in who.agent.weights().items():
        assert torch.equal(weight, resumed_who.agent.weights()[key]), key


def learned(name):
    scheduler = plain("scheduler", name)
    learning = scheduler["learning"]
    learning["start_steps"] = min(learning["start_steps"], 100)  # of a short training
    return scheduler


def settings(tmp_path, name, **change):
    """A small composed config as launch.py makes it."""
    train_ = {"name": "tiny", "horizons": [100, 200], "evaluate_every": 50, "evaluate_episodes": 2, "checkpoint_s": 60}
    return {
        "name": "poles", "seed": 0, "seeds": 3, "env": plain("env", "cartpole"), "workload": {}, "evaluate": {},
        "scheduler": learned(name), "train": train_, "baselines": [], "label": name, "overrides": [],
        "runs_dir": str(tmp_path),
    } | change  # fmt: skip


def test_jobs_of_all_agents_and_their_report(tmp_path, capsys):
    for name in AGENTS:
        data = settings(tmp_path, name)
        assert run_job(data, "sweep", {}) == "done"
        assert run_job(data, "train", {}) == "skipped"
    folder = tmp_path / "poles" / plan_job(data, "sweep", {})["job_id"]
    assert records.is_done(folder)
    rows = pd.read_parquet(folder / "returns.parquet")
    assert rows.groupby("steps").seed.apply(list).to_dict() == {100: [0, 1, 2], 200: [0, 1, 2]}
    assert (rows.step_mean >= rows.episode_mean).all()
    assert report([tmp_path], [], "markdown", None) == 0
    printed = capsys.readouterr().out
    assert "cartpole/dsac over cartpole/dqn | 200 | +9.57" in printed
    assert report([tmp_path], ["cartpole/sac"], "table", tmp_path / "out") == 0
    gains = pd.read_csv(tmp_path / "out" / "return_gains.csv")
    assert set(gains.baseline) == {"cartpole/sac"}
    assert len(gains) == 2 * (len(AGENTS) - 1)


@pytest.mark.parametrize(
    ("change", "command", "message"),
    [
        ({}, "eval", "ddrl eval"),
        ({"overrides": ["workload.load=0.3"]}, "train", "workload.load=0.3"),
        ({"scheduler": {"name": "least_of"}}, "train", "needs one of the schedulers in cartpole/"),
        (
            {
                "train": {
                    "name": "x",
                    "horizons": [70],
                    "evaluate_every": 50,
                    "evaluate_episodes": 1,
                    "checkpoint_s": 60,
                }
            },
            "train",
            "horizons",
        ),
        (
            {
                "train": {
                    "name": "x",
                    "horizons": [100, 50],
                    "evaluate_every": 50,
                    "evaluate_episodes": 1,
                    "checkpoint_s": 60,
                }
            },
            "train",
            "rise",
        ),
        ({"seeds": 0}, "train", "seeds"),
    ],
)
def test_wrong_settings_name_their_key(tmp_path, change, command, message):
    with pytest.raises(InputError, match=message):
        run_job(settings(tmp_path, "cartpole/dqn", **change), command, {})


def test_agents_of_cartpole_do_not_schedule_and_their_runs_are_no_schedulers(tmp_path):
    data = settings(tmp_path, "cartpole/dqn")
    run_job(data, "train", {})
    folder = tmp_path / "poles" / plan_job(data, "train", {})["job_id"]
    edge = data | {"env": plain("env", "edge5"), "workload": plain("workload", "poisson")}
    with pytest.raises(InputError, match="needs env=cartpole"):
        run_job(edge, "train", {})
    with pytest.raises(InputError, match="the command that began a run goes on with it"):
        run_job(edge, "eval", {"run": str(folder)})


def test_a_returns_table_that_lies_is_left_out(tmp_path):
    data = settings(tmp_path, "cartpole/dqn")
    run_job(data, "train", {})
    folder = tmp_path / "poles" / plan_job(data, "train", {})["job_id"]
    rows = pd.read_parquet(folder / "returns.parquet").assign(final_greedy=np.inf)
    records.write_table(folder / "returns.parquet", rows, schemas.RETURNS_SCHEMA)
    records.write_manifest(folder)
    assert "final_greedy" in load([tmp_path]).skipped[0][1]


def provenance(name):
    """What the yaml of an agent says was published of it."""
    said = provenance_of(plain("scheduler", name))
    return {key: getattr(said, key) for key in ("family", "published_as", "published_gain_pct")}


def frame(**agents):
    """Rows of Loaded.returns: one list of returns per agent, after 100 steps."""
    return pd.DataFrame(
        [
            {
                "scenario": "c",
                "scenario_hash": "a",
                "steps": 100,
                "scheduler": name,
                "seed": seed,
                "steps_to_solve": np.nan,
            }
            | dict.fromkeys(returns.MEASURES, value)
            | provenance(name)
            for name, values in agents.items()
            for seed, value in enumerate(values)
        ]
    )


def test_gains_are_paired_by_seed():
    base = np.array([10.0, 40.0, 90.0, 20.0])
    gain = returns.gain_rows(frame(**{"cartpole/dsac": 1.2 * base, "cartpole/dqn": base}), []).iloc[0]
    assert gain.claimed_pct == 9.57
    for bound in ("", "_lo", "_hi"):
        assert gain["episode_mean_gain_pct" + bound] == pytest.approx(20.0)


def test_only_agents_with_the_same_kind_of_settings_are_compared():
    names = ("cartpole/dsac_tuned", "cartpole/dsac_denoising_tuned", "cartpole/sac_tuned", "cartpole/sac")
    df = frame(**{key: [1.0, 2.0] for key in names})
    assert returns.gain_rows(df, [])[["scheduler", "baseline"]].to_numpy().tolist() == [
        ["cartpole/dsac_denoising_tuned", "cartpole/sac_tuned"],
        ["cartpole/dsac_tuned", "cartpole/sac_tuned"],
    ]


def test_intervals_cover_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    estimates = [returns.mean_of(rng.beta(2, 1, 20) * 500) for _ in range(300)]
    covered = np.mean([e.lo <= 500 * 2 / 3 <= e.hi for e in estimates])
    assert 0.91 <= covered <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in AGENTS if name.endswith("_tuned")])
def test_tuned_agents_learn_to_balance(tmp_path, name):
    train_ = {
        "name": "short",
        "horizons": [10_000],
        "evaluate_every": 10_000,
        "evaluate_episodes": 5,
        "checkpoint_s": 60,
    }
    data = settings(tmp_path, name, train=train_)
    run_job(data, "train", {})
    folder = tmp_path / "poles" / plan_job(data, "train", {})["job_id"]
    assert pd.read_parquet(folder / "returns.parquet").final_greedy.median() > 200


def test_the_time_of_a_training_goes_on_where_it_stopped():
    point = EvalPoint(100, 5, [[9], [8]], np.array([9.0, 8.0]), {})
    seen = Seen([100, 200])
    seen.add(point)
    state = seen.state_dict()
    state["elapsed_s"] += 1000.0
    again = Seen([100, 200])
    again.load_state_dict(state)
    again.add(point)
    elapsed = [row["value"] for row in again.curve if row["metric"] == "elapsed_s"]
    assert len(elapsed) == 4  # a row for both seeds at both looks
    assert elapsed[0] == elapsed[1] < 100 < 1000 < elapsed[2] == elapsed[3] < 1100
