"""One agent per station: PettingZoo's own test, and rounds that are the windows of our learners."""

import sys
import warnings
from importlib import import_module

import numpy as np
import pytest

from ddrl_sched.config import InputError
from ddrl_sched.environments.settings import edge_settings
from ddrl_sched.run.reward import reward_of
from tests.environments.test_edge_env import SHORT, without_round

pettingzoo_test = pytest.importorskip("pettingzoo.test", reason="needs the extra envs")


def parallel(**settings):
    from ddrl_sched.environments.parallel_env import EdgeParallelEnv

    return EdgeParallelEnv(**{**SHORT, **settings})


@pytest.mark.parametrize("settings", [{}, {"actions": "continuous", "reward": "team"}])
def test_pettingzoo_finds_nothing_to_complain_about(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pettingzoo_test.parallel_api_test(parallel(**settings), num_cycles=200)


@pytest.mark.parametrize("reward", ["own", "team"])
def test_every_station_is_paid_for_its_tasks(reward):
    env = parallel(reward=reward)
    _, infos = env.reset(seed=2)
    paid, n_rounds = dict.fromkeys(env.possible_agents, 0.0), 0
    while env.agents:
        lo, hi, _ = env._round()
        stations = env._simulation.tasks.origin[0, lo[0] : hi[0]]
        assert len(set(stations)) == len(stations)
        assert [agent for agent in env.agents if infos[agent]["decides"]] == [f"station_{b}" for b in sorted(stations)]
        _, rewards, _, truncated, infos = env.step({agent: env.action_space(agent).sample() for agent in env.agents})
        for agent, value in rewards.items():
            paid[agent] += value
        n_rounds += 1
    assert n_rounds > 5
    assert all(truncated.values())
    settings = edge_settings(load=0.7, episode_slots=1, reward=reward, settings={"train__episode_tasks": 60})
    traces = without_round(settings.trace(2, 0), int(env._round()[0][0]))
    n = traces.tasks.valid.shape[1]
    outcome = type(env._simulation.outcome)(*(array[:, :n] for array in env._simulation.outcome))
    value, known = reward_of(settings.learner.learning, traces, outcome, ~np.isnan(outcome.delay_s))
    of_station = np.bincount(traces.tasks.origin[known], value[known], minlength=5)
    assert list(paid.values()) == pytest.approx(list(of_station), rel=1e-12)


def test_without_pettingzoo_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    monkeypatch.delitem(sys.modules, "ddrl_sched.environments.parallel_env", raising=False)
    with pytest.raises(InputError, match=r"needs the extra 'envs' .*scripts/install envs"):
        import_module("ddrl_sched.environments.parallel_env")
